//! What the packages of a workspace ask of crates registries, by their `Cargo.toml`s.
//!
//! Cargo resolves a whole workspace at once, with all features and the dependencies of tests of all its packages, so all of
//! them count, whichever package's manifest is named.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use cargo_toml::{Dependency, DependencyDetail, DepsSet, Manifest};

/// A workspace, as far as registries are concerned.
#[derive(Debug, Default)]
pub struct Workspace {
    /// What its packages depend on.
    pub needs: Vec<Need>,
    /// Dependencies that no crates registry of the mirror has, with where they are from.
    pub foreign: BTreeSet<String>,
    /// Where its lock file belongs.
    pub lockfile: PathBuf,
}

/// A dependency on a crate of the registry.
#[derive(Debug)]
pub struct Need {
    /// The crate.
    pub name: String,
    /// The requirement on its version.
    pub requirement: String,
    pub features: BTreeSet<String>,
    pub default_features: bool,
    /// The platform that it is for.
    pub target: Option<String>,
    /// Whether tests and benchmarks alone need it.
    pub dev: bool,
}

impl Workspace {
    /// Reads the workspace that a manifest belongs to, and what it takes from paths.
    pub fn read(path: &Path) -> anyhow::Result<Workspace> {
        let path = std::path::absolute(path)?;
        let path = if path.is_dir() { path.join("Cargo.toml") } else { path };
        let root = root_of(&path)?;
        let folder = folder_of(&root).to_owned();
        let mut reading = Reading {
            workspace: Workspace { lockfile: folder.join("Cargo.lock"), ..Workspace::default() },
            folder,
            due: VecDeque::from([root.clone()]),
            seen: HashSet::new(),
        };
        reading.due.extend(members(&root)?);
        if path != root {
            reading.due.push_back(path);
        }
        while let Some(manifest) = reading.due.pop_front() {
            let manifest = plain(&manifest);
            if reading.seen.insert(manifest.clone()) {
                reading.package(&manifest)?;
            }
        }
        Ok(reading.workspace)
    }
}

fn parse(path: &Path) -> anyhow::Result<Manifest> {
    Manifest::from_path(path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn folder_of(manifest: &Path) -> &Path {
    manifest.parent().unwrap_or(Path::new("/"))
}

/// The manifest of the workspace that a package is in; its own if it is in none.
fn root_of(path: &Path) -> anyhow::Result<PathBuf> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let own: toml::Table = text.parse().with_context(|| path.display().to_string())?;
    if own.contains_key("workspace") {
        return Ok(path.to_owned());
    }
    let named = own.get("package").and_then(|package| package.get("workspace")).and_then(toml::Value::as_str);
    if let Some(named) = named {
        return Ok(plain(&folder_of(path).join(named).join("Cargo.toml")));
    }
    for folder in folder_of(path).ancestors().skip(1) {
        let above = folder.join("Cargo.toml");
        let Ok(text) = std::fs::read_to_string(&above) else { continue };
        let Ok(table) = text.parse::<toml::Table>() else { continue };
        if let Some(workspace) = table.get("workspace") {
            let excluded = workspace.get("exclude").and_then(toml::Value::as_array).into_iter().flatten();
            let mut excluded = excluded.filter_map(toml::Value::as_str);
            let is_out = excluded.any(|name| path.starts_with(plain(&folder.join(name))));
            return Ok(if is_out { path.to_owned() } else { above });
        }
    }
    Ok(path.to_owned())
}

/// The manifests of the packages that a workspace lists.
fn members(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Some(workspace) = parse(root)?.workspace else { return Ok(Vec::new()) };
    let folder = folder_of(root);
    let excluded: Vec<PathBuf> = workspace.exclude.iter().map(|name| plain(&folder.join(name))).collect();
    let mut members = Vec::new();
    for pattern in &workspace.members {
        let whole = glob::Pattern::escape(&folder.display().to_string());
        let found = glob::glob(&format!("{whole}/{pattern}/Cargo.toml"));
        let found = found.with_context(|| format!("{}: workspace member {pattern:?}", root.display()))?;
        let before = members.len();
        for manifest in found {
            let manifest = plain(&manifest?);
            if !excluded.iter().any(|excluded| manifest.starts_with(excluded)) {
                members.push(manifest);
            }
        }
        if members.len() == before && !pattern.contains(['*', '?', '[']) {
            bail!("{}: there is no workspace member {pattern:?}", root.display());
        }
    }
    Ok(members)
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

struct Reading {
    workspace: Workspace,
    folder: PathBuf,
    due: VecDeque<PathBuf>,
    seen: HashSet<PathBuf>,
}

impl Reading {
    fn package(&mut self, path: &Path) -> anyhow::Result<()> {
        let manifest = parse(path)?;
        let (folder, asked) = (folder_of(path), features_of_dependencies(&manifest));
        // Tests of packages outside are not this workspace's.
        let is_member = path.starts_with(&self.folder);
        let sections =
            std::iter::once((None, &manifest.dependencies, &manifest.build_dependencies, &manifest.dev_dependencies));
        let of_targets = manifest
            .target
            .iter()
            .map(|(target, of)| (Some(target), &of.dependencies, &of.build_dependencies, &of.dev_dependencies));
        for (target, normal, build, dev) in sections.chain(of_targets) {
            for dependencies in [normal, build] {
                self.dependencies(folder, dependencies, target, false, &asked)?;
            }
            if is_member {
                self.dependencies(folder, dev, target, true, &asked)?;
            }
        }
        for patches in manifest.patch.values() {
            let paths = patches.values().filter_map(|patch| patch.detail()?.path.as_deref());
            self.due.extend(paths.map(|at| folder.join(at).join("Cargo.toml")));
        }
        Ok(())
    }

    fn dependencies(
        &mut self,
        folder: &Path,
        dependencies: &DepsSet,
        target: Option<&String>,
        dev: bool,
        asked: &BTreeMap<String, BTreeSet<String>>,
    ) -> anyhow::Result<()> {
        for (alias, dependency) in dependencies {
            let simple;
            let detail = match dependency {
                Dependency::Simple(version) => {
                    simple = DependencyDetail { version: Some(version.clone()), ..DependencyDetail::default() };
                    &simple
                }
                Dependency::Detailed(detail) => &**detail,
                Dependency::Inherited(_) => bail!("{}: {alias} is inherited from nowhere", folder.display()),
            };
            let name = detail.package.as_ref().unwrap_or(alias);
            if let Some(at) = &detail.path {
                self.due.push_back(folder.join(at).join("Cargo.toml"));
            } else if let Some(git) = &detail.git {
                self.workspace.foreign.insert(format!("{name} from git {git}"));
            } else if let Some(registry) = detail.registry.as_ref().or(detail.registry_index.as_ref()) {
                self.workspace.foreign.insert(format!("{name} from registry {registry}"));
            } else {
                let more = asked.get(alias).into_iter().flatten();
                self.workspace.needs.push(Need {
                    name: name.clone(),
                    requirement: detail.version.clone().unwrap_or_else(|| "*".to_owned()),
                    features: detail.features.iter().chain(more).cloned().collect(),
                    default_features: detail.default_features,
                    target: target.cloned(),
                    dev,
                });
            }
        }
        Ok(())
    }
}

/// The features that a package's own features ask of its dependencies, by what it calls them.
fn features_of_dependencies(manifest: &Manifest) -> BTreeMap<String, BTreeSet<String>> {
    let mut asked: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (dependency, feature) in manifest.features.values().flatten().filter_map(|value| value.split_once('/')) {
        let alias = dependency.strip_suffix('?').unwrap_or(dependency);
        asked.entry(alias.to_owned()).or_default().insert(feature.to_owned());
    }
    asked
}

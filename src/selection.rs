//! From what the command line names to what the mirror wants.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context;
use cargo_lock::Lockfile;
use crateferry_pipeline::index::closure::target_info;
use crateferry_store::bundle::Receipt;
use crateferry_store::{
    Closure, CrateName, Features, LedgerReader, NameError, Release, ReleaseId, Root, Selection, Set, Sha256, Version,
};
use semver::VersionReq;

use self::manifest::Workspace;
use crate::cli::{ClosureArg, SelectionArgs};
use crate::receipt;
use crate::report::usage;

mod manifest;

/// A selection, and what lock files say of it.
#[derive(Debug, Default)]
pub struct Asked {
    /// What is wanted.
    pub selection: Selection,
    /// The checksums that lock files hold.
    promises: Vec<Release>,
    /// Packages that no crates registry has: registry and package.
    pub foreign: Vec<String>,
}

/// Reads what the command line names into one set.
struct Reading<'a> {
    args: &'a SelectionArgs,
    set: Set,
    promises: Vec<Release>,
    foreign: BTreeSet<String>,
}

impl Asked {
    /// Reads what the command line names.
    pub fn read(args: &SelectionArgs) -> anyhow::Result<Asked> {
        let (promises, foreign) = (Vec::new(), BTreeSet::new());
        let mut reading = Reading { args, set: Set::default(), promises, foreign };
        reading.check()?;
        for path in &args.lockfile {
            reading.lockfile(path)?;
        }
        for path in &args.manifest {
            reading.manifest(path).map_err(|error| usage(format!("--manifest {}: {error:#}", path.display())))?;
        }
        for text in &args.crates {
            reading.named(text).map_err(|error| usage(format!("--crate {text}: {error:#}")))?;
        }
        for path in &args.list {
            reading.list(path)?;
        }
        for path in &args.wishes {
            reading.wishes(&receipt::read(path, &args.receipt_trust)?)?;
        }
        let Reading { set, promises, foreign, .. } = reading;
        let mut selection = Selection { all: args.all, include_yanked: args.include_yanked, ..Selection::default() };
        match &args.set {
            None => selection.own = set,
            Some(name) if set.is_empty() => {
                return Err(usage(format!(
                    "--set {name}: nothing is named for it; `crateferry selection MIRROR remove {name}` removes a set"
                )));
            }
            Some(name) => drop(selection.sets.insert(name.clone(), set)),
        }
        Ok(Asked { selection, promises, foreign: foreign.into_iter().collect() })
    }
}

impl Reading<'_> {
    /// What contradicts itself, or would do nothing.
    fn check(&self) -> anyhow::Result<()> {
        let SelectionArgs {
            crates, list, wishes, manifest, closure, features, no_default_features, dev, target, ..
        } = self.args;
        let names_crates = !crates.is_empty() || !list.is_empty() || !wishes.is_empty();
        if *closure == Some(ClosureArg::Locked) && names_crates {
            return Err(usage(
                "--closure locked: no lock file says what --crate and --list depend on; take newest or full",
            ));
        }
        let has_choices = !features.is_empty() || *no_default_features || *dev;
        if has_choices && !names_crates {
            return Err(usage("--features, --no-default-features and --dev are about --crate and --list"));
        }
        if !target.is_empty() && (manifest.is_empty() && closure.is_none_or(|closure| closure == ClosureArg::Locked)) {
            return Err(usage("--target chooses among dependencies: name a --manifest, or a --closure"));
        }
        let unknown = target.iter().find(|triple| target_info(triple).is_none());
        unknown.map_or(Ok(()), |triple| Err(usage(format!("--target {triple}: Rust has no target of this name"))))
    }

    fn lockfile(&mut self, path: &Path) -> anyhow::Result<()> {
        let refuse = |why: String| usage(format!("lock file {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let lock: Lockfile = text.parse().map_err(|error: cargo_lock::Error| refuse(error.to_string()))?;
        for package in &lock.packages {
            let Some(source) = &package.source else { continue };
            if source.is_git() || source.is_path() {
                continue;
            }
            if !source.is_default_registry() {
                self.foreign.insert(format!("{} {} from {source}", package.name, package.version));
                continue;
            }
            let id = ReleaseId {
                name: package.name.as_str().parse().map_err(|error| refuse(format!("{error}")))?,
                version: package.version.to_string().parse().map_err(|error| refuse(format!("{error}")))?,
            };
            if let Some(checksum) = &package.checksum {
                let checksum: Sha256 = checksum.to_string().parse().map_err(|error| refuse(format!("{error}")))?;
                self.promises.push(Release { id: id.clone(), checksum });
            }
            if let Some(closure) = self.closure(ClosureArg::Locked) {
                let requirement = format!("^{}", package.version);
                self.root(&id.name, &requirement, closure, Features::All);
            }
            self.release(id);
        }
        Ok(())
    }

    fn manifest(&mut self, path: &Path) -> anyhow::Result<()> {
        let Workspace { needs, foreign, lockfile } = Workspace::read(path)?;
        self.foreign.extend(foreign);
        let Some(closure) = self.closure(ClosureArg::Full) else { return self.lockfile(&lockfile) };
        for need in needs {
            if need.dev && self.args.no_dev {
                continue;
            }
            let name: CrateName = need.name.parse()?;
            let features = Features::Named { default: need.default_features, names: need.features };
            let root = Root { target: need.target, ..self.new_root(&name, &need.requirement, closure, features)? };
            self.set.roots.insert(root);
        }
        Ok(())
    }

    fn named(&mut self, text: &str) -> anyhow::Result<()> {
        let (name, requirement) = text.split_once('@').unwrap_or((text, "*"));
        let name: CrateName = name.trim().parse()?;
        let requirement = requirement.trim();
        let Some(closure) = self.args.closure.and_then(ClosureArg::of_dependencies) else {
            let requirement = parse_requirement(requirement)?;
            self.set.crates.entry(name.lower()).or_default().insert(requirement);
            return Ok(());
        };
        let SelectionArgs { features, no_default_features, dev, .. } = self.args;
        let features = if features.is_empty() && !no_default_features {
            Features::All
        } else {
            Features::Named { default: !no_default_features, names: features.iter().cloned().collect() }
        };
        let root = Root { dev: *dev, ..self.new_root(&name, requirement, closure, features)? };
        self.set.roots.insert(root);
        Ok(())
    }

    fn list(&mut self, path: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(path).map_err(|error| usage(format!("list {}: {error}", path.display())))?;
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let added = if line.contains("://") { self.url(line) } else { self.named(line) };
            added.map_err(|error| usage(format!("list {}, line {number}: {error:#}", path.display())))?;
        }
        Ok(())
    }

    fn url(&mut self, url: &str) -> anyhow::Result<()> {
        self.one_release(release_of_url(url).with_context(|| format!("{url} names no crate file"))?);
        Ok(())
    }

    /// What a receipt wishes for: a crate, or one release of it.
    fn wishes(&mut self, receipt: &Receipt) -> anyhow::Result<()> {
        for wish in &receipt.wishes {
            match wish.version() {
                None => self.named(wish.name().as_str())?,
                Some(version) => self.one_release(ReleaseId { name: wish.name().clone(), version: version.clone() }),
            }
        }
        Ok(())
    }

    fn one_release(&mut self, id: ReleaseId) {
        if let Some(closure) = self.args.closure.and_then(ClosureArg::of_dependencies) {
            self.root(&id.name, &format!("={}", id.version), closure, Features::All);
        }
        self.release(id);
    }

    fn release(&mut self, id: ReleaseId) {
        self.set.releases.entry(id.name.lower()).or_default().insert(id.version);
    }

    /// Adds a root, if its version is semver: no other can be depended on.
    fn root(&mut self, name: &CrateName, requirement: &str, closure: Closure, features: Features) {
        self.set.roots.extend(self.new_root(name, requirement, closure, features));
    }

    fn new_root(
        &self,
        name: &CrateName,
        requirement: &str,
        closure: Closure,
        features: Features,
    ) -> anyhow::Result<Root> {
        let (requirement, targets) = (parse_requirement(requirement)?, self.args.target.iter().cloned().collect());
        Ok(Root { name: name.lower(), requirement, closure, features, target: None, targets, dev: false })
    }

    /// How dependencies are followed, if they are.
    fn closure(&self, default: ClosureArg) -> Option<Closure> {
        self.args.closure.unwrap_or(default).of_dependencies()
    }
}

impl ClosureArg {
    fn of_dependencies(self) -> Option<Closure> {
        match self {
            ClosureArg::Full => Some(Closure::Full),
            ClosureArg::Newest => Some(Closure::Newest),
            ClosureArg::Locked => None,
        }
    }
}

fn parse_requirement(text: &str) -> anyhow::Result<String> {
    let requirement: VersionReq = text.parse().with_context(|| format!("{text:?} is not a version requirement"))?;
    Ok(requirement.to_string())
}

impl Asked {
    /// What lock files promise and the index does not: the release's name and both checksums.
    pub fn broken_promises(&self, ledger: &LedgerReader) -> anyhow::Result<Vec<String>> {
        let mut broken = Vec::new();
        for promise in &self.promises {
            let known = ledger.releases_at(&promise.id)?;
            if !known.is_empty() && !known.iter().any(|(release, _)| release.checksum == promise.checksum) {
                let index: Vec<String> = known.iter().map(|(release, _)| release.checksum.to_string()).collect();
                broken.push(format!(
                    "{}: the lock file has checksum {}, the index {}",
                    promise.id,
                    promise.checksum,
                    index.join(" and ")
                ));
            }
        }
        Ok(broken)
    }
}

/// `.../NAME-VERSION.crate`, `.../NAME/VERSION/download` or `.../NAME/VERSION/SHA256`
fn release_of_url(url: &str) -> Option<ReleaseId> {
    let url = reqwest::Url::parse(url).ok()?;
    let segments: Vec<String> =
        url.path_segments()?.map(|segment| segment.replace("%2B", "+").replace("%2b", "+")).collect();
    if let Some(stem) = segments.last()?.strip_suffix(".crate") {
        return split_file_name(stem);
    }
    match segments.as_slice() {
        [.., name, version, _] => Some(ReleaseId { name: name.parse().ok()?, version: version.parse().ok()? }),
        _ => None,
    }
}

/// The version begins behind the first dash that is followed by a digit and reads as a version.
fn split_file_name(stem: &str) -> Option<ReleaseId> {
    let dashes = stem.match_indices('-').map(|(at, _)| at);
    let mut parts = dashes.map(|at| (&stem[..at], &stem[at + 1..]));
    let (name, version) = parts.find(|(_, version)| semver::Version::parse(version).is_ok())?;
    let version: Version = version.parse().ok()?;
    Some(ReleaseId { name: name.parse().ok()?, version })
}

/// Reads `NAME` or `NAME@VERSION`.
pub fn parse_crate_or_release(text: &str) -> anyhow::Result<(CrateName, Option<Version>)> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version)),
        None => (text, None),
    };
    let refuse = |error: NameError| usage(format!("{text:?} is not NAME or NAME@VERSION: {error}"));
    Ok((name.parse().map_err(refuse)?, version.map(str::parse).transpose().map_err(refuse)?))
}

/// Reads `NAME@VERSION`.
pub fn parse_release(text: &str) -> anyhow::Result<ReleaseId> {
    let refuse = |why: String| usage(format!("{text:?} is not NAME@VERSION: {why}"));
    let (name, version) = text.split_once('@').ok_or_else(|| refuse("there is no '@'".into()))?;
    Ok(ReleaseId {
        name: name.parse().map_err(|error| refuse(format!("{error}")))?,
        version: version.parse().map_err(|error| refuse(format!("{error}")))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(url: &str) -> Option<String> {
        release_of_url(url).map(|id| id.to_string())
    }

    #[test]
    fn crate_file_urls_name_a_release() {
        assert_eq!(named("https://h/crates/serde/serde-1.0.0.crate").as_deref(), Some("serde 1.0.0"));
        assert_eq!(named("https://h/a-1-b-0.1.0-rc.1%2Bx.crate").as_deref(), Some("a-1-b 0.1.0-rc.1+x"));
        assert_eq!(named("https://h/api/v1/crates/serde/1.0.0/download").as_deref(), Some("serde 1.0.0"));
        assert_eq!(named("https://h/serde"), None);
        assert_eq!(named("https://h/..%2f..%2fx/1.0.0/download"), None);
    }

    #[test]
    fn bad_selections_name_the_argument() {
        let args = SelectionArgs { crates: vec!["serde@nonsense".into()], ..SelectionArgs::default() };
        let error = Asked::read(&args).unwrap_err().to_string();
        assert!(error.contains("serde@nonsense") && error.contains("requirement"), "{error}");
    }
}

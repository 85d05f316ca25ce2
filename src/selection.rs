//! From what the command line names to what the mirror wants.

use std::path::Path;

use anyhow::Context;
use cargo_lock::Lockfile;
use crateferry_store::{CrateName, LedgerReader, Release, ReleaseId, Selection, Sha256, Version};
use semver::VersionReq;

use crate::cli::SelectionArgs;
use crate::report::usage;

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

impl Asked {
    /// Reads what the command line names.
    pub fn read(args: &SelectionArgs) -> anyhow::Result<Asked> {
        let mut asked = Asked::default();
        asked.selection.all = args.all;
        asked.selection.include_yanked = args.include_yanked;
        for path in &args.lockfile {
            asked.add_lockfile(path)?;
        }
        for text in &args.crates {
            asked.add_crate(text).map_err(|error| usage(format!("--crate {text}: {error:#}")))?;
        }
        for path in &args.list {
            asked.add_list(path)?;
        }
        Ok(asked)
    }

    fn add_lockfile(&mut self, path: &Path) -> anyhow::Result<()> {
        let refuse = |why: String| usage(format!("lock file {}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        let lock: Lockfile = text.parse().map_err(|error: cargo_lock::Error| refuse(error.to_string()))?;
        for package in &lock.packages {
            let Some(source) = &package.source else { continue };
            if source.is_git() || source.is_path() {
                continue;
            }
            if !source.is_default_registry() {
                self.foreign.push(format!("{} {} from {source}", package.name, package.version));
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
            self.add_release(id);
        }
        Ok(())
    }

    fn add_crate(&mut self, text: &str) -> anyhow::Result<()> {
        let (name, requirement) = text.split_once('@').unwrap_or((text, "*"));
        let name: CrateName = name.trim().parse()?;
        let requirement: VersionReq =
            requirement.trim().parse().with_context(|| format!("{requirement:?} is not a version requirement"))?;
        self.selection.crates.entry(name.lower()).or_default().insert(requirement.to_string());
        Ok(())
    }

    fn add_list(&mut self, path: &Path) -> anyhow::Result<()> {
        let text = std::fs::read_to_string(path).map_err(|error| usage(format!("list {}: {error}", path.display())))?;
        for (line, number) in text.lines().zip(1..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let added = if line.contains("://") { self.add_url(line) } else { self.add_crate(line) };
            added.map_err(|error| usage(format!("list {}, line {number}: {error:#}", path.display())))?;
        }
        Ok(())
    }

    fn add_url(&mut self, url: &str) -> anyhow::Result<()> {
        let id = release_of_url(url).with_context(|| format!("{url} names no crate file"))?;
        self.add_release(id);
        Ok(())
    }

    fn add_release(&mut self, id: ReleaseId) {
        self.selection.releases.entry(id.name.lower()).or_default().insert(id.version);
    }

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

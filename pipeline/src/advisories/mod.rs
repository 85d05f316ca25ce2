//! Security advisories, from a RustSec database: a git repository with a file for each.
//!
//! A mirror keeps the files of one commit as an [archive](Files::pack), and serves them as a [repository](Repository) again, which has
//! that one commit.

mod files;
mod repository;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crateferry_store::{Blake3, CrateName, Version};
use rustsec::advisory::Informational;
use serde::{Deserialize, Serialize};

pub use files::{Files, FilesError};
pub use repository::{BadRequest, Repository};

/// Advisories by crate.
#[derive(Debug)]
pub struct Advisories {
    by_crate: HashMap<CrateName, Vec<rustsec::Advisory>>,
    digest: Blake3,
}

/// An advisory that is about a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advisory {
    /// Its name, like `RUSTSEC-2024-0001`.
    pub id: String,
    /// What it is about, in a line.
    pub title: String,
    /// How bad it is.
    pub kind: AdvisoryKind,
    /// The day that it was published, `YYYY-MM-DD`.
    pub date: String,
    /// Where to read more, if it says.
    pub url: Option<String>,
    /// Requirements on versions that are not affected any more.
    pub patched: Vec<String>,
}

/// What an advisory warns of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvisoryKind {
    /// A vulnerability, malware among them.
    Vulnerability,
    /// Safe code can do what only unsafe code should.
    Unsound,
    /// Nobody looks after it.
    Unmaintained,
    /// Anything else.
    Notice,
}

/// Which advisories keep a release out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Heed {
    /// None.
    #[default]
    Off,
    /// Those of vulnerabilities.
    Vulnerable,
    /// All.
    Any,
}

/// A database that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdvisoriesError {
    /// There is none.
    #[error("{} is no advisory database: it has no folder `crates`", .0.display())]
    None(PathBuf),
    /// Its files cannot be read.
    #[error("cannot read the advisory database {}", path.display())]
    Files {
        /// Which.
        path: PathBuf,
        /// Why.
        source: FilesError,
    },
    /// An advisory cannot be read.
    #[error("cannot read the advisory {path}")]
    Advisory {
        /// Which, by its path in the database.
        path: String,
        /// Why.
        source: Box<rustsec::Error>,
    },
}

impl Advisories {
    /// Reads a database from the folder that it is checked out in.
    pub fn read(path: &Path) -> Result<Advisories, AdvisoriesError> {
        if !path.join("crates").is_dir() {
            return Err(AdvisoriesError::None(path.to_owned()));
        }
        let files =
            Files::of_folder(path).map_err(|source| AdvisoriesError::Files { path: path.to_owned(), source })?;
        Advisories::of(&files)
    }

    /// The advisories in the files of a database.
    pub fn of(files: &Files) -> Result<Advisories, AdvisoriesError> {
        let mut all = Vec::new();
        for (path, text) in files.advisories() {
            let failed = |source| AdvisoriesError::Advisory { path: path.to_owned(), source: Box::new(source) };
            let advisory: rustsec::Advisory = String::from_utf8_lossy(text).parse().map_err(failed)?;
            if !advisory.withdrawn() {
                all.push(advisory);
            }
        }
        all.sort_by(|one, other| one.id().cmp(other.id()));
        let digest = Blake3::of(&serde_json::to_vec(&all).expect("what was read can be written"));
        let mut by_crate: HashMap<CrateName, Vec<rustsec::Advisory>> = HashMap::new();
        for advisory in all {
            if let Ok(name) = advisory.metadata.package.as_str().parse::<CrateName>() {
                by_crate.entry(name.lower()).or_default().push(advisory);
            }
        }
        Ok(Advisories { by_crate, digest })
    }

    /// A digest of all of them.
    pub fn digest(&self) -> Blake3 {
        self.digest
    }

    /// The advisories about a release, in the order of their names.
    pub fn about(&self, name: &CrateName, version: &Version) -> Vec<Advisory> {
        let Ok(version) = semver::Version::parse(version.as_str()) else { return Vec::new() };
        let all = self.by_crate.get(&name.lower()).into_iter().flatten();
        all.filter(|advisory| advisory.versions.is_vulnerable(&version)).map(Advisory::of).collect()
    }

    /// Whether an advisory that is heeded is about a release.
    pub fn keeps_out(&self, heed: Heed, name: &CrateName, version: &Version) -> bool {
        let is_heeded = |advisory: &Advisory| match heed {
            Heed::Off => false,
            Heed::Vulnerable => advisory.kind == AdvisoryKind::Vulnerability,
            Heed::Any => true,
        };
        heed != Heed::Off && self.about(name, version).iter().any(is_heeded)
    }
}

impl Advisory {
    fn of(advisory: &rustsec::Advisory) -> Advisory {
        let kind = match &advisory.metadata.informational {
            None => AdvisoryKind::Vulnerability,
            Some(Informational::Unsound) => AdvisoryKind::Unsound,
            Some(Informational::Unmaintained) => AdvisoryKind::Unmaintained,
            Some(_) => AdvisoryKind::Notice,
        };
        Advisory {
            id: advisory.id().to_string(),
            title: advisory.title().to_owned(),
            kind,
            date: advisory.date().as_str().to_owned(),
            url: advisory.metadata.url.as_ref().map(ToString::to_string),
            patched: advisory.versions.patched().iter().map(ToString::to_string).collect(),
        }
    }
}

impl AdvisoryKind {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            AdvisoryKind::Vulnerability => "vulnerability",
            AdvisoryKind::Unsound => "unsound",
            AdvisoryKind::Unmaintained => "unmaintained",
            AdvisoryKind::Notice => "notice",
        }
    }
}

//! Security advisories, from a RustSec database: a git repository with a file for each.
//!
//! A mirror keeps the files of one commit as an [archive](Files::pack), and serves them as a [repository](Repository) again, which has
//! that one commit.

mod files;
mod repository;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crateferry_store::{Blake3, CrateName, Version};
use rustsec::advisory::{Category, Informational};
use serde::{Deserialize, Serialize};

pub use files::{Files, FilesError};
pub use repository::{BadRequest, Repository};

/// Advisories by crate.
#[derive(Debug)]
pub struct Advisories {
    by_crate: HashMap<CrateName, Vec<rustsec::Advisory>>,
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
    /// It was made to do harm.
    Malware,
    /// A vulnerability.
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
    Off,
    /// Those of malware, if there is a database.
    #[default]
    Malware,
    /// Those of malware and of vulnerabilities.
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
        let (advisories, unread) = Advisories::readable(files);
        unread.map_or(Ok(advisories), Err)
    }

    /// Those that can be read, and what is wrong with the first of the others.
    pub fn readable(files: &Files) -> (Advisories, Option<AdvisoriesError>) {
        let (mut all, mut unread) = (Vec::new(), None);
        for (path, text) in files.advisories() {
            match String::from_utf8_lossy(text).parse::<rustsec::Advisory>() {
                Ok(advisory) if advisory.withdrawn() => {}
                Ok(advisory) => all.push(advisory),
                Err(source) => {
                    let (path, source) = (path.to_owned(), Box::new(source));
                    unread.get_or_insert(AdvisoriesError::Advisory { path, source });
                }
            }
        }
        all.sort_by(|one, other| one.id().cmp(other.id()));
        let mut by_crate: HashMap<CrateName, Vec<rustsec::Advisory>> = HashMap::new();
        for advisory in all {
            if let Ok(name) = advisory.metadata.package.as_str().parse::<CrateName>() {
                by_crate.entry(name.lower()).or_default().push(advisory);
            }
        }
        (Advisories { by_crate }, unread)
    }

    /// A digest of those that are heeded; none if none are.
    pub fn digest(&self, heed: Heed) -> Option<Blake3> {
        let mut heeded: Vec<_> = self.all().filter(|advisory| heed.is_of(kind(advisory))).collect();
        heeded.sort_by(|one, other| one.id().cmp(other.id()));
        let text = || serde_json::to_vec(&heeded).expect("what was read can be written");
        (!heeded.is_empty()).then(|| Blake3::of(&text()))
    }

    /// The crates of which something is said to be malware, in lower case, in order.
    pub fn malware(&self) -> BTreeSet<&CrateName> {
        let is_malware = |advisory: &rustsec::Advisory| kind(advisory) == AdvisoryKind::Malware;
        let crates = self.by_crate.iter().filter(|(_, about)| about.iter().any(is_malware));
        crates.map(|(name, _)| name).collect()
    }

    /// The advisories about a release, in the order of their names.
    pub fn about(&self, name: &CrateName, version: &Version) -> Vec<Advisory> {
        self.affecting(name, version).map(Advisory::of).collect()
    }

    /// Whether an advisory that is heeded is about a release.
    pub fn keeps_out(&self, heed: Heed, name: &CrateName, version: &Version) -> bool {
        heed != Heed::Off && self.affecting(name, version).any(|advisory| heed.is_of(kind(advisory)))
    }

    fn affecting(&self, name: &CrateName, version: &Version) -> impl Iterator<Item = &rustsec::Advisory> {
        let about = self.by_crate.get(&name.lower());
        let about = about.and_then(|about| Some((about, semver::Version::parse(version.as_str()).ok()?)));
        about
            .into_iter()
            .flat_map(|(about, version)| about.iter().filter(move |advisory| advisory.versions.is_vulnerable(&version)))
    }

    fn all(&self) -> impl Iterator<Item = &rustsec::Advisory> {
        self.by_crate.values().flatten()
    }
}

impl Heed {
    fn is_of(self, kind: AdvisoryKind) -> bool {
        match self {
            Heed::Off => false,
            Heed::Malware => kind == AdvisoryKind::Malware,
            Heed::Vulnerable => matches!(kind, AdvisoryKind::Malware | AdvisoryKind::Vulnerability),
            Heed::Any => true,
        }
    }
}

fn kind(advisory: &rustsec::Advisory) -> AdvisoryKind {
    match &advisory.metadata.informational {
        None if advisory.metadata.categories.contains(&Category::Malicious) => AdvisoryKind::Malware,
        None => AdvisoryKind::Vulnerability,
        Some(Informational::Unsound) => AdvisoryKind::Unsound,
        Some(Informational::Unmaintained) => AdvisoryKind::Unmaintained,
        Some(_) => AdvisoryKind::Notice,
    }
}

impl Advisory {
    fn of(advisory: &rustsec::Advisory) -> Advisory {
        Advisory {
            id: advisory.id().to_string(),
            title: advisory.title().to_owned(),
            kind: kind(advisory),
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
            AdvisoryKind::Malware => "malware",
            AdvisoryKind::Vulnerability => "vulnerability",
            AdvisoryKind::Unsound => "unsound",
            AdvisoryKind::Unmaintained => "unmaintained",
            AdvisoryKind::Notice => "notice",
        }
    }
}

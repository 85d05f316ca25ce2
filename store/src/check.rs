//! Scrubbing: reading everything that is held and comparing it with its digests.
//!
//! Packs are read once each, on several threads: every member against its SHA-256, every record against the one before,
//! every sealed pack against its BLAKE3. Then the catalog: every held release must be a member that was found, every
//! served text must have its BLAKE3 and promise only what is held, and all of them together the generation's digest. At
//! last the databases themselves: every page of the ledger, every row of the catalog, and whether they agree.
//!
//! Less than all of it is a sample of what the catalog names, or as many packs as there is time for.

mod databases;
mod held;
mod index;
mod packs;

use std::time::Instant;

use serde::Serialize;

use crate::id::Release;
use crate::ledger::LedgerError;
use crate::mirror::MirrorReader;

use databases::check_databases;
use held::check_sample;
use index::check_index;
use packs::check_packs;

/// Rows of the catalog that are compared together.
const CHUNK: usize = 4096;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// All.
    All,
    /// One of so many held releases and served index files, evenly spread from one that chance picks.
    OneOf {
        /// Of how many.
        count: u64,
        /// The first that is read: less than `count`.
        first: u64,
    },
    /// Packs from this one on, until it is this late; the catalog and the databases once the last pack is read.
    Until {
        /// The first pack.
        from: u32,
        /// When to begin no further packs.
        end: Instant,
    },
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// What is damaged: a pack, a member, a release, an index file.
    pub object: String,
    /// How.
    pub problem: String,
    /// What that means, and for whom.
    pub means: &'static str,
    /// The release whose crate file it is.
    #[serde(skip)]
    pub release: Option<Release>,
}

/// What findings mean.
mod means {
    pub const CRATE: &str = "who asks for it gets an error and never the wrong bytes; `verify --repair` replaces it";
    pub const DEAD: &str = "nothing that is served needs it";
    pub const TEXT: &str = "if it is an index file that is served, cargo gets an error for that crate alone";
    pub const MEMBER: &str = "crate files and index are not touched by it";
    pub const RECORD: &str =
        "all goes on while ledger and catalog are there; `rebuild` cannot make them again from this pack";
    pub const PACK: &str =
        "what lies in it cannot be had until it is put back from a copy, or `verify --repair` replaced it";
    pub const INDEX: &str = "cargo gets an error for this crate, and for no other";
    pub const PROMISE: &str = "cargo cannot download this release until it is held again";
    pub const GENERATION: &str = "bundles made from it are refused; `rebuild` makes the databases again";
    pub const CATALOG: &str = "servers derive it again by themselves; `rebuild` does it at once";
    pub const LEDGER: &str = "no sync and no bundle can go on; `rebuild` makes it again from the packs";
}

/// What a scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Packs read.
    pub packs: u64,
    /// Members hashed.
    pub objects: u64,
    /// Bytes hashed.
    pub bytes: u64,
    /// Held releases compared.
    pub releases: u64,
    /// Served index files compared.
    pub index_files: u64,
    /// Served rows whose bytes are held.
    pub rows: u64,
    /// What is not as it should be, in order.
    pub findings: Vec<Finding>,
    /// Damaged members that nothing needs, because what they were is held elsewhere, or not at all any more.
    pub dead: Vec<Finding>,
    /// Held releases whose bytes are damaged, or not where they should be, and how.
    #[serde(skip)]
    pub lost: Vec<(Release, String)>,
    /// The pack to go on with, if there was no time for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_pack: Option<u32>,
    /// Why the ledger was not looked at, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger_not_read: Option<String>,
}

/// A scrub that could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The catalog cannot be read.
    #[error("cannot read the catalog")]
    Catalog(#[from] LedgerError),
    /// The packs cannot be listed.
    #[error("cannot list the packs")]
    List(#[source] std::io::Error),
}

/// Reads what is held, as far as `extent` says. `progress` is told of every member's bytes as they were hashed.
pub fn verify(
    mirror: &MirrorReader,
    extent: Extent,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verification, CheckError> {
    let mut verification = match extent {
        Extent::All => check_packs(mirror, 0, None, progress)?,
        Extent::Until { from, end } => check_packs(mirror, from, Some(end), progress)?,
        Extent::OneOf { count, first } => check_sample(mirror, (count, first), progress)?,
    };
    if verification.next_pack.is_none() {
        let one_of = if let Extent::OneOf { count, first } = extent { (count, first) } else { (1, 0) };
        check_index(mirror, one_of, &mut verification)?;
    }
    if verification.next_pack.is_none() && !matches!(extent, Extent::OneOf { .. }) {
        check_databases(mirror, &mut verification)?;
    }
    verification.findings.sort();
    verification.dead.sort();
    Ok(verification)
}

/// Reads the packs from one on that are read at once, and compares the held releases that lie in them; nothing else.
pub fn verify_packs(
    mirror: &MirrorReader,
    from: u32,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Verification, CheckError> {
    check_packs(mirror, from, Some(Instant::now()), progress)
}

impl Verification {
    fn lose(&mut self, found: Vec<(Release, String)>) {
        let finding = |(release, problem): &(Release, String)| Finding {
            object: format!("release {release}"),
            problem: problem.clone(),
            means: means::CRATE,
            release: Some(release.clone()),
        };
        self.findings.extend(found.iter().map(finding));
        self.lost.extend(found);
    }

    fn find(&mut self, object: &str, problem: String, means: &'static str) {
        self.findings.push(Finding { object: object.to_owned(), problem, means, release: None });
    }
}

//! Taking over crate files that lie in a folder.
//!
//! What a mirror wants is in its ledger, each release with the checksum that the index promises. A file of the folder is
//! compared with the promise that its name points to, or by its checksum alone if its name tells nothing, and goes into the packs
//! as a file that was fetched does: proven, in groups, durable before it counts. The folder is only read.
//!
//! Files are dealt with in steps. In a step, a few threads take some dozens of files each, read and hash every one at once, and
//! give the writer those that fit together. So a file costs what opening, reading and hashing it costs, and little more.
//!
//! - A release that is held is not read again if its file has the length that is held: so a run that was interrupted goes on.
//! - Every file that looks like a crate file ends in the mirror or is told to the [`Witness`], with the reason.
//! - Bodies in memory share one budget, and lists do not grow with the folder.

mod claim;
mod hands;
mod manifest;
mod walk;

use std::collections::{HashSet, VecDeque};
use std::io::{self, BufRead};
use std::ops::AddAssign;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crateferry_store::{
    AuditError, AuditLog, AuditRecord, BodyError, LedgerError, Mirror, Pending, Place, PublishError, Release, Sha256,
    Shrink, Spool, WriteError, Writer, publish, wait,
};
use rayon::prelude::*;
use reqwest::Url;
use tokio_util::sync::CancellationToken;

use self::hands::{Done, Hands, Nameless};
pub use self::manifest::Malformed;
use self::manifest::{Lines, Locator};
use self::walk::Walk;
use crate::clock::Clock;
use crate::inventory::FileName;
use crate::net::Budget;
use crate::settle::rfc3339;

/// The numbers that bound an import.
#[derive(Clone, Debug)]
pub struct ImportLimits {
    /// Files that are dealt with before what is known is looked at anew.
    pub step: usize,
    /// Files that a thread takes at a time.
    pub share: usize,
    /// Bytes of files in memory.
    pub body_bytes: u64,
    /// The largest file that is kept in memory; larger ones go through the spool.
    pub in_memory: u64,
    /// The largest crate file.
    pub largest: u64,
    /// Crate files that wait for their group to become durable: more than a group has members.
    pub unsettled: usize,
    /// Files whose names tell nothing that are looked up together.
    pub nameless: usize,
    /// A long import publishes at least this often.
    pub publish_every: Duration,
}

impl Default for ImportLimits {
    fn default() -> Self {
        ImportLimits {
            step: 2048,
            share: 64,
            body_bytes: Budget::DEFAULT,
            in_memory: 4 << 20,
            largest: 512 << 20,
            unsettled: 8192,
            nameless: 65_536,
            publish_every: Duration::from_secs(600),
        }
    }
}

/// An import that stopped. What was placed until then is durable.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The folder cannot be listed.
    #[error("cannot list {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The earlier tool's log cannot be read.
    #[error("cannot read the manifest")]
    Manifest(#[source] io::Error),
    /// The ledger cannot be read.
    #[error("cannot read what is wanted")]
    Ledger(#[from] LedgerError),
    /// The spool cannot be written.
    #[error("cannot take in a large file")]
    Body(#[from] BodyError),
    /// The packs or the ledger cannot be written.
    #[error("cannot store crate files")]
    Write(#[from] WriteError),
    /// The audit record cannot be written.
    #[error("cannot record what was placed")]
    Audit(#[from] AuditError),
    /// What is held cannot be published.
    #[error("cannot publish what was placed")]
    Publish(#[from] PublishError),
}

/// Why a file is not in the mirror.
#[derive(Debug, thiserror::Error)]
pub enum LeftOut {
    /// The index has it, and the mirror's selection does not want it.
    #[error("the mirror does not want it: {0}")]
    NotWanted(&'static str),
    /// The index, as far as the mirror knows it, does not have it.
    #[error("{0}")]
    Unknown(&'static str),
    /// Its bytes are not those that the index promises.
    #[error("other bytes than the index promises: SHA-256 is {found}, should be {promised}")]
    OtherBytes {
        /// The release that its name points to.
        release: Box<Release>,
        /// What the index promises.
        promised: Sha256,
        /// What it hashes to.
        found: Sha256,
    },
    /// It has another length than what is held.
    #[error("other bytes than the index promises: they are {found}, and those of the release {held}")]
    OtherLength {
        /// Its length in bytes.
        found: u64,
        /// The length of what is held.
        held: u64,
    },
    /// No crate file may be so large.
    #[error("it has {0} bytes, more than a crate file may have")]
    TooLarge(u64),
    /// Links are not followed.
    #[error("it is a link, and links are not followed")]
    Link,
    /// It cannot be read.
    #[error("cannot {step} it: {source}")]
    Unread {
        /// What was tried: `open`, `read`, `list`.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It lies below so many folders.
    #[error("{0} folders lie above it, more than are gone into")]
    TooDeep(usize),
}

impl LeftOut {
    fn refused(step: &'static str) -> impl Fn(io::Error) -> LeftOut {
        move |source| LeftOut::Unread { step, source }
    }

    /// What kind of reason it is, in a word that does not change.
    pub fn kind(&self) -> &'static str {
        match self {
            LeftOut::NotWanted(_) => "not-wanted",
            LeftOut::Unknown(_) => "unknown",
            LeftOut::OtherBytes { .. } | LeftOut::OtherLength { .. } => "other-bytes",
            LeftOut::TooLarge(_) => "too-large",
            LeftOut::Link => "link",
            LeftOut::Unread { .. } | LeftOut::TooDeep(_) => "unreadable",
        }
    }
}

/// What the earlier tool's log says that is not so.
#[derive(Debug, thiserror::Error)]
pub enum Difference {
    /// A line cannot be understood.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// There is no such file in the folder.
    #[error("{path}: there is no such file in the folder")]
    Missing {
        /// The logged path.
        path: String,
    },
    /// The file has another length.
    #[error("{path}: its size was {logged}, now {found}")]
    Size {
        /// The logged path.
        path: String,
        /// What was logged.
        logged: u64,
        /// What is there.
        found: u64,
    },
    /// The file has other bytes.
    #[error("{path}: its SHA-256 was {logged}, now {found}")]
    Sha256 {
        /// The logged path.
        path: String,
        /// What was logged.
        logged: Sha256,
        /// What is there.
        found: Sha256,
    },
    /// The file cannot be read, so nobody knows.
    #[error("{path}: {problem}")]
    Unread {
        /// The logged path.
        path: String,
        /// Why.
        problem: LeftOut,
    },
}

impl Difference {
    /// What kind of difference it is, in a word that does not change.
    pub fn kind(&self) -> &'static str {
        match self {
            Difference::Malformed(_) => "malformed",
            Difference::Missing { .. } => "missing",
            Difference::Size { .. } => "size",
            Difference::Sha256 { .. } => "sha256",
            Difference::Unread { .. } => "unreadable",
        }
    }
}

/// Who is told what an import finds.
pub trait Witness: Sync {
    /// A file that looks like a crate file, or cannot be looked at, is not in the mirror.
    fn left_out(&self, name: FileName, reason: LeftOut);
    /// The earlier tool's log differs from the folder in this line.
    fn differs(&self, line: u64, difference: Difference);
}

/// How far an import is, for whoever wants to show it.
#[derive(Debug, Default)]
pub struct Gauge {
    files: AtomicU64,
    placed: AtomicU64,
    bytes: AtomicU64,
}

impl Gauge {
    /// Files looked at.
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Of these, those that were given to the writer.
    pub fn placed(&self) -> u64 {
        self.placed.load(Ordering::Relaxed)
    }

    /// Bytes read.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// What became of a folder's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Files looked at.
    pub files: u64,
    /// Crate files that are in the mirror because of this import.
    pub placed: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Crate files that the mirror held already.
    pub held: u64,
    /// Files that are told to the [`Witness`].
    pub left_out: u64,
    /// Files that do not look like crate files.
    pub others: u64,
}

impl AddAssign for Imported {
    fn add_assign(&mut self, more: Imported) {
        let Imported { files, placed, bytes, held, left_out, others } = more;
        self.files += files;
        self.placed += placed;
        self.bytes += bytes;
        self.held += held;
        self.left_out += left_out;
        self.others += others;
    }
}

/// What became of the lines of the earlier tool's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// Downloads that are as they were logged.
    pub same: u64,
    /// Attempts that failed, and so left no file.
    pub failed_attempts: u64,
    /// Lines that are told to the [`Witness`].
    pub differences: u64,
}

impl AddAssign for Checked {
    fn add_assign(&mut self, more: Checked) {
        let Checked { same, failed_attempts, differences } = more;
        self.same += same;
        self.failed_attempts += failed_attempts;
        self.differences += differences;
    }
}

/// What an import has to do with.
pub struct Import<'a> {
    /// What wants the files.
    pub mirror: &'a Mirror,
    /// Its writer.
    pub writer: &'a Writer,
    /// The time of day.
    pub clock: &'a dyn Clock,
    /// The numbers.
    pub limits: ImportLimits,
    /// Who is told.
    pub witness: &'a dyn Witness,
    /// Who shows how far it is.
    pub gauge: &'a Gauge,
    /// Given when no further file is to be looked at.
    pub stop: &'a CancellationToken,
}

/// What all threads of an import use.
struct Shared<'a> {
    import: Import<'a>,
    root: &'a Path,
    spool: Spool,
    budget: Budget,
    /// Checksums of crate files that the writer was given and that are not durable yet: a folder may have a file twice.
    under_way: Mutex<HashSet<Sha256>>,
}

/// An import that runs.
pub struct Importing<'a> {
    shared: Shared<'a>,
    audit: AuditLog,
    imported: Imported,
    /// Crate files that the writer was given, oldest first.
    unsettled: VecDeque<Unsettled>,
    unsettled_files: usize,
    nameless: Vec<Nameless>,
    /// When, and the number of the generation that it made.
    published: (Instant, u64),
}

/// Crate files that the writer was given together.
struct Unsettled {
    files: Vec<(PathBuf, Release)>,
    /// Seconds since 1970.
    begun: u64,
    answer: Pending<Vec<Place>>,
}

impl<'a> Import<'a> {
    /// Begins an import from a folder, whose path is the real one, without links. `audit` gets a line for each crate file that
    /// is placed.
    pub fn from(self, root: &'a Path, audit: AuditLog) -> Result<Importing<'a>, ImportError> {
        let generation = self.mirror.ledger().reader()?.generation()?.map_or(0, |generation| generation.number);
        let (spool, budget) = (self.mirror.spool(), Budget::new(self.limits.body_bytes));
        Ok(Importing {
            shared: Shared { import: self, root, spool, budget, under_way: Mutex::default() },
            audit,
            imported: Imported::default(),
            unsettled: VecDeque::new(),
            unsettled_files: 0,
            nameless: Vec::new(),
            published: (Instant::now(), generation),
        })
    }
}

impl Shared<'_> {
    fn is_stopped(&self) -> bool {
        self.import.stop.is_cancelled()
    }

    /// Deals with some items on all threads of the pool.
    fn step<T: Send>(
        &self,
        items: Vec<T>,
        each: impl Fn(&mut Hands<'_>, T) -> Result<(), ImportError> + Sync,
    ) -> Result<Vec<Done>, ImportError> {
        let (reader, now) = (self.import.mirror.ledger().reader()?, self.import.clock.now());
        let share = |items: Vec<T>| {
            let mut hands = Hands::new(self, &reader, now);
            items.into_iter().take_while(|_| !self.is_stopped()).try_for_each(|item| each(&mut hands, item))?;
            Ok(hands.finish())
        };
        items.into_par_iter().chunks(self.import.limits.share).map(share).collect()
    }
}

impl Importing<'_> {
    /// Compares the folder with the earlier tool's log, and takes over what that names.
    pub fn check(&mut self, log: impl BufRead) -> Result<Checked, ImportError> {
        let (mut lines, locator) = (Lines::new(log), Locator::new(self.shared.root));
        let mut checked = Checked::default();
        while !self.shared.is_stopped() {
            let step = lines.take(self.shared.import.limits.step).map_err(ImportError::Manifest)?;
            if step.is_empty() {
                break;
            }
            let done = self.shared.step(step, |hands, (number, line)| hands.check(number, &line, &locator))?;
            done.iter().for_each(|done| checked += done.checked);
            self.take(done)?;
        }
        self.settle_all()?;
        Ok(checked)
    }

    /// Takes over all that lies in the folder.
    #[expect(
        clippy::redundant_closure_for_method_calls,
        reason = "the method itself is not general enough in its lifetimes"
    )]
    pub fn walk(&mut self) -> Result<(), ImportError> {
        let listing = |source| ImportError::Folder { path: self.shared.root.to_owned(), source };
        let mut walk = Walk::new(self.shared.root).map_err(listing)?;
        let placed_before = self.imported.placed;
        while !self.shared.is_stopped() {
            let step = walk.take(self.shared.import.limits.step);
            if step.is_empty() {
                break;
            }
            let done = self.shared.step(step, |hands, found| hands.found(found))?;
            self.take(done)?;
            if self.nameless.len() >= self.shared.import.limits.nameless {
                self.look_up_nameless()?;
            }
        }
        self.look_up_nameless()?;
        self.settle_all()?;
        // What was taken over because of the log was found again, and is held because of this import.
        self.imported.held = self.imported.held.saturating_sub(placed_before);
        Ok(())
    }

    /// Ends the import: publishes what is held.
    pub fn finish(mut self) -> Result<Imported, ImportError> {
        self.settle_all()?;
        self.publish()?;
        Ok(self.imported)
    }

    /// Looks for the checksums of files whose names tell nothing, in one pass over all that is known.
    #[expect(clippy::redundant_closure_for_method_calls, reason = "as above")]
    fn look_up_nameless(&mut self) -> Result<(), ImportError> {
        let nameless = std::mem::take(&mut self.nameless);
        if nameless.is_empty() || self.shared.is_stopped() {
            return Ok(());
        }
        self.settle_all()?; // what was just placed is held
        let mut named = hands::named(nameless, &self.shared.import.mirror.ledger().reader()?)?;
        while !named.is_empty() {
            let rest = named.split_off(named.len().min(self.shared.import.limits.step));
            let done = self.shared.step(std::mem::replace(&mut named, rest), |hands, named| hands.named(named))?;
            self.take(done)?;
        }
        Ok(())
    }

    /// Takes in what came of a step.
    fn take(&mut self, done: Vec<Done>) -> Result<(), ImportError> {
        for Done { imported, unsettled, nameless, .. } in done {
            self.imported += imported;
            self.unsettled_files += unsettled.iter().map(|unsettled| unsettled.files.len()).sum::<usize>();
            self.unsettled.extend(unsettled);
            self.nameless.extend(nameless);
        }
        while self.unsettled_files > self.shared.import.limits.unsettled {
            self.settle_oldest()?;
        }
        if self.published.0.elapsed() >= self.shared.import.limits.publish_every {
            self.settle_all()?;
            self.publish()?;
        }
        Ok(())
    }

    /// Waits until all that the writer was given is durable and known to the ledger.
    fn settle_all(&mut self) -> Result<(), ImportError> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        // Each batch has its own answer.
        drop(self.shared.import.writer.flush());
        while !self.unsettled.is_empty() {
            self.settle_oldest()?;
        }
        Ok(self.audit.flush()?)
    }

    fn settle_oldest(&mut self) -> Result<(), ImportError> {
        let Some(Unsettled { files, begun, answer }) = self.unsettled.pop_front() else { return Ok(()) };
        self.unsettled_files -= files.len();
        let places = wait(answer)?;
        let (started_at, finished_at) = (rfc3339(begun), rfc3339(self.shared.import.clock.now()));
        for ((path, release), place) in files.iter().zip(places) {
            self.imported.placed += 1;
            self.imported.bytes += place.length;
            let url = Url::from_file_path(path).map_or_else(|()| path.display().to_string(), String::from);
            self.audit.append(&AuditRecord {
                schema_version: 1,
                url: &url,
                path: format!("packs/{:06}.tar:{}", place.pack, place.offset),
                size: place.length,
                sha256: release.checksum.to_string(),
                started_at: started_at.clone(),
                finished_at: finished_at.clone(),
                ok: true,
                error: None,
                retries: 0,
                status: None,
                generation: self.published.1,
            })?;
        }
        let mut under_way = hands::locked(&self.shared.under_way);
        for (_, release) in &files {
            under_way.remove(&release.checksum);
        }
        Ok(())
    }

    /// Makes what is held the next generation. What left the index is left to a sync.
    fn publish(&mut self) -> Result<(), ImportError> {
        let Import { mirror, writer, clock, .. } = self.shared.import;
        if mirror.ledger().reader()?.dirty_after(None, 1)?.is_empty() {
            mirror.refresh_catalog()?;
        } else if let Some(made) = publish(mirror, writer, Shrink::Keep, clock.now())?.generation {
            self.published.1 = made.number;
        }
        self.published.0 = Instant::now();
        Ok(())
    }
}

//! One thread's part of a step: some files, each looked at, read if need be, and given to the writer or left out.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crateferry_store::{
    Batch, Body, CrateName, LedgerError, LedgerReader, Release, ReleaseId, Row, Sha256, Spool, State, VerifiedBytes,
    Version, parse_index_file,
};
use futures::executor::block_on;
use sha2::Digest as _;

use super::claim::{self, Claim};
use super::manifest::{self, Locator};
use super::walk::Found;
use super::{Checked, Difference, ImportError, Imported, LeftOut, Shared, Unsettled};
use crate::inventory::FileName;
use crate::net::Share;

/// Bytes of crate files that the writer is given together at most, but for the last of them.
const BATCH: u64 = 1 << 20;
/// Bytes that are read at a time of a file that is not kept in memory.
const PIECE: usize = 256 << 10;
/// What a spooled body holds of the budget.
const SPOOLED: u64 = (Spool::GATHERED + PIECE) as u64;
/// How every gzip file begins, and so every crate file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What came of some items.
#[derive(Default)]
pub(super) struct Done {
    /// What was placed is counted when it is settled.
    pub(super) imported: Imported,
    pub(super) checked: Checked,
    pub(super) unsettled: Vec<Unsettled>,
    pub(super) nameless: Vec<Nameless>,
}

/// A file whose name does not say which release it is.
pub(super) struct Nameless {
    path: PathBuf,
    digest: Sha256,
    /// Whether it is called a crate file.
    is_called_crate_file: bool,
}

/// The same, and what is known of a release with these bytes.
pub(super) struct Named {
    file: Nameless,
    known: Option<(Release, Row)>,
}

/// Finds releases by the checksums of files: one pass over all that is known.
pub(super) fn named(files: Vec<Nameless>, reader: &LedgerReader) -> Result<Vec<Named>, LedgerError> {
    let mut known: HashMap<Sha256, Option<(Release, Row)>> = files.iter().map(|file| (file.digest, None)).collect();
    reader.each_release(|release, row| {
        // The same bytes may be two releases, of which one is wanted.
        if let Some(found) = known.get_mut(&release.checksum)
            && found.as_ref().is_none_or(|(_, before)| rank(row.state) < rank(before.state))
        {
            *found = Some((release, row));
        }
        Ok(())
    })?;
    let name = |file: Nameless| Named { known: known.get(&file.digest).cloned().flatten(), file };
    Ok(files.into_iter().map(name).collect())
}

fn rank(state: State) -> u8 {
    match state {
        State::Wanted | State::Refused => 0,
        State::Stored => 1,
        State::Withdrawn | State::Excluded => 2,
    }
}

fn is_wanted(row: &Row) -> bool {
    matches!(row.state, State::Wanted | State::Refused)
}

fn not_wanted(state: State) -> LeftOut {
    LeftOut::NotWanted(if state == State::Withdrawn { "it was withdrawn" } else { "it is left out for good" })
}

/// The set behind a lock: what was inserted stays right, whatever became of who held it.
pub(super) fn locked(set: &Mutex<HashSet<Sha256>>) -> MutexGuard<'_, HashSet<Sha256>> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of reading a file.
enum Content {
    Body(Body),
    Refused(LeftOut),
    /// There was no time for all of it.
    Stopped,
}

pub(super) struct Hands<'a> {
    shared: &'a Shared<'a>,
    reader: &'a LedgerReader,
    now: u64,
    batch: Batch,
    files: Vec<(PathBuf, Release)>,
    bytes: u64,
    /// The crate whose index file was read last, and its rows: version, is yanked.
    index_file: Option<(CrateName, Option<HashMap<Version, bool>>)>,
    piece: Vec<u8>,
    done: Done,
}

impl<'a> Hands<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, reader: &'a LedgerReader, now: u64) -> Self {
        Hands {
            shared,
            reader,
            now,
            batch: Batch::default(),
            files: Vec::new(),
            bytes: 0,
            index_file: None,
            piece: Vec::new(),
            done: Done::default(),
        }
    }

    /// Gives the writer what it has not been given yet.
    pub(super) fn finish(mut self) -> Done {
        self.submit();
        self.done
    }

    /// Deals with what a walk found.
    pub(super) fn found(&mut self, found: Found) -> Result<(), ImportError> {
        self.done.imported.files += 1;
        self.shared.import.gauge.files.fetch_add(1, Ordering::Relaxed);
        match found {
            Found::Unread(path, reason) => self.left_out(&path, reason),
            Found::Link(path) if claim::read(&path) == Claim::Nothing => self.done.imported.others += 1,
            Found::Link(path) => self.left_out(&path, LeftOut::Link),
            Found::File(path) => match claim::read(&path) {
                Claim::Releases(ids) => self.claimed(path, &ids)?,
                Claim::CrateFile => self.nameless(path, true),
                Claim::Nothing => self.nameless(path, false),
            },
        }
        Ok(())
    }

    /// Deals with a file whose release is known by its checksum alone, if it is known at all.
    pub(super) fn named(&mut self, named: Named) -> Result<(), ImportError> {
        let Named { file, known } = named;
        match known {
            Some((release, row)) if is_wanted(&row) => self.place(file.path, &[(release, row)])?,
            Some((_, row)) if row.state == State::Stored => self.done.imported.held += 1,
            Some((_, row)) => self.left_out(&file.path, not_wanted(row.state)),
            None if file.is_called_crate_file => {
                self.left_out(&file.path, LeftOut::Unknown("no release in the index has these bytes"));
            }
            None => self.done.imported.others += 1,
        }
        Ok(())
    }

    /// Compares a file with a line of the earlier tool's log, and takes it over if it is wanted.
    pub(super) fn check(&mut self, number: u64, line: &[u8], locator: &Locator) -> Result<(), ImportError> {
        let logged = match manifest::parse(line) {
            Ok(Some(logged)) => logged,
            Ok(None) => {
                self.done.checked.failed_attempts += 1;
                return Ok(());
            }
            Err(malformed) => {
                self.differs(number, malformed.into());
                return Ok(());
            }
        };
        let Some(file) = locator.locate(&logged.path) else {
            self.differs(number, Difference::Missing { path: logged.path });
            return Ok(());
        };
        let body = match self.read(&file)? {
            Content::Body(body) => body,
            Content::Refused(problem) => {
                self.differs(number, Difference::Unread { path: logged.path, problem });
                return Ok(());
            }
            Content::Stopped => return Ok(()),
        };
        let (size, sha256) = (body.length(), body.computed());
        if size != logged.size {
            self.differs(number, Difference::Size { path: logged.path, logged: logged.size, found: size });
        } else if sha256 != logged.sha256 {
            self.differs(number, Difference::Sha256 { path: logged.path, logged: logged.sha256, found: sha256 });
        } else {
            self.done.checked.same += 1;
        }
        self.place_if_wanted(file, body)
    }

    fn place_if_wanted(&mut self, file: PathBuf, body: Body) -> Result<(), ImportError> {
        let Claim::Releases(ids) = claim::read(&file) else { return Ok(()) };
        for id in ids {
            let known = self.reader.releases_at(&id)?;
            let wanted = known.into_iter().find(|(known, row)| known.checksum == body.computed() && is_wanted(row));
            if let Some((release, _)) = wanted {
                // It was just looked at; what does not match is the walk's to tell of.
                if let Ok(bytes) = body.prove(release.checksum) {
                    self.give(file, release, bytes);
                }
                return Ok(());
            }
        }
        Ok(())
    }

    fn claimed(&mut self, path: PathBuf, ids: &[ReleaseId]) -> Result<(), ImportError> {
        for id in ids {
            let known = self.reader.releases_at(id)?;
            if known.iter().any(|(_, row)| is_wanted(row)) {
                return self.place(path, &known);
            }
            if let Some((_, row)) = known.first() {
                let held: Vec<u64> = known.iter().filter_map(|(_, row)| stored_length(row)).collect();
                if held.is_empty() {
                    self.left_out(&path, not_wanted(row.state));
                } else {
                    self.compare_length(&path, &held);
                }
                return Ok(());
            }
        }
        let reason = self.why_unknown(ids)?;
        self.left_out(&path, reason);
        Ok(())
    }

    /// What is held is not read again, but a file of another length is another file.
    fn compare_length(&mut self, path: &Path, held: &[u64]) {
        match path.symlink_metadata() {
            Ok(metadata) if held.contains(&metadata.len()) => self.done.imported.held += 1,
            Ok(metadata) => self.left_out(path, LeftOut::OtherLength { found: metadata.len(), held: held[0] }),
            Err(error) => self.left_out(path, LeftOut::refused("look at")(error)),
        }
    }

    /// Reads a file and takes it over if it is one of these releases and wanted.
    fn place(&mut self, path: PathBuf, known: &[(Release, Row)]) -> Result<(), ImportError> {
        let body = match self.read(&path)? {
            Content::Body(body) => body,
            Content::Refused(reason) => {
                self.left_out(&path, reason);
                return Ok(());
            }
            Content::Stopped => return Ok(()),
        };
        let found = body.computed();
        let Some((release, row)) = known.iter().find(|(release, _)| release.checksum == found) else {
            let wanted = known.iter().find(|(_, row)| is_wanted(row)).or(known.first());
            if let Some((release, _)) = wanted {
                self.left_out(
                    &path,
                    LeftOut::OtherBytes { release: Box::new(release.clone()), promised: release.checksum, found },
                );
            }
            return Ok(());
        };
        match body.prove(release.checksum) {
            Ok(bytes) if is_wanted(row) => {
                let is_first = self.give(path, release.clone(), bytes);
                self.done.imported.held += u64::from(!is_first); // by now, or soon
            }
            Ok(_) if row.state == State::Stored => self.done.imported.held += 1,
            Ok(_) | Err(_) => self.left_out(&path, not_wanted(row.state)),
        }
        Ok(())
    }

    /// Gives the writer a crate file, unless it has been given the same bytes; says whether it did.
    fn give(&mut self, path: PathBuf, release: Release, bytes: VerifiedBytes) -> bool {
        if !locked(&self.shared.under_way).insert(release.checksum) {
            return false;
        }
        self.shared.import.gauge.placed.fetch_add(1, Ordering::Relaxed);
        self.bytes += bytes.length();
        self.batch.add_crate(&release, bytes);
        self.files.push((path, release));
        if self.bytes >= BATCH {
            self.submit();
        }
        true
    }

    fn submit(&mut self) {
        if self.files.is_empty() {
            return;
        }
        let answer = self.shared.import.writer.submit(std::mem::take(&mut self.batch));
        let files = std::mem::take(&mut self.files);
        self.done.unsettled.push(Unsettled { files, begun: self.now, answer });
        self.bytes = 0;
    }

    /// Why the ledger has no row for a release.
    fn why_unknown(&mut self, ids: &[ReleaseId]) -> Result<LeftOut, LedgerError> {
        let mut why = LeftOut::Unknown("the mirror's index has no such crate");
        for id in ids {
            let Some(versions) = self.versions(&id.name)? else { continue };
            match versions.get(&id.version) {
                Some(true) => {
                    return Ok(LeftOut::NotWanted("it is yanked, and its selection takes no yanked releases"));
                }
                Some(false) => return Ok(LeftOut::NotWanted("its selection leaves it out")),
                None => why = LeftOut::Unknown("the index has the crate, and no such version of it"),
            }
        }
        Ok(why)
    }

    /// The versions that the index has of a crate, and whether they are yanked.
    fn versions(&mut self, name: &CrateName) -> Result<Option<&HashMap<Version, bool>>, LedgerError> {
        let name = name.lower();
        if self.index_file.as_ref().is_none_or(|(known, _)| *known != name) {
            let versions = self.read_versions(&name)?;
            self.index_file = Some((name, versions));
        }
        Ok(self.index_file.as_ref().and_then(|(_, versions)| versions.as_ref()))
    }

    fn read_versions(&self, name: &CrateName) -> Result<Option<HashMap<Version, bool>>, LedgerError> {
        let Some((_, text)) = self.reader.path(name)?.and_then(|row| row.upstream) else { return Ok(None) };
        let text = match self.shared.import.mirror.packs().text(text.place, text.digests.blake3) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(error = crate::error_chain(&error), "cannot read the index file of crate {name}");
                return Ok(None);
            }
        };
        let entries = parse_index_file(name, &text).entries;
        Ok(Some(entries.into_iter().map(|entry| (entry.version, entry.yanked)).collect()))
    }

    /// Hashes a file whose name does not tell its release, if it can be a crate file.
    fn nameless(&mut self, path: PathBuf, is_called_crate_file: bool) {
        match self.hash_if_crate_file(&path, is_called_crate_file) {
            Ok(Some(digest)) => self.done.nameless.push(Nameless { path, digest, is_called_crate_file }),
            Ok(None) => self.done.imported.others += 1,
            Err(reason) => self.left_out(&path, reason),
        }
    }

    fn hash_if_crate_file(&mut self, path: &Path, is_called_crate_file: bool) -> Result<Option<Sha256>, LeftOut> {
        let mut file = File::open(path).map_err(LeftOut::refused("open"))?;
        self.piece.resize(PIECE, 0);
        let mut read = fill(&mut file, &mut self.piece[..GZIP.len()]).map_err(LeftOut::refused("read"))?;
        let size = file.metadata().map_err(LeftOut::refused("look at"))?.len();
        if !is_called_crate_file && (self.piece[..read] != GZIP || size > self.shared.import.limits.largest) {
            return Ok(None);
        }
        if size > self.shared.import.limits.largest {
            return Err(LeftOut::TooLarge(size));
        }
        let mut hasher = sha2::Sha256::new();
        while read > 0 && !self.shared.is_stopped() {
            hasher.update(&self.piece[..read]);
            self.shared.import.gauge.bytes.fetch_add(read as u64, Ordering::Relaxed);
            read = fill(&mut file, &mut self.piece).map_err(LeftOut::refused("read"))?;
        }
        Ok(Some(Sha256(hasher.finalize().into())))
    }

    fn read(&mut self, path: &Path) -> Result<Content, ImportError> {
        let (mut file, size) = match open(path) {
            Ok((_, size)) if size > self.shared.import.limits.largest => {
                return Ok(Content::Refused(LeftOut::TooLarge(size)));
            }
            Ok(opened) => opened,
            Err(reason) => return Ok(Content::Refused(reason)),
        };
        if size > self.shared.import.limits.in_memory {
            return self.read_into_spool(&mut file);
        }
        let share = self.share(size);
        let mut bytes = vec![0; size as usize];
        match fill(&mut file, &mut bytes) {
            Ok(read) => bytes.truncate(read),
            Err(error) => return Ok(Content::Refused(LeftOut::refused("read")(error))),
        }
        self.shared.import.gauge.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Ok(Content::Body(Body::in_memory(bytes, Some(Box::new(share)))))
    }

    fn read_into_spool(&mut self, file: &mut File) -> Result<Content, ImportError> {
        let share = self.share(SPOOLED);
        let mut body = self.shared.spool.begin()?;
        self.piece.resize(PIECE, 0);
        loop {
            if self.shared.is_stopped() {
                return Ok(Content::Stopped);
            }
            let read = match fill(file, &mut self.piece) {
                Ok(0) => return Ok(Content::Body(body.finish(Some(Box::new(share))))),
                Ok(read) => read,
                Err(error) => return Ok(Content::Refused(LeftOut::refused("read")(error))),
            };
            self.shared.import.gauge.bytes.fetch_add(read as u64, Ordering::Relaxed);
            body.push(&self.piece[..read])?;
            if body.length() > self.shared.import.limits.largest {
                return Ok(Content::Refused(LeftOut::TooLarge(body.length()))); // it grows
            }
        }
    }

    /// Room in memory. The writer gives back what it was given, so whoever waits must hold nothing that it was not given.
    fn share(&mut self, bytes: u64) -> Share {
        let budget = &self.shared.budget;
        if let Some(share) = budget.try_share(bytes) {
            return share;
        }
        self.submit();
        block_on(budget.share(bytes))
    }

    fn left_out(&mut self, path: &Path, reason: LeftOut) {
        self.done.imported.left_out += 1;
        let below = path.strip_prefix(self.shared.root).unwrap_or(path);
        self.shared.import.witness.left_out(FileName::new(below.as_os_str().as_encoded_bytes()), reason);
    }

    fn differs(&mut self, line: u64, difference: Difference) {
        self.done.checked.differences += 1;
        self.shared.import.witness.differs(line, difference);
    }
}

fn stored_length(row: &Row) -> Option<u64> {
    row.place.filter(|_| row.state == State::Stored).map(|place| place.length)
}

fn open(path: &Path) -> Result<(File, u64), LeftOut> {
    let file = File::open(path).map_err(LeftOut::refused("open"))?;
    let size = file.metadata().map_err(LeftOut::refused("look at"))?.len();
    Ok((file, size))
}

/// Fills the buffer, unless the file ends before.
fn fill(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

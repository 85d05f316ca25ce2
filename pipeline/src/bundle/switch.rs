//! One switch: from what is served to what a bundle leads to.

use std::collections::HashSet;

use crateferry_store::bundle::{Carried, Document, Inbox, InboxError, Line, Manifest};
use crateferry_store::{
    AdvisoryDb, Batch, CrateName, Event, Generation, LedgerError, LedgerReader, Mirror, PackReader, Pending, Place,
    ReadError, Release, ReleaseId, ReleaseRef, State, Text, WriteError, Writer, parse_index_file, wait,
};

/// Index files that are staged in one group, at least.
const STEP: usize = 1024;

/// The longest that events wait for their answer.
const UNSETTLED: usize = 64;

/// Names of releases that are told when many are missing.
const LISTED: usize = 1000;

/// A switch that was not made. What is served is as before.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The ledger cannot be read.
    #[error("cannot read what is known")]
    Ledger(#[from] LedgerError),
    /// What is known of the bundle cannot be read.
    #[error(transparent)]
    Inbox(#[from] InboxError),
    /// An index file of the bundle cannot be read from the packs.
    #[error("cannot read the index file of {name}")]
    Read {
        /// Whose.
        name: CrateName,
        /// Why.
        source: ReadError,
    },
    /// It cannot be recorded, or makes another generation.
    #[error("cannot publish what the bundle leads to")]
    Write(#[from] WriteError),
    /// Crate files or index files of the bundle are not held after all.
    #[error("{} objects of the bundle are not held, such as {}; apply it again", .0.len(), .0.first().map_or("none", |id| id))]
    Lacking(Vec<String>),
}

/// Makes a mirror serve what a bundle leads to, all of whose volumes were taken in and which applies.
pub fn switch(mirror: &Mirror, writer: &Writer, inbox: &Inbox, manifest: &Manifest) -> Result<Generation, SwitchError> {
    let ledger = mirror.ledger().reader()?;
    let mut stage = Stage { writer, batch: Batch::default(), pending: Vec::new() };
    if ledger.has_staged()? {
        stage.add(Event::Unstaged)?;
    }
    let mut all = All {
        ledger: &ledger,
        packs: mirror.packs(),
        named: HashSet::new(),
        holes: HashSet::new(),
        lacking: Vec::new(),
    };
    for number in 1..=manifest.volumes.len() as u32 {
        for line in inbox.lines(number)? {
            let line = line.map_err(|source| InboxError::Contents { number, source })?;
            all.line(line, manifest.from.is_none(), &mut stage)?;
        }
    }
    if !all.lacking.is_empty() {
        return Err(SwitchError::Lacking(all.lacking));
    }
    all.leave(manifest.from.is_none(), &mut stage)?;
    stage.finish()?;
    let (id, through) = (manifest.bundle.to_string(), manifest.through.clone());
    wait(writer.adopt(manifest.to.clone(), id, through))?;
    mirror.refresh_catalog()?;
    Ok(manifest.to.clone())
}

/// Events on their way to the writer.
struct Stage<'a> {
    writer: &'a Writer,
    batch: Batch,
    pending: Vec<Pending<Vec<Place>>>,
}

impl Stage<'_> {
    fn add(&mut self, event: Event) -> Result<(), WriteError> {
        self.batch.add(event);
        if self.batch.len() >= STEP {
            self.submit()?;
        }
        Ok(())
    }

    fn submit(&mut self) -> Result<(), WriteError> {
        self.pending.push(self.writer.submit(std::mem::take(&mut self.batch)));
        if self.pending.len() >= UNSETTLED {
            self.pending.drain(..).try_for_each(|answer| wait(answer).map(drop))?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), WriteError> {
        self.submit()?;
        wait(self.writer.flush())?;
        self.pending.drain(..).try_for_each(|answer| wait(answer).map(drop))
    }
}

/// What the bundle says, as it is read.
struct All<'a> {
    ledger: &'a LedgerReader,
    packs: &'a PackReader,
    /// The index files of a full bundle.
    named: HashSet<CrateName>,
    holes: HashSet<Release>,
    lacking: Vec<String>,
}

impl All<'_> {
    fn line(&mut self, line: Line, is_full: bool, stage: &mut Stage) -> Result<(), SwitchError> {
        match line {
            Line::Frame { crates, .. } => {
                for Carried(name, version, checksum, _) in crates {
                    self.hold(&Release { id: ReleaseId { name, version }, checksum })?;
                }
            }
            Line::Crate { release, .. } => self.hold(&release.into())?,
            Line::Advisories { database, .. } => self.advisories(&database)?,
            Line::Texts { texts, .. } => {
                for document in texts {
                    let served = self.ledger.path(&document.name)?.and_then(|row| row.served);
                    match self.ledger.arrived(&document.text.sha256)? {
                        Some(place) => self.rows(&document, place, served.as_ref(), stage)?,
                        None if served.is_some_and(|text| text.digests == document.text) => {}
                        None => {
                            self.lacks(format!("the index file of {}", document.name));
                            continue;
                        }
                    }
                    if is_full {
                        self.named.insert(document.name.clone());
                    }
                    let (name, text) = (document.name, Some(document.text));
                    stage.add(Event::Staged { name, text, rows: document.rows, seen: u64::MAX })?;
                }
            }
            Line::Removed { name } => stage.add(Event::Staged { name, text: None, rows: 0, seen: u64::MAX })?,
            Line::Withdrawn { release, at, cause } => {
                if cause.by_operator || self.row(&release)? != Some(State::Withdrawn) {
                    stage.add(Event::Withdrawn { release, at, cause })?;
                }
            }
            Line::Hole { release, reason, refused, at } => self.hole(release, reason, (refused, at), stage)?,
            Line::Volume { .. } | Line::Facts { .. } => {}
        }
        Ok(())
    }

    /// Each row that comes new has its crate file here: who signed a bundle may be wrong, or mean harm.
    fn rows(
        &mut self,
        document: &Document,
        place: Place,
        served: Option<&Text>,
        stage: &mut Stage,
    ) -> Result<(), SwitchError> {
        let name = &document.name;
        let failed = |source| SwitchError::Read { name: name.clone(), source };
        let text = self.packs.text(place, document.text.blake3).map_err(failed)?;
        let file = parse_index_file(name, &text);
        for bad in &file.bad {
            self.lacks(format!(
                "line {} of the index file of {name}, which cannot be used: {}",
                bad.number, bad.problem
            ));
        }
        if file.entries.len() as u64 != document.rows {
            self.lacks(format!("the index file of {name} with {} rows", document.rows));
        }
        let before = served.map(|text| self.packs.text(text.place, text.digests.blake3)).transpose().map_err(failed)?;
        let before = before.unwrap_or_default();
        let before = parse_index_file(name, &before).entries.into_iter().map(|row| (row.version, row.checksum));
        let known = self.ledger.releases_of(name)?;
        let withdrawn: HashSet<_> = known
            .iter()
            .filter(|(_, row)| row.state == State::Withdrawn)
            .map(|(release, _)| (release.id.version.clone(), release.checksum))
            .collect();
        let known = known.into_iter().filter(|(_, row)| row.place.is_some());
        let known: HashSet<_> =
            known.map(|(release, _)| (release.id.version, release.checksum)).chain(before).collect();
        for row in file.entries {
            if withdrawn.contains(&(row.version.clone(), row.checksum)) {
                let (name, version, checksum) = (row.name.clone(), row.version.clone(), row.checksum);
                stage.add(Event::Back { release: ReleaseRef { name, version, checksum } })?;
            }
            if !known.contains(&(row.version.clone(), row.checksum)) {
                self.lacks(ReleaseId { name: row.name, version: row.version }.to_string());
            }
        }
        Ok(())
    }

    fn advisories(&mut self, database: &AdvisoryDb) -> Result<(), SwitchError> {
        if self.ledger.advisories(&database.sha256)?.is_none() {
            self.lacks(format!("the advisory database of commit {}", database.commit));
        }
        Ok(())
    }

    fn row(&self, release: &ReleaseRef) -> Result<Option<State>, LedgerError> {
        let release = Release::from(release.clone());
        let rows = self.ledger.releases_at(&release.id)?;
        Ok(rows.into_iter().find(|(known, _)| known.checksum == release.checksum).map(|(_, row)| row.state))
    }

    fn hold(&mut self, release: &Release) -> Result<(), LedgerError> {
        let rows = self.ledger.releases_at(&release.id)?;
        if !rows.iter().any(|(known, row)| known.checksum == release.checksum && row.place.is_some()) {
            self.lacks(release.id.to_string());
        }
        Ok(())
    }

    fn lacks(&mut self, what: String) {
        if self.lacking.len() < LISTED {
            self.lacking.push(what);
        }
    }

    /// What the origin lacks, this mirror lacks for the same reason.
    fn hole(
        &mut self,
        release: ReleaseRef,
        reason: String,
        (refused, at): (bool, u64),
        stage: &mut Stage,
    ) -> Result<(), SwitchError> {
        self.holes.insert(release.clone().into());
        let known = self.row(&release)?;
        if known.is_none() {
            let ReleaseRef { name, version, checksum } = release.clone();
            stage.add(Event::Wanted { name, releases: vec![(version, checksum)], at })?;
        }
        match known {
            Some(State::Stored | State::Excluded | State::Refused) => {}
            _ if refused => stage.add(Event::Refused { release, reason, at })?,
            Some(State::Wanted) => {}
            _ => stage.add(Event::Tried { release, reason, at, due: u64::MAX })?,
        }
        Ok(())
    }

    /// What leaves: holes that the origin has no more, and with a full bundle the index files that it does not name.
    fn leave(&self, is_full: bool, stage: &mut Stage) -> Result<(), SwitchError> {
        for (release, row) in self.ledger.holes()? {
            if !self.holes.contains(&release) {
                stage.add(Event::Gone { release: release.into(), at: row.last })?;
            }
        }
        if !is_full {
            return Ok(());
        }
        let mut after = None;
        loop {
            let served = self.ledger.served_after(after.as_ref(), STEP)?;
            let Some((last, _)) = served.last() else { break };
            after = Some(last.clone());
            for (name, _) in served.into_iter().filter(|(name, _)| !self.named.contains(name)) {
                stage.add(Event::Staged { name, text: None, rows: 0, seen: u64::MAX })?;
            }
        }
        Ok(())
    }
}

//! Taking a volume into a mirror.

use std::collections::VecDeque;
use std::io::Read;
use std::pin::Pin;

use crateferry_store::bundle::{Document, Inbox, InboxError, Line, Manifest, VolumeReader};
use crateferry_store::{
    AdvisoryDb, Batch, Blake3, BodyBuilder, BodyError, Event, Facts, LedgerError, Mirror, Pending, Place, Release,
    Spool, VerifiedBytes, WriteError, Writer, wait,
};

use super::unpack::{Receiver, TakeError, Taken, Unpacking};
use crate::reflate::take_apart;

/// Crate files up to here are kept in memory on their way, larger ones in a file.
const IN_MEMORY: u64 = 4 << 20;

/// Answers of the writer that are waited for at once, and bytes of what it was given: a group that it makes durable, and half a
/// further one.
const UNSETTLED: usize = 4096;
const UNSETTLED_BYTES: u64 = 96 << 20;

/// What takes volumes in.
pub struct Taking<'a> {
    /// The mirror.
    pub mirror: &'a Mirror,
    /// Its writer.
    pub writer: &'a Writer,
    /// What is known of the bundle.
    pub inbox: &'a Inbox,
    /// How many bytes of bundles may wait in the mirror until others are applied.
    pub incoming: u64,
    /// Whether what the bundle leads to is served already, so that only its crate files count.
    pub again: bool,
    /// How volumes are read.
    pub unpacking: Unpacking<'a>,
}

impl<'a> Taking<'a> {
    /// Takes a volume in. When it returns, all that was taken is durable.
    pub fn volume<R: Read>(&self, volume: VolumeReader<R>) -> Result<Taken, TakeError> {
        let mut storing = self.storing();
        let taken = self.unpacking.volume(volume, &mut storing);
        storing.settle(0)?;
        taken
    }

    /// Takes in the frames of the bundle that were put aside, as far as what they build upon is there now.
    pub fn what_waited(&self, manifest: &Manifest) -> Result<Taken, TakeError> {
        let (mut taken, mut storing) = (Taken::default(), self.storing());
        for number in 1..=manifest.volumes.len() as u32 {
            for line in self.inbox.lines(number)? {
                let line = line.map_err(|source| InboxError::Contents { number, source })?;
                let frame = match &line {
                    Line::Frame { blake3, base: Some(_), .. } => self.inbox.frame(*blake3)?,
                    _ => None,
                };
                if let Some(frame) = frame {
                    taken.add(self.unpacking.frame(&line, &frame, &mut storing)?);
                }
            }
        }
        storing.settle(0)?;
        Ok(taken)
    }

    fn storing(&self) -> Storing<'a> {
        let (inbox, spool) = (self.inbox, self.mirror.spool());
        let (incoming, again, waiting, pending) = (self.incoming, self.again, None, VecDeque::new());
        Storing { mirror: self.mirror, writer: self.writer, inbox, incoming, again, waiting, spool, pending, bytes: 0 }
    }
}

enum Answer {
    Crate(Pin<Box<dyn Future<Output = Result<Place, WriteError>> + Send>>),
    Batch(Pending<Vec<Place>>),
}

/// Gives objects to the writer.
struct Storing<'a> {
    mirror: &'a Mirror,
    writer: &'a Writer,
    inbox: &'a Inbox,
    /// How many bytes may wait, and how many do, once that was counted.
    incoming: u64,
    waiting: Option<u64>,
    again: bool,
    spool: Spool,
    /// What it has not answered yet, and how many bytes it was given with it.
    pending: VecDeque<(Answer, u64)>,
    bytes: u64,
}

impl Storing<'_> {
    /// Waits for the writer until so many answers are left.
    fn settle(&mut self, left: usize) -> Result<(), TakeError> {
        if left == 0 && !self.pending.is_empty() {
            wait(self.writer.flush())?;
        }
        while self.pending.len() > left || self.bytes > UNSETTLED_BYTES {
            let Some((answer, bytes)) = self.pending.pop_front() else { break };
            match answer {
                Answer::Crate(pending) => drop(futures::executor::block_on(pending)?),
                Answer::Batch(pending) => drop(wait(pending)?),
            }
            self.bytes -= bytes;
        }
        Ok(())
    }

    fn wait_for(&mut self, answer: Answer, bytes: u64) -> Result<(), TakeError> {
        self.pending.push_back((answer, bytes));
        self.bytes += bytes;
        self.settle(UNSETTLED)
    }

    fn place_of(&self, release: &Release) -> Result<Option<Place>, LedgerError> {
        let rows = self.mirror.ledger().reader()?.releases_at(&release.id)?;
        Ok(rows.into_iter().find(|(known, _)| known.checksum == release.checksum).and_then(|(_, row)| row.place))
    }
}

impl Receiver for Storing<'_> {
    fn holds(&mut self, release: &Release) -> Result<bool, TakeError> {
        Ok(self.place_of(release)?.is_some())
    }

    fn base(&mut self, release: &Release) -> Result<Option<Vec<u8>>, TakeError> {
        if self.place_of(release)?.is_none() {
            self.settle(0)?; // it may be on its way
        }
        let Some(place) = self.place_of(release)? else { return Ok(None) };
        self.mirror.packs().prove(place, release.checksum)?;
        Ok(Some(take_apart(&self.mirror.packs().read(place)?).content))
    }

    fn put_aside(&mut self, blake3: Blake3, frame: &[u8]) -> Result<bool, TakeError> {
        let waiting = self.waiting.map_or_else(|| Inbox::occupied(self.mirror.layout()), Ok)?;
        let more = if self.inbox.has_frame(blake3) { 0 } else { frame.len() as u64 };
        let fits = waiting + more <= self.incoming;
        if fits {
            self.inbox.keep_frame(blake3, frame)?;
        }
        self.waiting = Some(if fits { waiting + more } else { waiting });
        Ok(fits)
    }

    fn begin(&mut self, length: u64) -> Result<BodyBuilder, BodyError> {
        if length <= IN_MEMORY { Ok(BodyBuilder::in_memory(length as usize)) } else { self.spool.begin() }
    }

    fn crate_file(&mut self, release: &Release, bytes: VerifiedBytes) -> Result<(), TakeError> {
        let length = bytes.length();
        let pending = self.writer.store(release, bytes, None);
        self.wait_for(Answer::Crate(Box::pin(pending)), length)
    }

    fn text(&mut self, document: &Document, text: &[u8]) -> Result<(), TakeError> {
        if self.again || self.mirror.ledger().reader()?.has_arrived(&document.text.sha256)? {
            return Ok(());
        }
        let mut batch = Batch::default();
        let length = text.len() as u64;
        let text = batch.add_text(text);
        batch.add(Event::Arrived { text });
        let pending = self.writer.submit(batch);
        self.wait_for(Answer::Batch(pending), length)
    }

    fn facts(&mut self, release: &Release, facts: &Facts) -> Result<(), TakeError> {
        if self.place_of(release)?.is_none() {
            self.settle(0)?;
        }
        if self.mirror.ledger().reader()?.facts(release)?.is_some() || self.place_of(release)?.is_none() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.add_facts(release, facts);
        let pending = self.writer.submit(batch);
        self.wait_for(Answer::Batch(pending), 0)
    }

    fn advisories(&mut self, database: &AdvisoryDb, archive: Vec<u8>) -> Result<(), TakeError> {
        if self.mirror.ledger().reader()?.advisories(&database.sha256)?.is_some() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.add_advisories(archive, database.clone());
        let pending = self.writer.submit(batch);
        self.wait_for(Answer::Batch(pending), 0)
    }
}

//! The one writer of a mirror: group commit on two threads.
//!
//! The *appender* takes requests, appends their objects to the open pack and ends a group when it is large or old
//! enough. The *syncer* makes a group durable and then applies its record to the ledger; only then are the group's
//! requests answered. While it syncs group n, group n + 1 is appended. Order on the disk: members, record, fdatasync,
//! ledger. A failed sync is final: the kernel may have dropped the pages, so nothing is retried and the writer stops.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use futures::channel::oneshot;

use crate::Place;
use crate::body::{Bytes, VerifiedBytes};
use crate::disk::Disk;
use crate::facts::Facts;
use crate::id::{Release, Sha256};
use crate::layout::Layout;
use crate::ledger::{Applied, Chain, Ledger, LedgerError, Publication};
use crate::limits::StoreLimits;
use crate::pack::{
    AdvisoryDb, AppendError, Closed, Event, Generation, Header, MemberName, PackWriter, Point, TextRef, pack_text,
};

/// Why something was not stored. Once it happened, every later request gets the same answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The pack could not be written.
    #[error(transparent)]
    Append(Arc<AppendError>),
    /// The pack could not be made durable.
    #[error("cannot make {} durable; what was not acknowledged will be fetched again", path.display())]
    Sync {
        /// The pack or its folder.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The ledger did not take the record.
    #[error("cannot commit to the ledger")]
    Ledger(#[source] Arc<LedgerError>),
    /// The writer ended before it came to this.
    #[error("the writer has stopped")]
    Stopped,
}

/// The answer to a request: where its objects lie, once they are durable and known to the ledger.
pub type Pending<T> = oneshot::Receiver<Result<T, WriteError>>;

/// What a group is made of.
#[derive(Debug, Default)]
pub struct Batch {
    objects: Vec<(MemberName, Sha256, Bytes)>,
    events: Vec<Event>,
}

impl Batch {
    /// Adds a crate file.
    pub fn add_crate(&mut self, release: &Release, bytes: VerifiedBytes) {
        let digest = bytes.digest();
        self.objects.push((MemberName::Crate(release.id.clone()), digest, bytes.into_bytes()));
    }

    /// Adds the facts of a crate file.
    fn add_facts_of(&mut self, checksum: Sha256, facts: &Facts) {
        let (text, name) = (facts.to_text(), MemberName::Facts { sha256: checksum, complete: facts.complete });
        self.objects.push((name, Sha256::of(&text), Bytes::own(text)));
    }

    /// Adds the facts of a release whose crate file is held.
    pub fn add_facts(&mut self, release: &Release, facts: &Facts) {
        self.add_facts_of(release.checksum, facts);
        self.events.push(Event::Described { release: release.clone().into() });
    }

    /// Adds an index text and says how to refer to it.
    pub fn add_text(&mut self, text: &[u8]) -> TextRef {
        let reference = TextRef { sha256: Sha256::of(text), blake3: crate::Blake3::of(text) };
        let packed = pack_text(text);
        self.objects.push((MemberName::Index(reference.sha256), Sha256::of(&packed), Bytes::own(packed)));
        reference
    }

    /// Adds an archive of an advisory database, for the next generation to have.
    pub fn add_advisories(&mut self, archive: Vec<u8>, database: AdvisoryDb) {
        self.objects.push((MemberName::Advisories(database.sha256), Sha256::of(&archive), Bytes::own(archive)));
        self.events.push(Event::Advisories { database });
    }

    /// Adds a change of state.
    pub fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Nothing was added.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.events.is_empty()
    }

    /// How many objects and events it holds.
    pub fn len(&self) -> usize {
        self.objects.len() + self.events.len()
    }
}

enum Request {
    Batch {
        batch: Batch,
        done: oneshot::Sender<Result<Vec<Place>, WriteError>>,
    },
    Flush {
        done: oneshot::Sender<Result<(), WriteError>>,
    },
    Publish {
        at: u64,
        done: oneshot::Sender<Result<Option<Generation>, WriteError>>,
    },
    Adopt {
        generation: Box<Generation>,
        bundle: String,
        through: Vec<Point>,
        done: oneshot::Sender<Result<(), WriteError>>,
    },
}

/// How much work the writer has done.
#[derive(Debug, Default)]
pub struct Work {
    /// Groups closed.
    pub groups: AtomicU64,
    /// Objects appended.
    pub objects: AtomicU64,
    /// Times a pack was made durable.
    pub syncs: AtomicU64,
    /// Transactions of the ledger.
    pub commits: AtomicU64,
}

/// A handle to the writer. Dropping the last one closes the open group and waits for it.
#[derive(Debug)]
pub struct Writer {
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    work: Arc<Work>,
}

/// What the writer needs to begin.
pub(crate) struct Start {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) layout: Layout,
    pub(crate) limits: StoreLimits,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) mirror: String,
    pub(crate) chain: Chain,
    /// The open pack, if there is one, and where it ends.
    pub(crate) open_pack: Option<(u32, u64)>,
    pub(crate) next_pack: u32,
}

impl Writer {
    pub(crate) fn start(start: Start) -> io::Result<Writer> {
        let (requests, inbox) = bounded(start.limits.queue);
        let work = Arc::new(Work::default());
        let appender = Appender::new(start, work.clone())?;
        let thread = std::thread::Builder::new().name("append".into()).spawn(move || appender.run(&inbox))?;
        Ok(Writer { requests: Some(requests), thread: Some(thread), work })
    }

    /// Stores the crate file of a release, and what is known of it.
    pub fn store(
        &self,
        release: &Release,
        bytes: VerifiedBytes,
        facts: Option<&Facts>,
    ) -> impl Future<Output = Result<Place, WriteError>> + use<> {
        let mut batch = Batch::default();
        batch.add_crate(release, bytes);
        if let Some(facts) = facts {
            batch.add_facts_of(release.checksum, facts);
        }
        let pending = self.submit(batch);
        async move { Ok(pending.await.unwrap_or(Err(WriteError::Stopped))?[0]) }
    }

    /// Makes a batch durable in one group. The answer lists the places of its objects.
    pub fn submit(&self, batch: Batch) -> Pending<Vec<Place>> {
        self.request(|done| Request::Batch { batch, done })
    }

    /// Ends the open group and answers when it is durable.
    pub fn flush(&self) -> Pending<()> {
        self.request(|done| Request::Flush { done })
    }

    /// Publishes all that is staged; none if that changes nothing.
    pub fn publish(&self, at: u64) -> Pending<Option<Generation>> {
        self.request(|done| Request::Publish { at, done })
    }

    /// Publishes all that is staged as a generation that the mirror's origin made; an error if it makes another, and then
    /// nothing is published. `through` are the origin's generations that it includes.
    pub fn adopt(&self, generation: Generation, bundle: String, through: Vec<Point>) -> Pending<()> {
        self.request(|done| Request::Adopt { generation: Box::new(generation), bundle, through, done })
    }

    /// How much work was done since the start.
    pub fn work(&self) -> &Work {
        &self.work
    }

    fn request<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, WriteError>>) -> Request) -> Pending<T> {
        let (done, pending) = oneshot::channel();
        if let Some(requests) = &self.requests {
            // If the appender is gone, dropping the request answers it.
            drop(requests.send(make(done)));
        }
        pending
    }
}

/// Waits for the answer to a request, on a thread that may wait.
pub fn wait<T>(pending: Pending<T>) -> Result<T, WriteError> {
    futures::executor::block_on(pending).unwrap_or(Err(WriteError::Stopped))
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A group on its way to the disk.
enum Job {
    Group {
        closed: Closed,
        waiting: Vec<Waiting>,
    },
    /// Answered when all jobs before it are done.
    Barrier {
        done: Sender<Result<(), WriteError>>,
    },
}

/// Who waits for a group, and for which of its members.
enum Waiting {
    Batch { places: Vec<Place>, done: oneshot::Sender<Result<Vec<Place>, WriteError>> },
    Flush { done: oneshot::Sender<Result<(), WriteError>> },
}

impl Waiting {
    fn answer(self, result: Result<(), WriteError>) {
        // Who no longer waits needs no answer.
        match self {
            Waiting::Batch { places, done } => drop(done.send(result.map(|()| places))),
            Waiting::Flush { done } => drop(done.send(result)),
        }
    }
}

struct Appender {
    disk: Arc<dyn Disk>,
    layout: Layout,
    limits: StoreLimits,
    ledger: Arc<Ledger>,
    mirror: String,
    chain: Chain,
    pack: Option<PackWriter>,
    /// The pack that an earlier process left open; it is read again only when there is something to append.
    open_pack: Option<(u32, u64)>,
    next_pack: u32,
    events: Vec<Event>,
    waiting: Vec<Waiting>,
    group_bytes: u64,
    opened: Option<Instant>,
    jobs: Option<Sender<Job>>,
    syncer: Option<JoinHandle<()>>,
    work: Arc<Work>,
}

impl Appender {
    fn new(start: Start, work: Arc<Work>) -> io::Result<Self> {
        let Start { disk, layout, limits, ledger, mirror, chain, open_pack, next_pack } = start;
        let (jobs, inbox) = bounded(1);
        let syncer = Syncer {
            disk: disk.clone(),
            layout: layout.clone(),
            ledger: ledger.clone(),
            work: work.clone(),
            broken: None,
        };
        let syncer = std::thread::Builder::new().name("sync".into()).spawn(move || syncer.run(&inbox))?;
        Ok(Appender {
            disk,
            layout,
            limits,
            ledger,
            mirror,
            chain,
            pack: None,
            open_pack,
            next_pack,
            events: Vec::new(),
            waiting: Vec::new(),
            group_bytes: 0,
            opened: None,
            jobs: Some(jobs),
            syncer: Some(syncer),
            work,
        })
    }

    fn run(mut self, inbox: &Receiver<Request>) {
        let result = self.serve(inbox).and_then(|()| self.close_group());
        if let Err(error) = result {
            self.fail(inbox, &error);
        }
        self.jobs = None;
        if let Some(syncer) = self.syncer.take() {
            drop(syncer.join());
        }
    }

    /// Takes requests until all handles are gone.
    fn serve(&mut self, inbox: &Receiver<Request>) -> Result<(), WriteError> {
        loop {
            match inbox.recv_timeout(self.patience()) {
                Ok(request) => self.take(request)?,
                Err(RecvTimeoutError::Timeout) => self.close_group()?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    }

    /// How long the open group may still wait.
    fn patience(&self) -> Duration {
        const IDLE: Duration = Duration::from_secs(3600);
        self.opened.map_or(IDLE, |opened| self.limits.group_delay.saturating_sub(opened.elapsed()))
    }

    fn take(&mut self, request: Request) -> Result<(), WriteError> {
        match request {
            Request::Batch { batch, done } => {
                self.append(batch, done)?;
                if self.group_is_full() { self.close_group() } else { Ok(()) }
            }
            Request::Flush { done } => {
                self.waiting.push(Waiting::Flush { done });
                self.close_group()
            }
            Request::Publish { at, done } => {
                let published = self.publish(at);
                let failed = published.as_ref().err().cloned();
                drop(done.send(published));
                failed.map_or(Ok(()), Err)
            }
            Request::Adopt { generation, bundle, through, done } => {
                let adopted = self.adopt(&generation, bundle, through);
                drop(done.send(adopted.clone()));
                adopted
            }
        }
    }

    fn append(
        &mut self,
        batch: Batch,
        done: oneshot::Sender<Result<Vec<Place>, WriteError>>,
    ) -> Result<(), WriteError> {
        let Batch { objects, events } = batch;
        let mut places = Vec::with_capacity(objects.len());
        let count = objects.len() as u64;
        for (name, sha256, bytes) in objects {
            match self.append_object(&name, sha256, &bytes) {
                Ok(place) => places.push(place),
                Err(error) => {
                    drop(done.send(Err(error.clone())));
                    return Err(error);
                }
            }
        }
        self.work.objects.fetch_add(count, Ordering::Relaxed);
        self.group_bytes += events.iter().map(Event::weight).sum::<u64>();
        self.events.extend(events);
        self.waiting.push(Waiting::Batch { places, done });
        self.opened.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn append_object(&mut self, name: &MemberName, sha256: Sha256, bytes: &Bytes) -> Result<Place, WriteError> {
        self.group_bytes += bytes.length;
        let pack = self.pack()?;
        let number = pack.number();
        let member = pack.append(name, sha256, bytes).map_err(append_error)?;
        Ok(Place { pack: number, offset: member.offset, length: member.length })
    }

    /// The open pack: the one that was left open, or a new one.
    fn pack(&mut self) -> Result<&mut PackWriter, WriteError> {
        if self.pack.is_none() {
            let (disk, layout, limits) = (self.disk.clone(), self.layout.clone(), self.limits.clone());
            let pack = match self.open_pack.take() {
                Some((number, end)) => PackWriter::resume(disk, layout, limits, number, end),
                None => PackWriter::begin(disk, layout, limits, self.next_number()),
            };
            self.pack = Some(pack.map_err(append_error)?);
        }
        Ok(self.pack.as_mut().expect("it was just made"))
    }

    fn next_number(&mut self) -> u32 {
        self.next_pack += 1;
        self.next_pack - 1
    }

    fn group_is_full(&self) -> bool {
        let members = self.pack.as_ref().map_or(0, PackWriter::open_members);
        members.max(self.events.len()) >= self.limits.group_members || self.group_bytes >= self.limits.group_bytes
    }

    /// Ends the open group, if anything is in it, and hands it to the syncer.
    fn close_group(&mut self) -> Result<(), WriteError> {
        let members = self.pack.as_ref().map_or(0, PackWriter::open_members);
        if members == 0 && self.events.is_empty() && self.waiting.is_empty() {
            return Ok(());
        }
        if members == 0 && self.events.is_empty() {
            return self.answer_flushes();
        }
        let events = std::mem::take(&mut self.events);
        let closed = self.write_record(events)?;
        let waiting = std::mem::take(&mut self.waiting);
        self.hand_over(Job::Group { closed, waiting })?;
        self.seal_if_full()
    }

    /// There is nothing to write, but what was written before must be durable before flushes are answered.
    fn answer_flushes(&mut self) -> Result<(), WriteError> {
        self.barrier()?;
        self.opened = None;
        std::mem::take(&mut self.waiting).into_iter().for_each(|waiting| waiting.answer(Ok(())));
        Ok(())
    }

    fn write_record(&mut self, events: Vec<Event>) -> Result<Closed, WriteError> {
        let sequence = self.chain.sequence + 1;
        let (previous, epoch, mirror) = (self.chain.digest, self.chain.epoch, self.mirror.clone());
        let pack = self.pack()?;
        let header = Header { format: 1, sequence, previous, pack: pack.number(), epoch, mirror };
        let closed = pack.close_group(header, events).map_err(append_error)?;
        (self.chain.sequence, self.chain.digest) = (sequence, closed.digest);
        (self.group_bytes, self.opened) = (0, None);
        self.work.groups.fetch_add(1, Ordering::Relaxed);
        Ok(closed)
    }

    fn seal_if_full(&mut self) -> Result<(), WriteError> {
        if self.pack.as_ref().is_some_and(|pack| pack.end() >= self.limits.pack_bytes) {
            self.barrier()?;
            let pack = self.pack.take().expect("it was just looked at");
            let number = pack.number();
            pack.seal().map_err(append_error)?;
            self.ledger.seal_pack(number).map_err(ledger_error)?;
        }
        Ok(())
    }

    /// Publishes: with nothing else in flight, promotes in the ledger, makes the record durable, commits.
    fn publish(&mut self, at: u64) -> Result<Option<Generation>, WriteError> {
        self.close_group()?;
        self.barrier()?;
        let Some((publication, generation)) = self.ledger.publish(at).map_err(ledger_error)? else { return Ok(None) };
        self.finish(publication, vec![Event::Publish { generation: generation.clone() }])?;
        Ok(Some(generation))
    }

    /// The same for a generation of the origin; a record says of which bundle it comes.
    fn adopt(&mut self, generation: &Generation, bundle: String, through: Vec<Point>) -> Result<(), WriteError> {
        self.close_group()?;
        self.barrier()?;
        let publication = self.ledger.publish_given(generation, &through).map_err(ledger_error)?;
        self.chain.epoch = generation.epoch;
        self.finish(
            publication,
            vec![Event::Bundle { bundle, through }, Event::Publish { generation: generation.clone() }],
        )
    }

    fn finish(&mut self, publication: Publication, events: Vec<Event>) -> Result<(), WriteError> {
        let closed = self.write_record(events)?;
        make_durable(self.disk.as_ref(), &self.layout, &closed, &self.work)?;
        publication.finish(&applied(&closed)).map_err(ledger_error)?;
        self.work.commits.fetch_add(1, Ordering::Relaxed);
        self.seal_if_full()
    }

    /// Waits until the syncer has done all that it was given.
    fn barrier(&mut self) -> Result<(), WriteError> {
        let (done, answer) = bounded(1);
        self.hand_over(Job::Barrier { done })?;
        answer.recv().unwrap_or(Err(WriteError::Stopped))
    }

    fn hand_over(&mut self, job: Job) -> Result<(), WriteError> {
        let jobs = self.jobs.as_ref().ok_or(WriteError::Stopped)?;
        jobs.send(job).map_err(|_| WriteError::Stopped)
    }

    /// Answers everybody who waits, now and later, with the error that stopped the writer.
    fn fail(&mut self, inbox: &Receiver<Request>, error: &WriteError) {
        tracing::error!(error = error as &dyn std::error::Error, "the writer stopped");
        std::mem::take(&mut self.waiting).into_iter().for_each(|waiting| waiting.answer(Err(error.clone())));
        for request in inbox {
            match request {
                Request::Batch { done, .. } => drop(done.send(Err(error.clone()))),
                Request::Flush { done } => drop(done.send(Err(error.clone()))),
                Request::Publish { done, .. } => drop(done.send(Err(error.clone()))),
                Request::Adopt { done, .. } => drop(done.send(Err(error.clone()))),
            }
        }
    }
}

struct Syncer {
    disk: Arc<dyn Disk>,
    layout: Layout,
    ledger: Arc<Ledger>,
    work: Arc<Work>,
    /// The error that ended all work, if there was one.
    broken: Option<WriteError>,
}

impl Syncer {
    fn run(mut self, inbox: &Receiver<Job>) {
        for job in inbox {
            match job {
                Job::Group { closed, waiting } => {
                    let result = self.commit(&closed);
                    self.broken = result.as_ref().err().cloned();
                    waiting.into_iter().for_each(|waiting| waiting.answer(result.clone()));
                }
                Job::Barrier { done } => drop(done.send(self.healthy())),
            }
        }
    }

    fn healthy(&self) -> Result<(), WriteError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn commit(&self, closed: &Closed) -> Result<(), WriteError> {
        self.healthy()?;
        make_durable(self.disk.as_ref(), &self.layout, closed, &self.work)?;
        self.ledger.apply(&[applied(closed)]).map_err(ledger_error)?;
        self.work.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn make_durable(disk: &dyn Disk, layout: &Layout, closed: &Closed, work: &Work) -> Result<(), WriteError> {
    if closed.new_file {
        let path = layout.packs();
        disk.sync_folder(&path).map_err(|source| WriteError::Sync { path, source: Arc::new(source) })?;
    }
    work.syncs.fetch_add(1, Ordering::Relaxed);
    closed.file.sync().map_err(|source| WriteError::Sync {
        path: layout.open_pack(closed.record.header.pack),
        source: Arc::new(source),
    })
}

fn applied(closed: &Closed) -> Applied<'_> {
    Applied { record: &closed.record, digest: closed.digest, end: closed.end }
}

fn append_error(error: AppendError) -> WriteError {
    WriteError::Append(Arc::new(error))
}

fn ledger_error(error: LedgerError) -> WriteError {
    WriteError::Ledger(Arc::new(error))
}

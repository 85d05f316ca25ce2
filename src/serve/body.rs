//! Response bodies that are read from packs as the client takes them.
//!
//! What a connection holds in memory is bounded by a share that all its bodies draw from: a chunk gives its bytes back
//! when it has gone out. A client that does not read makes nobody read for it. Work that keeps a thread busy goes by
//! turns, of which a connection has few and all of them together not many more.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use crateferry_store::{PackReader, Place, TextReader};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, PollSemaphore};

use super::limits::ServeLimits;

/// What the requests of one connection have in common: what they may hold of bodies, and keep busy of threads.
#[derive(Clone, Debug)]
pub struct Share(Arc<Allowance>);

#[derive(Debug)]
struct Allowance {
    bytes: Arc<Semaphore>,
    chunk: usize,
    unpackers: Arc<Semaphore>,
    turns: Arc<Semaphore>,
    all_turns: Arc<Semaphore>,
    stop: CancellationToken,
    peer: IpAddr,
}

/// The right to keep a thread busy. It goes along with the work: who gives a request up does not stop its thread.
pub type Turn = [OwnedSemaphorePermit; 2];

impl Share {
    /// The share of a connection from an address. `all_turns` are those that it has together with all others.
    pub fn new(limits: &ServeLimits, all_turns: Arc<Semaphore>, stop: CancellationToken, peer: IpAddr) -> Share {
        Share(Arc::new(Allowance {
            bytes: Arc::new(Semaphore::new(limits.connection_bytes.max(limits.chunk))),
            chunk: limits.chunk,
            unpackers: Arc::new(Semaphore::new(1)),
            turns: Arc::new(Semaphore::new(limits.connection_turns)),
            all_turns,
            stop,
            peer,
        }))
    }

    /// Waits for a turn to keep a thread busy.
    pub async fn turn(&self) -> Turn {
        [acquire(&self.0.turns).await, acquire(&self.0.all_turns).await]
    }

    /// Who is at the other end.
    pub fn peer(&self) -> IpAddr {
        self.0.peer.to_canonical()
    }

    /// Tells the maker of an answer that would go on and on when the server stops.
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.clone().acquire_owned().await.expect("the semaphore is never closed")
}

/// Some bytes of a body, and the right to hold them.
struct Chunk {
    bytes: Vec<u8>,
    _share: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes of a pack, as they lie there.
pub struct PackBody {
    packs: PackReader,
    place: Place,
    at: u64,
    end: u64,
    share: PollSemaphore,
    chunk: usize,
    /// A read that has to wait for the disk.
    reading: Option<JoinHandle<io::Result<Chunk>>>,
}

impl PackBody {
    /// The bytes of a place from position `from` up to `to`.
    pub fn new(packs: &PackReader, place: Place, (from, to): (u64, u64), share: &Share) -> PackBody {
        PackBody {
            packs: packs.clone(),
            place,
            at: from,
            end: to,
            share: PollSemaphore::new(share.0.bytes.clone()),
            chunk: share.0.chunk,
            reading: None,
        }
    }

    fn advance(&mut self, chunk: Chunk) -> Frame<Bytes> {
        self.at += chunk.bytes.len() as u64;
        Frame::data(Bytes::from_owner(chunk))
    }

    /// Reads the next chunk, at once if the operating system has it in memory.
    fn read(&mut self, share: OwnedSemaphorePermit, length: usize) -> io::Result<Option<Chunk>> {
        let mut chunk = Chunk { bytes: vec![0; length], _share: share };
        if self.packs.read_now(self.place, self.at, &mut chunk.bytes).map_err(io::Error::other)? {
            return Ok(Some(chunk));
        }
        let (packs, place, at) = (self.packs.clone(), self.place, self.at);
        self.reading = Some(tokio::task::spawn_blocking(move || {
            packs.read_into(place, at, &mut chunk.bytes).map_err(io::Error::other)?;
            Ok(chunk)
        }));
        Ok(None)
    }
}

impl Body for PackBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.reading.is_none() {
            let length = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(self.chunk);
            if length == 0 {
                return Poll::Ready(None);
            }
            let share = ready!(self.share.poll_acquire_many(context, length as u32));
            let share = share.expect("the semaphore is never closed");
            match self.read(share, length) {
                Ok(Some(chunk)) => return Poll::Ready(Some(Ok(self.advance(chunk)))),
                Ok(None) => {}
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
        let reading = self.reading.as_mut().expect("a read was begun");
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        Poll::Ready(Some(read.map_err(io::Error::other).flatten().map(|chunk| self.advance(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.at)
    }
}

/// A gzipped text of a pack, undone for the few clients that do not take gzip. One of a connection's is undone at a time:
/// that takes more memory than a chunk.
pub struct UnpackedBody {
    packs: PackReader,
    place: Place,
    left: u64,
    share: PollSemaphore,
    chunk: usize,
    unpackers: PollSemaphore,
    unpacker: Option<OwnedSemaphorePermit>,
    state: Unpacking,
}

enum Unpacking {
    New,
    Idle(Box<TextReader>),
    Busy(JoinHandle<io::Result<(Chunk, Box<TextReader>)>>),
    Done,
}

impl UnpackedBody {
    /// A whole text, of a length in bytes.
    pub fn new(packs: &PackReader, place: Place, length: u64, share: &Share) -> UnpackedBody {
        UnpackedBody {
            packs: packs.clone(),
            place,
            left: length,
            share: PollSemaphore::new(share.0.bytes.clone()),
            chunk: share.0.chunk,
            unpackers: PollSemaphore::new(share.0.unpackers.clone()),
            unpacker: None,
            state: Unpacking::New,
        }
    }

    /// Waits for the right to unpack, and for that to hold another chunk; none at the end.
    fn poll_rights(&mut self, context: &mut Context<'_>) -> Poll<Option<(OwnedSemaphorePermit, usize)>> {
        let length = usize::try_from(self.left).unwrap_or(usize::MAX).min(self.chunk);
        if length == 0 {
            return Poll::Ready(None);
        }
        if self.unpacker.is_none() {
            self.unpacker = ready!(self.unpackers.poll_acquire(context));
        }
        let share = ready!(self.share.poll_acquire_many(context, length as u32));
        Poll::Ready(Some((share.expect("the semaphore is never closed"), length)))
    }

    /// Begins to unpack the next chunk.
    fn begin(&mut self, share: OwnedSemaphorePermit, length: usize) {
        let (packs, place) = (self.packs.clone(), self.place);
        let text = match std::mem::replace(&mut self.state, Unpacking::Done) {
            Unpacking::Idle(text) => Some(text),
            _ => None,
        };
        self.state = Unpacking::Busy(tokio::task::spawn_blocking(move || {
            let mut text = text.unwrap_or_else(|| Box::new(packs.text_reader(place)));
            let mut chunk = Chunk { bytes: vec![0; length], _share: share };
            text.read_exact(&mut chunk.bytes)?;
            Ok((chunk, text))
        }));
    }
}

impl Body for UnpackedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if matches!(self.state, Unpacking::New | Unpacking::Idle(_)) {
            match ready!(self.poll_rights(context)) {
                Some((share, length)) => self.begin(share, length),
                None => return Poll::Ready(None),
            }
        }
        let Unpacking::Busy(busy) = &mut self.state else { return Poll::Ready(None) };
        let unpacked = ready!(Pin::new(busy).poll(context));
        self.state = Unpacking::Done;
        Poll::Ready(Some(unpacked.map_err(io::Error::other).flatten().map(|(chunk, text)| {
            self.state = Unpacking::Idle(text);
            self.left -= chunk.bytes.len() as u64;
            Frame::data(Bytes::from_owner(chunk))
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

//! Bodies on their way out: whole, or poured by a task that may do it badly.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStdout};
use tokio::sync::mpsc;

use crate::fault::{Ending, Shape};
use crate::log::Ticket;
use crate::server::Connection;

/// Time for what was sent to reach the client before what comes next: a break, or an answer after a GOAWAY.
pub(crate) const FLUSH: Duration = Duration::from_millis(25);
const CHUNK: usize = 64 * 1024;

/// Where the honest bytes of an answer come from.
pub(crate) enum Source {
    Bytes(Bytes),
    /// The output of a program, after what was read of it already.
    Program {
        read: Bytes,
        output: ChildStdout,
        child: Box<Child>,
    },
}

impl Source {
    /// The length, if it is known beforehand.
    pub(crate) fn length(&self) -> Option<usize> {
        match self {
            Source::Bytes(bytes) => Some(bytes.len()),
            Source::Program { .. } => None,
        }
    }

    /// All the bytes.
    pub(crate) async fn collect(mut self) -> Bytes {
        let mut all = Vec::new();
        while let Some(chunk) = self.next(CHUNK).await {
            all.extend_from_slice(&chunk);
        }
        all.into()
    }

    /// The next bytes, at most so many.
    async fn next(&mut self, most: usize) -> Option<Bytes> {
        let ready = match self {
            Source::Bytes(ready) | Source::Program { read: ready, .. } => ready,
        };
        if !ready.is_empty() {
            return Some(ready.split_to(most.min(ready.len())));
        }
        match self {
            Source::Bytes(_) => None,
            Source::Program { output, child, .. } => read_some(output, child, most).await,
        }
    }
}

async fn read_some(output: &mut ChildStdout, child: &mut Child, most: usize) -> Option<Bytes> {
    let mut chunk = vec![0; most.min(CHUNK)];
    let read = output.read(&mut chunk).await.unwrap_or(0);
    if read == 0 {
        let _ = child.wait().await;
        return None;
    }
    chunk.truncate(read);
    Some(chunk.into())
}

/// A body as hyper sends it; what it holds of the log ends with it.
pub(crate) struct Payload {
    content: Content,
    ticket: Ticket,
}

enum Content {
    Whole(Option<Bytes>),
    Poured(mpsc::Receiver<io::Result<Bytes>>),
}

impl Payload {
    /// A body that is there, with its length.
    pub(crate) fn whole(bytes: Bytes, ticket: Ticket) -> Self {
        if bytes.is_empty() {
            ticket.finished();
        }
        Payload { content: Content::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())), ticket }
    }

    /// A body that a task of its own pours into the connection.
    pub(crate) fn poured(source: Source, shape: Shape, connection: Arc<Connection>, ticket: Ticket) -> Self {
        let (out, content) = mpsc::channel(1);
        tokio::spawn(Pour { source, out, connection }.run(shape));
        Payload { content: Content::Poured(content), ticket }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let chunk = match &mut self.content {
            Content::Whole(bytes) => Poll::Ready(bytes.take().map(Ok)),
            Content::Poured(chunks) => chunks.poll_recv(task),
        };
        match &chunk {
            Poll::Ready(Some(Ok(bytes))) => self.ticket.sent(bytes.len()),
            Poll::Ready(None) => self.ticket.finished(),
            _ => {}
        }
        if self.is_end_stream() {
            self.ticket.finished();
        }
        chunk.map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Content::Poured(_) => SizeHint::default(),
        }
    }
}

/// The task behind a poured body. It ends when the body does, or when the client goes.
struct Pour {
    source: Source,
    out: mpsc::Sender<io::Result<Bytes>>,
    connection: Arc<Connection>,
}

impl Pour {
    async fn run(mut self, shape: Shape) {
        let most = match shape.ending {
            Ending::Clean => usize::MAX,
            Ending::Short(bytes) | Ending::Cut(bytes) | Ending::Stall(bytes) | Ending::Drop(bytes) => bytes,
        };
        if self.pour(most, shape).await && self.pour_surplus(shape).await {
            self.end(shape.ending).await;
        }
    }

    /// Sends at most so many bytes of the source; false if the client went.
    async fn pour(&mut self, most: usize, shape: Shape) -> bool {
        let mut left = most;
        let chunk = shape.pace.map_or(CHUNK, |pace| usize::try_from(pace.get().div_ceil(10)).unwrap_or(CHUNK));
        while left > 0 {
            let Some(bytes) = self.source.next(chunk.min(left)).await else { break };
            left -= bytes.len();
            if let Some(pace) = shape.pace {
                tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / pace.get() as f64)).await;
            }
            if self.out.send(Ok(bytes)).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn pour_surplus(&mut self, shape: Shape) -> bool {
        let mut left = shape.surplus;
        while left > 0 {
            let bytes = Bytes::from(vec![b'+'; left.min(CHUNK)]);
            left -= bytes.len();
            if self.out.send(Ok(bytes)).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn end(self, ending: Ending) {
        match ending {
            Ending::Clean | Ending::Short(_) => {}
            Ending::Stall(_) => self.out.closed().await,
            Ending::Cut(_) => {
                tokio::time::sleep(FLUSH).await;
                let _ = self.out.send(Err(io::Error::other("cut by a fault"))).await;
            }
            Ending::Drop(_) => {
                tokio::time::sleep(FLUSH).await;
                self.connection.abort();
                self.out.closed().await;
            }
        }
    }
}

//! Telling many what one looks at.
//!
//! While somebody watches, one task looks at what the sync tells of itself, once a second for all who watch; with
//! nobody there it ends. Each stream of events has a bounded life, after which the browser opens the next one.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Bytes;
use axum::response::IntoResponse as _;
use http_body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::super::answer::Problem;
use super::super::app::App;
use super::super::limits::PageLimits;
use super::super::view::View;

/// What is to be told to all who watch; none before the first look.
type News = Option<Bytes>;

/// Looks at the sync for all who watch it.
pub struct Watch {
    news: watch::Sender<News>,
    is_looking: Mutex<bool>,
    seats: Arc<Semaphore>,
    limits: PageLimits,
}

/// Makes the event that shows what is going on. Blocks on the disk.
type Look = fn(&View) -> Result<Bytes, Problem>;

impl Watch {
    /// Nobody watches yet.
    pub fn new(limits: &PageLimits) -> Arc<Watch> {
        Arc::new(Watch {
            news: watch::Sender::new(None),
            is_looking: Mutex::new(false),
            seats: Arc::new(Semaphore::new(limits.streams)),
            limits: limits.clone(),
        })
    }

    /// What goes to one more who watches, until the server stops; none if too many do.
    pub fn stream(self: &Arc<Self>, app: &Arc<App>, look: Look, stop: CancellationToken) -> Option<Sent> {
        let seat = self.seats.clone().try_acquire_owned().ok()?;
        let (out, sent) = mpsc::channel(1);
        let stream = Stream { news: self.join(app, look), out, stop, limits: self.limits.clone(), _seat: seat };
        tokio::spawn(stream.run());
        Some(Sent(sent))
    }

    /// Watches too; the first who does so sets the looking going.
    fn join(self: &Arc<Self>, app: &Arc<App>, look: Look) -> watch::Receiver<News> {
        let mut is_looking = self.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        if !*is_looking {
            *is_looking = true;
            self.news.send_replace(None);
            tokio::spawn(self.clone().look_on(app.clone(), look));
        }
        self.news.subscribe()
    }

    async fn look_on(self: Arc<Self>, app: Arc<App>, look: Look) {
        while self.is_watched() {
            let view = app.views.now().clone();
            match tokio::task::spawn_blocking(move || look(&view)).await.map_err(Problem::from).flatten() {
                Ok(event) => {
                    self.news.send_if_modified(|news| news.replace(event.clone()).is_none_or(|before| before != event));
                }
                Err(problem) => drop(problem.into_response()), // logs it
            }
            tokio::time::sleep(self.limits.look).await;
        }
    }

    /// Whether anybody watches; if not, nobody looks from now on.
    fn is_watched(&self) -> bool {
        let mut is_looking = self.is_looking.lock().unwrap_or_else(PoisonError::into_inner);
        *is_looking = self.news.receiver_count() > 0;
        *is_looking
    }
}

/// One who watches.
struct Stream {
    news: watch::Receiver<News>,
    out: mpsc::Sender<Bytes>,
    stop: CancellationToken,
    limits: PageLimits,
    _seat: OwnedSemaphorePermit,
}

impl Stream {
    /// Passes news on until the time is up, the client is gone, or the server stops.
    async fn run(mut self) {
        let (out, stop, life) = (self.out.clone(), self.stop.clone(), self.limits.stream);
        tokio::select! {
            () = self.pass_on() => {}
            () = out.closed() => {}
            () = stop.cancelled() => {}
            () = tokio::time::sleep(life) => {}
        }
    }

    async fn pass_on(&mut self) {
        let mut next = self.news.borrow_and_update().clone();
        loop {
            if let Some(event) = next.take()
                && self.out.send(event).await.is_err()
            {
                return;
            }
            next = match tokio::time::timeout(self.limits.sign_of_life, self.news.changed()).await {
                Ok(Ok(())) => self.news.borrow_and_update().clone(),
                Ok(Err(_)) => return,
                Err(_) => Some(Bytes::from_static(b": nothing new\n\n")),
            };
        }
    }
}

/// What goes out of a stream.
pub struct Sent(mpsc::Receiver<Bytes>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}

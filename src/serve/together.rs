//! A connection and its requests as one task.
//!
//! HTTP/2 has a future for every request. As tasks of the runtime these would run on any thread that is idle: each would
//! cost a task, a wake-up and a move between processors, and the answers would leave one by one. Here they run where
//! their connection runs. Requests that came together are answered together, with few writes; what takes long is done on
//! blocking threads in any case.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hyper::rt::Executor;

type Answered = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a connection puts the requests that have come. It limits how many there are.
#[derive(Clone, Default)]
pub struct Inbox(Arc<Mutex<Vec<Answered>>>);

impl Inbox {
    fn take(&self) -> Vec<Answered> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Inbox {
    fn execute(&self, request: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(request));
    }
}

/// Runs a connection together with its requests, until the connection ends.
pub struct Together<'a, C> {
    /// The connection.
    pub connection: Pin<&'a mut C>,
    inbox: Inbox,
    requests: FuturesUnordered<Answered>,
}

impl<'a, C> Together<'a, C> {
    /// A connection that puts its requests into `inbox`.
    pub fn new(connection: Pin<&'a mut C>, inbox: Inbox) -> Together<'a, C> {
        Together { connection, inbox, requests: FuturesUnordered::new() }
    }
}

impl<C: Future> Future for Together<'_, C> {
    type Output = C::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        let this = self.get_mut();
        if let Poll::Ready(ended) = this.connection.as_mut().poll(context) {
            return Poll::Ready(ended);
        }
        this.requests.extend(this.inbox.take());
        // An answer that is ready wakes the connection, which then sends all that are.
        while let Poll::Ready(Some(())) = this.requests.poll_next_unpin(context) {}
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn requests_run_beside_their_connection_and_end_with_it() {
        let (inbox, done) = (Inbox::default(), Arc::new(AtomicUsize::new(0)));
        let connection = {
            let (inbox, done) = (inbox.clone(), done.clone());
            async move {
                for round in 1..=3 {
                    let counted = done.clone();
                    inbox.execute(async move {
                        tokio::task::yield_now().await;
                        counted.fetch_add(1, Ordering::Relaxed);
                    });
                    while done.load(Ordering::Relaxed) < round {
                        tokio::task::yield_now().await;
                    }
                }
                inbox.execute(std::future::pending());
                tokio::task::yield_now().await;
                "ended"
            }
        };
        let ended = Together::new(std::pin::pin!(connection), inbox).await;
        assert_eq!((ended, done.load(Ordering::Relaxed), Arc::strong_count(&done)), ("ended", 3, 1));
    }
}

//! Watching a connection, to end it when its client does not do its part.
//!
//! A client has to ask within its time, and to take what it asked for at a least rate. What it takes is seen by what is
//! asked of the bodies of its answers: a body is asked for more when there is room for it. Bytes on the wire would tell
//! less, for a client can have as many answers to its pings as it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::limits::ServeLimits;

/// What an answer counts beside its body, in bytes: who takes many small ones takes enough.
const ANSWER: u64 = 1024;

/// What goes on in a connection; the watchman looks at it.
#[derive(Debug)]
pub struct Traffic {
    begun: Instant,
    /// Requests whose answers have not gone out whole.
    in_hand: AtomicUsize,
    /// Those of them that may take their time.
    unhurried: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// Bytes of answers that were taken.
    taken: AtomicU64,
    /// Milliseconds after `begun` at which the last answer had gone out.
    rested: AtomicU64,
}

impl Traffic {
    /// Of a connection that begins now.
    pub fn new() -> Traffic {
        Traffic {
            begun: Instant::now(),
            in_hand: AtomicUsize::new(0),
            unhurried: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            rested: AtomicU64::new(0),
        }
    }

    /// For how long nothing has been in hand.
    fn at_rest(&self) -> Duration {
        let rested = Duration::from_millis(self.rested.load(Ordering::Relaxed));
        // An answer may have gone out since the clock was read.
        self.begun.elapsed().saturating_sub(rested)
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InHand {
    traffic: Arc<Traffic>,
    unhurried: bool,
}

impl InHand {
    /// A request has come.
    pub fn begin(traffic: Arc<Traffic>) -> InHand {
        traffic.in_hand.fetch_add(1, Ordering::Relaxed);
        traffic.requests.fetch_add(1, Ordering::Relaxed);
        InHand { traffic, unhurried: false }
    }

    /// Its answer may take its time.
    pub fn unhurried(mut self) -> InHand {
        self.traffic.unhurried.fetch_add(1, Ordering::Relaxed);
        self.unhurried = true;
        self
    }

    /// Some bytes of its answer were taken.
    pub fn took(&self, bytes: u64) {
        self.traffic.taken.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let traffic = &self.traffic;
        if self.unhurried {
            traffic.unhurried.fetch_sub(1, Ordering::Relaxed);
        }
        traffic.taken.fetch_add(ANSWER, Ordering::Relaxed);
        traffic.rested.store(traffic.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        traffic.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Decides when a connection has had its time.
pub struct Watchman {
    traffic: Arc<Traffic>,
    /// How long the client may take to its first request.
    first_request: Duration,
    /// How long it may take to each further one.
    idle: Duration,
    /// In each such time it must take what it is to take.
    stall: Duration,
    least_bytes: f64,
    tick: tokio::time::Interval,
    /// When the stretch began in which a client must take its share, and what was taken by then.
    stretch: (Instant, u64),
    asked_to_finish: bool,
}

/// What is to be done with a connection.
pub enum Verdict {
    /// It may finish what is under way, and takes no more requests.
    Finish,
    /// It ends at once.
    Cut(&'static str),
}

impl Watchman {
    /// Watches over a connection.
    pub fn new(traffic: Arc<Traffic>, limits: &ServeLimits) -> Watchman {
        let (first_request, idle, stall) = (limits.first_request, limits.idle, limits.stall);
        Watchman {
            traffic,
            first_request,
            idle,
            stall,
            least_bytes: limits.least_rate * stall.as_secs_f64(),
            tick: every(first_request.min(idle).min(stall) / 2),
            stretch: (Instant::now(), 0),
            asked_to_finish: false,
        }
    }

    /// From now on who has nothing in hand has this long to hang up.
    pub fn hurry(&mut self, patience: Duration) {
        (self.first_request, self.idle) = (patience, patience);
        self.tick = every(patience / 2);
        self.asked_to_finish = true;
    }

    /// Waits until something has to be done.
    pub async fn watch(&mut self) -> Verdict {
        loop {
            self.tick.tick().await;
            if let Some(verdict) = self.look() {
                return verdict;
            }
        }
    }

    fn look(&mut self) -> Option<Verdict> {
        let in_hand = self.traffic.in_hand.load(Ordering::Relaxed);
        let taken = self.traffic.taken.load(Ordering::Relaxed);
        if in_hand > self.traffic.unhurried.load(Ordering::Relaxed) {
            return self.look_at_taking(taken);
        }
        self.stretch = (Instant::now(), taken);
        if in_hand > 0 { None } else { self.look_at_asking() }
    }

    fn look_at_taking(&mut self, taken: u64) -> Option<Verdict> {
        let (since, before) = self.stretch;
        if since.elapsed() < self.stall {
            return None;
        }
        self.stretch = (Instant::now(), taken);
        let too_little = ((taken - before) as f64) < self.least_bytes;
        too_little.then_some(Verdict::Cut("the client takes too little of what it asked for"))
    }

    fn look_at_asking(&mut self) -> Option<Verdict> {
        let never_asked = self.traffic.requests.load(Ordering::Relaxed) == 0;
        let patience = if never_asked { self.first_request } else { self.idle };
        if self.traffic.at_rest() < patience {
            return None;
        }
        if never_asked || self.asked_to_finish {
            return Some(Verdict::Cut("the client asks for nothing"));
        }
        self.asked_to_finish = true;
        Some(Verdict::Finish)
    }
}

fn every(time: Duration) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(time.max(Duration::from_millis(10)));
    tick.reset();
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick
}

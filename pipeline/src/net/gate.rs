//! How many requests run at once, found while running.
//!
//! The number climbs while the throughput climbs with it, steps back when a step brought nothing, and is
//! halved when the server shows trouble: 429, 503, a time-out, a connection that fails. There is no background
//! task: whoever finishes a request after the end of a window decides for the next one. Finishing a request
//! costs two atomic operations; a lock is taken once per window.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{Concurrency, NetworkConfig};

/// Over what time throughput is compared, and how long a halving is given to show its effect.
const WINDOW: Duration = Duration::from_secs(1);
/// How many requests run at first.
const START: usize = 48;
/// Growth below this factor is noise.
const GROWTH: f64 = 1.05;
/// After how many windows without growth a step upwards is tried again.
const CALM_WINDOWS: u32 = 15;
/// How many windows pass after a halving before the first step upwards.
const REST_WINDOWS: u32 = 5;
/// A body counts as one unit of work, and as one more for each of these many bytes.
const UNIT: u64 = 32 * 1024;

/// Lets a limited number of requests through at once.
#[derive(Debug)]
pub struct Gate {
    permits: Semaphore,
    /// Passes that are to be kept when they come back, because the limit went down while they were out.
    debt: AtomicUsize,
    limit: AtomicUsize,
    most: AtomicUsize,
    fixed: bool,
    origin: Instant,
    /// Units of work finished in this window.
    units: AtomicU64,
    /// Whether the limit was reached in this window.
    full: AtomicBool,
    /// Milliseconds after `origin`.
    window_ends: AtomicU64,
    steering: Mutex<Steering>,
}

impl Gate {
    /// The gate that a configuration describes.
    pub fn new(config: &NetworkConfig) -> Self {
        match config.concurrency {
            Concurrency::Auto => Gate::adaptive(config.connections() * config.streams()),
            Concurrency::Fixed(count) => Gate::with(count, count, true),
        }
    }

    /// A gate that finds its own limit, up to `most`.
    pub fn adaptive(most: usize) -> Self {
        Gate::with(START.min(most), most, false)
    }

    fn with(limit: usize, most: usize, fixed: bool) -> Self {
        Gate {
            permits: Semaphore::new(limit),
            debt: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
            most: AtomicUsize::new(most),
            fixed,
            origin: Instant::now(),
            units: AtomicU64::new(0),
            full: AtomicBool::new(false),
            window_ends: AtomicU64::new(WINDOW.as_millis() as u64),
            steering: Mutex::new(Steering::new()),
        }
    }

    /// How many requests may run at once now.
    pub fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Waits until one more request may run.
    pub async fn enter(&self) -> Pass<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed").forget();
        if self.permits.available_permits() == 0 {
            self.full.store(true, Ordering::Relaxed);
        }
        Pass { gate: self }
    }

    /// Never lets more than `most` requests through, unless the operator fixed the number.
    pub fn cap(&self, most: usize) {
        if self.fixed || self.most.fetch_min(most.max(1), Ordering::Relaxed) <= most {
            return;
        }
        let _alone = self.steering.lock().unwrap_or_else(PoisonError::into_inner);
        self.set_limit(self.limit().min(most.max(1)));
    }

    fn finished(&self, bytes: u64) {
        if self.fixed {
            return;
        }
        self.units.fetch_add(1 + bytes / UNIT, Ordering::Relaxed);
        let now = self.now();
        if now < self.window_ends.load(Ordering::Relaxed) {
            return;
        }
        // Whoever finds the lock taken leaves the decision to its holder.
        let Ok(mut steering) = self.steering.try_lock() else { return };
        let ends = self.window_ends.load(Ordering::Relaxed);
        if now < ends {
            return;
        }
        let seconds = (now - ends) as f64 / 1000.0 + WINDOW.as_secs_f64();
        let rate = self.units.load(Ordering::Relaxed) as f64 / seconds;
        let full = self.full.load(Ordering::Relaxed);
        let next = steering.step(self.limit(), rate, full).min(self.most.load(Ordering::Relaxed));
        self.set_limit(next);
        self.begin_window(now);
    }

    fn troubled(&self) {
        if self.fixed {
            return;
        }
        let mut steering = self.steering.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.now();
        if steering.halved_until.is_some_and(|until| now < until) {
            return;
        }
        steering.halved_until = Some(now + WINDOW.as_millis() as u64);
        self.set_limit(steering.halve(self.limit()));
        self.begin_window(now);
    }

    fn begin_window(&self, now: u64) {
        self.units.store(0, Ordering::Relaxed);
        self.full.store(self.permits.available_permits() == 0, Ordering::Relaxed);
        self.window_ends.store(now + WINDOW.as_millis() as u64, Ordering::Relaxed);
    }

    /// Only called while `steering` is locked.
    fn set_limit(&self, next: usize) {
        let now = self.limit.swap(next, Ordering::Relaxed);
        if next < now {
            let kept = self.permits.forget_permits(now - next);
            self.debt.fetch_add(now - next - kept, Ordering::Relaxed);
        } else {
            (now..next).for_each(|_| self.release());
        }
    }

    /// Pays a debt, or lets the next one in.
    fn release(&self) {
        let paid = self.debt.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |debt| debt.checked_sub(1));
        if paid.is_err() {
            self.permits.add_permits(1);
        }
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }
}

/// Leave for one request to run. Dropping it without a word teaches the gate nothing.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
}

impl Pass<'_> {
    /// The request brought a body of `bytes` bytes, or another answer that shows no trouble.
    pub fn finished(self, bytes: u64) {
        self.gate.finished(bytes);
    }

    /// The request met a server or a network in trouble.
    pub fn troubled(self) {
        self.gate.troubled();
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.release();
    }
}

/// What is remembered from window to window. Pure: it reads no clock.
#[derive(Debug)]
struct Steering {
    /// The throughput that a step upwards has to beat.
    best: f64,
    /// The limit before the step that is being tried.
    before: Option<usize>,
    /// Whether the limit still grows by half instead of by an eighth.
    quick: bool,
    /// Windows until the next step upwards may be tried.
    wait: u32,
    /// Until when a further sign of trouble belongs to the last halving, in milliseconds.
    halved_until: Option<u64>,
}

impl Steering {
    fn new() -> Self {
        Steering { best: 0.0, before: None, quick: true, wait: 0, halved_until: None }
    }

    /// The limit for the next window, after one with `rate` units of work a second. A window in which the limit
    /// was not reached says nothing about the limit.
    fn step(&mut self, limit: usize, rate: f64, full: bool) -> usize {
        if !full {
            return limit;
        }
        let tried = self.before.take();
        if rate > self.best * GROWTH && self.wait == 0 {
            return self.raise(limit, rate);
        }
        if let Some(before) = tried {
            self.quick = false;
            self.wait = CALM_WINDOWS;
            return before;
        }
        self.wait = self.wait.saturating_sub(1);
        if self.wait == 0 { self.raise(limit, rate) } else { limit }
    }

    fn raise(&mut self, limit: usize, rate: f64) -> usize {
        self.best = rate;
        self.before = Some(limit);
        limit + if self.quick { limit / 2 } else { limit / 8 }.max(1)
    }

    fn halve(&mut self, limit: usize) -> usize {
        self.best = 0.0;
        self.before = None;
        self.quick = false;
        self.wait = REST_WINDOWS;
        (limit / 2).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_climbs_while_throughput_climbs_and_steps_back_when_it_does_not() {
        let mut steering = Steering::new();
        assert_eq!(steering.step(40, 100.0, true), 60);
        assert_eq!(steering.step(60, 150.0, true), 90);
        assert_eq!(steering.step(90, 151.0, true), 60, "the last step brought nothing");
        for _ in 1..CALM_WINDOWS {
            assert_eq!(steering.step(60, 150.0, true), 60);
        }
        assert_eq!(steering.step(60, 150.0, true), 67, "a small step is tried again");
        assert_eq!(steering.step(67, 149.0, true), 60);
    }

    #[test]
    fn a_window_that_did_not_need_the_limit_does_not_change_it() {
        let mut steering = Steering::new();
        assert_eq!(steering.step(40, 100.0, false), 40);
        assert_eq!(steering.step(40, 500.0, false), 40);
    }

    #[test]
    fn trouble_halves_the_limit_and_growth_rests_before_it_goes_on_gently() {
        let mut steering = Steering::new();
        assert_eq!(steering.halve(64), 32);
        for _ in 1..REST_WINDOWS {
            assert_eq!(steering.step(32, 500.0, true), 32);
        }
        assert_eq!(steering.step(32, 500.0, true), 36);
        assert_eq!(steering.halve(1), 1, "one request always runs");
    }

    #[tokio::test(start_paused = true)]
    async fn many_signs_of_one_trouble_halve_the_limit_once() {
        let gate = Gate::adaptive(256);
        let passes = futures::future::join_all((0..48).map(|_| gate.enter())).await;
        passes.into_iter().for_each(Pass::troubled);
        assert_eq!(gate.limit(), 24);
        tokio::time::advance(WINDOW).await;
        gate.enter().await.troubled();
        assert_eq!(gate.limit(), 12);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lowered_limit_holds_for_those_that_come_after_it() {
        let gate = Gate::adaptive(8);
        let mut passes = futures::future::join_all((0..8).map(|_| gate.enter())).await;
        passes.pop().expect("there are eight").troubled();
        assert_eq!(gate.limit(), 4);
        passes.truncate(4);
        assert!(futures::poll!(Box::pin(gate.enter())).is_pending(), "four are still out");
        passes.truncate(3);
        assert!(futures::poll!(Box::pin(gate.enter())).is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_window_raises_the_limit_and_a_cap_holds_it() {
        let gate = Gate::adaptive(256);
        let passes = futures::future::join_all((0..48).map(|_| gate.enter())).await;
        tokio::time::advance(WINDOW).await;
        passes.into_iter().for_each(|pass| pass.finished(90_000));
        assert_eq!(gate.limit(), 72);
        gate.cap(16);
        assert_eq!(gate.limit(), 16);
        let passes = futures::future::join_all((0..16).map(|_| gate.enter())).await;
        tokio::time::advance(WINDOW).await;
        passes.into_iter().for_each(|pass| pass.finished(900_000));
        assert_eq!(gate.limit(), 16);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fixed_concurrency_stays_whatever_happens() {
        let config = NetworkConfig { concurrency: Concurrency::Fixed(3), ..NetworkConfig::default() };
        let gate = Gate::new(&config);
        gate.enter().await.troubled();
        gate.cap(1);
        assert_eq!(gate.limit(), 3);
        let _three = futures::future::join_all((0..3).map(|_| gate.enter())).await;
        assert!(futures::poll!(Box::pin(gate.enter())).is_pending());
    }
}

//! The store against a model: histories of all that is asked of it, on a disk that loses power at any call.
//!
//! What was acknowledged is there, what was not is there wholly or not at all, in the order in which it was asked for; and
//! nothing else. `CRATEFERRY_HISTORIES=N` runs so many, `CRATEFERRY_SEED=N` begins with that one.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod rig;
mod model {
    pub mod disk;
    pub mod expected;
    pub mod history;
    pub mod knowledge;
    pub mod run;
    pub mod world;
}

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use model::history::{Step, history};
use model::run::{Beginning, Seen, run};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

/// Histories without a word from the environment.
const HISTORIES: u64 = 300;

#[expect(clippy::disallowed_methods, reason = "how much is run is for whoever runs it to say")]
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

fn runner(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config { failure_persistence: None, max_shrink_iters: 4000, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

fn history_of(seed: u64) -> Vec<Step> {
    history().new_tree(&mut runner(seed)).unwrap().current()
}

/// Runs the history of a seed; if it fails, finds a short one that does too.
fn try_history(beginning: &Beginning, seed: u64) -> Result<Seen, String> {
    let mut runner = runner(seed);
    let tree = history().new_tree(&mut runner).unwrap();
    let seen = std::cell::Cell::new(Seen::default());
    let outcome = runner.run_one(tree, |history| {
        seen.set(run(beginning, &history).0);
        Ok(())
    });
    match outcome {
        Ok(_) => Ok(seen.get()),
        Err(TestError::Fail(why, minimal)) => Err(format!(
            "history {seed} fails: {why}\nthe shortest that fails too:\n{}\n\
             again with CRATEFERRY_SEED={seed} CRATEFERRY_HISTORIES=1",
            minimal.iter().map(|step| format!("  {step:?}\n")).collect::<String>()
        )),
        Err(TestError::Abort(why)) => Err(format!("history {seed} was given up: {why}")),
    }
}

/// Panics of histories are told once, with the shortest history, and not for each attempt to shorten it.
fn hush() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().name() != Some("history") {
            tell(info);
        }
    }));
}

#[test]
fn no_history_loses_or_invents_anything() {
    hush();
    let (first, count) = (setting("CRATEFERRY_SEED", 0), setting("CRATEFERRY_HISTORIES", HISTORIES));
    let (next, begun) = (AtomicU64::new(first), Instant::now());
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || -> Result<Seen, String> {
        let (beginning, mut seen) = (Beginning::new(), Seen::default());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return Ok(seen);
            }
            // If one fails, no more are begun.
            seen.add(try_history(&beginning, seed).inspect_err(|_| next.store(first + count, Ordering::Relaxed))?);
        }
    };
    let outcomes: Vec<Result<Seen, String>> = std::thread::scope(|scope| {
        let spawn = |_| std::thread::Builder::new().name("history".into()).spawn_scoped(scope, work).unwrap();
        let threads: Vec<_> = (0..at_once).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut seen = Seen::default();
    for outcome in outcomes {
        seen.add(outcome.unwrap_or_else(|failure| panic!("{failure}")));
    }
    println!("{count} histories in {:?}: {seen:?}", begun.elapsed());
    assert!(seen.losses >= count && seen.records >= count && seen.generations >= count / 2, "{seen:?}");
}

#[test]
fn a_seed_gives_the_same_history_and_the_same_calls_of_the_disk() {
    let beginning = Beginning::new();
    for seed in 0..20 {
        let history = history_of(seed);
        assert_eq!(format!("{history:?}"), format!("{:?}", history_of(seed)));
        let (one, other) = (run(&beginning, &history).1, run(&beginning, &history).1);
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        let around = differs.map(|at| (&one[at.saturating_sub(3)..=at], &other[at.saturating_sub(3)..=at]));
        assert!(one == other, "history {seed}: {} and {} calls, first {around:#?}", one.len(), other.len());
    }
}

//! A sync that is killed goes on where it was: the same generation in the end, and nothing that was durable is asked for
//! again.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::collections::HashMap;
use std::time::Duration;

use common::{Ferry, chance, wait_until};
use crateferry_store::State;
use crateferry_test_support::{Fault, Registry};
use fastrand::Rng;

const RELEASES: usize = 2_000;
/// Requests at once in the syncs that are killed.
const AT_ONCE: usize = 16;
/// With how much delay each crate file comes: no more than 800 a second, so about 200 within the quarter of a second in
/// which a group may wait.
const DELAY: Duration = Duration::from_millis(20);
/// What one kill may cost on average: a group that waits, a group that is being synced, and what is asked for.
const IN_FLIGHT: usize = 2 * 200 + AT_ONCE;

/// When a sync is killed.
enum Moment {
    /// After so many crate files were asked for.
    Requests(usize),
    /// After this time.
    Time(Duration),
}

/// A mirror whose syncs are killed, and what it held after each kill.
struct Trial {
    registry: Registry,
    ferry: Ferry,
    seed: u64,
    random: Rng,
    undisturbed: String,
    /// How often a held release had been asked for when it was first seen to be held.
    asked_when_held: HashMap<(String, String), usize>,
    kills: usize,
}

impl Trial {
    fn new() -> Trial {
        let registry = Registry::new();
        registry.releases(RELEASES);
        let undisturbed = Ferry::git(&registry);
        undisturbed.sync(&["--all"]).expect(0);
        let digest = undisturbed.digest();
        registry.reset_counters().fault_crate_files(Fault::delay(DELAY));
        let (seed, random) = chance();
        let ferry = Ferry::git(&registry);
        Trial { registry, ferry, seed, random, undisturbed: digest, asked_when_held: HashMap::new(), kills: 0 }
    }

    /// Starts a sync and kills it; says how many releases were held then, or nothing if the sync was done before.
    fn kill_at(&mut self, moment: &Moment) -> Option<usize> {
        let at_once = AT_ONCE.to_string();
        let before = self.registry.crate_file_requests();
        let mut sync = self.ferry.start_sync(&["--all", "--concurrency", &at_once]);
        match *moment {
            Moment::Requests(more) => wait_until("requests or an end", || {
                self.registry.crate_file_requests() >= before + more || sync.has_ended()
            }),
            Moment::Time(time) => std::thread::sleep(time),
        }
        let ran = sync.kill();
        if ran.signal.is_none() {
            ran.expect(0);
            return None;
        }
        self.kills += 1;
        // In a copy, so that the next sync finds the mirror as the killed one left it.
        let copy = self.ferry.copy();
        copy.run("verify", &[]).expect(0); // every row that is served has its bytes
        let held = copy.knowledge().in_state(State::Stored);
        let count = held.len();
        for (name, version) in held {
            let asked = self.registry.requests_for(&name, &version);
            self.asked_when_held.entry((name, version)).or_insert(asked);
        }
        Some(count)
    }

    /// Lets a sync come to its end and compares.
    fn finish(&self) {
        let seed = self.seed;
        self.ferry.sync(&["--all"]).expect(0);
        assert_eq!(self.ferry.digest(), self.undisturbed, "digest, seed {seed}");
        for ((name, version), asked) in &self.asked_when_held {
            let now = self.registry.requests_for(name, version);
            assert_eq!(now, *asked, "{name} {version} was held and asked for again, seed {seed}");
        }
        let (requests, kills) = (self.registry.crate_file_requests(), self.kills);
        let most = RELEASES + kills * IN_FLIGHT;
        assert!(requests <= most, "{requests} requests with {kills} kills, seed {seed}");
        self.ferry.run("verify", &[]).expect(0);
    }
}

#[test]
fn a_sync_killed_while_it_fetches_asks_for_nothing_that_is_held() {
    let mut trial = Trial::new();
    for _ in 0..20 {
        let moment = Moment::Requests(trial.random.usize(1..300));
        if trial.kill_at(&moment).is_none() {
            break;
        }
    }
    assert!(trial.kills >= 4, "seed {}", trial.seed);
    trial.finish();
}

#[test]
fn a_sync_killed_at_any_moment_ends_with_the_same_generation() {
    let mut trial = Trial::new();
    for _ in 0..20 {
        let moment = Moment::Time(Duration::from_millis(trial.random.u64(0..1_000)));
        if trial.kill_at(&moment).is_none() {
            break;
        }
    }
    assert!(trial.kills >= 4, "seed {}", trial.seed);
    trial.finish();
}

/// A sync of which all crate files are held, but for `left` that the registry does not give out; killed.
fn nearly_done(left: usize) -> (Registry, Ferry, String) {
    let registry = Registry::new();
    registry.releases(RELEASES);
    let undisturbed = Ferry::git(&registry);
    undisturbed.sync(&["--all"]).expect(0);
    registry.reset_counters();
    let ids = registry.release_ids();
    // Not the first one: until that is answered, nobody knows what the server speaks, and the others wait.
    let step = RELEASES / left;
    for (name, version) in ids.iter().skip(step / 2).step_by(step) {
        registry.fault(name, version, Fault::held());
    }
    let ferry = Ferry::git(&registry);
    let sync = ferry.start_sync(&["--all", "--concurrency", "256", "--progress-interval", "100ms"]);
    let done = format!("done={} ", RELEASES - left);
    wait_until("all but a few are held", || sync.stderr().contains(&done));
    assert_eq!(sync.kill().code, None);
    (registry, ferry, undisturbed.digest())
}

#[test]
fn a_restart_with_one_percent_left_asks_for_that_percent() {
    let (registry, ferry, undisturbed) = nearly_done(RELEASES / 100);
    registry.let_go().reset_counters();
    let said = ferry.sync(&[]).expect(0).json();
    assert_eq!(said["releases"]["stored"], RELEASES / 100);
    assert_eq!(registry.crate_file_requests(), RELEASES / 100);
    assert_eq!(ferry.digest(), undisturbed);
}

#[test]
fn a_sync_killed_while_it_publishes_is_published_by_the_next_one() {
    let (registry, ferry, undisturbed) = nearly_done(1);
    registry.let_go();
    ferry.sync(&["--limit", "0"]).expect(0); // takes the index phase and its publication out of what follows
    registry.reset_counters();
    let (seed, mut random) = chance();
    for round in 0..10 {
        let ferry = ferry.copy();
        let sync = ferry.start_sync(&["--offline-index"]);
        std::thread::sleep(Duration::from_millis(random.u64(0..400)));
        sync.kill();
        ferry.sync(&[]).expect(0);
        assert_eq!(ferry.digest(), undisturbed, "round {round}, seed {seed}");
    }
}

#[test]
fn a_mirror_whose_making_was_killed_is_made_by_the_next_sync() {
    let registry = Registry::new();
    registry.releases(14);
    let (seed, mut random) = chance();
    for round in 0..12 {
        let ferry = Ferry::sparse(&registry);
        for _ in 0..3 {
            let sync = ferry.start_sync(&["--crate", "c00000", "c00001"]);
            std::thread::sleep(Duration::from_millis(random.u64(0..120)));
            sync.kill();
        }
        let said = ferry.sync(&["--crate", "c00000", "c00001"]).expect(0).json();
        assert_eq!(said["held"], 14, "round {round}, seed {seed}");
    }
}

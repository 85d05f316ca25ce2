//! The program is killed, or its disk fails it, at exact system calls; then the same command makes good what was begun.
//!
//! strace counts the calls. Which command, which call and which fault comes by chance, from `CRATEFERRY_SEED` if that is set;
//! `CRATEFERRY_FAULTS` says how many faults each test makes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::gap::{Gap, walk};
use common::{Ran, chance, copy_folder, flip_bit, program};
use crateferry_store::{Layout, Mirror, StoreLimits, SystemDisk};
use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;

/// Calls that change something on a disk, and up to which of them a fault comes in a thread.
const CALLS: [(&str, u64); 8] = [
    ("pwrite64", 16),
    ("fdatasync", 3),
    ("fsync", 3),
    ("rename", 2),
    ("openat", 80),
    ("fallocate", 1),
    ("unlink", 2),
    ("ftruncate", 1),
];

/// What a disk may answer.
const ERRORS: [&str; 4] = ["ENOSPC", "EIO", "EMFILE", "EACCES"];

/// Two sides of a gap, each with something left to do, and what comes of it where nothing goes wrong.
struct World {
    gap: Gap,
    bundle: PathBuf,
    /// The verb, and the folders that it left.
    undisturbed: BTreeMap<&'static str, TempDir>,
}

/// Commands that write. Each works in a folder with the mirrors `mirror` and `far`.
const VERBS: [&str; 7] = ["sync", "rebuild", "export", "create", "apply", "repair", "withdraw"];

impl World {
    fn new() -> World {
        let gap = Gap::new();
        let (full, made) = gap.create("full", &["--full"]);
        gap.apply("far", &full).expect(0);
        gap.change(0);
        let (bundle, _) = gap.create("delta", &["--since", &common::gap::generation(&made), "--volume-size", "40kB"]);
        // Something that the next sync finds.
        gap.registry.release("late", "1.0.0").release("late", "1.1.0").yank("late", "1.0.0").commit();
        let mut world = World { gap, bundle, undisturbed: BTreeMap::new() };
        for verb in VERBS {
            let folder = world.copy(verb);
            world.run(verb, folder.path(), None).expect(0);
            world.undisturbed.insert(verb, folder);
        }
        world
    }

    /// A copy of both mirrors as they were before anything was done.
    fn copy(&self, verb: &str) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&self.gap.origin.mirror(), &folder.path().join("mirror"));
        copy_folder(&self.gap.origin.beside("far"), &folder.path().join("far"));
        match verb {
            "repair" => damage(&folder.path().join("mirror")),
            "rebuild" => fs::remove_file(folder.path().join("mirror/ledger.redb")).unwrap(),
            _ => {}
        }
        folder
    }

    /// Runs a command, with a fault as strace takes it.
    fn run(&self, verb: &str, folder: &Path, fault: Option<(&str, &str)>) -> Ran {
        let mut command = program();
        let (mirror, far, out) = (folder.join("mirror"), folder.join("far"), folder.join("out"));
        match verb {
            "sync" => command.arg("sync").arg(mirror),
            "rebuild" => command.arg("rebuild").arg(mirror),
            "export" => command.arg("export").arg(mirror).args(["--layout", "local-registry", "--to"]).arg(out),
            "create" => {
                let command = command.args(["bundle", "create"]).arg(mirror).args(["--full", "--volume-size", "40kB"]);
                command.arg("--sign").arg(&self.gap.key).arg("--out").arg(out)
            }
            "apply" => {
                command.args(["bundle", "apply"]).arg(far).arg(&self.bundle).args(["--trust", &self.gap.trust()])
            }
            "repair" => command.arg("verify").arg(mirror).arg("--repair"),
            "withdraw" => command.arg("withdraw").arg(mirror).args(["c00000", "--reason", "malware"]),
            other => unreachable!("{other} is no verb"),
        };
        let command = match fault {
            Some((call, fault)) => traced(&command, call, fault),
            None => command,
        };
        self.gap.origin.start(command).wait()
    }

    /// One fault, and the same command again: what there is then is what there would have been. Returns how the disturbed
    /// run ended.
    fn trial(&self, random: &mut Rng, fault: impl Fn(&mut Rng) -> String, seed: u64) -> Ran {
        let verb = VERBS[random.usize(..VERBS.len())];
        let (call, most) = CALLS[random.usize(..CALLS.len())];
        let when = random.u64(1..=most);
        let fault = format!("{}:when={when}", fault(random));
        let folder = self.copy(verb);
        let what = format!("{verb}, {call} {fault}, seed {seed}");
        let disturbed = self.run(verb, folder.path(), Some((call, &fault)));
        assert!(!disturbed.stderr.contains("panicked"), "{what}: {}", disturbed.stderr);
        let again = self.run(verb, folder.path(), None);
        // What was withdrawn already is withdrawn.
        assert_eq!(again.code, Some(0), "{what}: {}\nthen: {}{}", disturbed.stderr, again.stdout, again.stderr);
        assert_eq!(outcome(verb, folder.path()), outcome(verb, self.undisturbed[verb].path()), "{what}");
        for mirror in ["mirror", "far"] {
            let mut verify = program();
            verify.arg("verify").arg(folder.path().join(mirror)).arg("--json");
            let verified = self.gap.origin.start(verify).wait();
            assert_eq!(verified.code, Some(0), "{what}: {}", verified.stdout);
        }
        disturbed
    }
}

/// The same command under strace, which lets one call fail or kills the program at it.
fn traced(command: &Command, call: &str, fault: &str) -> Command {
    // Not with --seccomp-bpf, which is faster and loses count: then no call but the first is ever tampered with.
    let mut traced = Command::new("strace");
    traced.args(["--follow-forks", "--quiet=all", "--output=/dev/null"]);
    traced.arg(format!("--trace={call}")).arg(format!("--inject={call}:{fault}"));
    traced.arg("--").arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(key, value),
            None => traced.env_remove(key),
        };
    }
    traced
}

/// Turns a bit around in three crate files of a mirror.
fn damage(mirror: &Path) {
    let open = Mirror::open(mirror, StoreLimits::default(), std::sync::Arc::new(SystemDisk)).unwrap();
    let mut held = Vec::new();
    let keep = |release, row: crateferry_store::Row| {
        held.extend(row.place.map(|place| (release, place)));
        Ok(())
    };
    open.ledger().reader().unwrap().each_release(keep).unwrap();
    drop(open);
    let layout = Layout::new(mirror);
    for at in [2, 17, 40] {
        let (_, place) = held[at];
        let path =
            [layout.sealed_pack(place.pack), layout.open_pack(place.pack)].into_iter().find(|path| path.exists());
        flip_bit(&path.unwrap(), (place.offset + place.length / 2) * 8);
    }
}

/// What a command leaves, as far as it is the same each time.
fn outcome(verb: &str, folder: &Path) -> BTreeMap<String, Value> {
    let mut outcome = BTreeMap::new();
    for mirror in ["mirror", "far"] {
        let ran = program().arg("status").arg(folder.join(mirror)).arg("--json").output().unwrap();
        let status: Value = serde_json::from_slice(&ran.stdout).unwrap();
        for key in ["generation_digest", "rows", "hole_count", "releases"] {
            outcome.insert(format!("{mirror} {key}"), status[key].clone());
        }
    }
    if ["export", "create"].contains(&verb) {
        let out = folder.join("out");
        for path in walk(&out) {
            let name = path.strip_prefix(&out).unwrap().display().to_string();
            // A signature tells when it was made.
            let bytes = if name.ends_with(".minisig") { Vec::new() } else { fs::read(&path).unwrap() };
            outcome.insert(name, Value::from(blake(&bytes)));
        }
    }
    outcome
}

fn blake(bytes: &[u8]) -> String {
    crateferry_store::Blake3::of(bytes).to_string()
}

/// Tries until so many faults came about; not every call that is picked is one that the command makes.
#[expect(clippy::print_stdout, reason = "who tries many wants to know how many")]
fn try_often(fault: impl Fn(&mut Rng) -> String, came_about: impl Fn(&Ran) -> bool) {
    let (world, (seed, mut random)) = (World::new(), chance());
    let wanted = std::env::var("CRATEFERRY_FAULTS").map_or(5, |count| count.parse().unwrap());
    let (mut faults, mut trials) = (0, 0);
    while faults < wanted {
        trials += 1;
        assert!(trials < 20 * (wanted + 5), "{faults} faults in {trials} trials, seed {seed}");
        faults += u64::from(came_about(&world.trial(&mut random, &fault, seed)));
    }
    println!("{faults} faults in {trials} trials");
}

#[test]
fn what_is_killed_at_an_exact_call_is_made_good_by_the_same_command() {
    try_often(|_| "signal=KILL".into(), |ran| ran.code.is_none());
}

#[test]
fn what_a_disk_refuses_is_an_error_and_made_good_by_the_same_command() {
    try_often(|random| format!("error={}", ERRORS[random.usize(..ERRORS.len())]), |ran| ran.code != Some(0));
}

//! Two processes at a time on one mirror, whichever they are, some of them killed: one of them writes, the other waits, is refused or
//! reads, and the mirror stays what it is.
//!
//! What comes together comes by chance, from `CRATEFERRY_SEED` if that is set; `CRATEFERRY_PAIRS` says how many pairs there are.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::process::Command;
use std::time::Duration;

use common::gap::Gap;
use common::{Ran, Running, chance, program};
use fastrand::Rng;

/// None of them changes what is served: all is held, and the registry stays as it is.
const VERBS: [&str; 9] = ["sync", "rebuild", "gc", "verify", "repair", "export", "create", "status", "quarantine"];

/// A mirror of packs of a few kilobytes, all that the registry has.
fn mirrored() -> Gap {
    let gap = Gap::new();
    gap.origin.configure("store", "pack-size = \"20 kB\"");
    gap.change(0);
    gap.change(1);
    gap.origin.run("withdraw", &[&gap.registry.release_ids()[1].0, "--reason", "malware"]).expect(0);
    gap
}

fn command(gap: &Gap, verb: &str, number: usize) -> Command {
    let origin = &gap.origin;
    let out = origin.beside(&format!("out-{number}"));
    let mut command = program();
    match verb {
        "sync" => return origin.command("sync", &["--ca-file", gap.registry.ca_file().to_str().unwrap()]),
        "gc" => return origin.command("gc", &["--grace", "0s"]),
        "repair" => return origin.command("verify", &["--repair"]),
        "quarantine" => return origin.command("quarantine", &["fresh-0", "--reason", "looked at"]),
        "export" => command.arg("export").arg(origin.mirror()).args(["--layout", "cargo", "--to"]).arg(out),
        "create" => command
            .args(["bundle", "create"])
            .arg(origin.mirror())
            .args(["--full", "--sign"])
            .arg(&gap.key)
            .arg("--out")
            .arg(out),
        plain => return origin.command(plain, &[]),
    };
    command
}

/// Lets a process end, or kills it after a while.
fn end(mut running: Running, kill_after: Option<Duration>) -> Ran {
    if let Some(time) = kill_after {
        std::thread::sleep(time);
        if !running.has_ended() {
            return running.kill();
        }
    }
    running.wait()
}

fn a_while(random: &mut Rng) -> Duration {
    Duration::from_millis(random.u64(..400))
}

#[test]
fn any_two_verbs_at_once_leave_the_mirror_what_it_was() {
    let (gap, (seed, mut random)) = (mirrored(), chance());
    let pairs = std::env::var("CRATEFERRY_PAIRS").map_or(24, |count| count.parse().unwrap());
    let before = gap.origin.status();
    let mut refused = 0;
    for number in 0..pairs {
        let verbs = [0, 1].map(|_| VERBS[random.usize(..VERBS.len())]);
        let what = format!("pair {number}, {verbs:?}, seed {seed}");
        let kills = [0, 1].map(|_| random.bool().then(|| a_while(&mut random)).filter(|_| random.bool()));
        let first = gap.origin.start(command(&gap, verbs[0], 2 * number));
        std::thread::sleep(a_while(&mut random) / 4);
        let second = gap.origin.start(command(&gap, verbs[1], 2 * number + 1));
        let ends = std::thread::scope(|scope| {
            let first = scope.spawn(|| end(first, kills[0]));
            [end(second, kills[1]), first.join().unwrap()]
        });
        for ran in ends {
            let is_said = !ran.stderr.contains("panicked") && matches!(ran.code, None | Some(0 | 4));
            assert!(is_said, "{what}: {:?}\n{}{}", ran.code, ran.stdout, ran.stderr);
            refused += usize::from(ran.code == Some(4));
            assert!(ran.code != Some(4) || ran.stderr.contains("is locked by"), "{what}: {}", ran.stderr);
        }
        let verified = gap.origin.run("verify", &["--json"]);
        assert_eq!(verified.code, Some(0), "{what}: {}{}", verified.stdout, verified.stderr);
        let after = gap.origin.status();
        for key in ["epoch", "generation", "generation_digest", "rows", "hole_count"] {
            assert_eq!(after[key], before[key], "{key} after {what}");
        }
    }
    println!("{pairs} pairs, {refused} processes found the mirror locked");
}

//! Making bundles and taking them in within the memory that is set, and the same bundles whatever is set.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs;
use std::process::Command;
use std::time::Duration;

use common::gap::{Gap, volumes};
use common::{Ran, program};
use crateferry_test_support::{Registry, Release};

/// What is set, in bytes. The program is not optimized here, which changes its speed, and hardly its memory: no slack.
const LIMIT: u64 = 400 << 20;

/// Content in a crate file, and how many of them there are: more together than the limit.
const CONTENT: usize = 12 << 20;
const CRATES: usize = 40;

/// Runs the program, and says what it had of the machine's memory at the most.
fn measured(gap: &Gap, command: Command) -> (Ran, u64) {
    let mut running = gap.origin.start(command);
    let (path, mut most) = (format!("/proc/{}/status", running.id()), 0);
    while !running.has_ended() {
        let status = fs::read_to_string(&path).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        most = most.max(line.map_or(0, |kilobytes| kilobytes.trim().parse::<u64>().unwrap() << 10));
        std::thread::sleep(Duration::from_millis(2));
    }
    (running.wait(), most)
}

/// Content that deflate makes very small, and that is another for each crate.
fn content(seed: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed as u64);
    let block: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(8 << 10).collect();
    block.into_iter().cycle().take(CONTENT).collect()
}

#[test]
fn a_bundle_is_made_and_taken_in_within_the_memory_that_is_set_and_is_the_same_whatever_is_set() {
    let registry = Registry::new();
    for number in 0..CRATES {
        let files = vec![("data.bin".to_owned(), content(number))];
        // Two of each four are versions of one crate.
        let (name, version) = if number % 4 < 2 { (number / 4, number % 4) } else { (100 + number, 0) };
        registry.release_with(
            &format!("bulky-{name}"),
            &format!("1.{version}.0"),
            Release { files, ..Release::default() },
        );
    }
    let gap = Gap::of(registry, &["--all"]);
    let create = |out: &str| {
        let mut command = program();
        command.args(["bundle", "create"]).arg(gap.origin.mirror()).args(["--full", "--sign"]).arg(&gap.key);
        command.arg("--out").arg(gap.origin.beside(out));
        command
    };
    gap.origin.configure("bundles", "memory = \"100 MiB\"");
    gap.origin.start(create("small")).wait().expect_error(2, "100 MiB of memory are not enough");
    let configuration = gap.origin.file("crateferry.toml");
    let set = |from: &str, to: &str| {
        let text = fs::read_to_string(&configuration).unwrap();
        fs::write(&configuration, text.replace(from, to)).unwrap();
    };
    set("\"100 MiB\"", "\"400 MiB\"");
    let (made, most) = measured(&gap, create("small"));
    made.expect(0);
    assert!(most > 0 && most <= LIMIT, "{} MiB", most >> 20);
    set("\"400 MiB\"", "\"8 GiB\"");
    let (made, much) = measured(&gap, create("large"));
    made.expect(0);
    let made_within = most >> 20;
    assert!(much > most, "with more memory more is done at once: {} and {} MiB", most >> 20, much >> 20);
    let (small, large) = (gap.origin.beside("small"), gap.origin.beside("large"));
    assert_eq!(fs::read(small.join("manifest.json")).unwrap(), fs::read(large.join("manifest.json")).unwrap());
    for (small, large) in volumes(&small).iter().zip(volumes(&large)) {
        assert!(fs::read(small).unwrap() == fs::read(large).unwrap());
    }
    let far = gap.origin.beside("far");
    let mut apply = program();
    apply.args(["bundle", "apply"]).arg(&far).arg(&small).args(["--trust", &gap.trust()]);
    apply.env("CRATEFERRY_MEMORY", "400 MiB");
    let (applied, most) = measured(&gap, apply);
    applied.expect(0);
    assert!(most > 0 && most <= LIMIT, "{} MiB", most >> 20);
    gap.is_the_same("far");
    eprintln!("peaks: made with {made_within} and {} MiB, applied with {} MiB", much >> 20, most >> 20);
}

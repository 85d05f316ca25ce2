//! Hundreds of hostile bundles: whatever comes, nothing is written outside the mirror, what is served stays what it is, and there is an
//! answer in bounded time and memory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::gap::{Gap, generation, sign, walk};
use common::{Knowledge, copy_folder, program};
use crateferry_store::Release;
use nix::sys::resource::{Resource, setrlimit};

/// Address space that each run may have: far more than it needs, far less than a bomb.
const MEMORY: u64 = 6 << 30;
/// How long each may take; debug builds are slow.
const TIME: Duration = Duration::from_secs(60);
/// Files that must not come to be.
const ESCAPED: &str = "/tmp/crateferry-escaped";

/// What makes no difference to what is served: a key vouches for it, all digests are right, and it leads where it says.
const HARMLESS: [&str; 20] = [
    "facts piece: other text",
    "frame: a base that is not there",
    "manifest: encoders 0",
    "manifest: format 0",
    "manifest: level 0",
    "manifest: no line feed",
    "manifest: sections 0",
    "manifest: spaces",
    "manifest: through 3",
    "manifest: through 4",
    "manifest: totals carried 1",
    "manifest: volume's sha256 0",
    "removed: nobody knows it",
    "table: bomb of lines",
    "table: first line twice",
    "table: of another bundle",
    "table: of another volume",
    "table: skippable frame before",
    "table: unknown key",
    "table: without its first line",
];

/// What a mirror serves and holds.
#[derive(Debug, PartialEq)]
struct Store {
    digest: Option<String>,
    held: Vec<Release>,
}

impl Store {
    fn of(mirror: &Path) -> Store {
        let known = Knowledge::of(mirror);
        let held = known.releases.iter().filter(|(_, row)| row.place.is_some()).map(|(release, _)| release.clone());
        Store { digest: known.digest(), held: held.collect() }
    }
}

struct World {
    gap: Gap,
    plain: PathBuf,
    framed: PathBuf,
    /// Before and after a good bundle.
    before: Store,
    after: Store,
}

impl World {
    /// A replica that is one generation behind, and two good bundles that lead on.
    fn new() -> World {
        let gap = Gap::new();
        let (full, made) = gap.create("full", &["--full"]);
        gap.apply("far", &full).expect(0);
        gap.change(0);
        let since = generation(&made);
        let (plain, _) = gap.create("plain", &["--since", &since, "--level", "none"]);
        let (framed, _) = gap.create("framed", &["--since", &since, "--level", "fast"]);
        let far = gap.origin.beside("far");
        let before = Store::of(&far);
        let next = gap.origin.beside("next");
        copy_folder(&far, &next);
        gap.apply("next", &plain).expect(0);
        World { before, after: Store::of(&next), plain, framed, gap }
    }

    /// Makes the variants; those that a key vouches for are signed by the real minisign.
    fn variants(&self) -> Vec<PathBuf> {
        let out = self.gap.origin.beside("hostile");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile_bundles.py");
        let output = Command::new("python3").arg(script).args([&self.plain, &self.framed, &out]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let entries: Vec<PathBuf> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
        let (marks, mut folders): (Vec<PathBuf>, Vec<PathBuf>) = entries.into_iter().partition(|path| path.is_file());
        marks.iter().for_each(|mark| sign(&self.gap.key, &mark.with_extension("").join("manifest.json")));
        folders.sort();
        folders
    }

    /// Runs a command on a bundle, within limits; its exit code and what it said.
    fn run(&self, arguments: &[&str], bundle: &Path, log: &Path) -> (i32, String) {
        let mut command = program();
        command.arg("bundle").args(arguments);
        let stream = bundle.join("stream");
        if stream.exists() {
            command.arg("-").stdin(fs::File::open(stream).unwrap());
        } else {
            command.arg(bundle).stdin(Stdio::null());
        }
        command.args(["--trust", &self.gap.trust(), "--json"]);
        let said = fs::File::create(log).unwrap();
        command.stdout(said.try_clone().unwrap()).stderr(said);
        // SAFETY: setrlimit is safe to call between fork and exec.
        #[expect(unsafe_code, reason = "the limit is to hold for the child alone")]
        unsafe {
            command.pre_exec(|| Ok(setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY)?));
        }
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > TIME => {
                    child.kill().unwrap();
                    child.wait().unwrap();
                    return (-1, format!("it did not end in {TIME:?}"));
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let said = String::from_utf8_lossy(&fs::read(log).unwrap()).into_owned();
        (status.code().unwrap_or_else(|| -status.signal().unwrap()), said)
    }

    /// Everything beside the mirror that a variant could touch.
    fn surroundings(sandbox: &Path) -> BTreeMap<PathBuf, u64> {
        let files = walk(sandbox).into_iter().filter(|path| !path.starts_with(sandbox.join("far")));
        files.map(|path| (path.clone(), path.symlink_metadata().unwrap().len())).collect()
    }

    /// What is wrong with how a variant is taken; nothing if all is well. Also whether it was applied.
    fn try_one(&self, variant: &Path) -> (Vec<String>, bool) {
        let sandbox = tempfile::tempdir().unwrap();
        let far = sandbox.path().join("far");
        copy_folder(&self.gap.origin.beside("far"), &far);
        let log = tempfile::NamedTempFile::new().unwrap();
        let (code, said) = self.run(&["apply", far.to_str().unwrap()], variant, log.path());
        let mut wrong = Vec::new();
        if ![0, 1, 2, 3, 5].contains(&code) || said.contains("panicked") {
            wrong.push(format!("apply ended with {code}: {said}"));
        }
        if code != 0 && !said.contains("error: ") && !said.contains('{') {
            wrong.push(format!("it does not say why it ended with {code}: {said}"));
        }
        let beside = World::surroundings(sandbox.path());
        if !beside.is_empty()
            || Path::new(ESCAPED).exists()
            || sandbox.path().parent().unwrap().join("escaped").exists()
        {
            wrong.push(format!("something came to be outside the mirror: {beside:?}"));
        }
        let store = Store::of(&far);
        let applied = store == self.after;
        let holds_more = store.held.iter().any(|release| !self.after.held.contains(release));
        if store.digest != self.before.digest && !applied || holds_more {
            wrong.push(format!("the mirror is another: {:?}, exit code {code}", store.digest));
        }
        if code == 0 && !applied && !said.contains("applied_before") {
            wrong.push(format!("it says that all is well: {said}"));
        }
        // What was refused is no obstacle for the good one.
        if !applied && !variant.join("stream").exists() {
            let (code, said) = self.run(&["apply", far.to_str().unwrap()], &self.plain, log.path());
            if code != 0 || Store::of(&far) != self.after {
                wrong.push(format!("the good bundle is not taken after it ({code}): {said}"));
            }
        }
        let (code, said) = self.run(&["inspect"], variant, log.path());
        if ![0, 1, 2, 3, 5].contains(&code) || said.contains("panicked") {
            wrong.push(format!("inspect ended with {code}: {said}"));
        }
        (wrong, applied)
    }
}

#[test]
fn whatever_a_bundle_is_made_of_nothing_leaves_the_mirror_and_what_is_served_stays() {
    let world = World::new();
    assert_ne!(world.before, world.after);
    let variants = world.variants();
    assert!(variants.len() >= 150, "{} variants", variants.len());
    let (next, problems, applied) = (Mutex::new(variants.iter()), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some(variant) = next.lock().unwrap().next() else { break };
                    let (wrong, was_applied) = world.try_one(variant);
                    let name = variant.file_name().unwrap().to_string_lossy().into_owned();
                    problems.lock().unwrap().extend(wrong.iter().map(|wrong| format!("{name}: {wrong}")));
                    if was_applied {
                        applied.lock().unwrap().push(name);
                    }
                }
            });
        }
    });
    let (mut problems, applied) = (problems.into_inner().unwrap(), applied.into_inner().unwrap());
    problems.sort();
    assert!(problems.is_empty(), "{} of {}:\n{}", problems.len(), variants.len(), problems.join("\n"));
    // Around what matters, a stream may have other members. Of the rest, this is harmless, and nothing else is taken.
    let mut strange: Vec<&str> =
        applied.iter().map(String::as_str).filter(|name| !name.starts_with("stream: ")).collect();
    strange.sort_unstable();
    assert_eq!(strange, HARMLESS);
    println!("{} variants, {} of them harmless", variants.len(), applied.len());
}

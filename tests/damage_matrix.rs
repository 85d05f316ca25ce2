//! Every kind of damage to every file, before every verb: it is named, or it makes no difference. Never is a wrong body served, never does
//! a program panic or hang.
//!
//! Where in a file comes by chance, from `CRATEFERRY_SEED` if that is set. `CRATEFERRY_FLIPS` says how many single bits are turned around
//! beyond that.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::gap::{Gap, generation, volumes};
use common::{Ran, Server, chance, copy_folder, flip_bit, program};
use crateferry_store::{Layout, MirrorReader, Sha256, StoreLimits};
use fastrand::Rng;
use serde_json::Value;

/// What happens to a file.
const DAMAGES: [&str; 5] = ["flip", "truncate", "delete", "swap", "older"];
/// To which.
const OBJECTS: [&str; 8] =
    ["sealed pack", "table of contents", "open pack", "ledger", "catalog", "manifest", "volume", "signature"];
/// And what is done then.
const VERBS: [&str; 5] = ["verify", "serve", "sync", "apply", "rebuild"];

/// An origin and a replica, as they were and as they are, with bundles that lead there and on.
struct World {
    gap: Gap,
    /// Folders with `mirror`, `far` and the bundle that is applied next as `bundle`.
    older: PathBuf,
    now: PathBuf,
    /// The digests of what is served: by the origin and the replica now, and after their next step.
    digests: BTreeMap<&'static str, Value>,
    /// Every release there ever was, by the path that it is served at.
    releases: BTreeMap<String, Sha256>,
}

fn status(mirror: &Path) -> Ran {
    run(program().arg("status").arg(mirror).arg("--json"))
}

fn run(command: &mut std::process::Command) -> Ran {
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    Ran { code: output.status.code(), signal, stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn digest(mirror: &Path) -> Value {
    status(mirror).expect(0).json()["generation_digest"].clone()
}

impl World {
    fn new() -> World {
        let gap = Gap::new();
        let small = |mirror: &Path| {
            let path = mirror.join("crateferry.toml");
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\n[store]\n", "\n[store]\npack-size = \"8 kB\"\n")).unwrap();
        };
        let (full, made) = gap.create("full", &["--full"]);
        let (mirror, far) = (gap.origin.mirror(), gap.origin.beside("far"));
        gap.apply("far", &full).expect(0);
        [&mirror, &far].into_iter().for_each(|mirror| small(mirror));
        let mut last = generation(&made);
        let delta = |out: &str, last: &mut String| {
            let (bundle, made) = gap.create(out, &["--since", last, "--volume-size", "24kB", "--level", "none"]);
            *last = generation(&made);
            bundle
        };
        let keep = |name: &str, bundle: &Path| {
            let folder = gap.origin.beside(name);
            // One more small record, which begins a pack if the last one was sealed.
            let held = "fresh-0"; // it came in the first round
            for mirror in [&mirror, &far] {
                let quarantine = ["quarantine", mirror.to_str().unwrap(), held];
                gap.crateferry(&[&quarantine[..], &["--reason", "looked at"]].concat()).expect(0);
                gap.crateferry(&[&quarantine[..], &["--undo"]].concat()).expect(0);
            }
            copy_folder(&mirror, &folder.join("mirror"));
            copy_folder(&far, &folder.join("far"));
            copy_folder(bundle, &folder.join("bundle"));
            folder
        };
        for round in 0..3 {
            gap.change(round);
            let bundle = delta(&format!("delta-{round}"), &mut last);
            gap.apply("far", &bundle).expect(0);
        }
        gap.change(3);
        let first = delta("first", &mut last);
        let older = keep("older", &first);
        let before = digest(&mirror);
        gap.apply("far", &first).expect(0);
        gap.change(4);
        // The last one is larger, so that it has several volumes.
        for number in 0..6 {
            let made = crateferry_test_support::Release::sized(9_000);
            gap.registry.release_with(&format!("bulky-{number}"), "1.0.0", made);
        }
        gap.registry.commit();
        gap.origin.sync(&[]).expect(0);
        let second = delta("second", &mut last);
        assert!(volumes(&second).len() > 2);
        let now = keep("now", &second);
        let mut digests =
            BTreeMap::from([("origin before", before), ("origin", digest(&mirror)), ("replica", digest(&far))]);
        gap.apply("far", &second).expect(0);
        digests.insert("replica then", digest(&far));
        // Something that the next sync finds.
        gap.registry.release("late", "1.0.0").commit();
        let then = gap.origin.copy();
        then.sync(&[]).expect(0);
        digests.insert("origin then", digest(&then.mirror()));
        let releases = common::Knowledge::of(&then.mirror()).releases.into_iter().map(|(release, _)| {
            let path = format!("/crates/{}/{}/{}", release.id.name, release.id.version, release.checksum);
            (path, release.checksum)
        });
        World { older, now, digests, releases: releases.collect(), gap }
    }

    /// What can be damaged under a name, in a copy of a folder: the file, and another of its kind.
    fn object(folder: &Path, side: &str, object: &str) -> [PathBuf; 2] {
        let mirror = folder.join(side);
        let mut packs: Vec<PathBuf> =
            fs::read_dir(Layout::new(&mirror).packs()).unwrap().map(|pack| pack.unwrap().path()).collect();
        packs.sort();
        let (open, sealed): (Vec<PathBuf>, Vec<PathBuf>) =
            packs.into_iter().partition(|pack| pack.extension().is_some_and(|end| end == "open"));
        let of_bundle = volumes(&folder.join("bundle"));
        match object {
            "sealed pack" | "table of contents" => [sealed[1].clone(), sealed[0].clone()],
            "open pack" => [open[0].clone(), sealed[0].clone()],
            "ledger" => [mirror.join("ledger.redb"), mirror.join("catalog.redb")],
            "catalog" => [mirror.join("catalog.redb"), mirror.join("ledger.redb")],
            "manifest" => [folder.join("bundle/manifest.json"), folder.join("bundle/manifest.json.minisig")],
            "signature" => [folder.join("bundle/manifest.json.minisig"), folder.join("bundle/manifest.json")],
            "volume" => [of_bundle[1].clone(), of_bundle[0].clone()],
            other => unreachable!("{other}"),
        }
    }

    /// Damages one object in a copy. False if there is nothing to be done: an older copy of a pack that was not there.
    fn damage(&self, folder: &Path, side: &str, object: &str, damage: &str, random: &mut Rng) -> bool {
        let [path, other] = World::object(folder, side, object);
        let length = fs::metadata(&path).unwrap().len();
        // The table of contents is the end of a pack, and the archive's end behind it.
        let from = if object == "table of contents" { length.saturating_sub(2048) } else { 0 };
        match damage {
            "flip" => flip_bit(&path, random.u64(8 * from..8 * length)),
            "truncate" => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
                fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(random.u64(from..length)).unwrap();
            }
            "delete" => fs::remove_file(&path).unwrap(),
            "swap" => {
                let between = folder.join("between");
                fs::rename(&path, &between).unwrap();
                fs::rename(&other, &path).unwrap();
                fs::rename(&between, &other).unwrap();
            }
            "older" => {
                let old = self.older.join(path.strip_prefix(folder).unwrap());
                if !old.exists() {
                    return false;
                }
                fs::remove_file(&path).unwrap();
                fs::copy(old, &path).unwrap();
            }
            other => unreachable!("{other}"),
        }
        true
    }

    /// Does what a verb does; how it ended, and whether it is content.
    fn act(&self, verb: &str, folder: &Path) -> Result<(Ran, bool), String> {
        let (mirror, far) = (folder.join("mirror"), folder.join("far"));
        let ran = match verb {
            "verify" => run(program().arg("verify").arg(&mirror).arg("--json")),
            "rebuild" => run(program().arg("rebuild").arg(&mirror).arg("--json")),
            "sync" => run(program().arg("sync").arg(&mirror).args(["--ca-file"]).arg(self.gap.registry.ca_file())),
            "apply" => run(program().args(["bundle", "apply"]).arg(&far).arg(folder.join("bundle")).args([
                "--trust",
                &self.gap.trust(),
                "--json",
            ])),
            "serve" => return self.serve(&mirror),
            other => unreachable!("{other}"),
        };
        if ran.code.is_none() || ran.stderr.contains("panicked") || ![0, 1, 2, 3, 5].contains(&ran.code.unwrap()) {
            return Err(format!("{verb} ended with {:?}: {}{}", ran.code, ran.stdout, ran.stderr));
        }
        let is_content = ran.code == Some(0);
        Ok((ran, is_content))
    }

    /// Serves all releases once. A server that does not start says why.
    fn serve(&self, mirror: &Path) -> Result<(Ran, bool), String> {
        let mut command = program();
        command.arg("serve").arg(mirror).args(["--listen", "127.0.0.1:0"]);
        let mut running = self.gap.origin.start(command);
        while !running.has_ended() && !running.stderr().contains("serving on http") {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if running.has_ended() {
            let ran = running.wait();
            let is_named = ran.code == Some(5) || ran.code == Some(3);
            return if is_named {
                Ok((ran, false))
            } else {
                Err(format!("serve ended with {:?}: {}", ran.code, ran.stderr))
            };
        }
        let server = Server::ready(running);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (mut wrong, mut refused) = (Vec::new(), 0);
        runtime.block_on(async {
            let client = reqwest::Client::new();
            for (path, checksum) in &self.releases {
                match client.get(server.url(path)).send().await.and_then(reqwest::Response::error_for_status) {
                    Ok(answer) => match answer.bytes().await {
                        Ok(body) if Sha256::of(&body) != *checksum => wrong.push(path.clone()),
                        _ => {}
                    },
                    Err(_) => refused += 1,
                }
            }
        });
        let ran = server.into_running().kill();
        if !wrong.is_empty() || ran.stderr.contains("panicked") {
            return Err(format!("wrong bodies of {wrong:?}: {}", ran.stderr));
        }
        Ok((ran, refused <= 1)) // `late` is not there
    }

    /// What is wrong with how a verb deals with a damage; none if nothing is.
    fn cell(&self, object: &str, damage: &str, verb: &str, random: &mut Rng) -> Option<String> {
        let sandbox = tempfile::tempdir().unwrap();
        let folder = sandbox.path();
        copy_folder(&self.now, folder);
        let side = if verb == "apply" { "far" } else { "mirror" };
        if !self.damage(folder, side, object, damage, random) {
            return None;
        }
        let (ran, is_content) = match self.act(verb, folder) {
            Ok(outcome) => outcome,
            Err(problem) => return Some(problem),
        };
        if !is_content && ran.stderr.is_empty() && !ran.stdout.contains("findings") && !ran.stdout.contains("damaged") {
            return Some(format!("it does not say why: {:?} {}", ran.code, ran.stdout));
        }
        let expected = match verb {
            "sync" => "origin then",
            "apply" => "replica then",
            _ => "origin",
        };
        let expected = [expected, if side == "far" { "replica" } else { "origin" }].map(|name| &self.digests[name]);
        // A catalog that is behind serves an earlier generation until somebody writes: a writer that was killed leaves such a one.
        if (object, damage) == ("catalog", "older") && ["verify", "serve"].contains(&verb) {
            return is_named_or_harmless(&folder.join(side), [&self.digests["origin before"]; 2], true, &ran);
        }
        is_named_or_harmless(&folder.join(side), expected, is_content, &ran)
    }
}

/// Either a scrub finds something, or all that is held has its right bytes and what is served is right, too.
fn is_named_or_harmless(mirror: &Path, expected: [&Value; 2], is_content: bool, ran: &Ran) -> Option<String> {
    let scrub = run(program().arg("verify").arg(mirror).arg("--json"));
    match scrub.code {
        Some(5 | 3 | 2) if scrub.stderr.contains("error: ") || scrub.stdout.contains("\"problem\"") => return None,
        Some(0) => {}
        code => return Some(format!("verify ended with {code:?}: {}{}", scrub.stdout, scrub.stderr)),
    }
    let reader = match MirrorReader::open(mirror, StoreLimits::default()) {
        Ok(reader) => reader,
        Err(error) => return Some(format!("it verifies and does not open: {error}")),
    };
    for held in reader.catalog.held_after(None, usize::MAX).unwrap() {
        if reader.packs.hash(held.place).ok() != Some(held.release.checksum) {
            return Some(format!("it verifies, and {} has wrong bytes", held.release));
        }
    }
    // A rebuild that lost something says so, and begins a new epoch.
    if ran.stdout.contains("\"new_epoch\": true") {
        return None;
    }
    let served = digest(mirror);
    let is_right = if is_content { served == *expected[0] } else { expected.contains(&&served) };
    (!is_right).then(|| format!("it verifies and serves {served}, {:?}: {}{}", ran.code, ran.stdout, ran.stderr))
}

/// Does something for each of many, on all cores; what each says, in order.
fn each<T: Sync>(all: &[T], what: impl Fn(&T) -> Option<String> + Sync) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(one) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Some(problem) = what(one) {
                        found.lock().unwrap().push(problem);
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap();
    found.sort();
    found
}

#[test]
fn every_damage_to_every_file_is_named_or_makes_no_difference_whatever_is_done_then() {
    let (world, (seed, mut random)) = (World::new(), chance());
    let mut cells = Vec::new();
    for object in OBJECTS {
        for damage in DAMAGES {
            for verb in VERBS {
                let of_bundle = ["manifest", "volume", "signature"].contains(&object);
                if !of_bundle || verb == "apply" {
                    cells.push((object, damage, verb, random.u64(..)));
                }
            }
        }
    }
    let problems = each(&cells, |(object, damage, verb, own)| {
        let problem = world.cell(object, damage, verb, &mut Rng::with_seed(*own))?;
        Some(format!("{object}, {damage}, then {verb}: {problem}"))
    });
    assert!(problems.is_empty(), "seed {seed}, {} of {}:\n{}", problems.len(), cells.len(), problems.join("\n"));
}

#[test]
fn every_bit_that_turns_around_is_found_or_makes_no_difference() {
    let (world, (seed, mut random)) = (World::new(), chance());
    let flips = std::env::var("CRATEFERRY_FLIPS").map_or(30, |count| count.parse().unwrap());
    let flips: Vec<u64> = (0..flips).map(|_| random.u64(..)).collect();
    let problems = each(&flips, |own| {
        let (sandbox, mut random) = (tempfile::tempdir().unwrap(), Rng::with_seed(*own));
        let mirror = sandbox.path().join("mirror");
        copy_folder(&world.now.join("mirror"), &mirror);
        let mut files = vec![mirror.join("ledger.redb"), mirror.join("catalog.redb")];
        let packs = fs::read_dir(Layout::new(&mirror).packs()).unwrap().map(|pack| pack.unwrap().path());
        let mut packs: Vec<PathBuf> = packs.collect();
        packs.sort();
        files.extend(packs);
        let path = &files[random.usize(..files.len())];
        let bit = random.u64(..8 * fs::metadata(path).unwrap().len());
        flip_bit(path, bit);
        let origin = &world.digests["origin"];
        let verified = run(program().arg("verify").arg(&mirror).arg("--json"));
        let problem = if verified.stderr.contains("panicked") || verified.code.is_none() {
            Some(verified.stderr.clone())
        } else {
            world.serve(&mirror).err()
        };
        let problem = problem.or_else(|| is_named_or_harmless(&mirror, [origin, origin], false, &verified));
        Some(format!("bit {bit} of {}: {}", path.strip_prefix(&mirror).unwrap().display(), problem?))
    });
    assert!(problems.is_empty(), "seed {seed}, {} of {}:\n{}", problems.len(), flips.len(), problems.join("\n"));
}

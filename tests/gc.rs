//! Collecting what nothing needs any more: the room comes back, and nothing that anybody needs goes.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Ferry, Knowledge, Server, wait_until};
use crateferry_store::{Layout, Place, Release, Sha256, State};
use crateferry_test_support::{Registry, Release as Made};
use serde_json::{Value, json};

const ALL: usize = 40;

/// 40 releases of 30 kB each, in packs of 200 kB, the last of them open.
fn mirrored() -> (Registry, Ferry) {
    let registry = Registry::new();
    for number in 0..ALL {
        registry.release_with(&format!("bulky-{number:02}"), "1.0.0", Made::sized(30_000));
    }
    registry.commit();
    let ferry = Ferry::git(&registry);
    ferry.configure("store", "pack-size = \"200 kB\"");
    for _ in 0..8 {
        ferry.sync(&["--all", "--limit", "5"]).expect(0);
    }
    assert!(ferry.packs().len() > 4, "{:?}", ferry.packs());
    (registry, ferry)
}

fn withdraw(ferry: &Ferry, names: &[&str]) {
    for name in names {
        ferry.run("withdraw", &[name, "--reason", "malware"]).expect(0);
    }
}

fn gc(ferry: &Ferry, options: &[&str]) -> Value {
    ferry.run("gc", &[&["--json"], options].concat()).expect(0).json()
}

/// A release, and where its bytes lie.
fn found(ferry: &Ferry, name: &str) -> (Release, Option<Place>) {
    let known = ferry.knowledge().releases;
    let (release, row) = known.into_iter().find(|(release, _)| release.id.name.as_str() == name).unwrap();
    (release, row.place)
}

fn sealed(mirror: &Path, number: u32) -> PathBuf {
    Layout::new(mirror).sealed_pack(number)
}

fn bytes_at(mirror: &Path, place: Place) -> Vec<u8> {
    let pack = std::fs::read(sealed(mirror, place.pack)).unwrap();
    pack[place.offset as usize..(place.offset + place.length) as usize].to_vec()
}

/// What the sealed packs take of the disk, in bytes.
fn taken(mirror: &Path) -> u64 {
    let packs = std::fs::read_dir(Layout::new(mirror).packs()).unwrap().map(Result::unwrap);
    let sealed = packs.filter(|pack| pack.path().extension().is_some_and(|ending| ending == "tar"));
    sealed.map(|pack| pack.metadata().unwrap().blocks() * 512).sum()
}

/// The lengths and modes of the sealed packs.
fn outside(ferry: &Ferry) -> Vec<(String, u64, u32)> {
    let mode = |name: &str| std::fs::metadata(ferry.file("packs").join(name)).unwrap().permissions().mode();
    let sealed =
        ferry.packs().into_iter().filter(|(name, _)| Path::new(name).extension().is_some_and(|ending| ending == "tar"));
    sealed.map(|(name, length)| (name.clone(), length, mode(&name))).collect()
}

/// All releases that are held lie there with the right bytes, and the program and the reader of the format find nothing wrong.
fn is_sound(ferry: &Ferry) {
    let scrub = ferry.run("verify", &["--json"]).expect(0).json();
    assert_eq!((&scrub["findings"], &scrub["dead"]), (&json!([]), &json!([])), "{scrub}");
    let mirror = ferry.mirror();
    let reader = Command::new("python3").arg("tests/format_reader.py").arg(&mirror).output().unwrap();
    assert!(reader.status.success(), "{}", String::from_utf8_lossy(&reader.stderr));
    let opened = crateferry_store::MirrorReader::open(&mirror, crateferry_store::StoreLimits::default()).unwrap();
    let held: Vec<_> = ferry.knowledge().releases.into_iter().filter(|(_, row)| row.state == State::Stored).collect();
    for (release, row) in held {
        assert_eq!(opened.packs.hash(row.place.unwrap()).unwrap(), release.checksum, "{}", release.id);
    }
}

#[test]
fn a_withdrawn_release_is_kept_for_the_grace_time_and_its_room_comes_back_then() {
    let (_registry, ferry) = mirrored();
    withdraw(&ferry, &["bulky-03", "bulky-04", "bulky-11"]);
    let (release, place) = found(&ferry, "bulky-03");
    let (place, before, packs) = (place.unwrap(), taken(&ferry.mirror()), outside(&ferry));
    let served = ferry.status();

    let told = gc(&ferry, &[]);
    assert_eq!((&told["collected"]["members"], &told["waiting"]["members"]), (&json!(0), &json!(3)), "{told}");
    assert!(told["waits_until"].as_u64().unwrap() > 30 * 86_400);
    let said = ferry.run("gc", &[]).expect(0).stdout;
    assert!(said.contains("waiting     3 members, 9"), "{said}");
    let dry = gc(&ferry, &["--grace", "0s", "--dry-run"]);
    assert_eq!((&dry["dead"]["members"], &dry["collected"]["members"]), (&json!(3), &json!(0)), "{dry}");
    assert_eq!(Sha256::of(&bytes_at(&ferry.mirror(), place)), release.checksum, "nothing is taken so far");

    let told = gc(&ferry, &["--grace", "0s"]);
    assert_eq!(told["collected"]["members"], 3, "{told}");
    assert!(bytes_at(&ferry.mirror(), place).iter().all(|byte| *byte == 0));
    assert_eq!(found(&ferry, "bulky-03").1, None, "it is not held any more");
    let now = taken(&ferry.mirror());
    assert!(now + 3 * 24_000 <= before, "{now} of {before} bytes are still taken");
    assert_eq!(outside(&ferry), packs, "packs have the lengths and modes that they had");
    let status = ferry.status();
    for key in ["generation", "generation_digest", "rows"] {
        assert_eq!(status[key], served[key], "{key}");
    }
    is_sound(&ferry);
    let again = gc(&ferry, &["--grace", "0s"]);
    assert_eq!((&again["dead"]["members"], &again["waiting"]["members"]), (&json!(0), &json!(0)), "{again}");
    let collected: u64 =
        again["packs"].as_array().unwrap().iter().map(|pack| pack["collected"]["members"].as_u64().unwrap()).sum();
    assert_eq!(collected, 3);
}

#[test]
fn the_packs_alone_tell_what_was_collected_and_what_is_taken_back_is_fetched_again() {
    let (_registry, ferry) = mirrored();
    withdraw(&ferry, &["bulky-03", "bulky-11"]);
    gc(&ferry, &["--grace", "0s"]);
    let known = ferry.knowledge();
    for database in ["ledger.redb", "catalog.redb"] {
        std::fs::remove_file(ferry.file(database)).unwrap();
    }
    ferry.run("rebuild", &[]).expect(0);
    assert_eq!(ferry.knowledge(), known);
    is_sound(&ferry);

    ferry.run("withdraw", &["bulky-03", "--undo"]).expect(0);
    ferry.sync(&[]).expect(0);
    let (_, place) = found(&ferry, "bulky-03");
    assert!(place.is_some());
    is_sound(&ferry);
}

#[test]
fn what_may_be_a_mistake_is_refused_and_a_damaged_pack_is_left_alone() {
    let (_registry, ferry) = mirrored();
    let names: Vec<String> = (0..30).map(|number| format!("bulky-{number:02}")).collect();
    withdraw(&ferry, &names.iter().map(String::as_str).collect::<Vec<_>>());
    ferry.run("gc", &["--grace", "0s"]).expect_error(2, "which looks like a mistake");
    ferry.run("gc", &["--grace", "0s", "--dry-run"]).expect_error(2, "--allow-most");
    let dry = gc(&ferry, &["--grace", "0s", "--dry-run", "--allow-most"]);
    let damaged = dry["packs"][1].clone();
    assert!(damaged["dead"]["members"].as_u64().unwrap() > 0, "{dry}");
    let number = u32::try_from(damaged["pack"].as_u64().unwrap()).unwrap();
    let path = sealed(&ferry.mirror(), number);
    common::flip_bit(&path, 8 * 2); // in the first header
    let taken_before = std::fs::metadata(&path).unwrap().blocks();
    let told = ferry.run("gc", &["--grace", "0s", "--allow-most", "--json"]).expect(5).json();
    assert!(told["left"][0].as_str().unwrap().starts_with(&format!("pack {number} is damaged at offset 0")), "{told}");
    assert!(told["collected"]["members"].as_u64().unwrap() > 15, "{told}");
    assert_eq!(std::fs::metadata(&path).unwrap().blocks(), taken_before);
}

#[test]
fn a_pack_with_another_name_is_left_alone() {
    let (_registry, ferry) = mirrored();
    withdraw(&ferry, &["bulky-03"]);
    let (release, place) = found(&ferry, "bulky-03");
    let place = place.unwrap();
    let backup = ferry.beside("backup.tar");
    std::fs::hard_link(sealed(&ferry.mirror(), place.pack), &backup).unwrap();
    let told = gc(&ferry, &["--grace", "0s"]);
    assert_eq!(told["collected"]["members"], 0, "{told}");
    assert!(told["left"][0].as_str().unwrap().contains("another name"), "{told}");
    assert_eq!(Sha256::of(&bytes_at(&ferry.mirror(), place)), release.checksum);
    std::fs::remove_file(backup).unwrap();
    assert_eq!(gc(&ferry, &["--grace", "0s"])["collected"]["members"], 1);
}

#[test]
fn a_second_copy_goes_at_once_unless_the_first_is_damaged() {
    let (_registry, ferry) = mirrored();
    // A damaged crate file is fetched again: then its old place is of no use.
    let (release, place) = found(&ferry, "bulky-03");
    let place = place.unwrap();
    let path = sealed(&ferry.mirror(), place.pack);
    common::flip_bit(&path, 8 * (place.offset + 5000));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    ferry.run("verify", &["--repair"]).expect(0);
    let mended = found(&ferry, "bulky-03").1.unwrap();
    assert_ne!(mended, place);
    ferry.sync(&["--limit", "1"]).expect(0);
    let told = gc(&ferry, &[]);
    assert_eq!(told["collected"]["members"], 1, "{told}");
    assert!(bytes_at(&ferry.mirror(), place).iter().all(|byte| *byte == 0));
    assert_eq!(found(&ferry, "bulky-03"), (release, Some(mended)));
    is_sound(&ferry);
}

#[test]
fn a_second_copy_stays_while_the_one_that_counts_is_damaged() {
    let (_registry, ferry) = mirrored();
    let (release, place) = found(&ferry, "bulky-03");
    let place = place.unwrap();
    let (old, bit) = (sealed(&ferry.mirror(), place.pack), 8 * (place.offset + 5000));
    common::flip_bit(&old, bit);
    ferry.run("verify", &["--repair"]).expect(0);
    let mended = found(&ferry, "bulky-03").1.unwrap();
    let new = [sealed(&ferry.mirror(), mended.pack), Layout::new(ferry.mirror()).open_pack(mended.pack)];
    let new = new.iter().find(|path| path.exists()).unwrap();
    // Now the old place has the right bytes, and the new one has not.
    common::flip_bit(&old, bit);
    common::flip_bit(new, 8 * (mended.offset + 5000));
    assert_eq!(gc(&ferry, &["--grace", "0s"])["collected"]["members"], 0);
    assert_eq!(Sha256::of(&bytes_at(&ferry.mirror(), place)), release.checksum);
}

#[test]
fn a_server_goes_on_and_an_export_that_began_before_is_waited_for() {
    let (registry, ferry) = mirrored();
    let server = Server::start(&ferry, &[]);
    withdraw(&ferry, &["bulky-03", "bulky-11"]);
    // Whoever reads as a reader does, for as long as it does.
    let reader =
        crateferry_store::MirrorReader::open(&ferry.mirror(), crateferry_store::StoreLimits::default()).unwrap();
    let (release, place) = found(&ferry, "bulky-03");
    let mut waiting = ferry.start(ferry.command("gc", &["--grace", "0s", "--json"]));
    wait_until("it says what goes", || ferry.file("reading.before").exists());
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!waiting.has_ended());
    assert_eq!(reader.packs.hash(place.unwrap()).unwrap(), release.checksum, "who reads earlier state can read it");
    drop(reader);
    let told = waiting.wait().expect(0).json();
    assert_eq!(told["collected"]["members"], 2, "{told}");
    for number in (0..ALL).filter(|number| ![3, 11].contains(number)) {
        let url = server.url(&format!(
            "/crates/bulky-{number:02}/1.0.0/{}",
            registry.checksum(&format!("bulky-{number:02}"), "1.0.0")
        ));
        let output = Command::new("curl").args(["-sf", &url]).output().unwrap();
        assert!(output.status.success(), "{url}: {}", server.log());
    }
    is_sound(&ferry);
}

/// What is known of releases, but for when a run learnt it.
fn places(known: &Knowledge) -> Vec<(Release, State, Option<Place>)> {
    known.releases.iter().map(|(release, row)| (release.clone(), row.state, row.place)).collect()
}

#[test]
fn a_collection_that_is_killed_at_any_step_is_ended_by_the_next_one() {
    let (_registry, ferry) = mirrored();
    withdraw(&ferry, &["bulky-03", "bulky-11", "bulky-20"]);
    let undisturbed = ferry.copy();
    gc(&undisturbed, &["--grace", "0s"]);
    let (expected, packs) = (places(&undisturbed.knowledge()), outside(&undisturbed));
    let mut kills = 0;
    for calls in ["pwrite64", "fdatasync", "fsync", "rename", "link,linkat", "fallocate", "chmod,fchmodat", "unlink"] {
        for when in 1..=4 {
            let ferry = ferry.copy();
            let command = ferry.command("gc", &["--grace", "0s"]);
            let mut traced = Command::new("strace");
            traced.args(["--follow-forks", "--quiet=all", "--output=/dev/null"]);
            traced.args([format!("--trace={calls}"), format!("--inject={calls}:signal=KILL:when={when}")]);
            traced.arg("--").arg(command.get_program()).args(command.get_args());
            kills += u32::from(ferry.start(traced).wait().code.is_none());
            gc(&ferry, &["--grace", "0s"]);
            assert_eq!(places(&ferry.knowledge()), expected, "{calls} {when}");
            assert_eq!(outside(&ferry), packs, "{calls} {when}");
            assert_eq!(gc(&ferry, &["--grace", "0s", "--dry-run"])["dead"]["members"], 0, "{calls} {when}");
            let scrub = ferry.run("verify", &["--json"]).expect(0).json();
            assert_eq!((&scrub["findings"], &scrub["dead"]), (&json!([]), &json!([])), "{calls} {when}: {scrub}");
        }
    }
    assert!(kills >= 12, "{kills} kills");
}

#[test]
fn a_disk_without_any_room_is_no_hindrance_for_what_needs_no_record() {
    let (_registry, ferry) = mirrored();
    let (_, place) = found(&ferry, "bulky-03");
    let place = place.unwrap();
    let path = sealed(&ferry.mirror(), place.pack);
    common::flip_bit(&path, 8 * (place.offset + 5000));
    ferry.run("verify", &["--repair"]).expect(0);
    ferry.sync(&["--limit", "1"]).expect(0);
    let script = "mount -t tmpfs -o size=64m none \"$2\" || exit 99; cp -r \"$1\" \"$2/mirror\"; \
                  mount -o remount,size=$(du -sk \"$2/mirror\" | cut -f1)k \"$2\"; \
                  head -c 64M /dev/zero > \"$2/fill\"; before=$(df --output=avail \"$2\" | tail -1); \
                  \"$3\" gc \"$2/mirror\" --json || exit 97; \
                  echo \"room $before $(df --output=avail \"$2\" | tail -1)\"";
    let folder = ferry.beside("full");
    std::fs::create_dir(&folder).unwrap();
    let mut shell = Command::new("unshare");
    shell
        .args(["-rm", "sh", "-c", script, "sh"])
        .arg(ferry.mirror())
        .arg(&folder)
        .arg(env!("CARGO_BIN_EXE_crateferry"));
    let output = shell.output().unwrap();
    if String::from_utf8_lossy(&output.stderr).contains("unshare failed") {
        eprintln!("SKIPPED: no small file system can be had here (unshare -rm)");
        return;
    }
    let said = String::from_utf8_lossy(&output.stdout);
    let (_, room) = said.rsplit_once("room ").unwrap_or_else(|| panic!("{said}\n{output:?}"));
    let room: Vec<u64> = room.split_whitespace().map(|kilobytes| kilobytes.parse().unwrap()).collect();
    assert_eq!(room[0], 0, "the disk was full");
    assert!(room[1] >= 24, "{room:?}");
}

//! Scrubs: all of it, a sample, as much as there is time for; and repairs.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use common::gap::Gap;
use common::{Ferry, Knowledge, Server, chance, flip_bit, wait_until};
use crateferry_store::{Layout, Mirror, Release, Sha256, StoreLimits, SystemDisk};
use crateferry_test_support::{Fault, Registry};
use serde_json::{Value, json};

/// 90 releases in packs of 20 kB or a little more, the last of them open.
fn mirrored() -> (Registry, Ferry) {
    let registry = Registry::new();
    registry.releases(90);
    let ferry = Ferry::git(&registry);
    ferry.configure("store", "pack-size = \"20 kB\"");
    for _ in 0..6 {
        ferry.sync(&["--all", "--limit", "15"]).expect(0);
    }
    assert!(ferry.packs().len() > 4, "{:?}", ferry.packs());
    (registry, ferry)
}

fn pack(mirror: &Path, number: u32) -> PathBuf {
    let layout = Layout::new(mirror);
    let sealed = layout.sealed_pack(number);
    if sealed.exists() { sealed } else { layout.open_pack(number) }
}

/// Turns a bit of a file around where it lies, as a disk does, whoever has the file open.
fn rot(path: &Path, at: u64) {
    let mut permissions = std::fs::metadata(path).unwrap().permissions();
    permissions.set_mode(0o644);
    std::fs::set_permissions(path, permissions).unwrap();
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(at)).unwrap();
    file.read_exact(&mut byte).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&[byte[0] ^ 8]).unwrap();
}

/// Turns a bit around in the middle of each of these held crate files, counted in the order of their names.
fn damage(mirror: &Path, which: &[usize]) -> Vec<Release> {
    let held: Vec<_> = Knowledge::of(mirror).releases.into_iter().filter(|(_, row)| row.place.is_some()).collect();
    let flip = |at: &usize| {
        let (release, row) = held[*at].clone();
        let place = row.place.unwrap();
        rot(&pack(mirror, place.pack), place.offset + place.length / 2);
        release
    };
    which.iter().map(flip).collect()
}

fn objects(scrub: &Value) -> Vec<&str> {
    scrub["findings"].as_array().unwrap().iter().map(|finding| finding["object"].as_str().unwrap()).collect()
}

/// Downloads a crate file; its digest, if there is an answer.
fn download(server: &Server, release: &Release) -> Option<Sha256> {
    let url = server.url(&format!("/crates/{}/{}/{}", release.id.name, release.id.version, release.checksum));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let answer = reqwest::get(url).await.ok()?.error_for_status().ok()?;
        Some(Sha256::of(&answer.bytes().await.ok()?))
    })
}

#[test]
fn an_origin_fetches_again_what_is_damaged_and_serves_what_it_served() {
    let (_registry, ferry) = mirrored();
    let before = ferry.status();
    let server = Server::start(&ferry, &[]);
    let lost = damage(&ferry.mirror(), &[3, 40, 71]);
    let scrub = ferry.run("verify", &["--json"]).expect(5).json();
    for release in &lost {
        let finding = |object: &str| format!("{object} {}", release.id);
        assert!(objects(&scrub).contains(&finding("crate file").as_str()), "{scrub}");
    }
    let told = ferry.run("verify", &[]).expect(5).stdout;
    assert!(told.contains("never the wrong bytes; `verify --repair` replaces it"), "{told}");

    let told = ferry.run("verify", &["--repair"]).expect(0).stdout;
    assert!(told.contains("repaired    0 crate files copied, 3 crate files fetched\n"), "{told}");
    assert!(told.ends_with("all that was read is as it should be\n"), "{told}");
    for release in &lost {
        wait_until("the server follows", || download(&server, release) == Some(release.checksum));
    }
    let after = ferry.status();
    for key in ["generation", "generation_digest", "rows", "hole_count", "releases"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    // The old bytes lie where they lay, and nobody needs them.
    let scrub = ferry.run("verify", &["--json"]).expect(0).json();
    assert_eq!((&scrub["findings"], scrub["dead"].as_array().unwrap().len()), (&json!([]), 3));
    let known = ferry.knowledge();
    for database in ["ledger.redb", "catalog.redb"] {
        std::fs::remove_file(ferry.file(database)).unwrap();
    }
    drop(server);
    ferry.run("rebuild", &[]).expect(0);
    assert_eq!(ferry.knowledge().releases, known.releases);
    ferry.run("verify", &["--repair"]).expect(0);
    ferry.run("sync", &[]).expect(0);
    assert_eq!(ferry.status()["generation_digest"], before["generation_digest"]);
}

#[test]
fn what_cannot_be_fetched_leaves_the_index_until_it_can() {
    let (registry, ferry) = mirrored();
    let before = ferry.digest();
    let lost = damage(&ferry.mirror(), &[20, 50]);
    let gone = &lost[0].id;
    registry.fault(gone.name.as_str(), gone.version.as_str(), Fault::status(404));
    let scrub = ferry.run("verify", &["--repair", "--json"]).expect(5).json();
    let expected = json!([{ "name": gone.name, "version": gone.version, "checksum": lost[0].checksum }]);
    assert_eq!((&scrub["repaired"]["fetched"], &scrub["repaired"]["lacking"]), (&json!(1), &expected));
    assert_ne!(ferry.digest(), before);
    assert_eq!(ferry.status()["hole_count"], 1);
    // No row promises what is not held, so all that is served is sound.
    ferry.run("verify", &[]).expect(0);
    ferry.run("verify", &["--repair"]).expect(1);
    registry.heal();
    ferry.sync(&["--retry-failed"]).expect(0);
    assert_eq!(ferry.digest(), before);
    ferry.run("verify", &[]).expect(0);
}

#[test]
fn a_replica_takes_it_from_another_mirror_or_asks_the_other_side() {
    let gap = Gap::new();
    let (full, _) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    let far = gap.origin.beside("far");
    let verify = |arguments: &[&str]| gap.crateferry(&[&["verify", far.to_str().unwrap()], arguments].concat());

    damage(&far, &[5, 17]);
    let origin = gap.origin.mirror();
    let told = verify(&["--repair", "--from", origin.to_str().unwrap()]).expect(0).stdout;
    assert!(told.contains("repaired    2 crate files copied, 0 crate files fetched\n"), "{told}");
    gap.is_the_same("far");

    let lost = damage(&far, &[8, 30]);
    let told = verify(&["--repair"]).expect(5).stdout;
    assert!(told.contains("lacking     2 releases; `crateferry receipt` asks the other side for them"), "{told}");
    let server = gap.serve("far");
    assert!(lost.iter().all(|release| download(&server, release).is_none()));
    let told = verify(&["--json"]).expect(5).json();
    assert!(told["findings"][0]["problem"].as_str().unwrap().contains("whose bytes are not held"), "{told}");
    let receipt = gap.origin.beside("receipt.txt");
    let receipt = receipt.to_str().unwrap();
    gap.crateferry(&["receipt", far.to_str().unwrap(), "--out", receipt]).expect(1);
    let (lacking, made) = gap.create("lacking", &["--for", receipt]);
    assert_eq!(made["releases"], 2);
    gap.apply("far", &lacking).expect(0);
    gap.is_the_same("far");
    for release in &lost {
        wait_until("the server follows", || download(&server, release) == Some(release.checksum));
    }

    // A bundle that was applied long ago brings it as well.
    gap.change(0);
    let (delta, _) = gap.create("delta", &["--since", "1"]);
    gap.apply("far", &delta).expect(0);
    assert_eq!(gap.apply("far", &full).expect(0).json()["applied_before"], true);
    let lost = damage(&far, &[2, 40, 41]);
    verify(&["--repair"]).expect(5);
    let again = gap.apply("far", &delta);
    assert!([Some(0), Some(1)].contains(&again.code), "{}", again.stderr);
    let again = gap.apply("far", &full).json();
    assert_eq!((&again["still_lost"], &again["serves"]["number"]), (&json!(0), &json!(2)));
    gap.is_the_same("far");
    for release in &lost {
        wait_until("the server follows", || download(&server, release) == Some(release.checksum));
    }

    let folder = gap.origin.beside("no-mirror");
    std::fs::create_dir(&folder).unwrap();
    verify(&["--repair", "--from", folder.to_str().unwrap()]).expect_error(2, "`import-tree` takes crate files");
    verify(&["--from", origin.to_str().unwrap()]).expect(2);
}

#[test]
fn a_sample_reads_its_share() {
    let (_registry, ferry) = mirrored();
    for (share, releases) in [("100%", 90), ("50%", 45), ("10", 9)] {
        let scrub = ferry.run("verify", &["--sample", share, "--json"]).expect(0).json();
        assert_eq!((&scrub["releases"], &scrub["packs"]), (&json!(releases), &json!(0)), "{share}");
    }
    let lost = damage(&ferry.mirror(), &[33]);
    let found = |share: &str| ferry.run("verify", &["--sample", share, "--json"]).code == Some(5);
    assert!(found("100%"));
    // Which of two is read is left to chance.
    let hits = (0..30).filter(|_| found("50%")).count();
    assert!((1..30).contains(&hits), "{hits} of 30");
    ferry.run("verify", &["--sample", "100%", "--repair"]).expect(0);
    ferry.run("verify", &[]).expect(0);
    assert!(
        Knowledge::of(&ferry.mirror()).releases.iter().any(|(release, row)| *release == lost[0] && row.place.is_some())
    );
    ferry.run("verify", &["--sample", "0%"]).expect(2);
    ferry.run("verify", &["--sample", "5%", "--max-duration", "1s"]).expect(2);
}

#[test]
fn what_there_was_no_time_for_is_read_by_the_next_runs() {
    let (_registry, ferry) = mirrored();
    let all = ferry.run("verify", &["--json"]).expect(0).json();
    damage(&ferry.mirror(), &[60]);
    for _cycle in 0..2 {
        let (mut packs, mut objects, mut damaged, mut runs) = (0, 0, 0, 0);
        loop {
            let ran = ferry.run("verify", &["--max-duration", "0s", "--json"]);
            let (code, scrub) = (ran.code, ran.json());
            packs += scrub["packs"].as_u64().unwrap();
            objects += scrub["objects"].as_u64().unwrap();
            damaged += u64::from(code == Some(5));
            runs += 1;
            assert_eq!(scrub["index_files"] == 0, scrub["next_pack"].is_u64());
            if scrub["next_pack"].is_null() {
                break;
            }
        }
        assert!(runs > 1);
        assert_eq!((packs, objects), (all["packs"].as_u64().unwrap(), all["objects"].as_u64().unwrap()));
        assert_eq!(damaged, 1, "one run names it");
    }
    let told = ferry.run("verify", &["--max-duration", "0s"]).stdout;
    assert!(told.contains("goes on     at pack "), "{told}");
    let scrub = ferry.run("verify", &["--max-duration", "10m", "--json"]).expect(5).json();
    assert!(scrub["next_pack"].is_null() && scrub["packs"].as_u64() < all["packs"].as_u64());
}

#[test]
fn a_server_reads_its_packs_in_the_background_at_a_rate_and_goes_on_where_it_was() {
    let (_registry, ferry) = mirrored();
    let all = ferry.run("verify", &["--json"]).expect(0).json();
    let lost = damage(&ferry.mirror(), &[60]);
    // All of it, at once: within the minute that it then rests.
    let server = Server::start(&ferry, &["--scrub", "100MB"]);
    server.wait_for_log(&format!("crate file {}", lost[0].id));
    server.wait_for_log("never the wrong bytes");
    let next = || -> u64 {
        let text = std::fs::read(ferry.file("log/scrub.json")).unwrap_or_default();
        serde_json::from_slice(&text).map_or(0, |progress: Value| progress["next_pack"].as_u64().unwrap())
    };
    wait_until("it begins anew", || next() == 0);
    drop(server);
    // A tenth of the bytes in a second: it takes ten, so after two it is on its way.
    let rate = (all["bytes"].as_u64().unwrap() / 10).to_string();
    let server = Server::start(&ferry, &["--scrub", &rate]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(!server.log().contains("damaged"), "{}", server.log());
    wait_until("a pack is read", || next() > 0);
    let before = next();
    drop(server);
    let server = Server::start(&ferry, &["--scrub", "100MB"]);
    wait_until("the rest is read", || next() == 0);
    drop(server);
    assert!(before < all["packs"].as_u64().unwrap());
    let refused = ferry.run("serve", &["--listen", "127.0.0.1:0", "--scrub", "0"]);
    refused.expect_error(2, "nothing is read at no bytes a second");
}

#[test]
fn flipped_bits_of_the_ledger_are_found_or_harmless() {
    let (_registry, ferry) = mirrored();
    let status = ferry.status();
    let sound = std::fs::read(ferry.file("ledger.redb")).unwrap();
    let (seed, mut rng) = chance();
    let mut found = 0;
    for turn in 0..40 {
        std::fs::write(ferry.file("ledger.redb"), &sound).unwrap();
        flip_bit(&ferry.file("ledger.redb"), rng.u64(..sound.len() as u64 * 8));
        let ran = ferry.run("verify", &["--json"]);
        match ran.code {
            Some(0) => {}
            Some(5) => {
                found += 1;
                assert_eq!(objects(&ran.json()), ["ledger"], "turn {turn} of seed {seed}");
            }
            code => panic!("{code:?} in turn {turn} of seed {seed}: {}", ran.stderr),
        }
    }
    assert!(found > 0, "seed {seed}");
    std::fs::write(ferry.file("ledger.redb"), vec![0; 5000]).unwrap();
    ferry.run("verify", &[]).expect(5);
    ferry.run("rebuild", &[]).expect(0);
    ferry.run("verify", &[]).expect(0);
    assert_eq!(ferry.status()["generation_digest"], status["generation_digest"]);
}

#[test]
fn beside_a_writer_the_ledger_is_left_alone_and_that_is_told() {
    let (_registry, ferry) = mirrored();
    let mirror = Mirror::open(&ferry.mirror(), StoreLimits::default(), std::sync::Arc::new(SystemDisk)).unwrap();
    let told = ferry.run("verify", &[]).expect(0).stdout;
    assert!(told.contains("not read    the ledger: "), "{told}");
    assert!(told.contains(&std::process::id().to_string()), "{told}");
    ferry.run("verify", &["--repair"]).expect(4);
    drop(mirror);
    assert!(!ferry.run("verify", &[]).expect(0).stdout.contains("not read"));
}

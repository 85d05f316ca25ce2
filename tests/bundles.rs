//! Across the gap: what an origin serves comes to a replica in bundles, in whatever order, whole or in parts, and is the same in the end.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs;
use std::path::Path;

use common::gap::{Gap, generation, medium, volumes, walk};
use common::{Ran, flip_bit, program};

#[test]
fn bundles_one_after_the_other_keep_a_replica_equal() {
    let gap = Gap::new();
    let (bundle, made) = gap.create("full", &["--full"]);
    assert_eq!(gap.apply("far", &bundle).expect(0).json()["releases"], 60);
    gap.is_the_same("far");
    let mut last = generation(&made);
    for round in 0..6 {
        gap.change(round);
        let (bundle, made) = gap.create(&format!("delta-{round}"), &["--since", &last, "--volume-size", "20kB"]);
        assert!(made["volumes"].as_u64().unwrap() >= 1);
        let applied = gap.apply("far", &bundle).expect(0).json();
        assert_eq!((applied["releases"].as_u64(), applied["there"].as_u64()), (Some(3), Some(0)));
        gap.is_the_same("far");
        let again = gap.apply("far", &bundle).expect(0).json();
        assert_eq!(again["applied_before"], true);
        last = generation(&made);
    }
    // All that a new receiver needs is in the first bundle and the deltas, and in one that is full.
    let (full, _) = gap.create("full-now", &["--full", "--level", "none"]);
    gap.apply("other", &full).expect(0);
    gap.serves_the_same("other", &gap.origin.status());
}

#[test]
fn bundles_may_come_in_any_order() {
    let gap = Gap::new();
    let mut bundles = vec![gap.create("b0", &["--full"])];
    for round in 0..3 {
        gap.change(round);
        let since = generation(&bundles[round].1);
        bundles.push(gap.create(&format!("b{}", round + 1), &["--since", &since, "--level", "none"]));
    }
    let first = gap.apply("far", &bundles[2].0).expect(1).json();
    assert_eq!(first["waits_for"]["generation"].to_string(), generation(&bundles[1].1));
    gap.apply("far", &bundles[3].0).expect(1);
    assert_eq!(gap.far("far", "status").expect(0).json()["generation"], 0);
    gap.apply("far", &bundles[0].0).expect(0);
    let last = gap.apply("far", &bundles[1].0).expect(0).json();
    assert_eq!(last["then"].as_array().unwrap().len(), 2, "those that had waited");
    gap.is_the_same("far");
    for (bundle, _) in &bundles {
        assert_eq!(gap.apply("far", bundle).expect(0).json()["applied_before"], true);
    }
    gap.is_the_same("far");
}

#[test]
fn a_delta_whose_base_is_not_held_waits_for_it() {
    let gap = Gap::new();
    let (full, made) = gap.create("full", &["--full"]);
    gap.change(0);
    let (delta, _) = gap.create("delta", &["--since", &generation(&made)]);
    gap.apply("far", &delta).expect(1);
    let incoming = gap.origin.beside("far").join("incoming");
    let kept = || walk(&incoming).into_iter().filter(|path| path.extension().is_some_and(|end| end == "cfrf")).count();
    assert_eq!(kept(), 1, "the frame waits");
    gap.apply("far", &delta).expect(1);
    assert_eq!(kept(), 1);
    // Nobody brings the medium again.
    fs::remove_dir_all(&delta).unwrap();
    gap.apply("far", &full).expect(0);
    gap.is_the_same("far");
    assert_eq!(kept(), 0);
}

#[test]
fn what_waits_for_other_bundles_is_bounded_and_comes_again() {
    let gap = Gap::new();
    let (full, made) = gap.create("full", &["--full"]);
    gap.change(0);
    let (delta, _) = gap.create("delta", &["--since", &generation(&made)]);
    let far = gap.origin.beside("far");
    let mut command = program();
    command.args(["bundle", "apply"]).arg(&far).arg(&delta).args(["--trust", &gap.trust(), "--json"]);
    command.env("CRATEFERRY_INCOMING", "100 B");
    let applied = gap.origin.start(command).wait().expect(1).json();
    assert_eq!((&applied["missing"], applied["lacking"].as_array().unwrap().len()), (&serde_json::json!([1]), 1));
    let frames =
        walk(&far.join("incoming")).into_iter().filter(|path| path.extension().is_some_and(|end| end == "cfrf"));
    assert_eq!(frames.count(), 0, "there is no room for it");
    gap.apply("far", &full).expect(0);
    gap.apply("far", &delta).expect(0);
    gap.is_the_same("far");
}

#[test]
fn overlapping_bundles_apply_and_what_a_later_one_includes_counts_as_applied() {
    let gap = Gap::new();
    let (full, first) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    gap.change(0);
    let (second, made) = gap.create("second", &["--since", &generation(&first)]);
    gap.apply("far", &second).expect(0);
    gap.change(1);
    let (overlapping, _) = gap.create("overlapping", &["--since", &generation(&first)]);
    // A full bundle tells which generations it includes.
    let (whole, _) = gap.create("whole", &["--full"]);
    gap.apply("far", &overlapping).expect(0);
    gap.is_the_same("far");
    gap.apply("late", &whole).expect(0);
    assert_eq!(gap.apply("late", &overlapping).expect(0).json()["applied_before"], true);
    assert_eq!(gap.apply("late", &second).expect(0).json()["applied_before"], true);
    assert_eq!(gap.apply("far", &second).expect(0).json()["applied_before"], true);
    assert_eq!(generation(&made).parse::<u64>().unwrap() + 1, gap.origin.status()["generation"].as_u64().unwrap());
}

#[test]
fn volumes_may_come_one_by_one() {
    let gap = Gap::new();
    let (bundle, made) = gap.create("full", &["--full", "--level", "none", "--volume-size", "40kB"]);
    let volumes = volumes(&bundle);
    assert!(volumes.len() >= 3, "{made}");
    assert_eq!(made["volumes"], volumes.len());
    let sizes: Vec<u64> = volumes.iter().map(|path| path.metadata().unwrap().len()).collect();
    assert!(sizes.iter().all(|size| *size <= 40_000), "{sizes:?}");
    for (number, volume) in volumes.iter().enumerate().rev() {
        let medium = medium(&gap, &format!("medium-{number}"), &bundle, std::slice::from_ref(volume));
        let ran = gap.apply("far", &medium);
        let code = i32::from(number > 0);
        let applied = ran.expect(code).json();
        assert_eq!(applied["missing"].as_array().unwrap().len(), number);
    }
    gap.is_the_same("far");
    assert!(!gap.origin.beside("far").join("incoming").join(made["bundle"].as_str().unwrap()).exists());
}

#[test]
fn a_damaged_volume_is_named_and_a_good_copy_mends_it() {
    let gap = Gap::new();
    let (bundle, _) = gap.create("full", &["--full", "--level", "none", "--volume-size", "40kB"]);
    let volumes = volumes(&bundle);
    let whole = fs::read(&volumes[1]).unwrap();
    let middle = whole.len() as u64 * 4;
    flip_bit(&volumes[1], middle);
    let damaged = gap.apply("far", &bundle).expect(5).json();
    assert_eq!(damaged["damaged_volumes"], serde_json::json!([2]));
    let named = damaged["damaged"][0].as_str().unwrap();
    assert!(named.contains("-0002.tar at "), "{named}");
    assert_eq!(gap.far("far", "status").expect(0).json()["generation"], 0, "nothing was switched");
    let verified = gap.crateferry(&["bundle", "verify", bundle.to_str().unwrap(), "--trust", &gap.trust()]);
    assert!(verified.expect(5).stdout.contains("-0002.tar at "));

    fs::write(&volumes[1], &whole[..whole.len() - 700]).unwrap();
    gap.apply("far", &bundle).expect(5);
    fs::write(&volumes[1], [whole.clone(), vec![0; 512]].concat()).unwrap();
    gap.apply("far", &bundle).expect(5);
    fs::write(&volumes[1], &whole).unwrap();
    let mended = gap.apply("far", &bundle).expect(0).json();
    assert!(mended["releases"].as_u64().unwrap() < 60, "what came before is not stored again: {mended}");
    gap.is_the_same("far");
}

#[test]
fn every_bit_of_a_bundle_counts() {
    let gap = Gap::new();
    let (bundle, _) = gap.create("full", &["--full"]);
    let paths = [&volumes(&bundle)[..], &[bundle.join("manifest.json"), bundle.join("manifest.json.minisig")]].concat();
    let random = &mut fastrand::Rng::with_seed(7);
    for number in 0..60 {
        let path = &paths[number % paths.len()];
        let bits = path.metadata().unwrap().len() * 8;
        let bit = random.u64(..bits);
        flip_bit(path, bit);
        let ran = gap.crateferry(&["bundle", "verify", bundle.to_str().unwrap(), "--trust", &gap.trust()]);
        flip_bit(path, bit);
        let comment = path.extension().is_some_and(|end| end == "minisig") && ran.code == Some(0);
        assert!(matches!(ran.code, Some(3 | 5)) || comment, "bit {bit} of {}: {:?}", path.display(), ran.code);
    }
    gap.crateferry(&["bundle", "verify", bundle.to_str().unwrap(), "--trust", &gap.trust()]).expect(0);
}

#[test]
fn what_must_not_be_applied_is_refused_and_nothing_is_made() {
    let gap = Gap::new();
    let (bundle, _) = gap.create("full", &["--full"]);
    let far = gap.origin.beside("far");
    let apply = |bundle: &Path, trust: &str| {
        gap.crateferry(&["bundle", "apply", far.to_str().unwrap(), bundle.to_str().unwrap(), "--trust", trust])
    };
    // Another key.
    let other = gap.origin.beside("other.key");
    gap.crateferry(&["keygen", "--out", other.to_str().unwrap()]).expect(0);
    apply(&bundle, &format!("{}.pub", other.display())).expect_error(3, "was not signed by those who are trusted here");
    assert!(!far.exists());
    // No signature, and other bytes than were signed.
    let unsigned = medium(&gap, "unsigned", &bundle, &volumes(&bundle));
    fs::remove_file(unsigned.join("manifest.json.minisig")).unwrap();
    apply(&unsigned, &gap.trust()).expect_error(3, "it is not signed");
    let changed = medium(&gap, "changed", &bundle, &volumes(&bundle));
    let text = fs::read_to_string(changed.join("manifest.json")).unwrap();
    fs::write(changed.join("manifest.json"), text.replacen("\"raw\":0", "\"raw\":1", 1)).unwrap();
    apply(&changed, &gap.trust()).expect_error(3, "was not signed by those who are trusted here");
    fs::write(changed.join("manifest.json.minisig"), vec![b'x'; 70_000]).unwrap();
    apply(&changed, &gap.trust()).expect_error(3, "longer than 65536");
    assert!(!far.exists());
    // What is no bundle, an origin, and another mirror's bundle.
    apply(&gap.origin.beside("nothing"), &gap.trust()).expect_error(2, "is no bundle");
    let mirror = gap.origin.mirror();
    let into_origin = ["bundle", "apply", mirror.to_str().unwrap(), bundle.to_str().unwrap(), "--trust", &gap.trust()];
    gap.crateferry(&into_origin).expect_error(2, "bundles are for replicas");
    apply(&bundle, &gap.trust()).expect(0);
    let mut stranger = Gap::new();
    let (theirs, _) = stranger.create("full", &["--full"]);
    apply(&theirs, &stranger.trust()).expect_error(2, "this mirror trusts 1 of these keys already");
    stranger.key = gap.key.clone();
    let (theirs, _) = stranger.create("ours", &["--full"]);
    apply(&theirs, &gap.trust()).expect_error(3, "the bundle is of mirror");
    gap.is_the_same("far");
    // A replica follows no upstream.
    gap.crateferry(&["sync", far.to_str().unwrap()]).expect_error(2, "is a replica");
}

#[test]
fn a_rewritten_history_is_refused() {
    let gap = Gap::new();
    let (full, made) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    // The origin is restored from a backup and goes another way.
    let copy = gap.origin.copy();
    gap.change(0);
    let (delta, _) = gap.create("delta", &["--since", &generation(&made)]);
    gap.apply("far", &delta).expect(0);
    let restored = Gap { origin: copy, registry: gap.registry, key: gap.key };
    restored.registry.release("another-way", "1.0.0").commit();
    restored.origin.sync(&[]).expect(0);
    let (forked, _) = restored.create("forked", &["--since", &generation(&made)]);
    let far = gap.origin.beside("far");
    let arguments = ["bundle", "apply", far.to_str().unwrap(), forked.to_str().unwrap(), "--trust", &restored.trust()];
    restored.crateferry(&arguments).expect_error(3, "the origin's history was rewritten");
}

#[test]
fn the_same_mirror_gives_the_same_volumes() {
    let gap = Gap::new();
    for level in ["none", "fast", "max"] {
        let (one, made) = gap.create(&format!("one-{level}"), &["--full", "--level", level]);
        let (two, _) = gap.create(&format!("two-{level}"), &["--full", "--level", level]);
        assert_eq!(fs::read(one.join("manifest.json")).unwrap(), fs::read(two.join("manifest.json")).unwrap());
        for (one, two) in volumes(&one).iter().zip(volumes(&two)) {
            assert_eq!(one.file_name(), two.file_name());
            assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap());
        }
        let raw = if level == "none" { 60 } else { 0 };
        assert_eq!(made["raw"], raw, "all crate files come back bit for bit");
    }
}

#[test]
fn a_bundle_is_read_and_unpacked_without_a_mirror() {
    let gap = Gap::new();
    for level in ["none", "fast"] {
        let (bundle, _) = gap.create(level, &["--full", "--level", level]);
        let bundle = bundle.to_str().unwrap();
        let inspected =
            gap.crateferry(&["bundle", "inspect", bundle, "--trust", &gap.trust(), "--json"]).expect(0).json();
        let crates = inspected["crates"].as_object().unwrap();
        let listed: usize = crates.values().map(|carried| carried["new"].as_array().unwrap().len()).sum();
        assert_eq!(listed, 60);
        let to = gap.origin.beside(&format!("scan-{level}"));
        gap.crateferry(&["bundle", "extract", bundle, "--to", to.to_str().unwrap(), "--trust", &gap.trust()]).expect(0);
        for (name, version) in gap.registry.release_ids() {
            let path = to.join("crates").join(&name).join(format!("{name}-{version}.crate"));
            assert_eq!(fs::read(path).unwrap(), gap.registry.crate_bytes(&name, &version));
        }
    }
}

#[test]
fn a_replica_whose_databases_are_lost_is_made_again_from_its_packs() {
    let gap = Gap::new();
    let (full, made) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    gap.change(0);
    let (delta, next) = gap.create("delta", &["--since", &generation(&made)]);
    gap.apply("far", &delta).expect(0);
    (1..8).for_each(|round| gap.change(round));
    let since = generation(&next);
    gap.try_create("tiny", &["--since", &since, "--volume-size", "4kB"]).expect_error(2, "are too small");
    let (ahead, _) = gap.create("ahead", &["--since", &since, "--volume-size", "20kB", "--level", "none"]);
    let some = volumes(&ahead);
    assert!(some.len() > 1);
    let first = medium(&gap, "first", &ahead, &some[..1]);
    gap.apply("far", &first).expect(1);
    let far = gap.origin.beside("far");
    for database in ["ledger.redb", "catalog.redb"] {
        fs::remove_file(far.join(database)).unwrap();
    }
    gap.far("far", "rebuild").expect(0);
    assert_eq!(gap.apply("far", &full).expect(0).json()["applied_before"], true, "its history lies in the packs");
    gap.apply("far", &ahead).expect(0);
    gap.is_the_same("far");
}

#[test]
fn a_bundle_that_is_made_or_applied_goes_on_after_each_kill() {
    let (seed, mut random) = common::chance();
    let gap = Gap::new();
    gap.change(0);
    let (undisturbed, _) = gap.create("undisturbed", &["--full", "--volume-size", "40kB"]);
    let (mirror, out, key) = (gap.origin.mirror(), gap.origin.beside("out"), gap.key.to_str().unwrap().to_owned());
    let mut create = vec!["bundle", "create", mirror.to_str().unwrap(), "--full", "--volume-size", "40kB"];
    create.extend(["--out", out.to_str().unwrap(), "--sign", &key]);
    killed_and_again(&gap, &create, 50, &mut random).expect(0);
    assert_eq!(fs::read(out.join("manifest.json")).unwrap(), fs::read(undisturbed.join("manifest.json")).unwrap());
    for (one, two) in volumes(&out).iter().zip(volumes(&undisturbed)) {
        assert_eq!(fs::read(one).unwrap(), fs::read(two).unwrap(), "seed {seed}");
    }
    assert!(!out.read_dir().unwrap().any(|entry| entry.unwrap().path().extension().is_some_and(|end| end == "part")));
    for round in 0..5 {
        let (far, trust) = (gap.origin.beside(&format!("far-{round}")), gap.trust());
        let apply = ["bundle", "apply", far.to_str().unwrap(), out.to_str().unwrap(), "--trust", &trust];
        killed_and_again(&gap, &apply, 10, &mut random).expect(0);
        gap.serves_the_same(&format!("far-{round}"), &gap.origin.status());
    }
}

/// Starts a command and kills it, again and again, each time at another moment; then lets it end.
fn killed_and_again(gap: &Gap, arguments: &[&str], kills: usize, random: &mut fastrand::Rng) -> Ran {
    let start = || {
        let mut command = program();
        command.args(arguments);
        gap.origin.start(command)
    };
    for _ in 0..kills {
        let running = start();
        std::thread::sleep(std::time::Duration::from_millis(random.u64(0..120)));
        running.kill();
    }
    start().wait()
}

#[test]
fn a_receipt_makes_a_bundle_of_what_is_lacking() {
    let gap = Gap::new();
    let (full, _) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    let (far, receipt) = (gap.origin.beside("far"), gap.origin.beside("receipt.txt"));
    let write = || {
        gap.crateferry(&["receipt", far.to_str().unwrap(), "--out", receipt.to_str().unwrap()]).expect(0);
        fs::read_to_string(&receipt).unwrap()
    };
    let text = write();
    assert!(text.lines().count() < 8, "{text}");
    let create = |out: &str| gap.try_create(out, &["--for", receipt.to_str().unwrap()]);
    create("nothing").expect_error(2, "there is nothing to carry");
    gap.change(0);
    gap.change(1);
    let made = create("lacking").expect(0).json();
    assert_eq!((made["releases"].as_u64(), made["from"]["generation"].as_u64()), (Some(6), Some(1)));
    gap.apply("far", &gap.origin.beside("lacking")).expect(0);
    gap.is_the_same("far");

    fs::write(&receipt, text.replacen("mirror ", "mirror 0", 1)).unwrap();
    create("bad").expect_error(2, "the receipt is of mirror");
    fs::write(&receipt, text.strip_suffix("end\n").unwrap()).unwrap();
    create("bad").expect_error(2, "a part of it is missing");
    let digest = gap.origin.digest();
    let line = format!("serves 0 1 {digest}");
    let strange: String =
        text.lines().map(|old| format!("{}\n", if old.starts_with("serves") { &line } else { old })).collect();
    fs::write(&receipt, strange).unwrap();
    create("bad").expect_error(2, "this mirror never served that");
    fs::write(&receipt, "a letter\n").unwrap();
    create("bad").expect_error(2, "this is no receipt");
    assert!(!gap.origin.beside("bad").exists());
}

#[test]
fn a_sync_makes_a_bundle_of_what_it_published() {
    let gap = Gap::new();
    let (full, _) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    let (out, key) = (gap.origin.beside("outbox"), gap.key.to_str().unwrap().to_owned());
    let sync = |key: &[&str]| gap.origin.sync(&[&["--bundle", out.to_str().unwrap()], key].concat());
    sync(&["--sign", &key]).expect_error(0, "no bundle is made");
    assert!(!out.exists());
    gap.registry.release("newest", "1.0.0").commit();
    sync(&[]).expect_error(2, "name a key with --sign");
    sync(&["--sign", &key]).expect(0);
    assert_eq!(gap.apply("far", &out).expect(0).json()["releases"], 1);
    gap.is_the_same("far");
}

#[test]
fn keys_hand_over_and_a_bundle_that_too_few_signed_is_refused() {
    let gap = Gap::new();
    let mirror = gap.origin.mirror();
    let file = |name: &str| gap.origin.beside(name).to_str().unwrap().to_owned();
    for name in ["anna", "ben"] {
        gap.crateferry(&["keygen", "--out", &file(name)]).expect(0);
    }
    gap.crateferry(&["keygen", "--kind", "openpgp", "--out", &file("cleo")]).expect(0);
    let set = ["keys", "set", mirror.to_str().unwrap(), "--quorum", "2"];
    let first = [&file("anna.pub"), &file("ben.pub")];
    gap.crateferry(&[&set[..], &["--key", first[0], first[1], "--sign", &file("anna"), &file("ben")]].concat())
        .expect(0);
    let create = |out: &str, range: &[&str], keys: &[&str]| {
        let mut arguments = vec!["bundle", "create", mirror.to_str().unwrap(), "--out"];
        let (out, keys): (String, Vec<String>) = (file(out), keys.iter().map(|key| file(key)).collect());
        arguments.push(&out);
        arguments.extend(range);
        keys.iter().for_each(|key| arguments.extend(["--sign", key]));
        gap.crateferry(&arguments).expect(0)
    };
    let far = file("far");
    let apply =
        |bundle: &str, trust: &[&str]| gap.crateferry(&[&["bundle", "apply", &far, &file(bundle)], trust].concat());
    let trust = ["--trust", first[0], "--trust", first[1]];
    // One signature is not two, and the one who made the bundle is told so.
    let made = create("too-few", &["--full"], &["anna"]);
    assert!(made.stderr.contains("will not take this bundle before more sign it"), "{}", made.stderr);
    apply("too-few", &[]).expect_error(2, "no key is trusted here yet");
    apply("too-few", &trust).expect_error(3, "was not signed by those who are trusted here");
    // The second officer signs elsewhere.
    fs::create_dir(file("elsewhere")).unwrap();
    fs::copy(file("too-few/manifest.json"), file("elsewhere/manifest.json")).unwrap();
    let mut minisign = std::process::Command::new("minisign");
    minisign.args([
        "-S",
        "-W",
        "-s",
        &file("ben"),
        "-m",
        &file("elsewhere/manifest.json"),
        "-x",
        &file("elsewhere/ben.minisig"),
    ]);
    let signed = minisign.output().unwrap();
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let attach =
        ["bundle", "attach-signature", &file("too-few"), "--signature", &file("elsewhere/ben.minisig"), "--trust"];
    gap.crateferry(&[&attach[..], &[first[0]]].concat()).expect_error(3, "is no signature over the manifest");
    gap.crateferry(&[&attach[..], &[first[1]]].concat()).expect(0);
    apply("too-few", &trust).expect(0);

    // Ben leaves, Cleo comes with a key of OpenPGP; nobody behind the gap is told but by the bundle.
    gap.change(0);
    let next =
        ["--key", first[0], &file("cleo.pub"), "--from", "2", "--sign", &file("anna"), &file("ben"), &file("cleo")];
    gap.crateferry(&[&set[..], &next].concat()).expect(0);
    create("old-keys", &["--since", "1"], &["anna", "ben"]);
    apply("old-keys", &[]).expect_error(3, "key list 2 counts");
    create("new-keys", &["--since", "1"], &["anna", "cleo"]);
    apply("new-keys", &[]).expect(0);
    gap.is_the_same("far");
    // What the old keys signed for then still counts.
    assert!(apply("too-few", &[]).expect(0).stdout.contains("before; nothing to do"));
    // gpg takes Cleo's signature, minisign Anna's.
    let gpg_home = file("gpg");
    fs::create_dir(&gpg_home).unwrap();
    let gpg = |arguments: &[&str]| {
        let ran = std::process::Command::new("gpg")
            .args(["--batch", "--homedir", &gpg_home])
            .args(arguments)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    gpg(&["--import", &file("cleo.pub")]);
    gpg(&["--verify", &file("new-keys/manifest.json.asc"), &file("new-keys/manifest.json")]);
    let verify = ["-V", "-p", first[0], "-m", &file("new-keys/manifest.json")];
    assert!(std::process::Command::new("minisign").args(verify).output().unwrap().status.success());
}

#[test]
fn a_server_takes_bundles_out_of_a_folder() {
    let gap = Gap::new();
    let (full, made) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    let inbox = gap.origin.beside("inbox");
    fs::create_dir(&inbox).unwrap();
    let serve = |mirror: &Path, inbox: &Path| {
        let mut command = program();
        command.arg("serve").arg(mirror).args(["--listen", "127.0.0.1:0", "--apply-from"]).arg(inbox);
        gap.origin.start(command)
    };
    serve(&gap.origin.mirror(), &inbox).wait().expect_error(2, "bundles are for replicas");
    let far = gap.origin.beside("far");
    serve(&far, &gap.origin.beside("nowhere")).wait().expect_error(2, "is no folder");
    let server = common::Server::ready(serve(&far, &inbox));

    gap.change(0);
    let (delta, next) = gap.create("delta", &["--since", &generation(&made)]);
    // A copy that is under way: the manifest is there, the volume is not yet whole.
    let arriving = medium(&gap, "inbox/week-1", &delta, &[]);
    let volume = volumes(&delta).remove(0);
    let bytes = fs::read(&volume).unwrap();
    let path = arriving.join(volume.file_name().unwrap());
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(path.exists(), "it stays until it is whole");
    fs::write(&path, &bytes).unwrap();
    common::wait_until("the bundle is applied", || inbox.join("done/week-1").exists());
    gap.is_the_same("far");

    gap.change(1);
    let (bad, _) = gap.create("bad", &["--since", &generation(&next)]);
    flip_bit(&volumes(&bad)[0], 8 * 3000);
    medium(&gap, "inbox/week-2", &bad, &volumes(&bad));
    common::wait_until("the bundle is refused", || inbox.join("failed/week-2").exists());
    let reason = fs::read_to_string(inbox.join("failed/week-2.reason.txt")).unwrap();
    assert!(reason.contains("damaged") && reason.contains("-0001.tar"), "{reason}");
    flip_bit(&volumes(&bad)[0], 8 * 3000);
    medium(&gap, "inbox/week-2", &bad, &volumes(&bad));
    common::wait_until("the good copy is applied", || inbox.join("done/week-2").exists());
    gap.is_the_same("far");
    drop(server);
}

/// Runs a command on a small file system mounted on `folder` until that is full, makes it large, runs the command again, and copies
/// what is there to `copy`. The exit codes of both runs; none if no file system can be mounted here.
fn on_a_disk_that_fills_up(kilobytes: u64, folder: &Path, copy: &Path, arguments: &[&str]) -> Option<(i32, i32)> {
    let permitted = std::process::Command::new("unshare").args(["-rm", "true"]).output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no small file system can be had here (unshare -rm)");
        return None;
    }
    fs::create_dir_all(folder).unwrap();
    let script = "mount -t tmpfs -o size=$1 none \"$2\" || exit 99; folder=$2 copy=$3; shift 3; \"$@\"; first=$?; \
                  mount -o remount,size=64m \"$folder\" || exit 98; \"$@\"; second=$?; cp -r \"$folder\" \"$copy\"; \
                  echo; echo \"codes $first $second\"";
    let mut shell = std::process::Command::new("unshare");
    shell.args(["-rm", "sh", "-c", script, "sh", &format!("{kilobytes}k")]).arg(folder).arg(copy);
    let output = shell.arg(env!("CARGO_BIN_EXE_crateferry")).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let (_, codes) = said.rsplit_once("codes ").unwrap_or_else(|| panic!("{said}\n{output:?}"));
    let (first, second) = codes.trim().split_once(' ').unwrap();
    Some((first.parse().unwrap(), second.parse().unwrap()))
}

#[test]
fn a_bundle_that_is_made_or_applied_goes_on_when_a_full_disk_has_room_again() {
    let gap = Gap::new();
    for number in 0..12 {
        gap.registry.release_with(
            &format!("bulky-{number}"),
            "1.0.0",
            crateferry_test_support::Release::sized(100_000),
        );
    }
    gap.registry.commit();
    gap.origin.sync(&[]).expect(0);
    let (undisturbed, _) = gap.create("undisturbed", &["--full", "--volume-size", "300kB"]);
    let mirror = gap.origin.mirror();
    let (mirror, key, trust) = (mirror.to_str().unwrap(), gap.key.to_str().unwrap(), gap.trust());
    let mut full = 0;
    for number in 0..50u64 {
        let (out, copy) = (gap.origin.beside("out"), gap.origin.beside(&format!("made-{number}")));
        let arguments =
            ["bundle", "create", mirror, "--full", "--volume-size", "300kB", "--out", out.to_str().unwrap()];
        let arguments = [&arguments[..], &["--sign", key]].concat();
        let Some((first, second)) = on_a_disk_that_fills_up(4 + number * 30, &out, &copy, &arguments) else { return };
        assert!(matches!(first, 0 | 3), "{first}");
        full += usize::from(first == 3);
        assert_eq!(second, 0);
        for volume in volumes(&undisturbed) {
            assert_eq!(fs::read(copy.join(volume.file_name().unwrap())).unwrap(), fs::read(volume).unwrap());
        }
        fs::remove_dir_all(&copy).unwrap();
    }
    assert!(full > 30, "{full} of 50 disks were full");
    let (mut refused, digest) = (0, gap.origin.digest());
    for number in 0..50u64 {
        let (far, copy) = (gap.origin.beside("small"), gap.origin.beside(&format!("far-{number}")));
        let arguments = ["bundle", "apply", far.to_str().unwrap(), undisturbed.to_str().unwrap(), "--trust", &trust];
        let Some((first, second)) = on_a_disk_that_fills_up(100 + number * 60, &far, &copy, &arguments) else {
            return;
        };
        assert!(matches!(first, 0 | 3), "{first}");
        refused += usize::from(first == 3);
        assert_eq!(second, 0, "with {} KiB at first", 100 + number * 60);
        let status = gap.far(&format!("far-{number}"), "status").expect(0).json();
        assert_eq!(status["generation_digest"], digest);
        gap.far(&format!("far-{number}"), "verify").expect(0);
        fs::remove_dir_all(&copy).unwrap();
    }
    assert!(refused > 20, "{refused} of 50 disks were full");
}

#[test]
fn a_program_lies_beside_the_volumes_and_is_vouched_for() {
    let gap = Gap::new();
    let program = gap.origin.beside("crateferry-x86_64");
    fs::write(&program, b"#!/bin/sh\necho importer\n").unwrap();
    let (bundle, _) = gap.create("full", &["--full", "--with-importer", program.to_str().unwrap()]);
    assert_eq!(fs::read(bundle.join("crateferry-x86_64")).unwrap(), fs::read(&program).unwrap());
    let verify = || gap.crateferry(&["bundle", "verify", bundle.to_str().unwrap(), "--trust", &gap.trust()]);
    verify().expect(0);
    fs::write(bundle.join("crateferry-x86_64"), b"#!/bin/sh\necho somebody else\n").unwrap();
    assert!(verify().expect(5).stdout.contains("do not run it"));
    fs::remove_file(bundle.join("crateferry-x86_64")).unwrap();
    assert!(verify().expect(5).stdout.contains("is not here"));
    gap.apply("far", &bundle).expect(0);
    for bad in ["manifest.json.asc", "keys.json", "a.tar", ".hidden"] {
        let path = gap.origin.beside(bad);
        fs::write(&path, b"x").unwrap();
        let ran = gap.try_create("bad", &["--full", "--with-importer", path.to_str().unwrap()]);
        ran.expect_error(2, "is no name for a program");
    }
}

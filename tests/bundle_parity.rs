//! Volumes that are lost or scratched, and the parity that makes them again.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::gap::{Gap, medium, resigned, volumes, walk};
use common::{program, wait_until};
use crateferry_test_support::{Registry, Release};
use serde_json::{Value, json};

/// Parity of a fifth over volumes of which each is about a sixth.
const FORM: [&str; 7] = ["--full", "--level", "none", "--volume-size", "120kB", "--parity", "20%"];

/// An origin with crate files of so many bytes each.
fn gap(files: usize, size: usize) -> Gap {
    let registry = Registry::new();
    for number in 0..files {
        let release = Release { size_hint: Some(size), ..Release::default() };
        registry.release_with(&format!("crate-{number}"), "1.0.0", release);
    }
    Gap::of(registry, &["--all"])
}

/// The volumes of a bundle, and those of its parity.
fn parted(bundle: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    volumes(bundle).into_iter().partition(|path| !path.file_name().unwrap().to_str().unwrap().contains("-parity-"))
}

/// Another folder with the whole bundle.
fn copy(gap: &Gap, name: &str, bundle: &Path) -> PathBuf {
    medium(gap, name, bundle, &volumes(bundle))
}

/// Changes so many bytes of a file from an offset on.
fn scratch(path: &Path, from: usize, length: usize) {
    let mut bytes = fs::read(path).unwrap();
    let end = (from + length).min(bytes.len());
    bytes[from..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(path, bytes).unwrap();
}

/// What becomes of volumes and of those of parity.
type Harm = fn(&[PathBuf], &[PathBuf]);

/// Nothing is left of what was rebuilt.
fn is_tidy(gap: &Gap, far: &str) {
    let left = walk(&gap.origin.beside(far).join("incoming"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn any_one_lost_volume_is_made_again() {
    let gap = gap(30, 20_000);
    let (bundle, made) = gap.create("bundle", &FORM);
    let (data, parity) = parted(&bundle);
    assert!(data.len() > 5 && parity.len() > 1, "{data:?} {parity:?}");
    assert_eq!((&made["parity"]["lost_volumes"], &made["parity"]["volumes"]), (&json!(1), &json!(parity.len())));
    assert!(volumes(&bundle).iter().all(|path| fs::metadata(path).unwrap().len() <= 120_000));
    for (number, lost) in data.iter().enumerate() {
        let far = format!("far-{number}");
        let damaged = copy(&gap, &format!("damaged-{number}"), &bundle);
        fs::remove_file(damaged.join(lost.file_name().unwrap())).unwrap();
        let verified = gap.crateferry(&["bundle", "verify", damaged.to_str().unwrap(), "--trust", &gap.trust()]);
        assert!(verified.expect(1).stdout.contains("makes them again"), "it is told that parity suffices");
        let applied = gap.apply(&far, &damaged).expect(0).json();
        assert_eq!((&applied["rebuilt"], &applied["missing"]), (&json!([number + 1]), &json!([])));
        gap.is_the_same(&far);
        is_tidy(&gap, &far);
    }
}

#[test]
fn parity_is_reproducible_and_looked_at_only_when_something_is_wrong() {
    let gap = gap(20, 20_000);
    let (bundle, _) = gap.create("bundle", &FORM);
    let (again, _) = gap.create("again", &FORM);
    for (one, other) in volumes(&bundle).iter().zip(volumes(&again)) {
        assert_eq!((one.file_name(), fs::read(one).unwrap()), (other.file_name(), fs::read(&other).unwrap()));
    }
    assert_eq!(fs::read(bundle.join("manifest.json")).unwrap(), fs::read(again.join("manifest.json")).unwrap());
    let verify = ["bundle", "verify", bundle.to_str().unwrap(), "--trust", &gap.trust()];
    gap.crateferry(&verify).expect(0);
    // A parity volume that cannot be read harms nobody who has all volumes.
    let (_, parity) = parted(&again);
    scratch(&parity[0], 0, 50_000);
    gap.apply("far", &again).expect(0);
    gap.is_the_same("far");
    let verify = ["bundle", "verify", again.to_str().unwrap(), "--trust", &gap.trust()];
    assert!(gap.crateferry(&verify).expect(5).stdout.contains("-parity-0001.tar"));
    fs::remove_file(&parity[0]).unwrap();
    let told = gap.crateferry(&verify).expect(1).stdout;
    assert!(told.contains("1 parity volume"), "{told}");
    let (other, made) = gap.create("other", &[&FORM[..6], &["10%"]].concat());
    assert_ne!(fs::read(other.join("manifest.json")).unwrap(), fs::read(bundle.join("manifest.json")).unwrap());
    assert_eq!(made["parity"]["lost_volumes"], 0);
    let inspected = gap.crateferry(&["bundle", "inspect", other.to_str().unwrap(), "--trust", &gap.trust()]).expect(0);
    assert!(inspected.stdout.contains("no whole volume"), "{}", inspected.stdout);
    gap.try_create("none", &[&FORM[..6], &["0%"]].concat()).expect_error(2, "from 1% to 100%");
    gap.try_create("none", &["--full", "--volume-size", "40kB", "--level", "none", "--parity", "101"]).expect(2);
}

#[test]
fn scratches_are_mended_wherever_they_are() {
    let gap = gap(30, 20_000);
    let (bundle, _) = gap.create("bundle", &FORM);
    let (data, parity) = parted(&bundle);
    let harms: [(&str, Harm); 5] = [
        ("one byte", |data, _| scratch(&data[1], 60_000, 1)),
        ("a header and a table", |data, _| scratch(&data[2], 0, 1500)),
        ("each volume", |data, _| data.iter().enumerate().for_each(|(at, path)| scratch(path, at * 5000, 5000))),
        ("a volume cut short, and parity", |data, parity| {
            let length = fs::metadata(&data[3]).unwrap().len();
            fs::File::options().write(true).open(&data[3]).unwrap().set_len(length - 40_000).unwrap();
            scratch(&parity[0], 20_000, 3000);
        }),
        ("one table of parity", |data, parity| {
            scratch(&data[0], 30_000, 20_000);
            scratch(&parity[0], 0, 1000);
            fs::remove_file(&parity[1]).unwrap();
        }),
    ];
    for (number, (what, harm)) in harms.into_iter().enumerate() {
        let damaged = copy(&gap, &format!("damaged-{number}"), &bundle);
        let of = |paths: &[PathBuf]| -> Vec<PathBuf> {
            paths.iter().map(|path| damaged.join(path.file_name().unwrap())).collect()
        };
        harm(&of(&data), &of(&parity));
        let verify = ["bundle", "verify", damaged.to_str().unwrap(), "--trust", &gap.trust(), "--json"];
        let told = gap.crateferry(&verify).expect(5).json();
        assert_eq!(told["parity"]["beyond"], json!([]), "{what}: {told}");
        let far = format!("far-{number}");
        let applied = gap.apply(&far, &damaged).expect(0).json();
        assert!(!applied["rebuilt"].as_array().unwrap().is_empty(), "{what}: {applied}");
        gap.is_the_same(&far);
        is_tidy(&gap, &far);
    }
    // A bundle of one volume has parity, too.
    let (one, made) = gap.create("one", &["--full", "--level", "none", "--parity", "5%"]);
    assert_eq!(made["volumes"], 1);
    let (data, _) = parted(&one);
    scratch(&data[0], 100_000, 20_000);
    gap.apply("far", &one).expect(0);
    gap.is_the_same("far");
}

#[test]
fn what_parity_cannot_mend_is_told_and_a_good_copy_brings_the_rest() {
    let gap = gap(30, 20_000);
    let (bundle, _) = gap.create("bundle", &FORM);
    let (data, parity) = parted(&bundle);
    let damaged = copy(&gap, "damaged", &bundle);
    let lost: Vec<PathBuf> = data[1..3].iter().map(|path| damaged.join(path.file_name().unwrap())).collect();
    lost.iter().for_each(|path| fs::remove_file(path).unwrap());
    let refused = gap.apply("far", &damaged).expect(1).json();
    assert_eq!((&refused["missing"], &refused["parity"]["beyond"]), (&json!([2, 3]), &json!([2, 3])));
    assert_eq!(gap.far("far", "status").expect(0).json()["generation"], 0);
    let far = gap.origin.beside("far").to_str().unwrap().to_owned();
    let told = gap.crateferry(&["bundle", "apply", &far, damaged.to_str().unwrap()]).expect(1).stdout;
    assert!(told.contains("does not suffice") && told.contains("lay a good copy"), "{told}");
    // One of them comes: parity makes the other.
    fs::copy(&data[1], &lost[0]).unwrap();
    let applied = gap.apply("far", &damaged).expect(0).json();
    assert_eq!(applied["rebuilt"], json!([3]));
    gap.is_the_same("far");
    // Without its parity volumes it is a bundle like any other.
    let bare = medium(&gap, "bare", &bundle, &data[1..]);
    let told = gap.apply("bare-far", &bare).expect(1).json();
    assert_eq!((&told["missing"], &told["parity"]), (&json!([1]), &Value::Null));
    // Volumes that were taken in before need not be there, but then they count as lost for the others.
    let rest = medium(&gap, "rest", &bundle, &[&data[..1], &parity].concat());
    gap.apply("bare-far", &rest).expect(0);
    gap.is_the_same("bare-far");
}

#[test]
fn rebuilding_that_is_killed_begins_anew() {
    let gap = gap(24, 400_000);
    let form = ["--full", "--level", "none", "--volume-size", "2MB", "--parity", "25%"];
    let (bundle, _) = gap.create("bundle", &form);
    let (data, _) = parted(&bundle);
    fs::remove_file(&data[2]).unwrap();
    let far = gap.origin.beside("far");
    let apply = || {
        let mut command = program();
        command.args(["bundle", "apply"]).arg(&far).arg(&bundle).args(["--trust", &gap.trust(), "--json"]);
        gap.origin.start(command)
    };
    let is_rebuilding = || {
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("rebuilding-");
        walk(&far.join("incoming")).iter().any(name)
    };
    for _ in 0..3 {
        let running = apply();
        wait_until("a volume is made again", is_rebuilding);
        assert_eq!(running.kill().code, None);
        assert!(is_rebuilding(), "it was killed in the midst of it");
        // As if nothing of it had reached the disk.
        for path in walk(&far.join("incoming")) {
            if path.to_str().unwrap().contains("rebuilding-") {
                scratch(&path, 0, usize::MAX >> 1);
            }
        }
    }
    let applied = apply().wait().expect(0).json();
    assert_eq!(applied["rebuilt"], json!([3]));
    gap.is_the_same("far");
    is_tidy(&gap, "far");
}

#[test]
fn a_stream_carries_parity_behind_the_volumes() {
    let gap = gap(12, 20_000);
    let (mirror, key) = (gap.origin.mirror(), gap.key.clone());
    let stream = gap.origin.beside("stream.tar");
    let made = program()
        .args(["bundle", "create", mirror.to_str().unwrap(), "--out", "-", "--sign", key.to_str().unwrap()])
        .args(FORM)
        .stdout(fs::File::create(&stream).unwrap())
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let far = gap.origin.beside("far");
    let mut command = program();
    command.args(["bundle", "apply", far.to_str().unwrap(), "-", "--trust", &gap.trust(), "--json"]);
    gap.origin.start_with(command, fs::File::open(&stream).unwrap().into()).wait().expect(0);
    gap.is_the_same("far");
    // Unpacked by any tar it is the folder, and its parity serves there.
    let folder = gap.origin.beside("folder");
    fs::create_dir_all(&folder).unwrap();
    let untar = std::process::Command::new("tar").arg("xf").arg(&stream).arg("-C").arg(&folder).status().unwrap();
    assert!(untar.success());
    let (data, parity) = parted(&folder);
    assert!(!parity.is_empty());
    scratch(&data[0], 5000, 4000);
    gap.apply("other", &folder).expect(0);
    gap.is_the_same("other");
}

#[test]
fn parity_that_is_nonsense_though_it_is_signed_ends_in_a_clear_error() {
    let gap = gap(12, 20_000);
    let (bundle, _) = gap.create("bundle", &FORM);
    let (data, parity) = parted(&bundle);
    let digest = |bytes: &[u8]| {
        let path = gap.origin.beside("table");
        fs::write(&path, bytes).unwrap();
        let told = std::process::Command::new("b3sum").arg("--no-names").arg(&path).output().unwrap();
        String::from_utf8(told.stdout).unwrap().trim().to_owned()
    };
    let shapes = [
        json!({ "rows": 0 }),
        json!({ "rows": u64::MAX }),
        json!({ "recovery": u64::MAX }),
        json!({ "recovery": 0 }),
        json!({ "block": 3 }),
        json!({ "block": 1_u64 << 40 }),
        json!({ "volumes": [] }),
    ];
    for (number, shape) in shapes.into_iter().enumerate() {
        let hostile = copy(&gap, &format!("shape-{number}"), &bundle);
        resigned(&gap, &hostile, |manifest| {
            for (key, value) in shape.as_object().unwrap() {
                manifest["parity"][key] = value.clone();
            }
        });
        gap.apply("far", &hostile).expect_error(3, "parity");
    }
    // A table of other digests: no block is as it says, so nothing can be made of them, and the volumes that are right still count.
    let hostile = copy(&gap, "digests", &bundle);
    let length = {
        let manifest: Value = serde_json::from_slice(&fs::read(bundle.join("manifest.json")).unwrap()).unwrap();
        manifest["parity"]["table"]["length"].as_u64().unwrap() as usize
    };
    let nonsense = vec![7u8; length];
    for path in &parity {
        let path = hostile.join(path.file_name().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[512..512 + length].copy_from_slice(&nonsense);
        fs::write(&path, bytes).unwrap();
    }
    resigned(&gap, &hostile, |manifest| manifest["parity"]["table"]["blake3"] = json!(digest(&nonsense)));
    let lost = hostile.join(data[1].file_name().unwrap());
    fs::remove_file(&lost).unwrap();
    let told = gap.apply("far", &hostile).expect(1).json();
    assert_eq!((&told["missing"], &told["rebuilt"]), (&json!([2]), &json!([])));
    fs::copy(&data[1], &lost).unwrap();
    gap.apply("far", &hostile).expect(0);
    gap.is_the_same("far");
}

//! Exports that something goes wrong with: one bad file is left out and told of, and no row comes without its crate file.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crateferry_test_support::{Bulk, Registry};
use serde_json::Value;

use crate::common::{Ferry, chance, flip_bit, program};
use crate::folder::{expect_whole, files, in_pack, is_part, local, served};
use crate::{export, graph, look, mirrored};

/// A mirror of [`graph`] whose crate file of `extra` lost a bit.
fn with_a_damaged_crate_file() -> (Registry, Ferry) {
    let registry = graph();
    let ferry = mirrored(&registry);
    damage_extra(&registry, &ferry);
    (registry, ferry)
}

fn damage_extra(registry: &Registry, ferry: &Ferry) {
    let (pack, at) = in_pack(ferry, &registry.crate_bytes("extra", "2.0.0"));
    flip_bit(&pack, (at + 100) * 8);
}

/// The one thing that went wrong: what it is, why, what to do.
#[track_caller]
fn failure(said: &Value) -> [&str; 3] {
    assert_eq!(said["failure_count"], 1, "{said}");
    ["object", "problem", "next"].map(|key| said["failures"][0][key].as_str().unwrap())
}

#[test]
fn a_damaged_crate_file_is_left_out_and_the_rest_is_exported() {
    for layout in ["download", "cargo", "sharded", "local-registry", "static"] {
        let (_registry, ferry) = with_a_damaged_crate_file();
        let ran = export(&ferry, layout).expect_error(5, "crate file extra 2.0.0 is not exported");
        let said = ran.json();
        let [object, problem, next] = failure(&said);
        assert_eq!((&said["written"], object), (&7.into(), "crate file extra 2.0.0"));
        assert!(problem.contains("SHA-256 is") && next.contains("crateferry verify"), "{problem}; {next}");
        let found = files(&ferry.beside("out"));
        assert!(found.keys().all(|path| !path.contains("extra") && !is_part(path)), "{:?}", found.keys());
    }
}

#[test]
fn the_row_of_a_damaged_crate_file_is_left_out_alone() {
    let registry = graph();
    registry.release("extra", "2.0.1");
    let ferry = mirrored(&registry);
    damage_extra(&registry, &ferry);
    export(&ferry, "local-registry").expect(5);
    assert_eq!(expect_whole(&ferry.beside("out"), local), 8);
    let index = files(&ferry.beside("out"))["index/ex/tr/extra"].clone();
    assert_eq!(String::from_utf8(index).unwrap(), registry.row("extra", "2.0.1"));
}

#[test]
fn what_was_exported_before_its_damage_stays_with_its_row() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "static").expect(0);
    damage_extra(&registry, &ferry);
    assert_eq!(export(&ferry, "static").expect(0).json()["unchanged"], 8);
    assert_eq!(expect_whole(&ferry.beside("out"), served), 8);
}

#[test]
fn a_damaged_index_text_leaves_what_was_exported_before() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "local-registry").expect(0);
    registry.release("alpha", "1.2.0").release("extra", "2.1.0");
    crate::sync(&ferry, &registry);
    let reader =
        crateferry_store::MirrorReader::open(&ferry.mirror(), crateferry_store::StoreLimits::default()).unwrap();
    let text = reader.catalog.index_file(&"extra".parse().unwrap()).unwrap().unwrap();
    let (pack, at) = in_pack(&ferry, &reader.packs.read(text.place).unwrap());
    flip_bit(&pack, (at + 30) * 8);
    let said = export(&ferry, "local-registry").expect(5).json();
    let [object, problem, _] = failure(&said);
    assert_eq!(object, "index file extra");
    assert!(problem.contains("is damaged"), "{problem}");
    assert_eq!(expect_whole(&ferry.beside("out"), local), 9);
    let found = files(&ferry.beside("out"));
    assert!(found.contains_key("alpha-1.2.0.crate") && !found.contains_key("extra-2.1.0.crate"));
}

#[test]
fn a_pack_that_is_lost_is_told_of_once_for_each_file() {
    let registry = graph();
    let ferry = mirrored(&registry);
    for (pack, _) in ferry.packs() {
        std::fs::remove_file(ferry.file("packs").join(pack)).unwrap();
    }
    let said = export(&ferry, "cargo").expect(5).json();
    assert_eq!((&said["written"], &said["failure_count"]), (&0.into(), &8.into()));
    let said = export(&ferry, "static").expect(5).json();
    assert_eq!((&said["index"]["written"], &said["failure_count"]), (&0.into(), &7.into()));
}

#[test]
fn what_is_in_the_way_of_one_file_does_not_stop_the_rest() {
    for (layout, path) in [("local-registry", local as fn(&str, &str) -> String), ("static", served)] {
        let ferry = mirrored(&graph());
        let in_the_way = ferry.beside("out").join(path("extra", "2.0.0")).join("folder");
        std::fs::create_dir_all(&in_the_way).unwrap();
        let said = export(&ferry, layout).expect(1).json();
        let [object, problem, next] = failure(&said);
        assert_eq!((object, next), ("crate file extra 2.0.0", "make way for it and export again"));
        assert!(problem.contains("extra-2.0.0.crate"), "{problem}");
        assert_eq!(expect_whole(&ferry.beside("out"), path), 7);
        assert!(files(&ferry.beside("out")).keys().all(|path| !is_part(path)));
        std::fs::remove_dir_all(in_the_way.parent().unwrap()).unwrap();
        export(&ferry, layout).expect(0);
        assert_eq!(expect_whole(&ferry.beside("out"), path), 8);
    }
}

#[test]
fn a_crate_file_with_wrong_bytes_is_mended_and_keeps_its_row() {
    let ferry = mirrored(&graph());
    export(&ferry, "static").expect(0);
    std::fs::write(ferry.beside("out/crates/extra/extra-2.0.0.crate"), "wrong").unwrap();
    let said = export(&ferry, "static").expect(0).json();
    assert_eq!((&said["written"], &said["index"]["written"]), (&1.into(), &1.into()), "its row left first");
    assert_eq!(expect_whole(&ferry.beside("out"), served), 8);
}

#[test]
fn a_folder_that_cannot_be_written_stops_the_export_at_once() {
    let ferry = mirrored(&graph());
    std::fs::write(ferry.beside("out"), "a file").unwrap();
    export(&ferry, "cargo").expect_error(3, "cannot write");
}

#[test]
fn two_exports_into_one_folder_do_not_mix() {
    let ferry = mirrored(&graph());
    std::fs::create_dir(ferry.beside("out")).unwrap();
    let held = File::create(ferry.beside("out/.crateferry-export")).unwrap();
    held.lock().unwrap();
    export(&ferry, "cargo").expect_error(3, "another export is writing into");
    drop(held);
    export(&ferry, "cargo").expect(0);
    assert_eq!(files(&ferry.beside("out")).len(), 8, "what told of it is gone");
}

/// A mirror of so many crates that an export takes several steps.
fn many() -> (usize, Ferry) {
    let registry = Registry::new();
    registry.bulk(Bulk { releases: 700, versions_per_crate: 1, mean_size: None });
    let ferry = mirrored(&registry);
    (700, ferry)
}

#[test]
fn a_killed_export_leaves_no_row_without_its_crate_file_and_the_next_one_goes_on() {
    let (rows, ferry) = many();
    let (seed, mut rng) = chance();
    let out = ferry.beside("out");
    let to = out.display().to_string();
    for _ in 0..12 {
        let running = ferry.start(ferry.command("export", &["--to", &to, "--layout", "local-registry"]));
        std::thread::sleep(Duration::from_millis(rng.u64(20..400)));
        running.kill();
        assert!(expect_whole(&out, local) <= rows, "seed {seed}");
        if rng.bool() {
            drop(std::fs::remove_dir_all(&out));
        }
    }
    export(&ferry, "local-registry").expect(0);
    assert_eq!(expect_whole(&out, local), rows, "seed {seed}");
    let left = files(&out).into_keys().find(|path| is_part(path));
    assert_eq!(left, None, "seed {seed}");
}

/// A file system of `size` on `folder` for a command that a shell runs, if this system permits it; what is on it is
/// copied to `copy` at the end.
fn on_a_small_disk(size: &str, folder: &Path, copy: &Path, command: &Command) -> Option<i32> {
    let permitted = Command::new("unshare").args(["-rm", "true"]).output();
    if !permitted.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: no small file system can be had here (unshare -rm)");
        return None;
    }
    std::fs::create_dir(folder).unwrap();
    let script = "mount -t tmpfs -o size=$1 none \"$2\" || exit 99; folder=$2 copy=$3; shift 3; \"$@\"; code=$?; \
                  cp -r \"$folder\" \"$copy\"; exit $code";
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-c", script, "sh", size]).arg(folder).arg(copy).arg(command.get_program());
    shell.args(command.get_args());
    let output = shell.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot write") && stderr.contains("No space left"), "{stderr}");
    output.status.code()
}

#[test]
fn a_full_disk_stops_an_export_and_leaves_what_is_whole() {
    let (_, ferry) = many();
    let (out, copy) = (ferry.beside("out"), ferry.beside("copy"));
    let mut command = program();
    command.arg("export").arg(ferry.mirror()).arg("--to").arg(&out).args(["--layout", "local-registry"]);
    let Some(code) = on_a_small_disk("3m", &out, &copy, &command) else { return };
    assert_eq!(code, 3);
    let rows = expect_whole(&copy, local);
    assert!(rows > 0, "the steps before are there");
    assert!(files(&copy).keys().all(|path| !is_part(path)));
    look::verify(&ferry);
}

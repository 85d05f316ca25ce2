//! Exporting again: what changed comes, what is served no more leaves, what is not ours stays.

use crateferry_test_support::Registry;
use serde_json::json;

use crate::common::Ferry;
use crate::folder::{expect_whole, files, local, served};
use crate::{export, graph, look, mirrored, sync};

/// The folder has what is served, byte for byte, and nothing else.
#[track_caller]
fn expect_served(ferry: &Ferry, registry: &Registry, crate_file: fn(&str, &str) -> String, others: &[&str]) {
    let mut expected: Vec<String> = others.iter().map(|path| (*path).to_owned()).collect();
    let found = files(&ferry.beside("out"));
    for path in registry.index_paths() {
        let name = path.rsplit('/').next().unwrap().to_owned();
        assert_eq!(found.get(&format!("index/{path}")), look::served_bytes(ferry, &name).as_ref(), "{path}");
        expected.push(format!("index/{path}"));
    }
    for (name, version) in registry.release_ids() {
        let path = crate_file(&name, &version);
        assert!(found.get(&path).is_some_and(|bytes| *bytes == registry.crate_bytes(&name, &version)), "{path}");
        expected.push(path);
    }
    expected.sort();
    assert_eq!(found.into_keys().collect::<Vec<_>>(), expected);
}

#[test]
fn a_local_registry_has_what_is_served_byte_for_byte() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let said = export(&ferry, "local-registry").expect(0).json();
    let index = json!({ "generation": 1, "written": 7, "unchanged": 0, "removed": 0 });
    assert_eq!((&said["written"], &said["index"]), (&json!(8), &index));
    expect_served(&ferry, &registry, local, &[]);
    let paths = files(&ferry.beside("out"));
    for path in ["index/1/a", "index/2/ab", "index/3/a/abc", "index/mi/xe/mixed_case", "Ab-1.0.0.crate"] {
        assert!(paths.contains_key(path), "{path}: {:?}", paths.keys());
    }
}

#[test]
fn static_files_are_what_is_served_byte_for_byte() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "static").expect(0);
    expect_served(&ferry, &registry, served, &["index/config.json"]);
    let config = &files(&ferry.beside("out"))["index/config.json"];
    let config: serde_json::Value = serde_json::from_slice(config).unwrap();
    assert_eq!(config, json!({ "dl": "http://127.0.0.1:1/crates/{crate}/{crate}-{version}.crate" }));
}

#[test]
fn an_empty_mirror_is_an_empty_registry() {
    let ferry = look::hasty(&graph());
    let said = export(&ferry, "local-registry").expect(0).json();
    assert_eq!((&said["written"], &said["index"]["generation"]), (&json!(0), &json!(0)), "{said}");
    assert!(ferry.beside("out/index").is_dir());
}

#[test]
fn a_second_export_writes_nothing_and_a_third_what_changed() {
    for layout in ["local-registry", "static"] {
        let registry = graph();
        let ferry = mirrored(&registry);
        export(&ferry, layout).expect(0);
        let said = export(&ferry, layout).expect(0).json();
        assert_eq!((&said["written"], &said["unchanged"]), (&json!(0), &json!(8)));
        assert_eq!((&said["index"]["written"], &said["index"]["unchanged"]), (&json!(0), &json!(7)));
        registry.release("alpha", "1.2.0").yank("abc", "1.0.0");
        sync(&ferry, &registry);
        let said = export(&ferry, layout).expect(0).json();
        assert_eq!((&said["written"], &said["index"]["written"]), (&json!(1), &json!(2)));
        assert_eq!(said["index"]["generation"], 2);
    }
}

/// Every file with what tells whether it was written again.
fn states(folder: &std::path::Path) -> Vec<(std::path::PathBuf, u64, i64, i64)> {
    use std::os::unix::fs::MetadataExt as _;
    let state = |path: std::path::PathBuf| {
        let metadata = std::fs::metadata(&path).unwrap();
        (path, metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
    };
    look::contents(folder).into_iter().map(|(path, _)| state(path)).filter(|(path, ..)| path.is_file()).collect()
}

#[test]
fn a_second_export_touches_no_file_in_any_layout_and_a_third_the_new_one_alone() {
    for layout in ["download", "cargo", "sharded", "local-registry", "static"] {
        let registry = graph();
        let ferry = mirrored(&registry);
        export(&ferry, layout).expect(0);
        let first = states(&ferry.beside("out"));
        export(&ferry, layout).expect(0);
        assert!(states(&ferry.beside("out")) == first, "{layout}");
        registry.release("zeta", "1.0.0");
        sync(&ferry, &registry);
        export(&ferry, layout).expect(0);
        let third = states(&ferry.beside("out"));
        let new: Vec<_> = third.iter().filter(|state| !first.contains(state)).map(|(path, ..)| path).collect();
        assert!(new.iter().all(|path| path.to_string_lossy().contains("zeta")), "{layout}: {new:?}");
        assert!(third.len() > first.len() && first.iter().all(|state| third.contains(state)), "{layout}");
    }
}

#[test]
fn what_is_served_no_more_leaves_the_index_and_what_is_not_ours_stays() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "static").expect(0);
    let out = ferry.beside("out");
    let others = ["index/README", "index/ex/tr/note", "index/ex/tr/extra.txt", "index/.git/ex/tr/extra", "index/1/ab"];
    for path in others {
        std::fs::create_dir_all(out.join(path).parent().unwrap()).unwrap();
        std::fs::write(out.join(path), "mine").unwrap();
    }
    let elsewhere = ferry.beside("elsewhere");
    std::fs::create_dir_all(elsewhere.join("se")).unwrap();
    std::fs::write(elsewhere.join("se/zzse"), "mine").unwrap();
    std::os::unix::fs::symlink(&elsewhere, out.join("index/zz")).unwrap();
    std::fs::write(out.join("index/ex/tr/extra.part"), "left by a killed export").unwrap();

    registry.delete_crate("extra").delete_crate("a").delete("alpha", "1.0.0");
    sync(&ferry, &registry);
    let said = export(&ferry, "static").expect(0).json();
    assert_eq!(said["index"], json!({ "generation": 2, "written": 1, "unchanged": 4, "removed": 3 }), "{said}");
    assert!(elsewhere.join("se/zzse").exists(), "links are not followed");
    std::fs::remove_file(out.join("index/zz")).unwrap();
    let found = files(&out);
    for path in others {
        assert_eq!(found.get(path).map(Vec::as_slice), Some(&b"mine"[..]), "{path}");
    }
    for path in ["index/ex/tr/extra", "index/ex/tr/extra.part", "index/1/a"] {
        assert!(!found.contains_key(path), "{path}");
    }
    assert!(found.contains_key("crates/extra/extra-2.0.0.crate"), "crate files are never deleted");
}

#[test]
fn a_version_that_came_again_with_other_bytes_is_exported_anew() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "local-registry").expect(0);
    registry.delete("extra", "2.0.0");
    sync(&ferry, &registry);
    registry.republish("extra", "2.0.0", b"other");
    sync(&ferry, &registry);
    let said = export(&ferry, "local-registry").expect(0).json();
    assert_eq!((&said["written"], &said["index"]["written"]), (&json!(1), &json!(1)), "{said}");
    assert_eq!(expect_whole(&ferry.beside("out"), local), 8);
}

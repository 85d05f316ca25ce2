//! `--delete`: what is exported no more goes, and nothing else does.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::common::{Ferry, Ran};
use crate::folder::{expect_whole, files, local};
use crate::{export, graph, mirrored, sync};

/// Crate files by themselves, each with the path of `extra 2.0.0`.
const PLAIN: [(&str, &str); 3] = [
    ("download", "crates/extra/extra-2.0.0.crate"),
    ("cargo", "extra-2.0.0.crate"),
    ("sharded", "e/xt/extra-2.0.0.crate"),
];

fn export_and_delete(ferry: &Ferry, layout: &str) -> Ran {
    let to = ferry.beside("out").display().to_string();
    let url: &[&str] = if layout == "static" { &["--public-url", "http://127.0.0.1:1"] } else { &[] };
    ferry.run("export", &[&["--to", &to, "--layout", layout, "--delete", "--json"], url].concat())
}

#[test]
fn a_release_that_was_withdrawn_leaves_every_layout_with_its_folders() {
    for (layout, path) in PLAIN.into_iter().chain([("local-registry", PLAIN[1].1), ("static", PLAIN[0].1)]) {
        let registry = graph();
        let ferry = mirrored(&registry);
        export(&ferry, layout).expect(0);
        let out = ferry.beside("out");
        assert!(out.join(path).exists());
        registry.delete_crate("extra");
        sync(&ferry, &registry);
        assert_eq!(export(&ferry, layout).expect(0).json()["removed"], 0, "only when it is asked for");
        assert!(out.join(path).exists());
        let said = export_and_delete(&ferry, layout).expect(0).json();
        assert_eq!(
            (&said["removed"], &said["unchanged"], &said["written"]),
            (&json!(1), &json!(7), &json!(0)),
            "{said}"
        );
        assert!(!out.join(path).exists());
        if path.contains('/') {
            assert!(!out.join(path).parent().unwrap().exists(), "an empty folder goes too");
        }
        assert_eq!(export_and_delete(&ferry, layout).expect(0).json()["removed"], 0);
    }
}

#[test]
fn nothing_goes_that_no_export_wrote() {
    for (layout, path) in PLAIN {
        let registry = graph();
        let ferry = mirrored(&registry);
        export(&ferry, layout).expect(0);
        let out = ferry.beside("out");
        let bytes = std::fs::read(out.join(path)).unwrap();
        registry.delete_crate("extra").delete("alpha", "1.0.0");
        sync(&ferry, &registry);
        // The name of a release that the mirror knows, and other bytes; other names, and its bytes; what it does not know.
        std::fs::write(out.join(path), "edited by hand").unwrap();
        let folder = out.join(path).parent().unwrap().to_owned();
        let mine =
            ["extra-2.0.0.crate.json", "other-1.0.0.crate", "extra-2.0.0.crate.bak", "README", "sub/extra-2.0.0.crate"];
        for name in mine {
            std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.join(name), &bytes).unwrap();
        }
        let elsewhere = ferry.beside("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        std::fs::write(elsewhere.join("extra-2.0.0.crate"), &bytes).unwrap();
        symlink(&elsewhere, out.join("link")).unwrap();
        symlink(elsewhere.join("extra-2.0.0.crate"), folder.join("alpha-0.1.0.crate")).unwrap();
        std::fs::write(folder.join("extra-2.0.0.crate.part"), "left by a killed export").unwrap();

        let said = export_and_delete(&ferry, layout).expect(0).json();
        assert_eq!(said["removed"], 2, "alpha 1.0.0, and what a killed export left: {said}");
        assert_eq!(std::fs::read(out.join(path)).unwrap(), b"edited by hand");
        assert!(mine.iter().all(|name| folder.join(name).exists()), "{layout}");
        assert!(elsewhere.join("extra-2.0.0.crate").exists() && folder.join("alpha-0.1.0.crate").is_symlink());
        assert!(!folder.join("extra-2.0.0.crate.part").exists());
    }
}

#[test]
fn a_registry_keeps_every_crate_file_that_a_row_names() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "local-registry").expect(0);
    registry.delete("alpha", "1.0.0").delete_crate("a").yank("abc", "1.0.0");
    sync(&ferry, &registry);
    let said = export_and_delete(&ferry, "local-registry").expect(0).json();
    assert_eq!((&said["removed"], &said["index"]["removed"]), (&json!(2), &json!(1)), "{said}");
    assert_eq!(expect_whole(&ferry.beside("out"), local), 6);
    let is_crate_file = |path: &String| path.strip_suffix(".crate").is_some();
    assert_eq!(files(&ferry.beside("out")).into_keys().filter(is_crate_file).count(), 6);
}

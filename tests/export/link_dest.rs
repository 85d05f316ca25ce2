//! `--link-dest`: what an earlier export holds is there once.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::common::{Ferry, Ran};
use crate::folder::files;
use crate::{export, graph, mirrored, sync};

fn export_beside(ferry: &Ferry, layout: &str, to: &Path, earlier: &Path) -> Ran {
    let (to, earlier) = (to.display().to_string(), earlier.display().to_string());
    ferry.run("export", &["--to", &to, "--layout", layout, "--link-dest", &earlier, "--json"])
}

fn file(path: PathBuf) -> (u64, u64) {
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.ino(), metadata.nlink())
}

#[test]
fn what_is_right_in_an_earlier_export_is_linked_to_and_the_rest_is_copied() {
    for layout in ["cargo", "local-registry"] {
        let registry = graph();
        let ferry = mirrored(&registry);
        export(&ferry, layout).expect(0);
        let (earlier, now) = (ferry.beside("out"), ferry.beside("now"));
        registry.release("alpha", "1.2.0");
        sync(&ferry, &registry);
        // The right length, and other bytes: damage that must not spread.
        let bytes = std::fs::read(earlier.join("abc-1.0.0.crate")).unwrap();
        std::fs::write(earlier.join("abc-1.0.0.crate"), vec![b'x'; bytes.len()]).unwrap();
        std::fs::rename(earlier.join("a-1.0.0.crate"), earlier.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", earlier.join("a-1.0.0.crate")).unwrap();

        let said = export_beside(&ferry, layout, &now, &earlier).expect(0).json();
        assert_eq!((&said["linked"], &said["written"]), (&json!(6), &json!(3)), "{said}");
        for (name, version) in registry.release_ids() {
            let path = format!("{name}-{version}.crate");
            assert!(std::fs::read(now.join(&path)).unwrap() == registry.crate_bytes(&name, &version), "{path}");
            assert!(!now.join(&path).is_symlink());
        }
        let linked = file(now.join("extra-2.0.0.crate"));
        assert_eq!(linked, (file(earlier.join("extra-2.0.0.crate")).0, 2));
        assert_eq!(file(now.join("abc-1.0.0.crate")).1, 1);
        let said = export_beside(&ferry, layout, &now, &earlier).expect(0).json();
        assert_eq!((&said["linked"], &said["written"], &said["unchanged"]), (&json!(0), &json!(0), &json!(9)));
    }
}

#[test]
fn mending_one_export_leaves_the_other_alone() {
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "cargo").expect(0);
    let (earlier, now) = (ferry.beside("out"), ferry.beside("now"));
    export_beside(&ferry, "cargo", &now, &earlier).expect(0);
    registry.delete("extra", "2.0.0");
    sync(&ferry, &registry);
    registry.republish("extra", "2.0.0", b"other");
    sync(&ferry, &registry);
    let before = files(&earlier);
    export_beside(&ferry, "cargo", &now, &earlier).expect(0);
    assert!(files(&earlier) == before);
    let new = std::fs::read(now.join("extra-2.0.0.crate")).unwrap();
    assert!(new == registry.crate_bytes("extra", "2.0.0") && new != before["extra-2.0.0.crate"]);
}

#[test]
fn on_another_file_system_everything_is_copied() {
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("SKIPPED: no other file system can be had here");
        return;
    };
    let registry = graph();
    let ferry = mirrored(&registry);
    export(&ferry, "cargo").expect(0);
    if std::fs::metadata(other.path()).unwrap().dev() == std::fs::metadata(ferry.beside("out")).unwrap().dev() {
        eprintln!("SKIPPED: it is the same file system");
        return;
    }
    let said = export_beside(&ferry, "cargo", other.path(), &ferry.beside("out")).expect(0).json();
    assert_eq!((&said["linked"], &said["written"]), (&json!(0), &json!(8)));
    assert!(files(other.path()) == files(&ferry.beside("out")));
}

#[test]
fn a_folder_that_cannot_be_linked_to_is_named() {
    let ferry = mirrored(&graph());
    export(&ferry, "cargo").expect(0);
    let (out, none, file) = (ferry.beside("out"), ferry.beside("none"), ferry.file("crateferry.toml"));
    export_beside(&ferry, "cargo", &ferry.beside("now"), &none).expect_error(2, "cannot find");
    export_beside(&ferry, "cargo", &ferry.beside("now"), &file).expect_error(2, "is no folder");
    export_beside(&ferry, "cargo", &out, &out).expect_error(2, "the folder that is exported into");
    let (to, out) = (ferry.beside("now").display().to_string(), out.display().to_string());
    let archives = ["--to", &to, "--layout", "tar-zst", "--size", "1MB", "--link-dest", &out];
    ferry.run("export", &archives).expect_error(2, "layouts of plain files");
    assert!(!ferry.beside("now").exists());
}

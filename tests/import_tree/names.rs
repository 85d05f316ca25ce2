//! Files and folders of any name that a system takes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::json;

use crate::{graph, holds_all, import, put, wanting};

/// Names that other programs have trouble with.
fn awkward() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"a:b#c"[..],
        b"quote\"s and 'those'",
        b"line\nfeed",
        b"tab\tand\rreturn",
        b"\xff\xfe not text",
        b"back\\slash",
        b" ",
        b"-rf",
        b"%41%zz",
        "\u{202e}gnp.exe".as_bytes(),
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    names.push(vec![b'x'; 249]);
    names
}

#[test]
fn awkward_folders_and_names_are_no_hindrance() {
    let registry = graph();
    let ferry = wanting(&registry);
    let ids = registry.release_ids();
    for (number, folder) in awkward().iter().enumerate() {
        let (name, version) = &ids[number % ids.len()];
        let bytes = registry.crate_bytes(name, version);
        let named = [folder, &b"/"[..], crate::file_name(name, version).as_bytes()].concat();
        put(&ferry, OsStr::from_bytes(&named), &bytes);
        put(&ferry, OsStr::from_bytes(&[b"nameless/", &folder[..], b".crate"].concat()), &bytes);
    }
    let said = import(&ferry, &[]).expect(0).json();
    assert_eq!(
        (&said["placed"], &said["held"]),
        (&json!(ids.len()), &json!(2 * awkward().len() - ids.len())),
        "{said}"
    );
    holds_all(&ferry, &registry);
}

#[test]
fn awkward_names_are_told_so_that_each_can_be_found_again() {
    let registry = graph();
    let ferry = wanting(&registry);
    for name in awkward() {
        put(&ferry, OsStr::from_bytes(&[&name[..], b".crate"].concat()), b"no crate file");
    }
    let ran = import(&ferry, &[]).expect(1);
    let said = ran.json();
    let files = said["left_out_files"].as_array().unwrap();
    assert_eq!(files.len(), awkward().len());
    let encoded = files.iter().find(|file| file["path_encoding"] == "percent").unwrap();
    assert_eq!(encoded["path"], "%FF%FE not text.crate");
    assert!(files.iter().any(|file| file["path"] == "line\nfeed.crate"));

    let from = crate::tree(&ferry).display().to_string();
    let said = ferry.run("import-tree", &[&from]).expect(1).stdout;
    assert!(said.lines().all(|line| !line.chars().any(char::is_control)), "{said:?}");
    assert_eq!(said.matches("no release in the index has these bytes").count(), 10, "{said}");
}

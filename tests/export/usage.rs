//! What the command line of `export` asks for.

use crate::common::{Ferry, Ran};
use crate::{export, graph, look};

/// An export that is refused, and makes nothing.
#[track_caller]
fn refused(ferry: &Ferry, arguments: &[&str]) -> Ran {
    let to = ferry.beside("out").display().to_string();
    let ran = ferry.run("export", &[&["--to", &to], arguments].concat());
    assert!(!ferry.beside("out").exists());
    ran
}

#[test]
fn static_files_need_the_url_that_they_will_have() {
    let ferry = look::hasty(&graph());
    refused(&ferry, &["--layout", "static"]).expect_error(2, "--layout static needs --public-url");
    for url in ["crates.example", "ftp://x", "http://x/?y", "http://u:p@x", "/srv", ""] {
        refused(&ferry, &["--layout", "static", "--public-url", url]).expect_error(2, "--public-url");
    }
}

#[test]
fn a_url_is_of_no_use_to_the_other_layouts() {
    let ferry = look::hasty(&graph());
    for layout in ["download", "cargo", "sharded", "local-registry"] {
        refused(&ferry, &["--layout", layout, "--public-url", "http://x"]).expect_error(2, "static alone");
    }
}

#[test]
fn what_an_export_did_is_readable() {
    let registry = graph();
    let ferry = crate::mirrored(&registry);
    export(&ferry, "local-registry").expect(0);
    let to = ferry.beside("out").display().to_string();
    let said = ferry.run("export", &["--to", &to, "--layout", "local-registry"]).expect(0).stdout;
    assert!(said.contains("wrote       0 files, 0 B to "), "{said}");
    assert!(said.contains("index       of generation 1: wrote 0 files, removed 0; 7 there already"), "{said}");
}

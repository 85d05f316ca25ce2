//! What cannot be read, or changes meanwhile: it is named, the rest goes on, and no such run ends with 0.

use std::fs::File;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::bench::{Place, ran};
use crate::common::wait_until;

/// Puts a folder into the folder whose path is too long for the system, which not even root can read.
fn bury(place: &Place) {
    let script = "import os, sys\nfor part in 'dddddddddddddddddd':\n os.mkdir(part * 250)\n os.chdir(part * 250)\nopen('f', 'w')";
    let python = std::process::Command::new("python3").arg("-c").arg(script).current_dir(place.files()).status();
    assert!(python.unwrap().success());
}

fn unread(document: &Value) -> Vec<&Value> {
    document["files"].as_array().unwrap().iter().filter(|entry| entry["type"] == "unread").collect()
}

#[test]
fn a_folder_that_cannot_be_read_is_named_and_the_rest_goes_on() {
    let place = Place::with(&[(b"a", b"one"), (b"z", b"two")]);
    bury(&place);
    let said = place.inventory(&["--hashes", "sha256"]).expect_error(3, "cannot list: ");
    assert!(said.stdout.contains("INCOMPLETE  1 thing could not be read"), "{}", said.stdout);
    let documents = place.documents();
    let yaml = &documents["yaml"];
    assert_eq!((&yaml["complete"], &yaml["hashes"]), (&json!(false), &json!({})));
    assert_eq!(yaml["files"], documents["toml"]["files"]);
    let unread = unread(yaml);
    assert_eq!(unread.len(), 1);
    assert!(unread[0]["problem"].as_str().unwrap().starts_with("cannot list: "), "{unread:?}");
    assert!(unread[0]["path"].as_str().unwrap().ends_with("d/"));
    assert_eq!(yaml["files"].as_array().unwrap().len(), 3, "the others are there");
}

#[test]
fn what_cannot_be_read_when_checking_is_not_called_missing() {
    let place = Place::with(&[(b"a", b"one"), (b"z", b"two")]);
    place.inventory(&["--hashes", "sha256"]).expect(0);
    bury(&place);
    let said = place.check(&["--json"]).expect(3).json();
    assert_eq!((&said["differences"], &said["unread"]), (&json!([]), &json!(1)));
}

#[test]
fn fail_fast_stops_there_and_writes_nothing() {
    let place = Place::with(&[(b"a", b"one"), (b"z", b"two")]);
    bury(&place);
    place.inventory(&["--fail-fast"]).expect_error(3, "so nothing was written");
    assert!(!place.path("files.yaml").exists() && !place.path("files.tar").exists());
}

#[test]
fn an_incomplete_inventory_is_not_signed() {
    let place = Place::small();
    place.run(&["keygen", "--out", "key"]).expect(0);
    place.inventory(&["--sign", "key"]).expect(0);
    bury(&place);
    let said = place.inventory(&["--sign", "key"]).expect(3).stdout;
    assert!(said.contains("nothing was signed"), "{said}");
    assert!(!place.path("files.yaml.minisig").exists(), "nor does an earlier signature stay");
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_grows_while_it_is_read_is_an_error_that_is_named() {
    let place = Place::with(&[(b"a", b"one"), (b"z", b"two")]);
    let growing = place.files().join("growing");
    File::create(&growing).unwrap().set_len(3 << 30).unwrap();
    let mut command = place.command(&["inventory", "files", "--hashes", "sha512", "--per-file", "none", "--json"]);
    let running = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let folder = format!("/proc/{}/fd", running.id());
    wait_until("the file is open", || {
        let open = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        open.into_iter().any(|file| std::fs::read_link(file.path()).is_ok_and(|path| path.ends_with("growing")))
    });
    File::options().append(true).open(&growing).unwrap().write_all(b"x").unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problem = format!("changed while it was read: its size was {}, now {}", 3_u64 << 30, (3_u64 << 30) + 1);
    assert_eq!(said["problems"], json!([{"path": "growing", "type": "unread", "problem": problem}]));
    assert_eq!((&said["files"], &said["hashes"]), (&json!(2), &json!({})));
}

#[test]
fn a_disk_that_is_full_ends_it_and_leaves_no_document() {
    let place = Place::small();
    let mut limited = std::process::Command::new("bash");
    let script = "ulimit -f 0; trap '' XFSZ; exec \"$0\" inventory files --hashes sha256";
    limited.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_crateferry")).current_dir(place.path(""));
    ran(&mut limited).expect_error(3, "cannot write");
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["files"]);
}

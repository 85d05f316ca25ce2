//! Bundles as streams, and media that somebody has tampered with.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::gap::{Gap, medium, volumes, walk};
use common::{Ran, program};
use serde_json::Value;
use tar::{EntryType, Header};

/// Small volumes, so that there are several.
const SMALL: [&str; 5] = ["--full", "--level", "none", "--volume-size", "40kB"];

/// Makes a stream, and keeps it in a file.
fn stream(gap: &Gap, arguments: &[&str]) -> PathBuf {
    let path = gap.origin.beside("stream.tar");
    let (mirror, key) = (gap.origin.mirror(), gap.key.clone());
    let made = program()
        .args(["bundle", "create", mirror.to_str().unwrap(), "--out", "-", "--sign", key.to_str().unwrap()])
        .args(arguments)
        .stdout(File::create(&path).unwrap())
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let told = String::from_utf8(made.stderr).unwrap();
    assert!(made.status.success() && told.contains("volumes     "), "{told}");
    path
}

fn apply(gap: &Gap, stream: &Path) -> Ran {
    let far = gap.origin.beside("far");
    let mut command = program();
    command.args(["bundle", "apply", far.to_str().unwrap(), "-", "--trust", &gap.trust(), "--json"]);
    gap.origin.start_with(command, File::open(stream).unwrap().into()).wait()
}

/// A member with any header and any bytes.
fn member(name: &[u8], kind: EntryType, link: &[u8], claimed: u64, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_size(claimed);
    header.set_mode(0o4777);
    header.set_cksum();
    let fill = vec![0; bytes.len().next_multiple_of(512) - bytes.len()];
    [header.as_bytes().as_slice(), bytes, &fill].concat()
}

/// What somebody may put into an archive who means harm, or who is careless.
fn hostile(outside: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let outside = outside.join("written").into_os_string().into_encoded_bytes();
    let pax = |text: &str| member(b"pax", EntryType::XHeader, b"", text.len() as u64, text.as_bytes());
    let long = [vec![b'n'; 5000], vec![0]].concat();
    let empty = member(b"empty", EntryType::Regular, b"", 0, b"");
    vec![
        ("absolute", member(&outside, EntryType::Regular, b"", 3, b"bad")),
        ("upwards", member(b"../../../written", EntryType::Regular, b"", 3, b"bad")),
        (
            "through a link",
            [
                member(b"link", EntryType::Symlink, b"/tmp", 0, b""),
                member(b"link/written", EntryType::Regular, b"", 3, b"bad"),
            ]
            .concat(),
        ),
        ("a hard link", member(b"hard", EntryType::Link, b"/etc/passwd", 0, b"")),
        ("a device", member(b"device", EntryType::Char, b"", 0, b"")),
        ("a pipe", member(b"pipe", EntryType::Fifo, b"", 0, b"")),
        ("a sparse file", member(b"sparse", EntryType::GNUSparse, b"", 0, b"")),
        ("eight exabytes", member(b"huge", EntryType::Regular, b"", u64::MAX / 2, b"bad")),
        (
            "a length that PAX gives",
            [pax("18 size=99999999\n"), member(b"x", EntryType::Regular, b"", 0, b"")].concat(),
        ),
        ("a name that PAX gives", [pax("25 path=../../written/x\n"), empty.clone()].concat()),
        ("a long name", [member(b"././@LongLink", EntryType::GNULongName, b"", 5001, &long), empty.clone()].concat()),
        ("a zero within a name", member(b"a\0b", EntryType::Regular, b"", 3, b"bad")),
        ("many empty members", empty.repeat(20_000)),
        ("no archive", b"this is no archive at all\n".repeat(1000)),
        ("nothing", Vec::new()),
    ]
}

/// All files beside a mirror, and their lengths.
fn beside(gap: &Gap) -> Vec<(PathBuf, u64)> {
    let root = gap.origin.mirror().parent().unwrap().to_owned();
    let far = gap.origin.beside("far");
    let files = walk(&root).into_iter().filter(|path| {
        !path.starts_with(&far) && path.extension().is_none_or(|end| end != "stdout" && end != "stderr")
    });
    let mut files: Vec<_> = files.map(|path| (path.clone(), path.symlink_metadata().unwrap().len())).collect();
    files.sort();
    files
}

#[test]
fn a_stream_is_the_folder_of_the_bundle_in_an_archive() {
    let gap = Gap::new();
    let program = gap.origin.beside("importer");
    fs::write(&program, "a program").unwrap();
    let options = [&SMALL[..], &["--with-importer", program.to_str().unwrap()]].concat();
    let sent = stream(&gap, &options);
    let (folder, _) = gap.create("folder", &options);
    let unpacked = gap.origin.beside("unpacked");
    fs::create_dir(&unpacked).unwrap();
    assert!(Command::new("tar").arg("-xf").arg(&sent).arg("-C").arg(&unpacked).status().unwrap().success());
    let names = |folder: &Path| {
        let mut names: Vec<_> = walk(folder).iter().map(|path| path.strip_prefix(folder).unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&unpacked), names(&folder));
    for name in names(&folder) {
        // A signature has its time in it.
        let is_signature = name.extension().is_some_and(|end| end == "minisig");
        assert!(is_signature || fs::read(unpacked.join(&name)).unwrap() == fs::read(folder.join(&name)).unwrap());
    }
    let first = Command::new("tar").arg("-tf").arg(&sent).output().unwrap().stdout;
    assert!(
        first.starts_with(b"manifest.json\nmanifest.json.minisig\nimporter\n"),
        "{}",
        String::from_utf8_lossy(&first)
    );
    assert!(walk(&gap.origin.mirror().join("outgoing")).is_empty(), "nothing stays of what was sent");
    apply(&gap, &sent).expect(0);
    gap.is_the_same("far");
    assert_eq!(apply(&gap, &sent).expect(0).json()["applied_before"], true);
}

#[test]
fn a_stream_that_breaks_off_is_taken_as_far_as_it_came() {
    let gap = Gap::new();
    let sent = stream(&gap, &SMALL);
    let whole = fs::read(&sent).unwrap();
    let part = gap.origin.beside("part.tar");
    let mut before = usize::MAX;
    for tenths in [1, 4, 7, 9] {
        fs::write(&part, &whole[..whole.len() * tenths / 10]).unwrap();
        let ran = apply(&gap, &part);
        assert!(matches!(ran.code, Some(1 | 5)), "{ran:?}");
        let told: Value = ran.json();
        assert_eq!(told["serves"], Value::Null);
        let missing = told["missing"].as_array().unwrap().len() + told["damaged_volumes"].as_array().unwrap().len();
        assert!(missing > 0 && missing <= before, "{missing} of {before}: {told}");
        before = missing;
    }
    assert_eq!(before, 1, "all volumes but the last came");
    let done = apply(&gap, &sent).expect(0).json();
    assert!(done["releases"].as_u64().unwrap() < 60, "what came before is not stored again: {done}");
    gap.is_the_same("far");
}

#[test]
fn what_else_is_in_a_stream_is_passed_over_and_never_written() {
    let gap = Gap::new();
    let sent = stream(&gap, &SMALL);
    let whole = fs::read(&sent).unwrap();
    // Behind the manifest and its signature.
    let member_end = |at: usize| {
        let header = Header::from_byte_slice(&whole[at..at + 512]);
        at + 512 + (header.entry_size().unwrap() as usize).next_multiple_of(512)
    };
    let head = member_end(member_end(0));
    let files = beside(&gap);
    let mixed = tempfile::NamedTempFile::new().unwrap();
    for (what, bytes) in hostile(gap.origin.mirror().parent().unwrap()) {
        fs::write(mixed.path(), [&whole[..head], &bytes, &whole[head..]].concat()).unwrap();
        let ran = apply(&gap, mixed.path());
        assert!(matches!(ran.code, Some(0 | 1 | 3 | 5)), "{what}: {ran:?}");
        fs::write(mixed.path(), &bytes).unwrap();
        let ran = apply(&gap, mixed.path());
        ran.expect_error(3, "");
        assert_eq!(beside(&gap), files, "{what}");
    }
    apply(&gap, &sent).expect(0);
    gap.is_the_same("far");
}

#[test]
fn endless_data_is_no_stream() {
    let gap = Gap::new();
    let mut command = program();
    command.args(["bundle", "apply", gap.origin.beside("far").to_str().unwrap(), "-", "--trust", &gap.trust()]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut endless = child.stdin.take().unwrap();
    // A manifest without end, as far as its header tells.
    drop(endless.write_all(&member(b"manifest.json", EntryType::Regular, b"", 1 << 40, b"{")));
    let spaces = vec![b' '; 1 << 16];
    let writer = std::thread::spawn(move || while endless.write_all(&spaces).is_ok() {});
    let ended = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(ended.status.code(), Some(3));
    let told = String::from_utf8(ended.stderr).unwrap();
    assert!(told.contains("are allowed"), "{told}");
    assert!(!gap.origin.beside("far").exists());
}

#[test]
fn a_volume_that_is_another_archive_is_damaged_whatever_is_in_it() {
    let gap = Gap::new();
    let (bundle, _) = gap.create("full", &SMALL);
    let tampered = medium(&gap, "tampered", &bundle, &volumes(&bundle));
    let first = volumes(&tampered)[0].clone();
    let good = fs::read(&first).unwrap();
    let files = beside(&gap);
    for (what, bytes) in hostile(gap.origin.mirror().parent().unwrap()) {
        // Instead of the volume, before it, and behind it.
        for changed in [bytes.clone(), [&bytes, &good[..]].concat(), [&good, &bytes[..]].concat()] {
            if changed == good {
                continue;
            }
            fs::write(&first, changed).unwrap();
            let told = gap.apply("far", &tampered).expect(5).json();
            assert_eq!(told["damaged_volumes"], serde_json::json!([1]), "{what}");
        }
        fs::write(&first, &good).unwrap();
        assert_eq!(beside(&gap), files, "{what}");
    }
    gap.apply("far", &tampered).expect(0);
    gap.is_the_same("far");
}

//! The documents: valid for any name, always the same, about the folder and not about themselves.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use serde_json::{Value, json};

use crate::bench::{Place, ran};
use crate::common::Ferry;
use crateferry_test_support::Registry;

/// The name's bytes, decoded as `docs/inventory.md` tells.
fn decoded(entry: &Value, key: &str) -> Vec<u8> {
    let text = entry[key].as_str().unwrap();
    match entry[format!("{key}Encoding")].as_str() {
        None => text.as_bytes().to_vec(),
        Some("percent") => {
            let mut parts = text.split('%');
            let mut bytes = parts.next().unwrap().as_bytes().to_vec();
            for part in parts {
                bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            bytes
        }
        other => panic!("{other:?}"),
    }
}

fn names(documents: &Value) -> Vec<Vec<u8>> {
    documents["yaml"]["files"].as_array().unwrap().iter().map(|entry| decoded(entry, "path")).collect()
}

/// Names that are something else where they are not quoted, or have what no document may hold.
fn hostile_names() -> BTreeSet<Vec<u8>> {
    let mut names: BTreeSet<Vec<u8>> = [
        "true",
        "no",
        "~",
        "null",
        "NULL",
        "1:30",
        "0x10",
        "1e3",
        "0o7",
        "1_000",
        ".inf",
        ".5",
        "=",
        "<<",
        "2020-01-01",
        "-",
        "- a",
        "? a",
        "a: b",
        "a:",
        ": a",
        "a #b",
        "#a",
        "&a",
        "*a",
        "!a",
        "|",
        ">",
        "%a",
        "@a",
        "`a",
        "[a]",
        "{a: b}",
        "a,b",
        "'",
        "\"",
        "'a'",
        "\"a\"",
        "\\",
        "\\n",
        "a\nb",
        "\n",
        "a\r\nb",
        "\t",
        " ",
        " a",
        "a ",
        "a  b",
        "...",
        "---",
        "--- a",
        "a\u{85}b",
        "a\u{2028}b",
        "\u{feff}a",
        "\u{fffe}",
        "\u{ffff}",
        "\u{7f}",
        "\u{80}",
        "\u{9f}",
        "\u{e9}",
        "e\u{301}",
        "\u{1f600}",
        "\u{202e}a",
        "100%",
        "%41",
        "a=b",
        "[[files]]",
        "\"\"\"",
        "'''",
        "${a}",
        "$(a)",
        "end",
    ]
    .iter()
    .map(|name| name.as_bytes().to_vec())
    .collect();
    names.extend((1..=0x1f).map(|control| vec![b'c', control]));
    names.extend(
        [&b"\xff"[..], b"caf\xe9", b"%\xe9%41", b"\xed\xa0\x80", b"a\xc3", b"\xf8\x88\x80\x80\x80"].map(<[u8]>::to_vec),
    );
    names.insert(vec![b'n'; 255]);
    names.insert(vec![0xfe; 255]);
    names
}

#[test]
fn any_name_is_read_by_the_parsers_of_others_as_it_is() {
    let expected = hostile_names();
    let files: Vec<(&[u8], &[u8])> = expected.iter().map(|name| (name.as_slice(), name.as_slice())).collect();
    let place = Place::with(&files);
    place.inventory(&["--hashes", "xxh64"]).expect(0);
    let documents = place.documents();
    assert_eq!(names(&documents), Vec::from_iter(expected), "in byte order");
    assert_eq!(documents["yaml"]["files"], documents["toml"]["files"]);
    place.check(&[]).expect(0);
}

#[test]
fn a_folder_and_links_may_have_any_name_too() {
    let names = hostile_names();
    let place = Place::with(&[]);
    for (number, name) in names.iter().filter(|name| name.len() < 90).enumerate() {
        let name = std::ffi::OsStr::from_bytes(name);
        symlink(name, place.files().join(number.to_string())).unwrap();
        let folder = place.path("around").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("file"), "content").unwrap();
        ran(place.command(&["inventory", "--hashes", "xxh3", "--out-prefix", "out", "--"]).arg(&folder)).expect(0);
        let mut check = place.command(&["inventory", "--check", "out.yaml", "--"]);
        ran(check.arg(&folder)).expect(0);
    }
    place.inventory(&["--hashes", "xxh64"]).expect(0);
    let documents = place.documents();
    let targets: BTreeSet<_> =
        documents["yaml"]["files"].as_array().unwrap().iter().map(|link| decoded(link, "target")).collect();
    assert_eq!(targets, names.into_iter().filter(|name| name.len() < 90).collect());
    assert_eq!(documents["yaml"]["files"], documents["toml"]["files"]);
    place.check(&[]).expect(0);
}

#[test]
fn the_documents_have_every_field_that_the_page_tells() {
    let place = Place::small();
    symlink("../a", place.files().join("in/link")).unwrap();
    nix::unistd::mkfifo(&place.files().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    place.inventory(&["--hashes", "sha256,xxh64", "--whole", "sha256"]).expect(0);
    let documents = place.documents();
    let yaml = &documents["yaml"];
    let sha256 = "25b6746d5172ed6352966a013d93ac846e1110d5a25e8f183b5931f4688842a1"; // of `onetwo`
    assert_eq!(
        (&yaml["schemaVersion"], &yaml["directory"], &yaml["complete"]),
        (&json!(1), &json!("files"), &json!(true))
    );
    assert_eq!((&yaml["hashes"], &yaml["signature"]), (&json!({"sha256": sha256}), &Value::Null));
    let mut first = yaml["files"][0].clone();
    let modified = first["modified"].take();
    let hashes = json!({
        "sha256": "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
        "xxh64": first["hashes"]["xxh64"],
    });
    assert_eq!(first, json!({"path": "a", "type": "file", "size": 3, "modified": null, "hashes": hashes}));
    let metadata = std::fs::metadata(place.files().join("a")).unwrap();
    assert_eq!(
        modified.as_str().unwrap().parse::<jiff::Timestamp>().unwrap(),
        metadata.modified().unwrap().try_into().unwrap()
    );
    assert_eq!(yaml["files"][3], json!({"path": "in/link", "type": "link", "target": "../a"}));
    assert_eq!(yaml["files"][4], json!({"path": "pipe", "type": "special"}));
    let member = json!({"name": "files.toml", "mode": 0o644, "uid": 0, "gid": 0, "uname": "", "gname": "", "mtime": 0});
    assert_eq!(documents["member"], member);
    assert_eq!(&place.read("files.tar")[257..265], b"ustar\x0000");
    assert_eq!(place.read("files.tar").len() % 512, 0);
    let mut toml = documents["toml"].clone();
    toml["signature"] = Value::Null;
    assert_eq!(toml, *yaml);
}

#[test]
fn documents_are_the_same_whatever_the_number_of_threads() {
    let large = vec![1; 3_000_000];
    let place = Place::with(&[(b"a", &large), (b"b", &large[..1_048_576]), (b"c", b"c"), (b"d", &large[..1_500_000])]);
    let mut seen = BTreeSet::new();
    for workers in ["1", "2", "8"] {
        place.inventory(&["--hash-workers", workers]).expect(0);
        seen.insert((place.read("files.yaml"), place.read("files.tar")));
    }
    place.inventory(&[]).expect(0);
    seen.insert((place.read("files.yaml"), place.read("files.tar")));
    assert_eq!(seen.len(), 1);
}

#[test]
fn documents_in_the_folder_are_no_part_of_it() {
    let place = Place::small();
    place.run(&["keygen", "--out", "key"]).expect(0);
    let options = ["--hashes", "sha256", "--out-dir", "files/in", "--out-prefix", "list"];
    place.inventory(&options).expect(0);
    let before = place.read("files/in/list.yaml");
    place.inventory(&options).expect(0);
    assert_eq!(place.read("files/in/list.yaml"), before, "not even the second time");
    place.inventory(&[&options[..], &["--sign", "key"]].concat()).expect(0);
    let check = ["inventory", "--check", "files/in/list.yaml", "files"];
    place.run(&check).expect(0);
    let left: Vec<_> =
        std::fs::read_dir(place.path("files/in")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 5, "nothing else is left: {left:?}");
    // A file of the same name elsewhere is no output.
    std::fs::write(place.files().join("list.yaml"), "x").unwrap();
    assert!(place.run(&check).expect(5).stdout.contains("list.yaml: extra"));
}

#[test]
fn an_empty_folder_has_an_inventory() {
    let place = Place::with(&[]);
    place.inventory(&[]).expect(0);
    let documents = place.documents();
    assert_eq!(documents["yaml"]["files"], json!([]));
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(documents["yaml"]["hashes"]["sha256"], *empty);
    place.check(&[]).expect(0);
}

#[test]
fn a_mirror_is_a_folder_like_any_other() {
    let registry = Registry::new();
    registry.releases(14);
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "c00000", "c00001"]).expect(0);
    let place = Place::with(&[]);
    let mirror = ferry.mirror().display().to_string();
    place.run(&["inventory", &mirror, "--hashes", "sha256,blake3", "--out-prefix", "m"]).expect(0);
    place.run(&["inventory", "--check", "m.yaml", &mirror]).expect(0);
}

#[test]
fn the_summary_names_the_documents_and_the_digests_of_the_whole() {
    let place = Place::small();
    let json = place.inventory(&["--hashes", "xxh64", "--json"]).expect(0).json();
    assert_eq!((&json["files"], &json["bytes"], &json["complete"]), (&json!(3), &json!(6), &json!(true)));
    assert_eq!((&json["yaml"], &json["tar"]), (&json!("./files.yaml"), &json!("./files.tar")));
    let said = place.inventory(&["--hashes", "xxh64"]).expect(0).stdout;
    assert!(said.contains(json["hashes"]["xxh64"].as_str().unwrap()), "{said}");
}

#[test]
fn what_cannot_be_meant_is_refused_and_writes_nothing() {
    let place = Place::small();
    let refused: [(&[&str], &str); 10] = [
        (&["nowhere"], "nowhere"),
        (&["files/a"], "is no folder"),
        (&[], "DIR"),
        (&["files", "--hashes", "md5"], "no algorithm is called \"md5\""),
        (&["files", "--hashes", "none"], "at least one"),
        (&["files", "--hashes", "xxh3", "--per-file", "sha256"], "--per-file names sha256"),
        (&["files", "--hash-workers", "0"], "0"),
        (&["files", "--out-prefix", "a/b"], "no prefix"),
        (&["files", "--trust", "key.pub"], "--check"),
        (&["files", "--sign", "files/a", "--check", "b"], "--sign"),
    ];
    for (arguments, said) in refused {
        place.run(&[&["inventory"], arguments].concat()).expect_error(2, said);
    }
    assert_eq!(std::fs::read_dir(place.path("")).unwrap().count(), 1);
}

use std::io::Write as _;

use crateferry_store::Facts;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

/// A crate file with these members; names get the package's folder before them.
fn crate_file(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("demo-1.0.0/{name}"), *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

fn facts(file: &[u8], extent: Extent) -> Facts {
    read(file, file.len() as u64, extent)
}

fn whole(members: &[(&str, &[u8])]) -> Facts {
    facts(&crate_file(members), Extent::Whole)
}

fn manifest(facts: Facts) -> crateferry_store::Manifest {
    assert_eq!(facts.problem, None);
    facts.manifest.unwrap()
}

const NORMAL: &str = r#"
[package]
edition = "2021"
rust-version = "1.70"
name = "demo"
version = "1.0.0"
authors = ["A B <a@b.example>"]
build = "build.rs"
links = "z"
autobins = false
description = """
A demo
of things."""
homepage = "https://h.example"
documentation = "https://d.example"
readme = "README.md"
keywords = ["one", "two"]
categories = ["encoding"]
license = "MIT OR Apache-2.0"
license-file = "LICENSE"
repository = "https://r.example"

[package.metadata.docs]
all = true

[lib]
name = "demo"
proc-macro = true

[[bin]]
name = "tool"
path = "src/tool.rs"

[dependencies.serde]
version = "1"
"#;

#[test]
fn a_manifest_as_cargo_writes_it_tells_all() {
    let vcs = br#"{"git": {"sha1": "0123abcd"}, "path_in_vcs": "crates/demo"}"#;
    let members: [(&str, &[u8]); 4] = [
        (".cargo_vcs_info.json", vcs),
        ("Cargo.toml", NORMAL.as_bytes()),
        ("src/lib.rs", b"12345"),
        ("src/main.rs", b""),
    ];
    let facts = whole(&members);
    assert!(facts.complete);
    assert_eq!((facts.commit.as_deref(), facts.path_in_repository.as_deref()), (Some("0123abcd"), Some("crates/demo")));
    assert_eq!((facts.files, facts.unpacked_size), (Some(4), Some((vcs.len() + NORMAL.len() + 5) as u64)));
    let text = |text: &str| Some(text.to_owned());
    let expected = crateferry_store::Manifest {
        license: text("MIT OR Apache-2.0"),
        license_file: text("LICENSE"),
        description: text("A demo\nof things."),
        homepage: text("https://h.example"),
        documentation: text("https://d.example"),
        repository: text("https://r.example"),
        keywords: vec!["one".into(), "two".into()],
        categories: vec!["encoding".into()],
        authors: vec!["A B <a@b.example>".into()],
        edition: text("2021"),
        rust_version: text("1.70"),
        links: text("z"),
        build_script: Some(true),
        proc_macro: true,
        binaries: Some(vec!["tool".into()]),
    };
    assert_eq!(manifest(facts), expected);
}

#[test]
fn what_a_manifest_leaves_to_file_names_is_found_by_them() {
    let files: &[(&str, &[u8])] = &[
        ("Cargo.toml", b"[package]\nname = 'demo'\nedition = '2018'\n[[bin]]\nname = 'listed'\n"),
        ("build.rs", b""),
        ("src/main.rs", b""),
        ("src/bin/one.rs", b""),
        ("src/bin/two/main.rs", b""),
        ("src/bin/two/three.rs", b""),
        ("examples/four.rs", b""),
    ];
    let found = manifest(whole(files));
    assert_eq!(found.binaries.unwrap(), ["demo", "listed", "one", "two"]);
    assert_eq!(found.build_script, Some(true));

    let with = |text: &'static str| {
        let mut files = files.to_vec();
        files[0].1 = text.as_bytes();
        manifest(whole(&files))
    };
    let listed = with("[package]\nname = 'demo'\nbuild = false\n[[bin]]\nname = 'listed'\n");
    assert_eq!(listed.binaries.unwrap(), ["listed"], "a list is all there is in the edition of 2015");
    assert_eq!(listed.build_script, Some(false));
    let none = with("[project]\nname = 'demo'\nautobins = false\n[lib]\ncrate_type = ['proc-macro']\n");
    assert_eq!((none.binaries.unwrap().len(), none.proc_macro), (0, true));
}

#[test]
fn a_field_of_another_form_does_not_cost_the_others() {
    let odd = b"[package]\nname = 'demo'\nlicense = 7\ndescription = 'd'\nkeywords = 'k'\nedition.workspace = true\n\
                authors = [1]\nbuild = ['x']\nautobins = 'no'\n[lib]\nproc-macro = 'x'\n[[bin]]\npath = 'x'\n";
    let found = manifest(whole(&[("Cargo.toml", odd)]));
    let expected = crateferry_store::Manifest {
        description: Some("d".into()),
        build_script: Some(false),
        binaries: Some(vec![]),
        ..Default::default()
    };
    assert_eq!(found, expected);
}

#[test]
fn long_names_are_whole_names() {
    let long = format!("src/bin/{}.rs", "x".repeat(150));
    let found = manifest(whole(&[("Cargo.toml", b"[package]\n"), (&long, b"")]));
    assert_eq!(found.binaries.unwrap(), ["x".repeat(150)]);

    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let path = b"demo-1.0.0/Cargo.toml".as_slice();
    builder.append_pax_extensions([("path", path)]).unwrap();
    let text = b"[package]\nlicense = 'MIT'\n";
    let mut header = tar::Header::new_ustar();
    header.set_size(text.len() as u64);
    builder.append_data(&mut header, "another", text.as_slice()).unwrap();
    let file = builder.into_inner().unwrap().finish().unwrap();
    assert_eq!(manifest(facts(&file, Extent::Whole)).license.as_deref(), Some("MIT"));
}

#[test]
fn the_beginning_tells_what_stands_there_and_no_more() {
    let noise: Vec<u8> = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let before = [("Cargo.lock", noise.as_slice()), ("Cargo.toml", b"[package]\nname = 'demo'\nlicense = 'MIT'\n")];
    let file = crate_file(&[before[0], before[1], ("src/bin/one.rs", noise.as_slice())]);
    let head = facts(&file, Extent::Head);
    assert!(!head.complete);
    assert_eq!((head.problem.clone(), head.files, head.unpacked_size), (None, None, None));
    let known = head.manifest.unwrap();
    assert_eq!((known.license.as_deref(), known.build_script, known.binaries), (Some("MIT"), None, None));
    let all = facts(&file, Extent::Whole);
    assert_eq!((all.complete, all.files), (true, Some(3)));
    assert_eq!(manifest(all).binaries.unwrap(), ["one"]);

    // A small archive is known as a whole.
    let small = crate_file(&[before[1], ("src/main.rs", b"")]);
    assert_eq!(facts(&small, Extent::Head), facts(&small, Extent::Whole));
}

#[test]
fn a_manifest_far_behind_is_left_for_later() {
    let zeros = vec![0; 5 << 20];
    let file = crate_file(&[("assets", &zeros), ("Cargo.toml", b"[package]\nlicense = 'MIT'\n")]);
    let head = facts(&file, Extent::Head);
    assert_eq!((head.complete, head.problem, head.manifest), (false, None, None));
    assert_eq!(manifest(facts(&file, Extent::Whole)).license.as_deref(), Some("MIT"));
}

#[test]
fn what_cannot_be_read_says_so() {
    let problem = |file: &[u8]| {
        let found = facts(file, Extent::Whole);
        assert!(found.complete && found.files.is_none(), "{found:?}");
        found.problem.unwrap()
    };
    assert!(!problem(b"").is_empty());
    assert!(!problem(b"no gzip at all").is_empty());
    let good = crate_file(&[("Cargo.toml", b"[package]\n"), ("src/lib.rs", &[b'x'; 5000])]);
    let cut = facts(&good[..good.len() - 9], Extent::Whole);
    assert!(cut.problem.is_some() && cut.complete && cut.files.is_none());
    assert!(cut.manifest.unwrap().binaries.is_none(), "nobody knows what the rest held");
    let mut flipped = good.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    assert!(facts(&flipped, Extent::Whole).problem.is_some(), "the checksum of the gzip member is wrong");

    let said = |members: &[(&str, &[u8])]| whole(members).problem.unwrap();
    assert_eq!(said(&[("src/lib.rs", b"")]), "it has no Cargo.toml");
    assert!(said(&[("Cargo.toml", b"[package")]).starts_with("its Cargo.toml cannot be read: "));
    assert!(said(&[("Cargo.toml", b"\xff")]).contains("utf-8"));
    assert!(said(&[("Cargo.toml", b"[workspace]\n")]).contains("no [package]"));
    let nested = format!("[package]\nname = {}", "[".repeat(100_000));
    assert!(said(&[("Cargo.toml", nested.as_bytes())]).contains("Cargo.toml"));
    assert!(said(&[("Cargo.toml", &vec![b'#'; 2 << 20])]).contains("longer than"));
}

#[test]
fn bombs_are_left_alone() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let mut header = tar::Header::new_ustar();
    header.set_path("demo-1.0.0/zeros").unwrap();
    header.set_size(1 << 30);
    header.set_cksum();
    bomb.write_all(header.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    (0..100).for_each(|_| bomb.write_all(&zeros).unwrap());
    let bomb = bomb.finish().unwrap();
    let found = facts(&bomb, Extent::Whole);
    assert_eq!(found.problem.unwrap(), "it inflates to more than 67108864 bytes");
    assert!(!facts(&bomb, Extent::Head).complete);

    let mut many = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    let mut header = tar::Header::new_ustar();
    header.set_path("demo-1.0.0/x").unwrap();
    header.set_size(0);
    header.set_cksum();
    (0..100_001).for_each(|_| many.append(&header, std::io::empty()).unwrap());
    let many = many.into_inner().unwrap().finish().unwrap();
    assert_eq!(facts(&many, Extent::Whole).problem.unwrap(), "it has more than 100000 members");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes there are: an answer, and the same one each time.
    #[test]
    fn no_bytes_break_the_reader(at in 0..2000_usize, bits in 1..=255_u8, cut in 0..2000_usize, packed in any::<bool>()) {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in [("demo-1.0.0/Cargo.toml", NORMAL.as_bytes()), ("demo-1.0.0/src/lib.rs", b"x")] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            builder.append_data(&mut header, name, bytes).unwrap();
        }
        let mut archive = builder.into_inner().unwrap();
        let pack = |bytes: &[u8]| {
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(bytes).unwrap();
            packer.finish().unwrap()
        };
        let file = if packed {
            let mut file = pack(&archive);
            let length = file.len();
            file[at % length] ^= bits;
            file.truncate(length - cut % 50);
            file
        } else {
            let length = archive.len();
            archive[at % length] ^= bits;
            archive.truncate(length - cut);
            pack(&archive)
        };
        let found = facts(&file, Extent::Whole);
        prop_assert!(found.complete);
        prop_assert_eq!(&found, &facts(&file, Extent::Whole));
        prop_assert!(found.problem.is_some() || found.manifest.is_some());
    }
}

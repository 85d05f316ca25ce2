//! Crate files, made from nothing but their description.
//!
//! A made crate file is a real one: a gzip'd tar with a manifest that agrees with the index row and a library
//! that compiles, so that cargo can build it and readers of crate files find facts in it. The same
//! description always gives the same bytes.

use std::cell::RefCell;
use std::fmt::Write as _;

use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use sha2::{Digest, Sha256};

use crate::noise::Noise;
use crate::release::{Dep, Release};

/// The crate file of this release; `salt` makes other bytes for the same name and version.
pub(crate) fn made(name: &str, version: &str, release: &Release, salt: &[u8]) -> Vec<u8> {
    let small = packed(name, version, release, salt, 0);
    match release.size_hint {
        Some(size) if size > small.len() => packed(name, version, release, salt, size - small.len()),
        _ => small,
    }
}

/// Bytes that are no archive at all, for when only their number matters.
pub(crate) fn opaque(name: &str, version: &str, size: usize) -> Vec<u8> {
    Noise::of(&[name.as_bytes(), version.as_bytes()]).bytes(size)
}

/// The SHA-256 of these bytes, as index rows write it.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// These bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn packed(name: &str, version: &str, release: &Release, salt: &[u8], padding: usize) -> Vec<u8> {
    let mut archive = Archive::of(name, version);
    archive.add("Cargo.toml", manifest(name, version, release).as_bytes());
    archive.add("src/lib.rs", library(name, version, salt).as_bytes());
    for (path, content) in &release.files {
        archive.add(path, content);
    }
    if padding > 0 {
        archive.add("padding.bin", &Noise::of(&[name.as_bytes(), version.as_bytes(), salt]).bytes(padding));
    }
    archive.close()
}

/// A crate file in the making; every member lies below the folder that cargo wants.
struct Archive {
    folder: String,
    tar: tar::Builder<Vec<u8>>,
}

impl Archive {
    fn of(name: &str, version: &str) -> Self {
        Archive { folder: format!("{name}-{version}"), tar: tar::Builder::new(Vec::new()) }
    }

    /// Adds a file; a name that no tar can hold is left out, since only hostile names are like that.
    fn add(&mut self, path: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_153_704_088);
        let _ = self.tar.append_data(&mut header, format!("{}/{path}", self.folder), content);
    }

    fn close(self) -> Vec<u8> {
        gzip(&self.tar.into_inner().unwrap())
    }
}

thread_local! {
    /// At the level that cargo packs with. Setting up a compressor costs ten times what a small crate file does, so each thread keeps one.
    static DEFLATE: RefCell<Compress> = RefCell::new(Compress::new(Compression::best(), false));
}

/// These bytes as a gzip file without name and date.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    DEFLATE.with_borrow_mut(|deflate| deflated(deflate, bytes, &mut file));
    let mut crc = Crc::new();
    crc.update(bytes);
    file.extend_from_slice(&crc.sum().to_le_bytes());
    file.extend_from_slice(&crc.amount().to_le_bytes());
    file
}

fn deflated(deflate: &mut Compress, bytes: &[u8], out: &mut Vec<u8>) {
    deflate.reset();
    loop {
        let rest = &bytes[usize::try_from(deflate.total_in()).unwrap()..];
        out.reserve(rest.len() / 2 + 1024);
        if deflate.compress_vec(rest, out, FlushCompress::Finish).unwrap() == Status::StreamEnd {
            return;
        }
    }
}

fn library(name: &str, version: &str, salt: &[u8]) -> String {
    let mut text = format!("//! {name} {version}\n\npub const VERSION: &str = {version:?};\n");
    if !salt.is_empty() {
        writeln!(text, "pub const SALT: &str = {:?};", hex(salt)).unwrap();
    }
    text
}

fn manifest(name: &str, version: &str, release: &Release) -> String {
    let mut text = format!("[package]\nname = {name:?}\nversion = {version:?}\nedition = \"2021\"\n");
    let license = serde_json::Value::from(release.license.as_deref().unwrap_or("MIT"));
    writeln!(text, "description = \"A crate made for a test\"\nlicense = {license}").unwrap();
    for (key, value) in [("links", &release.links), ("rust-version", &release.rust_version)] {
        if let Some(value) = value {
            writeln!(text, "{key} = {value:?}").unwrap();
        }
    }
    text.push_str("\n[lib]\npath = \"src/lib.rs\"\n\n[features]\n");
    for (feature, enables) in release.features.iter().chain(release.features2.iter().flatten()) {
        writeln!(text, "{feature:?} = {enables:?}").unwrap();
    }
    for dep in &release.deps {
        text.push_str(&dependency(dep));
    }
    text
}

fn dependency(dep: &Dep) -> String {
    let table = match dep.kind.as_str() {
        "dev" => "dev-dependencies",
        "build" => "build-dependencies",
        _ => "dependencies",
    };
    let target = dep.target.as_ref().map(|target| format!("target.{target:?}.")).unwrap_or_default();
    let mut text = format!("\n[{target}{table}.{:?}]\nversion = {:?}\n", dep.name, dep.req);
    if let Some(package) = &dep.package {
        writeln!(text, "package = {package:?}").unwrap();
    }
    writeln!(text, "features = {:?}\noptional = {}", dep.features, dep.optional).unwrap();
    writeln!(text, "default-features = {}", dep.default_features).unwrap();
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_same_description_gives_the_same_bytes() {
        let once = made("serde", "1.0.0", &Release::default(), b"");
        assert_eq!(once, made("serde", "1.0.0", &Release::default(), b""));
        assert_ne!(once, made("serde", "1.0.0", &Release::default(), b"other"));
    }

    #[test]
    fn a_gzip_file_is_read_back() {
        let noise = Noise::of(&[b"gzip"]).bytes(300_000);
        for bytes in [&noise[..], b"", b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"] {
            let mut back = Vec::new();
            flate2::read::GzDecoder::new(gzip(bytes).as_slice()).read_to_end(&mut back).unwrap();
            assert_eq!(back, bytes);
        }
    }

    #[test]
    fn a_crate_file_has_about_the_size_that_was_hinted() {
        let made = made("serde", "1.0.0", &Release::sized(100_000), b"");
        assert!((99_000..101_500).contains(&made.len()), "{} bytes", made.len());
    }
}

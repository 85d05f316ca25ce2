//! Every algorithm against a program that knows nothing of crateferry.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::Value;

use crate::bench::{Place, reader, said};

/// A megabyte of a block, and a bit more than the two of them.
const LARGE: usize = 2_200_000;

/// Of lengths at which algorithms change their ways, and of more than a block. In path order.
fn contents() -> Vec<(String, Vec<u8>)> {
    let lengths = [0, 1, 16, 17, 63, 64, 240, 241, 1023, 1024, 1025, 8191, 8192, 8193, 70_000, LARGE, 3];
    let content = |length: usize| (0..length).map(|at| (at * 31 + at / 255 + length) as u8).collect();
    lengths.into_iter().enumerate().map(|(number, length)| (format!("{number:02}"), content(length))).collect()
}

/// A folder with these, beside it all of them in one file, and what the program found.
fn inventoried(algorithm: &str) -> (Place, Value) {
    let contents = contents();
    let files: Vec<(&[u8], &[u8])> =
        contents.iter().map(|(name, content)| (name.as_bytes(), content.as_slice())).collect();
    let place = Place::with(&files);
    let whole: Vec<u8> = contents.iter().flat_map(|(_, content)| content.clone()).collect();
    std::fs::write(place.path("whole"), whole).unwrap();
    place.inventory(&["--hashes", algorithm]).expect(0);
    let document = place.documents()["yaml"].take();
    (place, document)
}

/// The program found what another one finds, of every file and of the whole.
#[track_caller]
fn agrees(algorithm: &str, other: impl Fn(&Path) -> String) {
    let (place, document) = inventoried(algorithm);
    let files = document["files"].as_array().unwrap();
    assert_eq!(files.len(), contents().len());
    for file in files {
        let name = file["path"].as_str().unwrap();
        assert_eq!(file["hashes"][algorithm], *other(&place.files().join(name)), "{algorithm} of {name}");
    }
    assert_eq!(document["hashes"][algorithm], *other(&place.path("whole")), "{algorithm} of the whole");
}

/// The digest in what a program prints.
fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap().to_owned()
}

fn openssl(algorithm: &'static str) -> impl Fn(&Path) -> String {
    move |path| {
        let options = ["dgst", "-r", "-provider", "legacy", "-provider", "default", algorithm];
        let arguments: Vec<&OsStr> = options.iter().map(OsStr::new).chain([path.as_os_str()]).collect();
        first_word(&said("openssl", "openssl", &arguments))
    }
}

#[test]
fn sha256_is_that_of_sha256sum() {
    agrees("sha256", |path| first_word(&said("sha256sum", "coreutils", &[path.as_os_str()])));
}

#[test]
fn sha512_is_that_of_sha512sum() {
    agrees("sha512", |path| first_word(&said("sha512sum", "coreutils", &[path.as_os_str()])));
}

#[test]
fn blake2b_is_that_of_b2sum() {
    agrees("blake2b-256", |path| first_word(&said("b2sum", "coreutils", &["-l256".as_ref(), path.as_os_str()])));
}

#[test]
fn blake3_is_that_of_b3sum() {
    agrees("blake3", |path| first_word(&said("b3sum", "b3sum", &[path.as_os_str()])));
}

#[test]
fn sha3_is_that_of_openssl() {
    agrees("sha3-256", openssl("-sha3-256"));
}

#[test]
fn whirlpool_is_that_of_openssl() {
    agrees("whirlpool", openssl("-whirlpool"));
}

#[test]
fn ripemd160_is_that_of_openssl() {
    agrees("ripemd160", openssl("-rmd160"));
}

#[test]
fn xxh64_is_that_of_xxhsum() {
    agrees("xxh64", |path| first_word(&said("xxhsum", "xxhash", &["-H1".as_ref(), path.as_os_str()])));
}

#[test]
fn xxh3_is_that_of_xxhsum_and_depends_on_the_bytes() {
    let digest = |path: &Path| {
        let text = said("xxhsum", "xxhash", &["-H3".as_ref(), path.as_os_str()]);
        // Versions differ: `XXH3 (file) = digest`, or `XXH3_digest  file`.
        let words = text.split_whitespace().map(|word| word.trim_start_matches("XXH3_"));
        let is_digest = |word: &&str| word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        words.into_iter().find(is_digest).unwrap().to_owned()
    };
    agrees("xxh3-64", digest);
}

#[test]
fn kangarootwelve_is_that_of_a_reading_of_its_rfc() {
    agrees("kangarootwelve", |path| first_word(&reader(&["kangarootwelve".as_ref(), path.as_os_str()])));
}

#[test]
fn murmur3_is_that_of_a_reading_of_its_description() {
    agrees("murmur3-x64-128", |path| first_word(&reader(&["murmur3".as_ref(), path.as_os_str()])));
}

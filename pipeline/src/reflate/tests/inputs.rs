//! Bytes to compress: always the same.

use crateferry_store::{Release, ReleaseId, Sha256};

use crate::reflate::Encoder;
use crate::reflate::gzip::trailer;

/// xorshift64*.
pub struct Chance(pub u64);

impl Chance {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

/// Something like a program's text: words that return, indentation, now and then something new.
pub fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut chance = Chance(seed);
    let words: Vec<Vec<u8>> =
        (0..400).map(|_| (0..2 + chance.below(9)).map(|_| b'a' + chance.below(26) as u8).collect()).collect();
    let mut text = Vec::new();
    while text.len() < length {
        match chance.below(12) {
            0 => text.extend(std::iter::repeat_n(b' ', 4 * chance.below(5) as usize)),
            1 => text.extend_from_slice(b";\n"),
            2 => text.extend(chance.below(1 << 20).to_string().bytes()),
            _ => {
                // Some words are frequent.
                let (one, other) = (chance.below(400), chance.below(400));
                text.extend_from_slice(&words[one.min(other) as usize]);
                text.push(b' ');
            }
        }
    }
    text.truncate(length);
    text
}

pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut chance = Chance(seed);
    (0..length).map(|_| chance.below(256) as u8).collect()
}

/// A small archive, as cargo packages crates.
pub fn archive(seed: u64) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for number in 0..6 {
        let body = text(seed + number, 500 + 3000 * number as usize);
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_153_704_088);
        archive.append_data(&mut header, format!("demo-0.{seed}.0/src/part{number}.rs"), body.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

/// The length of the text of seed 337 where the two releases of zlib-rs differ in the last bytes. Few texts are of this kind.
pub const ENDS_DIFFERENTLY: usize = 20_000 + 137 * 337;

/// All that the golden digests are of.
pub fn all() -> Vec<(&'static str, Vec<u8>)> {
    let mixed = [text(3, 200_000), noise(4, 50_000), vec![0; 100_000], text(3, 200_000), text(5, 90_000)].concat();
    vec![
        ("nothing", Vec::new()),
        ("one byte", vec![b'x']),
        ("an archive", archive(1)),
        ("text", text(2, 400_000)),
        ("noise", noise(2, 150_000)),
        ("zeros", vec![0; 300_000]),
        ("mixed", mixed),
        ("text that 4 and 5 end differently", text(337, ENDS_DIFFERENTLY)),
    ]
}

pub fn deflated(encoder: Encoder, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0; content.len() + content.len() / 8 + 4096];
    let written = encoder.deflate(content, &mut out);
    assert!(written < out.len());
    out.truncate(written);
    out
}

pub const HEADER: &[u8] = b"\x1f\x8b\x08\x08\0\0\0\0\x02\xffdemo-0.1.0.crate\0";

/// A crate file as an encoder makes it.
pub fn crate_file(encoder: Encoder, content: &[u8]) -> Vec<u8> {
    [HEADER, &deflated(encoder, content), &trailer(content)].concat()
}

pub fn release(version: &str, crate_file: &[u8]) -> Release {
    let id = ReleaseId { name: "demo".parse().unwrap(), version: version.parse().unwrap() };
    Release { id, checksum: Sha256::of(crate_file) }
}

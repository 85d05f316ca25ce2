//! The encoders that a crate file can have been made with.
//!
//! Numbers are part of the format, for ever. A number means a library in one exact version, which the workspace's `Cargo.toml` pins,
//! with level and memory level. A library that changes what it writes is a new number, never a new version of an old one. The tests
//! have the digests of what each of them writes.

use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress, create_comp_flags_from_zip_params};

use super::stock_zlib;

/// The level of all of them: `cargo package` never used another.
const LEVEL: i32 = 9;

/// No header and no trailer around the deflate data: the sign says so, the number is the window.
pub(super) const RAW: i32 = -15;

/// An encoder of deflate data, at level 9.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encoder {
    /// miniz: cargo from 2014 to late 2018.
    Miniz,
    /// zlib with memory level 9: late 2018 to mid 2020.
    ZlibMem9,
    /// zlib with memory level 8: mid 2020 to 2025.
    ZlibMem8,
    /// zlib-rs to 0.6.0: April 2025 to April 2026.
    ZlibRs05,
    /// zlib-rs from 0.6.3.
    ZlibRs06,
}

impl Encoder {
    /// All, the lowest number first.
    pub const ALL: [Encoder; 5] =
        [Encoder::Miniz, Encoder::ZlibMem9, Encoder::ZlibMem8, Encoder::ZlibRs05, Encoder::ZlibRs06];

    /// The number, from 1.
    pub fn id(self) -> u8 {
        match self {
            Encoder::Miniz => 1,
            Encoder::ZlibMem9 => 2,
            Encoder::ZlibMem8 => 3,
            Encoder::ZlibRs05 => 4,
            Encoder::ZlibRs06 => 5,
        }
    }

    /// The encoder of a number.
    pub fn from_id(id: u8) -> Option<Encoder> {
        Encoder::ALL.into_iter().find(|encoder| encoder.id() == id)
    }

    /// Encodes the input in one call, ends where the buffer ends, and says how much it wrote. What is written does not depend on the
    /// buffer's length. If some of the buffer is left, it is all.
    pub(super) fn deflate(self, input: &[u8], out: &mut [u8]) -> usize {
        match self {
            Encoder::Miniz => miniz(input, out),
            Encoder::ZlibMem9 => stock_zlib::deflate(input, out, LEVEL, 9),
            Encoder::ZlibMem8 => stock_zlib::deflate(input, out, LEVEL, 8),
            Encoder::ZlibRs05 => zlib_rs_05(input, out),
            Encoder::ZlibRs06 => zlib_rs_06(input, out),
        }
    }
}

fn miniz(input: &[u8], out: &mut [u8]) -> usize {
    let mut state = CompressorOxide::new(create_comp_flags_from_zip_params(LEVEL, RAW, 0));
    let (_, _, written) = compress(&mut state, input, out, TDEFLFlush::Finish);
    written
}

fn zlib_rs_05(input: &[u8], out: &mut [u8]) -> usize {
    use zlib_rs_05::deflate::{DeflateConfig, compress_slice};
    let config = DeflateConfig { window_bits: RAW, ..DeflateConfig::new(LEVEL) };
    // Its return code says only that the input was read, so nobody asks for it.
    compress_slice(out, input, config).0.len()
}

fn zlib_rs_06(input: &[u8], out: &mut [u8]) -> usize {
    use zlib_rs_06::{DeflateConfig, compress_slice};
    let config = DeflateConfig { window_bits: RAW, ..DeflateConfig::new(LEVEL) };
    compress_slice(out, input, config).0.len()
}

/// A set of encoders, as the bits of a number: the one with the number `n` is bit `n - 1`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encoders(pub u32);

impl Encoders {
    /// Adds one.
    pub fn insert(&mut self, encoder: Encoder) {
        self.0 |= 1 << (encoder.id() - 1);
    }

    /// Those that this program does not have.
    #[must_use]
    pub fn unknown(self) -> Encoders {
        let mut known = Encoders::default();
        Encoder::ALL.into_iter().for_each(|encoder| known.insert(encoder));
        Encoders(self.0 & !known.0)
    }

    /// Adds those of another set.
    pub fn add(&mut self, other: Encoders) {
        self.0 |= other.0;
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

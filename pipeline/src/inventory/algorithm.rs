//! The algorithms that an inventory may use, behind one small face.
//!
//! The only place that knows the crates which compute them.

use std::fmt;
use std::str::FromStr;

use k12::{ExtendableOutput as _, Update as _, XofReader as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Digest as _;

use super::murmur3::Murmur3;

/// A hash algorithm. The order is the one in which documents list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// KT128 of RFC 9861 without customization, 256 bits.
    KangarooTwelve,
    /// 256 bits.
    Blake3,
    /// FIPS 202.
    Sha3,
    /// RFC 7693, 256 bits.
    Blake2b,
    /// FIPS 180-4.
    Sha512,
    /// ISO/IEC 10118-3, the final version.
    Whirlpool,
    /// ISO/IEC 10118-3.
    Ripemd160,
    /// XXH3, 64 bits, seed 0.
    Xxh3,
    /// FIPS 180-4.
    Sha256,
    /// XXH64, seed 0.
    Xxh64,
    /// Murmur3 for x64, 128 bits, seed 0.
    Murmur3,
}

/// What is known of an algorithm beforehand.
struct Facts {
    /// In documents, options and output.
    name: &'static str,
    /// What options take, too.
    aliases: &'static [&'static str],
    /// The length of a digest in bytes.
    length: usize,
    /// About how many picoseconds a byte takes. Only the proportions matter: they tell which work is long.
    cost: u64,
}

impl Algorithm {
    /// All of them, in order.
    pub const ALL: [Algorithm; 11] = [
        Algorithm::KangarooTwelve,
        Algorithm::Blake3,
        Algorithm::Sha3,
        Algorithm::Blake2b,
        Algorithm::Sha512,
        Algorithm::Whirlpool,
        Algorithm::Ripemd160,
        Algorithm::Xxh3,
        Algorithm::Sha256,
        Algorithm::Xxh64,
        Algorithm::Murmur3,
    ];

    const fn facts(self) -> Facts {
        let (name, aliases, length, cost): (_, &[&str], _, _) = match self {
            Algorithm::KangarooTwelve => ("kangarootwelve", &["kt128", "k12"], 32, 1300),
            Algorithm::Blake3 => ("blake3", &[], 32, 250),
            Algorithm::Sha3 => ("sha3-256", &["sha3"], 32, 3000),
            Algorithm::Blake2b => ("blake2b-256", &["blake2b"], 32, 1000),
            Algorithm::Sha512 => ("sha512", &["sha-512"], 64, 2400),
            Algorithm::Whirlpool => ("whirlpool", &[], 64, 7800),
            Algorithm::Ripemd160 => ("ripemd160", &["ripemd-160"], 20, 3500),
            Algorithm::Xxh3 => ("xxh3-64", &["xxh3"], 8, 60),
            Algorithm::Sha256 => ("sha256", &["sha-256"], 32, 600),
            Algorithm::Xxh64 => ("xxh64", &[], 8, 90),
            Algorithm::Murmur3 => ("murmur3-x64-128", &["murmur3"], 16, 160),
        };
        Facts { name, aliases, length, cost }
    }

    /// Its name in documents, options and output.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The length of its digests in bytes.
    pub fn length(self) -> usize {
        self.facts().length
    }

    /// About how many picoseconds it takes for a byte.
    pub(super) fn cost(self) -> u64 {
        self.facts().cost
    }

    /// A hasher that has seen nothing.
    pub fn hasher(self) -> Hasher {
        Hasher(match self {
            Algorithm::KangarooTwelve => State::KangarooTwelve(Box::default()),
            Algorithm::Blake3 => State::Blake3(Box::default()),
            Algorithm::Sha3 => State::Sha3(Box::default()),
            Algorithm::Blake2b => State::Blake2b(Box::default()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
            Algorithm::Whirlpool => State::Whirlpool(Box::default()),
            Algorithm::Ripemd160 => State::Ripemd160(Box::default()),
            Algorithm::Xxh3 => State::Xxh3(Box::default()),
            Algorithm::Sha256 => State::Sha256(Box::default()),
            Algorithm::Xxh64 => State::Xxh64(Box::new(xxhash_rust::xxh64::Xxh64::new(0))),
            Algorithm::Murmur3 => State::Murmur3(Murmur3::new(0)),
        })
    }

    /// The digest of bytes that are all there.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        let mut hasher = self.hasher();
        hasher.update(bytes);
        hasher.finish()
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that no algorithm has.
#[derive(Debug, thiserror::Error)]
#[error("no algorithm is called {0:?}; there are {names}", names = Algorithm::ALL.map(Algorithm::name).join(", "))]
pub struct UnknownAlgorithm(String);

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim().to_ascii_lowercase();
        let is_meant = |algorithm: &Algorithm| {
            let facts = algorithm.facts();
            facts.name == name || facts.aliases.contains(&name.as_str())
        };
        Algorithm::ALL.into_iter().find(is_meant).ok_or_else(|| UnknownAlgorithm(text.to_owned()))
    }
}

/// Some of the algorithms, in order, each one once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Algorithms(Vec<Algorithm>);

impl Algorithms {
    /// All there are.
    pub fn all() -> Self {
        Algorithms(Algorithm::ALL.to_vec())
    }

    /// In order.
    pub fn as_slice(&self) -> &[Algorithm] {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    pub fn contains(&self, algorithm: Algorithm) -> bool {
        self.0.contains(&algorithm)
    }
}

impl FromIterator<Algorithm> for Algorithms {
    fn from_iter<I: IntoIterator<Item = Algorithm>>(algorithms: I) -> Self {
        let mut algorithms: Vec<_> = algorithms.into_iter().collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        Algorithms(algorithms)
    }
}

/// `all`, `none`, or names with commas between them.
impl FromStr for Algorithms {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Algorithms::all()),
            "none" => Ok(Algorithms::default()),
            names => names.split(',').map(str::parse).collect(),
        }
    }
}

/// What an algorithm made of some bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Digest(Box<[u8]>);

impl Digest {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Lower-case hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(2 * self.0.len());
        for byte in &self.0 {
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        f.pad(&text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text that is no digest.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a digest in hexadecimal digits")]
pub struct NotADigest(String);

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
        let (pairs, odd) = text.as_bytes().as_chunks::<2>();
        let bytes: Option<Box<[u8]>> =
            pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        match bytes {
            Some(bytes) if odd.is_empty() => Ok(Digest(bytes)),
            _ => Err(NotADigest(text.to_owned())),
        }
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Algorithm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Algorithm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// An algorithm at work on bytes that come in pieces.
#[derive(Clone)]
pub struct Hasher(State);

/// Boxed, since a hasher moves between threads with each piece.
#[derive(Clone)]
enum State {
    KangarooTwelve(Box<k12::Kt128>),
    Blake3(Box<blake3::Hasher>),
    Sha3(Box<sha3::Sha3_256>),
    Blake2b(Box<blake2::Blake2b256>),
    Sha512(Box<sha2::Sha512>),
    Whirlpool(Box<whirlpool::Whirlpool>),
    Ripemd160(Box<ripemd::Ripemd160>),
    Xxh3(Box<xxhash_rust::xxh3::Xxh3Default>),
    Sha256(Box<sha2::Sha256>),
    Xxh64(Box<xxhash_rust::xxh64::Xxh64>),
    Murmur3(Murmur3),
}

impl Hasher {
    /// Takes the next bytes in.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::KangarooTwelve(state) => state.update(bytes),
            State::Blake3(state) => drop(state.update(bytes)),
            State::Sha3(state) => sha3::Digest::update(&mut **state, bytes),
            State::Blake2b(state) => blake2::Digest::update(&mut **state, bytes),
            State::Sha512(state) => sha2::Digest::update(&mut **state, bytes),
            State::Whirlpool(state) => whirlpool::Digest::update(&mut **state, bytes),
            State::Ripemd160(state) => ripemd::Digest::update(&mut **state, bytes),
            State::Xxh3(state) => state.update(bytes),
            State::Sha256(state) => sha2::Digest::update(&mut **state, bytes),
            State::Xxh64(state) => state.update(bytes),
            State::Murmur3(state) => state.update(bytes),
        }
    }

    /// The digest of all that was taken in.
    pub fn finish(self) -> Digest {
        Digest(match self.0 {
            State::KangarooTwelve(state) => {
                let mut digest = [0; 32];
                state.finalize_xof().read(&mut digest);
                digest.into()
            }
            State::Blake3(state) => state.finalize().as_bytes().as_slice().into(),
            State::Sha3(state) => state.finalize().as_slice().into(),
            State::Blake2b(state) => state.finalize().as_slice().into(),
            State::Sha512(state) => state.finalize().as_slice().into(),
            State::Whirlpool(state) => state.finalize().as_slice().into(),
            State::Ripemd160(state) => state.finalize().as_slice().into(),
            State::Xxh3(state) => state.digest().to_be_bytes().into(),
            State::Sha256(state) => state.finalize().as_slice().into(),
            State::Xxh64(state) => state.digest().to_be_bytes().into(),
            State::Murmur3(state) => state.finish().into(),
        })
    }
}

#[cfg(test)]
mod tests;

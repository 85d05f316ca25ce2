//! Bytes that look random and are always the same.
//!
//! Everything the fake registry invents (bodies, sizes, salts) comes from a name, so that two runs, and two
//! machines, make the same registry, and a body can be thrown away and made again when it is asked for.
//! The generator is splitmix64: a few instructions for eight bytes, and nothing that deflate can shorten.

use sha2::{Digest, Sha256};

/// An endless stream of noise that follows from what it was grown from.
pub(crate) struct Noise(u64);

impl Noise {
    /// The stream of this text; equal texts give equal streams.
    pub(crate) fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update(part.len().to_le_bytes());
            hasher.update(part);
        }
        let digest = hasher.finalize();
        Noise(u64::from_le_bytes(digest[..8].try_into().unwrap()))
    }

    /// The next 64 bits.
    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// The next `length` bytes.
    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.word().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// A number between 0 and 1, never 0 itself.
    pub(crate) fn fraction(&mut self) -> f64 {
        ((self.word() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// A draw from the standard normal distribution (Box and Muller's way).
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.fraction().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.fraction()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::Noise;

    #[test]
    fn equal_names_give_equal_noise() {
        assert_eq!(Noise::of(&[b"serde"]).bytes(100), Noise::of(&[b"serde"]).bytes(100));
        assert_ne!(Noise::of(&[b"serde"]).bytes(100), Noise::of(&[b"serd", b"e"]).bytes(100));
    }
}

//! Murmur3, x64, 128 bits, for bytes that come in pieces.
//!
//! The algorithm is made for a whole slice: its last, partial block and the length go in at the end. So all that has to be
//! kept between pieces is fewer than 16 bytes.

const C1: u64 = 0x87c3_7b91_1142_53d5;
const C2: u64 = 0x4cf5_ad43_2745_937f;
const BLOCK: usize = 16;

/// The state after some pieces.
#[derive(Clone, Debug)]
pub(super) struct Murmur3 {
    h1: u64,
    h2: u64,
    /// What does not fill a block yet.
    rest: [u8; BLOCK],
    /// How many bytes came, those of `rest` included.
    length: u64,
}

impl Murmur3 {
    pub(super) fn new(seed: u32) -> Self {
        Murmur3 { h1: seed.into(), h2: seed.into(), rest: [0; BLOCK], length: 0 }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        let held = self.held();
        self.length += bytes.len() as u64;
        if held > 0 {
            let (head, tail) = bytes.split_at(bytes.len().min(BLOCK - held));
            self.rest[held..held + head.len()].copy_from_slice(head);
            if held + head.len() < BLOCK {
                return;
            }
            let full = self.rest;
            self.blocks(&[full]);
            bytes = tail;
        }
        let (blocks, tail) = bytes.as_chunks::<BLOCK>();
        self.blocks(blocks);
        self.rest[..tail.len()].copy_from_slice(tail);
    }

    /// Both halves, the first one first, each with its highest byte first.
    pub(super) fn finish(mut self) -> [u8; 16] {
        let held = self.held();
        self.rest[held..].fill(0);
        let [k1, k2] = halves(&self.rest);
        self.h1 ^= mix1(k1);
        self.h2 ^= mix2(k2);
        let (mut h1, mut h2) = (self.h1 ^ self.length, self.h2 ^ self.length);
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        (h1, h2) = (spread(h1), spread(h2));
        h1 = h1.wrapping_add(h2);
        h2 = h2.wrapping_add(h1);
        (u128::from(h1) << 64 | u128::from(h2)).to_be_bytes()
    }

    fn held(&self) -> usize {
        (self.length % BLOCK as u64) as usize
    }

    fn blocks(&mut self, blocks: &[[u8; BLOCK]]) {
        let (mut h1, mut h2) = (self.h1, self.h2);
        for block in blocks {
            let [k1, k2] = halves(block);
            h1 = (h1 ^ mix1(k1)).rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
            h2 = (h2 ^ mix2(k2)).rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
        }
        (self.h1, self.h2) = (h1, h2);
    }
}

fn halves(block: &[u8; BLOCK]) -> [u64; 2] {
    let both = u128::from_le_bytes(*block);
    [both as u64, (both >> 64) as u64]
}

fn mix1(k: u64) -> u64 {
    k.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2)
}

fn mix2(k: u64) -> u64 {
    k.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1)
}

fn spread(mut k: u64) -> u64 {
    k = (k ^ k >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    k = (k ^ k >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    k ^ k >> 33
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn in_pieces(bytes: &[u8], cuts: &[usize], seed: u32) -> [u8; 16] {
        let mut hasher = Murmur3::new(seed);
        let mut rest = bytes;
        for cut in cuts {
            let (piece, tail) = rest.split_at(cut % (rest.len() + 1));
            hasher.update(piece);
            rest = tail;
        }
        hasher.update(rest);
        hasher.finish()
    }

    fn at_once(bytes: &[u8], seed: u32) -> [u8; 16] {
        let (h1, h2) = mur3::murmurhash3_x64_128(bytes, seed);
        (u128::from(h1) << 64 | u128::from(h2)).to_be_bytes()
    }

    proptest! {
        #[test]
        fn pieces_give_what_the_whole_gives(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            cuts in proptest::collection::vec(0_usize..40, 0..20),
            seed: u32,
        ) {
            prop_assert_eq!(in_pieces(&bytes, &cuts, seed), at_once(&bytes, seed));
        }
    }

    #[test]
    fn it_passes_the_authors_own_verification() {
        // SMHasher: the keys {}, {0}, {0, 1}, ... with the seeds 256, 255, ...; all digests hashed with seed 0.
        let little_endian = |digest: [u8; 16]| {
            let mut bytes = digest;
            bytes[..8].reverse();
            bytes[8..].reverse();
            bytes
        };
        let keys: Vec<u8> = (0..=255).collect();
        let digests = (0_u32..256).flat_map(|length| {
            let key = &keys[..length as usize];
            little_endian(in_pieces(key, &[7, 16], 256 - length))
        });
        let last = little_endian(in_pieces(&digests.collect::<Vec<u8>>(), &[], 0));
        assert_eq!(u32::from_le_bytes(*last.first_chunk().unwrap()), 0x6384_BA69);
    }
}

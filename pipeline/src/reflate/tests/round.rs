//! Crate files, taken apart and put together.

use proptest::prelude::*;

use super::inputs::{HEADER, archive, crate_file, deflated, noise, text};
use crate::reflate::gzip::trailer;
use crate::reflate::{Apart, Encoder, Recipe, take_apart};

/// Taken apart, and back again.
#[track_caller]
fn round(file: &[u8]) -> Apart {
    let apart = take_apart(file);
    assert!(apart.recipe.rebuild(&apart.content, file.len()).unwrap() == file);
    apart
}

fn encoder(apart: &Apart) -> Option<(Encoder, usize)> {
    match &apart.recipe {
        Recipe::Raw => None,
        Recipe::Encoded { encoder, tail, .. } => Some((*encoder, tail.len())),
    }
}

#[test]
fn the_encoder_that_was_used_is_found_and_its_content_is_the_archive() {
    let content = [archive(1), text(7, 300_000)].concat();
    for used in Encoder::ALL {
        let apart = round(&crate_file(used, &content));
        assert_eq!(apart.content, content);
        let (found, tail) = encoder(&apart).unwrap();
        assert_eq!(tail, 0);
        let lower = Encoder::ALL.into_iter().find(|other| deflated(*other, &content) == deflated(used, &content));
        assert_eq!(Some(found), lower);
    }
}

#[test]
fn of_several_encoders_the_lowest_number_is_taken() {
    let content = text(8, 3000);
    assert_eq!(deflated(Encoder::ZlibMem9, &content), deflated(Encoder::ZlibMem8, &content));
    assert_eq!(encoder(&round(&crate_file(Encoder::ZlibMem8, &content))), Some((Encoder::ZlibMem9, 0)));
}

const ENDS_IN_PART_OF_A_BYTE: [u64; 3] = [340, 342, 397];

#[test]
fn what_differs_at_its_end_alone_has_a_tail() {
    // Two of those that 4 and 5 end differently, where the last byte has bits left that mean nothing.
    for seed in ENDS_IN_PART_OF_A_BYTE {
        let content = text(seed, 20_000 + 137 * seed as usize);
        let mut body = deflated(Encoder::ZlibRs06, &content);
        *body.last_mut().unwrap() ^= 0x80;
        let file = [HEADER, &body, &trailer(&content)].concat();
        assert_eq!(encoder(&round(&file)), Some((Encoder::ZlibRs06, 1)));
    }
}

#[test]
fn what_no_encoder_gives_stays_as_it_is() {
    let content = text(10, 60_000);
    let good = crate_file(Encoder::ZlibMem8, &content);
    let stored = {
        let length = content.len() as u16;
        let block = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), &content].concat();
        [HEADER, &block, &trailer(&content)].concat()
    };
    let mut wrong_crc = good.clone();
    let at = wrong_crc.len() - 8;
    wrong_crc[at] ^= 1;
    let mut wrong_length = good.clone();
    let at = wrong_length.len() - 1;
    wrong_length[at] ^= 1;
    let cases = [
        stored,
        wrong_crc,
        wrong_length,
        [good.as_slice(), b"x"].concat(),
        [good.as_slice(), &good].concat(),
        good[..good.len() - 9].to_vec(),
        good[..HEADER.len() + 8].to_vec(),
        good[..5].to_vec(),
        Vec::new(),
        b"no gzip at all".to_vec(),
        noise(1, 5000),
    ];
    for (number, case) in cases.iter().enumerate() {
        let apart = round(case);
        assert!(apart.recipe == Recipe::Raw && &apart.content == case, "case {number}");
    }
}

#[test]
fn headers_of_all_kinds_are_kept() {
    let content = text(11, 2000);
    let body = deflated(Encoder::ZlibMem8, &content);
    let with = |flags: u8, fields: &[u8]| {
        let fixed = [0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 2, 7];
        [&fixed[..], fields, &body, &trailer(&content)].concat()
    };
    let name = vec![b'n'; 5000];
    for (flags, fields, is_taken) in [
        (0, &b""[..], true),
        (8, b"name\0", true),
        (16, b"a comment\0", true),
        (4, b"\x03\0abc", true),
        (2, b"cc", true),
        (31, b"\x01\0xname\0comment\0cc", true),
        (8, b"no end", false),
        (8, &name, false),
        (32, b"", false),
    ] {
        assert_eq!(round(&with(flags, fields)).recipe != Recipe::Raw, is_taken, "flags {flags}");
    }
}

/// The first look has exactly the length of the deflate data, and the encoder is not done by then.
#[test]
fn a_length_that_is_that_of_a_look_is_no_special_case() {
    let length = 47_164;
    assert_eq!(deflated(Encoder::Miniz, &text(12, length)).len(), 16 << 10);
    assert_eq!(encoder(&round(&crate_file(Encoder::Miniz, &text(12, length)))), Some((Encoder::Miniz, 0)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_content_comes_back(seed: u64, length in 0..60_000usize, noisy in 0..2000usize, used in 0..5usize) {
        let content = [text(seed | 1, length), noise(seed | 1, noisy)].concat();
        let apart = round(&crate_file(Encoder::ALL[used], &content));
        prop_assert_eq!(encoder(&apart).map(|(_, tail)| tail), Some(0));
        prop_assert!(apart.content == content);
    }

    #[test]
    fn any_bytes_come_back(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        round(&bytes);
        round(&[HEADER, &bytes].concat());
    }

    #[test]
    fn a_flipped_bit_comes_back(seed: u64, length in 1..20_000usize, used in 0..5usize, at: prop::sample::Index) {
        let mut file = crate_file(Encoder::ALL[used], &text(seed | 1, length));
        let bit = at.index(file.len() * 8);
        file[bit / 8] ^= 1 << (bit % 8);
        round(&file);
    }
}

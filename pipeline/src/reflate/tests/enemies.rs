//! Crate files and frames that somebody made to do harm: the limits hold, and nothing panics.

use crateferry_store::Sha256;
use proptest::prelude::*;

use super::inputs::{crate_file, deflated, noise, release, text};
use crate::reflate::{Apart, Encoder, Frame, FrameBuilder, FrameError, Level, MAX_CONTENT, Member, Recipe, take_apart};

/// So many megabytes of zeros.
fn bomb(megabytes: usize) -> Vec<u8> {
    crate_file(Encoder::ZlibRs06, &vec![0; megabytes << 20])
}

#[test]
fn a_crate_file_that_is_too_long_inside_stays_as_it_is() {
    let bomb = bomb((MAX_CONTENT >> 20) + 1);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(take_apart(&bomb), Apart { recipe: Recipe::Raw, content: bomb });
}

fn small() -> Vec<u8> {
    let mut builder = FrameBuilder::new();
    for number in 0..3 {
        let file = crate_file(Encoder::ALL[number], &text(number as u64 + 1, 2000));
        builder.push(release(&format!("1.0.{number}"), &file), file.len() as u64, take_apart(&file));
    }
    builder.push(release("2.0.0", b"raw"), 3, take_apart(b"raw"));
    builder.finish(Level::Fast, None).unwrap()
}

/// All that a reader does. Whether what comes out is right is said by its checksum.
fn read(frame: &[u8], limit: u64) -> Result<usize, FrameError> {
    let frame = Frame::read(frame, limit)?;
    let contents = frame.contents(None)?;
    let is_right = |(member, content): &(&Member, &[u8])| {
        member.rebuild(content).is_ok_and(|file| Sha256::of(&file) == member.release.checksum)
    };
    Ok(frame.members().iter().zip(contents.iter()).filter(is_right).count())
}

#[test]
fn a_frame_that_is_cut_or_has_more_is_refused() {
    let frame = small();
    assert_eq!(read(&frame, 1 << 20), Ok(4));
    for length in 0..frame.len() {
        assert!(read(&frame[..length], 1 << 20).is_err(), "{length}");
    }
    assert!(read(&[frame.as_slice(), &[0]].concat(), 1 << 20).is_err());
    // A second frame of zstd, which zstd would read as well.
    let empty = zstd::bulk::compress(b"", 1).unwrap();
    assert_eq!(read(&[frame, empty].concat(), 1 << 20), Err(FrameError::Damaged("something follows what it has")));
}

#[test]
fn a_flipped_bit_is_seen_or_changes_nothing() {
    let frame = small();
    for bit in 0..frame.len() * 8 {
        let mut flipped = frame.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // zstd's checksums tell, or a contradiction, or in the end the crate file's own. Some bits mean nothing to zstd.
        if read(&flipped, 1 << 20) == Ok(4) {
            let members = |frame| Frame::read(frame, 1 << 20).unwrap().members().to_vec();
            assert_eq!(members(&flipped), members(&frame), "bit {bit}");
        }
    }
}

#[test]
fn limits_are_kept_before_memory_is_taken() {
    let mut builder = FrameBuilder::new();
    let file = bomb(32);
    builder.push(release("1.0.0", &file), file.len() as u64, take_apart(&file));
    let frame = builder.finish(Level::Fast, None).unwrap();
    assert!(frame.len() < 10_000, "{}", frame.len());
    assert_eq!(read(&frame, 64 << 20), Ok(1));
    let refused = read(&frame, 16 << 20);
    assert!(matches!(refused, Err(FrameError::TooLong { what: "contents", length: 33_554_432, .. })), "{refused:?}");
    // What lies about its length gets no room for what it has.
    let mut lying = frame.clone();
    lying[24..32].copy_from_slice(&1000u64.to_le_bytes());
    assert!(matches!(read(&lying, 16 << 20), Err(FrameError::Damaged(_))));
    lying[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
    assert!(matches!(read(&lying, 16 << 20), Err(FrameError::TooLong { .. })));
    let mut lying = frame;
    lying[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(read(&lying, u64::MAX), Err(FrameError::TooLong { what: "table", .. })));
}

#[test]
fn a_recipe_that_cannot_be_followed_is_an_error() {
    let content = text(1, 2000);
    let body = deflated(Encoder::ZlibMem8, &content).len();
    let recipe = |tail: usize| Recipe::Encoded { encoder: Encoder::ZlibMem8, header: vec![0; 10], tail: vec![0; tail] };
    let right = 10 + body + 8;
    recipe(0).rebuild(&content, right).unwrap();
    for (tail, length) in
        [(0, right + 1), (0, usize::MAX), (0, 0), (0, 17), (right, right), (usize::from(u16::MAX), right)]
    {
        recipe(tail).rebuild(&content, length).unwrap_err();
    }
    Recipe::Raw.rebuild(&content, 5).unwrap_err();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn noise_is_no_frame(seed: u64, length in 0..3000usize, is_headed: bool) {
        let mut bytes = noise(seed | 1, length);
        if is_headed && bytes.len() > 64 {
            bytes[..64].copy_from_slice(&small()[..64]);
        }
        prop_assert!(read(&bytes, 1 << 20).is_err());
    }

    #[test]
    fn some_changed_bytes_do_no_harm(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        let mut frame = small();
        for (at, byte) in changes {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        // It is not said that a change is seen here, where it may be none.
        read(&frame, 1 << 20).ok();
    }
}

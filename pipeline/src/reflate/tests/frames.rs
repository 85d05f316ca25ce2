//! Frames, written and read.

use crateferry_store::Sha256;
use proptest::prelude::*;

use super::inputs::{archive, crate_file, noise, release, text};
use crate::reflate::{Apart, Base, Encoder, Frame, FrameBuilder, FrameError, Level, take_apart};

const LIMIT: u64 = 64 << 20;

/// The same archive, a little changed in each version.
fn versions(number: u64) -> Vec<Vec<u8>> {
    let version = |number: u64| {
        let encoder = Encoder::ALL[number as usize % 5];
        crate_file(encoder, &[archive(1), text(2, 100_000), text(100 + number, 3000)].concat())
    };
    (0..number).map(version).collect()
}

fn frame(files: &[Vec<u8>], level: Level, base: Option<Base>) -> Vec<u8> {
    let mut builder = FrameBuilder::new();
    for (number, file) in files.iter().enumerate() {
        builder.push(release(&format!("1.0.{number}"), file), file.len() as u64, take_apart(file));
    }
    builder.finish(level, base).unwrap()
}

/// The crate files of a frame, each checked against what its record promises.
fn files(frame: &[u8], base: Option<Base>) -> Result<Vec<Vec<u8>>, FrameError> {
    let frame = Frame::read(frame, LIMIT)?;
    let contents = frame.contents(base)?;
    let rebuilt = frame.members().iter().zip(contents.iter()).map(|(member, content)| {
        let file = member.rebuild(content).unwrap();
        assert_eq!((Sha256::of(&file), file.len() as u64), (member.release.checksum, member.length));
        file
    });
    Ok(rebuilt.collect())
}

#[test]
fn versions_of_a_crate_come_back_in_order_and_cost_little_together() {
    let versions = versions(8);
    let together: usize = versions.iter().map(Vec::len).sum();
    for level in [Level::Fast, Level::Max] {
        let frame = frame(&versions, level, None);
        assert!(frame.len() * 4 < together, "{} of {together}", frame.len());
        assert_eq!(files(&frame, None).unwrap(), versions);
    }
}

#[test]
fn equal_input_gives_equal_frames() {
    assert_eq!(frame(&versions(3), Level::Fast, None), frame(&versions(3), Level::Fast, None));
}

#[test]
fn a_version_against_the_one_before_costs_almost_nothing_and_needs_it() {
    let versions = versions(2);
    let Apart { content, .. } = take_apart(&versions[0]);
    let base = Base { checksum: Sha256::of(&versions[0]), content: &content };
    let frame = frame(&versions[1..], Level::Fast, Some(base));
    assert!(frame.len() * 8 < versions[1].len(), "{} of {}", frame.len(), versions[1].len());
    assert_eq!(files(&frame, Some(base)).unwrap(), versions[1..]);
    assert_eq!(Frame::read(&frame, LIMIT).unwrap().base(), Some(&base.checksum));
    let none = FrameError::WrongBase { needs: Some(base.checksum), given: None };
    assert_eq!(files(&frame, None), Err(none));
    let other = Base { checksum: Sha256([1; 32]), content: &content };
    let wrong = FrameError::WrongBase { needs: Some(base.checksum), given: Some(other.checksum) };
    assert_eq!(files(&frame, Some(other)), Err(wrong));
    // The right name for other bytes: zstd's checksum tells.
    let false_base = Base { checksum: base.checksum, content: &text(5, content.len()) };
    assert!(matches!(files(&frame, Some(false_base)), Err(FrameError::Zstd("read", _))));
    let alone = self::frame(&versions[1..], Level::Fast, None);
    assert!(matches!(files(&alone, Some(base)), Err(FrameError::WrongBase { needs: None, .. })));
}

#[test]
fn what_was_not_taken_apart_rides_along() {
    let some = [versions(1), vec![noise(1, 3000), Vec::new()]].concat();
    assert_eq!(files(&frame(&some, Level::Fast, None), None).unwrap(), some);
}

#[test]
fn a_frame_of_nothing_is_one() {
    assert_eq!(files(&frame(&[], Level::Fast, None), None).unwrap(), Vec::<Vec<u8>>::new());
}

#[test]
fn a_frame_names_the_encoders_that_it_needs() {
    let frame = frame(&versions(2), Level::Fast, None);
    let needed = u32::from_le_bytes(*frame[8..].first_chunk().unwrap());
    let of = |number: usize| Frame::read(&frame, LIMIT).unwrap().members()[number].recipe.encoder().unwrap().id();
    assert_eq!((of(0), of(1), needed), (1, 2, 0b11));
    let mut later = frame.clone();
    later[9] = 1;
    assert_eq!(Frame::read(&later, LIMIT).unwrap_err(), FrameError::UnknownEncoder(9));
    let mut later = frame;
    later[4] = 2;
    assert_eq!(Frame::read(&later, LIMIT).unwrap_err(), FrameError::UnknownVersion(2));
}

/// One crate file of each encoder.
fn of_each_encoder() -> Vec<Vec<u8>> {
    Encoder::ALL.map(|encoder| crate_file(encoder, &text(90 + u64::from(encoder.id()), 400))).into()
}

#[test]
fn a_frame_that_was_written_once_is_read_for_ever() {
    let some = [of_each_encoder(), vec![b"raw".to_vec()]].concat();
    let content = text(90, 600);
    let base = Base { checksum: Sha256::of(&content), content: &content };
    assert_eq!(files(include_bytes!("frame-1.cfrf"), Some(base)).unwrap(), some);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_files_come_back(
        lengths in prop::collection::vec((0..20_000usize, 0..6usize), 0..8),
        seed: u64,
        with_base: bool,
    ) {
        let make = |(number, (length, used)): (usize, &(usize, usize))| match Encoder::ALL.get(*used) {
            Some(encoder) => crate_file(*encoder, &text((seed | 1) ^ ((number as u64) << 32), *length)),
            None => noise(seed | 1, *length),
        };
        let some: Vec<Vec<u8>> = lengths.iter().enumerate().map(make).collect();
        let content = text(seed | 1, 5000);
        let base = with_base.then_some(Base { checksum: Sha256::of(&content), content: &content });
        prop_assert_eq!(files(&frame(&some, Level::Fast, base), base).unwrap(), some);
    }
}

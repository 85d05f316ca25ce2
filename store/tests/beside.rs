//! Readers beside a writer: what they cost it, and what they see.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod rig;

use std::path::Path;

use crateferry_store::{Mirror, MirrorReader, OpenError, Shrink, Soundness, StoreLimits, Writer, publish};
use rig::{crate_name, hold, open, published_mirror, release};

const NOW: u64 = 1_700_000_000;

fn size(root: &Path) -> u64 {
    std::fs::metadata(root.join("catalog.redb")).unwrap().len()
}

fn reader(root: &Path) -> MirrorReader {
    MirrorReader::open(root, StoreLimits::default()).unwrap()
}

fn generation(reader: &MirrorReader) -> u64 {
    reader.catalog.summary().unwrap().unwrap().generation.unwrap().number
}

/// One small generation: a crate that is new.
fn publish_one(mirror: &Mirror, writer: &Writer, number: usize) {
    hold(writer, &crate_name(number), &["1.0.0"]);
    publish(mirror, writer, Shrink::WithinLimit, NOW).unwrap();
}

const GENERATIONS: usize = 100;

/// Publishes many small generations while something reads, then as many again with no reader. Gives the catalog's
/// size at the beginning, after the first ones and at the end.
fn sizes(mut read: impl FnMut(&Path)) -> [u64; 3] {
    let root = published_mirror(&StoreLimits::default(), 200, &["1.0.0", "1.1.0"]);
    let mirror = open(root.path(), &StoreLimits::default()).unwrap();
    let writer = mirror.writer().unwrap();
    let before = size(root.path());
    for number in 0..GENERATIONS {
        publish_one(&mirror, &writer, 200 + number);
        read(root.path());
    }
    drop(read);
    let beside = size(root.path());
    for number in 0..GENERATIONS {
        publish_one(&mirror, &writer, 500 + number);
    }
    [before, beside, size(root.path())]
}

#[test]
fn the_catalog_grows_no_more_beside_a_reader_that_follows() {
    let mut following: Option<MirrorReader> = None;
    let alone = sizes(|_| {});
    let followed = sizes(move |root| {
        let newer = match &following {
            None => Some(reader(root)),
            Some(before) => before.newer().unwrap(),
        };
        following = Some(newer.expect("there is a new generation each time"));
    });
    println!(
        "{GENERATIONS} and {GENERATIONS} generations: {alone:?} bytes alone, {followed:?} with a reader that follows"
    );
    assert!(followed[1] <= alone[1] * 2 && followed[2] <= alone[2] * 2, "{followed:?} against {alone:?}");
}

#[test]
fn an_old_generation_stays_readable_and_costs_the_pages_that_changed_since_until_it_is_let_go() {
    let mut held: Option<MirrorReader> = None;
    let [before, beside, after] = sizes(move |root| {
        let held = held.get_or_insert_with(|| reader(root));
        assert_eq!((generation(held), held.catalog.counts().unwrap()), (2, (201, 401)));
        held.catalog.each_index_file(|_, _| Ok::<(), crateferry_store::LedgerError>(())).unwrap();
    });
    let each = (beside - before) / GENERATIONS as u64;
    println!("{each} bytes for each generation while one is held; {beside} bytes then, {after} after as many again");
    assert!(each < 256 << 10, "{each}");
    assert!(after <= beside, "what was held for the reader is used again: {after}");
}

#[test]
fn asking_for_what_is_newer_finds_nothing_or_the_next_generation() {
    let root = published_mirror(&StoreLimits::default(), 3, &["1.0.0"]);
    let first = reader(root.path());
    assert!(first.newer().unwrap().is_none());
    let mirror = open(root.path(), &StoreLimits::default()).unwrap();
    assert!(first.newer().unwrap().is_none());
    publish_one(&mirror, &mirror.writer().unwrap(), 3);
    let second = first.newer().unwrap().unwrap();
    assert_eq!((generation(&first), generation(&second)), (1, 2));
    assert!(second.newer().unwrap().is_none());
}

/// Flips a bit of the last of these bytes wherever the catalog's file has them.
fn damage(root: &Path, bytes: &[u8]) {
    let catalog = root.join("catalog.redb");
    let mut file = std::fs::read(&catalog).unwrap();
    let places: Vec<usize> = (0..file.len()).filter(|at| file[*at..].starts_with(bytes)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| file[at + bytes.len() - 1] ^= 1);
    std::fs::write(catalog, file).unwrap();
}

#[test]
fn a_reader_notices_what_is_damaged_under_it_and_it_can_be_mended() {
    let limits = StoreLimits { catalog_cache: 0, ..StoreLimits::default() };
    let root = published_mirror(&limits, 200, &["1.0.0", "1.1.0"]);
    let reader = MirrorReader::open(root.path(), limits.clone()).unwrap();
    assert_eq!(reader.catalog.soundness(), Soundness::Unknown);
    reader.catalog.check(|| {}).unwrap();
    let newer = |reader: &MirrorReader| reader.newer().unwrap().map(|newer| newer.catalog.soundness());
    assert_eq!((reader.catalog.soundness(), newer(&reader)), (Soundness::Sound, None));

    // Nothing says that a key is missing, but whoever reads its row by another way sees that they do not belong together.
    damage(root.path(), b"c007\x001");
    let (lost, found) = (release("c007", "1.0.0"), release("c150", "1.0.0"));
    assert!(reader.catalog.held(&lost).unwrap().is_none(), "a damaged key hides its row");
    assert!(reader.catalog.held_of(&lost.id.name).is_err(), "a damaged row is no answer");
    assert_eq!(reader.catalog.soundness(), Soundness::Unknown, "it was sound before that");
    let problem: OpenError = reader.catalog.check(|| {}).unwrap_err().into();
    assert!(problem.is_damage());
    assert_eq!(reader.catalog.soundness(), Soundness::Damaged);
    assert!(reader.catalog.held(&found).unwrap().is_some(), "what is found is right");

    let mended = MirrorReader::mend(root.path(), &limits, &problem).unwrap();
    assert_eq!(mended.catalog.soundness(), Soundness::Sound);
    assert!(mended.catalog.held(&lost).unwrap().is_some());
    assert_eq!(newer(&reader), Some(Soundness::Unknown), "another file, of which nothing is known");
}

//! What is damaged, and what happens next: torn tails are adopted up to the last whole group, everything else is named.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod rig;

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crateferry_store::{
    Extent, LedgerError, Mirror, MirrorReader, OpenError, Release, Shrink, StoreLimits, SystemDisk, publish, rebuild,
    verify,
};
use rig::{NOW, copy_folder, crate_name, held, hold, open, packs, published_mirror, settle, wanted};
use tempfile::TempDir;

const VERSIONS: [&str; 3] = ["0.1.0", "1.0.0", "1.0.1"];

/// One group for each batch, all in one pack.
fn one_pack() -> StoreLimits {
    StoreLimits { group_delay: Duration::from_millis(1), ..StoreLimits::default() }
}

/// Packs that are sealed soon.
fn small_packs() -> StoreLimits {
    StoreLimits { pack_bytes: 20_000, ..one_pack() }
}

/// What a mirror held when its open pack had this length.
struct Milestone {
    length: u64,
    held: Vec<Release>,
    sequence: u64,
    generation: u64,
}

fn milestone(root: &Path, mirror: &Mirror) -> Milestone {
    let reader = mirror.ledger().reader().unwrap();
    Milestone {
        length: std::fs::metadata(packs(root).last().unwrap()).unwrap().len(),
        held: held(mirror),
        sequence: reader.chain().unwrap().sequence,
        generation: reader.generation().unwrap().map_or(0, |generation| generation.number),
    }
}

/// A mirror whose databases are as they were before its last groups: as if the process had been killed before each of
/// them became known to the ledger. With what was known after each group.
fn mirror_with_tail() -> (TempDir, Vec<Milestone>) {
    let root = published_mirror(&one_pack(), 3, &VERSIONS);
    let earlier = tempfile::tempdir().unwrap();
    for database in ["ledger.redb", "catalog.redb"] {
        std::fs::copy(root.path().join(database), earlier.path().join(database)).unwrap();
    }
    let mirror = open(root.path(), &one_pack()).unwrap();
    let mut milestones = vec![milestone(root.path(), &mirror)];
    let writer = mirror.writer().unwrap();
    for number in 3..6 {
        settle(&writer, wanted(&crate_name(number), &VERSIONS)).unwrap();
        milestones.push(milestone(root.path(), &mirror));
        hold(&writer, &crate_name(number), &VERSIONS[..1]);
        milestones.push(milestone(root.path(), &mirror));
        publish(&mirror, &writer, Shrink::WithinLimit, NOW).unwrap();
        milestones.push(milestone(root.path(), &mirror));
    }
    drop((writer, mirror));
    for database in ["ledger.redb", "catalog.redb"] {
        std::fs::copy(earlier.path().join(database), root.path().join(database)).unwrap();
    }
    (root, milestones)
}

/// Damages the open pack of a copy and opens that: gives what is known then, unless opening it is refused.
fn opened_after(root: &Path, damage: impl FnOnce(&Path)) -> Result<Milestone, OpenError> {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(root, copy.path());
    damage(packs(copy.path()).last().unwrap());
    let mirror = open(copy.path(), &one_pack())?;
    let known = milestone(copy.path(), &mirror);
    hold(&mirror.writer().unwrap(), "later", &VERSIONS);
    drop(mirror);
    let reader = MirrorReader::open(copy.path(), one_pack()).unwrap();
    assert_eq!(verify(&reader, Extent::All, &|_| {}).unwrap().findings, []);
    Ok(known)
}

/// What is known after all groups within the first `whole` bytes are adopted. Each operation is a group or more; so it
/// lies between two milestones.
#[track_caller]
fn check(known: &Milestone, milestones: &[Milestone], whole: u64, which: &str) {
    let last = milestones.iter().rfind(|milestone| milestone.length <= whole).expect("the ledger knows the first");
    assert!(known.sequence >= last.sequence, "{which}: all whole groups are adopted");
    assert!(known.generation >= last.generation, "{which}");
    assert!(last.held.iter().all(|release| known.held.contains(release)), "{which}: all that is whole is held");
}

/// The group that the byte at this offset belongs to is not known, nor what lies behind it.
#[track_caller]
fn check_nothing_beyond(known: &Milestone, milestones: &[Milestone], offset: u64, which: &str) {
    let next = milestones.iter().find(|milestone| milestone.length > offset).expect("it is in the tail");
    assert!(known.sequence < next.sequence, "{which}: record {} is adopted", known.sequence);
}

#[test]
fn a_tail_cut_anywhere_is_adopted_up_to_its_last_whole_group() {
    let (root, milestones) = mirror_with_tail();
    let (first, last) = (milestones[0].length, milestones.last().unwrap().length);
    let step = (last - first) / 120 + 1;
    let borders =
        milestones.iter().flat_map(|milestone| [milestone.length - 1, milestone.length, milestone.length + 1]);
    for length in (first..=last).step_by(step as usize).chain(borders).filter(|at| (first..=last).contains(at)) {
        let known = opened_after(root.path(), |pack| {
            OpenOptions::new().write(true).open(pack).unwrap().set_len(length).unwrap();
        })
        .unwrap();
        let which = format!("cut at {length}");
        check(&known, &milestones, length, &which);
        let whole = milestones.iter().rfind(|milestone| milestone.length <= length).unwrap();
        let is_whole = whole.length == length;
        assert!(!is_whole || known.sequence == whole.sequence, "{which}: record {} is adopted", known.sequence);
    }
}

#[test]
fn a_tail_with_a_flipped_bit_is_adopted_up_to_the_group_before_or_refused() {
    let (root, milestones) = mirror_with_tail();
    let (first, last) = (milestones[0].length, milestones.last().unwrap().length);
    for number in 0..120 {
        let bit = first * 8 + (last - first) * 8 * number / 120 + number % 8;
        let known = match opened_after(root.path(), |pack| flip(pack, bit)) {
            Ok(known) => known,
            Err(error) => {
                // Too many whole groups lie behind the damage for them all to have been in flight.
                let before = milestones.iter().rfind(|milestone| milestone.length <= bit / 8).unwrap();
                let behind = milestones.last().unwrap().sequence - before.sequence;
                assert!(behind > 3 && error.to_string().contains("damaged at offset"), "bit {bit}: {error}");
                continue;
            }
        };
        let which = format!("bit {bit}");
        if known.sequence == milestones.last().unwrap().sequence {
            continue; // a bit of the padding between members, which is nobody's
        }
        check(&known, &milestones, bit / 8, &which);
        check_nothing_beyond(&known, &milestones, bit / 8, &which);
    }
}

fn flip(path: &Path, bit: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    let permissions = std::fs::metadata(path).unwrap().permissions();
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, permissions).unwrap();
}

/// A mirror with several sealed packs.
fn sealed() -> TempDir {
    let root = published_mirror(&small_packs(), 12, &VERSIONS);
    assert!(packs(root.path()).len() > 2);
    root
}

fn findings(root: &Path) -> Vec<String> {
    let reader = MirrorReader::open(root, small_packs()).unwrap();
    let findings = verify(&reader, Extent::All, &|_| {}).unwrap().findings;
    findings.into_iter().map(|finding| format!("{}: {}", finding.object, finding.problem)).collect()
}

#[test]
fn a_flipped_bit_in_a_held_crate_file_is_named_by_its_release() {
    let root = sealed();
    let mirror = open(root.path(), &small_packs()).unwrap();
    let id = "c004".parse().unwrap();
    let (release, row) = mirror.ledger().reader().unwrap().releases_of(&id).unwrap()[1].clone();
    let place = row.place.unwrap();
    drop(mirror);
    flip(&packs(root.path())[place.pack as usize - 1], (place.offset + place.length / 2) * 8 + 3);
    let findings = findings(root.path());
    assert!(findings.iter().any(|finding| finding.contains(&release.id.to_string())), "{findings:?}");
}

#[test]
fn every_flipped_bit_of_a_sealed_pack_is_found() {
    let root = sealed();
    assert_eq!(findings(root.path()), [""; 0]);
    let pack = packs(root.path())[1].clone();
    let bits = std::fs::metadata(&pack).unwrap().len() * 8;
    let mut unnoticed = Vec::new();
    for number in 0..150 {
        let bit = bits * number / 150 + number % 8;
        flip(&pack, bit);
        if findings(root.path()).is_empty() {
            unnoticed.push(bit);
        }
        flip(&pack, bit);
    }
    assert_eq!(unnoticed, [0; 0], "of {bits} bits");
    assert_eq!(findings(root.path()), [""; 0]);
}

/// Reads all that the ledger and the catalog know.
fn read_everything(root: &Path) -> Result<(), OpenError> {
    let mirror = open(root, &small_packs())?;
    let reader = mirror.ledger().reader()?;
    reader.each_release(|_, _| Ok(()))?;
    reader.work_after(None, usize::MAX, u64::MAX)?;
    for name in reader.upstream_names_after(None, usize::MAX)? {
        reader.path(&name)?;
    }
    drop((reader.holes()?, reader.gone()?, reader.reports()?, reader.alarms()?, reader.dirty_after(None, usize::MAX)?));
    drop((reader.selection()?, reader.mark()?, reader.generation()?));
    drop(mirror);
    Ok(())
}

/// What became of a mirror whose ledger was damaged.
#[track_caller]
fn check_ledger_damage(root: &Path, expected: &[Release], which: &str) -> bool {
    match read_everything(root) {
        Ok(()) => {
            let mirror = open(root, &small_packs()).unwrap();
            assert_eq!(held(&mirror), expected, "{which}: a wrong answer");
            false
        }
        Err(error) => {
            let text = format!("{error}");
            let of_a_row = matches!(error, OpenError::Ledger(LedgerError::Row(_) | LedgerError::Database(_)));
            assert!(of_a_row || text.contains("rebuild"), "{which}: {text}");
            true
        }
    }
}

fn damaged_copy(root: &Path, damage: impl FnOnce(&Path)) -> (TempDir, PathBuf) {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(root, copy.path());
    let ledger = copy.path().join("ledger.redb");
    damage(&ledger);
    (copy, ledger)
}

#[test]
fn flipped_bits_in_the_ledger_are_an_error_or_nothing_but_never_a_wrong_answer() {
    let root = sealed();
    let expected = held(&open(root.path(), &small_packs()).unwrap());
    let bits = std::fs::metadata(root.path().join("ledger.redb")).unwrap().len() * 8;
    let mut noticed = 0;
    for number in 0..200 {
        let bit = bits / 200 * number + number * 37 % (bits / 200);
        let (copy, _) = damaged_copy(root.path(), |ledger| flip(ledger, bit));
        noticed += u32::from(check_ledger_damage(copy.path(), &expected, &format!("bit {bit}")));
    }
    assert!(noticed > 0, "none of 200 bits mattered");
}

#[test]
fn a_ledger_that_is_cut_empty_or_lost_is_named_with_the_way_out_and_never_replaced() {
    let root = sealed();
    let expected = held(&open(root.path(), &small_packs()).unwrap());
    let length = std::fs::metadata(root.path().join("ledger.redb")).unwrap().len();
    for cut in [0, 1, 4095, 4096, length / 2, length - 4096, length - 1] {
        let (copy, ledger) = damaged_copy(root.path(), |ledger| {
            OpenOptions::new().write(true).open(ledger).unwrap().set_len(cut).unwrap();
        });
        check_named(copy.path(), &ledger, &expected, &format!("cut at {cut}"));
    }
    let (copy, ledger) = damaged_copy(root.path(), |ledger| std::fs::remove_file(ledger).unwrap());
    check_named(copy.path(), &ledger, &expected, "lost");
    let (copy, ledger) = damaged_copy(root.path(), |ledger| std::fs::write(ledger, "not a database").unwrap());
    check_named(copy.path(), &ledger, &expected, "another file");
}

/// Opening fails and names `rebuild`, twice; and `rebuild` brings everything back.
#[track_caller]
fn check_named(root: &Path, ledger: &Path, expected: &[Release], which: &str) {
    let before = std::fs::read(ledger).ok();
    for _ in 0..2 {
        let error = open(root, &small_packs()).expect_err(which);
        assert!(error.to_string().contains("rebuild"), "{which}: {error}");
    }
    assert!(std::fs::read(ledger).ok() == before, "{which}: the ledger was touched");
    let rebuilt = rebuild(root, false, small_packs(), std::sync::Arc::new(SystemDisk)).unwrap();
    assert!(!rebuilt.new_epoch, "{which}: {:?}", rebuilt.problems);
    assert_eq!(held(&open(root, &small_packs()).unwrap()), expected, "{which}");
}

#[test]
fn a_catalog_that_is_damaged_is_derived_again() {
    let root = sealed();
    for damage in ["", "not a database"] {
        std::fs::write(root.path().join("catalog.redb"), damage).unwrap();
        drop(open(root.path(), &small_packs()).unwrap());
        assert_eq!(findings(root.path()), [""; 0]);
    }
}

#[test]
fn a_lost_or_shortened_pack_is_damage() {
    for damage in [
        |pack: &Path| std::fs::remove_file(pack).unwrap(),
        |pack: &Path| {
            std::fs::remove_file(pack).unwrap();
            std::fs::write(pack, "short").unwrap();
        },
    ] {
        let root = sealed();
        damage(&packs(root.path())[1]);
        let error = open(root.path(), &small_packs()).unwrap_err();
        assert!(matches!(&error, OpenError::Damaged { problem, .. } if problem.contains("pack 2")), "{error}");
    }
}

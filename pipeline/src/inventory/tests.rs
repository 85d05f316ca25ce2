//! Inventories of sources that exist only here, compared with hashing everything at once.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Read};

use super::hashing::BLOCK;
use super::*;

/// Files of these contents, in this order.
#[derive(Default)]
struct Made {
    files: VecDeque<(String, Vec<u8>)>,
    /// What is said of the size, by name, if it is not so.
    lies: Vec<(&'static str, u64)>,
    /// Reading this one fails after a block and a half.
    broken: Option<&'static str>,
    opened: Option<(Vec<u8>, bool)>,
    reads: usize,
}

impl Made {
    fn new(files: &[(&str, usize)]) -> Self {
        let content = |length: usize| (0..length).map(|at| (at * 7 + at / 251 + length) as u8).collect();
        let files = files.iter().map(|(name, length)| ((*name).to_owned(), content(*length)));
        Made { files: files.collect(), ..Made::default() }
    }

    fn whole(&self) -> Vec<u8> {
        self.files.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

impl Source for Made {
    fn next(&mut self) -> Option<Found> {
        let (name, bytes) = self.files.pop_front()?;
        let lie = self.lies.iter().find(|(of, _)| *of == name);
        let size = lie.map_or(bytes.len() as u64, |(_, size)| *size);
        self.opened = Some((bytes, self.broken == Some(&name)));
        Some(Found { name: FileName::new(name), what: What::File { size, modified: None } })
    }

    fn open(&mut self) -> Result<Box<dyn Content + '_>, Problem> {
        let (bytes, is_broken) = self.opened.take().unwrap();
        self.reads += 1;
        Ok(Box::new(Opened { bytes: io::Cursor::new(bytes), is_broken }))
    }
}

struct Opened {
    bytes: io::Cursor<Vec<u8>>,
    is_broken: bool,
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_broken && self.bytes.position() >= (BLOCK + BLOCK / 2) as u64 {
            return Err(io::Error::other("bad sector"));
        }
        // A read may give less than is asked for.
        let length = buffer.len().min(BLOCK / 16 + 1);
        self.bytes.read(&mut buffer[..length])
    }
}

impl Content for Opened {
    fn settle(&mut self) -> Result<(), Problem> {
        Ok(())
    }
}

fn plan(workers: usize) -> Plan {
    let workers = NonZeroUsize::new(workers).unwrap();
    Plan { per_file: Algorithms::all(), whole: Algorithms::all(), workers, fail_fast: false }
}

fn inventory(made: &mut Made, plan: &Plan) -> (Vec<Record>, Totals) {
    let mut records = Vec::new();
    let mut keep = |record| {
        records.push(record);
        Ok::<_, Infallible>(())
    };
    let totals = take(made, plan, &Gauge::default(), &mut keep).unwrap();
    (records, totals)
}

fn at_once(algorithms: &Algorithms, bytes: &[u8]) -> Vec<(Algorithm, Digest)> {
    algorithms.as_slice().iter().map(|algorithm| (*algorithm, algorithm.digest(bytes))).collect()
}

/// The digests are those of hashing each file, and all of them one after the other, at once.
#[track_caller]
fn is_right(files: &[(&str, usize)], plan: &Plan) {
    let mut made = Made::new(files);
    let (whole, contents) = (made.whole(), made.files.clone());
    let (records, totals) = inventory(&mut made, plan);
    assert_eq!(totals.whole, at_once(&plan.whole, &whole));
    assert_eq!((totals.files, totals.bytes, totals.unread), (files.len() as u64, whole.len() as u64, 0));
    assert_eq!((records.len(), made.reads), (files.len(), files.len()));
    for (record, (name, content)) in records.iter().zip(&contents) {
        assert_eq!(record.name.as_bytes(), name.as_bytes());
        let Recorded::File { digests, .. } = &record.what else { panic!("{record:?}") };
        assert_eq!(*digests, at_once(&plan.per_file, content), "{name}");
    }
}

const SIZES: [(&str, usize); 9] = [
    ("a", 0),
    ("b", 10),
    ("c", BLOCK - 10),
    ("d", 1),
    ("e", 3 * BLOCK + 17),
    ("f", BLOCK),
    ("g", 2 * BLOCK),
    ("h", BLOCK + 1),
    ("i", 30_000),
];

#[test]
fn digests_are_the_same_whatever_the_number_of_threads() {
    for workers in [1, 2, 7] {
        is_right(&SIZES, &plan(workers));
    }
}

#[test]
fn a_large_first_file_is_hashed_once_for_itself_and_for_the_whole() {
    for workers in [1, 3] {
        is_right(&[("a", 5 * BLOCK - 9)], &plan(workers));
        is_right(&[("a", 5 * BLOCK - 9), ("b", 3 * BLOCK), ("c", 1)], &plan(workers));
    }
}

#[test]
fn what_files_and_the_whole_get_may_differ() {
    let picked = |text: &str| text.parse::<Algorithms>().unwrap();
    for (per_file, whole) in [("xxh3,sha256", "sha256,blake3"), ("none", "murmur3"), ("sha3", "none"), ("none", "none")]
    {
        let plan = Plan { per_file: picked(per_file), whole: picked(whole), ..plan(2) };
        is_right(&SIZES, &plan);
        is_right(&[("a", 3 * BLOCK), ("b", 2 * BLOCK + 2)], &plan);
        is_right(&[], &plan);
    }
}

#[test]
fn many_small_files_go_through_few_blocks() {
    let names: Vec<String> = (0..5000).map(|number| format!("{number:05}")).collect();
    let files: Vec<(&str, usize)> = names.iter().enumerate().map(|(at, name)| (name.as_str(), at % 700)).collect();
    let picked: Algorithms = "blake3,xxh64".parse().unwrap();
    is_right(&files, &Plan { per_file: picked.clone(), whole: picked, ..plan(3) });
}

/// Some files are told and the rest goes on; there is no digest of the whole.
#[track_caller]
fn are_told(mut made: Made, expected: &[(&str, &str)]) {
    let contents = made.files.clone();
    let (records, totals) = inventory(&mut made, &plan(2));
    assert_eq!((totals.unread, totals.whole), (expected.len() as u64, Vec::new()));
    let mut told = Vec::new();
    for (record, (_, content)) in records.iter().zip(&contents) {
        match &record.what {
            Recorded::Unread(problem) => told.push((record.name.to_string(), problem.to_string())),
            Recorded::File { digests, .. } => assert_eq!(*digests, at_once(&Algorithms::all(), content)),
            other => panic!("{other:?}"),
        }
    }
    let told: Vec<_> = told.iter().map(|(name, problem)| (name.as_str(), problem.as_str())).collect();
    assert_eq!(told, expected);
}

#[test]
fn files_that_are_not_as_long_as_they_were_are_told() {
    let mut made = Made::new(&[("a", 10), ("b", 20), ("c", 30), ("d", 200_000), ("e", 150_000), ("f", 5)]);
    made.lies = vec![("b", 19), ("c", 31), ("d", 200_001), ("e", 140_000)];
    let expected = [
        ("b", "changed while it was read: it goes on after 19 bytes"),
        ("c", "changed while it was read: it ends after 30 of 31 bytes"),
        ("d", "changed while it was read: it ends after 200000 of 200001 bytes"),
        ("e", "changed while it was read: it goes on after 140000 bytes"),
    ];
    are_told(made, &expected);
}

#[test]
fn a_read_error_in_the_first_file_is_told_and_the_rest_goes_on() {
    let mut made = Made::new(&[("a", 4 * BLOCK), ("b", 2 * BLOCK), ("c", 5)]);
    made.broken = Some("a");
    are_told(made, &[("a", "cannot read: bad sector")]);
}

#[test]
fn fail_fast_ends_at_the_first_problem() {
    let mut made = Made::new(&[("a", 4 * BLOCK), ("b", 2 * BLOCK), ("c", 5)]);
    made.broken = Some("b");
    let (records, totals) = inventory(&mut made, &Plan { fail_fast: true, ..plan(2) });
    assert_eq!((records.len(), totals.unread, made.reads), (2, 1, 2));
}

#[test]
fn an_error_of_who_takes_the_records_ends_it() {
    let names: Vec<String> = (0..200_000).map(|number| format!("{number:06}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 10)).collect();
    let mut made = Made::new(&files);
    let ended = take(&mut made, &plan(2), &Gauge::default(), |_| Err("full"));
    assert!(matches!(ended, Err(TakeError::Record("full"))));
    assert!(made.reads < 150_000, "{} were read", made.reads);
}

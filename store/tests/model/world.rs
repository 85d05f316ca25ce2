//! The few crates that histories are about, and their bytes.

use crateferry_store::{BodyBuilder, CrateName, Facts, Release, ReleaseId, Sha256, VerifiedBytes};

const NAMES: [&str; 3] = ["ab", "serde", "Tokio-x"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.1.0", "2.0.0-rc.1"];

/// How many crates there are.
pub const CRATES: usize = NAMES.len();
/// How many releases there are: each version may come with one of two checksums.
pub const RELEASES: usize = CRATES * VERSIONS.len() * 2;

/// A line of an index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexRow {
    pub release: Release,
    pub yanked: bool,
}

/// A crate, as its index spells it.
pub fn crate_name(number: usize) -> CrateName {
    NAMES[number % CRATES].parse().unwrap()
}

/// All crates, in lower case.
pub fn names() -> impl Iterator<Item = CrateName> {
    (0..CRATES).map(|number| crate_name(number).lower())
}

/// A release by its number, below [`RELEASES`].
pub fn release(number: usize) -> Release {
    let (name, of_crate) = (number % CRATES, number / CRATES);
    let id = ReleaseId { name: crate_name(name), version: VERSIONS[of_crate % 3].parse().unwrap() };
    let checksum = Sha256::of(&content(&id, of_crate / 3 % 2));
    Release { id, checksum }
}

/// The release of a crate with this version and one of its two checksums.
pub fn release_of(name: usize, version: usize, other: bool) -> Release {
    release(name % CRATES + CRATES * (version % 3 + 3 * usize::from(other)))
}

/// Some are large enough for a collection to give back their room.
fn content(id: &ReleaseId, other: usize) -> Vec<u8> {
    let mut bytes = format!("crate file {other} of {} {}\n", id.name.lower(), id.version).into_bytes();
    let digest = Sha256::of(&bytes).0;
    let length = if digest[0].is_multiple_of(4) { 9000 } else { 60 + usize::from(digest[1]) * 4 };
    bytes.extend((0..length).map(|at| digest[at % 32] ^ (at / 32) as u8));
    bytes
}

/// The crate file of a release.
pub fn bytes(release: &Release) -> Vec<u8> {
    let known = (0..2).map(|other| content(&release.id, other));
    known.into_iter().find(|bytes| Sha256::of(bytes) == release.checksum).expect("there is no such release")
}

/// The same, compared with its checksum.
pub fn verified(release: &Release) -> VerifiedBytes {
    let bytes = bytes(release);
    let mut body = BodyBuilder::in_memory(bytes.len());
    body.push(&bytes).unwrap();
    body.finish(None).prove(release.checksum).unwrap()
}

/// What a crate file tells of itself.
pub fn facts(release: &Release) -> Facts {
    let commit = Some(Sha256::of(release.checksum.0.as_slice()).to_string()[..40].to_owned());
    Facts { version: 1, complete: true, commit, ..Facts::default() }
}

/// An index file with these lines.
pub fn index_text(rows: &[IndexRow]) -> Vec<u8> {
    let line = |IndexRow { release: Release { id, checksum }, yanked }: &IndexRow| {
        let (name, version) = (&id.name, &id.version);
        format!(
            r#"{{"name":"{name}","vers":"{version}","deps":[],"cksum":"{checksum}","features":{{}},"yanked":{yanked}}}"#
        )
    };
    rows.iter().map(|row| line(row) + "\n").collect::<String>().into_bytes()
}

/// The lines of an index file that [`index_text`] may have made; panics if they are not to the byte what it makes.
pub fn parse_index(text: &[u8]) -> Vec<IndexRow> {
    let line = |line: &[u8]| {
        let row: serde_json::Value = serde_json::from_slice(line).unwrap();
        let field = |name: &str| row[name].as_str().unwrap().to_owned();
        let id = ReleaseId { name: field("name").parse().unwrap(), version: field("vers").parse().unwrap() };
        let checksum = field("cksum").parse().unwrap();
        IndexRow { release: Release { id, checksum }, yanked: row["yanked"].as_bool().unwrap() }
    };
    let rows: Vec<IndexRow> = text.split(|byte| *byte == b'\n').filter(|text| !text.is_empty()).map(line).collect();
    assert!(index_text(&rows) == text, "an index file that nobody wrote: {}", String::from_utf8_lossy(text));
    rows
}

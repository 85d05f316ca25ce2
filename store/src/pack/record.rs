//! The group record: what a group holds and which changes of state came with it.
//!
//! JSON Lines. The first line is the [`Header`], then one line per [`Member`], then one per [`Event`], then one with the
//! BLAKE3 of all lines before it: the last record of a mirror has no other that would vouch for it. The ledger is moved by
//! nothing else: the running writer, the adoption of a torn tail and `rebuild` all apply records.

use std::io::Write as _;

use serde::{Deserialize, Serialize};

use crate::id::{Blake3, BlobId, CrateName, Release, ReleaseId, Sha256, Version};
use crate::selection::Selection;

/// The format of packs and records that this program writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 1;

/// The first line of a group record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format of the record: 1.
    pub format: u32,
    /// Counts records, from 1 on, across all packs.
    pub sequence: u64,
    /// The BLAKE3 of the record before this one; zeros for the first.
    pub previous: Blake3,
    /// The pack that holds the record.
    pub pack: u32,
    /// The mirror's epoch.
    pub epoch: u32,
    /// The mirror's id: 32 hexadecimal digits.
    pub mirror: String,
}

/// A member of the group, as it lies in the pack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its true name, which the tar header may abbreviate to `objects/SHA256`.
    pub name: String,
    /// Where its bytes begin, behind its tar header.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// The SHA-256 of these bytes.
    pub sha256: Sha256,
}

/// A text that lies in a pack as `index/SHA256.gz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextRef {
    /// The SHA-256 of the text, which names the member.
    pub sha256: Sha256,
    /// The BLAKE3 of the text, which the generation digest covers.
    pub blake3: Blake3,
}

/// A change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The selection is now this one.
    Selection {
        /// All that is selected, not only what was added.
        selection: Selection,
    },
    /// An index file of the upstream has these bytes now.
    Upstream {
        /// The crate's name in lower case.
        name: CrateName,
        /// The git blob id of the text.
        blob: BlobId,
        /// The validator that came with it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        etag: Option<Box<str>>,
        /// The text; absent if only the validator is new.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<TextRef>,
    },
    /// The upstream has no such index file any more.
    UpstreamGone {
        /// The crate's name in lower case.
        name: CrateName,
    },
    /// The upstream was seen completely in this state.
    Mark {
        /// What the upstream's module needs to recognise the state again.
        mark: serde_json::Value,
    },
    /// Releases that are to be fetched.
    Wanted {
        /// The crate, as its index spells it.
        name: CrateName,
        /// Versions and their checksums.
        releases: Vec<(Version, Sha256)>,
        /// Seconds since 1970.
        at: u64,
    },
    /// A wanted release was asked for and did not come.
    Tried {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
        /// Why it did not come.
        reason: String,
        /// Seconds since 1970.
        at: u64,
        /// Not to be asked for again before this time, in seconds since 1970.
        due: u64,
    },
    /// A wanted release that a rule keeps out.
    Refused {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
        /// Which rule.
        reason: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// Refused and tried releases are to be asked for again at once.
    Retry {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
    },
    /// The bytes of a held release are damaged, or not where they should be; it counts as not held from here on.
    Lost {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
        /// How.
        reason: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// A release that the policy or an operator leaves out.
    Excluded {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
        /// `operator` or the policy's rule.
        by: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// A held release is no longer in the upstream's index; its row stays until the deletion is approved.
    Gone {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
        /// Seconds since 1970.
        at: u64,
    },
    /// A release that was gone is in the upstream's index again.
    Back {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
    },
    /// A tombstone: the release leaves the index, its bytes stay for the grace time.
    Withdrawn {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
        /// Seconds since 1970.
        at: u64,
        /// Why, and by whose word.
        #[serde(flatten)]
        cause: Cause,
    },
    /// The upstream promises another checksum for a version that was seen before.
    Checksum {
        /// The crate.
        name: CrateName,
        /// The version.
        version: Version,
        /// The checksum promised before.
        was: Sha256,
        /// The checksum promised now.
        now: Sha256,
        /// Seconds since 1970.
        at: u64,
    },
    /// The mirror withholds a crate file, or all of a crate, for a reason of its own.
    Masked {
        /// The crate's name in lower case.
        name: CrateName,
        /// The version; all of them if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
        /// Why, in the words of an operator.
        reason: String,
        /// Seconds since 1970.
        at: u64,
    },
    /// A mask is taken away.
    Unmasked {
        /// The crate's name in lower case.
        name: CrateName,
        /// The version that the mask has, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Version>,
    },
    /// The facts among the members that have the checksum of this release are its own; its crate file came earlier.
    Described {
        /// Which.
        #[serde(flatten)]
        release: ReleaseRef,
    },
    /// Something in the upstream's index that cannot be used.
    Report {
        /// The index file.
        path: String,
        /// The line, from 1 on; 0 for the whole file.
        line: u64,
        /// What is wrong with it.
        problem: String,
        /// Something that was selected is lacking because of it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lacking: bool,
    },
    /// Problems reported for an index file earlier are no longer there.
    Cleared {
        /// The index file.
        path: String,
    },
    /// The next generation will serve this text for a crate.
    Staged {
        /// The crate's name in lower case.
        name: CrateName,
        /// The text to serve; none if the crate leaves the index.
        text: Option<TextRef>,
        /// How many rows the text has.
        rows: u64,
        /// The change of the crate that the text was composed after.
        seen: u64,
    },
    /// An index text among the members came in a bundle; a later event stages it.
    Arrived {
        /// The text.
        text: TextRef,
    },
    /// The next generation has this advisory database, which is among the members or came before.
    Advisories {
        /// Which.
        #[serde(flatten)]
        database: AdvisoryDb,
    },
    /// Nothing is staged any more.
    Unstaged,
    /// The publication in this record was made by the mirror's origin and came in a bundle.
    Bundle {
        /// The bundle's id.
        bundle: String,
        /// The origin's generations that it leads through.
        through: Vec<Point>,
    },
    /// All that is staged is served from now on.
    Publish {
        /// What was published.
        generation: Generation,
    },
    /// `rebuild` began a new epoch.
    Epoch {
        /// Its number.
        epoch: u32,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// About how many bytes the event takes in a record.
    pub(crate) fn weight(&self) -> u64 {
        const PLAIN: u64 = 256;
        const RELEASE: u64 = 96;
        match self {
            Event::Wanted { releases, .. } => PLAIN + RELEASE * releases.len() as u64,
            Event::Bundle { through, .. } => PLAIN + RELEASE * through.len() as u64,
            Event::Selection { selection } => {
                let sizes = selection.every_set().map(|set| {
                    let exact: usize = set.releases.values().map(std::collections::BTreeSet::len).sum();
                    set.crates.len() + exact + 2 * set.roots.len()
                });
                PLAIN + RELEASE * sizes.sum::<usize>() as u64
            }
            _ => PLAIN,
        }
    }
}

/// Why a release is withdrawn.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// In words; nothing if the upstream deleted it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub because: String,
    /// An operator said so: it is not wanted again, whatever the upstream says, until they take that back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_operator: bool,
}

/// Names a release in an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRef {
    /// The crate, as its index spells it.
    pub name: CrateName,
    /// The version.
    pub version: Version,
    /// The promised checksum.
    pub checksum: Sha256,
}

impl From<Release> for ReleaseRef {
    fn from(release: Release) -> Self {
        ReleaseRef { name: release.id.name, version: release.id.version, checksum: release.checksum }
    }
}

impl From<ReleaseRef> for Release {
    fn from(release: ReleaseRef) -> Self {
        Release { id: ReleaseId { name: release.name, version: release.version }, checksum: release.checksum }
    }
}

/// Names a generation, and what it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Counts disasters.
    pub epoch: u32,
    /// The generation's number.
    pub generation: u64,
    /// The root of the hash tree over all served index files.
    pub digest: Blake3,
}

impl Point {
    /// What generations are ordered by.
    pub fn order(&self) -> (u32, u64) {
        (self.epoch, self.generation)
    }
}

impl Generation {
    /// Its name.
    pub fn point(&self) -> Point {
        Point { epoch: self.epoch, generation: self.number, digest: self.digest }
    }
}

/// A database of security advisories, as its repository had it at a commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvisoryDb {
    /// The SHA-256 of the archive of its files, which names the member.
    pub sha256: Sha256,
    /// The commit, in hexadecimal digits.
    pub commit: String,
    /// When it was committed, in seconds since 1970.
    pub committed_at: u64,
    /// How many advisories it has.
    pub advisories: u64,
}

/// One published state of the mirror.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Grows by one with each publication and never restarts.
    pub number: u64,
    /// Counts disasters; generations are ordered by epoch, then number.
    pub epoch: u32,
    /// The root of the hash tree over all served index files.
    pub digest: Blake3,
    /// The digest of the generation before, if there was one.
    pub previous: Option<Blake3>,
    /// Seconds since 1970.
    pub published_at: u64,
    /// The upstream's state that it was made from, as far as it is known.
    pub upstream: Option<serde_json::Value>,
    /// What is served.
    pub counts: Counts,
    /// The advisory database that goes with it, if the mirror has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisories: Option<AdvisoryDb>,
}

/// What a generation serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Index files.
    pub crates: u64,
    /// Rows in them.
    pub rows: u64,
}

/// A group record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRecord {
    /// Its first line.
    pub header: Header,
    /// The members of the group.
    pub members: Vec<Member>,
    /// The changes that came with it.
    pub events: Vec<Event>,
}

/// A group record that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A line is not what it should be.
    #[error("line {line} of the group record is damaged")]
    Line {
        /// The line, from 1 on.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// There is no first line.
    #[error("the group record is empty")]
    Empty,
    /// Its last line does not vouch for the others.
    #[error("the group record is not what its last line says")]
    Digest,
    /// It was written by a newer program.
    #[error("the group record has format {0}, this program reads up to {FORMAT}")]
    Newer(u32),
}

impl GroupRecord {
    /// The record's text.
    pub(crate) fn to_text(&self) -> Vec<u8> {
        let mut text = Vec::with_capacity(256 + 220 * self.members.len() + 200 * self.events.len());
        push_line(&mut text, &self.header);
        self.members.iter().for_each(|member| push_line(&mut text, member));
        self.events.iter().for_each(|event| push_line(&mut text, event));
        let last = last_line(&text);
        text.extend_from_slice(&last);
        text
    }

    /// Reads a record's text.
    pub fn parse(text: &[u8]) -> Result<GroupRecord, RecordError> {
        let first = text.split(|&b| b == b'\n').next().filter(|line| !line.is_empty()).ok_or(RecordError::Empty)?;
        let header: Header = parse_line(0, first)?;
        if header.format > FORMAT {
            return Err(RecordError::Newer(header.format));
        }
        let lines = vouched_for(text).ok_or(RecordError::Digest)?.split(|&b| b == b'\n');
        let mut record = GroupRecord { header, members: Vec::new(), events: Vec::new() };
        for (number, line) in lines.enumerate().skip(1).filter(|(_, line)| !line.is_empty()) {
            if line.starts_with(b"{\"event\"") {
                record.events.push(parse_line(number, line)?);
            } else {
                record.members.push(parse_line(number, line)?);
            }
        }
        Ok(record)
    }
}

/// The last line of a group record, behind these.
fn last_line(lines: &[u8]) -> Vec<u8> {
    format!("{{\"blake3\":\"{}\"}}\n", Blake3::of(lines)).into_bytes()
}

/// The lines before the last one, if that one has their digest.
fn vouched_for(text: &[u8]) -> Option<&[u8]> {
    let end = text.strip_suffix(b"\n")?.iter().rposition(|&b| b == b'\n')? + 1;
    let (lines, last) = text.split_at(end);
    (last == last_line(lines)).then_some(lines)
}

fn push_line(text: &mut Vec<u8>, line: &impl Serialize) {
    serde_json::to_writer(&mut *text, line).expect("records have string keys and write to memory");
    text.write_all(b"\n").expect("memory takes every write");
}

fn parse_line<'a, T: Deserialize<'a>>(number: usize, line: &'a [u8]) -> Result<T, RecordError> {
    serde_json::from_slice(line).map_err(|source| RecordError::Line { line: number + 1, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_what_it_writes() {
        let release = ReleaseRef {
            name: "serde".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            checksum: Sha256::of(b"serde"),
        };
        let record = GroupRecord {
            header: Header {
                format: FORMAT,
                sequence: 3,
                previous: Blake3::of(b"2"),
                pack: 1,
                epoch: 0,
                mirror: "0".repeat(32),
            },
            members: vec![Member { name: "index/x.gz".into(), offset: 512, length: 7, sha256: Sha256::of(b"x") }],
            events: vec![
                Event::Wanted {
                    name: "serde".parse().unwrap(),
                    releases: vec![("1.0.0".parse().unwrap(), Sha256::of(b"serde"))],
                    at: 5,
                },
                Event::Tried { release: release.clone(), reason: "404".into(), at: 9, due: 9 },
                Event::Gone { release, at: 10 },
            ],
        };
        let text = record.to_text();
        assert_eq!(GroupRecord::parse(&text).unwrap(), record);
        for bit in 0..text.len() * 8 {
            let mut bad = text.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(GroupRecord::parse(&bad).is_err(), "bit {bit} of {}", text.len() * 8);
        }
        assert!(GroupRecord::parse(&text[..text.len() - 1]).is_err());
    }

    #[test]
    fn a_newer_record_is_refused_and_named() {
        let text =
            format!(r#"{{"format":2,"sequence":1,"previous":"{}","pack":1,"epoch":0,"mirror":"m"}}"#, Blake3([0; 32]));
        assert!(matches!(GroupRecord::parse(text.as_bytes()), Err(RecordError::Newer(2))));
    }
}

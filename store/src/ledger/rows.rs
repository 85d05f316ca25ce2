//! Keys and rows of the databases, to the byte.
//!
//! Integers are little-endian. Every row begins with a version byte and ends with the first four bytes of the BLAKE3 of
//! what comes before and of its key: redb does not notice a flipped bit by itself, so each row is checked when it is read.

use crate::Place;
use crate::facts::{About, FactsPlace};
use crate::id::{Blake3, BlobId, CrateName, Identity, Release, ReleaseId, Sha256};
use crate::pack::TextRef;
use crate::state::{Row, State};

const VERSION: u8 = 1;

/// A key or row that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a row of table {table} is damaged")]
pub struct RowError {
    pub(crate) table: &'static str,
}

/// A text and where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    /// Its digests.
    pub digests: TextRef,
    /// Its member of a pack.
    pub place: Place,
}

/// What the ledger knows of an index file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathRow {
    /// The upstream's file, if it has one.
    pub upstream: Option<(Identity, Text)>,
    /// The file that is served, if one is.
    pub served: Option<Text>,
    /// How many rows are served.
    pub rows: u64,
}

/// What the next generation will serve for a crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StagedRow {
    pub(crate) text: Option<Text>,
    pub(crate) rows: u64,
    pub(crate) seen: u64,
}

/// `lower-name \0 version \0 sha256`
pub(crate) fn release_key(release: &Release) -> Vec<u8> {
    let mut key = version_prefix(&release.id);
    key.extend_from_slice(&release.checksum.0);
    key
}

/// `lower-name \0 version \0`: all checksums of a version lie behind it.
pub(crate) fn version_prefix(id: &ReleaseId) -> Vec<u8> {
    let mut key = name_prefix(&id.name);
    key.extend_from_slice(id.version.as_str().as_bytes());
    key.push(0);
    key
}

/// `lower-name \0`: all releases of a crate lie behind it.
pub(crate) fn name_prefix(name: &CrateName) -> Vec<u8> {
    let mut key = Vec::with_capacity(128);
    key.extend(name.as_str().bytes().map(|byte| byte.to_ascii_lowercase()));
    key.push(0);
    key
}

/// The smallest key that does not begin with `prefix`, which ends with a zero.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    *end.last_mut().expect("prefixes end with a zero") = 1;
    end
}

/// Reads a release key; the name is in lower case.
pub(crate) fn parse_release_key(key: &[u8]) -> Option<Release> {
    let split = key.len().checked_sub(32)?;
    let (texts, checksum) = key.split_at(split);
    let texts = std::str::from_utf8(texts.strip_suffix(b"\0")?).ok()?;
    let (name, version) = texts.split_once('\0')?;
    let id = ReleaseId { name: name.parse().ok()?, version: version.parse().ok()? };
    Some(Release { id, checksum: Sha256(checksum.try_into().ok()?) })
}

impl Row {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut row = Encoder::new();
        row.byte(match self.state {
            State::Wanted => 0,
            State::Stored => 1,
            State::Refused => 2,
            State::Withdrawn => 3,
            State::Excluded => 4,
        });
        row.byte(u8::from(self.gone) | u8::from(self.by_operator) << 1 | u8::from(self.place.is_some()) << 2);
        row.u16(self.tries);
        row.place(&self.place.unwrap_or(Place { pack: 0, offset: 0, length: 0 }));
        row.u64(self.first);
        row.u64(self.last);
        row.u64(self.due);
        row.text(self.name.as_str());
        row.text(&self.reason);
        row.finish(key)
    }

    pub(crate) fn decode(key: &[u8], row: &[u8]) -> Option<Row> {
        let mut row = Decoder::new(key, row)?;
        let state = match row.byte()? {
            0 => State::Wanted,
            1 => State::Stored,
            2 => State::Refused,
            3 => State::Withdrawn,
            4 => State::Excluded,
            _ => return None,
        };
        let flags = row.byte()?;
        let tries = row.u16()?;
        let place = row.place()?;
        Some(Row {
            state,
            gone: flags & 1 != 0,
            by_operator: flags & 2 != 0,
            place: (flags & 4 != 0).then_some(place),
            tries,
            first: row.u64()?,
            last: row.u64()?,
            due: row.u64()?,
            name: row.text()?.parse().ok()?,
            reason: row.text()?.to_owned(),
        })
    }
}

impl PathRow {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut row = Encoder::new();
        row.byte(u8::from(self.upstream.is_some()) | u8::from(self.served.is_some()) << 1);
        row.u64(self.rows);
        if let Some((identity, text)) = &self.upstream {
            row.bytes(&identity.blob.0);
            row.text(identity.etag.as_deref().unwrap_or_default());
            row.index_text(text);
        }
        if let Some(text) = &self.served {
            row.index_text(text);
        }
        row.finish(key)
    }

    pub(crate) fn decode(key: &[u8], row: &[u8]) -> Option<PathRow> {
        let mut row = Decoder::new(key, row)?;
        let flags = row.byte()?;
        let rows = row.u64()?;
        let mut path = PathRow { rows, ..PathRow::default() };
        if flags & 1 != 0 {
            let blob = BlobId(row.array()?);
            let etag = Some(row.text()?).filter(|etag| !etag.is_empty()).map(Into::into);
            path.upstream = Some((Identity { blob, etag }, row.index_text()?));
        }
        if flags & 2 != 0 {
            path.served = Some(row.index_text()?);
        }
        Some(path)
    }
}

impl StagedRow {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut row = Encoder::new();
        row.byte(u8::from(self.text.is_some()));
        row.u64(self.rows);
        row.u64(self.seen);
        if let Some(text) = &self.text {
            row.index_text(text);
        }
        row.finish(key)
    }

    pub(crate) fn decode(key: &[u8], row: &[u8]) -> Option<StagedRow> {
        let mut row = Decoder::new(key, row)?;
        let has_text = row.byte()? != 0;
        let (rows, seen) = (row.u64()?, row.u64()?);
        Some(StagedRow { text: if has_text { Some(row.index_text()?) } else { None }, rows, seen })
    }
}

impl FactsPlace {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut row = Encoder::new();
        row.byte(u8::from(self.complete));
        row.place(&self.place);
        row.bytes(&self.sha256.0);
        row.finish(key)
    }

    pub(crate) fn decode(key: &[u8], row: &[u8]) -> Option<FactsPlace> {
        let mut row = Decoder::new(key, row)?;
        Some(FactsPlace { complete: row.byte()? != 0, place: row.place()?, sha256: Sha256(row.array()?) })
    }
}

impl About {
    pub(crate) fn encode(&self, key: &[u8]) -> Vec<u8> {
        let mut row = Encoder::new();
        row.text(&self.description);
        row.text(&self.keywords);
        row.text(&self.license);
        row.finish(key)
    }

    pub(crate) fn decode(key: &[u8], row: &[u8]) -> Option<About> {
        let mut row = Decoder::new(key, row)?;
        let mut text = || row.text().map(str::to_owned);
        Some(About { description: text()?, keywords: text()?, license: text()? })
    }
}

/// What the ledger knows of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackRow {
    /// Its durable length in bytes.
    pub(crate) length: u64,
    pub(crate) sealed: bool,
}

impl PackRow {
    pub(crate) fn encode(self, number: u32) -> Vec<u8> {
        let mut row = Encoder::new();
        row.u64(self.length);
        row.byte(u8::from(self.sealed));
        row.finish(&number.to_le_bytes())
    }

    pub(crate) fn decode(number: u32, row: &[u8]) -> Option<PackRow> {
        let mut row = Decoder::new(&number.to_le_bytes(), row)?;
        Some(PackRow { length: row.u64()?, sealed: row.byte()? != 0 })
    }
}

/// A small fact as JSON, with its check behind it.
pub(crate) fn encode_json(key: &[u8], value: &impl serde::Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("plain fields");
    let check = seal(key, &text);
    text.extend_from_slice(&check);
    text
}

/// Reads a small fact.
pub(crate) fn decode_json<T: serde::de::DeserializeOwned>(key: &[u8], row: &[u8]) -> Option<T> {
    let (text, check) = row.split_last_chunk::<4>()?;
    (seal(key, text) == *check).then(|| serde_json::from_slice(text).ok()).flatten()
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn new() -> Self {
        let mut row = Vec::with_capacity(128);
        row.push(VERSION);
        Encoder(row)
    }

    fn byte(&mut self, value: u8) {
        self.0.push(value);
    }

    fn bytes(&mut self, value: &[u8]) {
        self.0.extend_from_slice(value);
    }

    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    fn text(&mut self, value: &str) {
        let length = value.floor_char_boundary(usize::from(u16::MAX));
        self.u16(length as u16);
        self.bytes(&value.as_bytes()[..length]);
    }

    fn place(&mut self, place: &Place) {
        self.bytes(&place.pack.to_le_bytes());
        self.u64(place.offset);
        self.u64(place.length);
    }

    fn index_text(&mut self, text: &Text) {
        self.bytes(&text.digests.sha256.0);
        self.bytes(&text.digests.blake3.0);
        self.place(&text.place);
    }

    fn finish(mut self, key: &[u8]) -> Vec<u8> {
        let check = seal(key, &self.0);
        self.bytes(&check);
        self.0
    }
}

fn seal(key: &[u8], row: &[u8]) -> [u8; 4] {
    let digest = blake3::Hasher::new().update(row).update(key).finalize();
    digest.as_bytes()[..4].try_into().expect("four bytes")
}

struct Decoder<'a>(&'a [u8]);

impl<'a> Decoder<'a> {
    fn new(key: &[u8], row: &'a [u8]) -> Option<Self> {
        let (row, check) = row.split_last_chunk::<4>()?;
        let body = (seal(key, row) == *check).then_some(row)?;
        let (version, body) = body.split_first()?;
        (*version == VERSION).then_some(Decoder(body))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::from(self.u16()?);
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(head).ok()
    }

    fn place(&mut self) -> Option<Place> {
        Some(Place { pack: u32::from_le_bytes(self.array()?), offset: self.u64()?, length: self.u64()? })
    }

    fn index_text(&mut self) -> Option<Text> {
        let digests = TextRef { sha256: Sha256(self.array()?), blake3: Blake3(self.array()?) };
        Some(Text { digests, place: self.place()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> Text {
        let digests = TextRef { sha256: Sha256::of(b"a"), blake3: Blake3::of(b"a") };
        Text { digests, place: Place { pack: 9, offset: 1 << 33, length: 77 } }
    }

    fn row() -> Row {
        Row {
            state: State::Refused,
            name: "Inflector".parse().unwrap(),
            place: Some(Place { pack: 3, offset: 5, length: 6 }),
            gone: true,
            by_operator: true,
            tries: 7,
            first: 8,
            last: 9,
            due: 10,
            reason: "too large".into(),
        }
    }

    #[test]
    fn rows_read_what_they_write() {
        assert_eq!(Row::decode(b"key", &row().encode(b"key")), Some(row()));
        let identity = Identity { blob: BlobId::of(b"a"), etag: Some("\"x\"".into()) };
        let path = PathRow { upstream: Some((identity, text())), served: Some(text()), rows: 4 };
        assert_eq!(PathRow::decode(b"key", &path.encode(b"key")), Some(path));
        assert_eq!(PathRow::decode(b"key", &PathRow::default().encode(b"key")), Some(PathRow::default()));
        let staged = StagedRow { text: Some(text()), rows: 2, seen: 3 };
        assert_eq!(StagedRow::decode(b"key", &staged.encode(b"key")), Some(staged));
        let facts = FactsPlace { complete: true, place: text().place, sha256: Sha256::of(b"facts") };
        assert_eq!(FactsPlace::decode(b"key", &facts.encode(b"key")), Some(facts));
        let about = About { description: "d".into(), keywords: "k".into(), license: String::new() };
        assert_eq!(About::decode(b"key", &about.encode(b"key")), Some(about));
    }

    #[test]
    fn every_flipped_bit_of_a_row_is_noticed() {
        let good = row().encode(b"key");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Row::decode(b"key", &bad), None, "bit {bit}");
        }
        assert_eq!(Row::decode(b"kez", &good), None, "a flipped bit of the key");
        assert_eq!(Row::decode(b"key", &[]), None);
    }

    #[test]
    fn keys_read_what_they_write_and_sort_by_crate() {
        let release = |name: &str, version: &str| Release {
            id: ReleaseId { name: name.parse().unwrap(), version: version.parse().unwrap() },
            checksum: Sha256([0; 32]),
        };
        let key = release_key(&release("Serde", "1.0.0"));
        assert_eq!(parse_release_key(&key), Some(release("serde", "1.0.0")));
        let prefix = name_prefix(&"serde".parse().unwrap());
        assert!(key.as_slice() >= prefix.as_slice() && key < prefix_end(&prefix));
        let other = release_key(&release("serde-json", "1.0.0"));
        assert!(!(other.as_slice() >= prefix.as_slice() && other < prefix_end(&prefix)));
    }
}

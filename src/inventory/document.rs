//! What a document says, field by field.

use std::fmt;

use crateferry_pipeline::inventory::{Algorithm, Digest, FileName, PERCENT, Record, Recorded};
use jiff::Timestamp;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::keys;

/// The version of the documents' schema. A reader refuses any other.
pub const SCHEMA_VERSION: u32 = 1;

/// All but the files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// [`SCHEMA_VERSION`]
    pub schema_version: u32,
    /// The folder's name.
    pub directory: String,
    /// How a name that is no text was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory_encoding: Option<&'static str>,
    /// Whether all could be read.
    pub complete: bool,
    /// The documents themselves, if they lie in the folder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<Name>,
    /// Of all contents one after the other; none if not all could be read.
    pub hashes: Hashes,
    /// Where the signature is, if there is one.
    pub signature: Option<SignatureNote>,
}

/// A name as documents write it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Name {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_encoding: Option<Encoding>,
}

/// How a name that is no text was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    Percent,
}

/// Which signature goes with a document. It lies beside it, since it is over the document's exact bytes.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureNote {
    /// `minisign` or `openpgp`
    pub format: keys::Kind,
    /// The name of the file that has it: the document's with `.minisig` or `.asc` behind it.
    pub file: String,
    /// The key's id.
    pub key_id: String,
}

/// One entry of `files`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_encoding: Option<Encoding>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Of a file: its length in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Of a file: when it was last changed, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_encoding: Option<Encoding>,
    /// Of what could not be read: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Of a file: its digests.
    #[serde(default, skip_serializing_if = "Hashes::is_empty")]
    pub hashes: Hashes,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    File,
    Link,
    Special,
    Unread,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::File => "a file",
            Kind::Link => "a link",
            Kind::Special => "a special file",
            Kind::Unread => "unread",
        })
    }
}

impl Name {
    pub fn of(name: &FileName) -> Self {
        let (path, path_encoding) = write(name);
        Name { path, path_encoding }
    }

    /// The name itself; none if it is written in a way that no name is.
    pub fn read(&self) -> Option<FileName> {
        FileName::read(&self.path, self.path_encoding.is_some())
    }
}

impl Entry {
    pub fn of(record: &Record) -> Self {
        let (path, path_encoding) = write(&record.name);
        let mut entry = Entry {
            path,
            path_encoding,
            kind: Kind::Special,
            size: None,
            modified: None,
            target: None,
            target_encoding: None,
            problem: None,
            hashes: Hashes::default(),
        };
        match &record.what {
            Recorded::File { size, modified, digests } => {
                entry.kind = Kind::File;
                entry.size = Some(*size);
                let timestamp = modified.and_then(|time| Timestamp::try_from(time).ok());
                entry.modified = timestamp.map(|time| time.to_string());
                entry.hashes = Hashes(digests.clone());
            }
            Recorded::Link { target } => {
                let (target, encoding) = write(target);
                entry.kind = Kind::Link;
                (entry.target, entry.target_encoding) = (Some(target), encoding);
            }
            Recorded::Special => {}
            Recorded::Unread(problem) => {
                entry.kind = Kind::Unread;
                entry.problem = Some(problem.to_string());
            }
        }
        entry
    }

    /// The name; none if it is written in a way that no name is.
    pub fn name(&self) -> Option<FileName> {
        FileName::read(&self.path, self.path_encoding.is_some())
    }

    /// What a link says.
    pub fn target(&self) -> Option<FileName> {
        FileName::read(self.target.as_ref()?, self.target_encoding.is_some())
    }
}

fn write(name: &FileName) -> (String, Option<Encoding>) {
    let (text, is_encoded) = name.written();
    (text.into_owned(), is_encoded.then_some(Encoding::Percent))
}

/// A header's directory and how it was written.
pub fn directory(name: &FileName) -> (String, Option<&'static str>) {
    let (text, is_encoded) = name.written();
    (text.into_owned(), is_encoded.then_some(PERCENT))
}

/// Digests by algorithm: a map from names to hexadecimal digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hashes(pub Vec<(Algorithm, Digest)>);

impl Hashes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The digest of one algorithm.
    pub fn get(&self, algorithm: Algorithm) -> Option<&Digest> {
        self.0.iter().find(|(of, _)| *of == algorithm).map(|(_, digest)| digest)
    }
}

impl Serialize for Hashes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(algorithm, digest)| (algorithm, digest)))
    }
}

impl<'de> Deserialize<'de> for Hashes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HashesVisitor)
    }
}

struct HashesVisitor;

impl<'de> Visitor<'de> for HashesVisitor {
    type Value = Hashes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("digests by algorithm")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Hashes, A::Error> {
        let mut hashes = Hashes::default();
        while let Some((algorithm, digest)) = map.next_entry::<Algorithm, Digest>()? {
            if hashes.get(algorithm).is_some() || digest.as_bytes().len() != algorithm.length() {
                return Err(A::Error::custom(format_args!("{algorithm} is there twice or has a wrong length")));
            }
            hashes.0.push((algorithm, digest));
        }
        Ok(hashes)
    }
}

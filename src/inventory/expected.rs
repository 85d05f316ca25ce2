//! A document that is read again. It may come from anywhere, so nothing in it is believed or becomes a path; its entries go to a
//! nameless file as they are read.

use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use crateferry_pipeline::inventory::{Algorithms, FileName};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::document::{Encoding, Entry, Hashes, Kind, Name, SCHEMA_VERSION};
use super::spool::{Spool, Spooled};

/// A document that is none, or one that is not understood.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} as an inventory", path.display())]
pub struct ReadError {
    path: PathBuf,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a document says.
pub struct Expected {
    /// The folder's name.
    pub directory: FileName,
    /// What is no part of it.
    pub left_out: Vec<FileName>,
    /// Of the whole.
    pub hashes: Hashes,
    /// The entries, in path order.
    pub entries: Spooled,
    /// The algorithms that occur in entries.
    pub per_file: Algorithms,
}

impl Expected {
    /// Reads a document; its entries wait in `spool`.
    pub fn read(path: &Path, file: &File, spool: Spool) -> Result<Expected, ReadError> {
        // What bounds a document is the number of its files, and that has no bound. What is nested, or stands for something else, has no place in it.
        let budget = serde_saphyr::budget! {
            max_reader_input_bytes: None,
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_aliases: 0,
            max_anchors: 0,
            max_merge_keys: 0,
            max_documents: 1,
            max_depth: 8,
        };
        let options = serde_saphyr::options! { budget: budget, with_snippet: false };
        let read =
            serde_saphyr::with_deserializer_from_reader_with_options(BufReader::new(file), options, |document| {
                document.deserialize_map(DocumentVisitor { spool })
            });
        read.map_err(|error| ReadError { path: path.to_owned(), source: error.into() })
    }
}

struct DocumentVisitor {
    spool: Spool,
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Field {
    SchemaVersion,
    Directory,
    DirectoryEncoding,
    Complete,
    LeftOut,
    Hashes,
    Signature,
    Files,
}

#[derive(Default)]
struct Parts {
    version: Option<u32>,
    directory: Option<String>,
    encoding: Option<Encoding>,
    left_out: Vec<Name>,
    hashes: Option<Hashes>,
    per_file: Option<Algorithms>,
}

impl<'de> Visitor<'de> for DocumentVisitor {
    type Value = Expected;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an inventory")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Expected, A::Error> {
        let mut parts = Parts::default();
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::SchemaVersion => parts.version = Some(known(map.next_value()?)?),
                Field::Directory => parts.directory = Some(map.next_value()?),
                Field::DirectoryEncoding => parts.encoding = Some(map.next_value()?),
                Field::LeftOut => parts.left_out = map.next_value()?,
                Field::Hashes => parts.hashes = Some(map.next_value()?),
                Field::Complete | Field::Signature => drop(map.next_value::<IgnoredAny>()?),
                Field::Files => parts.per_file = Some(map.next_value_seed(FilesSeed(&mut self.spool))?),
            }
        }
        parts.expected(self.spool)
    }
}

fn known<E: serde::de::Error>(version: u32) -> Result<u32, E> {
    if version == SCHEMA_VERSION {
        return Ok(version);
    }
    Err(E::custom(format_args!("its schemaVersion is {version}, this program knows {SCHEMA_VERSION}")))
}

impl Parts {
    fn expected<E: serde::de::Error>(self, spool: Spool) -> Result<Expected, E> {
        self.version.ok_or_else(|| E::missing_field("schemaVersion"))?;
        let directory = self.directory.ok_or_else(|| E::missing_field("directory"))?;
        let directory = FileName::read(&directory, self.encoding.is_some());
        let left_out: Option<_> = self.left_out.iter().map(Name::read).collect();
        let no_name = || E::custom("a name is not percent-encoded as it says");
        Ok(Expected {
            directory: directory.ok_or_else(no_name)?,
            left_out: left_out.ok_or_else(no_name)?,
            hashes: self.hashes.ok_or_else(|| E::missing_field("hashes"))?,
            entries: spool.finish().map_err(E::custom)?,
            per_file: self.per_file.ok_or_else(|| E::missing_field("files"))?,
        })
    }
}

struct FilesSeed<'a>(&'a mut Spool);

impl<'de> DeserializeSeed<'de> for FilesSeed<'_> {
    type Value = Algorithms;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Algorithms, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for FilesSeed<'_> {
    type Value = Algorithms;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut files: A) -> Result<Algorithms, A::Error> {
        let mut algorithms: Option<Algorithms> = None;
        let mut before: Option<FileName> = None;
        while let Some(entry) = files.next_element::<Entry>()? {
            let name = entry.name().ok_or_else(|| A::Error::custom("a path is not percent-encoded as it says"))?;
            if before.is_some_and(|before| before >= name) {
                return Err(A::Error::custom(format_args!("{name} is not in path order, or is there twice")));
            }
            if entry.kind == Kind::File {
                let of_this = entry.hashes.0.iter().map(|(algorithm, _)| *algorithm).collect();
                // A file with fewer digests than others would be compared with less than the rest.
                if *algorithms.get_or_insert_with(|| Algorithms::clone(&of_this)) != of_this || entry.size.is_none() {
                    return Err(A::Error::custom(format_args!(
                        "{name} has no size, or not the digests that others have"
                    )));
                }
            }
            self.0.push(&entry).map_err(A::Error::custom)?;
            before = Some(name);
        }
        Ok(algorithms.unwrap_or_default())
    }
}

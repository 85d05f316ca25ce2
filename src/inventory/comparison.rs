//! What a document says against what is there: two lists in the same order, walked side by side.

use std::fmt;
use std::io;
use std::iter::Peekable;

use crateferry_pipeline::inventory::{Algorithm, Digest, FileName, Record, Recorded};
use serde::Serialize;

use super::document::{Entry, Hashes, Kind, Name};

/// Something that is not as the document says.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Where; none is the whole.
    #[serde(flatten)]
    name: Option<Name>,
    #[serde(skip)]
    shown: String,
    #[serde(flatten)]
    how: How,
}

/// In which way something differs.
#[derive(Debug, Serialize)]
#[serde(tag = "difference", rename_all = "camelCase")]
enum How {
    /// The document has it alone.
    Missing,
    /// The document does not have it.
    Extra,
    /// Something else has its name.
    Type { expected: Kind, found: Kind },
    /// It has another length, and so other bytes.
    Size { expected: u64, found: u64 },
    /// It has the same length and other bytes.
    Digest { algorithms: Vec<Algorithm> },
    /// A link says something else.
    Target { expected: String, found: String },
    /// The document says that it could not be read then.
    NotInventoried,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.shown)?;
        match &self.how {
            How::Missing => f.write_str("missing"),
            How::Extra => f.write_str("extra: the inventory does not have it"),
            How::Type { expected, found } => write!(f, "it was {expected}, now it is {found}"),
            How::Size { expected, found } => write!(f, "its size was {expected}, now {found}"),
            How::Digest { algorithms } => {
                let names: Vec<_> = algorithms.iter().map(|algorithm| algorithm.name()).collect();
                write!(f, "other bytes: {} differ", names.join(", "))
            }
            How::Target { expected, found } => write!(f, "the link said {expected}, now {found}"),
            How::NotInventoried => f.write_str("the inventory does not tell: it could not be read then"),
        }
    }
}

/// A comparison that is under way.
pub struct Comparison<I: Iterator<Item = io::Result<Entry>>> {
    expected: Peekable<I>,
    differences: Vec<Difference>,
    /// A folder that could not be listed: what is in it is not missing.
    unlisted: Option<FileName>,
}

impl<I: Iterator<Item = io::Result<Entry>>> Comparison<I> {
    /// Begins with what a document says.
    pub fn with(expected: I) -> Self {
        Comparison { expected: expected.peekable(), differences: Vec::new(), unlisted: None }
    }

    /// Takes the next thing that is there.
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        self.missing_before(Some(&record.name))?;
        if let Recorded::Unread(_) = record.what {
            self.unlisted = Some(record.name.clone());
        }
        let is_same =
            |entry: &io::Result<Entry>| matches!(entry, Ok(entry) if entry.name().as_ref() == Some(&record.name));
        let how = match self.expected.next_if(is_same).transpose()? {
            Some(entry) => compare(&entry, record),
            // What could not be read is told elsewhere.
            None => Some(How::Extra).filter(|_| !matches!(record.what, Recorded::Unread(_))),
        };
        self.differences.extend(how.map(|how| difference(&record.name, how)));
        Ok(())
    }

    /// Tells what the document has before a name, or at its end.
    fn missing_before(&mut self, name: Option<&FileName>) -> io::Result<()> {
        let is_before = |entry: &io::Result<Entry>| match (entry, name) {
            (Ok(entry), Some(name)) => entry.name().is_some_and(|of| of < *name),
            _ => true,
        };
        while let Some(entry) = self.expected.next_if(is_before).transpose()? {
            let Some(missing) = entry.name() else { continue };
            if self.unlisted.as_ref().is_some_and(|folder| missing.is_below(folder)) {
                continue;
            }
            let how = if entry.kind == Kind::Unread { How::NotInventoried } else { How::Missing };
            self.differences.push(difference(&missing, how));
        }
        Ok(())
    }

    /// Ends it, with the digests of the whole.
    pub fn finish(mut self, expected: &Hashes, found: &[(Algorithm, Digest)]) -> io::Result<Vec<Difference>> {
        self.missing_before(None)?;
        let algorithms = differing(expected, found);
        if !algorithms.is_empty() {
            let (name, shown) = (None, "all contents together".to_owned());
            self.differences.push(Difference { name, shown, how: How::Digest { algorithms } });
        }
        Ok(self.differences)
    }
}

fn difference(name: &FileName, how: How) -> Difference {
    Difference { name: Some(Name::of(name)), shown: name.to_string(), how }
}

fn differing(expected: &Hashes, found: &[(Algorithm, Digest)]) -> Vec<Algorithm> {
    let differs = |(algorithm, digest): &&(Algorithm, Digest)| expected.get(*algorithm).is_some_and(|of| of != digest);
    found.iter().filter(differs).map(|(algorithm, _)| *algorithm).collect()
}

fn compare(entry: &Entry, record: &Record) -> Option<How> {
    let found = match record.what {
        Recorded::File { .. } => Kind::File,
        Recorded::Link { .. } => Kind::Link,
        Recorded::Special => Kind::Special,
        Recorded::Unread(_) => return None,
    };
    if entry.kind == Kind::Unread {
        return Some(How::NotInventoried);
    }
    if entry.kind != found {
        return Some(How::Type { expected: entry.kind, found });
    }
    match &record.what {
        Recorded::File { size, digests, .. } => match entry.size {
            Some(expected) if expected != *size => Some(How::Size { expected, found: *size }),
            _ => Some(differing(&entry.hashes, digests))
                .filter(|algorithms| !algorithms.is_empty())
                .map(|algorithms| How::Digest { algorithms }),
        },
        Recorded::Link { target } if entry.target().as_ref() != Some(target) => {
            let expected = entry.target().map(|target| target.to_string()).unwrap_or_default();
            Some(How::Target { expected, found: target.to_string() })
        }
        _ => None,
    }
}

//! A registry's database dump: sizes, licences, downloads and owners, which no index tells.
//!
//! Read from the archive as crates.io publishes it: a gzipped tar with one CSV file for each table, `data/crates.csv` and so
//! on, below a folder that is called after a day. Columns are found by their names; other tables and columns are passed over.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crateferry_store::{Blake3, CrateName};
use flate2::read::MultiGzDecoder;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// What a dump tells.
#[derive(Debug)]
pub struct Dump {
    crates: HashMap<CrateName, About>,
    digest: Blake3,
}

/// What is known of a crate.
#[derive(Debug, Default)]
pub struct About {
    /// How often it was downloaded.
    pub downloads: u64,
    /// The logins of its owners, people and teams.
    pub owners: Vec<Box<str>>,
    /// Its versions.
    pub versions: HashMap<Box<str>, AboutVersion>,
}

/// What is known of a release.
#[derive(Debug)]
pub struct AboutVersion {
    /// The crate file's length in bytes.
    pub size: u64,
    /// Its licence, as its manifest has it.
    pub licence: Option<Arc<str>>,
    /// When it was published, in seconds since 1970.
    pub created: Option<i64>,
}

/// A dump that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// It cannot be read, or is no such archive.
    #[error("cannot read the database dump {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A table is not as it should be.
    #[error("the database dump {}: {table}.csv: {problem}", path.display())]
    Table {
        /// Which dump.
        path: PathBuf,
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// The tables that are read, each with its columns.
const TABLES: [(&str, &[&str]); 6] = [
    ("crates", &["id", "name"]),
    ("crate_downloads", &["crate_id", "downloads"]),
    ("crate_owners", &["crate_id", "owner_id", "owner_kind"]),
    ("users", &["id", "gh_login"]),
    ("teams", &["id", "login"]),
    ("versions", &["crate_id", "num", "crate_size", "license", "created_at"]),
];

/// What rows of tables are called by.
type Id = u32;

/// Tables as they come, in any order.
#[derive(Default)]
struct Tables {
    names: HashMap<Id, CrateName>,
    downloads: HashMap<Id, u64>,
    owners: Vec<(Id, Id, bool)>,
    users: HashMap<Id, Box<str>>,
    teams: HashMap<Id, Box<str>>,
    versions: HashMap<Id, HashMap<Box<str>, AboutVersion>>,
    licences: HashMap<Box<str>, Arc<str>>,
    seen: Vec<&'static str>,
}

impl Dump {
    /// Reads a dump.
    pub fn read(path: &Path) -> Result<Dump, DumpError> {
        let failed = |source| DumpError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let about = file.metadata().map_err(failed)?;
        let digest = Blake3::of(format!("{} {:?}", about.len(), about.modified().ok()).as_bytes());
        let file = BufReader::with_capacity(1 << 20, file);
        let mut archive = tar::Archive::new(MultiGzDecoder::new(file));
        let mut tables = Tables::default();
        for entry in archive.entries().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.path().map_err(failed)?;
            let (stem, is_csv) = (name.file_stem(), name.extension().is_some_and(|extension| extension == "csv"));
            let table = TABLES.iter().find(|(table, _)| is_csv && stem.is_some_and(|stem| stem == *table));
            let Some(&(table, columns)) = table else { continue };
            let refused = |problem| DumpError::Table { path: path.to_owned(), table, problem };
            tables.read(table, columns, entry).map_err(refused)?;
            tables.seen.push(table);
        }
        match TABLES.iter().find(|(table, _)| !tables.seen.contains(table)) {
            Some((table, _)) => {
                Err(DumpError::Table { path: path.to_owned(), table, problem: "it is not in the archive".to_owned() })
            }
            None => Ok(Dump { crates: tables.join(), digest }),
        }
    }

    /// A digest that is another for another dump: of its length and its time, since that of its bytes would take as long as
    /// reading it.
    pub fn digest(&self) -> Blake3 {
        self.digest
    }

    /// What is known of a crate.
    pub fn about(&self, name: &CrateName) -> Option<&About> {
        self.crates.get(&name.lower())
    }
}

impl Tables {
    fn read(&mut self, table: &str, columns: &[&str], input: impl Read) -> Result<(), String> {
        let mut reader = csv::ReaderBuilder::new().buffer_capacity(1 << 18).from_reader(input);
        let headers = reader.byte_headers().map_err(|error| error.to_string())?.clone();
        let place = |column: &&str| {
            let found = headers.iter().position(|header| header == column.as_bytes());
            found.ok_or_else(|| format!("it has no column {column}"))
        };
        let places: Vec<usize> = columns.iter().map(place).collect::<Result<_, _>>()?;
        let mut record = csv::ByteRecord::new();
        while reader.read_byte_record(&mut record).map_err(|error| error.to_string())? {
            let line = record.position().map_or(0, csv::Position::line);
            let field = |at: usize| str::from_utf8(record.get(places[at]).unwrap_or_default()).ok();
            let number = |at: usize| field(at)?.parse::<u64>().ok();
            self.row(table, &field, &number).ok_or_else(|| format!("line {line} cannot be read"))?;
        }
        Ok(())
    }

    fn row<'a>(
        &mut self,
        table: &str,
        field: &dyn Fn(usize) -> Option<&'a str>,
        number: &dyn Fn(usize) -> Option<u64>,
    ) -> Option<()> {
        let id = Id::try_from(number(0)?).ok()?;
        match table {
            // A name that could not be a crate's cannot be asked for either.
            "crates" => self.names.extend(field(1)?.parse::<CrateName>().ok().map(|name| (id, name.lower()))),
            "crate_downloads" => drop(self.downloads.insert(id, number(1)?)),
            "crate_owners" => self.owners.push((id, Id::try_from(number(1)?).ok()?, number(2)? == 1)),
            "users" => drop(self.users.insert(id, field(1)?.into())),
            "teams" => drop(self.teams.insert(id, field(1)?.into())),
            _ => {
                let licence = field(3).filter(|text| !text.is_empty()).map(|text| self.licence(text));
                let version = AboutVersion { size: number(2)?, licence, created: field(4).and_then(time) };
                self.versions.entry(id).or_default().insert(field(1)?.into(), version);
            }
        }
        Some(())
    }

    /// Few different licences stand in very many rows.
    fn licence(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.licences.get(text) {
            return known.clone();
        }
        let licence: Arc<str> = text.into();
        self.licences.insert(text.into(), licence.clone());
        licence
    }

    fn join(mut self) -> HashMap<CrateName, About> {
        let mut owners: HashMap<Id, Vec<Box<str>>> = HashMap::new();
        for (of, owner, is_team) in &self.owners {
            let logins = if *is_team { &self.teams } else { &self.users };
            owners.entry(*of).or_default().extend(logins.get(owner).cloned());
        }
        let crates = self.names.into_iter().map(|(id, name)| {
            let about = About {
                downloads: self.downloads.get(&id).copied().unwrap_or_default(),
                owners: owners.remove(&id).unwrap_or_default(),
                versions: self.versions.remove(&id).unwrap_or_default(),
            };
            (name, about)
        });
        crates.collect()
    }
}

/// `2026-01-31 12:34:56.789+00`, as databases write it.
fn time(text: &str) -> Option<i64> {
    let text = text.split(['+', 'Z']).next()?.trim();
    let time: DateTime = text.parse().ok()?;
    Some(TimeZone::UTC.to_timestamp(time).ok()?.as_second())
}

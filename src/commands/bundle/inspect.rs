//! `crateferry bundle inspect`: what a bundle carries, for who has to decide whether it may pass.
//!
//! Crate files are not read. What is told of them stands in the tables of contents, which the signed manifest seals; licences and
//! yanks are read from the facts and index files that ride along.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{Read, Seek};
use std::sync::Arc;

use anyhow::Context as _;
use crateferry_pipeline::bundle::{LONGEST_TEXTS, facts_in, texts_in};
use crateferry_pipeline::error_chain;
use crateferry_store::bundle::{Carried, Line, Manifest, Pieces, VolumeError, VolumeReader};
use crateferry_store::{About, CrateName, Facts, Version, parse_index_file};
use serde::{Serialize, Serializer};

use super::folder::{Folder, trusted};
use super::page;
use super::parity::Brief;
use super::read::{name, open_volume, way};
use crate::cli::BundleInspectArgs;
use crate::keys::Judged;
use crate::report::{self, Exit, bytes, count, grouped};

/// Releases that are kept in memory to be listed, some 100 bytes each. Others are counted.
const MOST_RELEASES: u64 = 4_000_000;

/// How many licences and damaged things are shown to people.
const SHOWN: usize = 20;

pub fn run(args: &BundleInspectArgs) -> anyhow::Result<Exit> {
    let (signed, folder) = Folder::open(&args.read.bundle)?;
    let (manifest, judged) = signed.manifest(&trusted(&args.read.trust)?)?;
    let mut contents = Contents::new(manifest, &judged);
    for number in 1..=contents.manifest.volumes.len() as u32 {
        let name = name(&contents.manifest, number);
        let read = match open_volume(&folder, &contents.manifest, number)? {
            None => {
                contents.not_here.push(number);
                continue;
            }
            Some(volume) => volume.and_then(|volume| contents.volume(&name, volume)),
        };
        if let Err(problem) = read {
            contents.damaged(&name, error_chain(&problem));
        }
    }
    contents.sum_up();
    if let Some(path) = &args.page {
        std::fs::write(path, page::of(&contents)?).with_context(|| format!("cannot write {}", path.display()))?;
    }
    report::print(args.read.output.json, &contents)?;
    Ok(if contents.damaged.is_empty() { Exit::Complete } else { Exit::Integrity })
}

/// What a bundle carries, by crate.
#[derive(Debug, Serialize)]
pub struct Contents {
    pub manifest: Manifest,
    /// What its parity mends, if it has some.
    pub parity: Option<Brief>,
    pub signed_by: Vec<String>,
    /// The key list whose keys signed; none if they were named on the command line.
    pub key_list: Option<u64>,
    /// Volumes that are not in the folder, so that what they hold is not listed.
    pub not_here: Vec<u32>,
    /// By name in lower case.
    pub crates: BTreeMap<String, Carries>,
    /// Index files that are no longer served.
    pub removed: Vec<String>,
    /// Releases that the origin wants and lacks.
    pub holes: u64,
    /// What new releases say of their licence, the most frequent first.
    pub licenses: Vec<LicenseTotal>,
    /// Releases beyond what is listed.
    pub unlisted: u64,
    /// What is not as the signed manifest promises.
    pub damaged: Vec<String>,
    #[serde(skip)]
    known_licenses: HashMap<String, Arc<str>>,
    #[serde(skip)]
    listed: u64,
}

/// What is carried of a crate.
#[derive(Debug)]
pub struct Carries {
    /// As its index spells it.
    pub name: CrateName,
    releases: BTreeMap<Version, Carry>,
    pub withdrawn: Vec<Version>,
}

/// What is known of a release.
#[derive(Debug, Default)]
struct Carry {
    /// The length of its crate file, if that is carried.
    bytes: Option<u64>,
    /// None if it is not known; empty if the release names none.
    license: Option<Arc<str>>,
    yanked: bool,
}

/// A release that the receiver gets.
#[derive(Debug, Serialize)]
pub struct New<'a> {
    pub version: &'a str,
    pub bytes: u64,
    /// None if it is not known; empty if the release names none.
    pub license: Option<&'a str>,
}

/// New releases with the same licence.
#[derive(Debug, Serialize)]
pub struct LicenseTotal {
    /// None if it is not known; empty if the release names none.
    pub license: Option<String>,
    pub releases: u64,
    pub bytes: u64,
}

impl LicenseTotal {
    /// The licence in words.
    pub fn words(&self) -> &str {
        license_words(self.license.as_deref())
    }
}

/// A licence in words.
pub fn license_words(license: Option<&str>) -> &str {
    match license {
        None => "not known",
        Some("") => "none named",
        Some(license) => license,
    }
}

impl Carries {
    fn new(name: &CrateName) -> Carries {
        Carries { name: name.clone(), releases: BTreeMap::new(), withdrawn: Vec::new() }
    }

    /// What is new, the oldest version first.
    pub fn new_releases(&self) -> Vec<New<'_>> {
        let news = self.releases.iter().filter_map(|(version, carry)| {
            let license = carry.license.as_deref();
            Some(New { version: version.as_str(), bytes: carry.bytes?, license })
        });
        in_order(news.collect(), |new| new.version)
    }

    /// What its index file says is yanked, now or since before.
    pub fn yanked(&self) -> Vec<&str> {
        let yanked = self.releases.iter().filter(|(_, carry)| carry.yanked);
        in_order(yanked.map(|(version, _)| version.as_str()).collect(), |version| version)
    }

    /// Bytes of the crate files that are carried.
    pub fn bytes(&self) -> u64 {
        self.releases.values().filter_map(|carry| carry.bytes).fold(0, u64::saturating_add)
    }

    /// Licences of what is new, each once.
    pub fn licenses(&self) -> Vec<&str> {
        let mut licenses = Vec::new();
        for New { license, .. } in self.new_releases() {
            if !licenses.contains(&license_words(license)) {
                licenses.push(license_words(license));
            }
        }
        licenses
    }
}

impl Serialize for Carries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written<'a> {
            new: Vec<New<'a>>,
            bytes: u64,
            yanked: Vec<&'a str>,
            withdrawn: &'a [Version],
        }
        let (new, yanked) = (self.new_releases(), self.yanked());
        Written { new, bytes: self.bytes(), yanked, withdrawn: &self.withdrawn }.serialize(serializer)
    }
}

/// Versions as semver orders them; what is no semver comes first.
fn in_order<T>(mut items: Vec<T>, version: impl Fn(&T) -> &str) -> Vec<T> {
    items.sort_by_cached_key(|item| semver::Version::parse(version(item)).ok());
    items
}

impl Contents {
    fn new(manifest: Manifest, judged: &Judged) -> Contents {
        Contents {
            parity: Brief::of(&manifest),
            manifest,
            signed_by: judged.signed_by.iter().map(|signer| signer.id.clone()).collect(),
            key_list: judged.list,
            not_here: Vec::new(),
            crates: BTreeMap::new(),
            removed: Vec::new(),
            holes: 0,
            licenses: Vec::new(),
            unlisted: 0,
            damaged: Vec::new(),
            known_licenses: HashMap::new(),
            listed: 0,
        }
    }

    fn damaged(&mut self, volume: &str, problem: impl fmt::Display) {
        self.damaged.push(format!("{volume}: {problem}"));
    }

    fn volume<R: Read + Seek>(&mut self, name: &str, volume: VolumeReader<R>) -> Result<(), VolumeError> {
        let lines = volume.lines()?;
        let mut pieces = volume.into_pieces();
        for line in lines {
            self.line(name, &line?, &mut pieces);
        }
        Ok(())
    }

    /// Takes a line of a volume's table and what belongs to it. A piece that is damaged does not hide those behind it.
    fn line<R: Read + Seek>(&mut self, volume: &str, line: &Line, pieces: &mut Pieces<R>) {
        match line {
            Line::Frame { crates, .. } => {
                for Carried(name, version, _, length) in crates {
                    self.release(name, version, |carry| carry.bytes = Some(*length));
                }
            }
            Line::Crate { piece, release } => {
                self.release(&release.name, &release.version, |carry| carry.bytes = Some(piece.length));
            }
            Line::Texts { texts, .. } => {
                let read = pieces.read(line, LONGEST_TEXTS).map_err(|error| error_chain(&error));
                match read.and_then(|packed| texts_in(&packed.unwrap_or_default(), texts)) {
                    Err(problem) => self.damaged(volume, problem),
                    Ok(parts) => {
                        for (document, part) in texts.iter().zip(parts) {
                            self.text(&document.name, &part.unwrap_or_default());
                        }
                    }
                }
            }
            Line::Facts { releases, lengths, .. } => {
                let read = pieces.read(line, LONGEST_TEXTS).map_err(|error| error_chain(&error));
                match read.and_then(|packed| facts_in(&packed.unwrap_or_default(), releases, lengths)) {
                    Err(problem) => self.damaged(volume, problem),
                    Ok(parts) => {
                        for (release, facts) in releases.iter().zip(parts) {
                            let license = facts.and_then(|facts| self.license(&facts));
                            self.release(&release.name, &release.version, |carry| carry.license = license);
                        }
                    }
                }
            }
            Line::Withdrawn { release, .. } => {
                if self.is_listed() {
                    self.carries(&release.name).withdrawn.push(release.version.clone());
                }
            }
            Line::Removed { name } => self.removed.push(name.to_string()),
            Line::Hole { .. } => self.holes += 1,
            // The manifest has said which.
            Line::Volume { .. } | Line::Advisories { .. } => {}
        }
    }

    fn text(&mut self, name: &CrateName, text: &[u8]) {
        for row in parse_index_file(name, text).entries.into_iter().filter(|row| row.yanked) {
            self.release(&row.name, &row.version, |carry| carry.yanked = true);
        }
    }

    /// What a manifest says of its licence: one text for all that say the same.
    fn license(&mut self, facts: &Facts) -> Option<Arc<str>> {
        let license = About::of(facts.manifest.as_ref()?).license;
        Some(self.known_licenses.entry(license).or_insert_with_key(|license| license.as_str().into()).clone())
    }

    fn carries(&mut self, name: &CrateName) -> &mut Carries {
        self.crates.entry(name.lower().to_string()).or_insert_with(|| Carries::new(name))
    }

    fn is_listed(&mut self) -> bool {
        let is_listed = self.listed < MOST_RELEASES;
        *(if is_listed { &mut self.listed } else { &mut self.unlisted }) += 1;
        is_listed
    }

    fn release(&mut self, name: &CrateName, version: &Version, say: impl FnOnce(&mut Carry)) {
        let known =
            self.crates.get(name.lower().as_str()).is_some_and(|carries| carries.releases.contains_key(version));
        if known || self.is_listed() {
            say(self.carries(name).releases.entry(version.clone()).or_default());
        }
    }

    /// Counts licences, when all was read.
    fn sum_up(&mut self) {
        let mut totals: BTreeMap<Option<Arc<str>>, (u64, u64)> = BTreeMap::new();
        for carry in self.crates.values().flat_map(|carries| carries.releases.values()) {
            let Some(length) = carry.bytes else { continue };
            let (releases, bytes) = totals.entry(carry.license.clone()).or_default();
            *releases += 1;
            *bytes = bytes.saturating_add(length); // as the bundle says
        }
        let total = |(license, (releases, bytes)): (Option<Arc<str>>, _)| LicenseTotal {
            license: license.map(|license| license.to_string()),
            releases,
            bytes,
        };
        self.licenses = totals.into_iter().map(total).collect();
        self.licenses.sort_by_key(|total| std::cmp::Reverse(total.releases));
    }

    /// Bytes of all volumes.
    pub fn volume_bytes(&self) -> u64 {
        self.manifest.volumes.iter().map(|volume| volume.length).sum()
    }

    /// Yanked and withdrawn releases.
    pub fn gone(&self) -> (u64, u64) {
        let sum = |count: fn(&Carries) -> usize| self.crates.values().map(count).sum::<usize>() as u64;
        (sum(|carries| carries.yanked().len()), sum(|carries| carries.withdrawn.len()))
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Manifest { bundle, mirror, from, to, tool, level, totals, volumes, importers, .. } = &self.manifest;
        writeln!(f, "bundle      {bundle}, signed by {}", self.signed_by.join(", "))?;
        writeln!(f, "mirror      {mirror}, epoch {}", to.epoch)?;
        writeln!(f, "leads       {}", way(from.as_ref(), &to.point()))?;
        writeln!(f, "volumes     {}, {}; level {level}, by {tool}", volumes.len(), bytes(self.volume_bytes()))?;
        if let Some(parity) = &self.parity {
            writeln!(f, "parity      {parity}")?;
        }
        let (releases, files) = (count(totals.releases, "release"), count(totals.index_files, "index file"));
        writeln!(f, "carries     {releases}, {}; {files}, {} removed", bytes(totals.bytes), totals.removed)?;
        if let Some(database) = &to.advisories {
            writeln!(f, "advisories  {}", report::advisories(database))?;
        }
        let (yanked, withdrawn) = self.gone();
        let holes = count(self.holes, "hole");
        writeln!(f, "says        {} yanked, {} withdrawn, {holes}", grouped(yanked), grouped(withdrawn))?;
        for importer in importers {
            writeln!(f, "program     {}, {}, SHA-256 {}", importer.name, bytes(importer.length), importer.sha256)?;
        }
        if !self.not_here.is_empty() {
            writeln!(f, "not here    {}; what they hold is not listed", count(self.not_here.len() as u64, "volume"))?;
        }
        for damage in self.damaged.iter().take(SHOWN) {
            writeln!(f, "damaged     {damage}")?;
        }
        for total in self.licenses.iter().take(SHOWN) {
            writeln!(f, "licence     {}: {}, {}", total.words(), count(total.releases, "release"), bytes(total.bytes))?;
        }
        if self.licenses.len() > SHOWN {
            writeln!(f, "licences    {} more; --json has all", self.licenses.len() - SHOWN)?;
        }
        for carries in self.crates.values() {
            let (new, yanked) = (carries.new_releases(), carries.yanked());
            write!(f, "{}", carries.name)?;
            if !new.is_empty() {
                let versions: Vec<_> = new.iter().map(|new| new.version).collect();
                write!(f, "  {} {}", versions.join(" "), bytes(carries.bytes()))?;
                write!(f, "  licence: {}", carries.licenses().join("; "))?;
            }
            if !yanked.is_empty() {
                write!(f, "  yanked: {}", yanked.join(" "))?;
            }
            if !carries.withdrawn.is_empty() {
                let withdrawn: Vec<_> = carries.withdrawn.iter().map(Version::as_str).collect();
                write!(f, "  withdrawn: {}", withdrawn.join(" "))?;
            }
            writeln!(f)?;
        }
        if self.unlisted > 0 {
            writeln!(f, "not listed  {}: more than this program keeps", count(self.unlisted, "release"))?;
        }
        self.removed.iter().try_for_each(|name| writeln!(f, "{name}  removed"))
    }
}

//! What a bundle has to carry.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::receipt::Receipt;
use crate::Place;
use crate::entry::parse_index_file;
use crate::facts::FactsPlace;
use crate::id::{CrateName, Release, Sha256, Version};
use crate::ledger::{LedgerError, LedgerReader, PathRow, Text};
use crate::pack::{AdvisoryDb, Cause, Generation, PackReader, Point, ReadError};
use crate::state::{Row, State};

/// So many generations are named on the way to the last.
const WAY: usize = 1000;

/// Index files that are looked at together.
const STEP: usize = 1024;

/// A plan that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The ledger cannot be read.
    #[error("cannot read what is to be carried")]
    Ledger(#[from] LedgerError),
    /// An index text cannot be read.
    #[error("cannot read the index file of crate {name}")]
    Text {
        /// The crate.
        name: CrateName,
        /// Why.
        source: ReadError,
    },
    /// Nothing was published yet.
    #[error("nothing is published yet, so there is nothing to carry; run `crateferry sync` first")]
    Nothing,
    /// There is no such generation.
    #[error("generation {0} is not one of this mirror's; `crateferry status` tells the last, which is {1}")]
    NoGeneration(u64, u64),
    /// The receipt is another mirror's.
    #[error("the receipt is of mirror {theirs}, and this is mirror {mirror}")]
    OtherMirror {
        /// The receipt's.
        theirs: String,
        /// This one.
        mirror: String,
    },
    /// The receipt names what this mirror never served.
    #[error(
        "the receipt says that generation {0} is served there, and this mirror never served that: was it restored from a backup? \
         `crateferry rebuild --new-epoch` begins a new epoch, and a bundle made with `--full` then applies"
    )]
    Unknown(u64),
    /// The receiver serves what is served here.
    #[error("the receiver serves generation {0}, which is the last; there is nothing to carry")]
    NothingNew(u64),
    /// A row is served and its bytes are not held.
    #[error("{0} is served and its bytes are not held; run `crateferry verify`")]
    NotHeld(crate::ReleaseId),
}

/// What a bundle leads from and to.
#[derive(Debug)]
pub struct Plan {
    /// What the receiver has; none for a receiver that has nothing.
    pub from: Option<Generation>,
    /// What it is to have.
    pub to: Generation,
    /// The newest generations between them, with the last.
    pub through: Vec<Point>,
    /// Crate files that are carried although the receiver should hold them.
    pub again: BTreeMap<CrateName, BTreeSet<(Version, Sha256)>>,
}

/// A crate file that the receiver lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    /// Which.
    pub release: Release,
    /// Where it lies.
    pub place: Place,
    /// Where its facts lie.
    pub facts: Option<FactsPlace>,
}

/// A crate file that the receiver holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub release: Release,
    /// Where it lies here.
    pub place: Place,
}

/// What changed about a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name in lower case.
    pub name: CrateName,
    /// The index file that is served, and how many rows it has; none if none is any more.
    pub text: Option<(Text, u64)>,
    /// The crate files that the receiver lacks, in the order of the index file.
    pub new: Vec<New>,
    /// Those that it holds, in the order of the index file.
    pub held: Vec<Held>,
    /// Tombstones.
    pub withdrawn: Vec<(Release, u64, Cause)>,
}

impl Plan {
    /// What leads from a generation, or from nothing, to what is served now.
    pub fn new(ledger: &LedgerReader, from: Option<u64>) -> Result<Plan, PlanError> {
        let to = ledger.generation()?.ok_or(PlanError::Nothing)?;
        let find = |number| {
            let found = ledger.generation_at(number)?.filter(|found| found.number < to.number);
            found.ok_or(PlanError::NoGeneration(number, to.number))
        };
        let from = from.map(find).transpose()?;
        let after = from.as_ref().map_or(0, |from| from.number);
        let through = ledger.generations_after(after, WAY)?.iter().map(Generation::point).collect();
        Ok(Plan { from, to, through, again: BTreeMap::new() })
    }

    /// What leads a receiver from what its receipt says to what is served now.
    pub fn for_receipt(ledger: &LedgerReader, receipt: &Receipt) -> Result<Plan, PlanError> {
        let mirror = ledger.mirror()?;
        if receipt.mirror != mirror {
            return Err(PlanError::OtherMirror { theirs: receipt.mirror.clone(), mirror });
        }
        let Some(serves) = receipt.serves else { return Plan::new(ledger, None) };
        if ledger.digest_of(serves.epoch, serves.generation)? != Some(serves.digest) {
            return Err(PlanError::Unknown(serves.generation));
        }
        let mut plan = match ledger.generation()?.filter(|now| now.point() == serves) {
            Some(_) if receipt.lacks.is_empty() => return Err(PlanError::NothingNew(serves.generation)),
            // It brings what was lost, and leads nowhere.
            Some(now) => Plan { from: Some(now.clone()), through: vec![serves], to: now, again: BTreeMap::new() },
            None => Plan::new(ledger, Some(serves.generation))?,
        };
        for release in &receipt.lacks {
            let again = plan.again.entry(release.id.name.lower()).or_default();
            again.insert((release.id.version.clone(), release.checksum));
        }
        Ok(plan)
    }

    /// The advisory database that the receiver lacks.
    pub fn advisories(&self) -> Option<&AdvisoryDb> {
        let known = self.from.as_ref().and_then(|from| from.advisories.as_ref());
        self.to.advisories.as_ref().filter(|database| known != Some(database))
    }

    /// Calls `take` with each crate that changed, in order of lower-case names.
    pub fn each<E: From<PlanError>>(
        &self,
        ledger: &LedgerReader,
        packs: &PackReader,
        mut take: impl FnMut(Change) -> Result<(), E>,
    ) -> Result<(), E> {
        let step = Step { ledger, packs, again: &self.again };
        let cannot = |error: LedgerError| E::from(error.into());
        if let Some(from) = &self.from {
            let mut changed = ledger.changed_since(from.number).map_err(cannot)?;
            for name in self.again.keys().filter(|name| !changed.contains_key(*name)).cloned().collect::<Vec<_>>() {
                let served = ledger.path(&name).map_err(cannot)?.and_then(|row| row.served);
                changed.insert(name, served);
            }
            for (name, before) in changed {
                let row = ledger.path(&name).map_err(cannot)?.unwrap_or_default();
                take(step.change(name, &row, before)?)?;
            }
            return Ok(());
        }
        let mut after = None;
        loop {
            let names: Vec<CrateName> =
                ledger.served_after(after.as_ref(), STEP).map_err(cannot)?.into_iter().map(|(name, _)| name).collect();
            let Some(last) = names.last() else { return Ok(()) };
            after = Some(last.clone());
            for name in names {
                let row = ledger.path(&name).map_err(cannot)?.unwrap_or_default();
                take(step.change(name, &row, None)?)?;
            }
        }
    }
}

struct Step<'a> {
    ledger: &'a LedgerReader,
    packs: &'a PackReader,
    again: &'a BTreeMap<CrateName, BTreeSet<(Version, Sha256)>>,
}

impl Step<'_> {
    fn change(&self, name: CrateName, row: &PathRow, before: Option<Text>) -> Result<Change, PlanError> {
        let known = self.ledger.releases_of(&name)?;
        let had: HashSet<(Version, Sha256)> = match before {
            // What was served then may be gone from the packs since: then all is sent again.
            Some(text) => self.rows(&name, &text).unwrap_or_default().into_iter().collect(),
            None => HashSet::new(),
        };
        let mut change = Change {
            name,
            text: row.served.map(|text| (text, row.rows)),
            new: vec![],
            held: vec![],
            withdrawn: vec![],
        };
        let is_withdrawn = |(_, row): &&(Release, Row)| row.state == State::Withdrawn;
        let tombstone = |(release, row): &(Release, Row)| {
            let cause = Cause { because: row.reason.clone(), by_operator: row.by_operator };
            (release.clone(), row.last, cause)
        };
        change.withdrawn = known.iter().filter(is_withdrawn).map(tombstone).collect();
        let Some(text) = row.served else { return Ok(change) };
        for (version, checksum) in self.rows(&change.name, &text)? {
            let held = known.iter().find(|(release, _)| release.id.version == version && release.checksum == checksum);
            let placed = held.and_then(|(release, row)| Some((release.clone(), row.place?)));
            let (release, place) = placed.ok_or_else(|| {
                PlanError::NotHeld(crate::ReleaseId { name: change.name.clone(), version: version.clone() })
            })?;
            let is_wanted =
                self.again.get(&change.name).is_some_and(|again| again.contains(&(version.clone(), checksum)));
            if had.contains(&(version, checksum)) && !is_wanted {
                change.held.push(Held { release, place });
            } else {
                let facts = self.ledger.facts(&release)?;
                change.new.push(New { release, place, facts });
            }
        }
        Ok(change)
    }

    fn rows(&self, name: &CrateName, text: &Text) -> Result<Vec<(Version, Sha256)>, PlanError> {
        let bytes = self
            .packs
            .text(text.place, text.digests.blake3)
            .map_err(|source| PlanError::Text { name: name.clone(), source })?;
        let parsed = parse_index_file(name, &bytes);
        Ok(parsed.entries.into_iter().map(|entry| (entry.version, entry.checksum)).collect())
    }
}

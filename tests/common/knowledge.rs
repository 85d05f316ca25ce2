//! All that a mirror's ledger can show, to be compared.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use crateferry_store::{
    Alarm, Chain, CrateName, FactsPlace, Generation, LedgerReader, Masks, Mirror, PathRow, Place, Release, Report, Row,
    Selection, State, StoreLimits, SystemDisk, Tally, Work,
};

/// What a ledger knows.
#[derive(Debug, PartialEq)]
pub struct Knowledge {
    pub mirror: String,
    pub chain: Chain,
    pub tally: Tally,
    pub selection: Selection,
    pub mark: Option<serde_json::Value>,
    pub generations: Vec<Generation>,
    pub feed: Vec<(u64, Vec<CrateName>)>,
    pub paths: Vec<(CrateName, PathRow)>,
    pub releases: Vec<(Release, Row)>,
    pub work: Vec<Work>,
    pub holes: Vec<(Release, Row)>,
    pub gone: Vec<(Release, Row)>,
    pub reports: Vec<Report>,
    pub alarms: Vec<Alarm>,
    pub masks: Masks,
    pub dirty: Vec<(CrateName, u64)>,
    pub facts: Vec<(Release, FactsPlace)>,
    pub undescribed: Vec<(Release, Place)>,
    pub last_facts: u64,
}

impl Knowledge {
    /// Opens the mirror, which adopts what its packs hold, and reads everything.
    pub fn of(mirror: &Path) -> Knowledge {
        let mirror = Mirror::open(mirror, StoreLimits::default(), Arc::new(SystemDisk)).unwrap();
        Knowledge::read(&mirror.ledger().reader().unwrap())
    }

    fn read(reader: &LedgerReader) -> Knowledge {
        let last = reader.generation().unwrap().map_or(0, |generation| generation.number);
        let mut releases = Vec::new();
        reader
            .each_release(|release, row| {
                releases.push((release, row));
                Ok(())
            })
            .unwrap();
        let feed: Vec<_> = (1..=last).map(|number| (number, reader.changed_in(number).unwrap())).collect();
        let names: BTreeSet<CrateName> = reader.upstream_names_after(None, usize::MAX).unwrap().into_iter().collect();
        let names: BTreeSet<CrateName> =
            names.into_iter().chain(feed.iter().flat_map(|(_, names)| names.clone())).collect();
        let path = |name: CrateName| reader.path(&name).unwrap().map(|row| (name, row));
        let facts = |(release, _): &(Release, Row)| Some((release.clone(), reader.facts(release).unwrap()?));
        Knowledge {
            mirror: reader.mirror().unwrap(),
            chain: reader.chain().unwrap(),
            tally: reader.tally().unwrap(),
            selection: reader.selection().unwrap(),
            mark: reader.mark().unwrap(),
            generations: (1..=last).map(|number| reader.generation_at(number).unwrap().unwrap()).collect(),
            feed,
            paths: names.into_iter().filter_map(path).collect(),
            facts: releases.iter().filter_map(facts).collect(),
            undescribed: reader.undescribed_after(None, usize::MAX).unwrap(),
            last_facts: reader.last_facts().unwrap(),
            releases,
            work: reader.work_after(None, usize::MAX, u64::MAX).unwrap(),
            holes: reader.holes().unwrap(),
            gone: reader.gone().unwrap(),
            reports: reader.reports().unwrap(),
            alarms: reader.alarms().unwrap(),
            masks: reader.masks().unwrap(),
            dirty: reader.dirty_after(None, usize::MAX).unwrap(),
        }
    }

    /// The names and versions of the releases in a state.
    pub fn in_state(&self, state: State) -> HashSet<(String, String)> {
        let of_state = self.releases.iter().filter(|(_, row)| row.state == state);
        of_state.map(|(release, _)| (release.id.name.to_string(), release.id.version.to_string())).collect()
    }

    /// The digest of the last generation.
    pub fn digest(&self) -> Option<String> {
        self.generations.last().map(|generation| generation.digest.to_string())
    }
}

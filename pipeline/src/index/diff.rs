//! A changed index file against what is known of its crate: pure.
//!
//! | the row | and the ledger | becomes |
//! |---|---|---|
//! | is selected | does not know it, or let it go | wanted |
//! | has a new checksum for a known version | | an alarm, and wanted beside the old one |
//! | is yanked, or no longer selected | still waits for it | excluded, by the policy |
//! | is there again | has it as gone | back |
//! | is not there any more | holds it | gone: its deletion may need approval |
//! | is not there any more | waits for it | withdrawn at once |
//!
//! A version that is still there with another checksum is not a deletion: the first row goes on being served.

use std::collections::{BTreeMap, HashMap, HashSet};

use crateferry_store::{Cause, CrateName, Event, IndexFile, Release, ReleaseId, Row, Sha256, State, Version};

use super::policy::Verdict;
use super::select::{ChecksumChange, Choice, CrateChoice};

/// The events that a changed index file leads to, and how many releases they touch.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which they are to be recorded.
    pub events: Vec<Event>,
    /// Releases that are newly wanted.
    pub wanted: u64,
    /// Held releases that left the index.
    pub gone: u64,
    /// Versions with another checksum than before.
    pub alarms: u64,
    /// Rows that cannot be used, and selected versions that are not there.
    pub reports: u64,
    /// Selected releases that the policy keeps out, by rule.
    pub kept_out: BTreeMap<&'static str, u64>,
    /// When the first of those enters that only have to wait, in seconds since 1970.
    pub enters: Option<i64>,
}

/// Why a version is withheld whose checksum changed.
pub const CHANGED: &str = "the upstream promises another checksum for it than before";

/// What an index file is compared with.
pub struct Before<'a> {
    /// Releases that the ledger knows of this crate.
    pub releases: &'a [(Release, Row)],
    /// Whether problems of this file are on record.
    pub reported: bool,
}

/// Plans for an index file. `file` is empty if the upstream has it no more. `now` is in seconds since 1970.
pub fn plan(name: &CrateName, before: &Before<'_>, file: &IndexFile<'_>, choice: &Choice, now: u64) -> Plan {
    let mut plan = Plan::default();
    let change = choice.checksum_change;
    let choice = CrateChoice::new(choice, name, file, now);
    let known: HashMap<(&Version, &Sha256), &Row> =
        before.releases.iter().map(|(release, row)| ((&release.id.version, &release.checksum), row)).collect();

    plan.want(file, &known, before, &choice, now);
    if change == ChecksumChange::Refuse {
        plan.mask_changed(now);
    }
    plan.keep_out(file, &choice);
    plan.part(file, before, now);
    plan.report(name, file, before, &choice);
    plan
}

impl Plan {
    /// Rows that are there.
    fn want(
        &mut self,
        file: &IndexFile<'_>,
        known: &HashMap<(&Version, &Sha256), &Row>,
        before: &Before<'_>,
        choice: &CrateChoice,
        now: u64,
    ) {
        let mut wanted: Vec<(CrateName, Vec<(Version, Sha256)>)> = Vec::new();
        let barred: HashSet<&Version> =
            before.releases.iter().filter(|(_, row)| is_barred(row)).map(|(release, _)| &release.id.version).collect();
        for (at, entry) in file.entries.iter().enumerate().filter(|(_, entry)| !barred.contains(&entry.version)) {
            let row = known.get(&(&entry.version, &entry.checksum)).copied();
            let id = ReleaseId { name: entry.name.clone(), version: entry.version.clone() };
            let release = Release { id, checksum: entry.checksum };
            if row.is_some_and(|row| row.gone) {
                self.events.push(Event::Back { release: release.clone().into() });
            }
            match (choice.wants(at, entry), row.map(|row| row.state)) {
                (true, None) => {
                    self.alarm(&release, before, now);
                    push_wanted(&mut wanted, release);
                }
                (true, Some(State::Withdrawn | State::Excluded)) => push_wanted(&mut wanted, release),
                (false, Some(State::Wanted | State::Refused)) => {
                    let by = match choice.verdicts()[at] {
                        Verdict::Out(rule) => format!("policy: {rule}"),
                        Verdict::Until(_) => "policy: cool-down".to_owned(),
                        Verdict::In if entry.yanked => "yanked".to_owned(),
                        Verdict::In => "not selected".to_owned(),
                    };
                    self.events.push(Event::Excluded { release: release.into(), by, at: now });
                }
                // A withdrawn release whose bytes are held is served again, selected or not.
                (false, Some(State::Withdrawn)) if row.is_some_and(|row| row.place.is_some()) => {
                    self.events.push(Event::Back { release: release.into() });
                }
                _ => {}
            }
        }
        for (name, releases) in wanted {
            self.wanted += releases.len() as u64;
            self.events.push(Event::Wanted { name, releases, at: now });
        }
    }

    /// Counts what is selected and may not enter.
    fn keep_out(&mut self, file: &IndexFile<'_>, choice: &CrateChoice) {
        for (entry, verdict) in file.entries.iter().zip(choice.verdicts()) {
            let rule = match verdict {
                Verdict::In => continue,
                _ if !choice.selects(entry) => continue,
                Verdict::Out(rule) => rule,
                Verdict::Until(time) => {
                    self.enters = self.enters.into_iter().chain([*time]).min();
                    "cool-down"
                }
            };
            *self.kept_out.entry(rule).or_default() += 1;
        }
    }

    fn alarm(&mut self, release: &Release, before: &Before<'_>, now: u64) {
        let same_version = before
            .releases
            .iter()
            .find(|(known, row)| known.id.version == release.id.version && row.state != State::Withdrawn);
        if let Some((known, _)) = same_version {
            self.alarms += 1;
            let ReleaseId { name, version } = release.id.clone();
            self.events.push(Event::Checksum { name, version, was: known.checksum, now: release.checksum, at: now });
        }
    }

    /// Withholds the versions whose checksum changed.
    fn mask_changed(&mut self, at: u64) {
        let masked = self.events.iter().filter_map(|event| match event {
            Event::Checksum { name, version, .. } => {
                let (name, version, reason) = (name.lower(), Some(version.clone()), CHANGED.to_owned());
                Some(Event::Masked { name, version, reason, at })
            }
            _ => None,
        });
        let masked: Vec<Event> = masked.collect();
        self.events.extend(masked);
    }

    /// Releases whose rows are not there any more.
    fn part(&mut self, file: &IndexFile<'_>, before: &Before<'_>, now: u64) {
        let versions: HashSet<&Version> = file.entries.iter().map(|entry| &entry.version).collect();
        let rows: HashSet<(&Version, &Sha256)> =
            file.entries.iter().map(|entry| (&entry.version, &entry.checksum)).collect();
        for (release, row) in before.releases {
            let there = rows.contains(&(&release.id.version, &release.checksum));
            let version_there = versions.contains(&release.id.version);
            match row.state {
                _ if there => {}
                State::Stored if !version_there && !row.gone => {
                    self.gone += 1;
                    self.events.push(Event::Gone { release: release.clone().into(), at: now });
                }
                State::Wanted | State::Refused => {
                    self.events.push(Event::Withdrawn {
                        release: release.clone().into(),
                        at: now,
                        cause: Cause::default(),
                    });
                }
                _ => {}
            }
        }
    }

    fn report(&mut self, name: &CrateName, file: &IndexFile<'_>, before: &Before<'_>, choice: &CrateChoice) {
        let path = name.index_path();
        if before.reported {
            self.events.push(Event::Cleared { path: path.clone() });
        }
        for bad in &file.bad {
            self.reports += 1;
            let (path, line, problem) = (path.clone(), bad.number, bad.problem.clone());
            self.events.push(Event::Report { path, line, problem, lacking: false });
        }
        let missing: Vec<&str> = choice
            .exact()
            .iter()
            .filter(|version| !file.entries.iter().any(|entry| entry.version == **version))
            .map(Version::as_str)
            .collect();
        if !missing.is_empty() {
            self.reports += 1;
            let problem = format!("selected, but not in the upstream's index: {}", missing.join(", "));
            self.events.push(Event::Report { path: path.clone(), line: 0, problem, lacking: true });
        }
        let kept_out: Vec<&str> = file
            .entries
            .iter()
            .enumerate()
            .filter(|(at, entry)| choice.exact().contains(&entry.version) && !choice.wants(*at, entry))
            .map(|(_, entry)| entry.version.as_str())
            .collect();
        if !kept_out.is_empty() {
            self.reports += 1;
            let problem = format!("selected by version, but kept out by the policy: {}", kept_out.join(", "));
            self.events.push(Event::Report { path, line: 0, problem, lacking: true });
        }
    }
}

/// Whether an operator withdrew a release: no bytes of that version are wanted until they take it back.
fn is_barred(row: &Row) -> bool {
    row.state == State::Withdrawn && row.by_operator
}

/// Rows of one file nearly always spell the crate alike, and then are one event.
fn push_wanted(wanted: &mut Vec<(CrateName, Vec<(Version, Sha256)>)>, release: Release) {
    let Release { id, checksum } = release;
    match wanted.last_mut().filter(|(name, _)| *name == id.name) {
        Some((_, releases)) => releases.push((id.version, checksum)),
        None => wanted.push((id.name, vec![(id.version, checksum)])),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crateferry_store::{Happening, Place, Selection, parse_index_file, step};

    use super::*;

    fn line(version: &str, content: &str, yanked: bool) -> String {
        let checksum = Sha256::of(content.as_bytes());
        format!(r#"{{"name":"Serde","vers":"{version}","cksum":"{checksum}","yanked":{yanked}}}"#)
    }

    fn choose(selection: Selection) -> Choice {
        Choice { selection: Arc::new(selection), ..Choice::default() }
    }

    fn known(version: &str, content: &str, state: State) -> (Release, Row) {
        let id = ReleaseId { name: "Serde".parse().unwrap(), version: version.parse().unwrap() };
        let mut row = Row::unknown(id.name.clone());
        row.state = state;
        if state == State::Stored {
            row.place = Some(Place { pack: 1, offset: 512, length: 3 });
        }
        (Release { id, checksum: Sha256::of(content.as_bytes()) }, row)
    }

    fn planned(releases: &[(Release, Row)], lines: &[String]) -> Plan {
        let text = lines.join("\n");
        let name = "serde".parse().unwrap();
        let file = parse_index_file(&name, text.as_bytes());
        plan(
            &name,
            &Before { releases, reported: false },
            &file,
            &choose(Selection { all: true, ..Selection::default() }),
            7,
        )
    }

    #[test]
    fn new_rows_are_wanted_in_one_event() {
        let plan = planned(&[], &[line("1.0.0", "a", false), line("1.0.1", "b", false), line("1.0.2", "c", true)]);
        assert_eq!(plan.wanted, 2);
        assert!(matches!(&plan.events[..], [Event::Wanted { releases, .. }] if releases.len() == 2));
    }

    #[test]
    fn rows_that_are_known_touch_nothing() {
        let releases = [known("1.0.0", "a", State::Stored), known("1.0.1", "b", State::Wanted)];
        assert_eq!(planned(&releases, &[line("1.0.0", "a", true), line("1.0.1", "b", false)]), Plan::default());
    }

    #[test]
    fn a_changed_checksum_is_an_alarm_and_no_deletion() {
        let plan = planned(&[known("1.0.0", "a", State::Stored)], &[line("1.0.0", "other", false)]);
        assert_eq!((plan.alarms, plan.wanted, plan.gone), (1, 1, 0));
    }

    #[test]
    fn a_held_release_that_left_is_gone_and_one_that_was_waited_for_is_withdrawn() {
        let plan = planned(&[known("1.0.0", "a", State::Stored), known("1.0.1", "b", State::Wanted)], &[]);
        assert_eq!(plan.gone, 1);
        assert!(matches!(&plan.events[..], [Event::Gone { .. }, Event::Withdrawn { .. }]));
    }

    #[test]
    fn a_release_that_is_there_again_comes_back() {
        let (release, row) = known("1.0.0", "a", State::Stored);
        let gone = step(row, Happening::Gone { at: 3 });
        let plan = planned(&[(release.clone(), gone.clone())], &[line("1.0.0", "a", false)]);
        assert!(matches!(&plan.events[..], [Event::Back { .. }]));

        let withdrawn = step(gone, Happening::Withdraw { at: 4, reason: String::new(), by_operator: false });
        let plan = planned(&[(release, withdrawn)], &[line("1.0.0", "a", false)]);
        assert_eq!(plan.wanted, 1, "wanting it makes it stored again, since its bytes are held");
    }

    #[test]
    fn a_waiting_release_that_was_yanked_is_left_out() {
        let plan = planned(&[known("1.0.0", "a", State::Wanted)], &[line("1.0.0", "a", true)]);
        assert!(matches!(&plan.events[..], [Event::Excluded { by, .. }] if by == "yanked"));
    }

    #[test]
    fn bad_rows_and_missing_versions_are_reported_and_cleared_when_they_are_mended() {
        let name: CrateName = "serde".parse().unwrap();
        let mut selection = Selection::default();
        selection.own.releases.entry(name.clone()).or_default().insert("9.9.9".parse().unwrap());
        let file = parse_index_file(&name, b"junk");
        let plan = plan(&name, &Before { releases: &[], reported: true }, &file, &choose(selection), 7);
        assert!(matches!(
            &plan.events[..],
            [Event::Cleared { .. }, Event::Report { line: 1, .. }, Event::Report { line: 0, .. }]
        ));
    }
}

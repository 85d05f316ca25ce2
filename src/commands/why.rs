//! `crateferry why`: what wants a crate or a release, or why nothing does.

use std::fmt;

use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_pipeline::index::close_over_held;
use crateferry_pipeline::index::closure::Closing;
use crateferry_pipeline::index::policy::Verdict;
use crateferry_pipeline::index::record::text_of;
use crateferry_pipeline::index::select::Choice;
use crateferry_pipeline::settle::rfc3339;
use crateferry_store::{
    Alarm, CrateName, Entry, LedgerReader, Mirror, Release, ReleaseId, Row, Set, Sha256, State, Version,
    parse_index_file,
};
use semver::VersionReq;
use serde::Serialize;

use crate::cli::WhyArgs;
use crate::config::Config;
use crate::dump;
use crate::report::{self, Exit, usage};
use crate::selection::parse_crate_or_release;
use crate::session;

/// How many ways to a release are shown to people.
const SHOWN: usize = 5;

pub fn run(args: &WhyArgs) -> anyhow::Result<Exit> {
    let (name, version) = parse_crate_or_release(&args.what)?;
    let (mirror, config) = session::open_origin(&args.mirror)?;
    let answer = Asking::new(&mirror, &config)?.answer(&name.lower(), version.as_ref())?;
    let is_in = answer.releases.iter().any(|release| release.held);
    report::print(args.json, &answer)?;
    Ok(if is_in { Exit::Complete } else { Exit::Holes })
}

struct Asking<'a> {
    mirror: &'a Mirror,
    reader: LedgerReader,
    choice: Choice,
    now: u64,
    closing: Closing,
}

/// What is known of a crate.
#[derive(Debug, Serialize)]
struct Answer {
    name: CrateName,
    /// Why there is nothing to tell, if so.
    unknown: Option<String>,
    releases: Vec<Told>,
}

/// What is known of a release.
#[derive(Debug, Serialize)]
struct Told {
    version: Version,
    /// Whether it is held.
    held: bool,
    /// Whether something wants it now.
    wanted: bool,
    /// What stands between the two, or how it comes to be there.
    state: String,
    /// Why this mirror does not give it out, if so.
    quarantined: Option<String>,
    /// All that the upstream ever promised for it, as far as this mirror saw it.
    checksums: Vec<Promised>,
    /// From what wants it to what needs it.
    because: Vec<Vec<String>>,
}

/// A checksum that the upstream promised for a version.
#[derive(Debug, Serialize)]
struct Promised {
    checksum: Sha256,
    /// When it took another one's place, in seconds since 1970; none for the first.
    changed_at: Option<u64>,
    /// What became of it.
    state: &'static str,
    /// The upstream promises it now.
    now: bool,
}

impl<'a> Asking<'a> {
    fn new(mirror: &'a Mirror, config: &Config) -> anyhow::Result<Asking<'a>> {
        let (reader, now) = (mirror.ledger().reader()?, SystemClock.now());
        let choice = session::choice(reader.selection()?, config)?;
        if config.policy.dump.as_deref().and_then(dump::url).is_some() {
            let lacking = || {
                usage("the dump of the policy is named by a URL and was not fetched yet; run `crateferry sync` first")
            };
            choice.policy.read_dump(&dump::last(&mirror.layout().dump()).ok_or_else(lacking)?)?;
        }
        session::heed_own(&choice, mirror)?;
        let closing = close_over_held(mirror, &choice, now)?;
        Ok(Asking { mirror, reader, choice, now, closing })
    }

    fn answer(&self, name: &CrateName, version: Option<&Version>) -> anyhow::Result<Answer> {
        let text = text_of(self.mirror, &self.reader, name)?;
        let known = self.reader.releases_of(name)?;
        let (masks, mut alarms) = (self.reader.masks()?, self.reader.alarms()?);
        alarms.retain(|alarm| alarm.name == *name);
        let mut releases = Vec::new();
        let file = parse_index_file(name, text.as_deref().unwrap_or_default());
        let verdicts = self.choice.policy.judge(name, &file, self.now);
        let asked = |entry: &Entry<'_>| version.is_none_or(|version| entry.version == *version);
        for (entry, verdict) in file.entries.iter().zip(&verdicts).filter(|(entry, _)| asked(entry)) {
            let row = row_of(&known, entry);
            let because = self.because(name, entry);
            let may_enter = *verdict == Verdict::In;
            let (held, wanted) = (row.is_some_and(|row| row.state == State::Stored), may_enter && !because.is_empty());
            let state = state(row, entry, verdict, wanted);
            let id = ReleaseId { name: name.clone(), version: entry.version.clone() };
            let quarantined = masks.of(&id).map(|mask| mask.reason.clone());
            let checksums = history(&known, &alarms, entry);
            releases.push(Told { version: id.version, held, wanted, state, quarantined, checksums, because });
        }
        let unknown = releases.is_empty().then(|| match (&text, version) {
            (Some(_), Some(_)) => "the upstream's index has no such version".to_owned(),
            _ => "nothing that is selected needs it, or the upstream has no such crate".to_owned(),
        });
        Ok(Answer { name: name.clone(), unknown, releases })
    }

    /// Ways from what is selected to a release.
    fn because(&self, name: &CrateName, entry: &Entry<'_>) -> Vec<Vec<String>> {
        let selection = &*self.choice.selection;
        let allowed = selection.include_yanked || !entry.yanked;
        let mut because = Vec::new();
        if selection.all && allowed {
            because.push(vec!["the whole registry".to_owned()]);
        }
        let names =
            std::iter::once("the selection".to_owned()).chain(selection.sets.keys().map(|set| format!("set {set}")));
        for (of, set) in names.zip(selection.every_set()) {
            because.extend(named(name, entry, set, allowed).map(|how| vec![of, how]));
        }
        because.extend(self.closing.needed_by(name, &entry.version, selection));
        because
    }
}

/// What is known of a version: of the release that is served, if one is.
fn row_of<'a>(known: &'a [(Release, Row)], entry: &Entry<'_>) -> Option<&'a Row> {
    let same = || known.iter().filter(|(release, _)| release.id.version == entry.version);
    let promised = same().find(|(release, _)| release.checksum == entry.checksum);
    let held = same().find(|(_, row)| row.state == State::Stored);
    let barred = same().find(|(_, row)| row.state == State::Withdrawn && row.by_operator);
    held.or(barred).or(promised).or_else(|| same().next()).map(|(_, row)| row)
}

/// The checksums of a version, the first one first.
fn history(known: &[(Release, Row)], alarms: &[Alarm], entry: &Entry<'_>) -> Vec<Promised> {
    let same = known.iter().filter(|(release, _)| release.id.version == entry.version);
    let mut promised: Vec<Promised> = same
        .map(|(Release { checksum, .. }, row)| {
            let change = alarms.iter().find(|alarm| alarm.version == entry.version && alarm.now == *checksum);
            let state = match row.state {
                State::Wanted => "wanted",
                State::Stored => "held",
                State::Refused => "refused",
                State::Withdrawn => "withdrawn",
                State::Excluded => "left out",
            };
            let now = *checksum == entry.checksum;
            Promised { checksum: *checksum, changed_at: change.map(|alarm| alarm.at), state, now }
        })
        .collect();
    promised.sort_by_key(|promised| promised.changed_at);
    promised
}

/// How a set names a release itself.
fn named(name: &CrateName, entry: &Entry<'_>, set: &Set, allowed: bool) -> Option<String> {
    if set.releases.get(name).is_some_and(|versions| versions.contains(&entry.version)) {
        return Some("named exactly".to_owned());
    }
    let version = semver::Version::parse(entry.version.as_str()).ok();
    let fits = |text: &&String| {
        let requirement: Option<VersionReq> = text.parse().ok();
        let fits = |requirement: VersionReq| {
            requirement == VersionReq::STAR || version.as_ref().is_some_and(|version| requirement.matches(version))
        };
        allowed && requirement.is_some_and(fits)
    };
    set.crates.get(name)?.iter().find(fits).map(|requirement| format!("{name} {requirement}"))
}

fn state(row: Option<&Row>, entry: &Entry<'_>, verdict: &Verdict, wanted: bool) -> String {
    let yanked = if entry.yanked { ", yanked" } else { "" };
    match row {
        None if *verdict != Verdict::In => kept_out(verdict),
        None if entry.yanked => "out: it is yanked".to_owned(),
        None if wanted => "not fetched yet: the next sync will".to_owned(),
        None => "out: nothing that is selected needs it".to_owned(),
        Some(row) => match row.state {
            State::Stored if wanted => format!("held{yanked}"),
            State::Stored if *verdict != Verdict::In => {
                format!("held{yanked}: it entered before; now {}", kept_out(verdict))
            }
            State::Stored => format!("held{yanked}: it was selected before"),
            State::Wanted => "wanted, not fetched yet".to_owned(),
            State::Refused => format!("lacking: {}", row.reason),
            State::Withdrawn if row.reason.is_empty() => "withdrawn: deleted upstream".to_owned(),
            State::Withdrawn => format!("withdrawn: {}", row.reason.escape_debug()),
            State::Excluded if row.by_operator => "out: an operator accepted that it is missing".to_owned(),
            State::Excluded => format!("out: {}", row.reason),
        },
    }
}

fn kept_out(verdict: &Verdict) -> String {
    match verdict {
        Verdict::In => "in".to_owned(),
        Verdict::Out(rule) => format!("out: the policy's rule {rule}"),
        Verdict::Until(time) => format!("out: the policy's cool-down, until {}", report::time(*time)),
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(unknown) = &self.unknown {
            return writeln!(f, "{}: {unknown}", self.name);
        }
        for Told { version, state, quarantined, checksums, because, .. } in &self.releases {
            writeln!(f, "{} {version}  {state}", self.name)?;
            if let Some(reason) = quarantined {
                writeln!(f, "  in quarantine: {}", reason.escape_debug())?;
            }
            for Promised { checksum, changed_at, state, now } in checksums.iter().filter(|_| checksums.len() > 1) {
                let since = changed_at.map(|at| format!(", seen {}", rfc3339(at))).unwrap_or_default();
                let now = if *now { ", promised now" } else { "" };
                writeln!(f, "  checksum {checksum}: {state}{since}{now}")?;
            }
            for way in because.iter().take(SHOWN) {
                writeln!(f, "  {}", way.join(" -> "))?;
            }
            if because.len() > SHOWN {
                writeln!(f, "  and {} more", because.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

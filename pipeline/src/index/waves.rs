//! Closing a selection over what its roots need, while the upstream is asked for one index file after the other: which
//! files that takes shows only in those that came before.
//!
//! All that is known already is asked for at once, so that a refresh takes one wave. Files are recorded as they come, but
//! planned for only when the selection is closed; until then the ledger's mark says that this is still to be done.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crateferry_store::{Batch, CrateName, Event, Mirror, Selection, Set, parse_index_file};
use rayon::prelude::*;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::closure::{Closing, Unmet};
use super::known::LedgerKnown;
use super::policy::Verdict;
use super::record::{RecordError, Recorded, Recorder, Remembered, text_of};
use super::rows::Rows;
use super::select::Choice;
use crate::upstream::{Change, Comparison, Mark, Progress, Scope, Upstream};

/// A selection whose roots were replaced by the releases that they need.
pub struct Closed {
    /// What is wanted, without roots.
    pub selection: Arc<Selection>,
    /// Texts that came and were not recorded, because nothing is.
    pub texts: Texts,
    /// Dependencies that no release fits.
    pub unmet: Vec<Unmet>,
}

/// Index files by lower-case name.
pub type Texts = Arc<HashMap<CrateName, Vec<u8>>>;

/// What came of asking.
pub struct Asked {
    /// None if nothing changed since the selection was last closed.
    pub closed: Option<Closed>,
    /// What the upstream was like when it was first asked.
    pub mark: Mark,
    /// Whether the ledger's mark was made to say that there is something to plan.
    pub is_marked: bool,
    /// When the first release enters that has to wait, in seconds since 1970.
    pub enters: Option<i64>,
}

/// Where a closing stands.
struct Waves<'a> {
    recorder: &'a Recorder,
    upstream: &'a Upstream,
    progress: Arc<dyn Progress>,
    stop: CancellationToken,
    remembered: Option<&'a Remembered>,
    /// Whether nothing but a change of the index can change what is wanted.
    settled: bool,
    is_marked: bool,
    asked: HashSet<CrateName>,
    texts: Texts,
}

impl Recorder {
    /// Asks the upstream for all that the selection needs, and records what changed. Plans nothing.
    pub(super) async fn close(
        &self,
        upstream: &Upstream,
        remembered: Option<&Remembered>,
        progress: Arc<dyn Progress>,
        stop: &CancellationToken,
        recorded: &mut Recorded,
    ) -> Result<Asked, RecordError> {
        let settled = remembered.is_some_and(|remembered| self.is_settled(remembered));
        let mut waves = Waves {
            recorder: self,
            upstream,
            progress,
            stop: stop.clone(),
            remembered,
            settled,
            is_marked: false,
            asked: HashSet::new(),
            texts: Texts::default(),
        };
        let first: HashSet<CrateName> =
            self.terms.choice.selection.names().into_iter().chain(self.known_names()?).collect();
        let first: Vec<CrateName> = first.into_iter().collect();
        let mut mark = waves.ask(&first, recorded).await?;
        if settled && recorded.changed == 0 && recorded.removed == 0 && mark.complete {
            return Ok(Asked { closed: None, mark, is_marked: false, enters: None });
        }
        let closing = Closing::new(&self.terms.choice.selection).map_err(|error| RecordError::Root(Box::new(error)))?;
        let mut enters = None;
        let (mut closing, mut lacking) = self.cpu.run(move || go_on(closing, Vec::new())).await;
        while !lacking.is_empty() {
            let new: Vec<CrateName> = lacking.iter().filter(|name| !waves.asked.contains(name)).cloned().collect();
            if !new.is_empty() {
                mark.complete &= waves.ask(&new, recorded).await?.complete;
            }
            let (mirror, texts, choice, now) =
                (self.mirror.clone(), waves.texts.clone(), self.terms.choice.clone(), self.terms.now);
            let told = self.cpu.run(move || tell(&mirror, &texts, lacking, &choice, now)).await?;
            enters = told.iter().filter_map(|(_, _, enters)| *enters).chain(enters).min();
            (closing, lacking) = self.cpu.run(move || go_on(closing, told)).await;
        }
        // The next comparison begins with all that is known then.
        mark.scope = Scope::names(self.terms.choice.selection.names().into_iter().chain(self.known_names()?)).digest();
        let selection = Arc::new(closed_over(&self.terms.choice.selection, &closing));
        let closed = Closed { selection, texts: waves.texts, unmet: closing.unmet(&self.terms.choice.selection) };
        Ok(Asked { closed: Some(closed), mark, is_marked: waves.is_marked, enters })
    }

    /// All crates whose index files are known.
    pub(super) fn known_names(&self) -> Result<Vec<CrateName>, RecordError> {
        let (reader, mut names) = (self.mirror.ledger().reader()?, Vec::new());
        loop {
            let more = reader.upstream_names_after(names.last(), self.limits.index_step)?;
            if more.is_empty() {
                return Ok(names);
            }
            names.extend(more);
        }
    }
}

impl Waves<'_> {
    /// Asks for some index files.
    async fn ask(&mut self, names: &[CrateName], recorded: &mut Recorded) -> Result<Mark, RecordError> {
        self.asked.extend(names.iter().cloned());
        let (out, changes) = mpsc::channel(self.recorder.limits.index_queue);
        let comparison = Comparison {
            scope: Scope::names(names.iter().cloned()),
            known: Arc::new(LedgerKnown(self.recorder.mirror.ledger().clone())),
            last: self.remembered.map(|remembered| remembered.upstream.clone()),
            out,
            progress: self.progress.clone(),
            stop: self.stop.clone(),
        };
        let upstream = self.upstream;
        let compare = async { upstream.changes(comparison).await.map_err(RecordError::from) };
        let (mark, ()) = tokio::try_join!(compare, self.take(changes, recorded))?;
        Ok(mark)
    }

    async fn take(&mut self, mut changes: mpsc::Receiver<Change>, recorded: &mut Recorded) -> Result<(), RecordError> {
        let mut outbox = self.recorder.outbox();
        loop {
            let mut step = self.recorder.next_step(&mut changes).await;
            if step.is_empty() {
                return outbox.empty().await;
            }
            if let (true, false, Some(remembered)) = (self.settled, self.is_marked, self.remembered) {
                outbox.send(vec![(unsettle(remembered), super::diff::Plan::default())], recorded).await?;
                self.is_marked = true;
            }
            if self.recorder.writer.is_none() {
                let texts = Arc::make_mut(&mut self.texts);
                for change in &mut step {
                    if let Change::Updated { name, text, .. } = change {
                        texts.insert(name.clone(), text.clone());
                    }
                }
            }
            let planned = self.recorder.plan_step(step, recorded).await?;
            outbox.send(planned, recorded).await?;
        }
    }
}

/// Says in the ledger that what is wanted is to be planned again, before anything is recorded that calls for it.
fn unsettle(remembered: &Remembered) -> Batch {
    let remembered = Remembered { selection: crateferry_store::Blake3::of(b""), ..remembered.clone() };
    let mut batch = Batch::default();
    batch.add(Event::Mark { mark: serde_json::to_value(&remembered).expect("marks are plain") });
    batch
}

/// Rows that may enter, and when the first does that has to wait.
type Told = Vec<(CrateName, Option<Rows>, Option<i64>)>;

fn go_on(mut closing: Closing, told: Told) -> (Closing, Vec<CrateName>) {
    told.into_iter().for_each(|(name, rows, _)| closing.tell(&name, rows));
    let lacking = closing.lacking();
    (closing, lacking)
}

fn tell(mirror: &Mirror, texts: &Texts, names: Vec<CrateName>, choice: &Choice, now: u64) -> Result<Told, RecordError> {
    let reader = mirror.ledger().reader()?;
    let tell = |name: CrateName| {
        let held;
        let text = match texts.get(&name) {
            Some(text) => Some(text),
            None => {
                held = text_of(mirror, &reader, &name)?;
                held.as_ref()
            }
        };
        let Some(text) = text else { return Ok((name, None, None)) };
        let file = parse_index_file(&name, text);
        let verdicts = choice.policy.judge(&name, &file, now);
        let waits =
            verdicts.iter().filter_map(|verdict| if let Verdict::Until(time) = verdict { Some(*time) } else { None });
        let rows = Rows::read(
            file.entries
                .iter()
                .zip(&verdicts)
                .filter_map(|(entry, verdict)| (*verdict == Verdict::In).then_some(entry)),
        );
        Ok((name, Some(rows), waits.min()))
    };
    names.into_par_iter().map(tell).collect()
}

/// The selection with the releases that its roots need instead of them.
fn closed_over(selection: &Selection, closing: &Closing) -> Selection {
    let mut own = Set::default();
    selection.every_set().for_each(|set| own.add(set));
    own.roots.clear();
    for (name, versions) in closing.releases() {
        own.releases.entry(name.clone()).or_default().extend(versions);
    }
    Selection { all: selection.all, include_yanked: selection.include_yanked, own, sets: BTreeMap::new() }
}

/// Closes a selection over index files that are held: what `why` tells of.
pub fn close_over_held(mirror: &Mirror, choice: &Choice, now: u64) -> Result<Closing, RecordError> {
    let mut closing = Closing::new(&choice.selection).map_err(|error| RecordError::Root(Box::new(error)))?;
    let mut lacking = closing.lacking();
    while !lacking.is_empty() {
        (closing, lacking) = go_on(closing, tell(mirror, &Texts::default(), lacking, choice, now)?);
    }
    Ok(closing)
}

//! Recording before fetching.
//!
//! What the upstream changed is made durable first: texts to the pack, identities and wanted releases to the ledger, in
//! one group each step. The source of the flow is the ledger's work table and never the upstream itself, so nothing that
//! was seen can be forgotten, however the sync ends.
//!
//! The mark of a complete comparison is recorded last, with the selection that it was planned for. A crate whose file did
//! not change is planned again only if the selection did.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use crateferry_store::{
    Batch, Blake3, CrateName, Event, Identity, IndexFile, LedgerError, LedgerReader, Mirror, Pending, Place, ReadError,
    Selection, WriteError, Writer, parse_index_file, wait,
};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::diff::{Before, Plan, plan};
use super::known::LedgerKnown;
use super::select::{Choice, CrateChoice};
use super::survey::{Depth, Survey};
use super::waves::{Closed, Texts};
use crate::cpu::Cpu;
use crate::limits::Limits;
use crate::upstream::{Change, Comparison, Mark, Problem, Progress, Scope, Upstream, UpstreamError};

/// The upstream's changes could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The upstream's index could not be compared.
    #[error("cannot compare the upstream's index")]
    Upstream(#[from] UpstreamError),
    /// The ledger could not be read.
    #[error("cannot read what is known of the index")]
    Ledger(#[from] LedgerError),
    /// A text that was recorded earlier could not be read again.
    #[error("cannot read the index file of crate {name}")]
    Text {
        /// The crate.
        name: CrateName,
        /// Why.
        source: ReadError,
    },
    /// A root of the selection cannot be read.
    #[error("a root of the selection cannot be used")]
    Root(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The changes could not be made durable.
    #[error("cannot record the upstream's changes")]
    Write(#[from] WriteError),
}

/// What was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// Index files that are new or have other bytes.
    pub changed: u64,
    /// Index files that the upstream has no more.
    pub removed: u64,
    /// Releases that are newly wanted.
    pub wanted: u64,
    /// Held releases that left the index.
    pub gone: u64,
    /// Versions with another checksum than before.
    pub alarms: u64,
    /// Rows and files that cannot be used.
    pub reports: u64,
    /// Index files that could not be read this time: name and reason.
    pub failed: Vec<(String, String)>,
    /// Roots of the selection that no release fits.
    pub unmet: Vec<String>,
    /// Releases that are selected and that the policy keeps out, by rule: of the crates that were looked at.
    pub kept_out: BTreeMap<&'static str, u64>,
    /// When the first of those enters that only have to wait, in seconds since 1970.
    pub enters: Option<i64>,
}

impl Recorded {
    /// What had to wait before does so still.
    fn wait_for(&mut self, remembered: Option<&Remembered>) {
        let before = remembered.and_then(|remembered| remembered.enters);
        self.enters = self.enters.into_iter().chain(before).min();
    }

    fn count(&mut self, plan: &Plan) {
        self.wanted += plan.wanted;
        self.gone += plan.gone;
        self.alarms += plan.alarms;
        self.reports += plan.reports;
        for (rule, count) in &plan.kept_out {
            *self.kept_out.entry(rule).or_default() += count;
        }
        self.enters = self.enters.into_iter().chain(plan.enters).min();
    }
}

/// What is planned for.
#[derive(Clone)]
pub struct Terms {
    /// What the mirror wants.
    pub choice: Choice,
    /// Seconds since 1970.
    pub now: u64,
    /// Who looks at each crate that is planned for.
    pub survey: Option<Arc<Survey>>,
}

/// What recording works with.
pub struct Recorder {
    /// The mirror.
    pub mirror: Arc<Mirror>,
    /// Its writer; none to plan without recording.
    pub writer: Option<Arc<Writer>>,
    /// What is planned for.
    pub terms: Terms,
    /// Where planning computes.
    pub cpu: Cpu,
    /// The limits.
    pub limits: Limits,
}

/// What the ledger remembers of a complete comparison.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub(super) upstream: Mark,
    /// The BLAKE3 of the selection that was planned for.
    pub(super) selection: Blake3,
    /// When a release enters that has to wait until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) enters: Option<i64>,
}

/// The index files that a selection needs.
pub fn scope(selection: &Selection) -> Scope {
    if selection.all { Scope::All } else { Scope::names(selection.names()) }
}

impl Recorder {
    /// Compares the upstream with what is known and records the difference.
    pub async fn record(
        &self,
        upstream: &Upstream,
        progress: Arc<dyn Progress>,
        stop: &CancellationToken,
    ) -> Result<Recorded, RecordError> {
        let remembered = self.remembered()?;
        if self.terms.choice.selection.has_roots() {
            return self.record_closed(upstream, remembered, progress, stop).await;
        }
        let (out, changes) = mpsc::channel(self.limits.index_queue);
        let comparison = Comparison {
            scope: scope(&self.terms.choice.selection),
            known: Arc::new(LedgerKnown(self.mirror.ledger().clone())),
            last: remembered.as_ref().map(|remembered| remembered.upstream.clone()),
            out,
            progress,
            stop: stop.clone(),
        };
        let compare = async { upstream.changes(comparison).await.map_err(RecordError::from) };
        let (mark, (mut recorded, planned)) = tokio::try_join!(compare, self.take(changes))?;
        if remembered.as_ref().is_none_or(|remembered| !self.is_settled(remembered)) {
            if self.writer.is_some() {
                // Each is planned again, and counted then.
                (recorded.kept_out, recorded.enters) = (BTreeMap::new(), None);
                self.terms.survey.iter().for_each(|survey| survey.forget());
            }
            self.plan_known_again(&planned, &mut recorded).await?;
        } else {
            recorded.wait_for(remembered.as_ref());
        }
        self.remember(remembered, mark, recorded.enters).await?;
        Ok(recorded)
    }

    /// Records for a selection that wants crates with all they need.
    async fn record_closed(
        &self,
        upstream: &Upstream,
        remembered: Option<Remembered>,
        progress: Arc<dyn Progress>,
        stop: &CancellationToken,
    ) -> Result<Recorded, RecordError> {
        let mut recorded = Recorded::default();
        let asked = self.close(upstream, remembered.as_ref(), progress, stop, &mut recorded).await?;
        if asked.closed.is_none() {
            recorded.wait_for(remembered.as_ref());
        }
        if let Some(Closed { selection, texts, unmet }) = asked.closed {
            let of_roots = unmet.iter().filter(|unmet| unmet.chain.len() == 1);
            recorded.unmet = of_roots.map(ToString::to_string).collect();
            recorded.enters = asked.enters;
            let choice = Choice { selection, ..self.terms.choice.clone() };
            self.plan_everything(&Terms { choice, ..self.terms.clone() }, &texts, &mut recorded).await?;
        }
        self.remember(remembered.filter(|_| !asked.is_marked), asked.mark, recorded.enters).await?;
        Ok(recorded)
    }

    /// Plans every crate that is known, or came and was not recorded.
    async fn plan_everything(&self, terms: &Terms, texts: &Texts, recorded: &mut Recorded) -> Result<(), RecordError> {
        let known = self.known_names()?;
        let new = texts.keys().filter(|name| known.binary_search(name).is_err()).cloned();
        let names: Vec<CrateName> = known.iter().cloned().chain(new).collect();
        let mut outbox = self.outbox();
        for names in names.chunks(self.limits.index_step) {
            let (mirror, terms, texts) = (self.mirror.clone(), terms.clone(), texts.clone());
            let names = names.to_vec();
            let planned: Result<Vec<(Batch, Plan)>, RecordError> = self
                .cpu
                .run(move || {
                    let reader = mirror.ledger().reader()?;
                    let plan = |name: CrateName| match texts.get(&name) {
                        Some(text) => {
                            let file = parse_index_file(&name, text);
                            Ok(with_events(Batch::default(), plan_file(&reader, &name, &file, &terms)?))
                        }
                        None => plan_known(&mirror, &reader, &name, &terms),
                    };
                    names.into_par_iter().map(plan).collect()
                })
                .await;
            outbox.send(planned?, recorded).await?;
        }
        outbox.empty().await
    }

    fn remembered(&self) -> Result<Option<Remembered>, RecordError> {
        let mark = self.mirror.ledger().reader()?.mark()?;
        Ok(mark.and_then(|mark| serde_json::from_value(mark).ok()))
    }

    pub(super) fn selection_digest(&self) -> Blake3 {
        let mut text = serde_json::to_vec(&*self.terms.choice.selection).expect("selections have string keys");
        text.extend(self.terms.choice.policy.digest().into_iter().flat_map(|digest| digest.0));
        Blake3::of(&text)
    }

    /// Whether nothing but a change of the index can change what is wanted.
    pub(super) fn is_settled(&self, remembered: &Remembered) -> bool {
        if self.terms.survey.as_ref().is_some_and(|survey| survey.depth() != Depth::Changes) {
            // Every crate is to be looked at.
            return false;
        }
        let waits = remembered.enters.is_none_or(|enters| enters > self.terms.now.cast_signed());
        waits && remembered.selection == self.selection_digest()
    }

    async fn remember(&self, before: Option<Remembered>, mark: Mark, enters: Option<i64>) -> Result<(), RecordError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let now = Remembered { upstream: mark, selection: self.selection_digest(), enters };
        let value = serde_json::to_value(&now).expect("marks are plain");
        let unchanged = before.is_some_and(|before| serde_json::to_value(before).ok().as_ref() == Some(&value));
        if unchanged {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.add(Event::Mark { mark: value });
        let submitted = writer.submit(batch);
        settled(writer.flush()).await?;
        settled(submitted).await.map(drop)
    }

    /// Records changes as they come, a step at a time. If nothing is recorded, also says for which crates it planned.
    async fn take(&self, mut changes: mpsc::Receiver<Change>) -> Result<(Recorded, HashSet<CrateName>), RecordError> {
        let (mut recorded, mut planned_for) = (Recorded::default(), HashSet::new());
        let mut outbox = self.outbox();
        loop {
            let step = self.next_step(&mut changes).await;
            if step.is_empty() {
                outbox.empty().await?;
                return Ok((recorded, planned_for));
            }
            if self.writer.is_none() {
                planned_for.extend(step.iter().filter_map(name_of).cloned());
            }
            let planned = self.plan_step(step, &mut recorded).await?;
            outbox.send(planned, &mut recorded).await?;
        }
    }

    /// What is there of changes, within the limits of a step; waits for the first. Empty at the end.
    pub(super) async fn next_step(&self, changes: &mut mpsc::Receiver<Change>) -> Vec<Change> {
        let mut step: Vec<Change> = changes.recv().await.into_iter().collect();
        let mut bytes: usize = step.iter().map(length_of).sum();
        while step.len() < self.limits.index_step && bytes < self.limits.index_step_bytes {
            let Ok(change) = changes.try_recv() else { break };
            bytes += length_of(&change);
            step.push(change);
        }
        step
    }

    pub(super) fn outbox(&self) -> Outbox<'_> {
        Outbox { writer: self.writer.as_deref(), waiting: VecDeque::new(), limit: self.limits.index_unsettled }
    }

    pub(super) async fn plan_step(
        &self,
        step: Vec<Change>,
        recorded: &mut Recorded,
    ) -> Result<Vec<(Batch, Plan)>, RecordError> {
        for change in &step {
            match change {
                Change::Updated { .. } => recorded.changed += 1,
                Change::Gone { .. } => recorded.removed += 1,
                Change::Failed { name, problem, .. } => {
                    recorded.failed.push((name.to_string(), crate::error_chain(problem.as_ref())));
                }
                Change::Renewed { .. } | Change::Unusable { .. } => {}
            }
        }
        let (mirror, terms) = (self.mirror.clone(), self.terms.clone());
        self.cpu
            .run(move || {
                let reader = mirror.ledger().reader()?;
                step.into_par_iter().map(|change| plan_change(&reader, change, &terms)).collect()
            })
            .await
    }

    /// The selection changed: plans every crate in its scope again from the texts that are held, but for those that were
    /// `planned` without being recorded. Planning what is recorded does nothing the second time.
    async fn plan_known_again(&self, planned: &HashSet<CrateName>, recorded: &mut Recorded) -> Result<(), RecordError> {
        let named = (!self.terms.choice.selection.all).then(|| self.terms.choice.selection.names());
        let mut after: Option<CrateName> = None;
        let mut outbox = self.outbox();
        loop {
            let names = match &named {
                None => self.mirror.ledger().reader()?.upstream_names_after(after.as_ref(), self.limits.index_step)?,
                Some(names) => names_behind(names, after.as_ref(), self.limits.index_step),
            };
            let Some(last) = names.last() else { return outbox.empty().await };
            after = Some(last.clone());
            let names: Vec<CrateName> = names.into_iter().filter(|name| !planned.contains(name)).collect();
            let (mirror, terms) = (self.mirror.clone(), self.terms.clone());
            let planned = self
                .cpu
                .run(move || {
                    let reader = mirror.ledger().reader()?;
                    names.into_par_iter().map(|name| plan_known(&mirror, &reader, &name, &terms)).collect()
                })
                .await;
            let planned: Result<Vec<(Batch, Plan)>, RecordError> = planned;
            outbox.send(planned?, recorded).await?;
        }
    }
}

/// What was planned, on its way to the disk: the next step is planned while the last one becomes durable.
pub(super) struct Outbox<'a> {
    /// None if nothing is recorded.
    writer: Option<&'a Writer>,
    waiting: VecDeque<Pending<Vec<Place>>>,
    limit: usize,
}

impl Outbox<'_> {
    pub(super) async fn send(
        &mut self,
        planned: Vec<(Batch, Plan)>,
        recorded: &mut Recorded,
    ) -> Result<(), RecordError> {
        for (batch, plan) in planned {
            recorded.count(&plan);
            if let Some(writer) = self.writer.filter(|_| !batch.is_empty()) {
                self.waiting.push_back(writer.submit(batch));
            }
        }
        while self.waiting.len() > self.limit {
            let oldest = self.waiting.pop_front().expect("there are more than the limit");
            settled(oldest).await?;
        }
        Ok(())
    }

    /// Waits until all of it is durable.
    pub(super) async fn empty(self) -> Result<(), RecordError> {
        let Some(writer) = self.writer.filter(|_| !self.waiting.is_empty()) else { return Ok(()) };
        settled(writer.flush()).await?;
        for pending in self.waiting {
            settled(pending).await?;
        }
        Ok(())
    }
}

async fn settled<T>(pending: Pending<T>) -> Result<T, RecordError> {
    Ok(pending.await.unwrap_or(Err(WriteError::Stopped))?)
}

fn length_of(change: &Change) -> usize {
    if let Change::Updated { text, .. } = change { text.len() } else { 0 }
}

fn name_of(change: &Change) -> Option<&CrateName> {
    match change {
        Change::Updated { name, .. } | Change::Gone { name } => Some(name),
        Change::Renewed { .. } | Change::Unusable { .. } | Change::Failed { .. } => None,
    }
}

/// The next names of a sorted list.
fn names_behind(names: &[CrateName], after: Option<&CrateName>, limit: usize) -> Vec<CrateName> {
    let from = after.map_or(0, |after| names.partition_point(|name| name <= after));
    names[from..].iter().take(limit).cloned().collect()
}

fn plan_change(reader: &LedgerReader, change: Change, terms: &Terms) -> Result<(Batch, Plan), RecordError> {
    let mut batch = Batch::default();
    match change {
        Change::Updated { name, identity, text } => {
            let Identity { blob, etag } = identity;
            let reference = batch.add_text(&text);
            batch.add(Event::Upstream { name: name.clone(), blob, etag, text: Some(reference) });
            if terms.choice.selection.has_roots() {
                // What is wanted of it shows when all files are there.
                return Ok((batch, Plan::default()));
            }
            let plan = plan_file(reader, &name, &parse_index_file(&name, &text), terms)?;
            Ok(with_events(batch, plan))
        }
        Change::Renewed { name, identity } => {
            batch.add(Event::Upstream { name, blob: identity.blob, etag: identity.etag, text: None });
            Ok((batch, Plan::default()))
        }
        Change::Gone { name } => {
            batch.add(Event::UpstreamGone { name: name.clone() });
            let plan = plan_file(reader, &name, &IndexFile::default(), terms)?;
            Ok(with_events(batch, plan))
        }
        Change::Unusable { path, problem } => {
            if problem == Problem::NoSuchCrate && was_there(reader, &path)? {
                return Ok((batch, Plan::default()));
            }
            let lacking = is_lack(&path, &problem, &terms.choice.selection);
            let problem = crate::error_chain(&problem);
            if !reader.has_report(&path, 0, &problem)? {
                batch.add(Event::Report { path, line: 0, problem, lacking });
            }
            Ok((batch, Plan { reports: 1, ..Plan::default() }))
        }
        Change::Failed { .. } => Ok((batch, Plan::default())),
    }
}

/// Whether a file of no use means that something selected is lacking. Of everything, what could never be a crate is not.
fn is_lack(path: &str, problem: &Problem, selection: &Selection) -> bool {
    match problem {
        // What a root's dependencies name may be gone for good; cargo does not pick those that need it.
        Problem::NoSuchCrate if selection.has_roots() => {
            let name = path.rsplit('/').next().and_then(|name| name.parse::<CrateName>().ok());
            name.is_none_or(|name| selection.names().contains(&name))
        }
        Problem::NoSuchCrate | Problem::TooLarge { .. } | Problem::Unbounded { .. } => true,
        Problem::Name(_) | Problem::Misplaced(_) | Problem::NotAFile => !selection.all,
    }
}

/// Whether the crate with this index path was deleted: its releases tell of that themselves.
fn was_there(reader: &LedgerReader, path: &str) -> Result<bool, RecordError> {
    let name = path.rsplit('/').next().and_then(|name| name.parse::<CrateName>().ok());
    Ok(match name {
        Some(name) => !reader.releases_of(&name)?.is_empty(),
        None => false,
    })
}

/// Plans a crate again whose upstream file is the one that is held.
fn plan_known(
    mirror: &Mirror,
    reader: &LedgerReader,
    name: &CrateName,
    terms: &Terms,
) -> Result<(Batch, Plan), RecordError> {
    let Some(bytes) = text_of(mirror, reader, name)? else { return Ok((Batch::default(), Plan::default())) };
    let plan = plan_file(reader, name, &parse_index_file(name, &bytes), terms)?;
    Ok(with_events(Batch::default(), plan))
}

/// The upstream's index file of a crate, if it is held.
pub fn text_of(mirror: &Mirror, reader: &LedgerReader, name: &CrateName) -> Result<Option<Vec<u8>>, RecordError> {
    let Some((_, text)) = reader.path(name)?.and_then(|row| row.upstream) else { return Ok(None) };
    let read = mirror.packs().text(text.place, text.digests.blake3);
    read.map(Some).map_err(|source| RecordError::Text { name: name.clone(), source })
}

fn plan_file(
    reader: &LedgerReader,
    name: &CrateName,
    file: &IndexFile<'_>,
    terms: &Terms,
) -> Result<Plan, RecordError> {
    let releases = reader.releases_of(name)?;
    let reported = reader.has_reports(&name.index_path())?;
    let Terms { choice, now, survey } = terms;
    if let Some(survey) = survey {
        survey.see(name, file, &releases, &CrateChoice::new(choice, name, file, *now), &choice.policy);
    }
    Ok(plan(name, &Before { releases: &releases, reported }, file, choice, *now))
}

fn with_events(mut batch: Batch, mut plan: Plan) -> (Batch, Plan) {
    plan.events.drain(..).for_each(|event| batch.add(event));
    (batch, plan)
}

/// Stores what the mirror wants, before anything is planned for it.
pub fn select(writer: &Writer, selection: &Selection) -> Result<(), WriteError> {
    let mut batch = Batch::default();
    batch.add(Event::Selection { selection: selection.clone() });
    let pending = writer.submit(batch);
    wait(writer.flush())?;
    wait(pending).map(drop)
}

//! `crateferry sync`: the whole dataflow on one screen.
//!
//! First the upstream's changes are recorded, then what is wanted flows from the ledger's work table into the packs, then
//! what is held is published. `run` has these steps, `flow` the stages; what they need is prepared below them.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use crateferry_pipeline::flow::Flow;
use crateferry_pipeline::index::checksums;
use crateferry_pipeline::index::record::{Recorded, Recorder, Terms, scope, select};
use crateferry_pipeline::index::select::ChecksumChange;
use crateferry_pipeline::index::select::Choice;
use crateferry_pipeline::index::survey::{Estimate, Survey};
use crateferry_pipeline::item::Stored;
use crateferry_pipeline::net::{Budget, Gate};
use crateferry_pipeline::settle::{Outcome, Record};
use crateferry_pipeline::stages::{Checksums, Describe, Enforce, Fetch, FetchLimits, Outage, Store, Verify};
use crateferry_pipeline::upstream::crates::CrateFiles;
use crateferry_pipeline::work::Work;
use crateferry_store::{
    AuditLog, Batch, Event, Mirror, Published, Quarantine, Release, Shrink, Writer, disk_space, publish, wait,
};
use tokio_util::sync::CancellationToken;

use crate::admin::{Admin, Desk, Readiness, Shown};
use crate::cli::{Sidecars, SyncArgs};
use crate::config::{Config, Settings};
use crate::holdings;
use crate::logging;
use crate::metrics::Metrics;
use crate::progress::{FetchProgress, IndexProgress};
use crate::report::{self, Exit, bytes, count, usage};
use crate::run::{Phase, Run, Telling};
use crate::selection::Asked;
use crate::session::{self, Session};
use crate::signals::Signals;

mod advisories;
mod summary;

use summary::Summary;

pub fn run(args: &SyncArgs) -> anyhow::Result<Exit> {
    let asked = Asked::read(&args.selection)?;
    if args.bundle.is_some() {
        super::bundle::create::signing_keys(&args.form)?;
    }
    let checksums = read_checksums(args.checksums.as_deref())?;
    let (mirror, config) = open(args, &asked)?;
    let before = mirror.ledger().reader()?.generation()?.map(|generation| generation.number);
    let sync = Sync::prepare(args, asked, mirror, configure(config, args)?)?;
    let exit = session::runtime()?.block_on(async {
        let signals = Signals::listen().context("cannot listen to signals")?;
        let Some(summary) = sync.run(args, checksums, &signals).await? else { return Ok(interrupted(&signals)) };
        if logging::has_file() {
            summary.log();
        }
        report::print(args.output.json, &summary)?;
        anyhow::Ok(signals.code().map_or(summary.exit(), Exit::Interrupted))
    })?;
    match &args.bundle {
        Some(out) if matches!(exit, Exit::Complete | Exit::Holes) => bundle(args, out, before).map(|()| exit),
        _ => Ok(exit),
    }
}

/// Makes a bundle of what was published since a generation.
fn bundle(args: &SyncArgs, out: &Path, since: Option<u64>) -> anyhow::Result<()> {
    let (mirror, _) = session::open_origin(&args.mirror)?;
    let now = mirror.ledger().reader()?.generation()?.map(|generation| generation.number);
    drop(mirror);
    if now == since {
        tracing::info!("nothing was published, so no bundle is made");
        return Ok(());
    }
    let by_hand = || {
        let range = since.map_or_else(|| "--full".to_owned(), |since| format!("--since {since}"));
        format!("the sync is complete and its bundle is not made; `crateferry bundle create {range}` makes it")
    };
    super::bundle::create::of_sync(args, out, since).with_context(by_hand)
}

/// Does once what a bare `sync` does, for a process that goes on afterwards; counts in `run`, and tells the log what came
/// of it.
pub fn refresh(mirror: &Path, signals: &Signals, run: Arc<Run>) -> anyhow::Result<()> {
    if let Some(summary) = session::runtime()?.block_on(once(&SyncArgs::bare(mirror), signals, run))? {
        summary.log();
    }
    Ok(())
}

/// Fetches what is wanted and not held, without a look at the upstream's index, and publishes what is held then.
pub fn fetch_wanted(mirror: &Path) -> anyhow::Result<()> {
    let args = SyncArgs { offline_index: true, ..SyncArgs::bare(mirror) };
    session::runtime()?.block_on(async {
        let signals = Signals::listen().context("cannot listen to signals")?;
        match once(&args, &signals, Arc::default()).await? {
            Some(_) if signals.code().is_none() => Ok(()),
            _ => bail!("it was interrupted; the same command goes on"),
        }
    })
}

async fn once(args: &SyncArgs, signals: &Signals, run: Arc<Run>) -> anyhow::Result<Option<Summary>> {
    let asked = Asked::read(&args.selection)?;
    let (mirror, config) = open(args, &asked)?;
    let sync = Sync { run, ..Sync::prepare(args, asked, mirror, configure(config, args)?)? };
    sync.run(args, Checksums::default(), signals).await
}

/// A sync that is about to run.
struct Sync {
    session: Session,
    mirror: Arc<Mirror>,
    writer: Arc<Writer>,
    asked: Asked,
    choice: Choice,
    /// What the index says of what is to be fetched.
    survey: Arc<Survey>,
    shrink: Shrink,
    /// What this run counts.
    run: Arc<Run>,
    /// One publication at a time, also when the one before goes on after nobody waits for it any more.
    publishing: Arc<tokio::sync::Mutex<()>>,
}

impl Sync {
    fn prepare(args: &SyncArgs, asked: Asked, mirror: Mirror, config: Config) -> anyhow::Result<Sync> {
        let mirror = Arc::new(mirror);
        let stored = mirror.ledger().reader()?.selection()?;
        let mut selection = stored.clone();
        selection.add(&asked.selection);
        let shrink = match (args.accept_shrink, config.keep_withdrawn) {
            (true, _) => Shrink::Accept,
            (false, true) => Shrink::Keep,
            (false, false) => Shrink::WithinLimit,
        };
        let session = Session::new(config, mirror.layout(), &scope(&selection))?;
        let choice = session::choice(selection.clone(), &session.config)?;
        let writer = Arc::new(mirror.writer()?);
        if selection != stored {
            select(&writer, &selection)?;
        }
        let (survey, run, publishing) = (Arc::default(), Arc::default(), Arc::default());
        Ok(Sync { session, mirror, writer, asked, choice, survey, shrink, run, publishing })
    }

    /// All of a sync; none if it was stopped before anything could be fetched.
    async fn run(self, args: &SyncArgs, checksums: Checksums, signals: &Signals) -> anyhow::Result<Option<Summary>> {
        let begun = Instant::now();
        let _telling = Telling::of(self.run.clone(), self.mirror.layout());
        let _admin = Admin::open(args.admin.as_ref(), || self.desk(&signals.stop)).await?;
        // What was lost had better come again than leave the index for a moment.
        if self.mirror.ledger().reader()?.lost()?.is_empty() {
            self.publish_if_changed(Shrink::Keep).await?;
        }
        if let Err(error) = self.session.dump(&self.choice, self.mirror.layout(), &signals.stop).await {
            return if signals.stop.is_cancelled() { Ok(None) } else { Err(error) };
        }
        let advised = self.advisories(args.offline_index, &signals.stop).await?;
        session::heed_own(&self.choice, &self.mirror)?;
        let recorded = match self.record(args, signals).await {
            Err(_) if signals.stop.is_cancelled() => return Ok(None),
            other => other?,
        };
        if args.retry_failed {
            self.retry_holes()?;
        }
        let outcome = self.fetch(args, checksums, signals).await;
        // Whatever stopped the flow: what is whole is published.
        self.run.enter(Phase::Publish);
        let published = self.publish_if_changed(self.shrink).await;
        let (outcome, published) = (outcome?, published?);
        Summary::new(&self, recorded, outcome, &published, advised, begun.elapsed()).map(Some)
    }

    /// What the admin address shows.
    fn desk(&self, stop: &CancellationToken) -> anyhow::Result<Desk> {
        let layout = self.mirror.layout();
        let (holdings, readiness) = (holdings::follow(layout.root())?, Readiness::until(stop));
        readiness.begin();
        Ok(Desk {
            metrics: Metrics::new(holdings.clone(), layout).with_run(self.run.clone()),
            holdings,
            config: self.session.config.clone(),
            run: Shown::Own(self.run.clone()),
            readiness,
        })
    }

    /// Makes the upstream's changes durable, before anything is fetched.
    async fn record(&self, args: &SyncArgs, signals: &Signals) -> anyhow::Result<Recorded> {
        if args.offline_index {
            return Ok(Recorded::default());
        }
        let progress = Arc::new(IndexProgress::new(args.output.progress_interval, self.run.clone()));
        let recorder = Recorder {
            mirror: self.mirror.clone(),
            writer: Some(self.writer.clone()),
            terms: Terms {
                choice: self.choice.clone(),
                now: self.session.clock.now(),
                survey: Some(self.survey.clone()),
            },
            cpu: self.session.cpu.clone(),
            limits: self.session.limits.clone(),
        };
        let recorded = recorder.record(&self.session.upstream, progress.clone(), &signals.stop).await;
        progress.finish();
        let recorded = recorded?;
        self.run.recorded(&recorded);
        Ok(recorded)
    }

    /// The dataflow: from the ledger's work table to the packs.
    fn flow(&self, work: Work, enforce: Enforce, fetch: Fetch, stop: CancellationToken) -> Flow<Stored> {
        let limits = &self.session.limits;
        Flow::from(work, limits.work, limits.failures, stop)
            .then(enforce, limits.enforce)
            .then(fetch, limits.fetch)
            .then(Verify, limits.verify)
            .then(self.describe_stage(), limits.describe)
            .then(Store::new(self.writer.clone()), limits.store)
    }

    /// Lets flow what is due, and publishes now and then meanwhile.
    async fn fetch(&self, args: &SyncArgs, checksums: Checksums, signals: &Signals) -> anyhow::Result<Outcome> {
        let (due, stop) = (self.work_due(args.limit)?, &signals.stop);
        if due == 0 || stop.is_cancelled() {
            return Ok(Outcome::default());
        }
        if !args.force_space {
            self.check_space(due)?;
        }
        let Some((files, template)) = self.session.crate_files(stop).await? else { return Ok(Outcome::default()) };
        self.run.fetches(due);
        let progress = FetchProgress::new(self.run.clone());
        let mut record = self.settle_stage(&progress)?;
        let (work, enforce) = (self.work(args.limit), Enforce { checksums, template });
        let flow = self.flow(work, enforce, self.fetch_stage(files, stop), stop.clone());
        self.run.watch(flow.gauges());
        let ended = tokio::select! {
            ended = flow.run(&mut record) => ended,
            never = self.publish_often() => never,
            () = progress.clone().tell_every(args.output.progress_interval) => unreachable!("it tells for ever"),
        };
        progress.finish();
        record.finish()?;
        wait(self.writer.flush())?;
        ended?;
        Ok(record.outcome)
    }

    /// What cannot fit is not begun. Where lengths are not known, it has to be likely that it cannot.
    fn check_space(&self, due: u64) -> anyhow::Result<()> {
        let Estimate { bytes: size, margin } = self.survey.bytes(due);
        let (least, free) = (size.saturating_sub(margin), disk_space(self.mirror.layout())?.map(|space| space.free));
        match free {
            Some(free) if least > free => bail!(
                "{} to fetch need at least {}, and {} are free in {}; nothing was fetched. `crateferry plan` tells more, \
                 --limit fetches a part, --force-space begins all the same",
                count(due, "release"),
                bytes(least),
                bytes(free),
                self.mirror.layout().root().display()
            ),
            _ => Ok(()),
        }
    }

    fn work_due(&self, limit: Option<u64>) -> anyhow::Result<u64> {
        let due = self.mirror.ledger().reader()?.work_due(self.session.clock.now(), limit.unwrap_or(u64::MAX))?;
        Ok(due)
    }

    fn work(&self, limit: Option<u64>) -> Work {
        Work::new(self.mirror.ledger().clone(), self.session.clock.now(), limit, self.session.limits.work_step)
    }

    fn fetch_stage(&self, files: CrateFiles, stop: &CancellationToken) -> Fetch {
        let (network, limits) = (&self.session.config.network, &self.session.limits);
        Fetch {
            files,
            gate: Arc::new(Gate::new(network)),
            budget: Budget::new(limits.body_bytes),
            spool: self.mirror.spool(),
            retry: self.session.retry.clone(),
            clock: self.session.clock.clone(),
            limits: FetchLimits::new(network),
            outage: Outage::after(limits.outage.0, limits.outage.1),
            stop: stop.clone(),
        }
    }

    fn describe_stage(&self) -> Describe {
        match self.session.config.sidecars {
            Sidecars::Manifest => Describe::on(self.session.cpu.clone()),
            Sidecars::Index | Sidecars::Off => Describe::nothing(),
        }
    }

    fn settle_stage(&self, progress: &FetchProgress) -> anyhow::Result<Record> {
        let (layout, limits) = (self.mirror.layout(), self.mirror.limits());
        let generation = self.mirror.ledger().reader()?.generation()?;
        Ok(Record {
            writer: self.writer.clone(),
            ledger: self.mirror.ledger().clone(),
            audit: AuditLog::open(layout, limits.manifest_bytes)?,
            quarantine: Quarantine::new(layout, limits.quarantine_bytes),
            clock: self.session.clock.clone(),
            generation: generation.map_or(0, |generation| generation.number),
            witness: Box::new(progress.clone()),
            outcome: Outcome::default(),
        })
    }

    /// Publishes now and then, as long as it is asked; never ends.
    async fn publish_often<T>(&self) -> T {
        loop {
            tokio::time::sleep(self.session.limits.publish_every).await;
            if let Err(error) = self.publish_if_changed(self.shrink).await {
                tracing::warn!(error = format!("{error:#}"), "could not publish meanwhile; the sync goes on");
            }
        }
    }

    async fn publish_if_changed(&self, shrink: Shrink) -> anyhow::Result<Published> {
        if self.choice.checksum_change == ChecksumChange::Switch {
            let versions = checksums::changed(&self.mirror.ledger().reader()?)?;
            for id in checksums::switch(&self.mirror, &self.writer, versions, self.session.clock.now())? {
                tracing::warn!("{id} is served with the checksum that the upstream promises now");
            }
        }
        let reader = self.mirror.ledger().reader()?;
        let (tally, advisories) = (reader.tally()?, reader.next_advisories()?);
        let knows_advisories = reader.generation()?.is_none_or(|generation| generation.advisories == advisories);
        let is_composed = reader.dirty_after(None, 1)?.is_empty() && knows_advisories;
        if is_composed && (tally.gone == 0 || shrink == Shrink::Keep) {
            self.mirror.refresh_catalog()?;
            return Ok(Published::default());
        }
        drop(reader);
        let (mirror, writer, now) = (self.mirror.clone(), self.writer.clone(), self.session.clock.now());
        // Taken before the pool is entered, where a thread that waits may begin another piece of work.
        let alone = self.publishing.clone().lock_owned().await;
        let publish_alone = move || {
            let _alone = alone;
            publish(&mirror, &writer, shrink, now)
        };
        Ok(self.session.cpu.run(publish_alone).await?)
    }

    fn retry_holes(&self) -> anyhow::Result<()> {
        let holes = self.mirror.ledger().reader()?.holes()?;
        let mut batch = Batch::default();
        for (release, _) in holes {
            batch.add(Event::Retry { release: Release::into(release) });
        }
        if !batch.is_empty() {
            let pending = self.writer.submit(batch);
            wait(self.writer.flush())?;
            wait(pending)?;
        }
        Ok(())
    }
}

/// Opens the mirror, or makes it if something is selected for it.
fn open(args: &SyncArgs, asked: &Asked) -> anyhow::Result<(Mirror, Config)> {
    let nothing = || {
        usage(format!(
            "nothing is selected in {}: name what to mirror with --lockfile, --crate, --list or --all",
            args.mirror.display()
        ))
    };
    if !asked.selection.is_empty() {
        if !crateferry_store::Layout::new(&args.mirror).config().exists() {
            // What cannot be followed is to leave no mirror behind.
            let config = Settings::of_environment()?.with(args.given()).config()?;
            let choice = session::choice(asked.selection.clone(), &config)?;
            if choice.policy.lacks_advisories() && config.advisories.upstream.is_none() {
                return Err(session::no_advisories());
            }
        }
        return session::open_or_create(&args.mirror, &args.upstream, &scope(&asked.selection));
    }
    let exists = crateferry_store::Layout::new(&args.mirror).config().exists();
    if !exists && (!args.mirror.exists() || args.mirror.is_dir()) {
        return Err(nothing());
    }
    let (mirror, config) = session::open_origin(&args.mirror)?;
    if mirror.ledger().reader()?.selection()?.is_empty() { Err(nothing()) } else { Ok((mirror, config)) }
}

fn configure(config: Config, args: &SyncArgs) -> anyhow::Result<Config> {
    config.with(args.given())
}

fn read_checksums(path: Option<&Path>) -> anyhow::Result<Checksums> {
    let Some(path) = path else { return Ok(Checksums::default()) };
    let text =
        std::fs::read_to_string(path).map_err(|error| usage(format!("checksums {}: {error}", path.display())))?;
    Checksums::parse(&text).map_err(|error| usage(format!("checksums {}: {error}", path.display())))
}

fn interrupted(signals: &Signals) -> Exit {
    Exit::Interrupted(signals.code().unwrap_or(130))
}

//! `crateferry plan`: what a sync would do. Nothing is recorded; a git upstream's clone is brought up to date, because
//! that is how its index is read.

use std::fmt;
use std::sync::Arc;

use crateferry_pipeline::index::record::{Recorded, Recorder, scope};
use crateferry_store::Mirror;
use serde::Serialize;

use crate::cli::PlanArgs;
use crate::config::Config;
use crate::progress::IndexProgress;
use crate::report::{self, Exit, count, usage};
use crate::selection::Asked;
use crate::session::{self, Session};
use crate::signals::Signals;

pub fn run(args: &PlanArgs) -> anyhow::Result<Exit> {
    let asked = Asked::read(&args.selection)?;
    // A mirror that is not there yet is planned for in a folder that goes away again.
    let stand_in = tempfile::tempdir()?;
    let (mirror, config) = match session::open_origin(&args.mirror) {
        Err(error) if session::is_missing(&error) => {
            Mirror::check_new(&args.mirror)?;
            session::create(&stand_in.path().join("mirror"), &args.upstream, &scope(&asked.selection))?
        }
        other => other?,
    };
    session::runtime()?.block_on(plan(args, &asked, mirror, config.with(args.upstream.given())?))
}

async fn plan(args: &PlanArgs, asked: &Asked, mirror: Mirror, config: Config) -> anyhow::Result<Exit> {
    let mut selection = mirror.ledger().reader()?.selection()?;
    selection.add(&asked.selection);
    if selection.is_empty() {
        return Err(usage("nothing is selected: name what to mirror with --lockfile, --crate, --list or --all"));
    }
    let session = Session::new(config, &mirror.layout().upstream(), &scope(&selection))?;
    let signals = Signals::listen()?;
    let progress = Arc::new(IndexProgress::new(args.output.progress_interval, Arc::default()));
    let reader = mirror.ledger().reader()?;
    let tally = reader.tally()?;
    drop(reader);
    let recorder = Recorder {
        mirror: Arc::new(mirror),
        writer: None,
        selection: Arc::new(selection),
        cpu: session.cpu.clone(),
        now: session.clock.now(),
        limits: session.limits.clone(),
    };
    let index = recorder.record(&session.upstream, progress.clone(), &signals.stop).await;
    progress.finish();
    let index = match index {
        Err(_) if signals.code().is_some() => return Ok(Exit::Interrupted(signals.code().unwrap_or(130))),
        other => other?,
    };
    let plan = Plan { fetch: tally.wanted() + index.wanted, waiting: tally.wanted(), held: tally.held, index };
    report::print(args.output.json, &plan)?;
    Ok(Exit::Complete)
}

/// What a sync would do.
#[derive(Debug, Serialize)]
struct Plan {
    /// How the index differs from what is known.
    index: Recorded,
    /// Releases that would be fetched.
    fetch: u64,
    /// Releases of these that were wanted already.
    waiting: u64,
    /// Releases that are held.
    held: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recorded { changed, removed, wanted, gone, alarms, .. } = self.index;
        writeln!(f, "index       {changed} changed, {removed} removed")?;
        writeln!(f, "fetch       {}: {wanted} new, {} waiting", count(self.fetch, "release"), self.waiting)?;
        writeln!(f, "deleted     {}", count(gone, "held release"))?;
        if alarms > 0 {
            writeln!(f, "ALARM       {} with another checksum than before", count(alarms, "version"))?;
        }
        writeln!(f, "held        {}", count(self.held, "release"))
    }
}

//! What does a sync cost that finds little or nothing new?
//!
//! A mirror of the whole registry is made once; then, round by round, a sync that finds nothing, and one after
//! a commit to the git index. `docs/performance.md` tells the method.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bed;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bed::history::{Day, History};
use bed::peer::{first_sync_from, held, status};
use bed::process::{Cost, measure, tethered};
use bed::report::median;
use bed::tree::{Registry, Size};
use bed::web::{Roots, Web};
use clap::Parser;

/// How long any one sync may take.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Measures the syncs of a mirror that is nearly up to date.
#[derive(Debug, Parser)]
#[command(name = "increment")]
struct Arguments {
    /// How many releases the registry has
    #[arg(long, default_value_t = 100_000)]
    releases: usize,
    /// The mean size of crate files in bytes
    #[arg(long, default_value_t = 25_600)]
    mean_size: usize,
    /// How many rounds of nothing new and something new
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// The crateferry to measure, if not the one of this build
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_crateferry"))]
    crateferry: PathBuf,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    if !bed::is_bench_run() {
        println!("run it with: cargo bench --bench increment");
        return Ok(());
    }
    bed::sweep()?;
    let arguments = Arguments::parse();
    let registry = Registry::prepare(Size { releases: arguments.releases, mean_size: arguments.mean_size })?;
    let folder = bed::scratch()?;
    let mut history = History::begin(&registry, folder.path())?;
    let web = Web::start(&Roots { registry: &registry.root, overlay: Some(&history.overlay) })?;
    let mirror = Mirror { crateferry: &arguments.crateferry, folder: folder.path() };
    let first = mirror.first_sync(&web, &history, registry.releases() as u64)?;
    let rounds = (0..arguments.runs).map(|_| mirror.round(&mut history)).collect::<anyhow::Result<Vec<_>>>()?;
    let (idle, busy): (Vec<Cost>, Vec<Cost>) = rounds.into_iter().unzip();
    println!("\n{} releases, median of {} rounds\n", registry.releases(), arguments.runs);
    println!("| sync           | wall ms | CPU ms | RssAnon MiB | written MiB |");
    println!("|----------------|--------:|-------:|------------:|------------:|");
    for (name, costs) in [("first", vec![first]), ("nothing new", idle), ("two hours later", busy)] {
        println!("{}", row(name, &costs));
    }
    Ok(())
}

/// A mirror that is measured.
struct Mirror<'a> {
    crateferry: &'a Path,
    folder: &'a Path,
}

impl Mirror<'_> {
    fn path(&self) -> PathBuf {
        self.folder.join("mirror")
    }

    fn first_sync(&self, web: &Web, history: &History, releases: u64) -> anyhow::Result<Cost> {
        let cost = self.measured(first_sync_from(self.crateferry, web, &history.index, &self.path()))?;
        let held = self.held()?;
        ensure!(held == releases, "the first sync holds {held} of {releases} releases");
        Ok(cost)
    }

    /// A sync without news, then one with.
    fn round(&self, history: &mut History) -> anyhow::Result<(Cost, Cost)> {
        let before = self.held()?;
        let idle = self.sync()?;
        ensure!(self.held()? == before, "a sync without news changed what is held");
        history.go_on(Day::ORDINARY)?;
        let busy = self.sync()?;
        let gained = self.held()?.saturating_sub(before);
        let expected = Day::ORDINARY.gain() as u64;
        ensure!(gained == expected, "a sync with news gained {gained} releases, not {expected}");
        Ok((idle, busy))
    }

    fn sync(&self) -> anyhow::Result<Cost> {
        let mut command = tethered(self.crateferry);
        command.arg("sync").arg(self.path());
        self.measured(command)
    }

    fn measured(&self, command: std::process::Command) -> anyhow::Result<Cost> {
        let log = self.folder.join("log");
        let finished = measure(command, &log, LIMIT)?;
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        ensure!(finished.status.success(), "sync ended with {}: {}", finished.status, said());
        Ok(finished.cost)
    }

    fn held(&self) -> anyhow::Result<u64> {
        let status = status(self.crateferry, &self.path())?;
        Ok(held(&status).context("the mirror cannot be read")?.0)
    }
}

fn row(name: &str, costs: &[Cost]) -> String {
    let middle = |number: fn(&Cost) -> f64| median(costs.iter().map(number).collect());
    let wall = middle(|cost| cost.wall.as_secs_f64() * 1e3);
    let cpu = middle(|cost| cost.cpu().as_secs_f64() * 1e3);
    let anon = match middle(|cost| cost.rss_anon as f64 / 1_048_576.0) {
        // It was over before it was looked at.
        0.0 => "-".to_owned(),
        anon => format!("{anon:.0}"),
    };
    let written = middle(|cost| cost.written as f64 / 1_048_576.0);
    format!("| {name:<14} | {wall:>7.0} | {cpu:>6.0} | {anon:>11} | {written:>11.1} |")
}

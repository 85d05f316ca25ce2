//! What does a request cost that a mirror answers?
//!
//! crateferry and nginx serve the same index files and crate files, over TLS and HTTP/2, to the same h2load, one after
//! the other, round by round. nginx reads plain files, with the gzipped form of index files beside them.
//! `docs/performance.md` tells the method.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bed;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bed::load::{Load, Loaded, Subject};
use bed::peer::first_sync_from;
use bed::process::measure;
use bed::report::median;
use bed::tree::{Registry, Size};
use bed::web::{Roots, Web};
use clap::Parser;

/// How long the mirror may take to be made.
const LIMIT: Duration = Duration::from_secs(60 * 60);

/// Measures a server beside nginx.
#[derive(Debug, Parser)]
#[command(name = "serve")]
struct Arguments {
    /// How many releases the registry has
    #[arg(long, default_value_t = 20_000)]
    releases: usize,
    /// The mean size of crate files in bytes
    #[arg(long, default_value_t = 30_720)]
    mean_size: usize,
    /// Requests of one run
    #[arg(long, default_value_t = 100_000)]
    requests: usize,
    /// Connections at once
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// How many runs of each
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only how long a server takes to start, and its memory
    #[arg(long)]
    start: bool,
    /// Keep the mirror in this folder for the next time
    #[arg(long, value_name = "DIR")]
    mirror: Option<PathBuf>,
    /// The crateferry to measure, if not the one of this build
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_crateferry"))]
    crateferry: PathBuf,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    if !bed::is_bench_run() {
        println!("run it with: cargo bench --bench serve");
        return Ok(());
    }
    bed::sweep()?;
    let arguments = Arguments::parse();
    let registry = Registry::prepare(Size { releases: arguments.releases, mean_size: arguments.mean_size })?;
    let folder = bed::scratch()?;
    let mirror = arguments.mirror.clone().unwrap_or_else(|| folder.path().join("mirror"));
    if !mirror.join("crateferry.toml").exists() {
        make(&arguments.crateferry, &registry, &mirror, &folder.path().join("log"))?;
    }
    starts(&arguments, &mirror)?;
    if arguments.start {
        return Ok(());
    }
    let tree = bed::load::tree(&registry, folder.path())?;
    for (what, paths) in [("index files", registry.index_paths()?), ("crate files", registry.crate_paths().collect())] {
        let load = Load { paths, requests: arguments.requests, connections: arguments.connections, streams: 32 };
        compare(&arguments, what, &load, &mirror, &tree)?;
    }
    memory(&arguments, &registry, &mirror)
}

fn make(crateferry: &Path, registry: &Registry, mirror: &Path, log: &Path) -> anyhow::Result<()> {
    let web = Web::start(&Roots { registry: &registry.root, overlay: None })?;
    let finished = measure(first_sync_from(crateferry, &web, &registry.git_index(), mirror), log, LIMIT)?;
    let said = std::fs::read_to_string(log).unwrap_or_default();
    anyhow::ensure!(finished.status.success(), "the mirror cannot be made: {said}");
    Ok(())
}

fn starts(arguments: &Arguments, mirror: &Path) -> anyhow::Result<()> {
    let mut times = Vec::new();
    let mut resident = 0;
    for _ in 0..arguments.runs.max(3) {
        let begun = Instant::now();
        let subject = Subject::crateferry(&arguments.crateferry, mirror)?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        resident = subject.memory()?;
    }
    let time = median(times);
    println!("\n{} releases: answers {time:.0} ms after its start, RSS {:.1} MiB", arguments.releases, mebi(resident));
    Ok(())
}

fn compare(arguments: &Arguments, what: &str, load: &Load, mirror: &Path, tree: &Path) -> anyhow::Result<()> {
    let mut all: [Vec<Loaded>; 2] = Default::default();
    for _ in 0..arguments.runs {
        all[0].push(load.put_on(&Subject::crateferry(&arguments.crateferry, mirror)?)?);
        all[1].push(load.put_on(&Subject::nginx(tree)?)?);
    }
    println!("\n{what}: {} requests, median of {} runs\n", load.requests, arguments.runs);
    println!("| server     | requests/s | CPU µs/request |   MB/s | RSS MiB |");
    println!("|------------|-----------:|---------------:|-------:|--------:|");
    let mut figures = Vec::new();
    for (name, runs) in ["crateferry", "nginx"].into_iter().zip(&all) {
        let middle = |number: fn(&Loaded) -> f64| median(runs.iter().map(number).collect());
        let (rate, cpu) = (middle(Loaded::per_second), middle(Loaded::cpu_micros));
        let (speed, rss) = (middle(Loaded::megabytes_per_second), middle(|run| mebi(run.rss)));
        println!("| {name:<10} | {rate:>10.0} | {cpu:>14.1} | {speed:>6.0} | {rss:>7.1} |");
        figures.push((rate, cpu));
    }
    let (ours, theirs) = (figures[0], figures[1]);
    println!("\nof nginx: {:.2} of its requests/s, {:.2} of its CPU/request", ours.0 / theirs.0, ours.1 / theirs.1);
    Ok(())
}

/// How memory grows with connections that all load at once.
fn memory(arguments: &Arguments, registry: &Registry, mirror: &Path) -> anyhow::Result<()> {
    println!("\n| connections | RSS MiB | requests/s |\n|------------:|--------:|-----------:|");
    for connections in [0, 64, 1000] {
        let subject = Subject::crateferry(&arguments.crateferry, mirror)?;
        let paths: Vec<String> = registry.crate_paths().collect();
        let load = Load { paths, requests: arguments.requests, connections, streams: 8 };
        let (rss, rate) = match connections {
            0 => (subject.memory()?, 0.0),
            _ => load.put_on(&subject).map(|run| (run.rss, run.per_second()))?,
        };
        println!("| {connections:>11} | {:>7.1} | {rate:>10.0} |", mebi(rss));
    }
    Ok(())
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

//! What does the first sync of a whole registry cost, beside programs that do less?
//!
//! `cargo bench --bench sync -- --help` tells the options, `docs/performance.md` the method.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bed;

use std::path::PathBuf;

use anyhow::bail;
use bed::peer::{Course, Peer};
use bed::report::{self, Figures, Series};
use bed::tree::{Registry, Size};
use bed::web::{Roots, Web};
use clap::Parser;
use serde_json::json;

/// Measures the first sync of a made-up registry behind nginx, and what other programs take for it.
#[derive(Debug, Parser)]
#[command(name = "sync")]
struct Arguments {
    /// How many releases the registry has
    #[arg(long, default_value_t = 20_000)]
    releases: usize,
    /// The mean size of crate files in bytes
    #[arg(long, default_value_t = 92_160)]
    mean_size: usize,
    /// How often each program runs; they take turns
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Which programs run; ratios refer to the first
    #[arg(long, value_enum, value_delimiter = ',', default_value = "crateferry,panamax,curl,h2load")]
    peers: Vec<Peer>,
    /// Only see that the bench works: 200 releases, one run, crateferry alone
    #[arg(long)]
    short: bool,
    /// Write all numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The crateferry to measure, if not the one of this build
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_crateferry"))]
    crateferry: PathBuf,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    fn read() -> Self {
        let arguments = Arguments::parse();
        if arguments.short {
            return Arguments { releases: 200, runs: 1, peers: vec![Peer::Crateferry], ..arguments };
        }
        arguments
    }
}

fn main() -> anyhow::Result<()> {
    if !bed::is_bench_run() {
        println!("run it with: cargo bench --bench sync");
        return Ok(());
    }
    bed::sweep()?;
    let arguments = Arguments::read();
    let registry = Registry::prepare(Size { releases: arguments.releases, mean_size: arguments.mean_size })?;
    let web = Web::start(&Roots { registry: &registry.root, overlay: None })?;
    let course = Course { registry: &registry, web: &web, crateferry: &arguments.crateferry };
    let all = compare(&course, present(&arguments.peers, &course)?, arguments.runs)?;
    println!("\n{} releases, {} bytes, median of {} runs\n", registry.releases(), registry.bytes, arguments.runs);
    println!("{}", report::table(&all));
    if let Some(path) = &arguments.json {
        let parameters = json!({ "releases": registry.releases(), "bytes": registry.bytes, "runs": arguments.runs });
        report::write_json(path, &parameters, &all)?;
    }
    Ok(())
}

/// The programs that are installed; says how to get the others.
fn present(peers: &[Peer], course: &Course) -> anyhow::Result<Vec<Peer>> {
    let mut present = Vec::new();
    for &peer in peers {
        match peer.program(course) {
            Ok(_) => present.push(peer),
            Err(install) => println!("{} is left out; to install it: {install}", peer.name()),
        }
    }
    if present.is_empty() {
        bail!("nothing to measure");
    }
    Ok(present)
}

/// Runs the programs in turns, so that a slow minute of the machine meets them all.
fn compare(course: &Course, peers: Vec<Peer>, runs: usize) -> anyhow::Result<Vec<Series>> {
    let mut all: Vec<(Peer, Series)> =
        peers.into_iter().map(|peer| (peer, Series { name: peer.name().to_owned(), runs: Vec::new() })).collect();
    for number in 1..=runs {
        for (peer, series) in &mut all {
            let run = peer.run(course)?;
            let Figures { cpu_us, wall_s, .. } = Figures::from(&run);
            eprintln!("run {number} of {}: {cpu_us:.0} µs of CPU a crate, {wall_s:.1} s", series.name);
            series.runs.push(run);
        }
    }
    Ok(all.into_iter().map(|(_, series)| series).collect())
}

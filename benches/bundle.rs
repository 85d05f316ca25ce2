//! What do bundles cost, beside programs that only hash and copy the same bytes?
//!
//! A mirror of made-up crate files becomes a full bundle of level `none`, and that is applied to a new replica; `sha256sum` and `cp` do the
//! least that has to be done to the same volumes. All is in the page cache. `docs/performance.md` tells the method.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use bed::process::{Cost, measure, tethered};
use bed::report::median;
use bed::tree::{Registry, Size};
use clap::Parser;

/// A run that takes longer is broken.
const LIMIT: Duration = Duration::from_secs(900);

/// Measures `bundle create` and `bundle apply`.
#[derive(Debug, Parser)]
#[command(name = "bundle")]
struct Arguments {
    /// How many crate files there are
    #[arg(long, default_value_t = 100_000)]
    releases: usize,
    /// Their mean size in bytes
    #[arg(long, default_value_t = 25_600)]
    mean_size: usize,
    /// How often each program runs; they take turns
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// The crateferry to measure, if not the one of this build
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_crateferry"))]
    crateferry: PathBuf,
    /// Only see that it works
    #[arg(long)]
    short: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    if !bed::is_bench_run() {
        println!("run it with: cargo bench --bench bundle");
        return Ok(());
    }
    bed::sweep()?;
    let mut arguments = Arguments::parse();
    if arguments.short {
        (arguments.releases, arguments.runs) = (200, 1);
    }
    let registry = Registry::prepare(Size { releases: arguments.releases, mean_size: arguments.mean_size })?;
    let scratch = bed::scratch()?;
    let bench = Bench { registry: &registry, scratch: scratch.path(), crateferry: &arguments.crateferry };
    bench.make_mirror()?;
    let mut costs = [(); Program::ALL.len()].map(|()| Vec::new());
    for number in 1..=arguments.runs {
        for (program, costs) in Program::ALL.into_iter().zip(&mut costs) {
            let cost = bench.run(program)?;
            let each = micros(cost.cpu()) / registry.releases() as f64;
            eprintln!("run {number} of {}: {each:.0} µs of CPU a crate file", program.name());
            costs.push(cost);
        }
    }
    println!("\n{} crate files, {} bytes, median of {} runs\n", registry.releases(), registry.bytes, arguments.runs);
    bench.print(&costs);
    Ok(())
}

/// What is measured, in this order: each needs what the one before left.
#[derive(Clone, Copy)]
enum Program {
    Create,
    Sha256sum,
    Copy,
    Apply,
    Again,
}

impl Program {
    const ALL: [Program; 5] = [Program::Create, Program::Sha256sum, Program::Copy, Program::Apply, Program::Again];

    fn name(self) -> &'static str {
        match self {
            Program::Create => "bundle create --level none",
            Program::Sha256sum => "sha256sum",
            Program::Copy => "cp",
            Program::Apply => "bundle apply",
            Program::Again => "bundle apply, again",
        }
    }
}

struct Bench<'a> {
    registry: &'a Registry,
    scratch: &'a Path,
    crateferry: &'a Path,
}

impl Bench<'_> {
    fn place(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    fn make_mirror(&self) -> anyhow::Result<()> {
        let quietly = |arguments: &[&Path]| {
            let mut command = Command::new(self.crateferry);
            command.args(arguments).args(["--log-level", "error"]).stdout(Stdio::null());
            let status = command.status().context("cannot run crateferry")?;
            ensure!(status.success(), "crateferry ended with {status}");
            anyhow::Ok(())
        };
        let (mirror, index) = (self.place("mirror"), self.registry.root.join("index"));
        let path = Path::new;
        let sync = [path("sync"), &mirror, path("--all"), path("--limit"), path("0"), path("--upstream"), &index];
        quietly(&[&sync[..], &[path("--sidecars"), path("index")]].concat())?;
        let crates = self.registry.root.join("crates");
        quietly(&[path("import-tree"), &mirror, &crates])?;
        quietly(&[path("keygen"), path("--out"), &self.place("key")])
    }

    fn run(&self, program: Program) -> anyhow::Result<Cost> {
        let (bundle, copy, replica) = (self.place("bundle"), self.place("copy"), self.place("replica"));
        let mut ferry = tethered(self.crateferry);
        ferry.args(["--log-level", "error", "bundle"]);
        let command = match program {
            Program::Create => {
                clear(&bundle)?;
                ferry.arg("create").arg(self.place("mirror")).args(["--full", "--level", "none", "--out"]).arg(&bundle);
                ferry.arg("--sign").arg(self.place("key"));
                ferry
            }
            Program::Sha256sum => {
                let mut command = tethered("sha256sum");
                command.args(volumes(&bundle)?);
                command
            }
            Program::Copy => {
                clear(&copy)?;
                let mut command = tethered("cp");
                command.arg("-r").arg("--reflink=never").arg(&bundle).arg(&copy);
                command
            }
            Program::Apply => {
                clear(&copy)?;
                clear(&replica)?;
                ferry.arg("apply").arg(&replica).arg(&bundle).arg("--trust").arg(self.place("key.pub"));
                ferry
            }
            Program::Again => {
                ferry.arg("apply").arg(&replica).arg(&bundle);
                ferry
            }
        };
        let finished = measure(command, &self.place("output"), LIMIT)?;
        ensure!(finished.status.success(), "{} ended with {}", program.name(), finished.status);
        Ok(finished.cost)
    }

    fn print(&self, costs: &[Vec<Cost>]) {
        let middle = |costs: &[Cost], number: fn(&Cost) -> f64| median(costs.iter().map(number).collect());
        let cpu = |costs: &[Cost]| middle(costs, |cost| micros(cost.cpu()));
        let wall = |costs: &[Cost]| middle(costs, |cost| cost.wall.as_secs_f64());
        let (least_cpu, least_wall) = (cpu(&costs[1]) + cpu(&costs[2]), wall(&costs[1]) + wall(&costs[2]));
        println!("| program | CPU µs/crate file | of `sha256sum` and `cp` | wall s | of theirs | RssAnon MiB |");
        println!("|---|--:|--:|--:|--:|--:|");
        for (program, costs) in Program::ALL.into_iter().zip(costs) {
            println!(
                "| {} | {:.1} | {:.2} | {:.1} | {:.2} | {:.0} |",
                program.name(),
                cpu(costs) / self.registry.releases() as f64,
                cpu(costs) / least_cpu,
                wall(costs),
                wall(costs) / least_wall,
                middle(costs, |cost| cost.rss_anon as f64) / 1_048_576.0
            );
        }
    }
}

fn clear(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}

fn volumes(bundle: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(bundle)?.map(|entry| Ok(entry?.path()));
    let paths: Vec<PathBuf> = entries.collect::<anyhow::Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "tar")).collect())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

//! What does taking over a folder of crate files cost, beside programs that only hash it?
//!
//! The files are those of a made-up registry, in the page cache. `docs/performance.md` tells the method.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bed;

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use bed::process::{Cost, find, measure, tethered};
use bed::report::median;
use bed::tree::{Registry, Size};
use clap::Parser;
use serde_json::Value;

/// A run that takes longer is broken.
const LIMIT: Duration = Duration::from_secs(900);

/// Measures `import-tree`.
#[derive(Debug, Parser)]
#[command(name = "import_tree")]
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

/// What is measured.
#[derive(Clone, Copy)]
enum Program {
    Sha256sum,
    Openssl,
    ImportTree,
    Again,
}

impl Program {
    const ALL: [Program; 4] = [Program::Sha256sum, Program::Openssl, Program::ImportTree, Program::Again];

    fn name(self) -> &'static str {
        match self {
            Program::Sha256sum => "sha256sum",
            Program::Openssl => "openssl dgst -sha256",
            Program::ImportTree => "import-tree",
            Program::Again => "import-tree, again",
        }
    }
}

fn main() -> anyhow::Result<()> {
    if !bed::is_bench_run() {
        println!("run it with: cargo bench --bench import_tree");
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
    bench.list_files()?;
    let mut costs = [(); Program::ALL.len()].map(|()| Vec::new());
    bench.run(Program::Sha256sum)?; // so that all find the files in memory
    for number in 1..=arguments.runs {
        bench.make_mirror()?;
        for (program, costs) in Program::ALL.into_iter().zip(&mut costs) {
            if matches!(program, Program::Openssl) && find("openssl").is_none() {
                continue;
            }
            let cost = bench.run(program)?;
            eprintln!("run {number} of {}: {:.0} µs of CPU a file", program.name(), micros(cost.cpu()) / bench.files());
            costs.push(cost);
        }
    }
    println!("\n{} files, {} bytes, median of {} runs\n", registry.releases(), registry.bytes, arguments.runs);
    bench.print(&costs);
    Ok(())
}

struct Bench<'a> {
    registry: &'a Registry,
    scratch: &'a Path,
    crateferry: &'a Path,
}

impl Bench<'_> {
    fn files(&self) -> f64 {
        self.registry.releases() as f64
    }

    fn crates(&self) -> PathBuf {
        self.registry.root.join("crates")
    }

    fn mirror(&self) -> PathBuf {
        self.scratch.join("mirror")
    }

    /// Writes the names of the files, each with a zero behind it.
    fn list_files(&self) -> anyhow::Result<()> {
        let mut names = Vec::new();
        for path in self.registry.crate_paths() {
            names.extend_from_slice(self.registry.root.as_os_str().as_bytes());
            names.extend_from_slice(path.as_bytes());
            names.push(0);
        }
        fs::write(self.scratch.join("names"), names).context("cannot list the files")
    }

    /// Makes a mirror that wants all and holds nothing.
    fn make_mirror(&self) -> anyhow::Result<()> {
        if self.mirror().exists() {
            fs::remove_dir_all(self.mirror())?;
        }
        let mut command = Command::new(self.crateferry);
        command.arg("sync").arg(self.mirror()).args(["--all", "--limit", "0", "--upstream"]);
        command.arg(self.registry.root.join("index")).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status().context("cannot run crateferry")?;
        ensure!(status.success(), "crateferry could not read the index: {status}");
        Ok(())
    }

    fn run(&self, program: Program) -> anyhow::Result<Cost> {
        let mut command = match program {
            Program::Sha256sum => self.hashing(&["sha256sum"]),
            Program::Openssl => self.hashing(&["openssl", "dgst", "-sha256"]),
            Program::ImportTree | Program::Again => tethered(self.crateferry),
        };
        if matches!(program, Program::ImportTree | Program::Again) {
            command.arg("import-tree").arg(self.mirror()).arg(self.crates()).args(["--json", "--log-level", "error"]);
        }
        let log = self.scratch.join("output");
        let finished = measure(command, &log, LIMIT)?;
        ensure!(finished.status.success(), "{} ended with {}", program.name(), finished.status);
        self.check(program, &fs::read_to_string(&log)?)?;
        Ok(finished.cost)
    }

    fn hashing(&self, hasher: &[&str]) -> Command {
        let mut command = tethered("xargs");
        command.args(["-0", "-a"]).arg(self.scratch.join("names")).args(hasher);
        command
    }

    /// A run counts only if all files were dealt with.
    fn check(&self, program: Program, output: &str) -> anyhow::Result<()> {
        let done = match program {
            Program::Sha256sum | Program::Openssl => output.lines().count() as u64,
            Program::ImportTree => serde_json::from_str::<Value>(output)?["placed"].as_u64().unwrap_or(0),
            Program::Again => serde_json::from_str::<Value>(output)?["held"].as_u64().unwrap_or(0),
        };
        ensure!(done == self.registry.releases() as u64, "{} dealt with {done} files", program.name());
        Ok(())
    }

    fn print(&self, costs: &[Vec<Cost>]) {
        let middle = |costs: &[Cost], number: fn(&Cost) -> f64| median(costs.iter().map(number).collect());
        let of_sha256sum = middle(&costs[0], |cost| micros(cost.cpu()));
        println!("| program | CPU µs/file | system | ratio | wall s | RssAnon MiB |");
        println!("|---|--:|--:|--:|--:|--:|");
        for (program, costs) in Program::ALL.into_iter().zip(costs).filter(|(_, costs)| !costs.is_empty()) {
            let (cpu, system) = (middle(costs, |cost| micros(cost.cpu())), middle(costs, |cost| micros(cost.system)));
            let (wall, memory) =
                (middle(costs, |cost| cost.wall.as_secs_f64()), middle(costs, |cost| cost.rss_anon as f64));
            println!(
                "| {} | {:.0} | {:.0} | {:.2} | {wall:.1} | {:.0} |",
                program.name(),
                cpu / self.files(),
                system / self.files(),
                cpu / of_sha256sum,
                memory / 1_048_576.0
            );
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

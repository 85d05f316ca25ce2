//! How near does `inventory` come to what its algorithms can do?
//!
//! The algorithms run one after another over bytes in memory, on one thread, in this process: that is all the work there is. Then the
//! program does it to files. `docs/performance.md` tells the method.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bed;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bed::report::median;
use clap::Parser;
use crateferry_pipeline::inventory::{Algorithm, Algorithms};
use fastrand::Rng;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// How far sizes of files are spread: about as those of crate files.
const SPREAD: f64 = 1.4;

/// Measures inventories.
#[derive(Debug, Parser)]
#[command(name = "inventory")]
struct Arguments {
    /// How many megabytes there are
    #[arg(long, default_value_t = 400)]
    megabytes: usize,
    /// The mean size of many files in bytes
    #[arg(long, default_value_t = 92_000)]
    mean_size: usize,
    /// How often each inventory is taken
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// How many threads hash, if not one for each core
    #[arg(long)]
    workers: Option<usize>,
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

/// One kind of inventory.
struct Kind {
    name: &'static str,
    folder: &'static str,
    hashes: &'static str,
    options: &'static [&'static str],
    /// How often each byte goes through each algorithm.
    passes: f64,
}

const KINDS: [Kind; 6] = [
    Kind { name: "one file, all eleven", folder: "one", hashes: "all", options: &[], passes: 1.0 },
    Kind {
        name: "many files, all eleven, whole alone",
        folder: "many",
        hashes: "all",
        options: &["--per-file", "none"],
        passes: 1.0,
    },
    Kind {
        name: "many files, all eleven, each alone",
        folder: "many",
        hashes: "all",
        options: &["--whole", "none"],
        passes: 1.0,
    },
    Kind { name: "many files, all eleven, both", folder: "many", hashes: "all", options: &[], passes: 2.0 },
    Kind {
        name: "many files, sha256 and blake3, both",
        folder: "many",
        hashes: "sha256,blake3",
        options: &[],
        passes: 2.0,
    },
    Kind { name: "one file, sha256", folder: "one", hashes: "sha256", options: &[], passes: 1.0 },
];

fn main() -> anyhow::Result<()> {
    if !bed::is_bench_run() {
        println!("run it with: cargo bench --bench inventory");
        return Ok(());
    }
    bed::sweep()?;
    let mut arguments = Arguments::parse();
    if arguments.short {
        (arguments.megabytes, arguments.runs) = (4, 1);
    }
    let workers = arguments
        .workers
        .map_or_else(std::thread::available_parallelism, |workers| workers.try_into().map_err(std::io::Error::other))?;
    let scratch = bed::scratch()?;
    let bytes = write_files(scratch.path(), &arguments)?;
    println!(
        "| inventory | in memory, one thread, MB/s | program, MB/s | of {workers} threads' best | CPU of the program, of that in memory |"
    );
    println!("|---|--:|--:|--:|--:|");
    for kind in KINDS {
        let row = kind.measure(scratch.path(), &bytes, &arguments, workers.get())?;
        println!("{row}");
    }
    Ok(())
}

/// Writes the same bytes as one file and as many.
fn write_files(root: &Path, arguments: &Arguments) -> anyhow::Result<Vec<u8>> {
    let mut rng = Rng::with_seed(7);
    let mut bytes = vec![0; arguments.megabytes * 1_000_000];
    rng.fill(&mut bytes);
    fs::create_dir(root.join("one"))?;
    fs::write(root.join("one/file"), &bytes)?;
    let (mut rest, mut number) = (bytes.as_slice(), 0);
    while !rest.is_empty() {
        // Log-normal: most are small, and few large ones have most of the bytes. Twelve throws make a bell.
        let bell = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        let size = (arguments.mean_size as f64 * (SPREAD * bell - SPREAD * SPREAD / 2.0).exp()) as usize;
        let (file, tail) = rest.split_at(rest.len().min(size.max(1)));
        let folder = root.join(format!("many/{:03}", number / 100));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(number.to_string()), file)?;
        (rest, number) = (tail, number + 1);
    }
    println!("{} MB; as many files: {number}\n", arguments.megabytes);
    Ok(bytes)
}

impl Kind {
    /// In turns, so that what else the machine does counts for both.
    fn measure(&self, root: &Path, bytes: &[u8], arguments: &Arguments, workers: usize) -> anyhow::Result<String> {
        let algorithms: Algorithms = self.hashes.parse()?;
        let megabytes = bytes.len() as f64 / 1e6;
        let (mut memory, mut program, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..arguments.runs {
            let (alone, alone_cost) = in_memory(algorithms.as_slice(), bytes)?;
            let (took, cost) = self.run(root, arguments, workers)?;
            memory.push(megabytes / (alone.as_secs_f64() * self.passes));
            program.push(megabytes / took.as_secs_f64());
            cpu.push(cost.as_secs_f64() / (alone_cost.as_secs_f64() * self.passes));
        }
        let ratios = program.iter().zip(&memory).map(|(program, memory)| program / (memory * workers as f64));
        let ratio = median(ratios.collect());
        let (memory, program, cpu) = (median(memory), median(program), median(cpu));
        Ok(format!("| {} | {memory:.0} | {program:.0} | {ratio:.2} | {cpu:.2} |", self.name))
    }

    fn run(&self, root: &Path, arguments: &Arguments, workers: usize) -> anyhow::Result<(Duration, Duration)> {
        let mut command = Command::new(&arguments.crateferry);
        command.arg("inventory").arg(root.join(self.folder)).arg("--out-dir").arg(root.join("out"));
        command.args(["--hashes", self.hashes, "--hash-workers", &workers.to_string()]).args(self.options);
        command.stdout(Stdio::null()).stdin(Stdio::null());
        let (begun, before) = (Instant::now(), cpu(UsageWho::RUSAGE_CHILDREN)?);
        let status = command.status().context("cannot run crateferry")?;
        let took = begun.elapsed();
        ensure!(status.success(), "crateferry ended with {status}");
        Ok((took, cpu(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(before)))
    }
}

/// How long the algorithms take for the bytes, one after another, and how much CPU time of it.
fn in_memory(algorithms: &[Algorithm], bytes: &[u8]) -> anyhow::Result<(Duration, Duration)> {
    let (begun, before) = (Instant::now(), cpu(UsageWho::RUSAGE_SELF)?);
    for algorithm in algorithms {
        std::hint::black_box(algorithm.digest(std::hint::black_box(bytes)));
    }
    Ok((begun.elapsed(), cpu(UsageWho::RUSAGE_SELF)?.saturating_sub(before)))
}

/// The CPU time of this program, or of all that it ran so far.
fn cpu(of: UsageWho) -> anyhow::Result<Duration> {
    let usage = getrusage(of)?;
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(microseconds.try_into()?))
}

//! What does it cost to read the facts of a crate file?
//!
//! The crate files of this project's own dependencies are read from memory, on one thread: their beginnings, as a sync
//! does it, and all of them, as `crateferry sidecars` does it. `docs/performance.md` tells the method.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bed;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use bed::report::median;
use clap::Parser;
use crateferry_pipeline::facts::{self, Extent};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// Measures reading facts.
#[derive(Debug, Parser)]
#[command(name = "sidecars")]
struct Arguments {
    /// Cargo's folder, which holds the crate files that it downloaded
    #[arg(long, env = "CARGO_HOME", value_name = "DIR")]
    cargo_home: Option<PathBuf>,
    /// The lock file whose crate files are read
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"), value_name = "FILE")]
    lockfile: PathBuf,
    /// How often each crate file is read
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    if !bed::is_bench_run() {
        println!("run it with: cargo bench --bench sidecars");
        return Ok(());
    }
    let arguments = Arguments::parse();
    let files = crate_files(&arguments)?;
    let bytes: usize = files.iter().map(Vec::len).sum();
    println!("{} crate files of mean {:.1} KB\n", files.len(), bytes as f64 / files.len() as f64 / 1e3);
    println!("| read | CPU µs a crate file | MB/s of crate files | known as a whole | with a manifest | unreadable |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, extent) in [("the beginning", Extent::Head), ("all of it", Extent::Whole)] {
        println!("{}", measure(name, extent, &files, arguments.runs)?);
    }
    Ok(())
}

/// The crate files that the lock file names and cargo has downloaded.
fn crate_files(arguments: &Arguments) -> anyhow::Result<Vec<Vec<u8>>> {
    let lock = cargo_lock::Lockfile::load(&arguments.lockfile).context("cannot read the lock file")?;
    let home = arguments.cargo_home.clone().or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    let cache = home.context("where is cargo's folder? --cargo-home tells")?.join("registry/cache");
    let registries = fs::read_dir(&cache).with_context(|| format!("cannot list {}", cache.display()))?;
    let folders: Vec<PathBuf> = registries.map(|folder| Ok(folder?.path())).collect::<std::io::Result<_>>()?;
    let mut files = Vec::new();
    for package in lock.packages.iter().filter(|package| package.checksum.is_some()) {
        let name = format!("{}-{}.crate", package.name, package.version);
        let mut paths = folders.iter().map(|folder: &PathBuf| folder.join(Path::new(&name)));
        files.extend(paths.find_map(|path| fs::read(path).ok()));
    }
    ensure!(!files.is_empty(), "{} has none of the lock file's crate files; run `cargo fetch`", cache.display());
    Ok(files)
}

fn measure(name: &str, extent: Extent, files: &[Vec<u8>], runs: usize) -> anyhow::Result<String> {
    let mut micros = Vec::new();
    let (mut complete, mut described, mut unreadable) = (0, 0, 0);
    for _ in 0..runs {
        (complete, described, unreadable) = (0, 0, 0);
        let begun = cpu()?;
        for file in files {
            let facts = facts::read(file.as_slice(), file.len() as u64, extent);
            complete += u64::from(facts.complete);
            described += u64::from(facts.manifest.is_some());
            unreadable += u64::from(facts.problem.is_some());
        }
        micros.push((cpu()? - begun) as f64 / files.len() as f64);
    }
    let each = median(micros);
    let bytes: usize = files.iter().map(Vec::len).sum();
    let rate = bytes as f64 / files.len() as f64 / each;
    Ok(format!("| {name} | {each:.0} | {rate:.0} | {complete} | {described} | {unreadable} |"))
}

/// Microseconds of CPU that this thread has used.
fn cpu() -> anyhow::Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok(usage.user_time().num_microseconds() + usage.system_time().num_microseconds())
}

//! What does recompression save, and what does it cost?
//!
//! Real crate files are taken apart, put together again and compressed in frames, on one thread: those that cargo fetched for this
//! project and whatever else it was asked for. `docs/performance.md` tells the method.
#![expect(clippy::print_stdout, reason = "the tables are the result")]

mod bed;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bed::report::median;
use clap::Parser;
use crateferry_pipeline::reflate::{
    Apart, Base, Encoder, Frame, FrameBuilder, Level, Recipe, take_apart, zstd_version,
};
use crateferry_store::{Release, ReleaseId, Sha256};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use semver::Version;

/// Measures recompression.
#[derive(Debug, Parser)]
#[command(name = "reflate")]
struct Arguments {
    /// A folder of crate files, at any depth
    #[arg(long, value_name = "DIR")]
    files: Option<PathBuf>,
    /// Level max, too, which takes long
    #[arg(long)]
    max: bool,
    /// At most so many crate files, the first by name
    #[arg(long, default_value_t = usize::MAX, hide_default_value = true)]
    limit: usize,
    /// Only see that it works
    #[arg(long)]
    short: bool,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// How much content goes into a frame.
const FRAME: usize = 128 << 20;

/// A frame may have so many bytes when it is read again.
const LIMIT: u64 = 4 << 30;

/// A crate file.
struct Subject {
    name: String,
    version: Version,
    file: Vec<u8>,
    checksum: Sha256,
}

fn main() -> anyhow::Result<()> {
    if !bed::is_bench_run() {
        println!("run it with: cargo bench --bench reflate");
        return Ok(());
    }
    let arguments = Arguments::parse();
    let folder = arguments.files.clone().map_or_else(cargo_cache, Ok)?;
    let mut subjects = Vec::new();
    gather(&folder, &mut subjects)?;
    subjects.sort_by(|one, other| (&one.name, &one.version).cmp(&(&other.name, &other.version)));
    subjects.truncate(if arguments.short { 20 } else { arguments.limit });
    ensure!(!subjects.is_empty(), "no crate files in {}", folder.display());
    let bytes: usize = subjects.iter().map(|subject| subject.file.len()).sum();
    println!("{} crate files, {:.1} MB; zstd {}\n", subjects.len(), megabytes(bytes), zstd_version());
    let apart = take_all_apart(&subjects)?;
    rebuild_all(&subjects, &apart)?;
    println!(
        "\n| crates | files | MB | `tar.zst -3` | level | frames, % of the crate files | writing, MB/s of them | MiB | reading, MB/s | MiB |"
    );
    println!("|---|--:|--:|--:|---|--:|--:|--:|--:|--:|");
    let levels: &[Level] = if arguments.max { &[Level::Fast, Level::Max] } else { &[Level::Fast] };
    for level in levels {
        for (name, groups) in sets(&subjects) {
            frames(name, &groups, &subjects, &apart, *level)?;
        }
    }
    deltas(&subjects, &apart)
}

fn cargo_cache() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("there is no home folder")?;
    Ok(home.join("registry/cache"))
}

fn gather(folder: &Path, subjects: &mut Vec<Subject>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, subjects)?;
        } else if let Some((name, version)) = path.file_name().and_then(|name| name_and_version(name.to_str()?)) {
            let file = fs::read(&path)?;
            subjects.push(Subject { name, version, checksum: Sha256::of(&file), file });
        }
    }
    Ok(())
}

fn name_and_version(file_name: &str) -> Option<(String, Version)> {
    let stem = file_name.strip_suffix(".crate")?;
    stem.match_indices('-').find_map(|(at, _)| Some((stem[..at].to_owned(), stem[at + 1..].parse().ok()?)))
}

fn take_all_apart(subjects: &[Subject]) -> anyhow::Result<Vec<Apart>> {
    let (mut by_encoder, mut tails, mut slowest) = (BTreeMap::<u8, usize>::new(), Vec::new(), (0.0, String::new()));
    let begun = cpu()?;
    let mut all = Vec::new();
    for subject in subjects {
        let before = cpu()?;
        let apart = take_apart(&subject.file);
        let speed = (cpu()?.saturating_sub(before)).as_secs_f64() / megabytes(subject.file.len());
        if subject.file.len() > 100_000 && speed > slowest.0 {
            slowest = (speed, format!("{} {}", subject.name, subject.version));
        }
        match &apart.recipe {
            Recipe::Raw => println!("raw: {} {}", subject.name, subject.version),
            Recipe::Encoded { tail, .. } if !tail.is_empty() => tails.push(tail.len()),
            Recipe::Encoded { .. } => {}
        }
        *by_encoder.entry(apart.recipe.encoder().map_or(0, Encoder::id)).or_default() += 1;
        all.push(apart);
    }
    let took = cpu()?.saturating_sub(begun);
    let (files, contents) = totals(subjects, &all);
    println!("encoders (0 is none): {by_encoder:?}; with a tail: {tails:?}");
    println!("taken apart: {:.1} MB of content; {}", megabytes(contents), speed(files, took));
    println!("slowest: {}, {:.0} ms of CPU a MB", slowest.1, slowest.0 * 1000.0);
    Ok(all)
}

fn rebuild_all(subjects: &[Subject], all: &[Apart]) -> anyhow::Result<()> {
    let begun = cpu()?;
    for (subject, apart) in subjects.iter().zip(all) {
        let file = apart.recipe.rebuild(&apart.content, subject.file.len())?;
        ensure!(Sha256::of(&file) == subject.checksum, "{} {} is not the same", subject.name, subject.version);
    }
    println!("rebuilt, SHA-256 included: {}", speed(totals(subjects, all).0, cpu()?.saturating_sub(begun)));
    Ok(())
}

/// Which crate files belong into one frame: places in the list.
fn sets(subjects: &[Subject]) -> Vec<(&'static str, Vec<Vec<usize>>)> {
    let mut by_name = BTreeMap::<&str, Vec<usize>>::new();
    for (place, subject) in subjects.iter().enumerate() {
        by_name.entry(&subject.name).or_default().push(place);
    }
    let (many, few): (Vec<_>, Vec<_>) = by_name.into_values().partition(|versions| versions.len() >= 4);
    let all = few.concat();
    vec![("with 4 and more versions, each its own frame", many), ("the others, together in name order", vec![all])]
}

fn frames(name: &str, groups: &[Vec<usize>], subjects: &[Subject], all: &[Apart], level: Level) -> anyhow::Result<()> {
    let (mut files, mut plain, mut packed) = (0, Vec::new(), 0);
    let (mut writing, mut reading) = (Duration::ZERO, Duration::ZERO);
    let (mut memory_writing, mut memory_reading) = (0, 0);
    for group in groups {
        let mut waiting = group.as_slice();
        while !waiting.is_empty() {
            let (memory, mut builder, begun) = (Memory::now()?, FrameBuilder::new(), cpu()?);
            while let Some((place, rest)) = waiting.split_first()
                && (builder.contents() == 0 || builder.contents() + all[*place].content.len() <= FRAME)
            {
                let subject = &subjects[*place];
                builder.push(subject.release()?, subject.file.len() as u64, all[*place].clone());
                plain.push(subject);
                (files, waiting) = (files + 1, rest);
            }
            let bytes = builder.finish(level, None)?;
            writing += cpu()?.saturating_sub(begun);
            memory_writing = memory_writing.max(memory.more()?);
            let (memory, begun) = (Memory::now()?, cpu()?);
            Frame::read(&bytes, LIMIT)?.contents(None)?;
            reading += cpu()?.saturating_sub(begun);
            memory_reading = memory_reading.max(memory.more()?);
            packed += bytes.len();
        }
    }
    let plain: Vec<u8> = plain.iter().flat_map(|subject| &subject.file).copied().collect();
    let others = zstd::bulk::compress(&plain, 3)?.len();
    let share = |part: usize| 100.0 * part as f64 / plain.len().max(1) as f64;
    let rate = |took: Duration| megabytes(plain.len()) / took.as_secs_f64().max(1e-9);
    println!(
        "| {name} | {files} | {:.1} | {:.1} % | {level:?} | {:.1} % | {:.1} | {memory_writing} | {:.0} | {memory_reading} |",
        megabytes(plain.len()),
        share(others),
        share(packed),
        rate(writing),
        rate(reading)
    );
    Ok(())
}

/// Each version against the one before it.
fn deltas(subjects: &[Subject], all: &[Apart]) -> anyhow::Result<()> {
    let (mut shares, mut packed, mut files) = (Vec::new(), 0, 0);
    for place in 1..subjects.len() {
        let (before, subject) = (&subjects[place - 1], &subjects[place]);
        if before.name != subject.name {
            continue;
        }
        let base = Base { checksum: before.checksum, content: &all[place - 1].content };
        let mut builder = FrameBuilder::new();
        builder.push(subject.release()?, subject.file.len() as u64, all[place].clone());
        let frame = builder.finish(Level::Fast, Some(base))?;
        let read = Frame::read(&frame, LIMIT)?;
        ensure!(read.contents(Some(base))?.iter().eq([all[place].content.as_slice()]), "a delta came back changed");
        shares.push(100.0 * frame.len() as f64 / subject.file.len() as f64);
        (packed, files) = (packed + frame.len(), files + subject.file.len());
    }
    if !shares.is_empty() {
        let (number, share) = (shares.len(), 100.0 * packed as f64 / files as f64);
        println!(
            "\n{number} versions against the one before: {share:.1} % of the bytes; median {:.1} %",
            median(shares)
        );
    }
    Ok(())
}

impl Subject {
    fn release(&self) -> anyhow::Result<Release> {
        let id = ReleaseId { name: self.name.parse()?, version: self.version.to_string().parse()? };
        Ok(Release { id, checksum: self.checksum })
    }
}

fn totals(subjects: &[Subject], all: &[Apart]) -> (usize, usize) {
    let files = subjects.iter().map(|subject| subject.file.len()).sum();
    (files, all.iter().map(|apart| apart.content.len()).sum())
}

fn megabytes(bytes: usize) -> f64 {
    bytes as f64 / 1e6
}

fn speed(bytes: usize, took: Duration) -> String {
    format!("{:.1} s of CPU, {:.2} MB/s of crate files", took.as_secs_f64(), megabytes(bytes) / took.as_secs_f64())
}

/// The CPU time of this program so far.
fn cpu() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let microseconds = (usage.user_time() + usage.system_time()).num_microseconds();
    Ok(Duration::from_micros(microseconds.try_into()?))
}

/// How much memory this program had at a moment, in MiB.
struct Memory(u64);

impl Memory {
    /// Now; what it has at most is counted from here on.
    fn now() -> anyhow::Result<Memory> {
        fs::write("/proc/self/clear_refs", "5").context("cannot begin to count memory again")?;
        Ok(Memory(status("VmRSS:")?))
    }

    /// How much more it had at most since.
    fn more(&self) -> anyhow::Result<u64> {
        Ok(status("VmHWM:")?.saturating_sub(self.0))
    }
}

fn status(field: &str) -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)).context("the kernel does not count memory")?;
    let kibibytes: u64 = line.trim().trim_end_matches("kB").trim_end().parse()?;
    Ok(kibibytes / 1024)
}

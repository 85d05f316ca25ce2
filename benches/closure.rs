//! What does it cost to find all that many crates need?
//!
//! A made-up index of as many crates as crates.io has, with dependencies that point to few popular crates more often than to many
//! others, lies in a folder; `plan` closes a list of roots over it. `docs/performance.md` tells the method.
#![expect(clippy::print_stdout, reason = "the table is the result")]

mod bed;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use bed::process::{Cost, Finished, measure, tethered};
use clap::Parser;
use fastrand::Rng;
use rayon::prelude::*;
use serde_json::Value;

/// A run that takes longer is broken.
const LIMIT: Duration = Duration::from_secs(600);

/// Measures `plan --list ROOTS --closure HOW`.
#[derive(Debug, Parser)]
#[command(name = "closure")]
struct Arguments {
    /// How many crates the index has
    #[arg(long, default_value_t = 260_000)]
    crates: usize,
    /// How many of them are roots
    #[arg(long, default_value_t = 2_000)]
    roots: usize,
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
        println!("run it with: cargo bench --bench closure");
        return Ok(());
    }
    bed::sweep()?;
    let mut arguments = Arguments::parse();
    if arguments.short {
        (arguments.crates, arguments.roots) = (2_000, 20);
    }
    let scratch = bed::scratch()?;
    let index = scratch.path().join("index");
    write_index(&index, arguments.crates)?;
    let list = scratch.path().join("roots");
    let mut rng = Rng::with_seed(2);
    let roots: Vec<String> = (0..arguments.roots).map(|_| name(rng.usize(..arguments.crates))).collect();
    fs::write(&list, roots.join("\n"))?;
    println!("{} roots on an index of {} crates\n", arguments.roots, arguments.crates);
    println!("| closure | releases | index files | wall s | CPU s | RSS MiB |");
    println!("|---|---|---|---|---|---|");
    for closure in ["full", "newest"] {
        let (cost, plan) = plan(&arguments.crateferry, scratch.path(), &index, &list, closure)?;
        let (wall, cpu) = (cost.wall.as_secs_f64(), cost.cpu().as_secs_f64());
        let (releases, files) = (&plan["fetch"], &plan["costs"]["index_files"]);
        println!("| {closure} | {releases} | {files} | {wall:.1} | {cpu:.1} | {} |", cost.rss >> 20);
    }
    Ok(())
}

fn plan(crateferry: &Path, scratch: &Path, index: &Path, list: &Path, closure: &str) -> anyhow::Result<(Cost, Value)> {
    let mut command = tethered(crateferry);
    command.arg("plan").arg(scratch.join("mirror")).arg("--upstream").arg(index).arg("--list").arg(list);
    command.args(["--closure", closure, "--json"]);
    let log = scratch.join(format!("{closure}.log"));
    let Finished { status, cost } = measure(command, &log, LIMIT)?;
    let said = fs::read_to_string(&log)?;
    // 1 is a plan of what does not fit on this disk.
    ensure!(matches!(status.code(), Some(0 | 1)), "the plan failed: {said}");
    let plan: Value = serde_json::from_str(&said[said.find("{\n").unwrap_or(0)..]).context("the plan is no JSON")?;
    ensure!(plan["fetch"].as_u64().is_some_and(|releases| releases > 0), "nothing was found: {plan}");
    Ok((cost, plan))
}

fn name(number: usize) -> String {
    format!("made-up-{number:06}")
}

/// Writes index files: about twelve releases of each crate, about five dependencies of each release.
fn write_index(folder: &Path, crates: usize) -> anyhow::Result<()> {
    (0..crates).into_par_iter().try_for_each(|number| {
        let mut rng = Rng::with_seed(number as u64);
        let (name, mut text) = (name(number), String::new());
        let needs: Vec<(usize, bool)> = (0..rng.usize(0..11)).map(|_| (popular(&mut rng, crates), rng.u8(..4) == 0)).collect();
        for release in 0..rng.usize(1..24) {
            let mut deps = String::new();
            for (at, optional) in &needs {
                let comma = if deps.is_empty() { "" } else { "," };
                let requirement = ["^0.1", "^0.2", "^1", "^1.2"][(at + release / 8) % 4];
                let on = self::name(*at);
                write!(
                    deps,
                    r#"{comma}{{"name":"{on}","req":"{requirement}","features":[],"optional":{optional},"default_features":true,"target":null,"kind":"normal"}}"#
                )?;
            }
            let (version, checksum) = (["0.1", "0.2", "1.0", "1.2"][release / 6], "0".repeat(64));
            writeln!(
                text,
                r#"{{"name":"{name}","vers":"{version}.{release}","deps":[{deps}],"cksum":"{checksum}","features":{{"default":[]}},"yanked":false}}"#
            )?;
        }
        let path = folder.join("ma").join("de").join(&name);
        fs::create_dir_all(path.parent().unwrap_or(folder))?;
        fs::write(path, text)?;
        anyhow::Ok(())
    })
}

/// A crate that others depend on: half of all dependencies are on a hundredth of all crates.
fn popular(rng: &mut Rng, crates: usize) -> usize {
    ((rng.f64().powf(6.6)) * crates as f64) as usize
}

//! Medians, the table, and the same as JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use serde_json::{Value, json};

use super::peer::Run;

/// The runs of one program.
pub struct Series {
    pub name: String,
    pub runs: Vec<Run>,
}

/// What a run comes to per crate file and second; the median of several is taken number by number.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Microseconds of CPU a crate file.
    pub cpu_us: f64,
    /// The share of it that the kernel took.
    pub system_us: f64,
    pub wall_s: f64,
    pub files_per_s: f64,
    pub megabytes_per_s: f64,
    pub rss_anon: f64,
    pub rss: f64,
    pub written: f64,
}

const MEBIBYTE: f64 = 1_048_576.0;

impl From<&Run> for Figures {
    fn from(run: &Run) -> Self {
        let files = run.files.max(1) as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let wall_s = run.cost.wall.as_secs_f64();
        Figures {
            cpu_us: micros(run.cost.cpu()) / files,
            system_us: micros(run.cost.system) / files,
            wall_s,
            files_per_s: files / wall_s,
            megabytes_per_s: run.bytes as f64 / 1e6 / wall_s,
            rss_anon: run.cost.rss_anon as f64 / MEBIBYTE,
            rss: run.cost.rss as f64 / MEBIBYTE,
            written: run.cost.written as f64 / MEBIBYTE,
        }
    }
}

impl Figures {
    /// The middle of each number by itself.
    pub fn median(runs: &[Run]) -> Self {
        let all: Vec<Figures> = runs.iter().map(Figures::from).collect();
        let middle = |number: fn(&Figures) -> f64| median(all.iter().map(number).collect());
        Figures {
            cpu_us: middle(|run| run.cpu_us),
            system_us: middle(|run| run.system_us),
            wall_s: middle(|run| run.wall_s),
            files_per_s: middle(|run| run.files_per_s),
            megabytes_per_s: middle(|run| run.megabytes_per_s),
            rss_anon: middle(|run| run.rss_anon),
            rss: middle(|run| run.rss),
            written: middle(|run| run.written),
        }
    }

    fn json(&self) -> Value {
        json!({
            "cpu_us_per_crate": self.cpu_us,
            "system_us_per_crate": self.system_us,
            "wall_s": self.wall_s,
            "files_per_s": self.files_per_s,
            "megabytes_per_s": self.megabytes_per_s,
            "rss_anon_mib": self.rss_anon,
            "rss_mib": self.rss,
            "written_mib": self.written,
        })
    }
}

/// The middle number, or the mean of the two in the middle.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let half = numbers.len() / 2;
    match numbers.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => f64::midpoint(numbers[half - 1], numbers[half]),
        _ => numbers[half],
    }
}

/// The medians as a Markdown table, with the CPU of each in terms of the first.
pub fn table(all: &[Series]) -> String {
    let mut text = String::from(
        "| program    | CPU µs/crate | system | ratio | crates/s |   MB/s | wall s | RssAnon MiB | RSS MiB | written MiB |\n\
         |------------|-------------:|-------:|------:|---------:|-------:|-------:|------------:|--------:|------------:|\n",
    );
    let Some(first) = all.first().map(|first| Figures::median(&first.runs)) else { return text };
    for series in all {
        let Figures { cpu_us, system_us, wall_s, files_per_s, megabytes_per_s, rss_anon, rss, written } =
            Figures::median(&series.runs);
        let (name, ratio) = (&series.name, cpu_us / first.cpu_us);
        // A string takes all.
        let _ = writeln!(
            text,
            "| {name:<10} | {cpu_us:>12.0} | {system_us:>6.0} | {ratio:>5.2} | {files_per_s:>8.0} | \
             {megabytes_per_s:>6.0} | {wall_s:>6.2} | {rss_anon:>11.0} | {rss:>7.0} | {written:>11.0} |"
        );
    }
    text
}

/// Writes every run and the medians to a file.
pub fn write_json(path: &Path, parameters: &Value, all: &[Series]) -> anyhow::Result<()> {
    let peers: Vec<Value> = all
        .iter()
        .map(|series| {
            let runs: Vec<Value> = series.runs.iter().map(|run| Figures::from(run).json()).collect();
            json!({ "name": series.name, "median": Figures::median(&series.runs).json(), "runs": runs })
        })
        .collect();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let report = json!({ "parameters": parameters, "processors": processors, "peers": peers });
    let text = serde_json::to_string_pretty(&report)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

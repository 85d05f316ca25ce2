//! What may enter a mirror, for one run; `crateferry.toml` says it for all.

use bytesize::ByteSize;
use clap::Args;
use crateferry_pipeline::index::policy;

/// What may enter, in this run; `[policy]` in `crateferry.toml` says it for all runs.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Policy, for this run; [policy] in crateferry.toml says it for all")]
pub struct PolicyArgs {
    /// Only these crates, where the name may hold *; may be repeated
    #[arg(long, value_name = "NAME[@REQ]", num_args = 1..)]
    pub allow: Vec<String>,
    /// None of these crates; may be repeated
    #[arg(long, value_name = "NAME[@REQ]", num_args = 1..)]
    pub deny: Vec<String>,
    /// The newest N releases of each crate
    #[arg(long, value_name = "N")]
    pub newest: Option<u32>,
    /// The newest N of each range of compatible versions
    #[arg(long, value_name = "N")]
    pub newest_per_range: Option<u32>,
    /// Published on this day or later
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub published_after: Option<String>,
    /// Published before this day
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub published_before: Option<String>,
    /// Published at least so long ago, like 14d
    #[arg(long, value_name = "TIME", value_parser = age)]
    pub cool_down: Option<String>,
    /// Crate files of at most this size; needs a dump
    #[arg(long, value_name = "SIZE")]
    pub max_size: Option<ByteSize>,
    /// Accepted licences, as SPDX identifiers; needs a dump
    #[arg(long, value_name = "SPDX", value_delimiter = ',', num_args = 1..)]
    pub licenses: Vec<String>,
    /// What builds with this version of Rust
    #[arg(long, value_name = "VERSION")]
    pub rust_version: Option<String>,
    /// Crates that were downloaded at least N times; needs a dump
    #[arg(long, value_name = "N")]
    pub min_downloads: Option<u64>,
    /// Crates that one of these logins owns; needs a dump
    #[arg(long, value_name = "LOGIN", num_args = 1..)]
    pub owners: Vec<String>,
    /// Which advisories keep out the releases that they are about; all but `malware` need an advisory database
    #[arg(long, value_name = "WHICH", value_parser = ["off", "malware", "vulnerable", "any"])]
    pub advisories: Option<String>,
    /// A RustSec advisory database, as a folder
    #[arg(long, value_name = "FOLDER")]
    pub advisory_db: Option<String>,
    /// The registry's database dump: a file or a URL
    #[arg(long, value_name = "FILE")]
    pub dump: Option<String>,
}

/// The text of an age, checked.
fn age(text: &str) -> Result<String, String> {
    policy::age(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

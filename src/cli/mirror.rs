//! Making a mirror, filling it, and looking after it.
#![expect(clippy::doc_markdown, reason = "the comments are what --help prints")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser as _, Subcommand, ValueHint};
use crateferry_pipeline::net::Concurrency;

use super::{AdminAddress, BundleFormArgs, Cli, Command, OutputArgs, Sidecars};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry init ./mirror
  crateferry init ./mirror --upstream sparse+https://registry.example/index/ --contact ops@example.org")]
pub struct InitArgs {
    /// The mirror's folder: new or empty
    pub mirror: PathBuf,
    #[command(flatten)]
    pub upstream: UpstreamArgs,
}

/// Where a mirror syncs from. Kept in `crateferry.toml` when a mirror is made; later they count for one run.
#[derive(Debug, Default, Args)]
pub struct UpstreamArgs {
    /// crates-io, sparse+https://..., a git URL (https, http or file), or a checked-out index folder
    /// [env: CRATEFERRY_UPSTREAM] [default: crates-io]
    #[arg(long, value_name = "UPSTREAM")]
    pub upstream: Option<String>,
    /// Download crate files from here instead of where the index says; may hold {crate} {version} {prefix}
    /// {lowerprefix} {sha256-checksum} [env: CRATEFERRY_DOWNLOAD_URL]
    #[arg(long, value_name = "URL")]
    pub download_url: Option<String>,
    /// A mail address or URL that the registry's operators can turn to [env: CRATEFERRY_CONTACT]
    #[arg(long, value_name = "CONTACT")]
    pub contact: Option<String>,
    /// A file with further CA certificates to trust, PEM; may be repeated [env: CRATEFERRY_CA_FILE]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca_file: Vec<String>,
}

/// How gently the network is used in this run; the rest is in `crateferry.toml`.
#[derive(Debug, Default, Args)]
pub struct NetworkArgs {
    /// Requests at once, or auto [env: CRATEFERRY_CONCURRENCY]
    #[arg(long, value_name = "N|auto")]
    pub concurrency: Option<Concurrency>,
    /// How often an object is asked for again within this run [env: CRATEFERRY_RETRIES]
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// How long one object may take, like 10m [env: CRATEFERRY_TOTAL_TIMEOUT]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
}

/// Which releases a mirror wants. Stored in the mirror and added up.
#[derive(Debug, Default, Args)]
pub struct SelectionArgs {
    /// The whole registry; needs a git index or an index folder
    #[arg(long)]
    pub all: bool,
    /// All that a Cargo.lock names, yanked or not; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub lockfile: Vec<PathBuf>,
    /// A crate, all its releases or those that a version requirement matches; may be repeated
    #[arg(long = "crate", value_name = "NAME[@REQ]", num_args = 1..)]
    pub crates: Vec<String>,
    /// A file with one NAME, NAME@REQ or crate-file URL on each line
    #[arg(long, value_name = "FILE")]
    pub list: Vec<PathBuf>,
    /// Yanked releases too
    #[arg(long)]
    pub include_yanked: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A selection is stored in the mirror; a bare `sync` refreshes what is stored.

Examples:
  crateferry sync ./mirror --lockfile Cargo.lock      mirror what a project is built from
  crateferry sync ./mirror --crate serde --crate 'tokio@^1'
  crateferry sync ./mirror --all                      mirror the whole registry
  crateferry sync ./mirror                            refresh
  crateferry sync ./mirror --bundle ./outbox --sign officer.key")]
pub struct SyncArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub upstream: UpstreamArgs,
    /// Fetch at most the first N releases that are wanted; the rest stays wanted
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Publish deletions however many they are
    #[arg(long)]
    pub accept_shrink: bool,
    /// Ask again now for all that failed or was refused
    #[arg(long)]
    pub retry_failed: bool,
    /// Do not look at the upstream's index; fetch what is wanted already
    #[arg(long)]
    pub offline_index: bool,
    /// JSON lines of {url, sha256} that must hold on top of what the index promises
    #[arg(long, value_name = "FILE")]
    pub checksums: Option<PathBuf>,
    /// What sidecars are to be made of [env: CRATEFERRY_SIDECARS]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub sidecars: Option<Sidecars>,
    /// Show metrics, status and profiles here; PORT alone is one of this machine's own [default without a value:
    /// 127.0.0.1:9090]
    #[arg(long, env = "CRATEFERRY_ADMIN", value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "9090")]
    pub admin: Option<AdminAddress>,
    /// Make a bundle in this folder of what this sync published
    #[arg(long, value_name = "DIR")]
    pub bundle: Option<PathBuf>,
    #[command(flatten)]
    pub form: BundleFormArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

impl SyncArgs {
    /// Those of a `sync` that is given nothing but a mirror; the environment counts as it always does, but for the admin
    /// address: the process that runs this sync may have one itself.
    pub fn bare(mirror: &Path) -> SyncArgs {
        let line = [OsStr::new("crateferry"), OsStr::new("sync"), OsStr::new("--"), mirror.as_os_str()];
        match Cli::parse_from(line).command {
            Command::Sync(args) => SyncArgs { admin: None, ..args },
            _ => unreachable!("the line says sync"),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry plan ./mirror --lockfile Cargo.lock
  crateferry plan ./mirror --json")]
pub struct PlanArgs {
    /// The mirror's folder; need not exist
    pub mirror: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub upstream: UpstreamArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry holes ./mirror
  crateferry holes ./mirror accept serde@1.0.0       live without this release")]
pub struct HolesArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    #[command(subcommand)]
    pub action: Option<HolesAction>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum HolesAction {
    /// Leave a release out for good
    Accept {
        /// Which releases
        #[arg(required = true, value_name = "NAME@VERSION")]
        releases: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Begin a new epoch even if nothing seems lost: after restoring a backup
    #[arg(long)]
    pub new_epoch: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

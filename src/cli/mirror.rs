//! Making a mirror, filling it, and looking after it.
#![expect(clippy::doc_markdown, reason = "the comments are what --help prints")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser as _, Subcommand, ValueHint};
use crateferry_pipeline::net::Concurrency;

use super::bundle::{percent, volume_size};
use super::{AdminAddress, BundleFormArgs, Cli, Command, OutputArgs, PolicyArgs, SelectionArgs, Sidecars};

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

#[derive(Debug, Args)]
#[command(after_help = "\
A selection is stored in the mirror; a bare `sync` refreshes what is stored.

Examples:
  crateferry sync ./mirror --lockfile Cargo.lock      mirror what a project is built from
  crateferry sync ./mirror --set web --manifest web/Cargo.toml
  crateferry sync ./mirror --crate serde --crate 'tokio@^1' --closure newest
  crateferry sync ./mirror --all                      mirror the whole registry
  crateferry sync ./mirror                            refresh
  crateferry sync ./mirror --bundle ./outbox --sign officer.key")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct SyncArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
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
    /// Fetch even if what is wanted seems to need more room than there is
    #[arg(long)]
    pub force_space: bool,
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
            Command::Sync(args) => SyncArgs { admin: None, ..*args },
            _ => unreachable!("the line says sync"),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry plan ./mirror --lockfile Cargo.lock
  crateferry plan ./mirror --manifest Cargo.toml --closure newest --prove
  crateferry plan ./mirror --all --cool-down 14d --volume-size bd25 --rate 20MB
  crateferry plan ./mirror --json")]
pub struct PlanArgs {
    /// The mirror's folder; need not exist
    pub mirror: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub policy: PolicyArgs,
    #[command(flatten)]
    pub upstream: UpstreamArgs,
    /// See whether every release that would be kept can be resolved from what would be kept
    #[arg(long)]
    pub prove: bool,
    /// How large a volume is: a size, or cd, dvd, bd25, bd50, fat32
    #[arg(long, value_name = "SIZE", default_value = "dvd", value_parser = volume_size)]
    pub volume_size: u64,
    /// Bytes a second to reckon with, like 20MB [default: those of the last sync]
    #[arg(long, value_name = "SIZE")]
    pub rate: Option<bytesize::ByteSize>,
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
  crateferry verify ./mirror                             all of it
  crateferry verify ./mirror --sample 5%                 every twentieth release, another one each time
  crateferry verify ./mirror --max-duration 30m          half an hour's worth; the next run goes on there
  crateferry verify ./mirror --repair                    fetch again what is damaged
  crateferry verify ./mirror --repair --from ./other     take it from another mirror, as far as that has it")]
pub struct VerifyArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Read only so much of what is held, like 5%, picked by chance
    #[arg(long, value_name = "SHARE", value_parser = percent, conflicts_with = "max_duration")]
    pub sample: Option<u8>,
    /// Begin with no further pack after so long, like 30m; the next run with this option goes on there
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub max_duration: Option<Duration>,
    /// Replace crate files that are damaged: an origin fetches them again, a replica asks for them with `receipt`
    #[arg(long)]
    pub repair: bool,
    /// Take them from another mirror, as far as it has them
    #[arg(long, value_name = "DIR", requires = "repair")]
    pub from: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry approve ./mirror                        publish the deletions that were held back
  crateferry approve ./mirror serde@1.0.0            serve the checksum that upstream promises now")]
pub struct ApproveArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Versions whose checksum changed: serve what upstream promises now, and approve nothing else
    #[arg(value_name = "NAME@VERSION")]
    pub releases: Vec<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A tombstone: the releases leave the index in a generation that is published at once, their files are given out no more, and
no sync brings them back, until --undo. It crosses the gap with the next bundle. To withhold something here alone, and
for a time, there is `crateferry quarantine`.

Examples:
  crateferry withdraw ./mirror evil@1.0.0 --reason 'malware, RUSTSEC-2026-0001'
  crateferry withdraw ./mirror evil --reason 'malware'                  all versions that are known
  crateferry withdraw ./mirror evil@1.0.0 --undo
  crateferry withdraw ./mirror                                          what operators withdrew")]
pub struct WithdrawArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// A crate or one release of it; without it, what operators withdrew is listed
    #[arg(value_name = "NAME[@VERSION]")]
    pub what: Option<String>,
    /// Withdraw it, for this reason
    #[arg(long, value_name = "TEXT", requires = "what")]
    pub reason: Option<String>,
    /// Take a withdrawal back; what is not held is wanted again
    #[arg(long, requires = "what", conflicts_with = "reason")]
    pub undo: bool,
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
#[command(after_help = "\
The mirror goes on holding what is in quarantine, and its index goes on naming it, so that nobody's resolution changes
without a word; who asks for the crate file is refused, with the reason. What is in quarantine is known to this mirror alone.

Examples:
  crateferry quarantine ./mirror                                        what is in quarantine
  crateferry quarantine ./mirror serde@1.0.0 --reason 'being analysed, see TICKET-7'
  crateferry quarantine ./mirror evil --reason 'malware'                all versions, those to come included
  crateferry quarantine ./mirror serde@1.0.0 --undo")]
pub struct QuarantineArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// A crate or one release of it; without it, what is in quarantine is listed
    #[arg(value_name = "NAME[@VERSION]")]
    pub what: Option<String>,
    /// Do not give it out, for this reason, which who asks for it is told
    #[arg(long, value_name = "TEXT", requires = "what")]
    pub reason: Option<String>,
    /// Give it out again
    #[arg(long, requires = "what", conflicts_with = "reason")]
    pub undo: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
What can be collected: the bytes of releases that were withdrawn or excluded, second copies of a crate file, and advisory
databases that a newer one took the place of; in sealed packs, which keep their length and get holes.

Examples:
  crateferry gc ./mirror --dry-run
  crateferry gc ./mirror --grace 7d")]
pub struct GcArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// How long after nothing needed it any more something is kept
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// Say what would be collected, and collect nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Also if nothing is served, or more than half of all bytes would go
    #[arg(long)]
    pub allow_most: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
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

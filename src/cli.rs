//! The command line, as types.
//!
//! The commands are here; what each takes is in the file of its kind.

use std::path::Path;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod admin_address;
mod base_url;
mod bundle;
mod config;
#[cfg(test)]
mod documented;
mod export;
mod import_tree;
mod inventory;
mod keys;
mod logging;
mod mirror;
mod policy;
mod report;
mod rotation;
mod selection;
mod serve;
mod shell;
mod sidecars;
mod variable;

pub use admin_address::AdminAddress;
pub use base_url::BaseUrl;
pub use bundle::{
    BundleAction, BundleApplyArgs, BundleArgs, BundleAttachArgs, BundleCreateArgs, BundleExtractArgs, BundleFormArgs,
    BundleInspectArgs, BundleReadArgs, BundleTrustArgs, Level, ReceiptArgs, ReceiptTrustArgs,
};
pub use config::{ConfigAction, ConfigArgs, ConfigShowArgs};
pub use export::{ExportArgs, ExportLayout};
pub use import_tree::ImportTreeArgs;
pub use inventory::{InventoryArgs, KeyPasswordArgs, KeygenArgs};
pub use keys::{KeysAction, KeysArgs, KeysSetArgs};
pub use logging::{LogFormat, LoggingArgs};
pub use mirror::{
    ApproveArgs, GcArgs, HolesAction, HolesArgs, InitArgs, NetworkArgs, PlanArgs, QuarantineArgs, ReadArgs,
    RebuildArgs, SyncArgs, UpstreamArgs, VerifyArgs, WithdrawArgs,
};
pub use policy::PolicyArgs;
pub use report::{ReportArgs, ReportFormat};
pub use rotation::Rotation;
pub use selection::{ClosureArg, SelectionAction, SelectionArgs, SelectionShowArgs, WhyArgs};
pub use serve::{DownloadBy, ServeArgs, TokenAction, TokenArgs};
pub use shell::{CompletionsArgs, ManArgs};
pub use sidecars::{Sidecars, SidecarsArgs};
pub use variable::option_variables;

/// Mirror crates.io for networks that cannot reach it: verified, resumable, in one program.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub logging: LoggingArgs,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  complete
  1  finished, with unaccepted holes or something held for approval
  2  wrong usage
  3  stopped by an error
  4  the mirror is locked by another process
  5  an integrity failure was found
  130, 143  interrupted; the same command goes on where it was

Results go to stdout, logs and progress to stderr.";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make an empty mirror
    Init(InitArgs),
    /// Bring a mirror to where its upstream is; makes it if it is not there yet
    Sync(Box<SyncArgs>),
    /// Serve a mirror to cargo and to people
    Serve(ServeArgs),
    /// Make, list and remove the tokens that `serve --tokens` asks for
    Token(TokenArgs),
    /// Say what a sync would do, without doing it
    Plan(Box<PlanArgs>),
    /// Show what a mirror wants, or want something no longer
    Selection(SelectionShowArgs),
    /// Say why a mirror has a crate or a release, or why it has not
    Why(WhyArgs),
    /// Show what a mirror holds and lacks
    Status(ReadArgs),
    /// List releases that are wanted but not held, or accept that one is missing
    Holes(HolesArgs),
    /// Approve deletions that were held back because they were many, or a changed checksum
    Approve(ApproveArgs),
    /// Withdraw releases for good and for all replicas, as malware is, or list what was withdrawn
    Withdraw(WithdrawArgs),
    /// Withhold a crate or a release from who asks for it, or list what is withheld
    Quarantine(QuarantineArgs),
    /// Read everything that is held and compare it with its digests
    Verify(VerifyArgs),
    /// Give back the room of crate files and advisory databases that nothing needs any more
    Gc(GcArgs),
    /// Make ledger and catalog again from the packs alone
    Rebuild(RebuildArgs),
    /// Write the held crate files into a folder
    Export(ExportArgs),
    /// Learn what crate files tell, and write the documents that describe releases
    Sidecars(SidecarsArgs),
    /// Take over crate files that lie in a folder
    ImportTree(ImportTreeArgs),
    /// Make, check and apply what crosses the gap
    Bundle(BundleArgs),
    /// Say what a mirror serves and lacks, so that a bundle can be made for it
    Receipt(ReceiptArgs),
    /// Tell what a mirror serves, or what is new in it: releases, licences, advisories; also as an SBOM
    Report(ReportArgs),
    /// Hash every file of a folder into a signed document, or compare a folder with one
    Inventory(InventoryArgs),
    /// Make a key pair to sign with
    Keygen(KeygenArgs),
    /// Say whose signatures count for the bundles of a mirror
    Keys(KeysArgs),
    /// Show what is configured, and where each value comes from
    Config(ConfigArgs),
    /// Print what a shell needs to complete this program's command lines
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command into a folder
    Man(ManArgs),
}

impl Cli {
    /// Reads the process's command line; ends the process if it cannot be followed.
    pub fn read() -> Cli {
        Cli::try_parse().unwrap_or_else(|error| variable::end(&error))
    }
}

impl Command {
    /// The mirror that a command is about.
    pub fn mirror(&self) -> Option<&Path> {
        match self {
            Command::Init(args) => Some(&args.mirror),
            Command::Sync(args) => Some(&args.mirror),
            Command::Serve(args) => Some(&args.mirror),
            Command::Plan(args) => Some(&args.mirror),
            Command::Selection(args) => Some(&args.mirror),
            Command::Why(args) => Some(&args.mirror),
            Command::Report(args) => Some(&args.mirror),
            Command::Status(args) => Some(&args.mirror),
            Command::Verify(args) => Some(&args.mirror),
            Command::Approve(args) => Some(&args.mirror),
            Command::Withdraw(args) => Some(&args.mirror),
            Command::Holes(args) => Some(&args.mirror),
            Command::Quarantine(args) => Some(&args.mirror),
            Command::Gc(args) => Some(&args.mirror),
            Command::Rebuild(args) => Some(&args.mirror),
            Command::Export(args) => Some(&args.mirror),
            Command::ImportTree(args) => Some(&args.mirror),
            Command::Sidecars(args) => Some(&args.mirror),
            Command::Receipt(args) => Some(&args.mirror),
            Command::Bundle(BundleArgs { action: BundleAction::Create(args) }) => Some(&args.mirror),
            Command::Bundle(BundleArgs { action: BundleAction::Apply(args) }) => Some(&args.mirror),
            Command::Config(ConfigArgs { action: ConfigAction::Show(args) }) => Some(&args.mirror),
            Command::Keys(args) => Some(args.action.mirror()),
            Command::Bundle(_)
            | Command::Token(_)
            | Command::Inventory(_)
            | Command::Keygen(_)
            | Command::Completions(_)
            | Command::Man(_) => None,
        }
    }
}

/// Reads a number of bytes, like 8GB or 4.7GiB.
fn size(text: &str) -> Result<u64, String> {
    let size: bytesize::ByteSize = text.parse()?;
    if size.as_u64() == 0 { Err("it must be more than nothing".to_owned()) } else { Ok(size.as_u64()) }
}

#[derive(Clone, Debug, Args)]
pub struct OutputArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Time between progress lines where stderr is no terminal
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub progress_interval: Duration,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

//! What a mirror is to want, and why it wants it.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use crateferry_store::SetName;

use super::ReceiptTrustArgs;

/// Which releases a mirror wants. Stored in the mirror and added up.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Selection")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct SelectionArgs {
    /// The whole registry; needs a git index or an index folder
    #[arg(long)]
    pub all: bool,
    /// All that a Cargo.lock names, yanked or not; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::FilePath)]
    pub lockfile: Vec<PathBuf>,
    /// All that the workspace of a Cargo.toml can be resolved to; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::FilePath)]
    pub manifest: Vec<PathBuf>,
    /// A crate, all its releases or those that a version requirement matches; may be repeated
    #[arg(long = "crate", value_name = "NAME[@REQ]", num_args = 1..)]
    pub crates: Vec<String>,
    /// A file with one NAME, NAME@REQ or crate-file URL on each line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub list: Vec<PathBuf>,
    /// What the wishes in a receipt of the other side of a gap name: crates, or releases of them; may be repeated
    #[arg(long, value_name = "RECEIPT", value_hint = ValueHint::FilePath)]
    pub wishes: Vec<PathBuf>,
    #[command(flatten)]
    pub receipt_trust: ReceiptTrustArgs,
    /// Yanked releases too
    #[arg(long)]
    pub include_yanked: bool,
    /// Keep what is named here under this name, instead of what had it before
    #[arg(long, value_name = "NAME")]
    pub set: Option<SetName>,
    /// Take all that what is named depends on, too [default: full for --manifest, locked for --lockfile, nothing for others]
    #[arg(long, value_enum, value_name = "HOW")]
    pub closure: Option<ClosureArg>,
    /// Features of the crates of --crate and --list that may be asked for [default: all]
    #[arg(long, value_name = "NAME", value_delimiter = ',', num_args = 1.., requires = "closure")]
    pub features: Vec<String>,
    /// Without the default features of the crates of --crate and --list
    #[arg(long, requires = "closure")]
    pub no_default_features: bool,
    /// What the tests of the crates of --crate and --list need, too
    #[arg(long, requires = "closure")]
    pub dev: bool,
    /// Without what only tests and benchmarks of a workspace need; cargo can then use lock files, and make none
    #[arg(long, requires = "manifest")]
    pub no_dev: bool,
    /// Dependencies for this target alone; may be repeated. Cargo can then use lock files, and make none [default: all]
    #[arg(long, value_name = "TRIPLE", num_args = 1..)]
    pub target: Vec<String>,
}

/// How much of what is depended on is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClosureArg {
    /// All releases that any resolution could pick
    Full,
    /// Of each range of compatible versions, the newest release
    Newest,
    /// What lock files name, and nothing else
    Locked,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry selection ./mirror                     what the mirror wants
  crateferry selection ./mirror remove team-a       a set is no longer wanted; what is held of it stays")]
pub struct SelectionShowArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    #[command(subcommand)]
    pub action: Option<SelectionAction>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum SelectionAction {
    /// Want something no longer; what is held of it stays, and is served
    Remove {
        /// Sets, by name
        #[arg(value_name = "SET", required_unless_present_any = ["crates", "all"])]
        sets: Vec<SetName>,
        /// Crates that are wanted under no set's name
        #[arg(long = "crate", value_name = "NAME", num_args = 1..)]
        crates: Vec<String>,
        /// The whole registry
        #[arg(long)]
        all: bool,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry why ./mirror syn
  crateferry why ./mirror syn@1.0.109")]
pub struct WhyArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// A crate, or one release of it
    #[arg(value_name = "NAME[@VERSION]")]
    pub what: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

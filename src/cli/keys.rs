//! Whose signatures count for the bundles of a mirror.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::KeyPasswordArgs;

#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    pub action: KeysAction,
}

#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Show the key lists: from which generation on whose signatures count
    #[command(after_help = "\
Examples:
  crateferry keys show ./mirror
  crateferry keys show ./mirror --json")]
    Show {
        /// The mirror's folder
        mirror: PathBuf,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the next key list: from the next generation on, the keys given count and no others
    Set(KeysSetArgs),
    /// Add the signatures that were made elsewhere to the list that `keys set --unsigned` wrote
    #[command(after_help = "\
All signatures are given at once. The list is taken when those over it are enough: a quorum of the list before it, and
one of its own keys. Until then nothing changes.

Examples:
  crateferry keys attach ./mirror --signature anna.minisig ben.minisig")]
    Attach {
        /// The mirror's folder
        mirror: PathBuf,
        /// Signatures over the list: files of minisign or of OpenPGP
        #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
        signature: Vec<PathBuf>,
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}

impl KeysAction {
    /// The mirror's folder.
    pub fn mirror(&self) -> &Path {
        match self {
            KeysAction::Show { mirror, .. } | KeysAction::Attach { mirror, .. } => mirror,
            KeysAction::Set(args) => &args.mirror,
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
All keys that are to count from then on are named, those that counted before too. The list is signed by a quorum of the
keys before it, who hand over, and by a quorum of its own. Replicas take it up from the next bundle and need not be told.
A first list counts from the beginning and needs its own keys alone; have it signed by the keys that replicas were told
to trust as well, if these are others.

Examples:
  crateferry keys set ./mirror --key anna.pub --sign anna.key                         the first list
  crateferry keys set ./mirror --key ben.pub --sign anna.key ben.key                  ben takes over from anna
  crateferry keys set ./mirror --key anna.pub ben.pub cleo.pub --quorum 2 --sign anna.key ben.key
  crateferry keys set ./mirror --key ben.pub --from 41 --sign anna.key ben.key        bundles to 41 and beyond
  crateferry keys set ./mirror --key ben.pub --unsigned                               to be signed elsewhere")]
pub struct KeysSetArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// The public keys: files, or keys of minisign themselves
    #[arg(long, value_name = "PUBKEY", num_args = 1.., required = true)]
    pub key: Vec<OsString>,
    /// How many of them must sign [default: all]
    #[arg(long, value_name = "N")]
    pub quorum: Option<usize>,
    /// From which generation on they count [default: the one after the last that is published]
    #[arg(long, value_name = "GENERATION")]
    pub from: Option<u64>,
    /// Sign the list with these secret keys; their password, if they have one, is taken from `CRATEFERRY_KEY_PASSWORD`
    #[arg(long, value_name = "KEY", num_args = 1.., required_unless_present = "unsigned", conflicts_with = "unsigned")]
    pub sign: Vec<PathBuf>,
    /// Write the list without signatures, for `keys attach`
    #[arg(long)]
    pub unsigned: bool,
    #[command(flatten)]
    pub password: KeyPasswordArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

//! Inventories of folders, and the keys that sign them.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use crateferry_pipeline::inventory::Algorithms;

use super::OutputArgs;
use crate::keys::Kind;

#[derive(Debug, Args)]
#[command(after_help = "\
Writes PREFIX.yaml, and PREFIX.tar with the same as PREFIX.toml. Any folder will do; it need not be a mirror.

HASHES are names with commas between them, or all:
  kangarootwelve, blake3, sha3-256, blake2b-256, sha512, whirlpool, ripemd160, xxh3-64, sha256, xxh64,
  murmur3-x64-128
Per-file digests and those of the whole cost the same: --per-file none or --whole none halves the work.

Exit codes: 0 complete, or as the inventory says; 3 something could not be read, and is named; 5 something is not
as the inventory says.

Examples:
  crateferry inventory ./files                                  files.yaml and files.tar
  crateferry inventory ./files --hashes sha256,blake3 --sign officer.key --out-dir /media/disk
  crateferry inventory --check /media/disk/files.yaml ./files --trust officer.key.pub
  crateferry inventory --check files.yaml files-as-received.tar")]
pub struct InventoryArgs {
    /// The folder; with --check, a folder or an uncompressed tar archive of one [default with --check: FILE without .yaml]
    #[arg(value_name = "DIR", required_unless_present = "check")]
    pub target: Option<PathBuf>,
    /// Which digests to compute
    #[arg(long, value_name = "HASHES", default_value = "all", conflicts_with = "check")]
    pub hashes: Algorithms,
    /// Which of them for each file, or none [default: those of --hashes]
    #[arg(long, value_name = "HASHES", conflicts_with = "check")]
    pub per_file: Option<Algorithms>,
    /// Which of them for all contents together, or none [default: those of --hashes]
    #[arg(long, value_name = "HASHES", conflicts_with = "check")]
    pub whole: Option<Algorithms>,
    /// How many threads hash [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub hash_workers: Option<u16>,
    /// Where to write
    #[arg(long, value_name = "DIR", default_value = ".", conflicts_with = "check")]
    pub out_dir: PathBuf,
    /// What the written files' names begin with [default: the folder's name]
    #[arg(long, value_name = "PREFIX", conflicts_with = "check")]
    pub out_prefix: Option<OsString>,
    /// Sign the document with this secret key of minisign or OpenPGP; its password, if it has one, is taken from
    /// `CRATEFERRY_KEY_PASSWORD`
    #[arg(long, value_name = "KEY", conflicts_with = "check")]
    pub sign: Option<PathBuf>,
    #[command(flatten)]
    pub password: KeyPasswordArgs,
    /// Stop at the first thing that cannot be read, and write nothing
    #[arg(long)]
    pub fail_fast: bool,
    /// Compare with this document instead of writing one
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
    /// Before that, see whether this public key's owner signed the document: a file, or a minisign key itself
    #[arg(long, value_name = "PUBKEY", requires = "check")]
    pub trust: Option<OsString>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// No option to be typed: what is typed is seen by others.
#[derive(Clone, Args)]
pub struct KeyPasswordArgs {
    /// The secret key's password
    #[arg(long, env = "CRATEFERRY_KEY_PASSWORD", hide = true, hide_env_values = true)]
    key_password: Option<String>,
}

impl KeyPasswordArgs {
    /// The password; an empty one is none.
    pub fn get(&self) -> Option<&str> {
        self.key_password.as_deref().filter(|password| !password.is_empty())
    }
}

impl std::fmt::Debug for KeyPasswordArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.get().is_some() { "a password" } else { "no password" })
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Writes the secret key to KEY, for its owner's eyes alone, and the public key to KEY.pub. With CRATEFERRY_KEY_PASSWORD
set, the secret key can only be used with that password. Files that are there are left alone.

Keys that minisign or GnuPG made are as good: gpg --armor --export-secret-keys writes one, gpg --armor --export its
public key.

Examples:
  crateferry keygen --out officer.key
  crateferry keygen --out officer.key --kind openpgp     for gpg --import and gpg --verify")]
pub struct KeygenArgs {
    /// Where the secret key goes; the public key goes beside it
    #[arg(long, value_name = "KEY")]
    pub out: PathBuf,
    /// Whose format key and signatures have
    #[arg(long, value_enum, default_value_t = KeyKind::Minisign)]
    pub kind: KeyKind,
    #[command(flatten)]
    pub password: KeyPasswordArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KeyKind {
    /// minisign's: a short line
    Minisign,
    /// OpenPGP's, as GnuPG takes it: an Ed25519 key of version 4
    #[value(name = "openpgp")]
    OpenPgp,
}

impl KeyKind {
    /// The kind.
    pub fn kind(self) -> Kind {
        match self {
            KeyKind::Minisign => Kind::Minisign,
            KeyKind::OpenPgp => Kind::OpenPgp,
        }
    }
}

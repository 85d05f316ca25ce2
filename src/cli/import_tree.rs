//! Taking over crate files that are there already.

use std::path::PathBuf;

use clap::Args;

use super::OutputArgs;

#[derive(Debug, Args)]
#[command(after_help = "\
Compares every file of a folder with what the mirror wants, by the checksums of its index, and stores those that are
wanted. Nothing is fetched, and the folder is only read. Any layout will do: panamax's, romt's, cargo's cache, a local
registry, what `export` wrote. Names point to releases where they can; bytes decide.

The mirror has to know its index before: `crateferry sync MIRROR SELECTION --limit 0` reads it and fetches no crate file.

Exit codes: 0 every crate file of the folder is in the mirror; 1 some are not, and are named, or the manifest differs.

Examples:
  crateferry sync ./mirror --all --limit 0                      read the index alone
  crateferry import-tree ./mirror /srv/panamax/crates           take over what is there
  crateferry sync ./mirror                                      fetch the rest
  crateferry import-tree ./mirror ~/.cargo/registry/cache
  crateferry import-tree ./mirror ./out --manifest ./manifest.jsonl")]
pub struct ImportTreeArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// The folder with crate files; it must lie outside the mirror
    #[arg(value_name = "DIR")]
    pub from: PathBuf,
    /// A log of downloads, JSON lines with path, size, sha256 and ok: see first whether the files are as it says
    #[arg(long, value_name = "FILE")]
    pub manifest: Option<PathBuf>,
    #[command(flatten)]
    pub output: OutputArgs,
}

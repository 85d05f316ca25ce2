//! Documents that describe releases.
#![expect(clippy::doc_markdown, reason = "the comments are what --help prints")]

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::{ExportLayout, OutputArgs};

/// What the documents that describe releases are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Sidecars {
    /// The release's line in the index, and what its crate file tells
    #[default]
    Manifest,
    /// The release's line in the index alone: crate files are not read
    Index,
    /// There are none
    Off,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A sidecar describes one release: its line in the index, and licence, description, repository and more
from its crate file. A sync reads the beginning of each crate file; this command reads the whole of those
that could tell more, and keeps what it learns in the mirror.

Examples:
  crateferry sidecars ./mirror                        learn all that crate files tell
  crateferry sidecars ./mirror --to ./files           write s/er/serde-1.0.0.crate.json and so on
  crateferry sidecars ./mirror --to ./files --layout download")]
pub struct SidecarsArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Only the first N releases, in the order of the index
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Yanked releases too
    #[arg(long)]
    pub include_yanked: bool,
    /// Write a document for each release into this folder
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
    /// How the documents are arranged: as `export` arranges crate files
    #[arg(long, value_enum, default_value_t = ExportLayout::Sharded, requires = "to")]
    pub layout: ExportLayout,
    /// The download URL that documents name, instead of what the upstream's config.json says [env: CRATEFERRY_DOWNLOAD_URL]
    #[arg(long, value_name = "URL")]
    pub download_url: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

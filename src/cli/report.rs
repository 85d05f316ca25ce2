//! What a mirror serves, for who has to answer for it.

use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry report ./mirror
  crateferry report ./mirror --since 41 --advisory-db ./advisory-db
  crateferry report ./mirror --format cyclonedx > sbom.json")]
pub struct ReportArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Only what was published after this generation
    #[arg(long, value_name = "GENERATION")]
    pub since: Option<u64>,
    /// A RustSec advisory database, as a folder [default: advisory-db of [policy]]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub advisory_db: Option<PathBuf>,
    /// text, json, or cyclonedx: an SBOM of CycloneDX 1.5
    #[arg(long, value_enum, value_name = "FORM", default_value = "text")]
    pub format: ReportFormat,
}

/// What a report looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    Text,
    /// Everything, as JSON
    Json,
    /// A bill of materials, CycloneDX 1.5 as JSON
    Cyclonedx,
}

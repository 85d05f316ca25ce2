//! What is configured, and why.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{NetworkArgs, UpstreamArgs};

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    pub action: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print every setting with where it comes from: the default, a line of the file, a variable, an option
    Show(ConfigShowArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
The output is a configuration itself. Passwords in URLs are not printed. The options are those of `sync`: with them it
shows what would hold for that run.

Examples:
  crateferry config show ./mirror
  CRATEFERRY_RETRIES=9 crateferry config show ./mirror --concurrency 8
  crateferry config show ./mirror --json")]
pub struct ConfigShowArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    #[command(flatten)]
    pub upstream: UpstreamArgs,
    #[command(flatten)]
    pub network: NetworkArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

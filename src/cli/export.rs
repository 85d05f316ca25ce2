//! Plain files of what a mirror holds.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::BaseUrl;

#[derive(Debug, Args)]
#[command(after_help = "\
Layouts:
  download        crates/NAME/NAME-VERSION.crate, as the download host has them
  cargo           NAME-VERSION.crate in one folder, as cargo's cache has them
  sharded         NAME/ for names of up to three letters, else s/er/serde-1.0.0.crate
  local-registry  as cargo, and the index in index/: a registry without a server
  static          as download, and the index in index/: a registry for any web server

The same command again brings a folder up to date. With local-registry and static, crates that are
served no more leave its index; no crate file is ever deleted.

A local registry in a project's .cargo/config.toml:
  [source.crates-io]
  replace-with = \"mirror\"
  [source.mirror]
  local-registry = \"/path/to/DIR\"

Examples:
  crateferry export ./mirror --to ./files --layout download
  crateferry export ./mirror --to ./registry --layout local-registry
  crateferry export ./mirror --to /srv/crates --layout static --public-url https://crates.example")]
pub struct ExportArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// The folder to write into
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// How the files are arranged
    #[arg(long, value_enum)]
    pub layout: ExportLayout,
    /// Under which URL the folder will be served; for the layout static, which needs it
    #[arg(long, value_name = "URL")]
    pub public_url: Option<BaseUrl>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportLayout {
    Download,
    Cargo,
    Sharded,
    LocalRegistry,
    Static,
}

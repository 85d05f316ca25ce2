//! Serving a mirror, and who may use it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{AdminAddress, BaseUrl};

#[derive(Debug, Args)]
#[command(after_help = "\
In a project's .cargo/config.toml:
  [source.crates-io]
  replace-with = \"mirror\"
  [source.mirror]
  registry = \"sparse+http://localhost:8080/index/\"

Examples:
  crateferry serve ./mirror
  crateferry serve ./replica --apply-from /srv/inbox
  crateferry serve ./mirror --listen 0.0.0.0:443 --tls-cert chain.pem --tls-key key.pem \\
      --public-url https://crates.example")]
pub struct ServeArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Where to listen
    #[arg(long, env = "CRATEFERRY_LISTEN", value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,
    /// Under which URL clients reach the server, if not by the host that they name themselves
    #[arg(long, env = "CRATEFERRY_PUBLIC_URL", value_name = "URL")]
    pub public_url: Option<BaseUrl>,
    /// How cargo is told to ask for crate files
    #[arg(long, value_enum, default_value_t)]
    pub download_by: DownloadBy,
    /// Speak TLS with this certificate chain, PEM; taken up again when the file changes
    #[arg(long, env = "CRATEFERRY_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM
    #[arg(long, env = "CRATEFERRY_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Let only those in who have a token of this file; `crateferry token` writes it
    #[arg(long, env = "CRATEFERRY_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// Bring the mirror to where its upstream is now and then, like 6h; the first time at once
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub sync_every: Option<Duration>,
    /// Take bundles in that are laid into this folder, each in a folder of its own; they are moved to done/ or failed/ in it
    #[arg(long, value_name = "DIR", conflicts_with = "sync_every")]
    pub apply_from: Option<PathBuf>,
    /// Read the packs in the background to find damage, so many bytes a second, like 5MB
    #[arg(long, value_name = "SIZE")]
    pub scrub: Option<bytesize::ByteSize>,
    /// Show metrics, status and profiles here; PORT alone is one of this machine's own [default without a value:
    /// 127.0.0.1:9090]
    #[arg(long, env = "CRATEFERRY_ADMIN", value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "9090")]
    pub admin: Option<AdminAddress>,
    /// Connections at once; further clients wait [default: 8192, or fewer if so many files may not be open]
    #[arg(long, value_name = "N")]
    pub max_connections: Option<usize>,
    /// Connections at once from one address; give more behind a proxy [default: 256]
    #[arg(long, value_name = "N")]
    pub max_per_address: Option<usize>,
    /// How long a connection may lie idle; give more than a proxy in front of it does [default: 75s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub idle_timeout: Option<Duration>,
    /// Cut off who takes less than 1 KiB a second of an answer for so long [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub stall_timeout: Option<Duration>,
}

/// How `config.json` names crate files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DownloadBy {
    /// By SHA-256: exactly the bytes that the index promises, so that any cache may keep them for ever
    #[default]
    Checksum,
    /// By name and version
    Name,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A running server takes changes up within seconds.

Examples:
  crateferry token add tokens.txt build-1        prints the new token, once
  crateferry token remove tokens.txt build-1")]
pub struct TokenArgs {
    #[command(subcommand)]
    pub action: TokenAction,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum TokenAction {
    /// Make a token and print it; the file gets its SHA-256
    Add {
        /// The file of tokens; made if it is not there
        file: PathBuf,
        /// Who gets the token
        name: String,
    },
    /// List the names that have a token
    List {
        /// The file of tokens
        file: PathBuf,
    },
    /// Remove a token: who has it is no longer let in
    Remove {
        /// The file of tokens
        file: PathBuf,
        /// Who had it
        name: String,
    },
}

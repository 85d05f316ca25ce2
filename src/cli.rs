//! The command line, as types.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use crateferry_pipeline::inventory::Algorithms;
use crateferry_pipeline::net::Concurrency;

mod admin_address;

pub use admin_address::AdminAddress;

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
    Sync(SyncArgs),
    /// Serve a mirror to cargo and to people
    Serve(ServeArgs),
    /// Make, list and remove the tokens that `serve --tokens` asks for
    Token(TokenArgs),
    /// Say what a sync would do, without doing it
    Plan(PlanArgs),
    /// Show what a mirror holds and lacks
    Status(ReadArgs),
    /// List releases that are wanted but not held, or accept that one is missing
    Holes(HolesArgs),
    /// Approve deletions that were held back because they were many
    Approve(ReadArgs),
    /// Read everything that is held and compare it with its digests
    Verify(ReadArgs),
    /// Make ledger and catalog again from the packs alone
    Rebuild(RebuildArgs),
    /// Write the held crate files into a folder
    Export(ExportArgs),
    /// Hash every file of a folder into a signed document, or compare a folder with one
    Inventory(InventoryArgs),
    /// Make a key pair to sign with
    Keygen(KeygenArgs),
    /// Print what a shell needs to complete this program's command lines
    Completions(CompletionsArgs),
    /// Print the manual page, or write one for each command into a folder
    Man(ManArgs),
}

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the fields are the options' names")]
pub struct LoggingArgs {
    /// How log lines look on stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "CRATEFERRY_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Least level that is logged: error, warn, info, debug or trace
    #[arg(long, global = true, default_value = "info", env = "CRATEFERRY_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: tracing::Level,
    /// Append log lines to a file instead of writing them to stderr
    #[arg(long, global = true, env = "CRATEFERRY_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry init ./mirror
  crateferry init ./mirror --upstream sparse+https://registry.example/index/ --contact ops@example.org")]
pub struct InitArgs {
    /// The mirror's folder: new or empty
    pub mirror: PathBuf,
    #[command(flatten)]
    pub upstream: UpstreamArgs,
}

/// Where a mirror syncs from. Kept in `crateferry.toml` when a mirror is made; later they count for one run.
#[derive(Debug, Default, Args)]
pub struct UpstreamArgs {
    /// crates-io, sparse+https://..., a git URL (https, http or file), or a checked-out index folder [default: crates-io]
    #[arg(long, env = "CRATEFERRY_UPSTREAM", value_name = "UPSTREAM")]
    pub upstream: Option<String>,
    /// Download crate files from here instead of where the index says; may hold {crate} {version} {prefix}
    /// {lowerprefix} {sha256-checksum}
    #[arg(long, env = "CRATEFERRY_DOWNLOAD_URL", value_name = "URL")]
    pub download_url: Option<String>,
    /// A mail address or URL that the registry's operators can turn to
    #[arg(long, env = "CRATEFERRY_CONTACT", value_name = "CONTACT")]
    pub contact: Option<String>,
    /// A file with further CA certificates to trust, PEM; may be repeated
    #[arg(long, env = "CRATEFERRY_CA_FILE", value_name = "FILE")]
    pub ca_file: Vec<PathBuf>,
}

/// Which releases a mirror wants. Stored in the mirror and added up.
#[derive(Debug, Default, Args)]
pub struct SelectionArgs {
    /// The whole registry; needs a git index or an index folder
    #[arg(long)]
    pub all: bool,
    /// All that a Cargo.lock names, yanked or not; may be repeated
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub lockfile: Vec<PathBuf>,
    /// A crate, all its releases or those that a version requirement matches; may be repeated
    #[arg(long = "crate", value_name = "NAME[@REQ]", num_args = 1..)]
    pub crates: Vec<String>,
    /// A file with one NAME, NAME@REQ or crate-file URL on each line
    #[arg(long, value_name = "FILE")]
    pub list: Vec<PathBuf>,
    /// Yanked releases too
    #[arg(long)]
    pub include_yanked: bool,
}

impl SyncArgs {
    /// Those of a `sync` that is given nothing but a mirror; the environment counts as it always does, but for the admin
    /// address: the process that runs this sync may have one itself.
    pub fn bare(mirror: &Path) -> SyncArgs {
        let line = [OsStr::new("crateferry"), OsStr::new("sync"), OsStr::new("--"), mirror.as_os_str()];
        match Cli::parse_from(line).command {
            Command::Sync(args) => SyncArgs { admin: None, ..args },
            _ => unreachable!("the line says sync"),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
A selection is stored in the mirror; a bare `sync` refreshes what is stored.

Examples:
  crateferry sync ./mirror --lockfile Cargo.lock      mirror what a project is built from
  crateferry sync ./mirror --crate serde --crate 'tokio@^1'
  crateferry sync ./mirror --all                      mirror the whole registry
  crateferry sync ./mirror                            refresh")]
pub struct SyncArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub upstream: UpstreamArgs,
    /// Fetch at most the first N releases that are wanted; the rest stays wanted
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Requests at once, or auto
    #[arg(long, env = "CRATEFERRY_CONCURRENCY", value_name = "N|auto")]
    pub concurrency: Option<Concurrency>,
    /// Publish deletions however many they are
    #[arg(long)]
    pub accept_shrink: bool,
    /// Ask again now for all that failed or was refused
    #[arg(long)]
    pub retry_failed: bool,
    /// Do not look at the upstream's index; fetch what is wanted already
    #[arg(long)]
    pub offline_index: bool,
    /// JSON lines of {url, sha256} that must hold on top of what the index promises
    #[arg(long, value_name = "FILE")]
    pub checksums: Option<PathBuf>,
    /// How often an object is asked for again within this run
    #[arg(long, value_name = "N")]
    pub retries: Option<u32>,
    /// How long one object may take, like 10m
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Show metrics, status and profiles here; PORT alone is one of this machine's own [default without a value:
    /// 127.0.0.1:9090]
    #[arg(long, env = "CRATEFERRY_ADMIN", value_name = "ADDR:PORT", num_args = 0..=1, default_missing_value = "9090")]
    pub admin: Option<AdminAddress>,
    #[command(flatten)]
    pub output: OutputArgs,
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
In a project's .cargo/config.toml:
  [source.crates-io]
  replace-with = \"mirror\"
  [source.mirror]
  registry = \"sparse+http://localhost:8080/index/\"

Examples:
  crateferry serve ./mirror
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

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry plan ./mirror --lockfile Cargo.lock
  crateferry plan ./mirror --json")]
pub struct PlanArgs {
    /// The mirror's folder; need not exist
    pub mirror: PathBuf,
    #[command(flatten)]
    pub selection: SelectionArgs,
    #[command(flatten)]
    pub upstream: UpstreamArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Time between progress lines where stderr is no terminal
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub progress_interval: Duration,
}

#[derive(Debug, Args)]
pub struct ReadArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry holes ./mirror
  crateferry holes ./mirror accept serde@1.0.0       live without this release")]
pub struct HolesArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    #[command(subcommand)]
    pub action: Option<HolesAction>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum HolesAction {
    /// Leave a release out for good
    Accept {
        /// Which releases
        #[arg(required = true, value_name = "NAME@VERSION")]
        releases: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub struct RebuildArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Begin a new epoch even if nothing seems lost: after restoring a backup
    #[arg(long)]
    pub new_epoch: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

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

/// A URL that cargo is told, under which other things lie.
#[derive(Clone, Debug)]
pub struct BaseUrl(String);

impl BaseUrl {
    /// The URL, without a slash at its end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = reqwest::Url::parse(text).map_err(|error| error.to_string())?;
        let plain = matches!(url.scheme(), "http" | "https") && url.query().is_none() && url.fragment().is_none();
        if !plain || url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() {
            return Err("it must look like https://host or https://host/path".to_owned());
        }
        Ok(BaseUrl(url.as_str().trim_end_matches('/').to_owned()))
    }
}

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
    /// Sign the document with this secret key, in minisign's format; its password, if it has one, is taken from
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
    /// Before that, see whether this public key's owner signed the document: a file, or the key itself
    #[arg(long, value_name = "PUBKEY", requires = "check")]
    pub trust: Option<OsString>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// No option to be typed: what is typed is seen by others.
#[derive(Args)]
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
Writes the secret key to KEY, for its owner's eyes alone, and the public key to KEY.pub, both in minisign's format. With
CRATEFERRY_KEY_PASSWORD set, the secret key can only be used with that password. Files that are there are left alone.

Example:
  crateferry keygen --out officer.key")]
pub struct KeygenArgs {
    /// Where the secret key goes; the public key goes beside it
    #[arg(long, value_name = "KEY")]
    pub out: PathBuf,
    #[command(flatten)]
    pub password: KeyPasswordArgs,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry completions bash > /etc/bash_completion.d/crateferry
  crateferry completions zsh > ~/.zfunc/_crateferry
  crateferry completions fish > ~/.config/fish/completions/crateferry.fish")]
pub struct CompletionsArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

impl CompletionsArgs {
    /// The script that the shell is to read.
    pub fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "crateferry", &mut script);
        script
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  crateferry man | man -l -
  crateferry man --dir /usr/local/share/man/man1")]
pub struct ManArgs {
    /// A folder for the pages of all commands, crateferry.1, crateferry-sync.1 and so on
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

impl ManArgs {
    /// The page of the program itself, in roff.
    pub fn page() -> std::io::Result<Vec<u8>> {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        Ok(page)
    }

    /// Writes the pages of all commands into a folder that exists.
    pub fn write_all(dir: &Path) -> std::io::Result<()> {
        clap_mangen::generate_to(Cli::command(), dir)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}

//! What crosses the gap.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use crateferry_pipeline::bundle::Recompression;

use super::inventory::KeyPasswordArgs;
use super::{OutputArgs, size};

#[derive(Debug, Args)]
pub struct BundleArgs {
    #[command(subcommand)]
    pub action: BundleAction,
}

#[derive(Debug, Subcommand)]
pub enum BundleAction {
    /// Make a bundle of what a mirror serves, or of what changed since a generation
    Create(BundleCreateArgs),
    /// Put signatures beside a bundle that were made elsewhere
    AttachSignature(BundleAttachArgs),
    /// Take a bundle into a mirror; makes the mirror if it is not there yet
    Apply(BundleApplyArgs),
    /// Tell what a bundle leads from and to, and what it carries: new, yanked and withdrawn releases, sizes, licences
    Inspect(BundleInspectArgs),
    /// Read a bundle's volumes and compare them with its signed manifest
    Verify(BundleReadArgs),
    /// Write the crate files of a bundle into a folder, for scanners
    Extract(BundleExtractArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
A bundle is a manifest, its signatures, and volumes that can be carried apart. Its content depends on what is
carried and how alone: the same command gives the same volumes, and goes on with what an interrupted one left.

Sizes of volumes are like 4.7GB or 8GiB, or what fits on a medium: cd dvd bd25 bd50 fat32.

Examples:
  crateferry bundle create ./mirror --full --out /media/disk --sign officer.key
  crateferry bundle create ./mirror --for receipt.txt --out ./outbox --sign officer.key
  crateferry bundle create ./mirror --since 41 --out ./outbox --volume-size dvd --sign officer.key
  crateferry bundle create ./mirror --full --out ./outbox --volume-size bd25 --parity 10% --sign officer.key
  crateferry bundle create ./mirror --since 41 --out - --sign officer.key | send-over-the-diode")]
pub struct BundleCreateArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// The folder to write into: new, empty, or with what is left of the same bundle; `-` sends all as one stream to stdout
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// All that is served, for a receiver that has nothing
    #[arg(long, conflicts_with_all = ["since", "for_receipt"], required_unless_present_any = ["since", "for_receipt"])]
    pub full: bool,
    /// What changed since this generation, for a receiver that has it
    #[arg(long, value_name = "GENERATION", conflicts_with = "for_receipt")]
    pub since: Option<u64>,
    /// What the receiver lacks that wrote this receipt
    #[arg(long = "for", value_name = "RECEIPT")]
    pub for_receipt: Option<PathBuf>,
    #[command(flatten)]
    pub receipt_trust: ReceiptTrustArgs,
    #[command(flatten)]
    pub form: BundleFormArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
A receipt is a text of a few lines. Carried to the online side, it makes a bundle of exactly what is lacking here:
  crateferry bundle create ./mirror --for receipt.txt --out ./outbox --sign officer.key

Examples:
  crateferry receipt ./mirror
  crateferry receipt ./mirror --out /media/disk/receipt.txt --sign receipts.key")]
pub struct ReceiptArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// Write it into this file instead of to stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Sign it with this secret key of minisign or OpenPGP; may be given several times
    #[arg(long, value_name = "KEY")]
    pub sign: Vec<PathBuf>,
    #[command(flatten)]
    pub password: KeyPasswordArgs,
}

/// Whose receipts are taken.
#[derive(Debug, Default, Args)]
pub struct ReceiptTrustArgs {
    /// Take the receipt only if it is signed with this public key of minisign or OpenPGP: a file, or a minisign key itself;
    /// if given several times, with one of them
    #[arg(long, value_name = "KEY")]
    pub receipt_key: Vec<OsString>,
}

/// How a bundle is made.
#[derive(Clone, Debug, Args)]
pub struct BundleFormArgs {
    /// The most bytes of a volume
    #[arg(long, value_name = "SIZE", default_value = "dvd", value_parser = volume_size)]
    pub volume_size: u64,
    /// Add parity of so many percent, in volumes of its own, from which lost or scratched volumes are made again
    #[arg(long, value_name = "N%", value_parser = percent)]
    pub parity: Option<u8>,
    /// How hard to recompress crate files
    #[arg(long, value_enum, default_value_t = Level::Fast)]
    pub level: Level,
    /// Sign the manifest with this secret key of minisign or OpenPGP; may be given several times
    #[arg(long, value_name = "KEY")]
    pub sign: Vec<PathBuf>,
    /// Lay this program beside the volumes, for a side that has none; the manifest has its SHA-256; may be given several
    /// times
    #[arg(long, value_name = "FILE")]
    pub with_importer: Vec<PathBuf>,
    /// Leave the manifest to be signed elsewhere; until then nobody can apply the bundle
    #[arg(long, conflicts_with = "sign")]
    pub unsigned_manifest: bool,
    #[command(flatten)]
    pub password: KeyPasswordArgs,
}

/// How hard to recompress crate files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Not at all: crate files travel as they are
    None,
    /// About a sixth of the size where a crate has several versions
    Fast,
    /// Somewhat smaller, and some fifteen times slower
    Max,
}

impl Level {
    /// What the pipeline calls it.
    pub fn recompression(self) -> Recompression {
        match self {
            Level::None => Recompression::None,
            Level::Fast => Recompression::Fast,
            Level::Max => Recompression::Max,
        }
    }

    /// Its name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Level::None => "none",
            Level::Fast => "fast",
            Level::Max => "max",
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = "\
A new folder becomes a replica: it takes its id from its first bundle and serves what bundles bring, and nothing
else. Volumes may come in any order, on several media, and more than once; what is served moves in one switch when
all of a bundle is there and nothing is missing before it.

Exit codes:
  0  the bundle is applied, or was before
  1  what was there is taken in; something is missing, and is named
  3  refused: key, mirror, rollback or fork
  5  something is damaged, and is named

Examples:
  crateferry bundle apply ./mirror /media/disk --trust officer.key.pub
  crateferry bundle apply ./mirror /media/disk2
  receive-from-the-diode | crateferry bundle apply ./mirror -")]
pub struct BundleApplyArgs {
    /// The mirror's folder
    pub mirror: PathBuf,
    /// The bundle's folder; `-` takes a stream from stdin
    pub bundle: PathBuf,
    #[command(flatten)]
    pub trust: BundleTrustArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  crateferry bundle verify /media/disk --trust officer.key.pub")]
pub struct BundleReadArgs {
    /// The bundle's folder
    pub bundle: PathBuf,
    #[command(flatten)]
    pub trust: BundleTrustArgs,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
All of it is read from tables of contents that the signed manifest seals, and from index files and facts in the volumes that
are here. Crate files are not read; `crateferry bundle verify` does that.

Examples:
  crateferry bundle inspect /media/disk --trust officer.key.pub
  crateferry bundle inspect /media/disk --trust officer.key.pub --page bundle.html")]
pub struct BundleInspectArgs {
    #[command(flatten)]
    pub read: BundleReadArgs,
    /// Write it into this file as well, as a page that can be printed
    #[arg(long, value_name = "FILE")]
    pub page: Option<PathBuf>,
}

/// Whose signatures count.
#[derive(Debug, Args)]
pub struct BundleTrustArgs {
    /// Trust this public key of minisign or OpenPGP: a file, or a minisign key itself; may be given several times. A new
    /// mirror remembers it
    #[arg(long, value_name = "KEY")]
    pub trust: Vec<OsString>,
    /// How many of these keys must sign [default: all]
    #[arg(long, value_name = "N", requires = "trust")]
    pub quorum: Option<usize>,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Who signs elsewhere needs the file manifest.json alone, and any program of the key's kind:
  minisign -S -m manifest.json
  gpg --armor --detach-sign manifest.json

Example:
  crateferry bundle attach-signature ./outbox --signature manifest.json.minisig --trust officer.key.pub")]
pub struct BundleAttachArgs {
    /// The bundle's folder
    pub bundle: PathBuf,
    /// A signature over the bundle's manifest, by a key that is named with --trust; may be given several times
    #[arg(long, value_name = "FILE", required = true)]
    pub signature: Vec<PathBuf>,
    #[command(flatten)]
    pub trust: BundleTrustArgs,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Crate files that were recompressed against one that is not in the bundle cannot be written; they are named.

Example:
  crateferry bundle extract /media/disk --to ./scan --trust officer.key.pub")]
pub struct BundleExtractArgs {
    #[command(flatten)]
    pub read: BundleReadArgs,
    /// The folder to write crates/NAME/NAME-VERSION.crate into
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
}

/// What fits on media, with some room for a file system.
const MEDIA: [(&str, u64); 5] = [
    ("cd", 730_000_000),
    ("dvd", 4_690_000_000),
    ("bd25", 25_000_000_000),
    ("bd50", 50_000_000_000),
    ("fat32", u32::MAX as u64),
];

pub(super) fn volume_size(text: &str) -> Result<u64, String> {
    match MEDIA.iter().find(|(name, _)| *name == text) {
        Some((_, size)) => Ok(*size),
        None => size(text),
    }
}

pub(super) fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number.filter(|percent| (1..=100).contains(percent)).ok_or_else(|| "it is from 1% to 100%".to_owned())
}

//! Keys and signatures, of two kinds: minisign's and OpenPGP's.
//!
//! A key is made by [`generate`] or by the programs of its kind, kept by its owner, and given with each use. It is never made on the way.
//! Signatures are detached, over exact bytes.

mod chain;
mod list;
mod minisign;
mod openpgp;
mod signature_files;
#[cfg(test)]
mod tests;
mod trust;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_store::make_names_durable;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

pub use self::chain::{Chain, LONGEST_CHAIN, LONGEST_SIGNATURE, MOST_SIGNATURES, Signed};
pub use self::list::{KeyList, KeySet, Moment};
pub use self::signature_files::{SignatureFile, read_signature, read_signatures, sign_all};
pub use self::trust::{Judged, Trust, Untrusted, read_if_there};

use crate::report::usage;

/// The longest file that is read as a key or as a signature: an OpenPGP key can carry many others' signatures.
const LONGEST: u64 = 16 << 20;

const PASSWORD_HINT: &str = "its password, if it has one, is taken from CRATEFERRY_KEY_PASSWORD, which is not set";

/// Which format keys and signatures have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Minisign,
    OpenPgp,
}

impl Kind {
    /// Both.
    pub const ALL: [Kind; 2] = [Kind::Minisign, Kind::OpenPgp];

    /// What a signature's file has behind the name of the file that was signed.
    pub fn suffix(self) -> &'static str {
        match self {
            Kind::Minisign => ".minisig",
            Kind::OpenPgp => ".asc",
        }
    }

    /// The same, as programs of its kind name theirs if nobody says.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Kind::Minisign => &[".minisig"],
            Kind::OpenPgp => &[".asc", ".sig"],
        }
    }

    /// A packet of OpenPGP begins with the highest bit set, its armor with dashes; all else is for minisign to judge.
    fn of(key: &[u8]) -> Kind {
        let is_packet = key.first().is_some_and(|first| first & 0x80 != 0);
        let is_armored = memchr::memmem::find(key, b"-----BEGIN PGP ").is_some();
        if is_packet || is_armored { Kind::OpenPgp } else { Kind::Minisign }
    }
}

/// A secret key, ready for use.
pub enum SigningKey {
    Minisign(minisign::Secret),
    OpenPgp(Box<openpgp::Secret>),
}

impl SigningKey {
    /// Reads a key, with its password if it has one.
    pub fn read(path: &Path, password: Option<&str>) -> anyhow::Result<SigningKey> {
        let read = read(path, LONGEST).map_err(anyhow::Error::from).and_then(|bytes| match Kind::of(&bytes) {
            Kind::Minisign => Ok(SigningKey::Minisign(minisign::Secret::read(&bytes, password)?)),
            Kind::OpenPgp => {
                let key = openpgp::Secret::read(&bytes, password, SystemClock.now())?;
                Ok(SigningKey::OpenPgp(Box::new(key)))
            }
        });
        read.with_context(|| format!("cannot use the secret key {}", path.display()))
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            SigningKey::Minisign(_) => Kind::Minisign,
            SigningKey::OpenPgp(_) => Kind::OpenPgp,
        }
    }

    /// The id that the public key has, too.
    pub fn id(&self) -> String {
        match self {
            SigningKey::Minisign(key) => key.id(),
            SigningKey::OpenPgp(key) => key.id(),
        }
    }

    /// The text of a signature over all bytes. Some kinds note a file's name in it.
    pub fn sign(&self, data: impl Read, file_name: &str) -> anyhow::Result<String> {
        let signed = match self {
            SigningKey::Minisign(key) => key.sign(data, file_name),
            SigningKey::OpenPgp(key) => key.sign(data),
        };
        signed.context("cannot sign")
    }
}

/// A public key that is trusted because the command line names it.
pub enum TrustedKey {
    Minisign(minisign::Public),
    OpenPgp(Box<openpgp::Certificate>),
}

/// A signature that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSignature(String);

impl BadSignature {
    fn new(problem: impl fmt::Display) -> BadSignature {
        BadSignature(problem.to_string())
    }
}

impl TrustedKey {
    /// Reads a key from a file; what is no file's name may be a key of minisign itself.
    pub fn read(given: &OsStr) -> anyhow::Result<TrustedKey> {
        if let Some(key) = given.to_str().and_then(minisign::Public::from_line) {
            return Ok(TrustedKey::Minisign(key));
        }
        let read =
            read(Path::new(given), LONGEST).map_err(anyhow::Error::from).and_then(|bytes| match Kind::of(&bytes) {
                Kind::Minisign => Ok(TrustedKey::Minisign(minisign::Public::read(&bytes)?)),
                Kind::OpenPgp => Ok(TrustedKey::OpenPgp(Box::new(openpgp::Certificate::read(&bytes)?))),
            });
        read.with_context(|| format!("cannot use the public key {}", Path::new(given).display()))
    }

    /// Whether a signature says that it is by this key.
    fn is_named_by(&self, signature: &[u8]) -> bool {
        match self {
            TrustedKey::Minisign(key) => minisign::issuer(signature).is_ok_and(|issuer| issuer == key.id()),
            TrustedKey::OpenPgp(key) => key.is_named_by(signature),
        }
    }

    /// Reads what [`TrustedKey::text`] wrote.
    fn from_text(kind: Kind, text: &str) -> anyhow::Result<TrustedKey> {
        match kind {
            Kind::Minisign => {
                Ok(TrustedKey::Minisign(minisign::Public::from_line(text).context("it is no key of minisign")?))
            }
            Kind::OpenPgp => Ok(TrustedKey::OpenPgp(Box::new(openpgp::Certificate::read(text.as_bytes())?))),
        }
    }

    /// The key as a text: the line of minisign, or armored.
    fn text(&self) -> anyhow::Result<String> {
        match self {
            TrustedKey::Minisign(key) => Ok(key.line()),
            TrustedKey::OpenPgp(key) => key.text(),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            TrustedKey::Minisign(_) => Kind::Minisign,
            TrustedKey::OpenPgp(_) => Kind::OpenPgp,
        }
    }

    /// The key's id.
    pub fn id(&self) -> String {
        match self {
            TrustedKey::Minisign(key) => key.id(),
            TrustedKey::OpenPgp(key) => key.id(),
        }
    }

    /// Whether the key's owner made this signature over exactly these bytes.
    pub fn verify(&self, signature: &[u8], data: impl Read + Seek) -> Result<(), BadSignature> {
        match self {
            TrustedKey::Minisign(key) => key.verify(signature, data),
            TrustedKey::OpenPgp(key) => key.verify(signature, data, SystemClock.now()),
        }
    }

    /// The same by the rule of bundles: that a key's time is over by the calendar is no reason to refuse what it signed, since
    /// both sides of a gap have key lists that say when it counts. Returns since when it is over.
    pub fn verify_whenever(&self, signature: &[u8], data: &[u8]) -> Result<Option<jiff::Timestamp>, BadSignature> {
        match self {
            TrustedKey::Minisign(key) => key.verify(signature, Cursor::new(data)).map(|()| None),
            TrustedKey::OpenPgp(key) => key.verify_whenever(signature, Cursor::new(data), SystemClock.now()),
        }
    }

    /// The same, for a signature that lies beside the file it was made for.
    pub fn verify_beside(&self, signed: &Path, data: impl Read + Seek) -> Result<(), BadSignature> {
        let beside = |suffix: &&str| {
            let mut path = OsString::from(signed);
            path.push(suffix);
            PathBuf::from(path)
        };
        let mut paths = self.kind().suffixes().iter().map(beside);
        let first = paths.next().unwrap_or_default();
        let path = if first.exists() { first } else { paths.find(|path| path.exists()).unwrap_or(first) };
        let shown = path.display();
        let signature = read(&path, LONGEST).map_err(|error| BadSignature(format!("no {shown}: {error}")))?;
        self.verify(&signature, data).map_err(|problem| BadSignature(format!("{shown}: {problem}")))
    }
}

fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {longest} bytes")));
    }
    Ok(bytes)
}

/// A key pair that was made.
pub struct Generated {
    pub id: String,
    pub secret: PathBuf,
    pub public: PathBuf,
}

/// What is to be written of a key pair.
struct KeyTexts {
    id: String,
    secret: String,
    public: String,
}

/// Makes a key pair and writes both keys, each to a new file.
pub fn generate(kind: Kind, secret: &Path, password: Option<&str>) -> anyhow::Result<Generated> {
    let name = secret.file_name().unwrap_or_default().to_string_lossy();
    if name.is_empty() {
        return Err(usage(format!("{} is no file's name", secret.display())));
    }
    let mut public = secret.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    for path in [secret, &public] {
        if path.symlink_metadata().is_ok() {
            return Err(usage(format!("{} is there already, and keys are not overwritten", path.display())));
        }
    }
    let made = match kind {
        Kind::Minisign => minisign::generate(password),
        Kind::OpenPgp => openpgp::generate(&name, password, SystemClock.now()),
    };
    let made = made.context("cannot make a key")?;
    let dir = secret.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("cannot write keys into {}", dir.display());
    // A temporary file is its owner's alone from the beginning.
    let new_secret = tempfile::Builder::new().prefix(".key-").tempfile_in(dir).with_context(failed)?;
    settle(new_secret, secret, &made.secret)?;
    let make = |path: &Path| File::options().write(true).create_new(true).open(path);
    let new_public = tempfile::Builder::new().prefix(".key-").make_in(dir, make).with_context(failed)?;
    settle(new_public, &public, &made.public)?;
    make_names_durable(dir).with_context(failed)?;
    Ok(Generated { id: made.id, secret: secret.to_owned(), public })
}

fn settle(mut part: NamedTempFile, path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    part.write_all(text.as_bytes()).with_context(failed)?;
    part.as_file().sync_all().with_context(failed)?;
    part.persist_noclobber(path).map(drop).map_err(|error| error.error).with_context(failed)
}

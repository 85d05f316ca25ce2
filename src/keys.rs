//! Keys and signatures in minisign's formats. The only place that knows the crate for them.
//!
//! A key is made by [`generate`] or by minisign itself, kept by its owner, and given with each use. It is never made on the way.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use crateferry_store::make_names_durable;
use minisign::{KeyPair, PublicKey, SecretKey, SecretKeyBox, SignatureBox};
use tempfile::NamedTempFile;

use crate::report::usage;

/// A secret key, ready for use.
pub struct SigningKey(SecretKey);

impl SigningKey {
    /// Reads a key, with its password if it has one.
    pub fn read(path: &Path, password: Option<&str>) -> anyhow::Result<SigningKey> {
        let failed = || format!("cannot use the secret key {}", path.display());
        let text = std::fs::read_to_string(path).with_context(failed)?;
        let boxed = || SecretKeyBox::from_string(&text);
        let open = boxed().and_then(SecretKeyBox::into_unencrypted_secret_key);
        let read = match (open.or_else(|error| without_checksum(&text).ok_or(error)), password) {
            (Ok(key), _) => Ok(key),
            // Only with a password: without one, the library asks at the terminal.
            (Err(_), Some(password)) => boxed().and_then(|key| key.into_secret_key(Some(password.to_owned()))),
            (Err(error), None) => {
                let hint = "its password, if it has one, is taken from CRATEFERRY_KEY_PASSWORD, which is not set";
                return Err(anyhow::Error::from(error).context(hint).context(failed()));
            }
        };
        Ok(SigningKey(read.with_context(failed)?))
    }

    /// The id that the public key has, too.
    pub fn id(&self) -> String {
        id(self.0.keynum())
    }

    /// The text of a signature over all bytes.
    pub fn sign(&self, data: impl Read, file_name: &str) -> anyhow::Result<String> {
        let comment = format!("file:{}", one_line(file_name));
        let signature = minisign::sign(None, &self.0, data, Some(&comment), Some("signature by crateferry"));
        Ok(signature.context("cannot sign")?.into_string())
    }
}

/// A key without a password that minisign itself made: it fills the checksum, which tells a right password from a wrong one, with zeros.
fn without_checksum(text: &str) -> Option<SecretKey> {
    let bytes = BASE64.decode(text.lines().nth(1)?).ok()?;
    let checksum = bytes.last_chunk::<32>()?;
    let key = SecretKey::from_bytes(&bytes).ok()?;
    (checksum == &[0; 32] && !key.is_encrypted()).then_some(key)
}

/// A comment is a line.
fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn id(keynum: &[u8]) -> String {
    let bytes = keynum.first_chunk().copied().unwrap_or_default();
    format!("{:016X}", u64::from_le_bytes(bytes))
}

/// A public key that is trusted because the command line names it.
pub struct TrustedKey(PublicKey);

/// A signature that is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSignature(String);

impl TrustedKey {
    /// Reads a key from a file; what is no file's name may be the key itself.
    pub fn read(given: &OsStr) -> anyhow::Result<TrustedKey> {
        if let Some(key) = given.to_str().and_then(|text| PublicKey::from_base64(text).ok()) {
            return Ok(TrustedKey(key));
        }
        let key = PublicKey::from_file(given);
        key.map(TrustedKey).with_context(|| format!("cannot use the public key {}", Path::new(given).display()))
    }

    /// The key's id.
    pub fn id(&self) -> String {
        id(self.0.keynum())
    }

    /// Whether the key's owner signed these bytes, in a signature that lies at a path.
    pub fn verify(&self, signature: &Path, data: impl Read + Seek) -> Result<(), BadSignature> {
        let shown = signature.display();
        let text = std::fs::read_to_string(signature).map_err(|error| BadSignature(format!("no {shown}: {error}")))?;
        let signature = SignatureBox::from_string(&text).map_err(|error| BadSignature(format!("{shown}: {error}")))?;
        let verified = minisign::verify(&self.0, &signature, data, true, false, false);
        verified.map_err(|error| BadSignature(format!("{shown}: {error}")))
    }
}

/// A key pair that was made.
pub struct Generated {
    pub id: String,
    pub secret: PathBuf,
    pub public: PathBuf,
}

/// Makes a key pair and writes both keys, each to a new file.
pub fn generate(secret: &Path, password: Option<&str>) -> anyhow::Result<Generated> {
    let mut public = secret.as_os_str().to_owned();
    public.push(".pub");
    let public = PathBuf::from(public);
    for path in [secret, &public] {
        if path.symlink_metadata().is_ok() {
            return Err(usage(format!("{} is there already, and keys are not overwritten", path.display())));
        }
    }
    let pair = match password {
        Some(password) => KeyPair::generate_encrypted_keypair(Some(password.to_owned())),
        None => KeyPair::generate_unencrypted_keypair(),
    };
    let KeyPair { pk, sk } = pair.context("cannot make a key")?;
    let id = id(pk.keynum());
    let secret_text = sk.to_box(Some(&format!("crateferry secret key {id}")))?.into_string();
    let dir = secret.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = || format!("cannot write keys into {}", dir.display());
    // A temporary file is its owner's alone from the beginning.
    let new_secret = tempfile::Builder::new().prefix(".key-").tempfile_in(dir).with_context(failed)?;
    settle(new_secret, secret, &secret_text)?;
    let make = |path: &Path| File::options().write(true).create_new(true).open(path);
    let new_public = tempfile::Builder::new().prefix(".key-").make_in(dir, make).with_context(failed)?;
    settle(new_public, &public, &pk.to_box()?.into_string())?;
    make_names_durable(dir).with_context(failed)?;
    Ok(Generated { id, secret: secret.to_owned(), public })
}

fn settle(mut part: NamedTempFile, path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    part.write_all(text.as_bytes()).with_context(failed)?;
    part.as_file().sync_all().with_context(failed)?;
    part.persist_noclobber(path).map(drop).map_err(|error| error.error).with_context(failed)
}

//! Signatures as files beside what was signed.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::chain::{LONGEST_SIGNATURE, MOST_SIGNATURES};
use super::{BadSignature, Kind, SigningKey, minisign, openpgp, read};
use crate::report::usage;

/// A signature, whoever made it.
#[derive(Clone, Debug)]
pub struct SignatureFile {
    /// The file's name.
    pub name: String,
    pub bytes: Vec<u8>,
}

impl AsRef<[u8]> for SignatureFile {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl SignatureFile {
    /// The signatures in it as texts.
    pub fn texts(&self) -> Result<Vec<String>, BadSignature> {
        match Kind::of(&self.bytes) {
            Kind::Minisign => {
                minisign::issuer(&self.bytes)?;
                String::from_utf8(self.bytes.clone()).map(|text| vec![text]).map_err(BadSignature::new)
            }
            Kind::OpenPgp => openpgp::armored(&self.bytes),
        }
    }
}

/// Signs bytes that lie, or will lie, in a file of this name. One key's signature is where the programs of its kind look for it:
/// `NAME.minisig`, `NAME.asc`. Those of several keys of a kind have the keys' ids in their names.
pub fn sign_all(keys: &[SigningKey], bytes: &[u8], name: &str) -> anyhow::Result<Vec<SignatureFile>> {
    let sign = |(at, key): (usize, &SigningKey)| {
        let (kind, id) = (key.kind(), key.id());
        if keys[..at].iter().any(|other| other.kind() == kind && other.id() == id) {
            return Err(usage(format!("--sign: key {id} is given twice")));
        }
        let is_only = keys.iter().filter(|other| other.kind() == kind).count() == 1;
        let suffix = kind.suffix();
        let file = if is_only { format!("{name}{suffix}") } else { format!("{name}.{id}{suffix}") };
        let text = key.sign(bytes, name).with_context(|| format!("with key {id}"))?;
        Ok(SignatureFile { name: file, bytes: text.into_bytes() })
    };
    keys.iter().enumerate().map(sign).collect()
}

/// Reads a signature's file.
pub fn read_signature(path: &Path) -> anyhow::Result<SignatureFile> {
    let failed = || format!("cannot read the signature {}", path.display());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !path.metadata().with_context(failed)?.is_file() {
        bail!("{} is no file", path.display()); // a pipe of that name may never end
    }
    let bytes = read(path, LONGEST_SIGNATURE).with_context(failed)?;
    Ok(SignatureFile { name, bytes })
}

/// All signatures in a folder over its file of this name, in the order of their names.
pub fn read_signatures(folder: &Path, signed: &str) -> anyhow::Result<Vec<SignatureFile>> {
    let failed = || format!("cannot look for signatures in {}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        if is_signature(&name, signed) {
            found.push(name);
            // The limit is said where signatures are judged.
            if found.len() > MOST_SIGNATURES {
                break;
            }
        }
    }
    found.sort();
    found.iter().map(|name| read_signature(&folder.join(name))).collect()
}

fn is_signature(name: &OsStr, signed: &str) -> bool {
    let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(signed)) else { return false };
    rest.starts_with('.') && Kind::ALL.iter().any(|kind| kind.suffixes().iter().any(|suffix| rest.ends_with(suffix)))
}

/// The keys that signatures say they are by, for people to compare.
pub fn claimed(signatures: &[SignatureFile]) -> Vec<String> {
    let mut names = Vec::new();
    for SignatureFile { name, bytes } in signatures {
        let issuers = match Kind::of(bytes) {
            Kind::Minisign => minisign::issuer(bytes).map(|id| vec![format!("minisign key {id}")]),
            Kind::OpenPgp => {
                openpgp::issuers(bytes).map(|ids| ids.into_iter().map(|id| format!("OpenPGP {id}")).collect())
            }
        };
        names.extend(issuers.unwrap_or_else(|bad| vec![format!("nobody that can be read from {name} ({bad})")]));
    }
    names.sort();
    names.dedup();
    names
}

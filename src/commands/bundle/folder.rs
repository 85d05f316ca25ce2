//! The folder that a bundle lies in: its manifest, its signatures and its volumes, some of them or all.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use crateferry_store::bundle::{BundleId, Manifest};

use crate::keys::{Kind, TrustedKey};
use crate::report::usage;

/// The file that is signed.
pub const MANIFEST: &str = "manifest.json";

/// The longest signature.
const SIGNATURE: u64 = 64 << 10;

/// How many files are looked at as signatures.
const SIGNATURES: usize = 64;

/// A bundle, before anything of it is believed.
pub struct Folder {
    dir: PathBuf,
    manifest: Vec<u8>,
    signatures: Vec<(String, Vec<u8>)>,
}

impl Folder {
    /// Reads what is signed, and the signatures.
    pub fn open(dir: &Path) -> anyhow::Result<Folder> {
        let path = dir.join(MANIFEST);
        let manifest = match read(&path, Manifest::LONGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(usage(format!("{} is no bundle: it has no {MANIFEST}", dir.display())));
            }
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let signatures = signatures(dir).with_context(|| format!("cannot read the signatures in {}", dir.display()))?;
        Ok(Folder { dir: dir.to_owned(), manifest, signatures })
    }

    /// The manifest's exact bytes.
    pub fn text(&self) -> &[u8] {
        &self.manifest
    }

    /// The manifest, if one of these keys signed it.
    pub fn manifest(&self, trusted: &[TrustedKey]) -> anyhow::Result<Manifest> {
        self.check(trusted)?;
        Ok(Manifest::parse(&self.manifest)?)
    }

    fn check(&self, trusted: &[TrustedKey]) -> anyhow::Result<()> {
        let dir = self.dir.display();
        if self.signatures.is_empty() {
            bail!("the bundle in {dir} is not signed: there is no {MANIFEST}.minisig and no {MANIFEST}.asc");
        }
        let mut problems = Vec::new();
        for (name, signature) in &self.signatures {
            for key in trusted.iter().filter(|key| name.ends_with(key.kind().suffix())) {
                match key.verify(signature, Cursor::new(&self.manifest)) {
                    Ok(()) => return Ok(()),
                    Err(problem) => problems.push(format!("{name}, key {}: {problem}", key.id())),
                }
            }
        }
        if problems.is_empty() {
            problems.push("no signature is of the kind of a trusted key".to_owned());
        }
        bail!("no trusted key signed the bundle in {dir}: {}", problems.join("; "))
    }

    /// A volume, if it is here.
    pub fn volume(&self, bundle: &BundleId, number: u32) -> anyhow::Result<Option<File>> {
        let path = self.dir.join(bundle.volume_name(number));
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// The keys that the command line names.
pub fn trusted(given: &[OsString]) -> anyhow::Result<Vec<TrustedKey>> {
    given.iter().map(|key| TrustedKey::read(key)).collect()
}

fn signatures(dir: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let is_signature = Kind::ALL.iter().any(|kind| name.ends_with(kind.suffix()));
        if is_signature && name.strip_prefix(MANIFEST).is_some_and(|rest| rest.starts_with('.')) {
            names.push(name);
        }
    }
    names.sort_unstable();
    names.truncate(SIGNATURES);
    let read = |name: String| {
        let bytes = read(&dir.join(&name), SIGNATURE)?;
        Ok((name, bytes))
    };
    names.into_iter().map(read).collect()
}

fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        let problem = format!("{} is longer than {longest} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

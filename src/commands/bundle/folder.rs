//! The folder that a bundle lies in: its manifest, its signatures and its volumes, some of them or all.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use crateferry_store::Layout;
use crateferry_store::bundle::{BundleId, Manifest, Which};

use crate::cli::BundleTrustArgs;
use crate::keys::{Judged, LONGEST_CHAIN, Moment, SignatureFile, Trust, TrustedKey, Untrusted, read_signatures};
use crate::report::usage;

/// The file that is signed.
pub const MANIFEST: &str = "manifest.json";

/// The chain of key lists beside it.
pub const CHAIN: &str = "keys.json";

/// The longest program that is looked at.
const LONGEST_PROGRAM: u64 = 1 << 30;

/// What is signed of a bundle and what vouches for it, before anything of it is believed.
pub struct SignedManifest {
    /// Where it comes from, for messages.
    pub from: String,
    /// The manifest's exact bytes.
    pub manifest: Vec<u8>,
    pub signatures: Vec<SignatureFile>,
    /// The chain of key lists that came with it.
    pub chain: Option<Vec<u8>>,
}

impl SignedManifest {
    /// The manifest, if those signed it who are trusted, and how they are known. Nothing of it is read before.
    pub fn manifest(&self, trust: &Trust) -> anyhow::Result<(Manifest, Judged)> {
        let refused = |error: Untrusted| match error {
            Untrusted::NothingPinned(_) => error.into(),
            error => anyhow!("the bundle in {} is refused: {}", self.from, crateferry_pipeline::error_chain(&error)),
        };
        let signers = trust.signers(self.chain.as_deref(), &self.manifest, &self.signatures).map_err(refused)?;
        let manifest = Manifest::parse(&self.manifest)?;
        let to = Moment { epoch: manifest.to.epoch, generation: manifest.to.number };
        let judged = signers.suffice(&manifest.mirror, to).map_err(refused)?;
        tracing::debug!(by = judged.signed_by.len(), key_list = judged.list, "the bundle's signatures count");
        judged.warnings().for_each(|warning| tracing::warn!("{warning}"));
        Ok((manifest, judged))
    }
}

/// A bundle in a folder.
pub struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// Reads what is signed, and the signatures.
    pub fn open(dir: &Path) -> anyhow::Result<(SignedManifest, Folder)> {
        let path = dir.join(MANIFEST);
        let manifest = match read(&path, Manifest::LONGEST) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(usage(format!("{} is no bundle: it has no {MANIFEST}", dir.display())));
            }
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        let signatures = read_signatures(dir, MANIFEST)?;
        let path = dir.join(CHAIN);
        let chain = match read(&path, LONGEST_CHAIN) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            read => Some(read.with_context(|| format!("cannot read {}", path.display()))?),
        };
        let signed = SignedManifest { from: dir.display().to_string(), manifest, signatures, chain };
        Ok((signed, Folder { dir: dir.to_owned() }))
    }

    /// Whether all volumes are here, those of parity too, as long as they should be. A file that is still being copied is not.
    pub fn is_finished(&self, manifest: &Manifest) -> anyhow::Result<bool> {
        let volumes = (1..).map(Which::Volume).zip(manifest.volumes.iter().map(|volume| volume.length));
        let parity = manifest.parity.iter().flat_map(|parity| &parity.volumes).map(|volume| volume.length);
        for (which, length) in volumes.chain((1..).map(Which::Parity).zip(parity)) {
            let Some(file) = self.file(&manifest.bundle, which)? else { return Ok(false) };
            if file.metadata().context("cannot look at a volume")?.len() != length {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A program that the manifest names, if it is here.
    pub fn program(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let path = self.dir.join(name);
        match read(&path, LONGEST_PROGRAM) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(read.with_context(|| format!("cannot read {}", path.display()))?)),
        }
    }

    /// A volume, if it is here.
    pub fn volume(&self, bundle: &BundleId, number: u32) -> anyhow::Result<Option<File>> {
        self.file(bundle, Which::Volume(number))
    }

    /// A volume of either kind, if it is here.
    pub fn file(&self, bundle: &BundleId, which: Which) -> anyhow::Result<Option<File>> {
        let path = self.dir.join(bundle.file_name(which));
        match open_file(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }
}

/// What is trusted where there is no mirror: the keys that the command line names.
pub fn trusted(args: &BundleTrustArgs) -> anyhow::Result<Trust> {
    Trust::default().pin(keys(args)?, args.quorum)
}

/// What a mirror trusts, and the keys that the command line names, if it trusts none yet.
pub fn trusted_by(mirror: &Path, args: &BundleTrustArgs) -> anyhow::Result<Trust> {
    let trust = Trust::read(&Layout::new(mirror))?;
    if args.trust.is_empty() { Ok(trust) } else { trust.pin(keys(args)?, args.quorum) }
}

/// The keys that the command line names.
pub fn keys(args: &BundleTrustArgs) -> anyhow::Result<Vec<TrustedKey>> {
    args.trust.iter().map(|key| TrustedKey::read(key)).collect()
}

fn read(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_file(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        let problem = format!("{} is longer than {longest} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// Opens what is a file: a pipe on a hostile medium may never end.
fn open_file(path: &Path) -> io::Result<File> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
    }
    File::open(path)
}

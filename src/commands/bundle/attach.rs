//! `crateferry bundle attach-signature`: signatures that were made elsewhere come beside the manifest.

use std::fs;

use anyhow::{Context as _, bail};

use super::folder::{Folder, MANIFEST, keys};
use crate::cli::BundleAttachArgs;
use crate::keys::{Kind, read_signature};
use crate::report::{self, Exit, usage};

pub fn run(args: &BundleAttachArgs) -> anyhow::Result<Exit> {
    let (signed, _) = Folder::open(&args.bundle)?;
    let keys = keys(&args.trust)?;
    if keys.is_empty() {
        return Err(usage("name the keys that should have signed with --trust"));
    }
    let mut told = Vec::new();
    for path in &args.signature {
        let signature = read_signature(path)?;
        let by = keys.iter().find(|key| key.verify_whenever(&signature.bytes, &signed.manifest).is_ok());
        let Some(by) = by else {
            bail!(
                "{} is no signature over the manifest in {} by a key that --trust names",
                path.display(),
                args.bundle.display()
            );
        };
        let suffix = if by.kind() == Kind::Minisign || signature.bytes.starts_with(b"-----") {
            by.kind().suffix()
        } else {
            ".sig"
        };
        let name = format!("{MANIFEST}.{}{suffix}", by.id());
        fs::write(args.bundle.join(&name), &signature.bytes).with_context(|| format!("cannot write {name}"))?;
        told.push(format!("{name}  by key {}\n", by.id()));
    }
    report::print_bytes(told.concat().as_bytes())?;
    Ok(Exit::Complete)
}

//! Receipts as files: read and judged on one side of a gap, signed on the other.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use crateferry_store::bundle::Receipt;

use crate::cli::ReceiptTrustArgs;
use crate::keys::{SigningKey, TrustedKey, sign_all};
use crate::report::usage;

/// What a signature of minisign notes as the name of what it signs.
const NAME: &str = "receipt.txt";

/// Signatures that are looked at; each has at most so many lines.
const MOST_SIGNATURES: usize = 16;
const LONGEST_SIGNATURE: usize = 1000;

/// How a signature begins, and how it ends: after so many lines, or with a line that begins so.
const MINISIGN: (&str, usize) = ("untrusted comment:", 4);
const OPENPGP: (&str, &str) = ("-----BEGIN PGP SIGNATURE", "-----END PGP SIGNATURE");

/// The receipt in a file, if it is signed as it has to be.
pub fn read(path: &Path, trust: &ReceiptTrustArgs) -> anyhow::Result<Receipt> {
    let shown = path.display();
    let cannot = |error: &dyn std::fmt::Display| usage(format!("cannot use the receipt {shown}: {error}"));
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(Receipt::LONGEST).read_to_string(&mut text));
    read.map_err(|error| cannot(&error))?;
    let receipt: Receipt = text.parse().map_err(|error| cannot(&error))?;
    let keys = trust.receipt_key.iter().map(|key| TrustedKey::read(key)).collect::<anyhow::Result<Vec<_>>>()?;
    if !keys.is_empty() {
        judge(&receipt, &text, &keys).with_context(|| format!("the receipt {shown} is refused"))?;
    }
    Ok(receipt)
}

/// Whether one of the keys signed the receipt. What counts is its meaning: spaces and ends of lines may change on the way.
fn judge(receipt: &Receipt, text: &str, keys: &[TrustedKey]) -> anyhow::Result<()> {
    let (signed, mut problems) = (receipt.to_string(), Vec::new());
    let signatures = signatures(Receipt::behind(text));
    if signatures.is_empty() {
        bail!("it is not signed; have it written with `crateferry receipt --sign`");
    }
    for signature in &signatures {
        for key in keys {
            match key.verify_whenever(signature.as_bytes(), signed.as_bytes()) {
                Ok(None) => return Ok(()),
                Ok(Some(since)) => {
                    tracing::warn!("key {} expired at {since}; its signature counts here: renew it", key.id());
                    return Ok(());
                }
                Err(problem) => problems.push(format!("{}: {problem}", key.id())),
            }
        }
    }
    Err(anyhow!("none of the keys that are named with --receipt-key signed it: {}", problems.join("; ")))
}

/// The signatures in what follows a receipt.
fn signatures(behind: &str) -> Vec<String> {
    let mut lines = behind.lines().map(str::trim_end);
    let mut signatures = Vec::new();
    while let Some(first) = lines.next() {
        let mut signature = vec![first];
        if first.starts_with(MINISIGN.0) {
            signature.extend(lines.by_ref().take(MINISIGN.1 - 1));
        } else if first.starts_with(OPENPGP.0) {
            for line in lines.by_ref().take(LONGEST_SIGNATURE) {
                signature.push(line);
                if line.starts_with(OPENPGP.1) {
                    break;
                }
            }
        } else {
            continue;
        }
        signatures.push(signature.join("\n") + "\n");
        if signatures.len() == MOST_SIGNATURES {
            break;
        }
    }
    signatures
}

/// The text of a receipt, with signatures behind it.
pub fn text(receipt: &Receipt, keys: &[SigningKey]) -> anyhow::Result<Vec<u8>> {
    let mut text = receipt.to_string().into_bytes();
    for signature in sign_all(keys, &text.clone(), NAME)? {
        text.extend(signature.bytes);
    }
    Ok(text)
}

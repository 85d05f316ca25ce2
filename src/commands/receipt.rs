//! `crateferry receipt`: what a mirror serves and lacks.

use std::collections::HashSet;

use anyhow::Context as _;
use crateferry_store::bundle::Receipt;
use crateferry_store::{Generation, LedgerReader, Mirror, Release, ReleaseId, parse_index_file};

use crate::cli::ReceiptArgs;
use crate::report::{self, Exit};
use crate::session;

/// Index files that are looked at together.
const STEP: usize = 1024;

pub fn run(args: &ReceiptArgs) -> anyhow::Result<Exit> {
    let (mirror, _) = session::open(&args.mirror)?;
    let ledger = mirror.ledger().reader()?;
    let receipt = Receipt {
        mirror: ledger.mirror()?,
        serves: ledger.generation()?.as_ref().map(Generation::point),
        held: ledger.tally()?.held,
        lacks: lacks(&mirror, &ledger)?,
    };
    match &args.out {
        None => report::print_bytes(receipt.to_string().as_bytes())?,
        Some(path) => {
            std::fs::write(path, receipt.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    Ok(if receipt.lacks.is_empty() { Exit::Complete } else { Exit::Holes })
}

/// What is served and not held.
fn lacks(mirror: &Mirror, ledger: &LedgerReader) -> anyhow::Result<Vec<Release>> {
    let (mut lacks, mut after) = (Vec::new(), None);
    loop {
        let served = ledger.served_after(after.as_ref(), STEP)?;
        let Some((last, _)) = served.last() else { return Ok(lacks) };
        after = Some(last.clone());
        for (name, text) in served {
            let known = ledger.releases_of(&name)?.into_iter().filter(|(_, row)| row.place.is_some());
            let held: HashSet<_> = known.map(|(release, _)| (release.id.version, release.checksum)).collect();
            let bytes = mirror.packs().text(text.place, text.digests.blake3)?;
            let rows = parse_index_file(&name, &bytes).entries;
            let lacking = rows.into_iter().filter(|row| !held.contains(&(row.version.clone(), row.checksum)));
            lacks.extend(lacking.map(|row| Release {
                id: ReleaseId { name: name.clone(), version: row.version },
                checksum: row.checksum,
            }));
        }
    }
}

//! `crateferry receipt`: what a mirror serves and lacks.

use std::collections::HashSet;
use std::fmt;

use anyhow::Context as _;
use crateferry_store::bundle::Receipt;
use crateferry_store::{Generation, LedgerReader, Mirror, Release, ReleaseId, Wish, Wishes, parse_index_file};

use crate::cli::ReceiptArgs;
use crate::config::WishesConfig;
use crate::keys::SigningKey;
use crate::receipt;
use crate::report::{self, Exit, count};
use crate::session;
use crate::wishes::{WishRules, lacking};

/// Index files that are looked at together.
const STEP: usize = 1024;

pub fn run(args: &ReceiptArgs) -> anyhow::Result<Exit> {
    let keys = args.sign.iter().map(|path| SigningKey::read(path, args.password.get()));
    let keys = keys.collect::<anyhow::Result<Vec<_>>>()?;
    let (mirror, config) = session::open(&args.mirror)?;
    let ledger = mirror.ledger().reader()?;
    let receipt = Receipt {
        mirror: ledger.mirror()?,
        serves: ledger.generation()?.as_ref().map(Generation::point),
        held: ledger.tally()?.held,
        lacks: lacks(&mirror, &ledger)?,
        masked: ledger.masks()?.all().iter().map(|mask| (mask.name.clone(), mask.version.clone())).collect(),
        wishes: wishes(&mirror, &ledger, &config.wishes)?,
    };
    // Whoever runs this sees what will be told before it is.
    if !receipt.wishes.is_empty() {
        report::tell(&TakenAlong(&receipt.wishes))?;
    }
    let text = receipt::text(&receipt, &keys)?;
    match &args.out {
        None => report::print_bytes(&text)?,
        Some(path) => std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?,
    }
    Ok(if receipt.lacks.is_empty() { Exit::Complete } else { Exit::Holes })
}

/// What the receipt tells the other side of what people work on here.
struct TakenAlong<'a>(&'a [Wish]);

impl fmt::Display for TakenAlong<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "The receipt takes along what was asked for here in vain, {}:",
            count(self.0.len() as u64, "wish")
        )?;
        self.0.iter().try_for_each(|wish| writeln!(f, "  {wish}"))
    }
}

/// What was asked for and is not held, as far as it may be told.
fn wishes(mirror: &Mirror, ledger: &LedgerReader, config: &WishesConfig) -> anyhow::Result<Vec<Wish>> {
    let Some(rules) = WishRules::read(config)? else { return Ok(Vec::new()) };
    let noted = Wishes::read(mirror.layout(), rules.limits)?;
    lacking(ledger, noted.iter().filter(|wish| rules.allow(wish)).cloned().collect())
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

//! Which wishes are noted and taken along.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use crateferry_store::{CrateName, LedgerReader, Wish, WishLimits, one_spelling};

use crate::config::WishesConfig;
use crate::report::usage;

/// The longest file of approved names.
const LONGEST: u64 = 64 << 20;

/// What the configuration allows.
pub struct WishRules {
    /// How many.
    pub limits: WishLimits,
    /// The only names, if there is a list of them.
    approved: Option<BTreeSet<String>>,
}

impl WishRules {
    /// The rules, if wishes are collected at all.
    pub fn read(config: &WishesConfig) -> anyhow::Result<Option<WishRules>> {
        if !config.collect {
            return Ok(None);
        }
        let bytes = usize::try_from(config.size.as_u64()).unwrap_or(usize::MAX);
        let approved = config.approved.as_deref().map(approved).transpose()?;
        Ok(Some(WishRules { limits: WishLimits { count: config.most, bytes }, approved }))
    }

    /// Whether the name may be noted, and leave.
    pub fn allow(&self, wish: &Wish) -> bool {
        self.approved.as_ref().is_none_or(|approved| approved.contains(&one_spelling(wish.name())))
    }
}

fn approved(path: &Path) -> anyhow::Result<BTreeSet<String>> {
    let cannot = || format!("cannot read the approved names of wishes in {}", path.display());
    let length = path.metadata().with_context(cannot)?.len();
    if length > LONGEST {
        return Err(usage(format!("{}: more than {LONGEST} bytes of approved names", path.display())));
    }
    let text = std::fs::read_to_string(path).with_context(cannot)?;
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    let name = |(line, number): (&str, usize)| match line.parse::<CrateName>() {
        Ok(name) => Ok(one_spelling(&name)),
        Err(error) => Err(usage(format!("{}, line {number}: {error}", path.display()))),
    };
    lines.map(name).collect()
}

/// Wishes for what the mirror does not hold.
pub fn lacking(ledger: &LedgerReader, wishes: Vec<Wish>) -> anyhow::Result<Vec<Wish>> {
    let mut lacking = Vec::new();
    for wish in wishes {
        let mut is_held = false;
        for name in spellings(wish.name()) {
            let releases = ledger.releases_of(&name)?;
            is_held |= releases.iter().any(|(release, row)| {
                row.place.is_some() && wish.version().is_none_or(|version| release.id.version == *version)
            });
        }
        if !is_held {
            lacking.push(wish);
        }
    }
    Ok(lacking)
}

/// A name as it is, with dashes, and with underscores.
pub fn spellings(name: &CrateName) -> BTreeSet<CrateName> {
    let spelt = [name.to_string(), name.as_str().replace('_', "-"), name.as_str().replace('-', "_")];
    spelt.iter().filter_map(|name| name.parse().ok()).collect()
}

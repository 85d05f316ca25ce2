//! The chain of key lists. Each list is signed by a quorum of the list before it, who hand over, and by a quorum of its own keys, so
//! that whoever trusts these alone can begin with it.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::list::{Head, KeyList, Lack, Moment};
use super::trust::Untrusted;

/// The longest chain, as a file.
pub const LONGEST_CHAIN: u64 = 1 << 20;

/// The longest signature, as a file.
pub const LONGEST_SIGNATURE: u64 = 64 << 10;

/// How many signatures there may be over one thing.
pub const MOST_SIGNATURES: usize = 64;

const FORMAT: u32 = 1;

/// A list's text with the signatures over it. Nothing is said of them yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    pub list: String,
    pub signatures: Vec<String>,
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    lists: Vec<Signed>,
}

/// A list whose signatures are good, in its place behind the one before.
struct Link {
    signed: Signed,
    list: KeyList,
}

/// Lists, each signed as it must be. There is at least one.
#[derive(Clone)]
pub struct Chain(Vec<Arc<Link>>);

/// Reads a chain's file, whoever made it.
pub fn parse(bytes: &[u8]) -> anyhow::Result<Vec<Signed>> {
    ensure!(bytes.len() as u64 <= LONGEST_CHAIN, "it is longer than {LONGEST_CHAIN} bytes");
    let Format { format } = serde_json::from_slice(bytes).context("it has no key lists")?;
    ensure!(format <= FORMAT, "it has format {format}; use a newer crateferry");
    let Written { lists, .. } = serde_json::from_slice(bytes).context("it has no key lists")?;
    ensure!(!lists.is_empty(), "it has no key list");
    for Signed { signatures, .. } in &lists {
        ensure!(signatures.len() <= MOST_SIGNATURES, "a list has more than {MOST_SIGNATURES} signatures");
        let is_long = |signature: &String| signature.len() as u64 > LONGEST_SIGNATURE;
        ensure!(!signatures.iter().any(is_long), "a signature is longer than {LONGEST_SIGNATURE} bytes");
    }
    let heads: Vec<Head> = lists.iter().map(|signed| Head::of(&signed.list)).collect::<anyhow::Result<_>>()?;
    let follow =
        |pair: &[Head]| pair[0].mirror == pair[1].mirror && pair[0].number.checked_add(1) == Some(pair[1].number);
    ensure!(heads.windows(2).all(follow), "its lists do not follow one another");
    Ok(lists)
}

impl Chain {
    /// A chain that begins with this list, if a quorum of its own keys signed it.
    pub fn begin(signed: Signed) -> Result<Chain, Untrusted> {
        let number = Head::of(&signed.list).map_or(0, |head| head.number);
        let list = KeyList::read(&signed.list).map_err(Untrusted::junk)?;
        own(&list, &signed).map_err(|lack| Untrusted::Own { number, lack })?;
        Ok(Chain(vec![Arc::new(Link { signed, list })]))
    }

    /// Reads a mirror's own chain.
    pub fn read(bytes: &[u8]) -> Result<Chain, Untrusted> {
        let mut lists = parse(bytes).map_err(Untrusted::junk)?.into_iter();
        let first = lists.next().ok_or_else(|| Untrusted::junk(anyhow::anyhow!("it has no key list")))?;
        let mut chain = Chain::begin(first)?;
        lists.try_for_each(|next| chain.push(next))?;
        Ok(chain)
    }

    /// Adds a list, if it follows the last one and was signed as it must be. It is not read before a quorum of the last one's keys
    /// vouches for it.
    pub fn push(&mut self, signed: Signed) -> Result<(), Untrusted> {
        let last = self.last();
        let number = last.number + 1;
        last.set.check(signed.list.as_bytes(), &signed.signatures).map_err(|lack| Untrusted::Link { number, lack })?;
        let list = KeyList::read(&signed.list).map_err(Untrusted::junk)?;
        let follows = list.mirror == last.mirror && list.number == number && list.from >= last.from;
        if !follows {
            return Err(Untrusted::junk(anyhow::anyhow!("a list does not follow list {}", last.number)));
        }
        own(&list, &signed).map_err(|lack| Untrusted::Own { number, lack })?;
        self.0.push(Arc::new(Link { signed, list }));
        Ok(())
    }

    /// Its lists, each with the signatures over it.
    pub fn lists(&self) -> impl DoubleEndedIterator<Item = (&KeyList, &[String])> {
        self.0.iter().map(|link| (&link.list, link.signed.signatures.as_slice()))
    }

    /// The list that counts for a bundle that leads there.
    pub fn in_effect(&self, to: Moment) -> Option<&KeyList> {
        self.lists().map(|(list, _)| list).rfind(|list| list.from <= to)
    }

    /// The first list.
    pub fn first(&self) -> &KeyList {
        &self.0[0].list
    }

    /// The last list.
    pub fn last(&self) -> &KeyList {
        &self.0[self.0.len() - 1].list
    }

    /// The text of a list, by its number.
    pub fn text(&self, number: u64) -> Option<&str> {
        let link = self.0.iter().find(|link| link.list.number == number)?;
        Some(&link.signed.list)
    }

    /// Its file.
    pub fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        let lists = self.0.iter().map(|link| link.signed.clone()).collect();
        let bytes = serde_json::to_vec(&Written { format: FORMAT, lists })?;
        let length = bytes.len();
        ensure!(length as u64 <= LONGEST_CHAIN, "a chain of {length} bytes is too long; {LONGEST_CHAIN} are the most");
        Ok(bytes)
    }
}

fn own(list: &KeyList, signed: &Signed) -> Result<(), Lack> {
    list.set.check(signed.list.as_bytes(), &signed.signatures)
}

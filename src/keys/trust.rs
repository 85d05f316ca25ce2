//! Whose bundles a mirror takes.
//!
//! A replica was told which keys to trust, and follows the key lists that these handed over to; an origin follows its own lists.
//! Signatures are judged in two steps, since which list counts stands in what was signed: [`Trust::signers`] says whether a quorum of
//! any list in force, now or once, signed these exact bytes, so that they may be read; [`Signers::suffice`] then says whether it was
//! that of the list that counts for what they lead to.

use std::io;
use std::path::Path;

use anyhow::Context as _;
use crateferry_store::{Layout, write_key_file};
use serde::{Deserialize, Serialize};

use super::chain::{self, Chain, LONGEST_CHAIN, LONGEST_SIGNATURE, MOST_SIGNATURES, Signed};
use super::list::{Head, KeySet, Lack, Moment, Signer, Tried, WrittenSet};
use super::signature_files::{SignatureFile, claimed};
use super::{TrustedKey, read};
use crate::report::usage;

/// Why signatures, or the key lists that they rest on, are not taken.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    #[error(
        "no key is trusted here yet. It says that it is signed by: {}. Compare that with what its sender tells you in another way, \
         get the public key from there, and give it with --trust",
        listed(.0)
    )]
    NothingPinned(Vec<String>),
    #[error("it is not signed: there is no signature beside it; bring its signatures along, or have it signed")]
    Unsigned,
    #[error("{0} is longer than {LONGEST_SIGNATURE} bytes and is not read as a signature")]
    TooLong(String),
    #[error("there are more than {MOST_SIGNATURES} signatures")]
    TooMany,
    #[error("its key lists cannot be used: {0:#}")]
    Junk(anyhow::Error),
    #[error("its key lists are those of mirror {found}, and this is about mirror {expected}")]
    OtherMirror { expected: String, found: String },
    #[error(
        "its key list {0} is another one than the one that is known here. Somebody who had the keys signed both: ask whose \
         keys these are, and take nothing until it is clear"
    )]
    Forked(u64),
    #[error(
        "its key lists begin with {found}, and the last one known here is {known}; bring a bundle with all of them"
    )]
    Gap { known: u64, found: u64 },
    #[error("none of its key lists was signed by the trusted keys: {0}")]
    NoStart(Lack),
    #[error("key list {number} was not handed over to by the list before it: {lack}")]
    Link { number: u64, lack: Lack },
    #[error("key list {number} was not signed by its own keys: {lack}")]
    Own { number: u64, lack: Lack },
    #[error("it was not signed by those who are trusted here: {0}")]
    NoQuorum(Lack),
    #[error("it leads to {to}, where key list {number} counts, and that one's keys did not sign it: {lack}")]
    OutOfRange { number: u64, to: Moment, lack: Lack },
    #[error("it leads to {to}, and the key lists that are trusted here count from {from} on")]
    TooOld { to: Moment, from: Moment },
}

impl Untrusted {
    pub(super) fn junk(error: anyhow::Error) -> Untrusted {
        Untrusted::Junk(error)
    }
}

fn listed(ids: &[String]) -> String {
    if ids.is_empty() { "nobody".to_owned() } else { ids.join(", ") }
}

/// What is trusted.
#[derive(Default)]
pub struct Trust {
    pinned: Option<KeySet>,
    chain: Option<Chain>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPinned {
    format: u32,
    trusted: WrittenSet,
}

impl Trust {
    /// What a mirror has in its folder of keys.
    pub fn read(layout: &Layout) -> anyhow::Result<Trust> {
        let pinned = read_if_there(&layout.pinned_keys(), |bytes| {
            let written: WrittenPinned = serde_json::from_slice(bytes)?;
            anyhow::ensure!(written.format <= 1, "it has format {}; use a newer crateferry", written.format);
            KeySet::of(&written.trusted)
        })?;
        let chain = read_if_there(&layout.key_lists(), |bytes| Ok(Chain::read(bytes)?))?;
        Ok(Trust { pinned, chain })
    }

    /// These keys as well, if nothing is trusted yet; without a quorum, all of them must sign. What is trusted already is not replaced.
    pub fn pin(self, keys: Vec<TrustedKey>, quorum: Option<usize>) -> anyhow::Result<Trust> {
        let new = KeySet::new(keys, quorum).map_err(|error| usage(format!("--trust: {error:#}")))?;
        match (&self.pinned, &self.chain) {
            (None, None) => Ok(Trust { pinned: Some(new), chain: None }),
            (Some(pinned), _) if *pinned == new => Ok(self),
            (Some(pinned), _) => {
                let ids: Vec<String> = pinned.keys().map(TrustedKey::id).collect();
                Err(usage(format!(
                    "--trust: this mirror trusts {} of these keys already, and their successors: {}; leave --trust out. If all of \
                     them are lost, remove the mirror's folder keys/ and give --trust again",
                    pinned.quorum(),
                    ids.join(", ")
                )))
            }
            (None, Some(_)) => Err(usage("--trust: this mirror has key lists of its own; see `crateferry keys show`")),
        }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.pinned.is_none() && self.chain.is_none()
    }

    /// The keys that were pinned.
    pub fn pinned(&self) -> Option<&KeySet> {
        self.pinned.as_ref()
    }

    /// The lists that are known.
    pub fn chain(&self) -> Option<&Chain> {
        self.chain.as_ref()
    }

    /// Keeps in a mirror what was pinned. Only its writer may.
    pub fn keep(&self, layout: &Layout) -> anyhow::Result<()> {
        if let Some(pinned) = &self.pinned {
            let text = serde_json::to_vec(&WrittenPinned { format: 1, trusted: pinned.written() })?;
            write_key_file(layout, &layout.pinned_keys(), &text)?;
        }
        Ok(())
    }

    /// Who signed these bytes. `chain` is the file of key lists that came with them.
    pub fn signers(
        &self,
        chain: Option<&[u8]>,
        signed: &[u8],
        signatures: &[SignatureFile],
    ) -> Result<Signers<'_>, Untrusted> {
        if let Some(long) = signatures.iter().find(|signature| signature.bytes.len() as u64 > LONGEST_SIGNATURE) {
            return Err(Untrusted::TooLong(long.name.clone()));
        }
        if signatures.len() > MOST_SIGNATURES {
            return Err(Untrusted::TooMany);
        }
        if self.is_empty() {
            return Err(Untrusted::NothingPinned(claimed(signatures)));
        }
        if signatures.is_empty() {
            return Err(Untrusted::Unsigned);
        }
        let basis = self.follow(chain)?;
        let sets = basis.sets();
        let tried: Vec<Tried> = sets.iter().map(|set| set.try_all(signed, signatures)).collect();
        let judged = sets.iter().zip(&tried).map(|(set, tried)| set.suffice(tried));
        judged.reduce(Result::or).unwrap_or(Ok(())).map_err(Untrusted::NoQuorum)?;
        let known = self.chain.as_ref().map(|chain| chain.last().number);
        Ok(Signers { basis, tried, known })
    }

    /// What signatures are to be judged by, after new lists were taken up.
    fn follow(&self, offered: Option<&[u8]>) -> Result<Basis<'_>, Untrusted> {
        let offered = offered.map(chain::parse).transpose().map_err(Untrusted::junk)?;
        match (&self.chain, &self.pinned, offered) {
            (Some(known), _, Some(offered)) => Ok(Basis::Lists(extend(known.clone(), offered)?)),
            (Some(known), _, None) => Ok(Basis::Lists(known.clone())),
            (None, Some(pinned), Some(offered)) => Ok(Basis::Lists(begin(pinned, offered)?)),
            (None, Some(pinned), None) => Ok(Basis::Pinned(pinned)),
            (None, None, _) => Err(Untrusted::NothingPinned(Vec::new())),
        }
    }
}

/// A chain that begins with the first list that the pinned keys signed.
fn begin(pinned: &KeySet, offered: Vec<Signed>) -> Result<Chain, Untrusted> {
    let mut lacks = None;
    let mut chain: Option<Chain> = None;
    for signed in offered {
        match &mut chain {
            Some(chain) => chain.push(signed)?,
            None => match pinned.check(signed.list.as_bytes(), &signed.signatures) {
                Ok(()) => chain = Some(Chain::begin(signed)?),
                Err(lack) => lacks = Some(lack),
            },
        }
    }
    match (chain, lacks) {
        (Some(chain), _) => Ok(chain),
        (None, Some(lack)) => Err(Untrusted::NoStart(lack)),
        (None, None) => Err(Untrusted::junk(anyhow::anyhow!("there is no key list"))),
    }
}

/// The known chain with what the offered one has behind it. An offered chain may end earlier: bundles come in any order.
fn extend(mut known: Chain, offered: Vec<Signed>) -> Result<Chain, Untrusted> {
    for (at, signed) in offered.into_iter().enumerate() {
        let Head { mirror, number, .. } = Head::of(&signed.list).map_err(Untrusted::junk)?;
        let (first, last) = (known.first().number, known.last().number);
        if mirror != known.last().mirror {
            return Err(Untrusted::OtherMirror { expected: known.last().mirror.clone(), found: mirror });
        }
        if at == 0 && number > last + 1 {
            return Err(Untrusted::Gap { known: last, found: number });
        }
        if number > last {
            known.push(signed)?;
        } else if number >= first && known.text(number) != Some(&signed.list) {
            return Err(Untrusted::Forked(number));
        }
    }
    Ok(known)
}

/// What signatures are judged by.
enum Basis<'a> {
    Pinned(&'a KeySet),
    Lists(Chain),
}

impl Basis<'_> {
    fn sets(&self) -> Vec<&KeySet> {
        match self {
            Basis::Pinned(pinned) => vec![pinned],
            Basis::Lists(chain) => chain.lists().map(|(list, _)| &list.set).collect(),
        }
    }
}

/// Who signed some bytes. Whether that is enough is known when it is known what they lead to.
pub struct Signers<'a> {
    basis: Basis<'a>,
    /// For each set of the basis.
    tried: Vec<Tried>,
    /// The last list that was known before.
    known: Option<u64>,
}

impl Signers<'_> {
    /// Whether those signed whose signatures count for what leads to this moment of this mirror.
    pub fn suffice(self, mirror: &str, to: Moment) -> Result<Judged, Untrusted> {
        let Signers { basis, mut tried, known } = self;
        let chain = match basis {
            Basis::Pinned(_) => {
                let signed_by = tried.pop().unwrap_or_default().by;
                return Ok(Judged { signed_by, list: None, new: None });
            }
            Basis::Lists(chain) => chain,
        };
        let found = &chain.first().mirror;
        if found != mirror {
            return Err(Untrusted::OtherMirror { expected: mirror.to_owned(), found: found.clone() });
        }
        let Some(list) = chain.in_effect(to) else {
            return Err(Untrusted::TooOld { to, from: chain.first().from });
        };
        let number = list.number;
        let tried = tried.swap_remove(usize::try_from(number - chain.first().number).unwrap_or(usize::MAX));
        list.set.suffice(&tried).map_err(|lack| Untrusted::OutOfRange { number, to, lack })?;
        let new = Some(chain).filter(|chain| known != Some(chain.last().number));
        Ok(Judged { signed_by: tried.by, list: Some(number), new })
    }
}

/// Signatures that count.
pub struct Judged {
    /// Whose.
    pub signed_by: Vec<Signer>,
    /// By which key list; none if the pinned keys themselves count.
    pub list: Option<u64>,
    /// The chain, if it has lists that were not known yet.
    new: Option<Chain>,
}

impl Judged {
    /// What is worth a warning.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        let expired = |signer: &Signer| {
            let since = signer.expired?;
            Some(format!(
                "key {} expired at {since}; its signature counts here, but gpg will say so too: renew it",
                signer.id
            ))
        };
        self.signed_by.iter().filter_map(expired)
    }

    /// Keeps in a mirror the key lists that were not known yet. Only its writer may.
    pub fn keep(&self, layout: &Layout) -> anyhow::Result<()> {
        match &self.new {
            Some(chain) => Ok(write_key_file(layout, &layout.key_lists(), &chain.bytes()?)?),
            None => Ok(()),
        }
    }
}

/// Reads a file of the mirror's folder of keys.
pub fn read_if_there<T>(path: &Path, parse: impl FnOnce(&[u8]) -> anyhow::Result<T>) -> anyhow::Result<Option<T>> {
    match read(path, LONGEST_CHAIN) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => {
            let parsed = other.map_err(anyhow::Error::from).and_then(|bytes| parse(&bytes));
            let lost = || format!("cannot use {}; take it from a backup, or from a bundle", path.display());
            parsed.map(Some).with_context(lost)
        }
    }
}

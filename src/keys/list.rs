//! Sets of public keys of which a quorum must sign, and key lists: such sets as signed texts, each for a range of generations.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, bail, ensure};
use serde::{Deserialize, Serialize};

use super::{BadSignature, Kind, TrustedKey};

/// The format of key lists.
const FORMAT: u32 = 1;

/// How many keys a set may have.
const MOST_KEYS: usize = 32;

/// The longest text of a public key: OpenPGP keys that carry others' signatures can be longer, and do not need them here.
const LONGEST_KEY: usize = 64 << 10;

/// A state of a mirror, in the order in which its states come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    /// The mirror's epoch.
    pub epoch: u32,
    /// The generation's number.
    pub generation: u64,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.epoch {
            0 => write!(f, "generation {}", self.generation),
            epoch => write!(f, "generation {} of epoch {epoch}", self.generation),
        }
    }
}

/// A key whose owner signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    pub kind: Kind,
    pub id: String,
    /// Since when the key's time is over by the calendar: worth a warning.
    pub expired: Option<jiff::Timestamp>,
}

/// What is said of signatures over some bytes: who made them, and why others do not count.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    pub by: Vec<Signer>,
    pub problems: Vec<String>,
}

/// Too few signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    quorum: usize,
    keys: Vec<String>,
    by: Vec<String>,
    problems: Vec<String>,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signed = if self.by.is_empty() { "none has".to_owned() } else { format!("{} has", self.by.join(", ")) };
        write!(f, "{} of these keys must sign it, and {signed}: {}", self.quorum, self.keys.join(", "))?;
        self.problems.iter().try_for_each(|problem| write!(f, "; {problem}"))
    }
}

/// Keys of which so many must sign.
pub struct KeySet {
    quorum: usize,
    keys: Vec<(TrustedKey, String)>,
}

/// A set as it is written.
#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrittenSet {
    quorum: usize,
    keys: Vec<WrittenKey>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenKey {
    kind: Kind,
    id: String,
    key: String,
}

impl KeySet {
    /// A set; without a quorum, all must sign.
    pub fn new(keys: Vec<TrustedKey>, quorum: Option<usize>) -> anyhow::Result<KeySet> {
        let quorum = quorum.unwrap_or(keys.len());
        ensure!(!keys.is_empty(), "it has no key");
        ensure!(keys.len() <= MOST_KEYS, "it has {} keys, and {MOST_KEYS} are the most", keys.len());
        ensure!((1..=keys.len()).contains(&quorum), "a quorum of {quorum} cannot be had from {} keys", keys.len());
        let mut seen = BTreeSet::new();
        let mut known = Vec::new();
        for key in keys {
            let id = key.id();
            let text = key.text()?;
            if text.len() > LONGEST_KEY {
                bail!(
                    "key {id} is longer than {LONGEST_KEY} bytes; gpg --export-options export-minimal leaves out what others said of it"
                );
            }
            if !seen.insert(id.clone()) {
                bail!("key {id} is in it twice");
            }
            known.push((key, text));
        }
        Ok(KeySet { quorum, keys: known })
    }

    /// How many must sign.
    pub fn quorum(&self) -> usize {
        self.quorum
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &TrustedKey> {
        self.keys.iter().map(|(key, _)| key)
    }

    /// Who signed these bytes. Each key counts once, however many signatures are its.
    pub fn try_all(&self, bytes: &[u8], signatures: &[impl AsRef<[u8]>]) -> Tried {
        let mut tried = Tried::default();
        for (key, _) in &self.keys {
            let ours = signatures.iter().map(AsRef::as_ref).filter(|signature| key.is_named_by(signature));
            let mut problem = None;
            let signed =
                ours.map(|signature| key.verify_whenever(signature, bytes)).find_map(|verified| match verified {
                    Ok(expired) => Some(expired),
                    Err(BadSignature(bad)) => {
                        problem.get_or_insert(bad);
                        None
                    }
                });
            match (signed, problem) {
                (Some(expired), _) => tried.by.push(Signer { kind: key.kind(), id: key.id(), expired }),
                (None, Some(bad)) => {
                    tried.problems.push(format!("the signature by {} does not count: {bad}", key.id()));
                }
                (None, None) => {}
            }
        }
        tried
    }

    /// Whether those who signed are enough.
    pub fn suffice(&self, tried: &Tried) -> Result<(), Lack> {
        if tried.by.len() >= self.quorum {
            return Ok(());
        }
        Err(Lack {
            quorum: self.quorum,
            keys: self.keys().map(TrustedKey::id).collect(),
            by: tried.by.iter().map(|signer| signer.id.clone()).collect(),
            problems: tried.problems.clone(),
        })
    }

    /// Whether enough signed these bytes.
    pub fn check(&self, bytes: &[u8], signatures: &[impl AsRef<[u8]>]) -> Result<(), Lack> {
        self.suffice(&self.try_all(bytes, signatures))
    }

    /// As it is written.
    pub fn written(&self) -> WrittenSet {
        let key = |(key, text): &(TrustedKey, String)| WrittenKey { kind: key.kind(), id: key.id(), key: text.clone() };
        WrittenSet { quorum: self.quorum, keys: self.keys.iter().map(key).collect() }
    }

    /// Reads a set.
    pub fn of(written: &WrittenSet) -> anyhow::Result<KeySet> {
        let read = |written: &WrittenKey| {
            let named = || format!("its key {:?} cannot be read", written.id);
            ensure!(written.key.len() <= LONGEST_KEY, "{}: it is too long", named());
            let key = TrustedKey::from_text(written.kind, &written.key).with_context(named)?;
            ensure!(key.id() == written.id, "its key {:?} is key {}", written.id, key.id());
            Ok(key)
        };
        ensure!(written.keys.len() <= MOST_KEYS, "it has {} keys, and {MOST_KEYS} are the most", written.keys.len());
        let keys = written.keys.iter().map(read).collect::<anyhow::Result<Vec<_>>>()?;
        KeySet::new(keys, Some(written.quorum))
    }
}

impl PartialEq for KeySet {
    fn eq(&self, other: &KeySet) -> bool {
        self.written() == other.written()
    }
}

/// Whose signatures count for the bundles of a mirror, from a generation on.
pub struct KeyList {
    /// The mirror's id.
    pub mirror: String,
    /// 1 for the first list, then one more each.
    pub number: u64,
    /// Since when it counts: for bundles that lead there or further.
    pub from: Moment,
    /// The keys.
    pub set: KeySet,
}

/// What can be said of a list before anybody's signature was looked at.
#[derive(Deserialize)]
pub struct Head {
    format: u32,
    /// The mirror's id.
    pub mirror: String,
    /// Its number.
    pub number: u64,
}

impl Head {
    /// Reads it.
    pub fn of(text: &str) -> anyhow::Result<Head> {
        let head: Head = serde_json::from_str(text).context("it is no key list")?;
        ensure!(head.format <= FORMAT, "it has format {}; use a newer crateferry", head.format);
        Ok(head)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    mirror: String,
    number: u64,
    from: Moment,
    quorum: usize,
    keys: Vec<WrittenKey>,
}

impl KeyList {
    /// Its text: the bytes that are signed.
    pub fn text(&self) -> anyhow::Result<String> {
        let WrittenSet { quorum, keys } = self.set.written();
        let mirror = self.mirror.clone();
        let written = Written { format: FORMAT, mirror, number: self.number, from: self.from, quorum, keys };
        Ok(serde_json::to_string(&written)?)
    }

    /// Reads a text. There is one for each list, so what would be written otherwise is none.
    pub fn read(text: &str) -> anyhow::Result<KeyList> {
        Head::of(text)?;
        let written: Written = serde_json::from_str(text).context("it is no key list")?;
        ensure!(serde_json::to_string(&written)? == text, "it is not written as key lists are");
        let Written { mirror, number, from, quorum, keys, .. } = written;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        ensure!(mirror.len() == 32 && mirror.bytes().all(is_digit), "{mirror:?} is no mirror's id");
        ensure!(number > 0, "lists are counted from 1 on");
        ensure!(number > 1 || from == Moment::default(), "the first list counts from the beginning, not from {from}");
        let set = KeySet::of(&WrittenSet { quorum, keys })?;
        Ok(KeyList { mirror, number, from, set })
    }
}

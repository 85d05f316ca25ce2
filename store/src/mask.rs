//! What a mirror withholds for reasons of its own: the rows stay, and the crate files are not given out.
//!
//! A mask is local. It is an event of the mirror's own packs, so that a rebuild keeps it, and no part of what a generation's
//! digest covers: the origin of a replica knows nothing of the replica's masks.

use serde::{Deserialize, Serialize};

use crate::id::{CrateName, ReleaseId, Version};

/// A crate, or a release of it, that is withheld.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// The crate, in lower case.
    #[serde(rename = "crate")]
    pub name: CrateName,
    /// The version; none for all versions, those to come included.
    pub version: Option<Version>,
    /// Why, in the words of an operator.
    pub reason: String,
    /// Seconds since 1970.
    pub at: u64,
}

impl Mask {
    fn key(&self) -> (&CrateName, Option<&Version>) {
        (&self.name, self.version.as_ref())
    }
}

/// All masks of a mirror, in order of names and versions, each crate's own before those of its releases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Masks(Vec<Mask>);

impl Masks {
    /// The most that a mirror can have.
    pub const MOST: usize = 10_000;

    /// What withholds a release, if anything does.
    pub fn of(&self, id: &ReleaseId) -> Option<&Mask> {
        if self.0.is_empty() {
            return None;
        }
        self.get(&id.name, None).or_else(|| self.get(&id.name, Some(&id.version)))
    }

    /// The mask of exactly this.
    pub fn get(&self, name: &CrateName, version: Option<&Version>) -> Option<&Mask> {
        self.find(&name.lower(), version).ok().map(|at| &self.0[at])
    }

    /// Adds a mask, or replaces that of the same name and version.
    pub(crate) fn put(&mut self, mask: Mask) {
        match self.find(&mask.name, mask.version.as_ref()) {
            Ok(at) => self.0[at] = mask,
            Err(at) => self.0.insert(at, mask),
        }
    }

    /// Takes a mask away.
    pub(crate) fn remove(&mut self, name: &CrateName, version: Option<&Version>) {
        if let Ok(at) = self.find(name, version) {
            self.0.remove(at);
        }
    }

    fn find(&self, name: &CrateName, version: Option<&Version>) -> Result<usize, usize> {
        self.0.binary_search_by(|mask| mask.key().cmp(&(name, version)))
    }

    /// All of them.
    pub fn all(&self) -> &[Mask] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(name: &str, version: Option<&str>, reason: &str) -> Mask {
        let version = version.map(|version| version.parse().unwrap());
        Mask { name: name.parse().unwrap(), version, reason: reason.to_owned(), at: 1 }
    }

    fn reason<'a>(masks: &'a Masks, name: &str, version: &str) -> Option<&'a str> {
        let id = ReleaseId { name: name.parse().unwrap(), version: version.parse().unwrap() };
        masks.of(&id).map(|mask| mask.reason.as_str())
    }

    #[test]
    fn a_mask_is_of_a_release_by_exact_text_or_of_all_of_a_crate() {
        let mut masks = Masks::default();
        for (name, version) in
            [("serde", Some("1.0.0")), ("abc", None), ("abc-d", Some("1.0.0")), ("serde", Some("1.0.0+a"))]
        {
            masks.put(mask(name, version, "first"));
        }
        masks.put(mask("serde", Some("1.0.0"), "second"));
        assert_eq!(masks.all().len(), 4);
        assert_eq!(reason(&masks, "Serde", "1.0.0"), Some("second"));
        assert_eq!(reason(&masks, "serde", "1.0.0+a"), Some("first"));
        assert_eq!((reason(&masks, "serde", "1.0.1"), reason(&masks, "abc-d", "1.0.1")), (None, None));
        assert_eq!((reason(&masks, "ABC", "7.0.0"), reason(&masks, "abcd", "7.0.0")), (Some("first"), None));
        masks.remove(&"serde".parse().unwrap(), Some(&"1.0.0".parse().unwrap()));
        masks.remove(&"serde".parse().unwrap(), None);
        assert_eq!((reason(&masks, "serde", "1.0.0"), reason(&masks, "serde", "1.0.0+a")), (None, Some("first")));
    }
}

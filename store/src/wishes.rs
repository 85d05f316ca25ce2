//! What somebody asked a mirror for and did not get, as a small text file that an operator can read and edit.
//!
//! Names and versions alone are kept, nothing of who asked. The file is no part of what a mirror holds: nothing depends on it, and it
//! may be deleted at any time. Servers add to it beside whatever process writes the mirror, so it has a folder of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::str::FromStr;

use crate::id::{CrateName, Version};
use crate::layout::Layout;
use crate::mirror::write_durably;
use crate::open_error::OpenError;

/// A crate, or one version of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wish {
    name: CrateName,
    version: Option<Version>,
}

impl Wish {
    /// A wish for a crate, or for a version of it.
    pub fn new(name: &CrateName, version: Option<Version>) -> Wish {
        Wish { name: name.lower(), version }
    }

    /// The crate's name in lower case.
    pub fn name(&self) -> &CrateName {
        &self.name
    }

    /// The version, if one is meant.
    pub fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Names that differ in dashes and underscores are of one crate, and cargo asks for all of them.
    fn key(&self) -> (String, Option<Version>) {
        (one_spelling(&self.name), self.version.clone())
    }
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.version {
            None => write!(f, "{}", self.name),
            Some(version) => write!(f, "{} {version}", self.name),
        }
    }
}

/// A text that is no wish.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no crate's name with or without a version")]
pub struct NoWish(String);

impl FromStr for Wish {
    type Err = NoWish;

    fn from_str(text: &str) -> Result<Wish, NoWish> {
        let no_wish = || NoWish(text.chars().take(100).collect());
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let (name, version) = match words[..] {
            [name] => (name, None),
            [name, version] => (name, Some(version.parse().map_err(|_| no_wish())?)),
            _ => return Err(no_wish()),
        };
        Ok(Wish::new(&name.parse().map_err(|_| no_wish())?, version))
    }
}

/// A name with all dashes as underscores, in lower case: the same for all spellings that a registry takes for one.
pub fn one_spelling(name: &CrateName) -> String {
    name.lower().as_str().replace('-', "_")
}

/// How many wishes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WishLimits {
    /// At most so many.
    pub count: usize,
    /// At most so many bytes, as lines.
    pub bytes: usize,
}

/// The longest file that is read, and so the most that limits can allow.
const LONGEST: usize = 16 << 20;

/// Wishes, each once, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    all: BTreeMap<(String, Option<Version>), Wish>,
    bytes: usize,
}

impl Wishes {
    /// Adds a wish, if there is room. Says whether it is new.
    pub fn add(&mut self, wish: Wish, limits: WishLimits) -> bool {
        let bytes = self.bytes + line_length(&wish);
        let key = wish.key();
        let fits = self.all.len() < limits.count && bytes <= limits.bytes.min(LONGEST);
        if !fits || self.all.contains_key(&key) {
            return false;
        }
        self.bytes = bytes;
        self.all.insert(key, wish);
        true
    }

    /// Leaves out what does not fit.
    pub fn retain(&mut self, mut fits: impl FnMut(&Wish) -> bool) {
        self.all.retain(|_, wish| fits(wish));
        self.bytes = self.all.values().map(line_length).sum();
    }

    /// In the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Wish> {
        self.all.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Reads those of a mirror, as many as the limits allow. Lines that are none are left out.
    pub fn read(layout: &Layout, limits: WishLimits) -> Result<Wishes, OpenError> {
        let path = layout.wishes();
        let text = match std::fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Wishes::default()),
            opened => opened.and_then(|file| {
                let mut text = Vec::new();
                io::Read::read_to_end(&mut io::Read::take(file, LONGEST as u64), &mut text).map(|_| text)
            }),
        };
        let text = text.map_err(OpenError::io("read", &path))?;
        let mut wishes = Wishes::default();
        for line in String::from_utf8_lossy(&text).lines() {
            if let Ok(wish) = line.parse() {
                wishes.add(wish, limits);
            }
        }
        Ok(wishes)
    }

    /// Writes those of a mirror, whole or not at all.
    pub fn write(&self, layout: &Layout) -> Result<(), OpenError> {
        let path = layout.wishes();
        let folder = path.parent().unwrap_or(layout.root());
        std::fs::create_dir_all(folder).map_err(OpenError::io("make", folder))?;
        let text: String = self.iter().map(|wish| format!("{wish}\n")).collect();
        write_durably(&path, text.as_bytes())
    }
}

fn line_length(wish: &Wish) -> usize {
    wish.to_string().len() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: WishLimits = WishLimits { count: 3, bytes: 100 };

    fn wish(text: &str) -> Wish {
        text.parse().unwrap()
    }

    #[test]
    fn a_wish_is_a_name_and_perhaps_a_version_and_nothing_else() {
        assert_eq!(wish("Serde").to_string(), "serde");
        assert_eq!(wish(" serde\t1.0.0+a ").to_string(), "serde 1.0.0+a");
        for text in ["", "../x", "serde 1.0.0 now", "serde ../1", "ser\u{e9}e", "nul"] {
            assert!(text.parse::<Wish>().is_err(), "{text}");
        }
    }

    #[test]
    fn spellings_of_one_crate_are_one_wish_and_limits_hold() {
        let mut wishes = Wishes::default();
        assert!(wishes.add(wish("a-b"), ROOM) && wishes.add(wish("a-b 1.0.0"), ROOM));
        assert!(!wishes.add(wish("A_b"), ROOM), "cargo asks for it when there is no a-b");
        assert!(wishes.add(wish("c"), ROOM));
        assert!(!wishes.add(wish("d"), ROOM), "three are enough");
        let small = WishLimits { count: 9, bytes: 20 };
        assert!(!wishes.add(wish("long-enough"), small), "so are 20 bytes");
        wishes.retain(|wish| wish.version().is_none());
        assert!(wishes.add(wish("e"), ROOM));
        assert_eq!(wishes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["a-b", "c", "e"]);
    }

    #[test]
    fn wishes_lie_in_a_file_that_people_may_edit() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert_eq!(Wishes::read(&layout, ROOM).unwrap(), Wishes::default());
        let mut wishes = Wishes::default();
        wishes.add(wish("serde 1.0.0"), ROOM);
        wishes.write(&layout).unwrap();
        assert_eq!(Wishes::read(&layout, ROOM).unwrap(), wishes);
        std::fs::write(layout.wishes(), "# by hand\nserde 1.0.0\r\n\n../../etc/passwd\n").unwrap();
        assert_eq!(Wishes::read(&layout, ROOM).unwrap(), wishes);
    }
}

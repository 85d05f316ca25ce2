//! Names and digests as types.
//!
//! Everything that comes from an index, a bundle or a request passes through here before it can become
//! part of a path, a key or a URL. [`CrateName`] and [`Version`] accept only what is safe as a file name on
//! every system; whatever they refuse is reported and goes no further.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha1::Digest as _;

/// The longest crate name that crates.io accepts, in bytes.
pub const MAX_NAME: usize = 64;
/// The longest version text we accept, in bytes.
pub const MAX_VERSION: usize = 128;

/// Text that cannot name a crate, a version or a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {why}")]
pub struct NameError {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl NameError {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        let mut text: String = text.chars().take(80).collect();
        if text.chars().count() == 80 {
            text.push('…');
        }
        NameError { what, text, why }
    }
}

/// A crate's name as its index spells it: 1 to 64 ASCII letters, digits, `-` and `_`.
///
/// Names are unique without regard to case, so keys use [`CrateName::lower`]. Device names that Windows
/// reserves (`nul`, `con`, `com1`, ...) are refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CrateName(Box<str>);

impl CrateName {
    /// The name as the index spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in lower case: the form that keys and index paths use.
    #[must_use]
    pub fn lower(&self) -> CrateName {
        CrateName(self.0.to_ascii_lowercase().into())
    }

    /// The path of this crate's file in an index: `1/a`, `2/ab`, `3/a/abc`, `ab/cd/abcd`.
    pub fn index_path(&self) -> String {
        let name = self.0.to_ascii_lowercase();
        format!("{}/{name}", prefix(&name))
    }

    /// Whether a folder of an index, in any case, is that of this crate's file. Makes no copies, as servers ask it often.
    pub fn is_in_folder(&self, folder: &str) -> bool {
        let is = |part: &str, at: std::ops::Range<usize>| part.eq_ignore_ascii_case(&self.0[at]);
        match (self.0.len(), folder.split_once('/')) {
            (1, None) => folder == "1",
            (2, None) => folder == "2",
            (3, Some(("3", first))) => is(first, 0..1),
            (4.., Some((first, second))) => is(first, 0..2) && is(second, 2..4),
            _ => false,
        }
    }

    /// What `{prefix}` stands for in a download template: the folder of the index path, in the name's own case.
    pub fn prefix(&self) -> String {
        prefix(&self.0)
    }
}

fn prefix(name: &str) -> String {
    match name.len() {
        1 => "1".to_owned(),
        2 => "2".to_owned(),
        3 => format!("3/{}", &name[..1]),
        _ => format!("{}/{}", &name[..2], &name[2..4]),
    }
}

impl FromStr for CrateName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::new("crate name", text, why));
        if text.is_empty() {
            return refuse("it is empty");
        }
        if text.len() > MAX_NAME {
            return refuse("it is longer than 64 bytes");
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return refuse("only ASCII letters, digits, '-' and '_' may occur");
        }
        if is_device_name(text) {
            return refuse("Windows reserves it for a device");
        }
        Ok(CrateName(text.into()))
    }
}

fn is_device_name(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "con" | "prn" | "aux" | "nul" => true,
        other => {
            (other.starts_with("com") || other.starts_with("lpt"))
                && other.len() == 4
                && other.as_bytes()[3].is_ascii_digit()
        }
    }
}

/// A version as its index spells it, compared by its exact text: `1.0.0+a` and `1.0.0+b` differ.
///
/// Old versions are not always semver, so only the characters are checked: ASCII letters, digits, `.`, `-`, `+`
/// and `_`; the first is a letter or digit, the last is not a dot, and no two dots stand together.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(Box<str>);

impl Version {
    /// The version's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Version {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let refuse = |why| Err(NameError::new("version", text, why));
        let bytes = text.as_bytes();
        let Some(first) = bytes.first() else { return refuse("it is empty") };
        if bytes.len() > MAX_VERSION {
            return refuse("it is longer than 128 bytes");
        }
        if !bytes.iter().all(|b| b.is_ascii_alphanumeric() || b".-+_".contains(b)) {
            return refuse("only ASCII letters, digits, '.', '-', '+' and '_' may occur");
        }
        if !first.is_ascii_alphanumeric() {
            return refuse("it must begin with a letter or digit");
        }
        if text.contains("..") || text.ends_with('.') {
            return refuse("a dot must stand between other characters");
        }
        Ok(Version(text.into()))
    }
}

macro_rules! text_type {
    ($type:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        string_serde!($type);
    };
}

macro_rules! string_serde {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

text_type!(CrateName);
text_type!(Version);

macro_rules! digest_type {
    ($(#[$doc:meta])* $type:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(pub [u8; $len]);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut hex = [0u8; $len * 2];
                for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
                    pair[0] = HEX[usize::from(byte >> 4)];
                    pair[1] = HEX[usize::from(byte & 15)];
                }
                f.write_str(std::str::from_utf8(&hex).expect("hex digits are ASCII"))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let refuse = |why| NameError::new($what, text, why);
                if text.len() != $len * 2 {
                    return Err(refuse("it has the wrong length"));
                }
                let mut bytes = [0u8; $len];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let (high, low) = (nibble(pair[0]), nibble(pair[1]));
                    let (Some(high), Some(low)) = (high, low) else { return Err(refuse("it is not hexadecimal")) };
                    *byte = high << 4 | low;
                }
                Ok($type(bytes))
            }
        }
        string_serde!($type);
    };
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

digest_type!(
    /// The SHA-256 of an object: what the index promises and what names bytes in the store.
    Sha256, 32, "SHA-256"
);
digest_type!(
    /// The BLAKE3 digest of something that we make ourselves.
    Blake3, 32, "BLAKE3 digest"
);
digest_type!(
    /// The git blob id of an index file's bytes: its identity, whichever upstream it came from.
    BlobId, 20, "git blob id"
);

impl Sha256 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Sha256(sha2::Sha256::digest(bytes).into())
    }
}

impl Blake3 {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Blake3(*blake3::hash(bytes).as_bytes())
    }
}

impl BlobId {
    /// What `git hash-object` prints for `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = sha1::Sha1::new();
        hasher.update(format!("blob {}\0", bytes.len()));
        hasher.update(bytes);
        BlobId(hasher.finalize().into())
    }
}

/// One version of one crate, by exact text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReleaseId {
    /// The crate.
    pub name: CrateName,
    /// The version.
    pub version: Version,
}

impl ReleaseId {
    /// The ways to read `NAME-VERSION`, the likeliest first. Both may have dashes, but a name has no dots and a version has
    /// one before its first dash.
    pub fn readings(text: &str) -> Vec<ReleaseId> {
        let dot = text.find('.').unwrap_or(text.len());
        let likeliest = text[..dot].rfind('-');
        let mut dashes: Vec<usize> = text[..dot].match_indices('-').map(|(at, _)| at).collect();
        dashes.sort_by_key(|at| Some(*at) != likeliest);
        let read =
            |at: usize| Some(ReleaseId { name: text[..at].parse().ok()?, version: text[at + 1..].parse().ok()? });
        dashes.into_iter().filter_map(read).collect()
    }

    /// The same with its name in lower case.
    #[must_use]
    pub fn lower(&self) -> ReleaseId {
        ReleaseId { name: self.name.lower(), version: self.version.clone() }
    }
}

impl fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

impl fmt::Debug for ReleaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A release together with the checksum that its index promises: the same version with other bytes is
/// another `Release`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// Which release.
    pub id: ReleaseId,
    /// The SHA-256 that the index promises for its crate file.
    pub checksum: Sha256,
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

/// How an upstream's index file is recognised: by content, with the validator as a hint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The git blob id of the bytes, always computed from the bytes.
    pub blob: BlobId,
    /// The `ETag` or, behind `last-modified: `, the date that the upstream sent with them.
    pub etag: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crate_names_that_are_safe_everywhere_are_accepted_and_others_are_not() {
        for good in ["a", "ab", "serde", "Inflector", "1serde", "a_b-c", &"x".repeat(64), "com", "com10", "console"] {
            assert!(good.parse::<CrateName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "../x",
            "/etc/x",
            "a/b",
            "a.b",
            "nul",
            "CON",
            "Aux",
            "com1",
            "LPT9",
            &"x".repeat(65),
            "%2e",
            "é",
            "a\0b",
            "a b",
            "a\\b",
        ] {
            assert!(bad.parse::<CrateName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn versions_keep_their_text_and_never_hold_a_path() {
        for good in ["1.0.0", "1.0.0+a", "0.0.1-alpha.1", "1", "2_3", "1.0.0-"] {
            assert_eq!(good.parse::<Version>().unwrap().as_str(), good);
        }
        for bad in ["", "..", "1..0", "1.0.", "/1", "1/2", "-1", "+1", "1.0.0 ", "1%2e0", &"1".repeat(129), "1\n"] {
            assert!(bad.parse::<Version>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn index_paths_follow_the_length_of_the_name() {
        let path = |name: &str| name.parse::<CrateName>().unwrap().index_path();
        assert_eq!(path("A"), "1/a");
        assert_eq!(path("ab"), "2/ab");
        assert_eq!(path("abc"), "3/a/abc");
        assert_eq!(path("Abcd"), "ab/cd/abcd");
        assert_eq!("Inflector".parse::<CrateName>().unwrap().prefix(), "In/fl");
        for name in ["A", "ab", "Abc", "abcd", "ABCDE-f"] {
            let name: CrateName = name.parse().unwrap();
            let path = name.index_path();
            let folder = path.rsplit_once('/').unwrap().0;
            assert!(name.is_in_folder(folder) && name.is_in_folder(&folder.to_uppercase()), "{name}");
            for other in ["", "1", "2", "3", "3/b", "3/", "ab/cd/", "ab/ce", "ab", "/ab/cd"] {
                assert_eq!(name.is_in_folder(other), folder == other, "{name} {other}");
            }
        }
    }

    #[test]
    fn digests_read_what_they_print() {
        let digest = Sha256::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Sha256>().unwrap(), digest);
        assert!("ba78".parse::<Sha256>().is_err());
        assert!("zz".repeat(32).parse::<Sha256>().is_err());
    }

    #[test]
    fn a_blob_id_is_gits() {
        assert_eq!(BlobId::of(b"hello\n").to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }
}

//! Names of files as bytes, and how documents write those that are no text.

use std::borrow::Cow;
use std::fmt;

/// The path of a file below the folder that is inventoried, `/` between its parts, byte for byte as the system has it. Its order is the one
/// that inventories are in.
///
/// It is never made into a path that something is opened by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(Vec<u8>);

/// How a document writes a name that is not UTF-8.
pub const PERCENT: &str = "percent";

impl FileName {
    /// A name of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        FileName(bytes.into())
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name of something in the folder of this name; the folder itself is the empty name.
    pub(super) fn join(&self, part: &[u8]) -> Self {
        let mut joined = self.0.clone();
        if !joined.is_empty() {
            joined.push(b'/');
        }
        joined.extend_from_slice(part);
        FileName(joined)
    }

    /// The name of a folder that could not be listed: with a `/` behind it, which sorts it before what is in it. The folder itself stays
    /// the empty name.
    pub(super) fn as_folder(&self) -> Self {
        if self.0.is_empty() { self.clone() } else { self.join(b"") }
    }

    /// Whether this is below a folder of that name, given as [`as_folder`](Self::as_folder) gives it.
    pub fn is_below(&self, folder: &FileName) -> bool {
        (folder.0.is_empty() || folder.0.ends_with(b"/")) && self.0.starts_with(&folder.0)
    }

    /// How documents write it: a text, and whether the text is percent-encoded. A name that is text is written as it is, whatever its
    /// characters. In any other, each byte that belongs to no character and each `%` becomes `%` and two hexadecimal digits.
    pub fn written(&self) -> (Cow<'_, str>, bool) {
        if let Ok(text) = str::from_utf8(&self.0) {
            return (Cow::Borrowed(text), false);
        }
        let mut written = String::new();
        for chunk in self.0.utf8_chunks() {
            written.push_str(&chunk.valid().replace('%', "%25"));
            written.extend(chunk.invalid().iter().map(|byte| format!("%{byte:02X}")));
        }
        (Cow::Owned(written), true)
    }

    /// The name that was written so; none if that is not how a name is written.
    pub fn read(written: &str, percent_encoded: bool) -> Option<Self> {
        if !percent_encoded {
            return Some(FileName(written.into()));
        }
        let mut pieces = written.split('%');
        let mut name = pieces.next()?.as_bytes().to_vec();
        for piece in pieces {
            let (byte, text) = piece.split_at_checked(2)?;
            if !byte.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            name.push(u8::from_str_radix(byte, 16).ok()?);
            name.extend_from_slice(text.as_bytes());
        }
        Some(FileName(name))
    }
}

/// For people: control characters and what is no text are escaped.
impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(f, "{}", character.escape_default())?;
                } else {
                    write!(f, "{character}")?;
                }
            }
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02x}"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_name_comes_back(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'%')], 0..40)) {
            let name = FileName::new(bytes);
            let (text, percent_encoded) = name.written();
            prop_assert_eq!(FileName::read(&text, percent_encoded), Some(name.clone()));
        }
    }

    #[test]
    fn text_is_written_as_it_is_and_bytes_are_not() {
        assert_eq!(FileName::new("100%: \n\u{e9}").written(), ("100%: \n\u{e9}".into(), false));
        assert_eq!(FileName::new(*b"100%\xe9\xff").written(), ("100%25%E9%FF".into(), true));
    }

    #[test]
    fn what_nobody_wrote_is_no_name() {
        for text in ["%", "%2", "%zz", "%+1", "a%\u{e9}"] {
            assert_eq!(FileName::read(text, true), None, "{text}");
        }
    }
}

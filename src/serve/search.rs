//! Searching for crates by name.
//!
//! All names of a generation lie in one string, so that a search is one pass over a few megabytes. An exact name comes
//! first, then names that begin with what is sought, then names with it at the beginning of a word, then all others that
//! hold it. `-` and `_` are the same here, as they are for cargo.

use crateferry_store::{CatalogReader, CrateName, LedgerError};
use memchr::memmem::Finder;
use memchr::{memchr, memrchr};

/// The names of all crates of a generation.
pub struct Names {
    /// The names in lower case, each ended by a line feed, in order.
    text: String,
    /// The same with `_` as `-`: every name lies where it lies in `text`.
    plain: Vec<u8>,
    count: usize,
}

/// How well a name fits: the smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    Prefix,
    Word,
    Part,
}

/// A name that fits. Of those that fit equally well the shorter come first, then the order of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    fit: Fit,
    length: usize,
    start: usize,
}

impl Names {
    /// Reads the names from a catalog.
    pub fn read(catalog: &CatalogReader) -> Result<Names, LedgerError> {
        let mut text = String::new();
        catalog.each_index_file(|name, _| {
            text.push_str(&name.as_str().to_ascii_lowercase());
            text.push('\n');
            Ok::<(), LedgerError>(())
        })?;
        text.shrink_to_fit();
        Ok(Names::new(text))
    }

    fn new(text: String) -> Names {
        let plain: Vec<u8> = text.bytes().map(|byte| if byte == b'_' { b'-' } else { byte }).collect();
        let count = memchr::memchr_iter(b'\n', &plain).count();
        Names { text, plain, count }
    }

    /// The names that fit what is sought, the best first: how many, and those from `skip` on, at most `take`. Of several
    /// words all must fit; with none, all names do.
    pub fn find(&self, sought: &str, skip: usize, take: usize) -> (usize, Vec<CrateName>) {
        let sought = sought.to_ascii_lowercase().replace('_', "-");
        let mut words: Vec<Finder<'_>> = sought.split_whitespace().map(Finder::new).collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.needle().len()));
        let Some((longest, others)) = words.split_first() else {
            let page = self.text.lines().skip(skip).take(take);
            return (self.count, page.filter_map(|name| name.parse().ok()).collect());
        };
        let mut found = self.all_with(longest, others);
        let (total, end) = (found.len(), skip.saturating_add(take));
        if end < total {
            // Nobody sees what lies behind this page, so it need not be in order.
            found.select_nth_unstable(end);
            found.truncate(end);
        }
        found.sort_unstable();
        let page = found.iter().skip(skip).map(|found| &self.text[found.start..found.start + found.length]);
        (total, page.filter_map(|name| name.parse().ok()).collect())
    }

    /// The names that hold a word and the others too, in one pass over all of them.
    fn all_with(&self, word: &Finder<'_>, others: &[Finder<'_>]) -> Vec<Found> {
        let (mut found, mut from) = (Vec::new(), 0);
        while let Some(at) = word.find(&self.plain[from..]).map(|at| from + at) {
            let start = memrchr(b'\n', &self.plain[..at]).map_or(0, |before| before + 1);
            let end = memchr(b'\n', &self.plain[at..]).map_or(self.plain.len(), |after| at + after);
            let name = &self.plain[start..end];
            let worst = others.iter().try_fold(fit(name, word, at - start), |worst, other| {
                let at = other.find(name)?;
                Some(worst.max(fit(name, other, at)))
            });
            found.extend(worst.map(|fit| Found { fit, length: end - start, start }));
            from = end;
        }
        found
    }
}

/// How well a name fits a word that it holds first at position `at`.
fn fit(name: &[u8], word: &Finder<'_>, at: usize) -> Fit {
    match at {
        0 if name.len() == word.needle().len() => Fit::Exact,
        0 => Fit::Prefix,
        _ if word.find_iter(name).any(|at| name[at - 1] == b'-') => Fit::Word,
        _ => Fit::Part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Names {
        let mut all = all.to_vec();
        all.sort_unstable();
        Names::new(all.iter().map(|name| format!("{name}\n")).collect())
    }

    #[test]
    fn the_exact_name_comes_first_then_prefixes_then_words_then_parts() {
        let names = names(&["serde", "serde_json", "my-serde", "deserde", "toml", "serde-yaml"]);
        let (total, found) = names.find("serde", 0, 10);
        let found: Vec<&str> = found.iter().map(CrateName::as_str).collect();
        assert_eq!((total, found), (5, vec!["serde", "serde-yaml", "serde_json", "my-serde", "deserde"]));
    }

    #[test]
    fn dashes_and_case_make_no_difference_and_all_words_must_fit() {
        let names = names(&["serde_json", "serde-json-any", "json"]);
        let find = |sought: &str| names.find(sought, 0, 10).0;
        assert_eq!((find("Serde-JSON"), find("json any"), find("json toml"), find(" ")), (2, 1, 0, 3));
    }

    #[test]
    fn without_words_all_names_come_in_their_own_order() {
        let (total, found) = names(&["b", "aaa", "c"]).find(" ", 0, 10);
        let found: Vec<&str> = found.iter().map(CrateName::as_str).collect();
        assert_eq!((total, found), (3, vec!["aaa", "b", "c"]));
    }

    #[test]
    fn pages_follow_one_another() {
        let names = names(&["a1", "a2", "a3"]);
        let (total, second) = names.find("a", 1, 1);
        assert_eq!((total, second[0].as_str()), (3, "a2"));
        let all = |sought| -> Vec<String> {
            (0..3).flat_map(|page| names.find(sought, page, 1).1).map(|name| name.to_string()).collect()
        };
        assert_eq!(all("a"), ["a1", "a2", "a3"]);
        assert_eq!(all(""), ["a1", "a2", "a3"]);
        assert!(names.find("a", 9, 1).1.is_empty());
    }
}

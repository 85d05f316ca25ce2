//! Searching for crates by name.
//!
//! All names of a generation lie in one string, so that a search is one pass over a few megabytes. An exact name comes
//! first, then names that begin with what is sought, then names with it at the beginning of a word, then all others that
//! hold it. `-` and `_` are the same here, as they are for cargo.

use crateferry_store::{CatalogReader, CrateName, LedgerError};

/// The names of all crates of a generation.
pub struct Names {
    /// The names in lower case, each ended by a line feed, in order.
    text: String,
    count: usize,
}

/// How well a name fits: the smaller, the better.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    Prefix,
    Word,
    Part,
}

impl Names {
    /// Reads the names from a catalog.
    pub fn read(catalog: &CatalogReader) -> Result<Names, LedgerError> {
        let mut names = Names { text: String::new(), count: 0 };
        catalog.each_index_file(|name, _| {
            names.text.push_str(&name.as_str().to_ascii_lowercase());
            names.text.push('\n');
            names.count += 1;
            Ok::<(), LedgerError>(())
        })?;
        names.text.shrink_to_fit();
        Ok(names)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The names that fit what is sought, the best first: how many, and those from `skip` on, at most `take`. Of several
    /// words all must fit; with none, all names do.
    pub fn find(&self, sought: &str, skip: usize, take: usize) -> (usize, Vec<CrateName>) {
        let sought = sought.to_ascii_lowercase().replace('_', "-");
        let words: Vec<&str> = sought.split_whitespace().collect();
        let mut found: Vec<(Fit, usize, &str)> = Vec::new();
        let mut plain = String::with_capacity(64);
        for name in self.text.lines() {
            plain.clear();
            plain.extend(name.chars().map(|letter| if letter == '_' { '-' } else { letter }));
            if let Some(fit) = fit_all(&plain, &words) {
                found.push((fit, name.len(), name));
            }
        }
        found.sort_unstable();
        let page = found.iter().skip(skip).take(take);
        (found.len(), page.filter_map(|(_, _, name)| name.parse().ok()).collect())
    }
}

/// How well a name fits all words; the worst of them counts.
fn fit_all(name: &str, words: &[&str]) -> Option<Fit> {
    words.iter().map(|word| fit(name, word)).try_fold(Fit::Exact, |worst, fit| fit.map(|fit| worst.max(fit)))
}

fn fit(name: &str, word: &str) -> Option<Fit> {
    let at = name.find(word)?;
    Some(match at {
        0 if name.len() == word.len() => Fit::Exact,
        0 => Fit::Prefix,
        _ if name.match_indices(word).any(|(at, _)| name.as_bytes()[at - 1] == b'-') => Fit::Word,
        _ => Fit::Part,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Names {
        let mut all = all.to_vec();
        all.sort_unstable();
        Names { text: all.iter().map(|name| format!("{name}\n")).collect(), count: all.len() }
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
    fn pages_follow_one_another() {
        let names = names(&["a1", "a2", "a3"]);
        let (total, second) = names.find("a", 1, 1);
        assert_eq!((total, second[0].as_str()), (3, "a2"));
        assert!(names.find("a", 9, 1).1.is_empty());
    }
}

//! Searching for crates by name and by what is known about them.
//!
//! What is searched of a generation lies in one string, so that a search is one pass over some megabytes. An exact name
//! comes first, then names that begin with what is sought, then names with it at the beginning of a word, then all other names
//! that hold it, then crates that have it in their description or keywords. `-` and `_` are the same here, as they are
//! for cargo.

use std::ops::Range;

use crateferry_store::{About, CatalogReader, CrateName, LedgerError};
use memchr::memchr_iter;
use memchr::memmem::Finder;

/// The names of all crates of a generation, and what is known about them.
#[derive(Default)]
pub struct Names {
    /// A line for each crate, in order of names: `name TAB what is known TAB`, in lower case and with `_` as `-`.
    lines: Vec<u8>,
    /// The names alone, in lower case.
    alone: String,
    /// Where each crate's line and its name begin, in that order.
    starts: Vec<(u32, u32)>,
}

/// How well a crate fits: the smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    Prefix,
    Word,
    Part,
    About,
}

/// A crate that fits. Of those that fit equally well the shorter names come first, then the order of names. All three
/// are in one number, in that order, since as many may be sorted as there are crates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found(u64);

impl Found {
    fn new(fit: Fit, length: usize, at: usize) -> Found {
        Found((fit as u64) << 48 | (length as u64) << 32 | at as u64)
    }

    fn at(self) -> usize {
        (self.0 & u64::from(u32::MAX)) as usize
    }
}

impl Names {
    /// Reads what can be searched from a catalog.
    pub fn read(catalog: &CatalogReader) -> Result<Names, LedgerError> {
        let mut known = catalog.about_each()?.peekable();
        let mut all = Names::default();
        catalog.each_index_file(|name, _| {
            let lower = name.as_str().to_ascii_lowercase();
            // Both come in the order of names; what is known of a crate that is served no more is passed over.
            let is_earlier = |next: &Result<(CrateName, About), LedgerError>| {
                next.as_ref().map_or(true, |(other, _)| other.as_str() < lower.as_str())
            };
            while let Some(passed) = known.next_if(is_earlier) {
                passed?;
            }
            let is_it = |next: &Result<(CrateName, About), LedgerError>| {
                next.as_ref().is_ok_and(|(other, _)| other.as_str() == lower)
            };
            let about = known.next_if(is_it).transpose()?.map(|(_, about)| about);
            all.push(&lower, &about.unwrap_or_default());
            Ok::<(), LedgerError>(())
        })?;
        all.alone.shrink_to_fit();
        all.lines.shrink_to_fit();
        Ok(all)
    }

    fn push(&mut self, name: &str, about: &About) {
        self.starts.push((self.lines.len() as u32, self.alone.len() as u32));
        self.alone.push_str(name);
        let known = [name, &about.description, &about.keywords].map(str::to_lowercase).join("\t");
        self.lines.extend(known.bytes().map(|byte| if byte == b'_' { b'-' } else { byte }));
        self.lines.push(b'\n');
    }

    /// The crates that fit what is sought, the best first: how many, and those from `skip` on, at most `take`. Of several
    /// words all must fit; with none, all crates do.
    pub fn find(&self, sought: &str, skip: usize, take: usize) -> (usize, Vec<CrateName>) {
        let sought = sought.to_lowercase().replace('_', "-");
        let mut words: Vec<Finder<'_>> = sought.split_whitespace().map(Finder::new).collect();
        words.sort_by_key(|word| std::cmp::Reverse(word.needle().len()));
        let Some((longest, others)) = words.split_first() else {
            let page = (skip..self.starts.len()).take(take);
            return (self.starts.len(), page.filter_map(|at| self.alone[self.name(at)].parse().ok()).collect());
        };
        let mut found = self.all_with(longest, others);
        let (total, end) = (found.len(), skip.saturating_add(take));
        if end < total {
            // Nobody sees what lies behind this page, so it need not be in order.
            found.select_nth_unstable(end);
            found.truncate(end);
        }
        found.sort_unstable();
        let page = found.iter().skip(skip).filter_map(|found| self.alone[self.name(found.at())].parse().ok());
        (total, page.collect())
    }

    /// Where the name of a crate lies.
    fn name(&self, at: usize) -> Range<usize> {
        let end = self.starts.get(at + 1).map_or(self.alone.len(), |(_, name)| *name as usize);
        self.starts[at].1 as usize..end
    }

    /// Where the line of a crate lies, without its end.
    fn line(&self, at: usize) -> Range<usize> {
        let end = self.starts.get(at + 1).map_or(self.lines.len(), |(line, _)| *line as usize);
        self.starts[at].0 as usize..end - 1
    }

    /// The crates whose line holds a word and the others too, in one pass over all of them. Some words are in every line,
    /// so little may be done for each.
    fn all_with(&self, word: &Finder<'_>, others: &[Finder<'_>]) -> Vec<Found> {
        let (mut found, mut from, mut at) = (Vec::new(), 0, 0);
        while let Some(place) = word.find(&self.lines[from..]).map(|place| from + place) {
            while self.line(at).end < place {
                at += 1;
            }
            let (line, length) = (self.line(at), self.name(at).len());
            let (name, all) = (&self.lines[line.start..line.start + length], &self.lines[line.clone()]);
            let worst = others.iter().try_fold(fit(name, word.needle(), place - line.start), |worst, other| {
                let place = other.find(all)?;
                Some(worst.max(fit(name, other.needle(), place)))
            });
            found.extend(worst.map(|fit| Found::new(fit, length, at)));
            from = line.end;
        }
        found
    }
}

/// How well a crate fits a word that its line holds first at a place.
fn fit(name: &[u8], word: &[u8], place: usize) -> Fit {
    match place {
        0 if name.len() == word.len() => Fit::Exact,
        0 => Fit::Prefix,
        _ if place >= name.len() => Fit::About,
        _ if memchr_iter(b'-', name).any(|dash| name[dash + 1..].starts_with(word)) => Fit::Word,
        _ => Fit::Part,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Names {
        described(&all.iter().map(|name| (*name, "", "")).collect::<Vec<_>>())
    }

    fn described(all: &[(&str, &str, &str)]) -> Names {
        let mut all = all.to_vec();
        all.sort_unstable();
        let mut names = Names::default();
        for (name, description, keywords) in all {
            let (description, keywords) = (description.into(), keywords.into());
            names.push(name, &About { description, keywords, license: String::new() });
        }
        names
    }

    #[test]
    fn what_is_known_about_a_crate_is_found_behind_all_names() {
        let names = described(&[
            ("toml", "A parser of Configuration_files", ""),
            ("parser", "", "x"),
            ("my-parser", "", ""),
            ("nom", "Byte-oriented", "parser parsers"),
        ]);
        let found = |sought| -> Vec<String> { names.find(sought, 0, 9).1.iter().map(ToString::to_string).collect() };
        assert_eq!(found("parser"), ["parser", "my-parser", "nom", "toml"]);
        assert_eq!(found("nom PARSER"), ["nom"]);
        assert_eq!(found("configuration-files"), ["toml"]);
        assert!(found("files byte").is_empty());
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

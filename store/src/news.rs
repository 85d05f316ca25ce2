//! What a generation brought, release by release, for who follows a mirror.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, parse_index_file};
use crate::id::{CrateName, ReleaseId, Version};

/// Releases of one kind that a list names; beyond them it counts.
const NAMED: usize = 100;

/// What a generation changed for those whom the mirror serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Served for the first time, or again.
    pub new: Named,
    /// Yanked since the generation before.
    pub yanked: Named,
    /// Yanked before and no more.
    pub unyanked: Named,
    /// Served before and no more.
    pub withdrawn: Named,
    /// Served with another checksum than before.
    pub exchanged: Named,
    /// Changed crates that were not looked at, as there are too many, or as a text of theirs cannot be read.
    pub further: u64,
}

/// How many releases there are of a kind, and the first of them in order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// All of them.
    pub count: u64,
    /// The first [`NAMED`].
    pub first: Vec<ReleaseId>,
}

impl Named {
    /// Those that are counted and not named.
    pub fn beyond(&self) -> u64 {
        self.count.saturating_sub(self.first.len() as u64)
    }

    fn add(&mut self, entry: &Entry<'_>) {
        if self.first.len() < NAMED {
            self.first.push(ReleaseId { name: entry.name.clone(), version: entry.version.clone() });
        }
        self.count += 1;
    }

    fn append(&mut self, other: Named) {
        let room = NAMED - self.first.len().min(NAMED);
        self.first.extend(other.first.into_iter().take(room));
        self.count += other.count;
    }
}

impl News {
    /// What is new in a crate's index file; a file that is not there has no text.
    pub(crate) fn of_file(name: &CrateName, before: &[u8], after: &[u8]) -> News {
        let (before, after) = (parse_index_file(name, before), parse_index_file(name, after));
        let mut old: HashMap<&Version, &Entry<'_>> =
            before.entries.iter().map(|entry| (&entry.version, entry)).collect();
        let mut news = News::default();
        for entry in &after.entries {
            match old.remove(&entry.version) {
                None => news.new.add(entry),
                Some(old) => {
                    if old.checksum != entry.checksum {
                        news.exchanged.add(entry);
                    }
                    match (old.yanked, entry.yanked) {
                        (false, true) => news.yanked.add(entry),
                        (true, false) => news.unyanked.add(entry),
                        _ => {}
                    }
                }
            }
        }
        before.entries.iter().filter(|entry| old.contains_key(&entry.version)).for_each(|old| news.withdrawn.add(old));
        news
    }

    /// Adds the news of another crate, whose name comes later.
    pub(crate) fn append(mut self, other: News) -> News {
        self.new.append(other.new);
        self.yanked.append(other.yanked);
        self.unyanked.append(other.unyanked);
        self.withdrawn.append(other.withdrawn);
        self.exchanged.append(other.exchanged);
        self.further += other.further;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Sha256;

    fn file(rows: &[(&str, &str, bool)]) -> Vec<u8> {
        let row = |(version, content, yanked): &(&str, &str, bool)| {
            let checksum = Sha256::of(content.as_bytes());
            format!("{{\"name\":\"a\",\"vers\":\"{version}\",\"cksum\":\"{checksum}\",\"yanked\":{yanked}}}\n")
        };
        rows.iter().map(row).collect::<String>().into_bytes()
    }

    fn names(list: &Named) -> Vec<String> {
        assert_eq!(list.count, list.first.len() as u64);
        list.first.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_change_of_a_row_is_told_as_what_it_is() {
        let before = file(&[("1.0.0", "a", false), ("1.1.0", "b", true), ("1.2.0", "c", false), ("1.3.0", "d", false)]);
        let after = file(&[("1.3.0", "x", true), ("1.0.0", "a", false), ("1.1.0", "b", false), ("2.0.0", "e", true)]);
        let news = News::of_file(&"a".parse().unwrap(), &before, &after);
        assert_eq!(names(&news.new), ["a 2.0.0"]);
        assert_eq!(names(&news.unyanked), ["a 1.1.0"]);
        assert_eq!(names(&news.withdrawn), ["a 1.2.0"]);
        assert_eq!((names(&news.exchanged), names(&news.yanked)), (vec!["a 1.3.0".into()], vec!["a 1.3.0".into()]));
        assert_eq!(News::of_file(&"a".parse().unwrap(), &after, &after), News::default());
    }

    #[test]
    fn a_long_list_is_named_in_part_and_counted_whole() {
        let versions: Vec<String> = (0..60).map(|patch| format!("1.0.{patch}")).collect();
        let rows: Vec<(&str, &str, bool)> = versions.iter().map(|version| (version.as_str(), "a", false)).collect();
        let one = || News::of_file(&"a".parse().unwrap(), b"", &file(&rows));
        let all = one().append(one()).append(News { further: 7, ..News::default() }).append(one());
        assert_eq!((all.new.count, all.new.first.len(), all.new.beyond(), all.further), (180, NAMED, 80, 7));
    }
}

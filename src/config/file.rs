//! Reading `crateferry.toml`: every value with its line, and what is wrong with its line too.

use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::kind::Kind;
use super::layers::{Given, Origin};
use super::settings::{SECTIONS, SETTINGS, Setting};
use crate::dump;

/// A file that is no configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is not even TOML.
    #[error("{0}")]
    Syntax(String),
    /// A line is wrong.
    #[error("line {line}: {problem}")]
    Line {
        /// Which one, from 1.
        line: usize,
        /// How.
        problem: String,
    },
}

/// All that a file sets. `root` is where relative paths in it begin.
pub fn read(text: &str, root: &Path) -> Result<Vec<Given>, FileError> {
    let syntax = |error: toml::de::Error| FileError::Syntax(error.to_string().trim_end().to_owned());
    let places = DeTable::parse(text).map_err(syntax)?;
    let values: Table = text.parse().map_err(syntax)?;
    let mut read = Read { text, root, given: Vec::new(), problems: Vec::new() };
    for (key, place) in places.get_ref() {
        let value = &values[key.get_ref().as_ref()];
        let is_section = SECTIONS.iter().any(|(name, _)| !name.is_empty() && *name == key.get_ref());
        match (is_section, place.get_ref(), value) {
            (true, DeValue::Table(places), Value::Table(values)) => read.section(key.get_ref(), places, values),
            (true, ..) => read.refuse(key.span(), format!("`{}` is a section, [{0}]", key.get_ref())),
            (false, ..) => read.leaf("", key, value),
        }
    }
    read.problems.sort_by_key(|(line, _)| *line);
    match read.problems.into_iter().next() {
        Some((line, problem)) => Err(FileError::Line { line, problem }),
        None => Ok(read.given),
    }
}

struct Read<'a> {
    text: &'a str,
    root: &'a Path,
    given: Vec<Given>,
    problems: Vec<(usize, String)>,
}

impl Read<'_> {
    fn section(&mut self, section: &str, places: &DeTable<'_>, values: &Table) {
        places.keys().for_each(|key| self.leaf(section, key, &values[key.get_ref().as_ref()]));
    }

    fn leaf(&mut self, section: &str, key: &Spanned<impl AsRef<str>>, value: &Value) {
        let name = key.get_ref().as_ref();
        match Setting::find(section, name) {
            None => self.refuse(key.span(), unknown(section, name)),
            Some(setting) if !setting.kind.takes(value) => self.refuse(key.span(), wrong(setting, value)),
            Some(setting) => {
                let (value, origin) = (self.placed(setting, value), Origin::File { line: self.line(&key.span()) });
                self.given.push(Given { setting, value, origin });
            }
        }
    }

    /// Paths in the file begin where the file lies, so that it means the same from everywhere.
    fn placed(&self, setting: &Setting, value: &Value) -> Value {
        let placed = |path: &str| Value::String(self.root.join(path).to_string_lossy().into_owned());
        match (setting.kind, value) {
            (Kind::Path, Value::String(path)) => placed(path),
            (Kind::Place, Value::String(path)) if dump::url(path).is_none() => placed(path),
            (Kind::Paths, Value::Array(paths)) => {
                Value::Array(paths.iter().filter_map(Value::as_str).map(placed).collect())
            }
            _ => value.clone(),
        }
    }

    fn refuse(&mut self, at: Range<usize>, problem: String) {
        self.problems.push((self.line(&at), problem));
    }

    fn line(&self, at: &Range<usize>) -> usize {
        self.text[..at.start].matches('\n').count() + 1
    }
}

/// What is wrong with a value that its setting does not take.
pub fn wrong(setting: &Setting, value: &Value) -> String {
    format!("`{}` takes {}, not {value}", setting.key, setting.kind)
}

/// What is wrong with a key that is none, and what could be meant.
fn unknown(section: &str, key: &str) -> String {
    let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
    let problem = format!("there is no key `{key}`{place}");
    let here = nearest(key, Setting::of(section).map(|setting| setting.key));
    if let Some(near) = here {
        return format!("{problem}; did you mean `{near}`?");
    }
    if let Some(section) = nearest(key, SECTIONS.iter().map(|(name, _)| *name)).filter(|_| section.is_empty()) {
        return format!("{problem}; did you mean the section [{section}]?");
    }
    if let Some(near) = nearest(key, SETTINGS.iter().map(|setting| setting.key)) {
        let sections = SETTINGS.iter().filter(|setting| setting.key == near).map(|setting| match setting.section {
            "" => "above all sections".to_owned(),
            section => format!("in [{section}]"),
        });
        return format!("{problem}; did you mean `{near}` {}?", sections.collect::<Vec<_>>().join(" or "));
    }
    let keys: Vec<&str> = Setting::of(section).map(|setting| setting.key).collect();
    format!("{problem}; the keys there are {}", keys.join(", "))
}

/// The name that is most like this one, if any is like it.
pub fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let distances = known.map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, nearest) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= (name.len().max(nearest.len()) / 3).max(1)).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(text: &str, line: usize, problem: &str) {
        let error = read(text, Path::new("/mirror")).unwrap_err();
        assert_eq!(error, FileError::Line { line, problem: problem.to_owned() });
    }

    #[test]
    fn an_unknown_key_is_told_with_its_line_and_what_may_be_meant() {
        refused("\n[network]\nretires = 3\n", 3, "there is no key `retires` in [network]; did you mean `retries`?");
        refused("contact = \"a\"\n", 1, "there is no key `contact`; did you mean `contact` in [network]?");
        refused("[networks]\n", 1, "there is no key `networks`; did you mean the section [network]?");
        refused("[store]\nsurprise = 1\n", 2, "there is no key `surprise` in [store]; the keys there are pack-size");
    }

    #[test]
    fn a_value_of_another_kind_is_told_with_its_line_and_what_is_taken() {
        let whole = "`retries` takes a whole number, not \"six\"";
        refused("[network]\n# a comment\nretries = \"six\"\n", 3, whole);
        refused("[network]\nconnections = 9\n", 2, "`connections` takes a whole number from 1 to 8, not 9");
        let time = "`retry-max` takes a time like \"500ms\", \"30s\" or \"2m 30s\", not 30";
        refused("[network]\nretry-max = 30\n", 2, time);
        refused(
            "[store]\npack-size = \"1 XB\"\n",
            2,
            "`pack-size` takes a size like \"500 MB\" or \"1 GiB\", not \"1 XB\"",
        );
        refused("network = 3\n", 1, "`network` is a section, [network]");
        refused("upstream = 1\n", 1, "`upstream` takes a text, not 1");
    }

    #[test]
    fn of_several_faults_the_first_line_is_told() {
        refused("zzzz = 1\n[network]\nretries = -1\n", 1, &unknown("", "zzzz"));
    }

    #[test]
    fn dotted_and_inline_keys_have_lines_too() {
        refused("network = { retires = 1 }\n", 1, "there is no key `retires` in [network]; did you mean `retries`?");
        refused("\nnetwork.retires = 1\n", 2, "there is no key `retires` in [network]; did you mean `retries`?");
    }

    #[test]
    fn what_is_no_toml_is_told_with_its_line() {
        let FileError::Syntax(problem) = read("upstream = \"a\"\nwhat\n", Path::new("/")).unwrap_err() else {
            panic!("another error")
        };
        assert!(problem.contains("line 2"), "{problem}");
    }
}

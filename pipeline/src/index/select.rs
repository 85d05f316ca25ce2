//! Which releases are wanted: a pure function from index entries, a selection and a policy to a set.

use std::sync::Arc;

use crateferry_store::{CrateName, Entry, IndexFile, Selection};
use semver::{Version, VersionReq};
use serde::Deserialize;

use super::policy::{Policy, Verdict};

/// What a mirror wants: a selection, within a policy.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// What is selected.
    pub selection: Arc<Selection>,
    /// What may enter.
    pub policy: Arc<Policy>,
    /// What becomes of a version that the upstream promises another checksum for.
    pub checksum_change: ChecksumChange,
}

/// What becomes of a version that the upstream promises another checksum for than before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChecksumChange {
    /// The release that was served goes on being served.
    #[default]
    Keep,
    /// The new one is served, once its bytes are held.
    Switch,
    /// Neither is given out, until an operator decides.
    Refuse,
}

/// A choice, made ready to be asked about one crate's index file.
pub struct CrateChoice {
    all: bool,
    include_yanked: bool,
    requirements: Vec<VersionReq>,
    exact: Vec<crateferry_store::Version>,
    verdicts: Vec<Verdict>,
}

impl CrateChoice {
    /// What `choice` says about the crate `name`. `now` is in seconds since 1970.
    pub fn new(choice: &Choice, name: &CrateName, file: &IndexFile<'_>, now: u64) -> Self {
        let Choice { selection, policy, .. } = choice;
        let lower = name.lower();
        let requirements = selection.every_set().filter_map(|set| set.crates.get(&lower)).flatten();
        let exact = selection.every_set().filter_map(|set| set.releases.get(&lower)).flatten();
        CrateChoice {
            all: selection.all,
            include_yanked: selection.include_yanked,
            // A requirement is checked before it is stored; one that no longer parses lets nothing in.
            requirements: requirements.filter_map(|text| text.parse().ok()).collect(),
            exact: exact.cloned().collect(),
            verdicts: policy.judge(name, file, now),
        }
    }

    /// Whether the release in this place of the file is wanted.
    pub fn wants(&self, at: usize, entry: &Entry<'_>) -> bool {
        self.verdicts[at] == Verdict::In && self.selects(entry)
    }

    /// Whether a release is selected, whatever the policy says. What is named exactly is selected yanked or not.
    pub fn selects(&self, entry: &Entry<'_>) -> bool {
        if self.exact.contains(&entry.version) {
            return true;
        }
        let allowed = self.include_yanked || !entry.yanked;
        allowed && (self.all || self.matches(entry))
    }

    /// Versions that are named exactly.
    pub fn exact(&self) -> &[crateferry_store::Version] {
        &self.exact
    }

    /// What the policy says of each row.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// A requirement of `*` takes every version, also those that are not semver and pre-releases.
    fn matches(&self, entry: &Entry<'_>) -> bool {
        if self.requirements.contains(&VersionReq::STAR) {
            return true;
        }
        let Ok(version) = Version::parse(entry.version.as_str()) else { return false };
        self.requirements.iter().any(|requirement| requirement.matches(&version))
    }
}

#[cfg(test)]
mod tests {
    use crateferry_store::parse_index_file;

    use super::*;

    fn wanted(selection: &Selection) -> Vec<String> {
        let row = |version: &str, yanked: bool| {
            format!(r#"{{"name":"serde","vers":"{version}","cksum":"{}","yanked":{yanked}}}"#, "0".repeat(64))
        };
        let rows =
            [row("0.9.0", false), row("1.0.0", false), row("1.0.1", true), row("1.1.0-rc.1", false), row("odd", false)];
        let text = rows.join("\n");
        let name = "serde".parse().unwrap();
        let file = parse_index_file(&name, text.as_bytes());
        let choice = Choice { selection: Arc::new(selection.clone()), ..Choice::default() };
        let choice = CrateChoice::new(&choice, &name, &file, 0);
        let entries = file.entries.iter().enumerate().filter(|(at, entry)| choice.wants(*at, entry));
        entries.map(|(_, entry)| entry.version.to_string()).collect()
    }

    fn of_crate(requirement: &str) -> Selection {
        let mut selection = Selection::default();
        selection.own.crates.entry("serde".parse().unwrap()).or_default().insert(requirement.to_owned());
        selection
    }

    #[test]
    fn everything_is_all_but_the_yanked() {
        let mut all = Selection { all: true, ..Selection::default() };
        assert_eq!(wanted(&all), ["0.9.0", "1.0.0", "1.1.0-rc.1", "odd"]);
        all.include_yanked = true;
        assert_eq!(wanted(&all).len(), 5);
    }

    #[test]
    fn a_crate_is_all_its_releases_or_those_that_a_requirement_matches() {
        assert_eq!(wanted(&of_crate("*")), ["0.9.0", "1.0.0", "1.1.0-rc.1", "odd"]);
        assert_eq!(wanted(&of_crate("^1.0")), ["1.0.0"]);
        assert_eq!(wanted(&of_crate(">=2")), [""; 0]);
    }

    #[test]
    fn what_a_lock_file_names_is_taken_yanked_or_not() {
        let mut selection = Selection::default();
        selection.own.releases.entry("serde".parse().unwrap()).or_default().insert("1.0.1".parse().unwrap());
        assert_eq!(wanted(&selection), ["1.0.1"]);
    }

    #[test]
    fn other_crates_are_not_wanted() {
        let mut selection = Selection::default();
        selection.own.crates.entry("other".parse().unwrap()).or_default().insert("*".into());
        assert_eq!(wanted(&selection), [""; 0]);
    }
}

//! Which releases a selection wants: a pure function from index entries and a policy to a set.

use crateferry_store::{CrateName, Entry, Selection};
use semver::{Version, VersionReq};

/// A selection, made ready to be asked about one crate.
pub struct CratePolicy {
    all: bool,
    include_yanked: bool,
    requirements: Vec<VersionReq>,
    exact: Vec<crateferry_store::Version>,
}

impl CratePolicy {
    /// What `selection` says about the crate `name`.
    pub fn new(selection: &Selection, name: &CrateName) -> Self {
        let lower = name.lower();
        let requirements = selection.crates.get(&lower).into_iter().flatten();
        CratePolicy {
            all: selection.all,
            include_yanked: selection.include_yanked,
            // A requirement is checked before it is stored; one that no longer parses lets nothing in.
            requirements: requirements.filter_map(|text| text.parse().ok()).collect(),
            exact: selection.releases.get(&lower).into_iter().flatten().cloned().collect(),
        }
    }

    /// Whether a release is wanted. What is named exactly is wanted yanked or not.
    pub fn wants(&self, entry: &Entry<'_>) -> bool {
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
        let policy = CratePolicy::new(selection, &name);
        let file = parse_index_file(&name, text.as_bytes());
        file.entries.iter().filter(|entry| policy.wants(entry)).map(|entry| entry.version.to_string()).collect()
    }

    fn of_crate(requirement: &str) -> Selection {
        let mut selection = Selection::default();
        selection.crates.entry("serde".parse().unwrap()).or_default().insert(requirement.to_owned());
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
        selection.releases.entry("serde".parse().unwrap()).or_default().insert("1.0.1".parse().unwrap());
        assert_eq!(wanted(&selection), ["1.0.1"]);
    }

    #[test]
    fn other_crates_are_not_wanted() {
        let mut selection = Selection::default();
        selection.crates.entry("other".parse().unwrap()).or_default().insert("*".into());
        assert_eq!(wanted(&selection), [""; 0]);
    }
}

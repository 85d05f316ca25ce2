//! What may enter a mirror: rules over releases, whoever selected them.
//!
//! All rules but `newest` and `newest-per-range` look at one release alone, so their order does not matter: a release is in if
//! no rule keeps it out. The other two then count the newest among what is in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crateferry_store::{Blake3, CrateName, Entry, IndexFile};
use jiff::civil::Date;
use jiff::fmt::friendly::SpanParser;
use jiff::tz::TimeZone;
use jiff::{SpanRelativeTo, Timestamp};
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use spdx::{Expression, ParseMode};

use super::dump::{About, Dump, DumpError};
use crate::advisories::{Advisories, AdvisoriesError, Heed};

/// What may enter: the section `[policy]` of the configuration. Nothing in it keeps nothing out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct PolicyConfig {
    /// If any are named, only these: `NAME` or `NAME@REQ`, where the name may hold `*`.
    pub allow: Vec<String>,
    /// None of these.
    pub deny: Vec<String>,
    /// The newest so many of each crate.
    pub newest: Option<u32>,
    /// The newest so many of each range of compatible versions.
    pub newest_per_range: Option<u32>,
    /// Published on this day or later, `YYYY-MM-DD`.
    pub published_after: Option<String>,
    /// Published before this day.
    pub published_before: Option<String>,
    /// Published at least so long ago.
    #[serde(deserialize_with = "time")]
    pub cool_down: Option<Duration>,
    /// Crate files of at most so many bytes.
    pub max_size: Option<bytesize::ByteSize>,
    /// Licences that are accepted, as SPDX identifiers; one side of an `OR` is enough.
    pub licenses: Vec<String>,
    /// What builds with this Rust, as far as releases say what they need.
    pub rust_version: Option<String>,
    /// Crates that were downloaded at least so often.
    pub min_downloads: Option<u64>,
    /// Crates that one of these owns: logins as the registry has them.
    pub owners: Vec<String>,
    /// Whether that is in of which a rule cannot know what it looks at.
    pub unknown: Unknown,
    /// Which advisories keep out the releases that they are about.
    pub advisories: Heed,
    /// A RustSec advisory database, as a folder.
    pub advisory_db: Option<PathBuf>,
    /// A database dump of the registry, as a path or a URL: what sizes, licences, downloads and owners are taken from.
    pub dump: Option<String>,
}

/// What becomes of releases of which too little is known for a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// They enter.
    #[default]
    In,
    /// They do not.
    Out,
}

fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    age(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Reads an age like `36h` or `14d`: a day has 24 hours, a week 7 days.
pub fn age(text: &str) -> Result<Duration, jiff::Error> {
    let span = SpanParser::new().parse_span(text)?;
    let age = span.to_duration(SpanRelativeTo::days_are_24_hours())?;
    Duration::try_from(age)
}

/// A rule that says nothing one could follow.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A value that its key does not take.
    #[error("policy: {key} = {value:?}: {problem}")]
    Value {
        /// The key.
        key: &'static str,
        /// What it says.
        value: String,
        /// Why that cannot be followed.
        problem: String,
    },
    /// What only a dump tells, and there is none.
    #[error("policy: {0} is known from a database dump alone: name one with dump = \"FILE\"")]
    NoDump(&'static str),
    /// Advisories are to be heeded, and there are none.
    #[error(
        "policy: advisories are heeded, and there is no database: name one with advisory-db = \"FOLDER\", or as upstream of [advisories]"
    )]
    NoAdvisories,
}

/// What rules look things up in cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The dump.
    #[error(transparent)]
    Dump(#[from] DumpError),
    /// The advisory database.
    #[error(transparent)]
    Advisories(#[from] AdvisoriesError),
}

/// Rules, ready to be asked.
#[derive(Debug, Default)]
pub struct Policy {
    config: PolicyConfig,
    allow: Vec<Named>,
    deny: Vec<Named>,
    after: Option<i64>,
    before: Option<i64>,
    rust_version: Option<[u64; 3]>,
    dump: OnceLock<Arc<Dump>>,
    advisories: OnceLock<Known>,
}

/// Advisories, and a digest of those that are heeded, if there are some.
#[derive(Debug)]
struct Known {
    all: Advisories,
    heeded: Option<Blake3>,
}

/// Crates, and versions of them.
#[derive(Debug)]
struct Named {
    name: glob::Pattern,
    requirement: VersionReq,
}

/// What the rules say of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may enter.
    In,
    /// It may not, because of this rule.
    Out(&'static str),
    /// It may, from this time on, in seconds since 1970.
    Until(i64),
}

/// The fields of a row that rules look at.
#[derive(Default, Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    pubtime: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    rust_version: Option<std::borrow::Cow<'a, str>>,
}

impl Policy {
    /// Reads the rules.
    pub fn new(config: PolicyConfig) -> Result<Policy, PolicyError> {
        let refuse = |key, value: &str, problem: &dyn std::fmt::Display| PolicyError::Value {
            key,
            value: value.to_owned(),
            problem: problem.to_string(),
        };
        let named = |key, list: &[String]| -> Result<Vec<Named>, PolicyError> {
            list.iter().map(|text| Named::parse(text).map_err(|problem| refuse(key, text, &problem))).collect()
        };
        let day = |key, text: &Option<String>| -> Result<Option<i64>, PolicyError> {
            let Some(text) = text else { return Ok(None) };
            let date: Date = text.parse().map_err(|_| refuse(key, text, &"it is no day like 2026-01-31"))?;
            let start = date.to_zoned(TimeZone::UTC).map_err(|error| refuse(key, text, &error))?;
            Ok(Some(start.timestamp().as_second()))
        };
        let (allow, deny) = (named("allow", &config.allow)?, named("deny", &config.deny)?);
        let (after, before) =
            (day("published-after", &config.published_after)?, day("published-before", &config.published_before)?);
        if let (Some(from), Some(to), Some(text)) = (after, before, &config.published_before)
            && from >= to
        {
            return Err(refuse("published-before", text, &"that is not later than published-after, so nothing is in"));
        }
        if let Some(licence) = config.licenses.iter().find(|name| spdx::license_id(name).is_none()) {
            return Err(refuse("licenses", licence, &"SPDX has no licence of this name"));
        }
        for (key, count) in [("newest", config.newest), ("newest-per-range", config.newest_per_range)] {
            if count == Some(0) {
                return Err(refuse(key, "0", &"nothing is in; leave the key out for all"));
            }
        }
        let rust_version = config.rust_version.as_deref().map(|text| {
            rust_version(text).ok_or_else(|| refuse("rust-version", text, &"it is no version of Rust like 1.75"))
        });
        let of_dump = [
            ("max-size", config.max_size.is_some()),
            ("licenses", !config.licenses.is_empty()),
            ("min-downloads", config.min_downloads.is_some()),
            ("owners", !config.owners.is_empty()),
        ];
        if let Some((key, _)) = of_dump.iter().find(|(_, is_set)| *is_set && config.dump.is_none()) {
            return Err(PolicyError::NoDump(key));
        }
        let rust_version = rust_version.transpose()?;
        let (dump, advisories) = (OnceLock::new(), OnceLock::new());
        Ok(Policy { config, allow, deny, after, before, rust_version, dump, advisories })
    }

    /// Whether it keeps nothing out.
    pub fn is_empty(&self) -> bool {
        let PolicyConfig { dump, advisory_db, unknown, .. } = &self.config;
        let nothing = PolicyConfig {
            dump: dump.clone(),
            advisory_db: advisory_db.clone(),
            unknown: *unknown,
            ..PolicyConfig::default()
        };
        self.config == nothing && self.heeded().is_none()
    }

    /// Reads the advisories, if there are any and they are not read yet. That takes its time.
    pub fn prepare(&self) -> Result<(), PrepareError> {
        if let Some(path) = self.config.advisory_db.as_ref().filter(|_| self.advisories.get().is_none()) {
            self.heed(Advisories::read(path)?);
        }
        Ok(())
    }

    /// Reads the dump that lies at a path. That takes its time, too.
    pub fn read_dump(&self, path: &Path) -> Result<(), PrepareError> {
        let dump = Dump::read(path)?;
        self.dump.get_or_init(|| Arc::new(dump));
        Ok(())
    }

    /// Whether advisories are to be heeded, and no database was read yet.
    pub fn awaits_advisories(&self) -> bool {
        self.config.advisories != Heed::Off && self.advisories.get().is_none()
    }

    /// Whether it cannot do without a database, and none was read yet. What is said of malware alone is heeded where there is one.
    pub fn lacks_advisories(&self) -> bool {
        self.config.advisories != Heed::Malware && self.awaits_advisories()
    }

    /// Takes the advisories to heed, if it has none.
    pub fn heed(&self, advisories: Advisories) {
        self.advisories.get_or_init(|| Known { heeded: advisories.digest(self.config.advisories), all: advisories });
    }

    /// What is known of releases beside the index.
    pub fn dump(&self) -> Option<&Dump> {
        self.dump.get().map(|dump| &**dump)
    }

    /// A digest that is equal for equal rules that look things up in the same; none if there are none.
    pub fn digest(&self) -> Option<Blake3> {
        if self.is_empty() {
            return None;
        }
        let mut text = serde_json::to_vec(&self.config).expect("plain fields");
        text.extend(self.dump().into_iter().flat_map(|dump| dump.digest().0));
        text.extend(self.heeded().into_iter().flat_map(|advisories| advisories.0));
        Some(Blake3::of(&text))
    }

    /// A digest of the advisories that are heeded, if there are some.
    fn heeded(&self) -> Option<Blake3> {
        self.advisories.get()?.heeded
    }

    /// The advisories that were read.
    pub fn advisories(&self) -> Option<&Advisories> {
        self.advisories.get().map(|known| &known.all)
    }

    /// What the rules say of each row of an index file. `now` is in seconds since 1970.
    pub fn judge(&self, name: &CrateName, file: &IndexFile<'_>, now: u64) -> Vec<Verdict> {
        if self.is_empty() {
            return vec![Verdict::In; file.entries.len()];
        }
        let about = self.dump().and_then(|dump| dump.about(name));
        let mut verdicts: Vec<Verdict> =
            file.entries.iter().map(|entry| self.look(name, entry, about, now.cast_signed())).collect();
        if self.config.newest.is_some() || self.config.newest_per_range.is_some() {
            self.count(file, &mut verdicts);
        }
        verdicts
    }

    /// The rules that look at one release alone.
    fn look(&self, name: &CrateName, entry: &Entry<'_>, about: Option<&About>, now: i64) -> Verdict {
        let version = Version::parse(entry.version.as_str()).ok();
        let is_named = |list: &[Named]| list.iter().any(|named| named.is(name, version.as_ref()));
        if !self.allow.is_empty() && !is_named(&self.allow) {
            return Verdict::Out("allow");
        }
        if is_named(&self.deny) {
            return Verdict::Out("deny");
        }
        let fields: Fields<'_> = serde_json::from_slice(entry.line).unwrap_or_default();
        let of_version = about.and_then(|about| about.versions.get(entry.version.as_str()));
        let config = &self.config;
        let published = fields.pubtime.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
        let published = published.map(Timestamp::as_second).or_else(|| of_version.and_then(|known| known.created));
        // Each: whether the rule is there, its name, and whether it lets the release in, as far as that is known.
        let rust_version = fields.rust_version.as_deref().and_then(rust_version);
        let rules = [
            (self.after.is_some(), "published-after", published.map(|time| self.after.is_none_or(|day| time >= day))),
            (self.before.is_some(), "published-before", published.map(|time| self.before.is_none_or(|day| time < day))),
            (
                config.max_size.is_some(),
                "max-size",
                of_version.map(|known| config.max_size.is_none_or(|most| known.size <= most.as_u64())),
            ),
            (
                !config.licenses.is_empty(),
                "licenses",
                of_version.and_then(|known| known.licence.as_deref()).and_then(|text| self.accepts(text)),
            ),
            (
                config.min_downloads.is_some(),
                "min-downloads",
                about.map(|about| config.min_downloads.is_none_or(|least| about.downloads >= least)),
            ),
            (
                !config.owners.is_empty(),
                "owners",
                about
                    .map(|about| about.owners.iter().any(|owner| config.owners.iter().any(|named| **named == **owner))),
            ),
        ];
        for (is_set, rule, lets_in) in rules {
            if is_set && !lets_in.unwrap_or(config.unknown == Unknown::In) {
                return Verdict::Out(rule);
            }
        }
        let keeps_out = |advisories: &Advisories| advisories.keeps_out(config.advisories, name, &entry.version);
        if self.advisories().is_some_and(keeps_out) {
            return Verdict::Out("advisories");
        }
        // What does not say which Rust it needs claims to build with any.
        if let (Some(most), Some(needed)) = (self.rust_version, rust_version)
            && needed > most
        {
            return Verdict::Out("rust-version");
        }
        match (config.cool_down, published) {
            (None, _) => Verdict::In,
            (Some(_), None) if config.unknown == Unknown::In => Verdict::In,
            (Some(_), None) => Verdict::Out("cool-down"),
            (Some(time), Some(published)) => {
                let enters = published.saturating_add_unsigned(time.as_secs());
                if enters <= now { Verdict::In } else { Verdict::Until(enters) }
            }
        }
    }

    /// Whether a release with this licence may enter; none if that says nothing.
    fn accepts(&self, licence: &str) -> Option<bool> {
        let expression = Expression::parse_mode(licence, ParseMode::LAX).ok()?;
        Some(expression.evaluate(|requirement| {
            let id = requirement.license.id();
            id.is_some_and(|id| self.config.licenses.iter().any(|name| spdx::license_id(name) == Some(id)))
        }))
    }

    /// Keeps the newest of those that are in.
    fn count(&self, file: &IndexFile<'_>, verdicts: &mut [Verdict]) {
        let mut order: Vec<(Version, usize)> = Vec::new();
        for (at, entry) in file.entries.iter().enumerate() {
            if verdicts[at] == Verdict::In
                && !entry.yanked
                && let Ok(version) = Version::parse(entry.version.as_str())
            {
                order.push((version, at));
            }
        }
        order.sort_by(|one, other| other.cmp(one));
        let (mut all, mut ranges) = (0, BTreeMap::new());
        for (version, at) in order {
            let in_range: &mut u32 = ranges.entry(super::closure::range(&version)).or_default();
            if self.config.newest_per_range.is_some_and(|most| *in_range >= most) {
                verdicts[at] = Verdict::Out("newest-per-range");
            } else if self.config.newest.is_some_and(|most| all >= most) {
                verdicts[at] = Verdict::Out("newest");
            } else {
                *in_range += 1;
                all += 1;
            }
        }
    }
}

impl Named {
    fn parse(text: &str) -> Result<Named, String> {
        let (name, requirement) = text.split_once('@').unwrap_or((text, "*"));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_*?".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            return Err("it is no name of a crate, with * for any letters".to_owned());
        }
        let name = glob::Pattern::new(&name.to_ascii_lowercase()).map_err(|error| error.to_string())?;
        let requirement = requirement.parse().map_err(|error: semver::Error| error.to_string())?;
        Ok(Named { name, requirement })
    }

    fn is(&self, name: &CrateName, version: Option<&Version>) -> bool {
        let fits =
            || self.requirement == VersionReq::STAR || version.is_some_and(|version| self.requirement.matches(version));
        self.name.matches(name.lower().as_str()) && fits()
    }
}

/// `1.75` or `1.75.0`, as numbers.
fn rust_version(text: &str) -> Option<[u64; 3]> {
    let mut numbers = [0; 3];
    let mut parts = text.split(['-', '+']).next()?.split('.');
    for number in &mut numbers {
        let Some(part) = parts.next() else { break };
        *number = part.parse().ok()?;
    }
    (parts.next().is_none() && numbers != [0; 3]).then_some(numbers)
}

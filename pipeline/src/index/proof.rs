//! Whether what is kept can be resolved from what is kept.
//!
//! Every release that cargo may pick has dependencies; each must have a release among the kept ones that fits it. That is
//! what is looked at, release by release: not whether some choice of them all goes together, which depends on the project.

use std::collections::HashMap;

use crateferry_store::CrateName;
use rayon::prelude::*;
use serde::Serialize;

use super::rows::{Dependency, Needs, RowRelease, Rows};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// Releases that were looked at: kept, and not yanked.
    pub releases: u64,
    /// Dependencies of these that a kept release fits.
    pub met: u64,
    /// Releases that cargo cannot pick, each with what it lacks.
    pub lacking: Vec<Lacking>,
    /// Releases that cargo can pick, but for features that need something else.
    pub without_features: Vec<Lacking>,
}

/// A release, and a dependency of it that nothing fits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Lacking {
    /// The crate.
    pub name: CrateName,
    /// Its version.
    pub version: String,
    /// The crate that it depends on.
    pub needs: String,
    /// What it requires of its version.
    pub requirement: String,
    /// Why nothing fits.
    pub why: String,
}

impl std::fmt::Display for Lacking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lacking { name, version, needs, requirement, why } = self;
        write!(f, "{name} {version} needs {needs} {requirement}: {why}")
    }
}

impl Proof {
    /// Whether every kept release can be resolved.
    pub fn holds(&self) -> bool {
        self.lacking.is_empty()
    }

    /// Looks at all releases that are kept.
    pub fn of(kept: &[(CrateName, Rows)]) -> Proof {
        let by_name: HashMap<CrateName, &Rows> = kept.iter().map(|(name, rows)| (name.lower(), rows)).collect();
        let each = kept.par_iter().map(|(name, rows)| {
            let mut proof = Proof::default();
            for release in rows.releases.iter().filter(|release| !release.yanked) {
                proof.releases += 1;
                proof.look(name, release, &by_name);
            }
            proof
        });
        let mut proof = each.reduce(Proof::default, Proof::with);
        proof.lacking.sort();
        proof.without_features.sort();
        proof
    }

    fn with(mut self, other: Proof) -> Proof {
        self.releases += other.releases;
        self.met += other.met;
        self.lacking.extend(other.lacking);
        self.without_features.extend(other.without_features);
        self
    }

    fn look(&mut self, name: &CrateName, release: &RowRelease, kept: &HashMap<CrateName, &Rows>) {
        let Needs { dependencies, foreign, .. } = &*release.needs;
        let lacking = |needs: &str, requirement: String, why: String| Lacking {
            name: name.clone(),
            version: release.spelled.to_string(),
            needs: needs.to_owned(),
            requirement,
            why,
        };
        for (registry, needs) in foreign {
            self.lacking.push(lacking(needs, "*".to_owned(), format!("it is of another registry, {registry}")));
        }
        for dependency in dependencies.iter().filter(|dependency| !dependency.dev) {
            let Some(why) = unmet(dependency, kept.get(&dependency.name).copied()) else {
                self.met += 1;
                continue;
            };
            let list = if dependency.optional { &mut self.without_features } else { &mut self.lacking };
            list.push(lacking(dependency.name.as_str(), dependency.requirement.to_string(), why));
        }
    }
}

/// Why no kept release fits a dependency, if none does.
fn unmet(dependency: &Dependency, kept: Option<&Rows>) -> Option<String> {
    let Some(rows) = kept else { return Some("no release of it is kept".to_owned()) };
    let fitting: Vec<&RowRelease> =
        rows.releases.iter().filter(|release| dependency.requirement.matches(&release.version)).collect();
    if fitting.is_empty() {
        return Some(format!("none of its {} kept releases fits", rows.releases.len()));
    }
    if fitting.iter().all(|release| release.yanked) {
        return Some("only yanked releases of it fit".to_owned());
    }
    let offers = |release: &&&RowRelease| dependency.features.iter().all(|feature| release.needs.offers(feature));
    let has_features = fitting.iter().filter(|release| !release.yanked).any(|release| offers(&release));
    (!has_features).then(|| format!("none that fits has its features {}", dependency.features.join(", ")))
}

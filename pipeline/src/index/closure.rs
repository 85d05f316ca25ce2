//! All that some dependencies need: a pure computation over index rows, which are given as they are asked for.
//!
//! A *demand* is what one dependency asks of a crate: a requirement, features, and how many of the releases that fit are
//! wanted. A release that fits is *taken*, and makes demands of its own: those of its dependencies, as far as its features
//! that anybody asked for turn them on. This is repeated until nothing new is demanded. What cargo can resolve from the
//! roots uses releases with features that some chain of dependencies asks for, so all of it is taken.
//!
//! With [`Closure::Newest`], each demand takes the newest fitting release of each range of compatible versions. Cargo picks
//! one release of such a range for all that ask for it. Requirements are ranges, so the smallest of the releases that are
//! newest for each of them fits them all, if any release does: it is taken too.

use std::collections::{BTreeSet, HashMap, VecDeque};

use cfg_expr::targets::{TargetInfo, get_builtin_target_by_triple};
use cfg_expr::{Expression, Predicate};
use crateferry_store::{Closure, CrateName, Features, Selection, SetName};
use semver::{Version, VersionReq};

use super::rows::{Needs, Rows, Turns};

/// Computes what is needed, and says which crates' rows it takes.
#[derive(Default)]
pub struct Closing {
    crates: Vec<Crate>,
    names: HashMap<CrateName, u32>,
    demands: Vec<Demand>,
    seen: HashMap<Asked, u32>,
    requirements: Kept<VersionReq>,
    features: Kept<Box<[Box<str>]>>,
    ways: Kept<Way>,
    due: VecDeque<u32>,
    lacking: Vec<CrateName>,
}

/// Values by number, each kept once.
struct Kept<T> {
    values: Vec<T>,
    numbers: HashMap<T, u32>,
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Kept { values: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Kept<T> {
    fn number(&mut self, value: &T) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let number = self.values.len() as u32;
        self.values.push(value.clone());
        self.numbers.insert(value.clone(), number);
        number
    }

    fn get(&self, number: u32) -> &T {
        &self.values[number as usize]
    }
}

/// How a root wants what it needs: the same for all that follows from it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Way {
    closure: Closure,
    /// None means all.
    targets: BTreeSet<String>,
}

struct Crate {
    name: CrateName,
    rows: Known,
    /// Demands upon it.
    demands: Vec<u32>,
    /// For each release: what is taken of it, by way.
    taken: Vec<Vec<Taken>>,
}

enum Known {
    NotYet,
    /// The index has no such crate.
    Absent,
    Rows(Rows),
}

/// A release that was taken, in one way.
struct Taken {
    way: u32,
    /// The first demand that took it.
    by: u32,
    features: Vec<bool>,
    dependencies: Vec<bool>,
    dev: bool,
}

/// A demand, to be made once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Asked {
    upon: u32,
    requirement: u32,
    features: u32,
    default: bool,
    /// All features, those for tests too.
    all: bool,
    dev: bool,
    way: u32,
}

struct Demand {
    asked: Asked,
    from: Origin,
    /// Releases that fit it.
    fits: usize,
}

/// Where a demand comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A root: its set's place and its own.
    Root(u32, u32),
    /// The first release that makes it: its crate and its place there.
    Release(u32, u32),
}

/// What could not be met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The crate.
    pub name: CrateName,
    /// What is required of its version.
    pub requirement: String,
    /// Features that are asked for.
    pub features: Vec<String>,
    /// Whether the index has the crate at all.
    pub known: bool,
    /// Who asks: from a root on, a crate and its version each.
    pub chain: Vec<String>,
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Unmet { name, requirement, features, known, chain } = self;
        write!(f, "{name} {requirement}")?;
        if !features.is_empty() {
            write!(f, " with {}", features.join(", "))?;
        }
        let why = if *known { "no release fits" } else { "there is no such crate" };
        write!(f, ": {why}; needed by {}", chain.join(" -> "))
    }
}

/// A root's requirement that is none.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {requirement:?} is not a version requirement")]
pub struct BadRoot {
    name: CrateName,
    requirement: String,
    source: semver::Error,
}

impl Closing {
    /// What a selection's roots need.
    pub fn new(selection: &Selection) -> Result<Closing, BadRoot> {
        let mut closing = Closing::default();
        for (set, at) in selection.every_set().zip(0..) {
            for (root, place) in set.roots.iter().zip(0..) {
                let requirement = VersionReq::parse(&root.requirement).map_err(|source| BadRoot {
                    name: root.name.clone(),
                    requirement: root.requirement.clone(),
                    source,
                })?;
                let way = closing.ways.number(&Way { closure: root.closure, targets: root.targets.clone() });
                if !is_for(root.target.as_deref(), &closing.ways.get(way).targets) {
                    continue;
                }
                let (all, default, names) = match &root.features {
                    Features::All => (true, true, Vec::new()),
                    Features::Named { default, names } => {
                        (false, *default, names.iter().map(|name| (**name).into()).collect())
                    }
                };
                let asked = Asked {
                    upon: closing.number(&root.name),
                    requirement: closing.requirements.number(&requirement),
                    features: closing.features.number(&names.into()),
                    default,
                    all,
                    dev: root.dev,
                    way,
                };
                closing.demand(asked, Origin::Root(at, place));
            }
        }
        Ok(closing)
    }

    /// Goes as far as what is known allows, and says whose rows it lacks then, each crate once. None: all is known.
    pub fn lacking(&mut self) -> Vec<CrateName> {
        while let Some(demand) = self.due.pop_front() {
            self.meet(demand);
        }
        std::mem::take(&mut self.lacking)
    }

    /// Tells a crate's rows; none if the index has no such crate.
    pub fn tell(&mut self, name: &CrateName, rows: Option<Rows>) {
        let upon = self.number(name);
        let known = &mut self.crates[upon as usize];
        known.taken =
            std::iter::repeat_with(Vec::new).take(rows.as_ref().map_or(0, |rows| rows.releases.len())).collect();
        known.rows = rows.map_or(Known::Absent, Known::Rows);
        self.due.extend(&known.demands);
        self.lacking.retain(|lacking| lacking != name);
    }

    /// The releases that are needed, by crate.
    pub fn releases(&self) -> impl Iterator<Item = (&CrateName, BTreeSet<crateferry_store::Version>)> {
        self.crates.iter().filter_map(|of| {
            let Known::Rows(rows) = &of.rows else { return None };
            let taken = rows.releases.iter().zip(&of.taken).filter(|(_, taken)| !taken.is_empty());
            let versions: BTreeSet<_> = taken.map(|(release, _)| release.spelled.clone()).collect();
            (!versions.is_empty()).then_some((&of.name, versions))
        })
    }

    /// Demands that no release fits.
    pub fn unmet(&self, selection: &Selection) -> Vec<Unmet> {
        let unmet = self.demands.iter().filter(|demand| demand.fits == 0);
        unmet.map(|demand| self.describe(demand, selection)).collect()
    }

    /// Who needs a release: each way from a root to it that was found first, one for every demand that it fits.
    pub fn needed_by(
        &self,
        name: &CrateName,
        version: &crateferry_store::Version,
        selection: &Selection,
    ) -> Vec<Vec<String>> {
        let Some(of) = self.names.get(&name.lower()).map(|at| &self.crates[*at as usize]) else { return Vec::new() };
        let Known::Rows(rows) = &of.rows else { return Vec::new() };
        let Some(at) = rows.releases.iter().position(|release| release.spelled == *version) else { return Vec::new() };
        let demands = of.demands.iter().map(|demand| &self.demands[*demand as usize]);
        let fitting = demands.filter(|demand| self.picks(demand.asked, rows).contains(&at));
        fitting.map(|demand| self.chain(demand.from, selection)).collect()
    }

    fn describe(&self, demand: &Demand, selection: &Selection) -> Unmet {
        let Asked { upon, requirement, features, .. } = demand.asked;
        let of = &self.crates[upon as usize];
        Unmet {
            name: of.name.clone(),
            requirement: self.requirements.get(requirement).to_string(),
            features: self.features.get(features).iter().map(ToString::to_string).collect(),
            known: matches!(of.rows, Known::Rows(_)),
            chain: self.chain(demand.from, selection),
        }
    }

    /// From a root to where a demand comes from.
    fn chain(&self, mut from: Origin, selection: &Selection) -> Vec<String> {
        let mut chain = Vec::new();
        loop {
            match from {
                Origin::Root(set, _) => {
                    let name = (set as usize).checked_sub(1).and_then(|at| selection.sets.keys().nth(at));
                    chain.push(name.map_or_else(|| "the selection".to_owned(), |name: &SetName| format!("set {name}")));
                    chain.reverse();
                    return chain;
                }
                Origin::Release(upon, at) => {
                    let of = &self.crates[upon as usize];
                    let Known::Rows(rows) = &of.rows else { return chain };
                    chain.push(format!("{} {}", of.name, rows.releases[at as usize].spelled));
                    from = self.demands[of.taken[at as usize][0].by as usize].from;
                }
            }
        }
    }

    fn number(&mut self, name: &CrateName) -> u32 {
        if let Some(number) = self.names.get(name) {
            return *number;
        }
        let number = self.crates.len() as u32;
        let (rows, demands, taken) = (Known::NotYet, Vec::new(), Vec::new());
        self.crates.push(Crate { name: name.clone(), rows, demands, taken });
        self.names.insert(name.clone(), number);
        self.lacking.push(name.clone());
        number
    }

    fn demand(&mut self, asked: Asked, from: Origin) {
        let number = self.demands.len() as u32;
        if *self.seen.entry(asked).or_insert(number) != number {
            return;
        }
        self.demands.push(Demand { asked, from, fits: 0 });
        let upon = &mut self.crates[asked.upon as usize];
        upon.demands.push(number);
        if !matches!(upon.rows, Known::NotYet) {
            self.due.push_back(number);
        }
    }

    fn meet(&mut self, number: u32) {
        let asked = self.demands[number as usize].asked;
        let Known::Rows(rows) = &self.crates[asked.upon as usize].rows else { return };
        let picks = self.picks(asked, rows);
        self.demands[number as usize].fits = picks.len();
        for release in picks {
            self.take(number, asked, release);
        }
    }

    /// The places of the releases that a demand takes.
    fn picks(&self, asked: Asked, rows: &Rows) -> Vec<usize> {
        let (requirement, features) = (self.requirements.get(asked.requirement), self.features.get(asked.features));
        let fits = |at: &usize| {
            let release = &rows.releases[*at];
            !release.yanked
                && requirement.matches(&release.version)
                && features.iter().all(|feature| release.needs.offers(feature))
        };
        let fitting = (0..rows.releases.len()).filter(fits);
        match self.ways.get(asked.way).closure {
            Closure::Full => fitting.collect(),
            Closure::Newest => {
                let mut newest: HashMap<(u64, u64, u64), usize> = HashMap::new();
                for at in fitting {
                    let version = &rows.releases[at].version;
                    let best = newest.entry(range(version)).or_insert(at);
                    if *version > rows.releases[*best].version {
                        *best = at;
                    }
                }
                let mut newest: Vec<usize> = newest.into_values().collect();
                newest.sort_unstable();
                newest
            }
        }
    }

    /// Takes a release with the features of a demand, and demands what it needs for them.
    fn take(&mut self, demand: u32, asked: Asked, release: usize) {
        let Crate { rows: Known::Rows(rows), taken, .. } = &mut self.crates[asked.upon as usize] else { return };
        let needs = rows.releases[release].needs.clone();
        let of = &mut taken[release];
        let at = of.iter().position(|taken| taken.way == asked.way).unwrap_or_else(|| {
            of.push(Taken {
                way: asked.way,
                by: demand,
                features: vec![false; needs.count()],
                dependencies: vec![false; needs.dependencies.len()],
                dev: false,
            });
            of.len() - 1
        });
        let taken = &mut of[at];
        taken.dev |= asked.dev;
        let mut turning = Turning { needs: &needs, taken, wanted: Vec::new() };
        turning.always();
        if asked.all {
            turning.all();
        }
        if asked.default {
            turning.feature("default");
        }
        for feature in self.features.get(asked.features) {
            turning.feature(feature);
        }
        let (wanted, from) = (turning.wanted, Origin::Release(asked.upon, release as u32));
        for (dependency, feature) in wanted {
            self.follow(&needs, dependency, feature, asked.way, from);
        }
    }

    /// Demands a dependency, or a feature more of it.
    fn follow(&mut self, needs: &Needs, dependency: usize, feature: Option<Box<str>>, way: u32, from: Origin) {
        let dependency = &needs.dependencies[dependency];
        if !is_for(dependency.target.as_deref(), &self.ways.get(way).targets) {
            return;
        }
        let default = dependency.default_features && feature.is_none();
        let features = feature.map_or_else(|| dependency.features.clone(), |feature| Box::new([feature]));
        let asked = Asked {
            upon: self.number(&dependency.name),
            requirement: self.requirements.number(&dependency.requirement),
            features: self.features.number(&features),
            default,
            all: false,
            dev: false,
            way,
        };
        self.demand(asked, from);
    }
}

/// Turns features of a release on.
struct Turning<'a> {
    needs: &'a Needs,
    taken: &'a mut Taken,
    /// Dependencies that are newly wanted, or features of them.
    wanted: Vec<(usize, Option<Box<str>>)>,
}

impl Turning<'_> {
    /// What is needed without any feature.
    fn always(&mut self) {
        for (at, dependency) in self.needs.dependencies.iter().enumerate() {
            if !dependency.optional && (!dependency.dev || self.taken.dev) {
                self.dependency(at);
            }
        }
    }

    fn all(&mut self) {
        (0..self.needs.count()).for_each(|feature| self.numbered(feature));
        for (at, dependency) in self.needs.dependencies.iter().enumerate() {
            if !dependency.dev {
                self.dependency(at);
            }
        }
    }

    fn feature(&mut self, name: &str) {
        match self.needs.feature(name) {
            Some(feature) => self.numbered(feature),
            None => self.called(name),
        }
    }

    fn numbered(&mut self, feature: usize) {
        if std::mem::replace(&mut self.taken.features[feature], true) {
            return;
        }
        let needs = self.needs;
        for turns in needs.turns(feature) {
            match turns {
                Turns::Feature(name) => self.feature(name),
                Turns::Dependency(alias) => self.called(alias),
                Turns::Of(alias, feature) => {
                    // An optional dependency is turned on by the feature of its name, which may turn on more.
                    if needs.feature(alias).is_some() && needs.called(alias).any(|at| needs.dependencies[at].optional) {
                        self.feature(alias);
                    }
                    self.called(alias);
                    let called = needs.called(alias).filter(|at| !needs.dependencies[*at].dev || self.taken.dev);
                    self.wanted.extend(called.map(|at| (at, Some(feature.clone()))));
                }
            }
        }
    }

    fn called(&mut self, alias: &str) {
        for at in self.needs.called(alias) {
            if !self.needs.dependencies[at].dev || self.taken.dev {
                self.dependency(at);
            }
        }
    }

    fn dependency(&mut self, at: usize) {
        if !std::mem::replace(&mut self.taken.dependencies[at], true) {
            self.wanted.push((at, None));
        }
    }
}

/// Versions with the same range are compatible: cargo picks one of them for all.
pub(super) fn range(version: &Version) -> (u64, u64, u64) {
    match (version.major, version.minor, version.patch) {
        (0, 0, patch) => (0, 0, patch),
        (0, minor, _) => (0, minor, 0),
        (major, _, _) => (major, 0, 0),
    }
}

/// Whether a dependency on a platform counts for one of these targets. What cannot be read counts.
fn is_for(platform: Option<&str>, targets: &BTreeSet<String>) -> bool {
    let Some(platform) = platform.filter(|_| !targets.is_empty()) else { return true };
    if !platform.starts_with("cfg(") {
        return targets.contains(platform);
    }
    let Ok(expression) = Expression::parse(platform) else { return true };
    targets.iter().any(|target| target_info(target).is_none_or(|info| may_hold(&expression, info)))
}

/// What is known of a target; none for one that is not Rust's own.
pub fn target_info(target: &str) -> Option<&'static TargetInfo> {
    get_builtin_target_by_triple(target)
}

/// What flags of the compiler decide may hold or not.
fn may_hold(expression: &Expression, target: &TargetInfo) -> bool {
    let holds: Option<bool> = expression.eval(|predicate| match predicate {
        Predicate::Target(predicate) => Some(predicate.matches(target)),
        _ => None,
    });
    holds.unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use crateferry_store::{Root, Set, parse_index_file};
    use proptest::collection::{btree_map, vec};
    use proptest::prelude::*;

    use super::*;

    /// A made-up index: crate, version, and what each release depends on.
    type Index = BTreeMap<usize, BTreeMap<(u64, u64), Vec<(usize, usize)>>>;

    type Releases = BTreeSet<(usize, (u64, u64))>;

    const REQUIREMENTS: [&str; 6] = ["*", "^0.1", "^1", "^1.2", ">=0.2, <2", "~1.1"];

    fn index() -> impl Strategy<Value = Index> {
        let version = (0u64..3, 0u64..4);
        let needs = vec((0usize..8, 0usize..REQUIREMENTS.len()), 0..4);
        btree_map(0usize..8, btree_map(version, needs, 1..6), 1..8)
    }

    fn roots() -> impl Strategy<Value = Vec<(usize, usize)>> {
        vec((0usize..8, 0usize..REQUIREMENTS.len()), 1..4)
    }

    fn crate_name(number: usize) -> CrateName {
        format!("crate-{number}").parse().unwrap()
    }

    fn rows(name: usize, releases: &BTreeMap<(u64, u64), Vec<(usize, usize)>>) -> Rows {
        let lines = releases.iter().map(|((major, minor), needs)| {
            let deps = needs.iter().map(|(on, requirement)| {
                serde_json::json!({"name": crate_name(*on).as_str(), "req": REQUIREMENTS[*requirement]})
            });
            let deps: Vec<_> = deps.collect();
            let (name, cksum) = (crate_name(name).to_string(), "0".repeat(64));
            serde_json::json!({"name": name, "vers": format!("{major}.{minor}.0"), "deps": deps, "cksum": cksum})
                .to_string()
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        Rows::read(&parse_index_file(&crate_name(name), text.as_bytes()).entries)
    }

    fn closed(index: &Index, roots: &[(usize, usize)], closure: Closure) -> Releases {
        let root = |(name, requirement): &(usize, usize)| Root {
            name: crate_name(*name),
            requirement: REQUIREMENTS[*requirement].to_owned(),
            closure,
            features: Features::All,
            target: None,
            targets: BTreeSet::new(),
            dev: false,
        };
        let own = Set { roots: roots.iter().map(root).collect(), ..Set::default() };
        let mut closing = Closing::new(&Selection { own, ..Selection::default() }).unwrap();
        loop {
            let lacking = closing.lacking();
            if lacking.is_empty() {
                break;
            }
            for name in lacking {
                let number: usize = name.as_str().strip_prefix("crate-").unwrap().parse().unwrap();
                closing.tell(&name, index.get(&number).map(|releases| rows(number, releases)));
            }
        }
        let number = |name: &CrateName| name.as_str().strip_prefix("crate-").unwrap().parse().unwrap();
        let version = |text: &str| {
            let version = Version::parse(text).unwrap();
            (version.major, version.minor)
        };
        let releases = closing.releases();
        releases.flat_map(|(name, all)| all.into_iter().map(move |one| (number(name), version(one.as_str())))).collect()
    }

    /// The same said in the plainest way: what a dependency takes, until nothing is added.
    fn plainly(index: &Index, roots: &[(usize, usize)], closure: Closure) -> Releases {
        let (mut taken, mut due) = (Releases::new(), roots.to_vec());
        while let Some((name, requirement)) = due.pop() {
            let requirement: VersionReq = REQUIREMENTS[requirement].parse().unwrap();
            let fits = |(major, minor): &(u64, u64)| requirement.matches(&Version::new(*major, *minor, 0));
            let fitting: Vec<(u64, u64)> =
                index.get(&name).into_iter().flat_map(BTreeMap::keys).filter(|at| fits(at)).copied().collect();
            let of_range = |(major, minor): (u64, u64)| if major > 0 { (major, 0) } else { (0, minor) };
            for one in &fitting {
                let is_newest = fitting.iter().all(|other| of_range(*other) != of_range(*one) || other <= one);
                if (closure == Closure::Full || is_newest) && taken.insert((name, *one)) {
                    due.extend(&index[&name][one]);
                }
            }
        }
        taken
    }

    proptest! {
        #[test]
        fn a_closure_is_closed_and_has_nothing_that_nobody_needs(index in index(), roots in roots()) {
            for closure in [Closure::Full, Closure::Newest] {
                prop_assert_eq!(closed(&index, &roots, closure), plainly(&index, &roots, closure));
            }
        }

        #[test]
        fn more_roots_take_nothing_away_and_the_newest_are_among_all(index in index(), one in roots(), two in roots()) {
            let both = [one.clone(), two].concat();
            let (full, newest) = (closed(&index, &one, Closure::Full), closed(&index, &one, Closure::Newest));
            prop_assert!(newest.is_subset(&full));
            prop_assert!(full.is_subset(&closed(&index, &both, Closure::Full)));
            prop_assert!(newest.is_subset(&closed(&index, &both, Closure::Newest)));
        }
    }

    #[test]
    fn a_platform_counts_for_the_targets_that_it_is_and_where_nobody_can_tell() {
        let targets = |names: &[&str]| names.iter().map(ToString::to_string).collect::<BTreeSet<_>>();
        let linux = targets(&["x86_64-unknown-linux-gnu"]);
        for (platform, counts) in [
            ("cfg(unix)", true),
            ("cfg(windows)", false),
            ("cfg(not(windows))", true),
            ("cfg(any(target_os = \"macos\", target_env = \"gnu\"))", true),
            ("x86_64-unknown-linux-gnu", true),
            ("aarch64-unknown-linux-gnu", false),
            ("cfg(tokio_unstable)", true),
            ("cfg(not(tokio_unstable))", true),
            ("cfg(all(windows, tokio_unstable))", false),
            ("cfg(this is rubbish", true),
        ] {
            assert_eq!(is_for(Some(platform), &linux), counts, "{platform}");
        }
        assert!(is_for(Some("cfg(windows)"), &targets(&[])) && is_for(None, &linux));
        assert!(is_for(Some("cfg(windows)"), &targets(&["x86_64-unknown-linux-gnu", "x86_64-pc-windows-msvc"])));
    }
}

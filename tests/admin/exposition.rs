//! Reads the text of `OpenMetrics` and is pedantic about it.

use std::collections::{BTreeMap, BTreeSet};

/// Label names and values.
type Labels = BTreeMap<String, String>;

/// One metric with all its series.
#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub unit: Option<String>,
    pub samples: Vec<(String, Labels, f64)>,
}

/// Everything that a process exposes.
#[derive(Debug, Default)]
pub struct Exposition {
    pub families: BTreeMap<String, Family>,
}

impl Exposition {
    /// Panics at the first thing that is not as it should be.
    #[track_caller]
    pub fn parse(text: &str) -> Exposition {
        let body = text.strip_suffix("# EOF\n").expect("the text is whole");
        assert!(!body.contains("# EOF") && !body.contains('\r'));
        let mut exposition = Exposition::default();
        let mut current = String::new();
        for line in body.lines() {
            match line.strip_prefix("# ") {
                Some(described) => exposition.describe(&mut current, described),
                None => exposition.sample(&current, line),
            }
        }
        exposition.families.iter().for_each(|(name, family)| family.check(name));
        exposition
    }

    fn describe(&mut self, current: &mut String, line: &str) {
        let [what, name, text] = line.splitn(3, ' ').collect::<Vec<_>>().try_into().unwrap();
        assert!(is_name(name), "{name}");
        if what == "HELP" {
            assert!(!self.families.contains_key(name), "{name} is described twice");
            name.clone_into(current);
            self.families.insert(name.to_owned(), Family { help: text.to_owned(), ..Family::default() });
            return;
        }
        assert_eq!(name, current, "HELP comes first: {line}");
        let family = self.families.get_mut(name).unwrap();
        assert!(family.samples.is_empty(), "{line} comes too late");
        match what {
            "TYPE" => text.clone_into(&mut family.kind),
            "UNIT" => family.unit = Some(text.to_owned()),
            _ => panic!("{line}"),
        }
    }

    fn sample(&mut self, current: &str, line: &str) {
        let family = self.families.get_mut(current).unwrap_or_else(|| panic!("nobody described {line}"));
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}').unwrap())),
            None => (series, Labels::new()),
        };
        let suffix = name.strip_prefix(current).unwrap_or_else(|| panic!("{line} stands among {current}"));
        let allowed: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_bucket", "_sum", "_count"],
            kind => panic!("{current} has type {kind:?}"),
        };
        assert!(allowed.contains(&suffix), "{name} is no name for a {}", family.kind);
        family.samples.push((name.to_owned(), labels, value.parse().unwrap()));
    }

    /// The names of all series.
    pub fn series(&self) -> BTreeSet<String> {
        self.families.values().flat_map(|family| family.samples.iter().map(|(name, ..)| name.clone())).collect()
    }

    /// The name under which people know each metric, and its type.
    pub fn names(&self) -> BTreeMap<String, String> {
        let known = |(name, family): (&String, &Family)| match family.kind.as_str() {
            "counter" => (format!("{name}_total"), family.kind.clone()),
            "info" => (format!("{name}_info"), family.kind.clone()),
            _ => (name.clone(), family.kind.clone()),
        };
        self.families.iter().map(known).collect()
    }

    /// All values of a label of a metric.
    pub fn label_values(&self, family: &str, label: &str) -> BTreeSet<String> {
        self.families[family].samples.iter().filter_map(|(_, labels, _)| labels.get(label).cloned()).collect()
    }

    /// The value of one series.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut samples = self.families.values().flat_map(|family| &family.samples);
        let found = samples.find(|(sample, labels, _)| sample == name && *labels == wanted);
        found.unwrap_or_else(|| panic!("there is no {name} {wanted:?}")).2
    }
}

impl Family {
    fn check(&self, name: &str) {
        assert!(!self.help.is_empty() && self.help.ends_with('.'), "{name} says: {}", self.help);
        assert!(!self.samples.is_empty(), "{name} has no value");
        if let Some(unit) = &self.unit {
            assert!(name.ends_with(&format!("_{unit}")), "{name} is in {unit}");
            assert!(["seconds", "bytes"].contains(&unit.as_str()), "{unit} is no base unit");
        }
        let series: BTreeSet<_> = self.samples.iter().map(|(name, labels, _)| (name, labels)).collect();
        assert_eq!(series.len(), self.samples.len(), "{name} has a series twice");
        assert!(self.samples.iter().all(|(.., value)| *value >= 0.0), "{name}: {:?}", self.samples);
        if self.kind == "histogram" {
            self.check_buckets(name);
        }
    }

    fn check_buckets(&self, name: &str) {
        let mut by_series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for (_, labels, value) in self.samples.iter().filter(|(sample, ..)| sample.ends_with("_bucket")) {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            by_series.entry(labels).or_default().push((bound, *value));
        }
        for (labels, buckets) in by_series {
            assert!(buckets.is_sorted() && buckets.is_sorted_by_key(|(_, count)| *count), "{name} {buckets:?}");
            let (bound, all) = *buckets.last().unwrap();
            let count = format!("{name}_count");
            let count = self.samples.iter().find(|(sample, of, _)| *sample == count && *of == labels).unwrap().2;
            assert!(bound.is_infinite() && (all - count).abs() < 0.5, "{name} {labels:?}");
        }
    }
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Nothing here needs escapes, so none are understood.
fn parse_labels(text: &str) -> Labels {
    let label = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap();
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap();
        assert!(is_name(name) && !value.contains(['"', '\\']), "{pair}");
        (name.to_owned(), value.to_owned())
    };
    text.split(',').map(label).collect()
}

//! Finds the names of metrics in a query.

use std::collections::BTreeSet;

const WORDS: [&str; 12] =
    ["by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset", "inf"];

/// The metrics that a query names: every name that is neither a function, a word of the language, a label nor a variable.
pub fn metrics(query: &str) -> BTreeSet<String> {
    let query = without(&without(query, '{', '}'), '[', ']');
    let mut found = BTreeSet::new();
    let mut rest = query.as_str();
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_alphabetic() || letter == '_' || letter == '$') {
        let end = |letter: char| !(letter.is_ascii_alphanumeric() || "_:$".contains(letter));
        let from = &rest[at..];
        let (name, behind) = from.split_at(from.find(end).unwrap_or(from.len()));
        let behind = behind.trim_start();
        // Numbers like 1e3 and durations like 5m begin with a digit.
        let is_number = rest[..at].ends_with(|letter: char| letter.is_ascii_digit());
        rest = behind;
        // `sum by (label) (...)`: a function, with labels before what it is of.
        let is_function = ["(", "by", "without"].iter().any(|next| behind.starts_with(next));
        if ["by", "without", "on", "ignoring"].contains(&name) {
            rest = behind.split_once(')').expect("a list of labels ends").1;
        } else if !(is_number || name.starts_with('$') || is_function || WORDS.contains(&name)) {
            found.insert(name.to_owned());
        }
    }
    found
}

fn without(query: &str, open: char, close: char) -> String {
    let mut kept = String::new();
    for part in query.split(open) {
        kept.push_str(if kept.is_empty() { part } else { part.split_once(close).map_or(part, |(_, behind)| behind) });
        kept.push(' ');
    }
    kept
}

#[test]
fn names_of_metrics_are_found_in_queries() {
    let found = |query| metrics(query).into_iter().collect::<Vec<_>>();
    assert_eq!(found("sum by (route) (rate(a_total{x=~\"b|c\"}[5m])) / on(y) b > bool 1e3"), ["a_total", "b"]);
    assert_eq!(found("histogram_quantile(0.99, sum by (le) (rate(h_bucket[$__rate_interval])))"), ["h_bucket"]);
    assert_eq!(found("time() - a_seconds{instance=~\"$instance\"}"), ["a_seconds"]);
}

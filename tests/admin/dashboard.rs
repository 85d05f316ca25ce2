//! What is documented and drawn is what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use crate::exposition::Exposition;
use crate::{held_up_sync, metrics, mirrored, promql, serve};

/// What a server and a sync expose.
fn both() -> [Exposition; 2] {
    let (_registry, ferry) = mirrored();
    let (_server, admin) = serve(&ferry);
    let served = metrics(&admin);
    let (registry, _ferry, running, admin) = held_up_sync();
    let synced = metrics(&admin);
    registry.heal().let_go();
    running.wait().expect(0);
    [served, synced]
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Calls `take` with every text under this key, however deep.
fn each_text(value: &Value, key: &str, take: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| match value {
            Value::String(text) if name == key => take(text),
            value => each_text(value, key, take),
        }),
        Value::Array(values) => values.iter().for_each(|value| each_text(value, key, take)),
        _ => {}
    }
}

/// The rows of the table of metrics: name and type.
fn documented(page: &str) -> BTreeMap<String, String> {
    let (_, section) = page.split_once("\n## Monitoring\n").expect("there is a section");
    let section = section.split("\n## ").next().unwrap();
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
        let (name, kind) = (cells.next()?.trim_end_matches('`').to_owned(), cells.next()?.to_owned());
        ["counter", "gauge", "histogram", "info"].contains(&kind.as_str()).then_some((name, kind))
    };
    section.lines().filter_map(row).collect()
}

#[test]
fn the_dashboard_and_the_manual_know_all_metrics_and_no_others() {
    let both = both();
    let series: BTreeSet<String> = both.iter().flat_map(Exposition::series).collect();
    let dashboard: Value = serde_json::from_str(&read("docs/grafana/crateferry.json")).unwrap();
    let mut drawn = BTreeSet::new();
    each_text(&dashboard, "expr", &mut |query| {
        let named = promql::metrics(query);
        assert!(!named.is_empty(), "{query} shows nothing");
        drawn.extend(named);
    });
    each_text(&dashboard["templating"], "query", &mut |query| {
        let list = query.strip_prefix("label_values(").and_then(|rest| rest.split_once(','));
        drawn.extend(list.map(|(name, _)| name.to_owned()));
    });
    assert!(drawn.len() > 25, "{drawn:?}");
    assert_eq!(drawn.difference(&series).collect::<Vec<_>>(), Vec::<&String>::new(), "the dashboard is behind");

    let names: BTreeMap<String, String> = both.iter().flat_map(Exposition::names).collect();
    assert_eq!(documented(&read("docs/operating.md")), names, "the manual is not up to date");
}

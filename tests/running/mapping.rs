//! The table for those who come from the earlier tool: each of its commands is run, and shows what its row says.

use std::path::Path;

use crateferry_test_support::{Fault, Registry};
use serde_json::json;

use crate::common::copy_folder;
use crate::desk::Desk;
use crate::documents::{quoted, read, rows};

/// A registry, and a desk with the files that the page speaks of.
fn prepared() -> Desk {
    let registry = Registry::new();
    registry.release("serde", "1.0.0").release("serde", "1.0.1").release("syn", "2.0.0").release("a-bcd", "1.0.0");
    registry.release("busy", "1.0.0").release("limited", "1.0.0").release("slow", "1.0.0");
    registry.release("old", "1.0.0").release("old", "1.1.0").yank("old", "1.1.0");
    let desk = Desk::with(registry);
    let (registry, project) = (&desk.registry, desk.project());
    registry.write_folder(&project.join("index"));
    let url = registry.crate_url("serde", "1.0.0");
    std::fs::write(project.join("urls.txt"), format!("{url}\n")).unwrap();
    let checksum = json!({ "url": url, "sha256": registry.checksum("serde", "1.0.0") });
    std::fs::write(project.join("checksums.jsonl"), format!("{checksum}\n")).unwrap();
    let mut manifest = String::new();
    for (name, version, path) in
        [("serde", "1.0.0", "old/s/er/serde-1.0.0.crate"), ("syn", "2.0.0", "old/syn/syn-2.0.0.crate")]
    {
        let bytes = registry.crate_bytes(name, version);
        desk.put(path, &bytes);
        let (size, sha256) = (bytes.len(), registry.checksum(name, version));
        let line = json!({
            "schema_version": 1, "url": registry.crate_url(name, version), "path": path, "size": size, "sha256": sha256,
            "started_at": "2025-01-01T00:00:00Z", "finished_at": "2025-01-01T00:00:01Z", "ok": true, "error": "",
            "retries": 0, "status": 200,
        });
        manifest += &line.to_string();
        manifest.push('\n');
    }
    desk.put("manifest.jsonl", manifest.as_bytes());
    desk.follow("crateferry sync ./mirror --crate serde");
    desk
}

/// What a row may do to the registry, so that each finds it as the others did.
fn mishaps(registry: &Registry) {
    registry.heal();
    registry.fault("busy", "1.0.0", Fault::status(503).once());
    registry.fault("limited", "1.0.0", Fault::status(429).times(2));
    registry.fault("slow", "1.0.0", Fault::status(503).times(2));
}

/// A command of the page, with the made-up registry in the place of the hosts that it names.
fn here(command: &str, registry: &Registry) -> String {
    let base = registry.crate_url("serde", "1.0.0");
    let (base, _) = base.split_once("/serde/").unwrap();
    command
        .replace("https://github.com/rust-lang/crates.io-index", &registry.git_file_url())
        .replace("https://crates.example/crates", &format!("{base}/{{crate}}/{{crate}}-{{version}}.crate"))
}

#[test]
fn every_command_shows_what_its_row_says() {
    let desk = prepared();
    let pristine = desk.folder.path().join("pristine");
    copy_folder(&desk.project(), &pristine);
    let rows = rows(&read("docs/coming-from-the-earlier-tool.md"));
    let mut run = 0;
    let mut wrong = Vec::new();
    for row in &rows {
        let [earlier, _, command, shown] = &row[..] else { panic!("a row of another shape: {row:?}") };
        let [command] = &quoted(command)[..] else {
            assert!(command.is_empty() && shown.is_empty(), "one command a row: {row:?}");
            continue;
        };
        std::fs::remove_dir_all(desk.project()).unwrap();
        copy_folder(&pristine, &desk.project());
        mishaps(&desk.registry);
        let shown = quoted(shown);
        assert!(!shown.is_empty(), "{earlier}: nothing to see");
        match desk.try_follow(&here(command, &desk.registry)) {
            Err(problem) => wrong.push(format!("{earlier}: {problem}")),
            Ok(said) => {
                let is_there = |seen: &String| match seen.strip_prefix("./") {
                    Some(path) => is_something(&desk.project().join(path)),
                    None => said.contains(seen),
                };
                let lacking: Vec<&String> = shown.iter().filter(|seen| !is_there(seen)).collect();
                if !lacking.is_empty() {
                    wrong.push(format!("{earlier}: {lacking:?} is not to be seen\n{command}\n{said}"));
                }
            }
        }
        run += 1;
    }
    assert!(wrong.is_empty(), "{} of {run} rows:\n{}", wrong.len(), wrong.join("\n\n"));
    assert!(run > 35, "{run} rows");
}

/// A file with something in it, or a folder.
fn is_something(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.is_dir() || metadata.len() > 0)
}

/// Everything that the earlier tool took or wrote has its row.
#[test]
fn no_option_of_the_earlier_tool_is_forgotten() {
    let page = read("docs/coming-from-the-earlier-tool.md");
    let options = "--index-dir --output-dir --threads --non-interactive --skip-index-update -index-dir -list -crates-base-url \
                   -include-yanked -limit -concurrency -timeout -retries -retry-base -retry-max -max-conns-per-host \
                   -max-idle-conns -idle-timeout -tls-timeout -checksums -manifest -bundle -bundle-size-gb -bundles-out -dry-run -progress-interval \
                   -progress-every -log-format -log-level -listen -out-dir -out-prefix -hash-workers -fail-fast -gpgkey /metrics \
                   /debug/pprof/ /api/status";
    let rows = rows(&page);
    for option in options.split_whitespace() {
        let has =
            rows.iter().any(|row| quoted(&row[0]).iter().any(|said| said.split([' ', ':']).any(|word| word == option)));
        assert!(has, "{option} has no row");
    }
}

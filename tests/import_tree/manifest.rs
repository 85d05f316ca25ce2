//! The earlier tool's log beside the files that it wrote.

use crateferry_test_support::{Registry, sha256};
use serde_json::{Value, json};

use crate::common::{Ferry, Ran};
use crate::{file_name, graph, holds_all, import, put, put_all, tree, wanting};

/// A line as the earlier tool wrote them.
fn line(path: &str, bytes: &[u8]) -> String {
    let line = json!({
        "schema_version": 1, "url": format!("https://host/{path}"), "path": path, "size": bytes.len(),
        "sha256": sha256(bytes), "started_at": "2024-01-01T00:00:00Z", "finished_at": "2024-01-01T00:00:01Z",
        "ok": true, "error": "", "retries": 0, "status": 200
    });
    format!("{line}\n")
}

const FAILED: &str = "{\"schema_version\":1,\"url\":\"https://host/x\",\"path\":\"out/none-1.0.0.crate\",\"size\":0,\"sha256\":\"\",\
    \"started_at\":\"\",\"finished_at\":\"\",\"ok\":false,\"error\":\"404\",\"retries\":6,\"status\":404}\n";

/// The log of all crate files of a registry, which were downloaded into `/data/out`.
fn log_of(registry: &Registry) -> String {
    let ids = registry.release_ids();
    ids.iter()
        .map(|(name, version)| {
            line(&format!("/data/out/{}", path(name, version)), &registry.crate_bytes(name, version))
        })
        .collect()
}

fn path(name: &str, version: &str) -> String {
    format!("{}/{}", &name[..1], file_name(name, version))
}

fn check(ferry: &Ferry, log: &str) -> Ran {
    let manifest = ferry.beside("manifest.jsonl");
    std::fs::write(&manifest, log).unwrap();
    import(ferry, &["--manifest", manifest.to_str().unwrap()])
}

/// What differs: line, kind, problem.
fn differences(ran: &Ran) -> Vec<(u64, String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let one = |differs: &Value| (differs["line"].as_u64().unwrap(), text(&differs["kind"]), text(&differs["problem"]));
    ran.json()["manifest"]["list"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn a_log_that_is_right_about_all_files_is_said_to_be() {
    let registry = graph();
    let ferry = wanting(&registry);
    let files = put_all(&ferry, &registry, path);
    let said = check(&ferry, &format!("{FAILED}{}\n", log_of(&registry))).expect(0).json();
    let manifest = &said["manifest"];
    assert_eq!(
        (&manifest["same"], &manifest["failed_attempts"], &manifest["differences"]),
        (&json!(files), &json!(1), &json!(0))
    );
    assert_eq!((&said["placed"], &said["held"], &said["files"]), (&json!(files), &json!(0), &json!(files)), "{said}");
    holds_all(&ferry, &registry);
    let said = check(&ferry, &log_of(&registry)).expect(0).json();
    assert_eq!((&said["manifest"]["same"], &said["placed"], &said["held"]), (&json!(files), &json!(0), &json!(files)));
}

#[test]
fn each_difference_is_named_with_its_line() {
    let registry = graph();
    let ferry = wanting(&registry);
    put_all(&ferry, &registry, path);
    put(&ferry, "odd-1.0.0.crate", b"now");
    let log = [
        line(&path("abc", "1.0.0"), b"another size than it has"),
        line("odd-1.0.0.crate", b"was"),
        line("gone-1.0.0.crate", b"was"),
        line("../../etc/passwd", b"was"),
        "{\"schema_version\":1,\"ok\":true,\"path\":\n".to_owned(),
        "\n".to_owned(),
        "{\"schema_version\":9,\"ok\":true}\n".to_owned(),
        line(&path("a", "1.0.0"), &registry.crate_bytes("a", "1.0.0")),
        "{\"torn\":tr".to_owned(),
    ];
    let ran = check(&ferry, &log.concat()).expect(1);
    let found = differences(&ran);
    let kinds: Vec<(u64, &str)> = found.iter().map(|(line, kind, _)| (*line, kind.as_str())).collect();
    let expected = [
        (1, "size"),
        (2, "sha256"),
        (3, "missing"),
        (4, "missing"),
        (5, "malformed"),
        (7, "malformed"),
        (9, "malformed"),
    ];
    assert_eq!(kinds, expected);
    assert!(found[1].2.contains(&sha256(b"was")) && found[1].2.contains(&sha256(b"now")), "{found:?}");
    assert!(found[5].2.contains("schema_version is 9"), "{found:?}");
    let said = ran.json();
    assert_eq!((&said["placed"], &said["left_out"]), (&json!(8), &json!(1)), "the index decides, not the log: {said}");
    let manifest = ferry.beside("manifest.jsonl").display().to_string();
    let from = tree(&ferry).display().to_string();
    let said = ferry.run("import-tree", &[&from, "--manifest", &manifest]).expect(1).stdout;
    assert!(said.contains("manifest    1 file as logged; 0 failed attempts; 7 differences"), "{said}");
    assert!(said.contains("line 3: gone-1.0.0.crate: there is no such file"), "{said}");
}

#[test]
fn files_that_the_log_does_not_name_are_taken_over_too() {
    let registry = graph();
    let ferry = wanting(&registry);
    let files = put_all(&ferry, &registry, path);
    let log = line(&path("abc", "1.0.0"), &registry.crate_bytes("abc", "1.0.0"));
    let said = check(&ferry, &log.repeat(3)).expect(0).json();
    assert_eq!(
        (&said["manifest"]["same"], &said["placed"], &said["held"]),
        (&json!(3), &json!(files), &json!(0)),
        "{said}"
    );
    holds_all(&ferry, &registry);
}

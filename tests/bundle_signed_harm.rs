//! What a bundle can do that a pinned key signed: the key was stolen, or its owner errs. And what becomes of a replica that hears
//! nothing for a long time.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Server;
use common::gap::{Gap, generation, medium, sign, volumes};
use crateferry_test_support::Registry;
use serde_json::{Value, json};

/// A copy of a bundle in which something else stands, signed with the same key by the real minisign.
fn changed(gap: &Gap, name: &str, bundle: &Path, key: &Path, changes: &Value) -> PathBuf {
    let copy = medium(gap, name, bundle, &volumes(bundle));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/resign.py");
    let mut input = tempfile::tempfile().unwrap();
    input.write_all(changes.to_string().as_bytes()).unwrap();
    input.rewind().unwrap();
    let output = Command::new("python3").arg(script).arg(&copy).stdin(input).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    sign(key, &copy.join("manifest.json"));
    copy
}

#[test]
fn a_huge_generation_number_from_a_stolen_key_is_overcome_by_a_new_epoch_with_a_new_key() {
    let gap = Gap::new();
    let file = |name: &str| gap.origin.beside(name).to_str().unwrap().to_owned();
    let (anna, far, mirror) = (gap.key.to_str().unwrap().to_owned(), file("far"), file("mirror"));
    gap.crateferry(&["keygen", "--out", &file("ben")]).expect(0);
    gap.crateferry(&["keys", "set", &mirror, "--key", &gap.trust(), "--sign", &anna]).expect(0);
    let (full, made) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    gap.change(0);
    let (delta, next) = gap.create("delta", &["--since", &generation(&made)]);
    let beyond = changed(&gap, "beyond", &delta, &gap.key, &json!({ "generation": u64::MAX }));
    gap.apply("far", &beyond).expect_error(3, "a number that no mirror comes to");
    let forged = changed(&gap, "forged", &delta, &gap.key, &json!({ "generation": 1_u64 << 62 }));
    let apply = |bundle: &Path| gap.crateferry(&["bundle", "apply", &far, bundle.to_str().unwrap()]);
    apply(&forged).expect(0);
    assert_eq!(gap.far("far", "status").expect(0).json()["generation"], 1_u64 << 62);
    // What the origin makes from then on looks old.
    apply(&delta).expect_error(3, "never goes back");
    gap.change(1);
    let (later, _) = gap.create("later", &["--since", &generation(&next)]);
    assert_ne!(apply(&later).code, Some(0));
    gap.crateferry(&["rebuild", &mirror, "--new-epoch"]).expect(0);
    let ben = format!("{}.pub", file("ben"));
    gap.crateferry(&["keys", "set", &mirror, "--key", &ben, "--sign", &anna, &file("ben")]).expect(0);
    gap.change(2);
    let create = |out: &str, key: &str| {
        let arguments = ["bundle", "create", &mirror, "--full", "--out", &file(out), "--sign", key];
        gap.crateferry(&arguments).expect(0);
        gap.origin.beside(out)
    };
    apply(&create("stolen-key", &anna)).expect_error(3, "key list 2 counts");
    apply(&create("new-key", &file("ben"))).expect(0);
    gap.serves_the_same("far", &gap.origin.status());
    // Once more it changes nothing, and the stolen key makes nothing newer.
    apply(&forged).expect(0);
    let farther = changed(&gap, "farther", &delta, &gap.key, &json!({ "generation": (1_u64 << 62) + 1 }));
    assert_eq!(apply(&farther).code, Some(3));
    gap.serves_the_same("far", &gap.origin.status());
}

#[test]
fn a_replica_that_hears_nothing_for_weeks_says_how_old_it_is_and_goes_on_serving() {
    let gap = Gap::new();
    let (full, _) = gap.create("full", &["--full"]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let published = now - 40 * 24 * 60 * 60;
    let old = changed(&gap, "old", &full, &gap.key, &json!({ "published_at": published }));
    gap.apply("far", &old).expect(0);
    let told = gap.far("far", "status").expect(0).json()["published_at"].to_string();
    assert!(told.contains(&jiff::Timestamp::from_second(published.cast_signed()).unwrap().to_string()), "{told}");
    let far = gap.origin.beside("far");
    let told = gap.crateferry(&["status", far.to_str().unwrap()]).expect(0).stdout;
    assert!(told.contains(", 1 month ago"), "{told}");
    let mut command = common::program();
    command.arg("serve").arg(&far).args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let server = Server::ready(gap.origin.start(command));
    let log = server.log();
    let (_, admin) = log.split_once("metrics and status are on http://").unwrap();
    let admin = admin.split_whitespace().next().unwrap();
    let get = |url: String| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { reqwest::get(url).await.unwrap().error_for_status().unwrap().text().await.unwrap() })
    };
    let metrics = get(format!("http://{admin}/metrics"));
    let line = format!("crateferry_mirror_published_timestamp_seconds {published}");
    assert!(metrics.contains(&line), "{metrics}");
    let (name, _) = gap.registry.release_ids()[0].clone();
    assert!(get(server.url(&format!("/index/{}", crateferry_test_support::index_path(&name)))).contains(&name));
    assert!(get(server.url("/")).contains("since the last publication"));
}

#[test]
fn rows_that_a_pinned_key_signed_and_that_are_none_or_have_no_crate_file_are_named_and_not_served() {
    let registry = Registry::new();
    registry.release("good", "1.0.0").release("victim", "1.0.0");
    let gap = Gap::of(registry, &["--all"]);
    let (full, _) = gap.create("full", &["--full", "--level", "none"]);
    let [row, foreign] = ["victim", "good"].map(|name| gap.registry.row(name, "1.0.0").trim_end().to_owned());
    let bare = |version: &str| row.replace("\"vers\":\"1.0.0\"", &format!("\"vers\":{}", json!(version)));
    let other = row.replace(&gap.registry.checksum("victim", "1.0.0"), &"0".repeat(64));
    let no_row = |line: &str| (format!("{row}\n{line}\n"), "line 2 of the index file of victim, which cannot be used");
    let cases = [
        ("unheld", (format!("{row}\n{}\n", bare("1.0.1")), "victim 1.0.1")),
        ("checksum", (format!("{other}\n"), "victim 1.0.0")),
        ("traversal", no_row(&bare("../../etc/passwd"))),
        ("nul", no_row("\0")),
        ("json", no_row("{\"name\":")),
        ("bom", no_row(&format!("\u{feff}{row}"))),
        ("name", no_row(&foreign)),
        ("duplicate", no_row(&row)),
        ("long", no_row(&bare(&"9".repeat(4 << 20)))),
        ("deep", no_row(&"[".repeat(200_000))),
    ];
    for (case, (text, named)) in cases {
        let hostile = changed(&gap, case, &full, &gap.key, &json!({ "texts": { "victim": text } }));
        let far = format!("far-{case}");
        let applied = gap.apply(&far, &hostile).expect(1).json();
        let lacking = applied["lacking"].to_string();
        assert!(lacking.contains(named), "{case}: {lacking}");
        assert_eq!(gap.far(&far, "status").expect(0).json()["generation"], 0, "{case}: nothing is served of it");
        gap.far(&far, "verify").expect(0);
        // What was right of it is held, and an honest bundle makes up for the rest.
        let mended = gap.apply(&far, &full).expect(0).json();
        assert_eq!((&mended["releases"], &mended["there"]), (&json!(0), &json!(2)), "{case}");
        gap.is_the_same(&far);
    }
    // The same way of changing bundles gives one that applies, where what stands in it is right.
    let honest = changed(&gap, "honest", &full, &gap.key, &json!({ "texts": { "victim": format!("{row}\n") } }));
    gap.apply("far-honest", &honest).expect(0);
    gap.is_the_same("far-honest");
}

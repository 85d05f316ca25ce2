//! What an operator says about releases against what the upstream says: quarantine, changed checksums, withdrawals.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use common::gap::Gap;
use common::project::{Project, named};
use common::{Ferry, Server, wait_until};
use crateferry_test_support::{Fault, Registry};
use serde_json::{Value, json};

/// A library that two versions of `tool` and one of `other` could be part of.
fn registry() -> Registry {
    let registry = Registry::new();
    registry.release("tool", "1.0.0").release("tool", "1.1.0").release("other", "1.0.0");
    registry
}

fn mirrored(registry: &Registry) -> Ferry {
    let ferry = Ferry::sparse(registry);
    ferry.sync(&["--crate", "tool", "other"]).expect(0);
    ferry
}

fn project(server: &Server, dependencies: &str) -> Project {
    Project::depending(&named(server, ""), dependencies)
}

/// The status of an answer, and its text.
fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request =
            headers.iter().fold(client.get(server.url(path)), |request, (name, value)| request.header(*name, *value));
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    })
}

const CRATE_FILE: &str = "/crates/tool/tool-1.1.0.crate";

fn quarantined(ferry: &Ferry) -> Value {
    ferry.run("quarantine", &["--json"]).expect(0).json()
}

#[test]
fn cargo_is_refused_what_is_in_quarantine_and_told_why() {
    let registry = registry();
    let ferry = mirrored(&registry);
    let server = ferry.serve(&[]);
    project(&server, "tool = \"1\"\n").cargo("fetch");
    let digest = ferry.digest();
    let reason = "a \"doubt\" about it, TICKET-7";
    ferry.run("quarantine", &["tool@1.1.0", "--reason", reason]).expect(0);
    wait_until("the server follows", || get(&server, CRATE_FILE, &[]).0 == 403);

    let said = project(&server, "tool = \"1\"\n").cargo_fails("fetch");
    assert!(said.contains("failed to download from `http://127.0.0.1"), "{said}");
    assert!(said.contains("403") && said.contains("tool 1.1.0 is in quarantine on this mirror since"), "{said}");
    assert!(said.contains("about it, TICKET-7"), "{said}");
    project(&server, "tool = \"=1.0.0\"\nother = \"1\"\n").cargo("fetch");
    assert_eq!(ferry.digest(), digest);
    let sum = registry.checksum("tool", "1.1.0");
    let tag = format!("\"{sum}\"");
    for path in [CRATE_FILE, &format!("/crates/tool/1.1.0/{sum}"), "/api/v1/crates/tool/1.1.0/download"] {
        assert_eq!(get(&server, path, &[]).0, 403, "{path}");
        assert_eq!(get(&server, path, &[("if-none-match", &tag)]).0, 403, "{path}");
        assert_eq!(get(&server, path, &[("range", "bytes=0-1")]).0, 403, "{path}");
    }
    let detail: Value = serde_json::from_str(&get(&server, CRATE_FILE, &[]).1).unwrap();
    assert!(detail["errors"][0]["detail"].as_str().unwrap().ends_with(reason), "{detail}");

    let shown = json!([{ "crate": "tool", "version": "1.1.0", "reason": reason }]);
    for mut list in [quarantined(&ferry), ferry.status()["quarantined"].clone()] {
        assert!(list[0].as_object_mut().unwrap().remove("at").unwrap().as_u64().unwrap() > 0);
        list[0].as_object_mut().unwrap().remove("downloaded");
        assert_eq!(list, shown);
    }
    assert!(ferry.run("status", &[]).expect(0).stdout.contains("quarantine  1; `crateferry quarantine` lists them"));
    let accept = [("accept", "text/html")];
    for path in ["/holes?show=quarantine", "/crates/tool"] {
        let page = get(&server, path, &accept).1;
        assert!(page.contains("a &#34;doubt&#34; about it, TICKET-7"), "{path}: {page}");
    }
    assert!(get(&server, "/", &accept).1.contains("1 crate or release is in quarantine."));
    assert!(ferry.run("receipt", &[]).expect(0).stdout.contains("\nmasked tool 1.1.0\n"));

    ferry.run("quarantine", &["tool@1.1.0", "--undo"]).expect(0);
    wait_until("the server follows", || get(&server, CRATE_FILE, &[]).0 == 200);
    project(&server, "tool = \"1\"\n").cargo("fetch");
    assert_eq!(quarantined(&ferry), json!([]));
}

#[test]
fn a_crate_in_quarantine_is_withheld_with_what_comes_later() {
    let registry = registry();
    let ferry = mirrored(&registry);
    ferry.run("quarantine", &["TOOL", "--reason", "malware"]).expect(0);
    ferry.run("quarantine", &["tool@1.0.0", "--reason", "also this"]).expect(0);
    registry.release("tool", "1.2.0");
    ferry.sync(&[]).expect(0);
    let server = ferry.serve(&[]);
    let status = |version: &str| get(&server, &format!("/crates/tool/tool-{version}.crate"), &[]).0;
    assert_eq!(["1.0.0", "1.2.0", "9.9.9"].map(status), [403, 403, 404]);
    assert_eq!(get(&server, "/crates/other/other-1.0.0.crate", &[]).0, 200);
    ferry.run("quarantine", &["tool", "--undo"]).expect(0);
    wait_until("the server follows", || status("1.2.0") == 200);
    assert_eq!(status("1.0.0"), 403, "it has an entry of its own");
}

#[test]
fn what_cannot_be_put_into_quarantine_is_named_and_nothing_changes() {
    let ferry = mirrored(&registry());
    let long = "x".repeat(501);
    for (arguments, named) in [
        (&["nothing", "--reason", "x"][..], "this mirror does not hold nothing"),
        (&["tool@1.1.1", "--reason", "x"], "this mirror does not hold tool@1.1.1"),
        (&["tool@../x", "--reason", "x"], "is not NAME or NAME@VERSION"),
        (&["tool"], "say why with --reason TEXT"),
        (&["tool", "--reason", " "], "say why"),
        (&["tool", "--reason", "a\nb"], "one line"),
        (&["tool", "--reason", &long], "it has 501 bytes"),
        (&["tool", "--undo"], "tool is not in quarantine"),
        (&["tool", "--undo", "--reason", "x"], "cannot be used with"),
    ] {
        ferry.run("quarantine", arguments).expect_error(2, named);
    }
    assert_eq!(quarantined(&ferry), json!([]));
}

#[test]
fn a_rebuild_keeps_the_quarantine_and_an_export_leaves_it_out() {
    let ferry = mirrored(&registry());
    ferry.run("quarantine", &["other", "--reason", "no"]).expect(0);
    ferry.run("quarantine", &["tool@1.0.0", "--reason", "first"]).expect(0);
    ferry.run("quarantine", &["tool@1.0.0", "--reason", "second"]).expect(0);
    let before = quarantined(&ferry);
    assert_eq!((before[0]["version"].clone(), &before[1]["reason"]), (Value::Null, &json!("second")));
    for database in ["ledger.redb", "catalog.redb"] {
        std::fs::remove_file(ferry.file(database)).unwrap();
    }
    ferry.run("rebuild", &[]).expect(0);
    assert_eq!(quarantined(&ferry), before);

    for (layout, more) in [
        ("cargo", &[][..]),
        ("local-registry", &[]),
        ("static", &["--public-url", "http://mirror.example"]),
        ("tar-zst", &["--size", "1MB"]),
    ] {
        let out = ferry.beside(layout);
        let to = ["--to", out.to_str().unwrap(), "--layout", layout, "--json"];
        let export = |more: &[&str]| ferry.run("export", &[&to[..], more].concat()).expect(0).json();
        let exported = export(more);
        assert_eq!((&exported["written"], &exported["quarantined"]), (&json!(1), &json!(2)), "{layout}");
        if layout == "local-registry" {
            assert!(!out.join("tool-1.0.0.crate").exists() && out.join("tool-1.1.0.crate").exists());
            let index = std::fs::read_to_string(out.join("index/to/ol/tool")).unwrap();
            assert!(index.contains("1.1.0") && !index.contains("1.0.0"), "{index}");
            assert!(!out.join("index/ot/he/other").exists());
        }
    }

    // What an earlier export wrote goes with --delete.
    let out = ferry.beside("local-registry");
    ferry.run("quarantine", &["tool@1.1.0", "--reason", "third"]).expect(0);
    let to = ["--to", out.to_str().unwrap(), "--layout", "local-registry", "--delete"];
    let said = ferry.run("export", &to).expect(0).stdout;
    assert!(said.contains("left out    3 crate files, in quarantine"), "{said}");
    assert!(!out.join("tool-1.1.0.crate").exists());
}

#[test]
fn a_replica_has_a_quarantine_of_its_own() {
    let registry = registry();
    registry.commit();
    let gap = Gap::of(registry, &["--all"]);
    gap.origin.run("quarantine", &["other", "--reason", "here alone"]).expect(0);
    let (bundle, _) = gap.create("first", &["--full"]);
    gap.apply("far", &bundle).expect(0);
    gap.is_the_same("far");
    let far = gap.origin.beside("far");
    gap.crateferry(&["quarantine", far.to_str().unwrap(), "tool@1.1.0", "--reason", "there alone"]).expect(0);
    let status = gap.far("far", "status").expect(0).json();
    assert_eq!(status["quarantined"].as_array().unwrap().len(), 1);
    assert_eq!(status["generation_digest"].as_str().unwrap(), gap.origin.digest());
    let server = gap.serve("far");
    assert_eq!(get(&server, "/crates/other/other-1.0.0.crate", &[]).0, 200);
    assert_eq!(get(&server, CRATE_FILE, &[]).0, 403);

    // It stays when the next generation comes, and a receipt that tells of it can be used.
    gap.registry.release("tool", "1.2.0").commit();
    gap.origin.sync(&[]).expect(0);
    let receipt = gap.origin.beside("receipt");
    let out = receipt.to_str().unwrap();
    gap.crateferry(&["receipt", far.to_str().unwrap(), "--out", out]).expect(0);
    let (bundle, made) = gap.create("second", &["--for", out]);
    assert_eq!(made["releases"], 1);
    gap.apply("far", &bundle).expect(0);
    wait_until("the server follows", || get(&server, "/crates/tool/tool-1.2.0.crate", &[]).0 == 200);
    assert_eq!(get(&server, CRATE_FILE, &[]).0, 403);
}

/// What the index serves for a version: its checksum.
fn served(server: &Server, version: &str) -> Option<String> {
    let (status, text) = get(server, "/index/to/ol/tool", &[]);
    assert_eq!(status, 200, "{text}");
    let rows = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    rows.filter(|row| row["vers"] == version).map(|row| row["cksum"].as_str().unwrap().to_owned()).next()
}

/// A mirror with a policy whose `tool 1.1.0` came back with other bytes, and both checksums.
fn republished(policy: &str) -> (Registry, Ferry, [String; 2]) {
    let registry = registry();
    let ferry = Ferry::sparse(&registry);
    ferry.init().top(&format!("checksum-change = \"{policy}\""));
    ferry.sync(&["--crate", "tool", "other"]).expect(0);
    let old = registry.checksum("tool", "1.1.0");
    registry.republish("tool", "1.1.0", b"other bytes");
    assert_eq!(ferry.sync(&[]).expect(0).json()["index"]["alarms"], 1);
    let sums = [old, registry.checksum("tool", "1.1.0")];
    assert_eq!(ferry.status()["alarms"][0]["now"], sums[1]);
    (registry, ferry, sums)
}

#[test]
fn kept_or_switched_cargo_gets_the_bytes_that_its_index_promises() {
    for (policy, at) in [("keep", 0), ("switch", 1)] {
        let (_registry, ferry, sums) = republished(policy);
        let server = ferry.serve(&[]);
        assert_eq!(served(&server, "1.1.0").as_ref(), Some(&sums[at]), "{policy}");
        let project = project(&server, "tool = \"1\"\n");
        project.cargo("fetch");
        assert!(std::fs::read_to_string(project.file("Cargo.lock")).unwrap().contains(&sums[at]));
        let digest = ferry.digest();
        ferry.sync(&[]).expect(0);
        assert_eq!(ferry.digest(), digest, "{policy}: the next sync changes nothing");
        ferry.run("verify", &[]).expect(0);
        let why = ferry.run("why", &["tool@1.1.0", "--json"]).expect(0).json();
        let history = why["releases"][0]["checksums"].as_array().unwrap();
        let told: Vec<_> = history.iter().map(|told| told["checksum"].as_str().unwrap()).collect();
        assert_eq!(told, sums, "{why}");
        assert_eq!((&history[0]["changed_at"], &history[1]["now"]), (&Value::Null, &json!(true)));
        assert_eq!(history[0]["state"], if at == 0 { "held" } else { "withdrawn" });
    }
}

#[test]
fn a_switch_waits_until_the_new_bytes_are_held() {
    let registry = registry();
    let ferry = Ferry::sparse(&registry);
    ferry.init().top("checksum-change = \"switch\"");
    ferry.sync(&["--crate", "tool", "other"]).expect(0);
    let old = registry.checksum("tool", "1.1.0");
    registry.republish("tool", "1.1.0", b"other bytes").fault("tool", "1.1.0", Fault::status(404));
    ferry.sync(&[]).expect(1);
    let server = ferry.serve(&[]);
    assert_eq!(served(&server, "1.1.0"), Some(old));
    registry.heal();
    ferry.sync(&["--retry-failed"]).expect(0);
    let new = registry.checksum("tool", "1.1.0");
    wait_until("the server follows", || served(&server, "1.1.0") == Some(new.clone()));
}

#[test]
fn refused_neither_is_given_out_until_an_operator_decides() {
    for decision in ["the old one", "the new one"] {
        let (registry, ferry, sums) = republished("refuse");
        let server = ferry.serve(&[]);
        assert_eq!(served(&server, "1.1.0").as_ref(), Some(&sums[0]));
        let said = project(&server, "tool = \"1\"\n").cargo_fails("fetch");
        assert!(said.contains("the upstream promises another checksum for it than before"), "{said}");
        for sum in &sums {
            let status = get(&server, &format!("/crates/tool/1.1.0/{sum}"), &[]).0;
            assert!(status == 403 || (status == 404 && *sum == sums[1]), "{status} for {sum}");
        }
        ferry.sync(&[]).expect(0);
        assert_eq!(quarantined(&ferry).as_array().unwrap().len(), 1);
        let (at, now) = match decision {
            "the old one" => {
                ferry.run("quarantine", &["tool@1.1.0", "--undo"]).expect(0);
                (0, 1)
            }
            _ => {
                ferry.run("approve", &["tool@1.0.0"]).expect_error(2, "the checksum of tool 1.0.0 never changed");
                assert_eq!(ferry.run("approve", &["tool@1.1.0", "--json"]).expect(0).json()["switched"], 1);
                ferry.run("approve", &["tool@1.1.0"]).expect_error(2, "is served already");
                (1, 2)
            }
        };
        wait_until("the server follows", || get(&server, CRATE_FILE, &[]).0 == 200);
        assert_eq!(ferry.status()["generation"], now);
        let project = project(&server, "tool = \"1\"\n");
        project.cargo("fetch");
        assert!(std::fs::read_to_string(project.file("Cargo.lock")).unwrap().contains(&sums[at]), "{decision}");
        registry.yank("tool", "1.0.0");
        ferry.sync(&[]).expect(0);
        assert_eq!(quarantined(&ferry), json!([]), "what was decided stays so");
    }
}

#[test]
fn what_an_operator_withdraws_leaves_the_index_and_does_not_come_back() {
    let registry = registry();
    let ferry = mirrored(&registry);
    let server = ferry.serve(&[]);
    let sum = registry.checksum("tool", "1.1.0");
    let project = project(&server, "tool = \"1\"\n");
    project.cargo("fetch");
    let said = ferry.run("withdraw", &["tool@1.1.0", "--reason", "malware, see TICKET-7", "--json"]).expect(0).json();
    assert_eq!((&said["generation"]["number"], &said["releases"][0]["version"]), (&json!(2), &json!("1.1.0")));
    wait_until("the server follows", || served(&server, "1.1.0").is_none());
    assert_eq!(get(&server, CRATE_FILE, &[]).0, 404);
    assert_eq!(get(&server, &format!("/crates/tool/1.1.0/{sum}"), &[]).0, 404, "also for who knows its checksum");
    project.with_new_home().cargo("update");
    let why = ferry.run("why", &["tool@1.1.0"]).expect(1).stdout;
    assert!(why.contains("withdrawn: malware, see TICKET-7"), "{why}");
    let list = ferry.run("withdraw", &["--json"]).expect(0).json();
    assert_eq!((&list[0]["crate"], &list[0]["because"]), (&json!("tool"), &json!("malware, see TICKET-7")));

    // Neither the same row in a changed file nor other bytes of the version bring it back, and a rebuild keeps that.
    registry.yank("tool", "1.0.0").release("tool", "1.2.0");
    ferry.sync(&[]).expect(0);
    registry.republish("tool", "1.1.0", b"other bytes");
    ferry.sync(&[]).expect(0);
    ferry.run("rebuild", &[]).expect(0);
    let again = ferry.serve(&[]);
    assert_eq!((served(&again, "1.1.0"), served(&again, "1.2.0").is_some()), (None, true));
    let status = ferry.status();
    assert_eq!((&status["releases"]["withdrawn"], &status["hole_count"]), (&json!(1), &json!(0)));

    ferry.run("withdraw", &["tool@1.0.0", "--undo"]).expect_error(2, "nobody withdrew tool@1.0.0");
    ferry.run("withdraw", &["tool@9.0.0", "--reason", "x"]).expect_error(2, "knows no release of tool@9.0.0");
    ferry.run("withdraw", &["tool@1.0.0"]).expect_error(2, "say why");
    ferry.run("withdraw", &["tool@1.1.0", "--undo"]).expect(0);
    assert_eq!(ferry.run("withdraw", &["--json"]).expect(0).json(), json!([]));
}

#[test]
fn a_withdrawal_and_its_reason_cross_the_gap_and_so_does_its_end() {
    let registry = registry();
    registry.commit();
    let gap = Gap::of(registry, &["--all"]);
    let (bundle, _) = gap.create("first", &["--full"]);
    gap.apply("far", &bundle).expect(0);
    let server = gap.serve("far");
    assert_eq!(get(&server, CRATE_FILE, &[]).0, 200);
    gap.origin.run("withdraw", &["tool@1.1.0", "--reason", "malware"]).expect(0);
    let (bundle, _) = gap.create("second", &["--since", "1"]);
    gap.apply("far", &bundle).expect(0);
    gap.is_the_same("far");
    wait_until("the server follows", || served(&server, "1.1.0").is_none());
    let sum = gap.registry.checksum("tool", "1.1.0");
    assert_eq!(get(&server, &format!("/crates/tool/1.1.0/{sum}"), &[]).0, 404);
    let list = gap.far("far", "withdraw").expect(0).json();
    assert_eq!((&list[0]["version"], &list[0]["because"]), (&json!("1.1.0"), &json!("malware")));
    let far = gap.origin.beside("far");
    gap.crateferry(&["withdraw", far.to_str().unwrap(), "tool", "--reason", "x"]).expect_error(2, "is a replica");

    gap.origin.run("withdraw", &["tool@1.1.0", "--undo"]).expect(0);
    let (bundle, _) = gap.create("third", &["--since", "2"]);
    gap.apply("far", &bundle).expect(0);
    gap.is_the_same("far");
    wait_until("the server follows", || get(&server, CRATE_FILE, &[]).0 == 200);
    project(&server, "tool = \"=1.1.0\"\n").cargo("fetch");
}

#[test]
fn who_had_downloaded_it_is_told_if_that_was_to_be_known() {
    let registry = registry();
    let ferry = mirrored(&registry);
    let tokens = ferry.beside("tokens.txt");
    let add = |name: &str| {
        let output = common::program().args(["token", "add"]).arg(&tokens).arg(name).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (anna, ben) = (add("anna"), add("ben"));
    let downloaded = || quarantined(&ferry)[0]["downloaded"].clone();
    let take = |server: &Server, path: &str, token: &str| get(server, path, &[("authorization", token)]).0;
    let quiet = ferry.serve(&["--tokens", tokens.to_str().unwrap()]);
    assert_eq!(take(&quiet, CRATE_FILE, &anna), 200);
    ferry.run("quarantine", &["tool@1.1.0", "--reason", "a doubt"]).expect(0);
    assert_eq!(downloaded(), json!([]), "nothing is written down unless somebody wants it");
    ferry.run("quarantine", &["tool@1.1.0", "--undo"]).expect(0);
    drop(quiet);

    ferry.top("record-downloads = true");
    let server = ferry.serve(&["--tokens", tokens.to_str().unwrap()]);
    let sum = registry.checksum("tool", "1.1.0");
    assert_eq!(take(&server, CRATE_FILE, &anna), 200);
    assert_eq!(take(&server, &format!("/crates/tool/1.1.0/{sum}"), &anna), 200);
    assert_eq!(take(&server, "/crates/tool/tool-1.0.0.crate", &ben), 200);
    assert_eq!(take(&server, "/crates/other/other-1.0.0.crate", &ben), 200);
    assert_eq!(take(&server, CRATE_FILE, "wrong"), 401);
    assert_eq!(take(&server, "/crates/tool/tool-9.0.0.crate", &ben), 404);
    let tag = format!("\"{sum}\"");
    let asked = get(&server, CRATE_FILE, &[("authorization", &ben), ("if-none-match", &tag)]).0;
    assert_eq!(asked, 304, "who has it does not take it");
    ferry.run("quarantine", &["tool@1.1.0", "--reason", "a doubt"]).expect(0);
    let asks = || get(&server, CRATE_FILE, &[("authorization", &ben), ("if-none-match", &tag)]).0;
    wait_until("the server follows", || asks() == 403);
    let told = downloaded();
    assert_eq!(told.as_array().unwrap().len(), 1, "{told}");
    assert_eq!((&told[0]["by"], &told[0]["times"], &told[0]["version"]), (&json!("anna"), &json!(2), &json!("1.1.0")));
    ferry.run("quarantine", &["tool", "--reason", "all of it"]).expect(0);
    let shown = ferry.run("quarantine", &[]).expect(0).stdout;
    assert!(
        shown.contains("  1.0.0 by ben: 1 download, ") && shown.contains("  1.1.0 by anna: 2 downloads"),
        "{shown}"
    );
    drop(server);
    ferry.run("quarantine", &["tool", "--undo"]).expect(0);
    let open = ferry.serve(&[]);
    assert_eq!(get(&open, "/crates/tool/tool-1.0.0.crate", &[]).0, 200);
    ferry.run("quarantine", &["tool@1.0.0", "--reason", "a doubt"]).expect(0);
    assert_eq!(downloaded()[0]["by"], "127.0.0.1", "without tokens it is the address");
}

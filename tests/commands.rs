//! The verbs and options of the command line, each doing what its help says.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;
mod look;

use std::collections::BTreeMap;
use std::path::Path;

use common::{Ferry, Ran};
use crateferry_test_support::{Dep, Fault, Registry, Release, sha256};
use look::{hasty, holes, rows, served, served_bytes};
use serde_json::{Value, json};

/// A registry with `a` in three releases, the last of them yanked, and `b` in one.
fn shelf() -> Registry {
    let registry = Registry::new();
    registry.release("a", "1.0.0").release("a", "1.1.0").release("a", "2.0.0").yank("a", "2.0.0").release("b", "0.1.0");
    registry
}

/// What the registry's upstream is called on a command line.
fn upstream(registry: &Registry) -> [String; 4] {
    ["--upstream".into(), registry.sparse_url(), "--ca-file".into(), registry.ca_file().display().to_string()]
}

/// `crateferry VERB MIRROR ARGUMENTS` with the upstream named.
fn run_with_upstream(ferry: &Ferry, registry: &Registry, verb: &str, arguments: &[&str]) -> Ran {
    let named = upstream(registry);
    let named: Vec<&str> = named.iter().map(String::as_str).collect();
    ferry.run(verb, &[arguments, &named].concat())
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

mod init_and_plan {
    use super::*;

    #[test]
    fn init_makes_an_empty_mirror_with_a_commented_configuration() {
        let registry = shelf();
        let ferry = Ferry::sparse(&registry);
        let ran = run_with_upstream(&ferry, &registry, "init", &["--contact", "ops@example.org"]).expect(0);
        assert_eq!(ran.stdout, "");
        let config = std::fs::read_to_string(ferry.file("crateferry.toml")).unwrap();
        assert!(
            config.contains(&registry.sparse_url()) && config.contains("contact = \"ops@example.org\""),
            "{config}"
        );
        assert!(config.contains("# retries = 6"), "{config}");
        let status = ferry.run("status", &["--json"]).expect(0).json();
        assert_eq!((&status["generation"], &status["generation_digest"]), (&json!(0), &Value::Null));
        assert_eq!(registry.requests(), 0);
    }

    #[test]
    fn a_plan_for_a_mirror_that_is_not_there_counts_and_makes_nothing() {
        let registry = shelf();
        let ferry = Ferry::sparse(&registry);
        let plan = run_with_upstream(&ferry, &registry, "plan", &["--crate", "a", "b", "--json"]).expect(0).json();
        assert_eq!((&plan["fetch"], &plan["waiting"], &plan["held"]), (&json!(3), &json!(0), &json!(0)));
        assert_eq!(plan["index"]["changed"], 2);
        assert!(!ferry.mirror().exists());
        assert_eq!(registry.crate_file_requests(), 0);
    }

    #[test]
    fn a_plan_counts_what_is_new_and_records_nothing() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a"]).expect(0);
        registry.release("a", "1.2.0").delete("a", "1.0.0").reset_counters();
        let before = (ferry.packs(), ferry.status());
        for _ in 0..2 {
            let plan = ferry.run("plan", &["--crate", "b", "--json"]).expect(0).json();
            assert_eq!(
                (&plan["fetch"], &plan["held"], &plan["index"]["gone"]),
                (&json!(2), &json!(2), &json!(1)),
                "{plan}"
            );
        }
        assert_eq!((ferry.packs(), ferry.status()), before);
        assert_eq!(registry.crate_file_requests(), 0);
        ferry.sync(&[]).expect(0);
        assert_eq!(served_bytes(&ferry, "b"), None, "planning for it selects nothing");
    }

    #[test]
    fn a_plan_is_readable() {
        let registry = shelf();
        let ferry = Ferry::sparse(&registry);
        let ran = run_with_upstream(&ferry, &registry, "plan", &["--crate", "a"]).expect(0);
        assert!(ran.stdout.contains("2 releases: 2 new, 0 waiting"), "{}", ran.stdout);
    }
}

mod status_and_holes {
    use super::*;

    #[test]
    fn the_keys_of_status_are_those_that_others_rely_on() {
        let registry = shelf();
        registry.fault("a", "1.0.0", Fault::status(404));
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a", "b"]).expect(1);
        let status = ferry.run("status", &["--json"]).expect(1).json();
        let promised = [
            "bytes",
            "crates",
            "epoch",
            "generation",
            "generation_digest",
            "holes",
            "mirror_id",
            "published_at",
            "releases",
            "role",
            "upstream",
        ];
        for key in promised {
            assert!(!status[key].is_null(), "{key} is not there: {status}");
        }
        assert_eq!(keys(&status["releases"]), ["excluded", "held", "refused", "wanted", "withdrawn"]);
        for key in ["crate", "version", "reason", "tries", "first", "last"] {
            assert!(!status["holes"][0][key].is_null(), "{key} is not there: {status}");
        }
        let expected = json!({ "held": 2, "wanted": 1, "refused": 0, "withdrawn": 0, "excluded": 0 });
        assert_eq!(status["releases"], expected);
        assert_eq!((&status["role"], &status["epoch"], &status["crates"]), (&json!("origin"), &json!(0), &json!(2)));
        assert_eq!(status["mirror_id"].as_str().map(str::len), Some(32));
        let bytes = registry.crate_bytes("a", "1.1.0").len() + registry.crate_bytes("b", "0.1.0").len();
        assert_eq!(status["bytes"], bytes);
    }

    #[test]
    fn a_hole_that_is_accepted_is_left_out_for_good() {
        let registry = shelf();
        registry.fault("a", "1.0.0", Fault::status(404));
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a"]).expect(1);
        let listed = ferry.run("holes", &[]).expect(1);
        assert!(
            listed.stdout.contains("a@1.0.0  missing, tried 1 times: the server answered 404"),
            "{}",
            listed.stdout
        );
        assert_eq!(ferry.run("holes", &["--json", "accept", "a@1.0.0"]).expect(0).json(), json!([]));
        registry.reset_counters();
        ferry.sync(&["--retry-failed"]).expect(0);
        registry.release("a", "1.2.0");
        ferry.sync(&[]).expect(0);
        assert_eq!(registry.requests_for("a", "1.0.0"), 0);
        assert!(holes(&ferry).is_empty());
        assert_eq!(ferry.status()["releases"]["excluded"], 1);
    }

    #[test]
    fn results_without_json_are_readable() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a"]).expect(0);
        let status = ferry.run("status", &[]).expect(0).stdout;
        assert!(status.contains("serves      1 crate, 2 rows") && status.contains("generation  1 of 20"), "{status}");
        let verify = ferry.run("verify", &[]).expect(0).stdout;
        assert!(verify.contains("2 held releases; 2 rows in 1 index file"), "{verify}");
        let sync = run_with_upstream(&ferry, &registry, "sync", &[]).expect(0).stdout;
        assert!(sync.contains("held        2 releases") && sync.contains("generation  1 (unchanged)"), "{sync}");
        let approve = ferry.run("approve", &[]).expect(0).stdout;
        assert!(approve.contains("nothing was held back"), "{approve}");
    }
}

mod export {
    use super::*;

    /// Every held crate file lies where this layout has it; a second export writes nothing; a file that was damaged
    /// meanwhile is mended.
    #[track_caller]
    fn lays_out(layout: &str, paths: &[(&str, &str, &str)]) {
        let registry = Registry::new();
        for (name, version, _) in paths {
            registry.release(name, version);
        }
        let ferry = hasty(&registry);
        let names: Vec<&str> = paths.iter().map(|(name, ..)| *name).collect();
        ferry.sync(&[&["--crate"], &names[..]].concat()).expect(0);
        let to = ferry.beside("out").display().to_string();
        let export = || {
            let said = ferry.run("export", &["--to", &to, "--layout", layout, "--json"]).expect(0).json();
            (said["written"].as_u64().unwrap(), said["unchanged"].as_u64().unwrap())
        };
        let count = paths.len() as u64;
        assert_eq!(export(), (count, 0));
        expect_files(&registry, &ferry.beside("out"), paths);
        assert_eq!(export(), (0, count));
        std::fs::write(ferry.beside("out").join(paths[0].2), "damaged").unwrap();
        assert_eq!(export(), (1, count - 1));
        expect_files(&registry, &ferry.beside("out"), paths);
    }

    #[track_caller]
    fn expect_files(registry: &Registry, out: &Path, paths: &[(&str, &str, &str)]) {
        let mut found = look::contents(out);
        found.retain(|(path, _)| path.is_file());
        let digest = |(path, bytes): (std::path::PathBuf, Vec<u8>)| {
            (path.strip_prefix(out).unwrap().to_string_lossy().into_owned(), sha256(&bytes))
        };
        let found: BTreeMap<String, String> = found.into_iter().map(digest).collect();
        let promised =
            |(name, version, path): &(&str, &str, &str)| ((*path).to_owned(), registry.checksum(name, version));
        assert_eq!(found, paths.iter().map(promised).collect());
    }

    #[test]
    fn the_layout_download_is_that_of_the_download_host() {
        lays_out(
            "download",
            &[("serde", "1.0.0", "crates/serde/serde-1.0.0.crate"), ("Syn", "1.0.0+x", "crates/Syn/Syn-1.0.0+x.crate")],
        );
    }

    #[test]
    fn the_layout_cargo_is_one_folder() {
        lays_out("cargo", &[("serde", "1.0.0", "serde-1.0.0.crate"), ("syn", "1.0.0", "syn-1.0.0.crate")]);
    }

    #[test]
    fn the_layout_sharded_has_short_names_and_dashes_apart() {
        lays_out(
            "sharded",
            &[
                ("serde", "1.0.0", "s/er/serde-1.0.0.crate"),
                ("syn", "1.0.0", "syn/syn-1.0.0.crate"),
                ("a-bcd", "1.0.0", "a-/bc/a-bcd-1.0.0.crate"),
            ],
        );
    }

    #[test]
    fn a_withdrawn_release_is_not_written() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a"]).expect(0);
        registry.delete("a", "1.0.0");
        ferry.sync(&[]).expect(0);
        let to = ferry.beside("out").display().to_string();
        let said = ferry.run("export", &["--to", &to, "--layout", "cargo", "--json"]).expect(0).json();
        assert_eq!(said["written"], 1);
        assert!(ferry.beside("out/a-1.1.0.crate").exists() && !ferry.beside("out/a-1.0.0.crate").exists());
    }
}

mod records {
    use super::*;

    fn json_lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn the_audit_record_has_one_line_for_each_attempt_with_the_promised_keys() {
        let registry = shelf();
        registry.fault("a", "1.0.0", Fault::status(404)).fault("a", "1.1.0", Fault::status(503).once());
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a"]).expect(1);
        let mut lines = json_lines(&ferry.file("log/manifest.jsonl"));
        lines.sort_by_key(|line| line["url"].to_string());
        let [lost, came] = &lines[..] else { panic!("two lines: {lines:?}") };
        let promised = [
            "error",
            "finished_at",
            "generation",
            "ok",
            "path",
            "retries",
            "schema_version",
            "sha256",
            "size",
            "started_at",
            "status",
            "url",
        ];
        assert_eq!((keys(lost), keys(came)), (promised.to_vec(), promised.to_vec()));
        assert_eq!(lost["url"], registry.crate_url("a", "1.0.0"));
        assert_eq!((&lost["ok"], &lost["status"], &lost["path"]), (&json!(false), &json!(404), &json!("")));
        assert!(lost["error"].as_str().unwrap().contains("404"), "{lost}");
        assert_eq!((&came["ok"], &came["status"], &came["retries"]), (&json!(true), &json!(200), &json!(1)));
        assert_eq!((&came["error"], &came["generation"]), (&Value::Null, &json!(0)));
        assert_eq!(came["sha256"], registry.checksum("a", "1.1.0"));
        assert_eq!(came["size"], registry.crate_bytes("a", "1.1.0").len());
        expect_place(&ferry, came, &registry.crate_bytes("a", "1.1.0"));

        registry.release("a", "1.2.0");
        ferry.sync(&[]).expect(1);
        let lines = json_lines(&ferry.file("log/manifest.jsonl"));
        assert_eq!(lines.len(), 4, "what was written stays");
        assert_eq!(lines[3]["generation"], 1);
    }

    /// `path` says which file of the mirror holds the bytes, and from where on.
    #[track_caller]
    fn expect_place(ferry: &Ferry, line: &Value, bytes: &[u8]) {
        let (pack, offset) = line["path"].as_str().unwrap().split_once(':').unwrap();
        let path = [pack.to_owned(), format!("{pack}.open")].map(|name| ferry.file(&name));
        let pack = std::fs::read(path.iter().find(|path| path.exists()).unwrap()).unwrap();
        assert!(pack[offset.parse::<usize>().unwrap()..].starts_with(bytes));
    }

    #[test]
    fn log_lines_are_json_if_asked_for() {
        let registry = shelf();
        registry.fault("a", "1.0.0", Fault::status(404));
        let ferry = hasty(&registry);
        let ran = ferry.sync(&["--crate", "a", "--log-format", "json"]).expect(1);
        let lines: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let warning = lines.iter().find(|line| line["level"] == "WARN").unwrap();
        assert_eq!((&warning["message"], &warning["release"]), (&json!("not stored"), &json!("a 1.0.0")));
    }

    #[test]
    fn log_lines_go_to_a_file_if_asked_for_and_are_appended() {
        let registry = shelf();
        registry.fault("a", "1.0.0", Fault::status(404));
        let ferry = hasty(&registry);
        let log = ferry.beside("log").display().to_string();
        for _ in 0..2 {
            let ran = ferry.sync(&["--crate", "a", "--log-file", &log]).expect(1);
            assert_eq!(ran.stderr, "");
        }
        let text = std::fs::read_to_string(ferry.beside("log")).unwrap();
        assert_eq!(text.matches("not stored").count(), 2, "{text}");
    }

    #[test]
    fn the_level_decides_what_is_logged() {
        let registry = shelf();
        registry.fault("a", "1.0.0", Fault::status(404));
        let ferry = hasty(&registry);
        assert_eq!(ferry.sync(&["--crate", "a", "--log-level", "error"]).expect(1).stderr, "");
        let ran = ferry.sync(&["--log-level", "debug"]).expect(1);
        assert!(ran.stderr.contains("not stored"), "{}", ran.stderr);
    }

    #[test]
    fn without_a_terminal_progress_is_told_in_lines() {
        let registry = shelf();
        registry.fault("b", "0.1.0", Fault::held());
        let ferry = hasty(&registry);
        let running = ferry.start_sync(&["--crate", "b", "--progress-interval", "100ms"]);
        common::wait_until("progress is told", || running.stderr().contains("fetching"));
        assert!(running.stderr().contains("total=1"), "{}", running.stderr());
        registry.let_go();
        running.wait().expect(0);
    }
}

mod selections {
    use super::*;

    /// A lock file that names these releases with the checksums that the registry has.
    fn lock_file(ferry: &Ferry, file: &str, registry: &Registry, releases: &[(&str, &str)]) -> String {
        let entries = releases.iter().map(|(name, version)| (*name, *version, registry.checksum(name, version)));
        write_lock_file(ferry, file, entries)
    }

    fn write_lock_file<'a>(
        ferry: &Ferry,
        file: &str,
        entries: impl Iterator<Item = (&'a str, &'a str, String)>,
    ) -> String {
        let source = cargo_lock::package::SourceId::default();
        let entry = |(name, version, checksum): (&str, &str, String)| {
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\nchecksum = \"{checksum}\"\n"
            )
        };
        let text: String = entries.map(entry).collect();
        let own = "[[package]]\nname = \"own\"\nversion = \"0.1.0\"\n";
        std::fs::write(ferry.beside(file), format!("version = 3\n\n{own}\n{text}")).unwrap();
        ferry.beside(file).display().to_string()
    }

    #[test]
    fn several_lock_files_are_mirrored_together_yanked_releases_included() {
        let registry = shelf();
        let ferry = hasty(&registry);
        let first = lock_file(&ferry, "first.lock", &registry, &[("a", "1.0.0"), ("b", "0.1.0")]);
        let second = lock_file(&ferry, "second.lock", &registry, &[("a", "2.0.0"), ("b", "0.1.0")]);
        ferry.sync(&["--lockfile", &first, &second]).expect(0);
        assert_eq!(served(&ferry, "a"), rows(&registry, "a", &["1.0.0", "2.0.0"]));
        assert_eq!(served(&ferry, "b"), registry.row("b", "0.1.0"));
        assert_eq!(registry.crate_file_requests(), 3);
    }

    #[test]
    fn a_lock_file_that_promises_another_checksum_is_told_of() {
        let registry = shelf();
        let ferry = hasty(&registry);
        let lock = write_lock_file(&ferry, "Cargo.lock", [("b", "0.1.0", "0".repeat(64))].into_iter());
        let said = ferry.sync(&["--lockfile", &lock]).expect(1).json();
        let problem = said["problems"][0].as_str().unwrap();
        assert!(problem.contains("b 0.1.0") && problem.contains(&registry.checksum("b", "0.1.0")), "{problem}");
    }

    #[test]
    fn a_release_of_a_lock_file_that_the_index_does_not_have_is_lacking() {
        let registry = shelf();
        let ferry = hasty(&registry);
        let lock = write_lock_file(&ferry, "Cargo.lock", [("b", "9.9.9", "0".repeat(64))].into_iter());
        ferry.sync(&["--lockfile", &lock]).expect(1);
        assert!(look::reports(&ferry)[0].2.contains("9.9.9"));
    }

    #[test]
    fn a_list_holds_names_requirements_and_urls() {
        let registry = shelf();
        let ferry = hasty(&registry);
        let url = registry.crate_url("a", "2.0.0");
        std::fs::write(ferry.beside("list"), format!("# mine\n\nb\na@=1.0.0\n{url}\n")).unwrap();
        ferry.sync(&["--list", &ferry.beside("list").display().to_string()]).expect(0);
        assert_eq!(served(&ferry, "a"), rows(&registry, "a", &["1.0.0", "2.0.0"]));
        assert_eq!(served(&ferry, "b"), registry.row("b", "0.1.0"));
    }

    #[test]
    fn a_selection_is_stored_and_added_up_and_a_bare_sync_refreshes_it() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a@^1.1"]).expect(0);
        assert_eq!(served(&ferry, "a"), registry.row("a", "1.1.0"));
        ferry.sync(&["--crate", "b"]).expect(0);
        registry.release("a", "1.2.0").release("b", "0.2.0").reset_counters();
        ferry.sync(&[]).expect(0);
        assert_eq!(served(&ferry, "a"), rows(&registry, "a", &["1.1.0", "1.2.0"]));
        assert_eq!(served(&ferry, "b"), rows(&registry, "b", &["0.1.0", "0.2.0"]));
        assert_eq!(registry.crate_file_requests(), 2);
    }

    #[test]
    fn nothing_new_costs_one_question_a_crate_and_changes_nothing() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a", "b"]).expect(0);
        let before = (ferry.packs(), ferry.status());
        registry.reset_counters();
        assert_eq!(ferry.sync(&[]).expect(0).json()["published"], false);
        assert_eq!(registry.requests(), 3, "config.json and two index files");
        assert_eq!(registry.requests_matching(|request| request.status == Some(304)), 2);
        assert_eq!((ferry.packs(), ferry.status()), before);
    }

    #[test]
    fn yanked_releases_are_mirrored_if_asked_for() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a"]).expect(0);
        assert_eq!(served(&ferry, "a"), rows(&registry, "a", &["1.0.0", "1.1.0"]));
        ferry.sync(&["--include-yanked"]).expect(0);
        assert_eq!(served(&ferry, "a"), rows(&registry, "a", &["1.0.0", "1.1.0", "2.0.0"]));
        assert_eq!(registry.crate_file_requests(), 3);
    }

    #[test]
    fn a_limit_takes_the_first_in_index_order_and_leaves_the_rest_pending() {
        let registry = Registry::new();
        registry.releases(14);
        let ferry = hasty(&registry);
        let all = ["--crate", "c00000", "c00001"];
        let said = ferry.sync(&[&all[..], &["--limit", "9"]].concat()).expect(0).json();
        assert_eq!((&said["held"], &said["pending"]), (&json!(9), &json!(5)), "{said}");
        assert_eq!(served(&ferry, "c00001"), rows(&registry, "c00001", &["1.0.0", "1.0.1"]));
        ferry.sync(&[]).expect(0);
        assert_eq!((ferry.status()["releases"]["held"].as_u64(), registry.crate_file_requests()), (Some(14), 14));
    }

    #[test]
    fn an_offline_index_is_not_asked_and_what_is_wanted_is_fetched() {
        let registry = shelf();
        let ferry = hasty(&registry);
        ferry.sync(&["--crate", "a", "--limit", "1"]).expect(0);
        registry.release("a", "1.2.0").reset_counters();
        ferry.sync(&["--offline-index"]).expect(0);
        assert_eq!(registry.index_requests("1/a"), 0);
        assert_eq!(served(&ferry, "a"), rows(&registry, "a", &["1.0.0", "1.1.0"]));
    }

    #[test]
    fn crate_files_come_from_the_download_url_that_is_named() {
        let registry = shelf();
        registry.set_download_url("https://10.0.0.1/{crate}");
        let ferry = hasty(&registry);
        registry.set_download_url("{base}/else/{crate}/{version}");
        let template = format!("{}/else/{{crate}}/{{version}}", registry.url());
        ferry.sync(&["--crate", "b", "--download-url", &template]).expect(0);
        assert_eq!(registry.requests_matching(|request| request.path == "/else/b/0.1.0"), 1);
    }

    /// The list of checksums says this of `b 0.1.0`.
    fn sync_with_checksums(registry: &Registry, ferry: &Ferry, sha256: &str) -> Ran {
        let line = json!({ "url": registry.crate_url("b", "0.1.0"), "sha256": sha256, "note": "ours" });
        std::fs::write(ferry.beside("sums"), format!("{line}\n")).unwrap();
        ferry.sync(&["--crate", "a", "b", "--checksums", &ferry.beside("sums").display().to_string()])
    }

    #[test]
    fn a_list_of_checksums_that_agrees_lets_everything_pass() {
        let registry = shelf();
        let ferry = hasty(&registry);
        sync_with_checksums(&registry, &ferry, &registry.checksum("b", "0.1.0")).expect(0);
        assert_eq!(served(&ferry, "b"), registry.row("b", "0.1.0"));
    }

    #[test]
    fn a_list_of_checksums_that_disagrees_refuses_the_release_before_it_is_asked_for() {
        let registry = shelf();
        let ferry = hasty(&registry);
        sync_with_checksums(&registry, &ferry, &"0".repeat(64)).expect(1);
        let hole = holes(&ferry).remove(0);
        assert_eq!((&hole["crate"], &hole["refused"]), (&json!("b"), &json!(true)));
        assert!(hole["reason"].as_str().unwrap().contains(&registry.checksum("b", "0.1.0")), "{hole}");
        assert_eq!(registry.requests_for("b", "0.1.0"), 0);
        assert_eq!(served(&ferry, "a"), rows(&registry, "a", &["1.0.0", "1.1.0"]));
    }

    #[test]
    fn the_lock_file_of_a_real_project_mirrors_what_it_is_built_from() {
        let registry = Registry::new();
        registry.release("deep", "1.0.0").release("unused", "1.0.0");
        let dependent = Release { deps: vec![Dep::on("deep", "^1")], ..Release::default() };
        registry.release_with("direct", "0.3.0", dependent);
        let ferry = hasty(&registry);
        let lock = resolve(&registry, &ferry.beside("project"));
        registry.reset_counters();
        ferry.sync(&["--lockfile", &lock]).expect(0);
        assert_eq!(served(&ferry, "direct"), registry.row("direct", "0.3.0"));
        assert_eq!(served(&ferry, "deep"), registry.row("deep", "1.0.0"));
        assert_eq!(registry.crate_file_requests(), 2);
    }

    /// Lets cargo resolve a project that depends on `direct`, from the registry in the place of crates.io.
    fn resolve(registry: &Registry, project: &Path) -> String {
        std::fs::create_dir_all(project.join("src")).unwrap();
        std::fs::create_dir_all(project.join(".cargo")).unwrap();
        std::fs::write(project.join("src/lib.rs"), "").unwrap();
        let manifest =
            "[package]\nname = \"own\"\nedition = \"2021\"\n\n[dependencies]\ndirect = \"0.3\"\n\n[workspace]\n";
        std::fs::write(project.join("Cargo.toml"), manifest).unwrap();
        let config = format!(
            "[source.crates-io]\nreplace-with = \"near\"\n\n[source.near]\nregistry = \"{}\"\n\n[http]\ncainfo = '{}'\n",
            registry.sparse_url(),
            registry.ca_file().display()
        );
        std::fs::write(project.join(".cargo/config.toml"), config).unwrap();
        let mut cargo = std::process::Command::new(env!("CARGO"));
        let output = cargo.arg("generate-lockfile").current_dir(project).env("CARGO_HOME", project.join("home"));
        let output = output.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        project.join("Cargo.lock").display().to_string()
    }
}

mod network {
    use std::io::{self, BufRead as _, BufReader, Write as _};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};
    use std::thread;

    use super::*;

    /// A proxy that knows CONNECT and writes down where it was asked to connect to. It lasts as long as the process.
    struct Proxy {
        url: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Proxy {
        fn start() -> Proxy {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let notes = Arc::clone(&asked);
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let notes = Arc::clone(&notes);
                    thread::spawn(move || drop(tunnel(client, &notes)));
                }
            });
            Proxy { url, asked }
        }

        fn asked(&self) -> Vec<String> {
            self.asked.lock().unwrap().clone()
        }
    }

    fn tunnel(client: TcpStream, notes: &Mutex<Vec<String>>) -> io::Result<()> {
        let mut reader = BufReader::new(client.try_clone()?);
        let mut first = String::new();
        reader.read_line(&mut first)?;
        let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
        notes.lock().unwrap().push(target.clone());
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line)?;
        }
        let server = TcpStream::connect(&target)?;
        (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        let (mut from_server, mut to_client) = (server.try_clone()?, client);
        thread::spawn(move || {
            drop(io::copy(&mut from_server, &mut to_client));
            drop(to_client.shutdown(Shutdown::Both));
        });
        io::copy(&mut reader, &mut &server)?;
        server.shutdown(Shutdown::Both)
    }

    /// Index and crate files came, and every connection went through the proxy.
    #[track_caller]
    fn expect_all_through(proxy: &Proxy, registry: &Registry, ferry: &Ferry) {
        assert_eq!(served(ferry, "a"), rows(registry, "a", &["1.0.0", "1.1.0"]));
        let host = registry.url().strip_prefix("https://").unwrap();
        let asked = proxy.asked();
        assert!(asked.iter().all(|target| target == host), "{asked:?}");
        assert_eq!(asked.len() as u64, registry.connections());
        assert!(asked.len() >= 2, "one for the index, one for crate files: {asked:?}");
    }

    #[test]
    fn all_goes_through_the_proxy_of_the_configuration() {
        let (registry, proxy) = (shelf(), Proxy::start());
        let ferry = hasty(&registry);
        ferry.configure("network", &format!("proxy = \"{}\"", proxy.url));
        ferry.sync(&["--crate", "a"]).expect(0);
        expect_all_through(&proxy, &registry, &ferry);
    }

    #[test]
    fn all_goes_through_the_proxy_of_the_environment() {
        let (registry, proxy) = (shelf(), Proxy::start());
        let ferry = hasty(&registry);
        let mut command = ferry.command("sync", &["--crate", "a"]);
        command.env("HTTPS_PROXY", &proxy.url);
        ferry.start(command).wait().expect(0);
        expect_all_through(&proxy, &registry, &ferry);
    }

    #[test]
    fn a_git_index_comes_through_the_proxy_too() {
        let (registry, proxy) = (shelf(), Proxy::start());
        let ferry = Ferry::of(&registry, &registry.git_https_url());
        ferry.init().configure("network", &format!("proxy = \"{}\"", proxy.url));
        ferry.sync(&["--all"]).expect(0);
        expect_all_through(&proxy, &registry, &ferry);
    }

    #[test]
    fn a_proxy_that_is_not_there_is_an_error_and_not_gone_around() {
        let registry = shelf();
        let ferry = hasty(&registry);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        ferry.configure("network", &format!("proxy = \"http://{closed}\""));
        ferry.sync(&["--crate", "a"]).expect(3);
        assert_eq!(registry.connections(), 0);
    }

    /// Every request says who asks and whom to turn to.
    #[track_caller]
    fn says_who_it_is(ferry: &Ferry, registry: &Registry, selection: &[&str]) {
        ferry.configure("network", "contact = \"https://example.org/mirror\"");
        ferry.sync(selection).expect(0);
        let log = registry.request_log();
        assert!(log.len() > 3);
        for request in log {
            let agent = request.header("user-agent").unwrap_or_default();
            let program = concat!("crateferry/", env!("CARGO_PKG_VERSION"), " ");
            assert!(
                agent.contains(program) && agent.contains("https://example.org/mirror"),
                "{}: {agent}",
                request.path
            );
        }
    }

    #[test]
    fn every_request_to_a_sparse_registry_says_who_asks() {
        let registry = shelf();
        says_who_it_is(&hasty(&registry), &registry, &["--crate", "a", "b"]);
    }

    #[test]
    fn every_request_to_a_git_registry_says_who_asks() {
        let registry = shelf();
        let ferry = Ferry::of(&registry, &registry.git_https_url());
        ferry.init();
        says_who_it_is(&ferry, &registry, &["--all"]);
    }
}

//! What may enter a mirror: each rule alone, several together, and what becomes of a closure within them.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use common::Ferry;
use crateferry_test_support::{Dep, Registry, Release};
use serde_json::Value;

fn held(ferry: &Ferry) -> BTreeSet<String> {
    let to = tempfile::tempdir().unwrap();
    let out = to.path().join("out");
    ferry.run("export", &["--to", out.to_str().unwrap(), "--layout", "cargo"]).expect(0);
    let names = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".crate").map(ToOwned::to_owned)).collect()
}

fn set(names: &str) -> BTreeSet<String> {
    names.split_whitespace().map(ToOwned::to_owned).collect()
}

/// Three crates; each release says when it was published and what Rust it needs, but for the oldest.
fn registry() -> Registry {
    let registry = Registry::new();
    let of = |pubtime: &str, rust: &str| Release {
        pubtime: Some(format!("{pubtime}T12:00:00Z")),
        rust_version: Some(rust.to_owned()),
        ..Release::default()
    };
    registry.release("one", "1.0.0");
    registry.release_with("one", "1.1.0", of("2021-06-01", "1.56"));
    registry.release_with("one", "1.2.0", of("2023-06-01", "1.70.0"));
    registry.release_with("one", "2.0.0", of("2024-06-01", "1.80"));
    registry.release_with("two-core", "0.1.0", of("2020-01-01", "1.31"));
    registry.release_with("two-core", "0.1.5", of("2022-01-01", "1.60"));
    registry.release_with("two-core", "0.2.0-rc.1", of("2024-01-01", "1.75"));
    let release = Release { deps: vec![Dep::on("one", "^1")], ..of("2025-01-01", "1.85") };
    registry.release_with("two", "3.0.0", release);
    registry
}

const ALL: &str = "one-1.0.0 one-1.1.0 one-1.2.0 one-2.0.0 two-core-0.1.0 two-core-0.1.5 two-core-0.2.0-rc.1 two-3.0.0";

/// What a mirror of everything holds with these lines in its `[policy]`.
#[track_caller]
fn within(registry: &Registry, lines: &[&str]) -> BTreeSet<String> {
    let ferry = Ferry::git(registry);
    for line in lines {
        ferry.configure("policy", line);
    }
    ferry.sync(&["--all"]).expect(0);
    held(&ferry)
}

fn without(names: &str) -> BTreeSet<String> {
    &set(ALL) - &set(names)
}

#[test]
fn each_rule_of_the_index_keeps_out_what_it_says() {
    let registry = registry();
    let is = |lines: &[&str], expected: BTreeSet<String>| assert_eq!(within(&registry, lines), expected, "{lines:?}");
    is(&["unknown = \"out\""], set(ALL));
    is(&["allow = [\"two*\"]"], set("two-core-0.1.0 two-core-0.1.5 two-core-0.2.0-rc.1 two-3.0.0"));
    is(&["allow = [\"one@^1.1\", \"TWO\"]"], set("one-1.1.0 one-1.2.0 two-3.0.0"));
    is(&["deny = [\"two-*\", \"one@<1.1\"]"], without("two-core-0.1.0 two-core-0.1.5 two-core-0.2.0-rc.1 one-1.0.0"));
    is(&["newest = 1"], set("one-2.0.0 two-core-0.2.0-rc.1 two-3.0.0"));
    is(&["newest-per-range = 1"], set("one-1.2.0 one-2.0.0 two-core-0.1.5 two-core-0.2.0-rc.1 two-3.0.0"));
    is(&["published-before = \"2022-01-01\""], set("one-1.0.0 one-1.1.0 two-core-0.1.0"));
    is(
        &["published-after = \"2022-01-01\"", "unknown = \"out\""],
        set("one-1.2.0 one-2.0.0 two-core-0.1.5 two-core-0.2.0-rc.1 two-3.0.0"),
    );
    is(&["rust-version = \"1.70\""], without("one-2.0.0 two-core-0.2.0-rc.1 two-3.0.0"));
    // Together: the newest are counted among what else is in.
    is(&["newest = 1", "rust-version = \"1.60\"", "deny = [\"two\"]"], set("one-1.1.0 two-core-0.1.5"));
}

#[test]
fn a_young_release_waits_says_until_when_and_then_enters() {
    let registry = Registry::new();
    let young = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(47);
    let pubtime = young.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    registry.release("one", "1.0.0");
    registry.release_with("one", "1.1.0", Release { pubtime: Some(pubtime), ..Release::default() });
    for closure in [&[][..], &["--closure", "full"][..]] {
        let ferry = Ferry::sparse(&registry);
        ferry.init().configure("policy", "cool-down = \"2d\"");
        let said = ferry.sync(&[&["--crate", "one"], closure].concat()).expect(0).json();
        assert_eq!(held(&ferry), set("one-1.0.0"));
        let enters = said["index"]["enters"].as_i64().unwrap();
        assert_eq!(enters, young.as_second() + 48 * 3600);
        let why = ferry.run("why", &["one@1.1.0"]).expect(1).stdout;
        assert!(why.contains("cool-down, until 20"), "{why}");
        // Nothing changed upstream, and it is not forgotten that something waits.
        let said = ferry.sync(&[]).expect(0).json();
        assert_eq!(said["index"]["enters"].as_i64(), Some(enters));
        // The same policy, some time later: as if it were shorter.
        ferry.sync(&["--cool-down", "46h"]).expect(0);
        assert_eq!(held(&ferry), set("one-1.0.0 one-1.1.0"));
    }
}

#[test]
fn a_closure_is_closed_within_the_policy() {
    let registry = registry();
    let ferry = Ferry::sparse(&registry);
    ferry.init().configure("policy", "rust-version = \"1.85\"").configure("policy", "deny = [\"one@1.2\"]");
    ferry.sync(&["--crate", "two", "--closure", "newest"]).expect(0);
    assert_eq!(held(&ferry), set("two-3.0.0 one-1.1.0"));
}

#[test]
fn what_a_lock_file_names_is_lacking_if_the_policy_keeps_it_out() {
    let registry = registry();
    let ferry = Ferry::sparse(&registry);
    let lock = ferry.beside("Cargo.lock");
    let package = |name: &str, version: &str| {
        format!(
            "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\
             source = \"registry+https://github.com/rust-lang/crates.io-index\"\nchecksum = \"{}\"\n",
            registry.checksum(name, version)
        )
    };
    fs::write(&lock, format!("version = 3\n{}{}", package("one", "1.1.0"), package("one", "2.0.0"))).unwrap();
    ferry.init().configure("policy", "rust-version = \"1.70\"");
    let said = ferry.sync(&["--lockfile", lock.to_str().unwrap()]).expect(1).json();
    let reports = said["reports"].to_string();
    assert!(reports.contains("kept out by the policy: 2.0.0"), "{reports}");
    assert_eq!(held(&ferry), set("one-1.1.0"));
}

/// A database dump in the form of the real one: every table's columns are more than are read, and not in one order.
fn write_dump(path: &Path, versions: &str) {
    let tables = [
        (
            "crates",
            "created_at,description,id,name\n2020,\"a, \"\"b\"\"\nc\",7,one\n2020,,8,Two-Core\n2020,,9,two\n2020,,10,../x\n",
        ),
        ("crate_downloads", "crate_id,downloads\n7,5000\n8,10\n9,999\n"),
        ("crate_owners", "crate_id,created_at,created_by,owner_id,owner_kind\n7,x,,1,0\n8,x,,1,1\n9,x,,2,0\n"),
        ("users", "gh_avatar,gh_id,gh_login,id,name\n,5,alice,1,\n,6,bob,2,\n"),
        ("teams", "avatar,github_id,id,login,name,org_id\n,5,1,github:org:team,,\n"),
        ("versions", versions),
        ("version_downloads", "not,read\n"),
    ];
    let mut tar =
        tar::Builder::new(flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast()));
    for (table, text) in tables {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        tar.append_data(&mut header, format!("2026-01-01-020000/data/{table}.csv"), text.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap();
}

const VERSIONS: &str = "checksum,crate_id,crate_size,created_at,id,license,num\n\
    x,7,100,2019-01-01 00:00:00.123456+00,1,MIT/Apache-2.0,1.0.0\n\
    x,7,200,2021-06-01 00:00:00+00,2,GPL-3.0,1.1.0\n\
    x,7,300,2023-06-01 00:00:00+00,3,MIT OR GPL-3.0,1.2.0\n\
    x,7,400,2024-06-01 00:00:00+00,4,MIT AND GPL-3.0,2.0.0\n\
    x,8,50,2020-01-01 00:00:00+00,5,,0.1.0\n\
    x,8,60,2022-01-01 00:00:00+00,6,Nonsense,0.1.5\n\
    x,9,70,2025-01-01 00:00:00+00,8,Apache-2.0 WITH LLVM-exception,3.0.0\n";

#[test]
fn a_dump_tells_sizes_licences_downloads_and_owners() {
    let registry = registry();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db-dump.tar.gz");
    write_dump(&path, VERSIONS);
    let dump = format!("dump = {:?}", path.to_str().unwrap());
    let is = |line: &str, unknown: &str, expected: BTreeSet<String>| {
        let held = within(&registry, &[&dump, line, &format!("unknown = {unknown:?}")]);
        assert_eq!(held, expected, "{line}, unknown {unknown}");
    };
    is("max-size = \"250 B\"", "out", set("one-1.0.0 one-1.1.0 two-core-0.1.0 two-core-0.1.5 two-3.0.0"));
    is("max-size = \"250 B\"", "in", without("one-1.2.0 one-2.0.0"));
    is("licenses = [\"MIT\", \"Apache-2.0\"]", "out", set("one-1.0.0 one-1.2.0 two-3.0.0"));
    is("licenses = [\"MIT\", \"Apache-2.0\"]", "in", without("one-1.1.0 one-2.0.0"));
    is("min-downloads = 1000", "out", set("one-1.0.0 one-1.1.0 one-1.2.0 one-2.0.0"));
    is("owners = [\"bob\", \"github:org:team\"]", "out", without("one-1.0.0 one-1.1.0 one-1.2.0 one-2.0.0"));
    // What the index does not say of its oldest release, the dump does.
    is("published-before = \"2020-01-01\"", "out", set("one-1.0.0"));
}

#[test]
fn rules_that_cannot_be_followed_are_refused_before_anything_changes() {
    let registry = registry();
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.tar.gz");
    fs::write(&broken, "no archive").unwrap();
    let lacking = folder.path().join("lacking.tar.gz");
    write_dump(&lacking, "crate_id,num\n7,1.0.0\n");
    let ferry = Ferry::sparse(&registry);
    let refused = |code: i32, arguments: &[&str], named: &str| {
        ferry.sync(&[&["--crate", "one"], arguments].concat()).expect_error(code, named);
        assert!(!ferry.mirror().join("crateferry.toml").exists(), "{arguments:?}");
    };
    refused(2, &["--deny", "one@nonsense"], "deny = \"one@nonsense\"");
    refused(2, &["--allow", "../x"], "it is no name of a crate");
    refused(2, &["--published-after", "yesterday"], "it is no day like 2026-01-31");
    refused(2, &["--published-after", "2024-01-01", "--published-before", "2023-01-01"], "nothing is in");
    refused(2, &["--rust-version", "nightly"], "no version of Rust");
    refused(2, &["--max-size", "1MB"], "known from a database dump alone");
    refused(2, &["--licenses", "MIT,Beerware-9", "--dump", "x"], "SPDX has no licence of this name");
    refused(3, &["--min-downloads", "5", "--dump", broken.to_str().unwrap()], "cannot read the database dump");
    refused(
        3,
        &["--min-downloads", "5", "--dump", lacking.to_str().unwrap()],
        "versions.csv: it has no column crate_size",
    );
}

#[test]
fn a_plan_within_a_policy_is_what_the_sync_then_does() {
    let registry = registry();
    let ferry = Ferry::git(&registry);
    let line = ["--all", "--newest", "1", "--deny", "two"];
    let plan: Value = ferry.run("plan", &[&line[..], &["--json"]].concat()).json();
    let said = ferry.sync(&line).expect(0).json();
    assert_eq!(plan["fetch"], said["releases"]["stored"], "{plan}");
    assert_eq!(plan["index"]["kept_out"], said["index"]["kept_out"]);
    assert_eq!(plan["index"]["kept_out"], serde_json::json!({"deny": 1, "newest": 5}));
}

/// A web server for a folder: Python's, whose files have a date and no `ETag`. Ends with the test.
struct Web {
    child: std::process::Child,
    url: String,
    log: PathBuf,
}

impl Web {
    fn of(folder: &Path) -> Web {
        let log = folder.join("requests.log");
        let script = "import functools, http.server, sys\n\
             handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])\n\
             server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)\n\
             print(server.server_port, flush=True)\n\
             server.serve_forever()\n";
        let mut command = std::process::Command::new("python3");
        command.arg("-c").arg(script).arg(folder).stdout(std::process::Stdio::piped());
        let mut child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let mut port = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut port).unwrap();
        Web { child, url: format!("http://127.0.0.1:{}/db-dump.tar.gz", port.trim()), log }
    }

    /// The statuses of all answers, in order.
    fn answers(&self) -> Vec<String> {
        let log = std::fs::read_to_string(&self.log).unwrap();
        let of = |line: &str| line.split("\" ").nth(1).and_then(|rest| rest.split(' ').next()).map(str::to_owned);
        log.lines().filter_map(of).collect()
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_dump_at_a_url_is_fetched_when_it_has_changed() {
    let registry = registry();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db-dump.tar.gz");
    write_dump(&path, VERSIONS);
    let web = Web::of(folder.path());
    let ferry = Ferry::git(&registry);
    ferry.configure("policy", &format!("dump = {:?}", web.url)).configure("policy", "max-size = \"250 B\"");
    ferry.configure("network", "retries = 1\nretry-base = \"1ms\"");
    ferry.run("why", &["one"]).expect_error(2, "was not fetched yet");
    let kept_out = |code: i32| ferry.sync(&["--all"]).expect(code).json()["index"]["kept_out"].clone();
    assert_eq!(kept_out(0), serde_json::json!({"max-size": 2}));
    assert!(ferry.run("why", &["one@1.2.0"]).expect(1).stdout.contains("the policy's rule max-size"));
    ferry.run("plan", &[]).expect(0);
    assert_eq!(web.answers(), ["200", "304"], "asked by sync and plan, sent once");

    // Another dump is fetched, and a broken connection leaves the one that is there.
    write_dump(&path, &VERSIONS.replace(",7,300,", ",7,30,"));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
    assert_eq!(kept_out(0), serde_json::json!({"max-size": 1}));
    assert_eq!(web.answers().last().unwrap(), "200");
    let gone = web.url.clone();
    drop(web);
    let said = ferry.sync(&["--all"]).expect(0);
    assert!(said.stderr.contains("the database dump is as old as it was"), "{}", said.stderr);

    // One that never came is lacking, and so is one that is none.
    let other = Ferry::git(&registry);
    other.configure("policy", &format!("dump = {gone:?}")).configure("network", "retries = 1\nretry-base = \"1ms\"");
    other.sync(&["--all"]).expect_error(3, "cannot fetch the database dump");
    std::fs::write(&path, "no dump").unwrap();
    let web = Web::of(folder.path());
    let third = Ferry::git(&registry);
    third.configure("policy", &format!("dump = {:?}", web.url));
    third.sync(&["--all"]).expect_error(3, "cannot read the database dump");
    let missing = web.url.replace("db-dump", "absent");
    third.run("plan", &["--dump", &missing]).expect_error(3, "404");
}

//! The advisory database of a mirror: brought along by syncs, carried in bundles, and served to the real git and cargo-audit.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::gap::{Gap, generation};

use common::server::certificates;
use common::{Ferry, Ran, Server, program};
use crateferry_test_support::Registry;
use serde_json::{Value, json};

/// cargo-audit, as `tests/audit/fetch` puts it there.
const AUDIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/audit/bin/cargo-audit");

/// A database in the form of the real one, in a real git repository.
struct Database {
    folder: PathBuf,
}

impl Database {
    fn new(folder: PathBuf) -> Database {
        fs::create_dir_all(&folder).unwrap();
        let database = Database { folder };
        database.git(&["init", "--quiet", "--initial-branch", "main"]);
        fs::write(database.folder.join("support.toml"), "[rustsec-lib]\nversion = \"0.1\"\n").unwrap();
        fs::write(database.folder.join(".duplicate-id-guard"), "1\n").unwrap();
        database.advise("RUSTSEC-2026-0001", "parser", "patched = [\">= 1.2.0\"]").commit(1_790_000_000)
    }

    fn advise(&self, id: &str, package: &str, versions: &str) -> &Database {
        self.advise_of("code-execution", id, package, versions)
    }

    fn advise_of(&self, category: &str, id: &str, package: &str, versions: &str) -> &Database {
        let text = format!(
            "```toml\n[advisory]\nid = \"{id}\"\npackage = \"{package}\"\ndate = \"2026-02-03\"\n\
             categories = [\"{category}\"]\n\n[versions]\n{versions}\n```\n\n# What {id} is about\n\nMore words.\n"
        );
        let folder = self.folder.join("crates").join(package);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{id}.md")), text).unwrap();
        self
    }

    fn commit(&self, time: u64) -> Database {
        self.git(&["add", "--all"]);
        let date = format!("{time} +0000");
        let mut commit = self.command(&["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet"]);
        commit.args(["--message", "news"]).env("GIT_COMMITTER_DATE", &date).env("GIT_AUTHOR_DATE", &date);
        assert!(commit.status().unwrap().success());
        Database { folder: self.folder.clone() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.arg("-C").arg(&self.folder).args(arguments);
        command
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"])
    }

    fn url(&self) -> String {
        format!("file://{}", self.folder.display())
    }
}

/// The files of a folder, and what is in them.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let all =
        common::gap::walk(folder).into_iter().filter(|path| !path.components().any(|part| part.as_os_str() == ".git"));
    let mut all: Vec<_> =
        all.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())).collect();
    all.sort();
    all
}

/// Somebody's machine behind the gap: a lock file, and a database that grows there. It has no way out.
struct Desk {
    folder: PathBuf,
}

impl Desk {
    fn new(folder: PathBuf, parser: &str) -> Desk {
        fs::create_dir_all(folder.join("home")).unwrap();
        let source = "registry+https://github.com/rust-lang/crates.io-index";
        let package = |name: &str, version: &str| {
            let checksum = "0".repeat(64);
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\nchecksum = \"{checksum}\"\n\n"
            )
        };
        let lock = format!("version = 4\n\n{}{}", package("parser", parser), package("tool", "1.0.0"));
        fs::write(folder.join("Cargo.lock"), lock).unwrap();
        Desk { folder }
    }

    /// What cargo-audit says with the database at a URL.
    fn audit(&self, url: &str) -> (Output, Value) {
        assert!(Path::new(AUDIT).exists(), "cargo-audit is not here; get it with tests/audit/fetch");
        let mut audit = Command::new(AUDIT);
        audit.args(["audit", "--json", "--no-yanked", "--url", url, "--db"]).arg(self.folder.join("db"));
        // Whoever is asked beside the mirror is not there.
        for proxy in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
            audit.env(proxy, "http://127.0.0.1:9");
        }
        audit.env("NO_PROXY", "127.0.0.1").env("SSL_CERT_FILE", self.folder.with_file_name("ca.pem"));
        audit.env("CARGO_HOME", self.folder.join("home")).env("HOME", self.folder.join("home"));
        let output = audit.current_dir(&self.folder).output().unwrap();
        let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
        });
        (output, told)
    }

    #[track_caller]
    fn finds(&self, url: &str, advisories: &[&str]) {
        let (output, told) = self.audit(url);
        let list = told["vulnerabilities"]["list"].as_array().unwrap();
        let found: Vec<&str> = list.iter().map(|one| one["advisory"]["id"].as_str().unwrap()).collect();
        assert_eq!(found, advisories);
        assert_eq!(output.status.code(), Some(i32::from(!advisories.is_empty())));
    }
}

fn registry() -> Registry {
    let registry = Registry::new();
    registry.release("parser", "1.1.0").release("parser", "1.2.0").release("tool", "1.0.0");
    registry
}

fn serve(gap: &Gap, far: &str) -> Server {
    let mut command = program();
    command.arg("serve").arg(gap.origin.beside(far)).args(["--listen", "127.0.0.1:0"]);
    // cargo-audit fetches by https alone.
    let [_, chain, key] = certificates(&gap.origin.beside(""));
    command.arg("--tls-cert").arg(chain).arg("--tls-key").arg(key);
    Server::ready(gap.origin.start(command))
}

#[test]
fn cargo_audit_works_behind_the_gap_with_what_bundles_brought() {
    let gap = Gap::of(registry(), &["--all"]);
    let database = Database::new(gap.origin.beside("advisory-db"));
    gap.origin.configure("advisories", &format!("upstream = {:?}", database.url()));
    let synced = gap.origin.sync(&[]).expect(0).json();
    assert_eq!((&synced["published"], &synced["generation"]["number"]), (&json!(true), &json!(2)));
    assert_eq!(synced["generation"]["advisories"]["commit"], database.head());
    assert_eq!(gap.origin.sync(&[]).expect(0).json()["published"], false, "it is as it was");

    let (full, made) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    gap.is_the_same("far");
    let status = gap.far("far", "status").expect(0).json();
    assert_eq!(status["advisories"], gap.origin.status()["advisories"]);
    let server = serve(&gap, "far");
    let url = server.url("/advisory-db");
    let (old, new) = (Desk::new(gap.origin.beside("old"), "1.1.0"), Desk::new(gap.origin.beside("new"), "1.2.0"));
    old.finds(&url, &["RUSTSEC-2026-0001"]);
    new.finds(&url, &[]);

    // Nothing but the database changes: that alone makes a generation, and crosses the gap.
    database.advise("RUSTSEC-2026-0002", "tool", "patched = []").commit(1_790_000_100);
    let synced = gap.origin.sync(&[]).expect(0).json();
    assert_eq!((&synced["published"], &synced["generation"]["number"]), (&json!(true), &json!(3)));
    let (delta, _) = gap.create("delta", &["--since", &generation(&made)]);
    let inspected = gap.crateferry(&["bundle", "inspect", delta.to_str().unwrap(), "--trust", &gap.trust()]).expect(0);
    assert!(inspected.stdout.contains("2 advisories, commit"), "{}", inspected.stdout);
    gap.apply("far", &delta).expect(0);
    gap.is_the_same("far");
    common::wait_until("the server follows", || {
        let mut git = Command::new("git");
        git.env("GIT_SSL_CAINFO", gap.origin.beside("ca.pem"));
        let told = git.args(["ls-remote", &url, "HEAD"]).output().unwrap();
        let commit = String::from_utf8(told.stdout).unwrap();
        let known = Command::new("git").arg("-C").arg(old.folder.join("db")).args(["rev-parse", "HEAD"]).output();
        !commit.starts_with(String::from_utf8(known.unwrap().stdout).unwrap().trim())
    });
    // The databases that are there already grow.
    old.finds(&url, &["RUSTSEC-2026-0001", "RUSTSEC-2026-0002"]);
    new.finds(&url, &["RUSTSEC-2026-0002"]);

    // A stranger who knows the format page alone finds it everywhere.
    let reader = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format_reader.py");
    for (mirror, bundle) in [("mirror", &full), ("far", &delta)] {
        let output = Command::new("python3").arg(reader).arg(gap.origin.beside(mirror)).arg(bundle).output().unwrap();
        assert!(output.status.success(), "{mirror}: {}", String::from_utf8_lossy(&output.stderr));
    }

    // A bundle of a time without changes to the database does not carry it.
    let now = gap.origin.status()["generation"].to_string();
    gap.registry.release("later", "1.0.0").commit();
    gap.origin.sync(&[]).expect(0);
    let (small, _) = gap.create("small", &["--since", &now]);
    let to = gap.origin.beside("scan");
    let extract = |bundle: &Path| {
        let arguments = ["bundle", "extract", bundle.to_str().unwrap(), "--to", to.to_str().unwrap()];
        gap.crateferry(&[&arguments[..], &["--trust", &gap.trust()]].concat()).expect(0);
        let there = to.join("advisory-db.tar.zst").exists();
        fs::remove_dir_all(&to).unwrap();
        there
    };
    assert_eq!((extract(&small), extract(&delta)), (false, true));
    gap.apply("far", &small).expect(0);
    gap.is_the_same("far");
    old.finds(&url, &["RUSTSEC-2026-0001", "RUSTSEC-2026-0002"]);
}

#[test]
fn git_clones_what_is_served_and_it_is_what_the_upstream_has() {
    let registry = registry();
    let ferry = Ferry::git(&registry);
    let database = Database::new(ferry.beside("upstream-db"));
    ferry.configure("advisories", &format!("upstream = {:?}", database.url()));
    ferry.sync(&["--all"]).expect(0);
    let server = Server::start(&ferry, &[]);
    let url = server.url("/advisory-db");
    let git = |arguments: &[&str]| -> String {
        let output = Command::new("git").args(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    };
    for (name, options) in [
        ("whole", &[][..]),
        ("shallow", &["--depth", "1"]),
        ("old", &["-c", "protocol.version=0"]),
        ("bare", &["--bare"]),
    ] {
        let to = ferry.beside(name);
        let to = to.to_str().unwrap();
        git(&[&["clone", "--quiet"], options, &[url.as_str(), to]].concat());
        git(&["-C", to, "fsck", "--strict"]);
        assert!(git(&["-C", to, "log", "--format=%B"]).contains(&database.head()));
        assert_eq!(git(&["-C", to, "log", "--format=%ct"]).trim(), "1790000000");
        if name != "bare" {
            assert_eq!(files(Path::new(to)), files(&database.folder));
        }
        git(&["-C", to, "fetch", "--quiet"]);
    }
    // What git asks with much to tell is gzipped.
    let clone = ferry.beside("whole");
    let clone = clone.to_str().unwrap();
    for number in 0..200 {
        let message = number.to_string();
        let commit = ["commit", "--quiet", "--allow-empty", "--message", &message];
        git(&[&["-C", clone, "-c", "user.name=A", "-c", "user.email=a@example.org"], &commit[..]].concat());
    }
    database.advise("RUSTSEC-2026-0003", "tool", "patched = []").commit(1_790_000_200);
    ferry.sync(&[]).expect(0);
    common::wait_until("the server follows", || {
        git(&["ls-remote", &url, "HEAD"]) != git(&["-C", clone, "ls-remote", ".", "origin/main"]) && {
            git(&["-C", clone, "fetch", "--quiet"]);
            git(&["-C", clone, "show", "--stat", "origin/main"]).contains("RUSTSEC-2026-0003.md")
        }
    });
    let output = Command::new("git").args(["-C", clone, "push", "--quiet", "origin", "HEAD:main"]).output().unwrap();
    assert!(!output.status.success(), "nobody pushes to it");
}

#[test]
fn a_database_that_cannot_be_had_holds_nothing_else_back() {
    let registry = registry();
    let ferry = Ferry::git(&registry);
    let database = Database::new(ferry.beside("upstream-db"));
    ferry.configure("advisories", &format!("upstream = {:?}", database.url()));
    ferry.configure("policy", "advisories = \"vulnerable\"");
    let synced = ferry.sync(&["--all"]).expect(0).json();
    assert_eq!(synced["index"]["kept_out"], json!({"advisories": 1}), "the policy heeds it");
    let told = ferry.run("report", &[]).expect(0).stdout;
    assert!(told.contains("none is about any of these"), "{told}");
    let known = ferry.status()["advisories"].clone();

    let hidden = ferry.beside("hidden");
    fs::rename(&database.folder, &hidden).unwrap();
    registry.release("later", "1.0.0").commit();
    let synced = ferry.sync(&[]).expect(1).json();
    assert!(synced["problems"][0].as_str().unwrap().contains("the advisory database is as old as it was"));
    assert_eq!((&synced["releases"]["stored"], &ferry.status()["advisories"]), (&json!(1), &known));
    registry.release("parser", "1.0.0").commit();
    let synced = ferry.sync(&[]).expect(1).json();
    assert_eq!(synced["index"]["kept_out"], json!({"advisories": 2}), "what is known of it still counts");

    // One without advisories is none, and one that cannot be read is told.
    let other = Database { folder: database.folder.clone() };
    fs::create_dir_all(&other.folder).unwrap();
    other.git(&["init", "--quiet", "--initial-branch", "main"]);
    fs::write(other.folder.join("README.md"), "no advisories").unwrap();
    other.commit(1_790_000_300);
    let synced = ferry.sync(&[]).expect(1).json();
    assert!(synced["problems"][0].as_str().unwrap().contains("it has no advisories"), "{synced}");
    assert_eq!(ferry.status()["advisories"], known);

    // The ledger is made again from the packs, database and all.
    fs::remove_dir_all(&other.folder).unwrap();
    fs::rename(&hidden, &database.folder).unwrap();
    let before = ferry.status();
    fs::remove_file(ferry.file("ledger.redb")).unwrap();
    ferry.run("rebuild", &[]).expect(0);
    assert_eq!(ferry.status(), before);
    ferry.run("verify", &[]).expect(0);
    assert_eq!(ferry.sync(&[]).expect(0).json()["published"], false);
}

#[test]
fn what_a_new_advisory_says_is_malware_is_withdrawn_everywhere_and_enters_no_more() {
    let gap = Gap::of(registry(), &["--all"]);
    let database = Database::new(gap.origin.beside("advisory-db"));
    gap.origin.configure("advisories", &format!("upstream = {:?}", database.url()));
    assert_eq!(gap.origin.sync(&[]).expect(0).json()["malware"], json!([]));
    let (full, made) = gap.create("full", &["--full"]);
    gap.apply("far", &full).expect(0);
    let server = Server::start(&gap.origin, &[]);
    let ask = |path: &str| -> u16 {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--noproxy", "*", "--output"]).arg(gap.origin.beside("curl"));
        let output = curl.args(["--write-out", "%{http_code}"]).arg(server.url(path)).output().unwrap();
        String::from_utf8(output.stdout).unwrap().parse().unwrap()
    };
    assert_eq!(ask("/index/to/ol/tool"), 200);

    database.advise_of("malicious", "RUSTSEC-2026-0004", "tool", "patched = []").commit(1_790_000_100);
    database.advise_of("malicious", "RUSTSEC-2026-0005", "never-there", "patched = []").commit(1_790_000_200);
    let synced = gap.origin.sync(&[]).expect(0).json();
    let tool = json!([{ "name": "tool", "version": "1.0.0", "advisory": "RUSTSEC-2026-0004" }]);
    assert_eq!((&synced["malware"], &synced["published"]), (&tool, &json!(true)));
    common::wait_until("the server follows", || ask("/index/to/ol/tool") == 404);
    assert_eq!(ask("/index/pa/rs/parser"), 200);
    let listed = gap.origin.run("withdraw", &[]).expect(0).stdout;
    assert!(
        listed.starts_with("tool@1.0.0  since ") && listed.contains(": malware, RUSTSEC-2026-0004: What"),
        "{listed}"
    );

    // A bundle carries the word to the other side.
    let (delta, _) = gap.create("delta", &["--since", &generation(&made)]);
    gap.apply("far", &delta).expect(0);
    gap.is_the_same("far");
    let far = serve(&gap, "far");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--noproxy", "*", "--cacert"]).arg(gap.origin.beside("ca.pem"));
    let told = curl.args(["--write-out", "%{http_code}"]).arg(far.url("/index/to/ol/tool")).output().unwrap();
    assert!(told.stdout.ends_with(b"404"), "{told:?}");

    // What the advisory is about, too, and comes later.
    gap.registry.release("tool", "2.0.0").commit();
    let synced = gap.origin.sync(&[]).expect(0).json();
    assert_eq!((&synced["index"]["kept_out"], &synced["malware"]), (&json!({"advisories": 2}), &json!([])));

    // An operator who knows better is not overruled by the same advisory, and the ledger made again knows all that.
    gap.origin.run("withdraw", &["tool@1.0.0", "--undo"]).expect(0);
    database.advise("RUSTSEC-2026-0006", "parser", "patched = [\">= 1.2.0\"]").commit(1_790_000_300);
    assert_eq!(gap.origin.sync(&[]).expect(0).json()["malware"], json!([]));
    common::wait_until("the server follows", || ask("/index/to/ol/tool") == 200);
    drop(server);
    let before = gap.origin.status();
    fs::remove_file(gap.origin.file("ledger.redb")).unwrap();
    gap.origin.run("rebuild", &[]).expect(0);
    assert_eq!(gap.origin.status(), before);

    // A first mirror does not fetch it at all, unless it heeds nothing.
    for (name, options, kept_out) in
        [("first", &[][..], json!({"advisories": 2})), ("heedless", &["--advisories", "off"], json!({}))]
    {
        let ferry = Ferry::git(&gap.registry);
        ferry.configure("advisories", &format!("upstream = {:?}", database.url()));
        let synced = ferry.sync(&[&["--all"], options].concat()).expect(0).json();
        assert_eq!(synced["index"]["kept_out"], kept_out, "{name}");
    }
}

#[test]
fn an_advisory_that_cannot_be_read_is_told_and_the_others_are_heeded() {
    let registry = registry();
    let ferry = Ferry::git(&registry);
    let database = Database::new(ferry.beside("upstream-db"));
    database.advise_of("malicious", "RUSTSEC-2026-0007", "tool", "patched = []");
    fs::write(database.folder.join("crates/parser/RUSTSEC-2026-0008.md"), "of a time to come").unwrap();
    database.commit(1_790_000_100);
    ferry.configure("advisories", &format!("upstream = {:?}", database.url()));
    let synced = ferry.sync(&["--all"]).expect(1).json();
    let problem = synced["problems"][0].as_str().unwrap();
    assert!(problem.contains("cannot read the advisory crates/parser/RUSTSEC-2026-0008.md"), "{problem}");
    assert_eq!(synced["index"]["kept_out"], json!({"advisories": 1}));
    ferry.sync(&[]).expect(0);
    let refused = ferry.sync(&["--advisories", "vulnerable"]);
    refused.expect_error(3, "cannot read the advisory crates/parser/RUSTSEC-2026-0008.md");
}

#[test]
fn a_mirror_without_a_database_has_no_repository() {
    let registry = registry();
    let ferry = Ferry::git(&registry);
    ferry.sync(&["--all"]).expect(0);
    let server = Server::start(&ferry, &[]);
    let output = Command::new("git").args(["ls-remote", &server.url("/advisory-db")]).output().unwrap();
    assert!(!output.status.success());
    let refused: Ran = ferry.configure("advisories", "upstream = \"ssh://example.org/db\"").sync(&[]);
    refused.expect_error(2, "is no URL of a git repository");
}

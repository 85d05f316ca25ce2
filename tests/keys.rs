//! `keys` as users run it: lists are made, signed here and elsewhere by minisign and GnuPG, and handed over.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Ferry, Ran, program};
use crateferry_test_support::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A place with an empty mirror `m` and the keys of some people.
struct Place(TempDir);

impl Place {
    fn new(people: &[&str]) -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        place.run("init m").expect(0);
        people.iter().for_each(|name| drop(place.run(&format!("keygen --out {name}")).expect(0)));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn run(&self, line: &str) -> Ran {
        let mut command = program();
        let output = command.current_dir(self.0.path()).args(line.split(' ')).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ran { code: output.status.code(), signal: None, stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn show(&self) -> Value {
        self.run("keys show m --json").expect(0).json()
    }

    /// The numbers of the lists, and since when each counts.
    fn lists(&self) -> Vec<(u64, u64)> {
        let number = |value: &Value| value.as_u64().unwrap();
        let shown = self.show();
        let lists = shown["lists"].as_array().unwrap().iter();
        lists.map(|list| (number(&list["number"]), number(&list["from"]["generation"]))).collect()
    }

    fn id(&self, name: &str) -> String {
        let text = self.text(&format!("{name}.pub"));
        text.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
    }

    /// Another program, in the same place.
    #[track_caller]
    fn other(&self, program: &str, line: &str) -> String {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).args(line.split(' '));
        ran(command)
    }

    /// Writes the text of a list and a signature over it where minisign finds them.
    fn take_out(&self, list: usize, signature: usize) {
        let chain: Value = serde_json::from_str(&self.text("m/keys/keys.json")).unwrap();
        let of = |value: &Value| value.as_str().unwrap().to_owned();
        fs::write(self.path("list"), of(&chain["lists"][list]["list"])).unwrap();
        fs::write(self.path("list.minisig"), of(&chain["lists"][list]["signatures"][signature])).unwrap();
    }
}

#[track_caller]
fn ran(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; apt-get install minisign gnupg"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A GnuPG with keys of its own.
struct GnuPg(TempDir);

impl GnuPg {
    /// In a folder with a short name: the agent listens at a path in it.
    fn new() -> GnuPg {
        GnuPg(tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap())
    }

    #[track_caller]
    fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", self.0.path()).env("LC_ALL", "C");
        command.args(["--batch", "--yes", "--pinentry-mode", "loopback", "--passphrase", ""]).args(arguments);
        ran(command)
    }
}

impl Drop for GnuPg {
    fn drop(&mut self) {
        let mut command = Command::new("gpgconf");
        command.env("GNUPGHOME", self.0.path()).args(["--kill", "all"]).status().ok();
    }
}

#[test]
fn keys_are_handed_over_and_minisign_verifies_each_list() {
    let place = Place::new(&["anna", "ben"]);
    let none = place.run("keys show m").expect(0).stdout;
    assert!(none.contains("there is no key list"), "{none}");
    assert_eq!(place.show(), json!({"trusted": null, "lists": [], "unsigned": null}));
    let first = place.run("keys set m --key anna.pub --sign anna --json").expect(0).json();
    let (anna, ben) = (place.id("anna"), place.id("ben"));
    let keys = |id: &str| json!([{"kind": "minisign", "id": id}]);
    let from = |generation: u64| json!({"epoch": 0, "generation": generation});
    assert_eq!(first, json!({"number": 1, "from": from(0), "quorum": 1, "keys": keys(&anna)}));
    let line = place.text("ben.pub").lines().nth(1).unwrap().to_owned();
    let said = place.run(&format!("keys set m --key {line} --sign anna ben")).expect(0).stdout;
    assert_eq!(said, format!("in effect   list 2 from generation 1 on, 1 of 1: {ben}\n"));
    let second = json!({"number": 2, "from": from(1), "quorum": 1, "keys": keys(&ben)});
    assert_eq!(place.show()["lists"], json!([first, second]));
    for (list, signature, public) in [(0, 0, "anna.pub"), (1, 0, "anna.pub"), (1, 1, "ben.pub")] {
        place.take_out(list, signature);
        let said = place.other("minisign", &format!("-V -p {public} -m list"));
        assert!(said.contains("Signature and comment signature verified"), "{said}");
    }
}

#[test]
fn a_list_that_too_few_signed_changes_nothing() {
    let place = Place::new(&["anna", "ben", "cleo"]);
    let set = |line: &str| place.run(&format!("keys set m {line}"));
    set("--key anna.pub ben.pub --sign anna").expect_error(2, &format!("{} has", place.id("anna")));
    assert!(!place.path("m/keys").exists());
    set("--key anna.pub ben.pub cleo.pub --quorum 2 --sign anna cleo").expect(0);
    let before = place.text("m/keys/keys.json");
    set("--key cleo.pub --sign cleo").expect_error(2, "was not handed over to by the list before it");
    set("--key cleo.pub --sign anna ben").expect_error(2, "was not signed by its own keys");
    set("--key cleo.pub --sign anna anna cleo").expect_error(2, "given twice");
    set("--key anna.pub ben.pub cleo.pub --quorum 2 --sign anna ben").expect_error(2, "count already");
    set("--key anna.pub anna.pub --sign anna").expect_error(2, "twice");
    set("--key anna.pub --quorum 2 --sign anna").expect_error(2, "quorum of 2");
    set("--key anna --sign anna").expect_error(3, "cannot use the public key anna");
    set("--key anna.pub").expect_error(2, "--sign");
    assert_eq!(place.text("m/keys/keys.json"), before);
    set("--key cleo.pub --sign ben cleo anna").expect(0);
}

#[test]
fn lists_are_signed_elsewhere_with_minisign_and_gnupg() {
    let (place, gpg) = (Place::new(&["anna"]), GnuPg::new());
    place.run("keys attach m --signature x").expect_error(3, "cannot read the signature x");
    gpg.run(&["--quick-gen-key", "officer", "ed25519", "sign", "never"]);
    let public = gpg.run(&["--armor", "--export", "officer"]);
    fs::write(place.path("officer.pub"), public).unwrap();
    let set = "keys set m --key anna.pub officer.pub --unsigned --json";
    let written = place.run(set).expect(0).json();
    assert_eq!((&written["to_be_signed"], &written["quorum"]), (&json!("m/keys/next.json"), &json!(2)));
    assert_eq!((place.lists(), &place.show()["unsigned"]["number"]), (vec![], &json!(1)));
    let next = place.path("m/keys/next.json");
    let next = next.to_str().unwrap();
    place.other("minisign", "-S -s anna -m m/keys/next.json -x anna.minisig");
    let alone = place.run("keys attach m --signature anna.minisig anna.minisig");
    alone.expect_error(5, &format!("2 of these keys must sign it, and {} has", place.id("anna")));
    let text = place.text("m/keys/next.json");
    for options in [&["--armor"][..], &[]] {
        let signature = place.path(if options.is_empty() { "officer.sig" } else { "officer.asc" });
        let end = ["--output", signature.to_str().unwrap(), "--detach-sign", next];
        gpg.run(&[options, &end].concat());
    }
    fs::write(place.path("m/keys/next.json"), text.replace("\"quorum\":2", "\"quorum\":1")).unwrap();
    place.run("keys attach m --signature anna.minisig officer.sig").expect_error(5, "does not count");
    fs::write(place.path("m/keys/next.json"), &text).unwrap();
    place.run("keys attach m --signature anna.minisig officer.sig").expect(0);
    assert!(!place.path("m/keys/next.json").exists());
    assert_eq!((place.lists(), &place.show()["unsigned"]), (vec![(1, 0)], &Value::Null));
    place.run("keys attach m --signature officer.asc").expect_error(2, "no key list waits");

    // GnuPG says of what is kept what it said of its own.
    let chain: Value = serde_json::from_str(&place.text("m/keys/keys.json")).unwrap();
    assert_eq!(chain["lists"][0]["list"], json!(text));
    let (list, signature) = (place.path("list"), place.path("list.asc"));
    fs::write(&list, &text).unwrap();
    fs::write(&signature, chain["lists"][0]["signatures"][1].as_str().unwrap()).unwrap();
    let said = gpg.run(&["--status-fd", "1", "--verify", signature.to_str().unwrap(), list.to_str().unwrap()]);
    assert!(said.contains("GOODSIG"), "{said}");
}

#[test]
fn an_openpgp_key_that_expired_hands_over_and_a_revoked_one_does_not() {
    let (place, gpg) = (Place::new(&["anna"]), GnuPg::new());
    let time = ["--faked-system-time", "20200102T030405"];
    gpg.run(&[&time[..], &["--quick-gen-key", "officer", "ed25519", "sign", "1y"]].concat());
    let export = || fs::write(place.path("officer.pub"), gpg.run(&["--armor", "--export", "officer"])).unwrap();
    let sign = || {
        let (to, next) = (place.path("officer.asc"), place.path("m/keys/next.json"));
        let end = ["--armor", "--output", to.to_str().unwrap(), "--detach-sign", next.to_str().unwrap()];
        gpg.run(&[&time[..], &end].concat());
    };
    export();
    place.run("keys set m --key officer.pub --unsigned").expect(0);
    sign();
    place.run("keys attach m --signature officer.asc").expect(0);
    assert_eq!(place.lists(), [(1, 0)]);

    let other = Place::new(&[]);
    let listed = gpg.run(&["--with-colons", "--list-keys", "officer"]);
    let id = listed.lines().find(|line| line.starts_with("fpr:")).unwrap().split(':').nth(9).unwrap().to_owned();
    let written = gpg.0.path().join(format!("openpgp-revocs.d/{id}.rev"));
    fs::write(&written, fs::read_to_string(&written).unwrap().replace(":-----BEGIN", "-----BEGIN")).unwrap();
    gpg.run(&["--import", written.to_str().unwrap()]);
    export();
    fs::copy(place.path("officer.pub"), other.path("officer.pub")).unwrap();
    other.run("keys set m --key officer.pub --unsigned").expect(0);
    fs::copy(place.path("officer.asc"), other.path("officer.asc")).unwrap();
    other.run("keys attach m --signature officer.asc").expect_error(5, "was revoked");
}

#[test]
fn a_list_counts_from_the_next_generation_or_from_where_it_says() {
    let registry = Registry::new();
    registry.release("one", "1.0.0");
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "one"]).expect(0);
    let keys: Vec<String> = ["a", "b"].iter().map(|name| ferry.beside(name).display().to_string()).collect();
    for key in &keys {
        let mut keygen = program();
        keygen.args(["keygen", "--out", key]);
        ferry.start(keygen).wait().expect(0);
    }
    let publics: Vec<String> = keys.iter().map(|key| format!("{key}.pub")).collect();
    let set = |arguments: &[&str]| {
        let mut set = program();
        set.args(["keys", "set"]).arg(ferry.mirror()).args(arguments).args(["--json", "--sign"]).args(&keys);
        ferry.start(set).wait()
    };
    let [a, b] = [&publics[0], &publics[1]].map(String::as_str);
    set(&["--key", a, "--from", "1"]).expect_error(2, "the first key list counts from the beginning");
    set(&["--key", a]).expect(0);
    assert_eq!(set(&["--key", b]).expect(0).json()["from"], json!({"epoch": 0, "generation": 2}));
    set(&["--key", a, "--from", "1"]).expect_error(2, "key list 2 counts from generation 2 on");
    assert_eq!(set(&["--key", a, "--from", "9"]).expect(0).json()["from"]["generation"], json!(9));
    assert_eq!(set(&["--key", b]).expect(0).json()["from"]["generation"], json!(9));

    // The keys are no part of what a rebuild makes, and a new epoch is later than all before it.
    let lists = fs::read(ferry.file("keys/keys.json")).unwrap();
    ferry.run("rebuild", &["--new-epoch"]).expect(0);
    assert_eq!(fs::read(ferry.file("keys/keys.json")).unwrap(), lists);
    assert_eq!(set(&["--key", a]).expect(0).json()["from"], json!({"epoch": 1, "generation": 2}));
}

#[test]
fn damaged_lists_are_named_and_not_written_over() {
    let place = Place::new(&["anna", "ben"]);
    place.run("keys set m --key anna.pub --sign anna").expect(0);
    let damaged = place.text("m/keys/keys.json").replace("\"quorum\\\":1", "\"quorum\\\":2");
    fs::write(place.path("m/keys/keys.json"), &damaged).unwrap();
    place.run("keys show m").expect_error(5, "cannot use m/keys/keys.json");
    place.run("keys set m --key ben.pub --sign anna ben").expect_error(5, "cannot use m/keys/keys.json");
    assert_eq!(place.text("m/keys/keys.json"), damaged);
    fs::write(place.path("m/keys/keys.json"), vec![b' '; (1 << 20) + 1]).unwrap();
    place.run("keys show m").expect_error(3, "longer than 1048576 bytes");
    place.run("keys show nothing").expect_error(2, "there is no mirror");
}

#[test]
fn a_mirror_that_was_told_whom_to_trust_makes_no_lists() {
    let place = Place::new(&["anna"]);
    place.run("keys set m --key anna.pub --sign anna").expect(0);
    let chain: Value = serde_json::from_str(&place.text("m/keys/keys.json")).unwrap();
    let list: Value = serde_json::from_str(chain["lists"][0]["list"].as_str().unwrap()).unwrap();
    let pinned = json!({"format": 1, "trusted": {"quorum": list["quorum"], "keys": list["keys"]}});
    fs::write(place.path("m/keys/pinned.json"), pinned.to_string()).unwrap();
    assert_eq!(place.show()["trusted"]["keys"], json!([{"kind": "minisign", "id": place.id("anna")}]));
    place.run("keys set m --key anna.pub --sign anna").expect_error(2, "takes its key lists from the bundles");
}

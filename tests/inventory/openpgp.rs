//! Keys and signatures of OpenPGP, against GnuPG itself.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::bench::{Place, ran};

const DAY: &str = "20200102T030405";

/// A GnuPG with keys of its own.
struct GnuPg(TempDir);

impl GnuPg {
    /// In a folder with a short name: the agent listens at a path in it.
    fn new() -> GnuPg {
        GnuPg(tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("GNUPGHOME", self.0.path()).env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// What it writes on stdout, status lines among it.
    #[track_caller]
    fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let mut command = self.command("gpg");
        command.args(["--batch", "--yes", "--status-fd", "1", "--pinentry-mode", "loopback"]).args(arguments);
        let output = command.output().unwrap_or_else(|error| panic!("gpg: {error}; apt-get install gnupg"));
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A key without a password, and its fingerprint.
    #[track_caller]
    fn key(&self, name: &str, algorithm: &str, usage: &str) -> String {
        self.key_with(name, &["--passphrase", "", "--quick-gen-key", name, algorithm, usage, "never"])
    }

    #[track_caller]
    fn key_with(&self, name: &str, arguments: &[&str]) -> String {
        self.run(arguments);
        let listed = self.run(&["--with-colons", "--list-keys", name]);
        let line = listed.lines().find(|line| line.starts_with("fpr:")).unwrap();
        line.split(':').nth(9).unwrap().to_owned()
    }

    #[track_caller]
    fn export(&self, kind: &str, key: &str, to: &Path) {
        let arguments = ["--armor", "--passphrase", "", "--output", to.to_str().unwrap(), kind, key];
        self.run(&arguments);
    }

    /// It says that the document was signed by the key.
    #[track_caller]
    fn verifies(&self, place: &Place, key: &str) {
        let (signature, document) = (place.path("files.yaml.asc"), place.path("files.yaml"));
        let said = self.run(&[OsStr::new("--verify"), signature.as_os_str(), document.as_os_str()]);
        let valid = said.lines().find(|line| line.contains("VALIDSIG")).unwrap();
        assert!(said.contains("GOODSIG") && valid.ends_with(key), "{said}");
    }

    /// Signs the document.
    #[track_caller]
    fn sign(&self, place: &Place, key: &str, options: &[&str]) {
        let document = place.path("files.yaml");
        let end = ["--passphrase", "", "--local-user", key, "--detach-sign", document.to_str().unwrap()];
        self.run(&[options, &end].concat());
    }
}

impl Drop for GnuPg {
    fn drop(&mut self) {
        self.command("gpgconf").args(["--kill", "all"]).status().ok();
    }
}

/// A place with an unsigned inventory, and keys of which the public one of `name` lies there as `pub`.
fn unsigned(gpg: &GnuPg, key: &str) -> Place {
    let place = Place::small();
    place.inventory(&["--hashes", "xxh3"]).expect(0);
    gpg.export("--export", key, &place.path("pub"));
    place
}

#[track_caller]
fn refused(place: &Place, why: &str) {
    let said = place.check(&["--trust", "pub", "--json"]).expect(5).json();
    assert!(said["bad_signature"].as_str().unwrap().contains(why), "{said}");
    assert_eq!((&said["files"], &said["signed_by"]), (&json!(0), &json!(null)));
}

#[test]
fn gnupg_verifies_what_a_key_of_keygen_signed() {
    let (place, gpg) = (Place::small(), GnuPg::new());
    let made = place.run(&["keygen", "--out", "key", "--kind", "openpgp", "--json"]).expect(0).json();
    assert_eq!(fs::metadata(place.path("key")).unwrap().permissions().mode() & 0o777, 0o600);
    let id = made["key_id"].as_str().unwrap();
    gpg.run(&["--import", place.path("key.pub").to_str().unwrap()]);
    let listed = gpg.run(&["--with-colons", "--list-keys", id]);
    assert!(listed.contains("key (crateferry)"), "{listed}");
    let signed = place.inventory(&["--sign", "key", "--json"]).expect(0).json();
    gpg.verifies(&place, id);
    let note = json!({"format": "openpgp", "file": "files.yaml.asc", "keyId": id});
    let documents = place.documents();
    assert_eq!((&documents["yaml"]["signature"], &documents["toml"]["signature"]), (&note, &note));
    assert_eq!((&signed["key_id"], &signed["signature"]), (&json!(id), &json!("./files.yaml.asc")));
    let checked = place.check(&["--trust", "key.pub", "--json"]).expect(0).json();
    assert_eq!(checked["signed_by"], json!(id));
}

#[test]
fn gnupg_signs_with_a_key_of_keygen() {
    let (place, gpg) = (Place::small(), GnuPg::new());
    let password = "a b";
    let keygen = ["keygen", "--out", "key", "--kind", "openpgp"];
    ran(place.command(&keygen).env("CRATEFERRY_KEY_PASSWORD", password)).expect(0);
    gpg.run(&["--passphrase", password, "--import", place.path("key").to_str().unwrap()]);
    place.inventory(&[]).expect(0);
    gpg.run(&["--passphrase", password, "--armor", "--detach-sign", place.path("files.yaml").to_str().unwrap()]);
    place.check(&["--trust", "key.pub"]).expect(0);
}

#[test]
fn keys_that_gnupg_made_sign_and_gnupg_verifies() {
    let gpg = GnuPg::new();
    for algorithm in ["ed25519", "rsa2048", "nistp384"] {
        let key = gpg.key(algorithm, algorithm, "sign");
        let place = Place::small();
        gpg.export("--export-secret-keys", &key, &place.path("secret"));
        gpg.export("--export", &key, &place.path("pub"));
        place.inventory(&["--sign", "secret"]).expect(0);
        gpg.verifies(&place, &key);
        place.check(&["--trust", "pub"]).expect(0);
    }
}

#[test]
fn a_subkey_signs_also_where_the_primary_key_is_kept_elsewhere() {
    let gpg = GnuPg::new();
    for (primary, subkey) in [("ed25519", "ed25519"), ("rsa2048", "rsa2048")] {
        let key = gpg.key(primary, primary, "cert");
        gpg.run(&["--passphrase", "", "--quick-add-key", &key, subkey, "sign", "never"]);
        for export in ["--export-secret-keys", "--export-secret-subkeys"] {
            let place = Place::small();
            gpg.export(export, &key, &place.path("secret"));
            gpg.export("--export", &key, &place.path("pub"));
            let signed = place.inventory(&["--sign", "secret", "--json"]).expect(0).json();
            assert_eq!(signed["key_id"], json!(key));
            gpg.verifies(&place, &key);
            place.check(&["--trust", "pub"]).expect(0);
        }
    }
}

#[test]
fn signatures_of_gnupg_are_taken_armored_and_binary() {
    let gpg = GnuPg::new();
    for algorithm in ["ed25519", "rsa2048"] {
        let key = gpg.key(algorithm, algorithm, "sign");
        for with_subkey in [false, true] {
            if with_subkey {
                gpg.run(&["--passphrase", "", "--quick-add-key", &key, algorithm, "sign", "never"]);
            }
            let place = unsigned(&gpg, &key);
            for (options, written) in [(&["--armor"][..], "files.yaml.asc"), (&[][..], "files.yaml.sig")] {
                gpg.sign(&place, &key, options);
                place.check(&["--trust", "pub"]).expect(0);
                fs::remove_file(place.path(written)).unwrap();
            }
            refused(&place, "no files.yaml.asc");
        }
    }
}

#[test]
fn a_binary_public_key_and_one_of_several_signatures_do() {
    let gpg = GnuPg::new();
    let (ours, other) = (gpg.key("ours", "ed25519", "sign"), gpg.key("other", "ed25519", "sign"));
    let place = unsigned(&gpg, &ours);
    gpg.run(&["--output", place.path("pub").to_str().unwrap(), "--export", &ours]);
    gpg.sign(&place, &ours, &["--local-user", &other, "--armor"]);
    place.check(&["--trust", "pub"]).expect(0);
}

#[test]
fn a_key_with_a_password_needs_it() {
    let (place, gpg) = (Place::small(), GnuPg::new());
    let arguments = ["--passphrase", "a b", "--quick-gen-key", "secured", "ed25519", "sign", "never"];
    let key = gpg.key_with("secured", &arguments);
    let secret = place.path("secret");
    let export = ["--passphrase", "a b", "--armor", "--output", secret.to_str().unwrap(), "--export-secret-keys", &key];
    gpg.run(&export);
    place.inventory(&["--sign", "secret"]).expect_error(3, "CRATEFERRY_KEY_PASSWORD");
    let sign = |password| {
        ran(place.command(&["inventory", "files", "--sign", "secret"]).env("CRATEFERRY_KEY_PASSWORD", password))
    };
    sign("wrong").expect_error(3, "wrong password");
    assert!(!place.path("files.yaml").exists());
    sign("a b").expect(0);
    gpg.verifies(&place, &key);
}

#[test]
fn what_another_key_signed_or_nobody_or_what_was_changed_is_refused() {
    let gpg = GnuPg::new();
    let (ours, other) = (gpg.key("ours", "ed25519", "sign"), gpg.key("other", "ed25519", "sign"));
    let place = unsigned(&gpg, &ours);
    refused(&place, "no files.yaml.asc");
    gpg.sign(&place, &other, &["--armor"]);
    refused(&place, &format!("it is by key {other}, not by key {ours}"));
    gpg.sign(&place, &ours, &["--armor"]);
    place.check(&["--trust", "pub"]).expect(0);
    let mut document = place.read("files.yaml");
    document.push(b'\n');
    fs::write(place.path("files.yaml"), document).unwrap();
    refused(&place, "does not fit");
    let minisign = Place::small();
    minisign.run(&["keygen", "--out", "key"]).expect(0);
    minisign.inventory(&["--sign", "key"]).expect(0);
    fs::copy(minisign.path("files.yaml.minisig"), place.path("files.yaml.asc")).unwrap();
    refused(&place, "no detached signature of OpenPGP");
}

#[test]
fn a_text_and_weak_hashes_are_refused() {
    let gpg = GnuPg::new();
    let key = gpg.key("ours", "rsa2048", "sign");
    let place = unsigned(&gpg, &key);
    gpg.sign(&place, &key, &["--armor", "--textmode"]);
    refused(&place, "not over exact bytes");
    for hash in ["SHA1", "RIPEMD160"] {
        gpg.sign(&place, &key, &["--armor", "--digest-algo", hash]);
        refused(&place, &format!("uses {hash}, which is broken"));
    }
}

#[test]
fn a_small_rsa_key_is_refused() {
    let gpg = GnuPg::new();
    let key = gpg.key("weak", "rsa1024", "sign");
    let place = unsigned(&gpg, &key);
    gpg.sign(&place, &key, &["--armor"]);
    refused(&place, "RSA of 1024 bits");
}

#[test]
fn an_expired_key_is_refused_until_it_is_renewed() {
    let gpg = GnuPg::new();
    let time = ["--faked-system-time", DAY];
    let generate = ["--passphrase", "", "--quick-gen-key", "old", "ed25519", "sign", "1y"];
    let key = gpg.key_with("old", &[&time[..], &generate].concat());
    let place = unsigned(&gpg, &key);
    gpg.sign(&place, &key, &[&time[..], &["--armor"]].concat());
    refused(&place, "expired at 2021-01-01T03:04:05Z");
    gpg.export("--export-secret-keys", &key, &place.path("secret"));
    place.inventory(&["--sign", "secret"]).expect_error(3, "expired at 2021-01-01T03:04:05Z");
    gpg.run(&["--passphrase", "", "--quick-set-expire", &key, "10y"]);
    gpg.export("--export", &key, &place.path("pub"));
    place.check(&["--trust", "pub"]).expect(0);
}

#[test]
fn an_expired_subkey_and_an_expired_signature_are_refused() {
    let gpg = GnuPg::new();
    let key = gpg.key_with(
        "old",
        &["--faked-system-time", DAY, "--passphrase", "", "--quick-gen-key", "old", "ed25519", "sign", "never"],
    );
    let time = ["--faked-system-time", DAY, "--armor"];
    let place = unsigned(&gpg, &key);
    gpg.sign(&place, &key, &[&time[..], &["--default-sig-expire", "1d"]].concat());
    refused(&place, "it expired at 2020-01-03T03:04:05Z");
    gpg.run(&["--faked-system-time", DAY, "--passphrase", "", "--quick-add-key", &key, "ed25519", "sign", "1d"]);
    gpg.export("--export", &key, &place.path("pub"));
    gpg.sign(&place, &key, &time);
    refused(&place, "expired at 2020-01-03T03:04:05Z; its owner can renew it");
}

/// GnuPG writes a revocation for each key that it makes, with a colon before it so that nobody uses it unawares.
fn revoke(gpg: &GnuPg, key: &str) {
    let written = gpg.0.path().join(format!("openpgp-revocs.d/{key}.rev"));
    let text = fs::read_to_string(&written).unwrap().replace(":-----BEGIN", "-----BEGIN");
    fs::write(&written, text).unwrap();
    gpg.run(&["--import", written.to_str().unwrap()]);
}

#[test]
fn a_revoked_key_is_refused() {
    let gpg = GnuPg::new();
    let key = gpg.key("gone", "ed25519", "sign");
    let place = unsigned(&gpg, &key);
    gpg.sign(&place, &key, &["--armor"]);
    place.check(&["--trust", "pub"]).expect(0);
    gpg.export("--export-secret-keys", &key, &place.path("secret"));
    revoke(&gpg, &key);
    gpg.export("--export", &key, &place.path("pub"));
    refused(&place, &format!("key {key} was revoked"));
    gpg.export("--export-secret-keys", &key, &place.path("secret"));
    place.inventory(&["--sign", "secret"]).expect_error(3, "was revoked");
}

#[test]
fn a_revoked_subkey_is_refused_and_the_key_signs_without_it() {
    let gpg = GnuPg::new();
    let key = gpg.key("ours", "ed25519", "sign");
    gpg.run(&["--passphrase", "", "--quick-add-key", &key, "ed25519", "sign", "never"]);
    let place = unsigned(&gpg, &key);
    gpg.sign(&place, &key, &["--armor"]);
    place.check(&["--trust", "pub"]).expect(0);
    let mut edit = gpg.command("gpg");
    edit.args(["--no-tty", "--yes", "--pinentry-mode", "loopback", "--passphrase", "", "--command-fd", "0"]);
    edit.args(["--edit-key", &key]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut edit = edit.spawn().unwrap();
    std::io::Write::write_all(&mut edit.stdin.take().unwrap(), b"key 1\nrevkey\ny\n0\n\ny\nsave\n").unwrap();
    assert!(edit.wait().unwrap().success());
    gpg.export("--export", &key, &place.path("pub"));
    refused(&place, "was revoked");
    gpg.export("--export-secret-keys", &key, &place.path("secret"));
    place.inventory(&["--sign", "secret"]).expect(0);
    gpg.verifies(&place, &key);
    place.check(&["--trust", "pub"]).expect(0);
}

#[test]
fn a_key_that_cannot_sign_and_what_is_no_single_key_are_refused() {
    let (place, gpg) = (Place::small(), GnuPg::new());
    let key = gpg.key("certifies", "ed25519", "cert");
    gpg.export("--export-secret-keys", &key, &place.path("secret"));
    place.inventory(&["--sign", "secret"]).expect_error(3, "none of its keys may sign");
    gpg.export("--export", &key, &place.path("pub"));
    place.inventory(&["--sign", "pub"]).expect_error(3, "it is a public key");
    place.inventory(&[]).expect(0);
    place.check(&["--trust", "secret"]).expect_error(3, "it is a secret key");
    gpg.key("another", "ed25519", "sign");
    gpg.run(&["--armor", "--output", place.path("both").to_str().unwrap(), "--export"]);
    place.check(&["--trust", "both"]).expect_error(3, "more than one key");
    fs::write(
        place.path("broken"),
        "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nbWVo\n-----END PGP PUBLIC KEY BLOCK-----\n",
    )
    .unwrap();
    place.check(&["--trust", "broken"]).expect_error(3, "broken");
}

#[test]
fn a_signature_of_one_kind_takes_the_place_of_one_of_the_other() {
    let place = Place::small();
    place.run(&["keygen", "--out", "mini"]).expect(0);
    place.run(&["keygen", "--out", "open", "--kind", "openpgp"]).expect(0);
    place.inventory(&["--sign", "mini"]).expect(0);
    place.inventory(&["--sign", "open"]).expect(0);
    assert!(!place.path("files.yaml.minisig").exists());
    place.inventory(&["--sign", "mini"]).expect(0);
    assert!(!place.path("files.yaml.asc").exists());
}

//! Keys and signatures, against minisign itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::bench::{Place, ran, said};

fn mode(place: &Place, name: &str) -> u32 {
    fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777
}

/// Minisign says that the document was signed by the key.
#[track_caller]
fn minisign_verifies(place: &Place, public: &str) {
    let (public, document) = (place.path(public), place.path("files.yaml"));
    let arguments = ["-V".as_ref(), "-p".as_ref(), public.as_os_str(), "-m".as_ref(), document.as_os_str()];
    let said = said("minisign", "minisign", &arguments);
    assert!(said.contains("Signature and comment signature verified") && said.contains("file:files.yaml"), "{said}");
}

#[test]
fn minisign_verifies_what_a_key_of_keygen_signed() {
    let place = Place::small();
    let made = place.run(&["keygen", "--out", "key", "--json"]).expect(0).json();
    assert_eq!(mode(&place, "key"), 0o600);
    let signed = place.inventory(&["--sign", "key", "--json"]).expect(0).json();
    minisign_verifies(&place, "key.pub");
    assert_eq!(signed["key_id"], made["key_id"]);
    let note = json!({"format": "minisign", "file": "files.yaml.minisig", "keyId": made["key_id"]});
    let documents = place.documents();
    assert_eq!((&documents["yaml"]["signature"], &documents["toml"]["signature"]), (&note, &note));
    assert!(String::from_utf8(place.read("key.pub")).unwrap().contains(made["key_id"].as_str().unwrap()));
    place.check(&["--trust", "key.pub"]).expect(0);
}

#[test]
fn a_key_that_minisign_made_signs_too() {
    let place = Place::small();
    let (secret, public) = (place.path("theirs"), place.path("theirs.pub"));
    let arguments =
        ["-G".as_ref(), "-W".as_ref(), "-s".as_ref(), secret.as_os_str(), "-p".as_ref(), public.as_os_str()];
    said("minisign", "minisign", &arguments);
    place.inventory(&["--sign", "theirs"]).expect(0);
    minisign_verifies(&place, "theirs.pub");
    let text = String::from_utf8(place.read("theirs.pub")).unwrap();
    place.check(&["--trust", text.lines().nth(1).unwrap()]).expect(0);
}

#[test]
fn a_key_with_a_password_needs_it() {
    let place = Place::small();
    ran(place.command(&["keygen", "--out", "key"]).env("CRATEFERRY_KEY_PASSWORD", "a b")).expect(0);
    place.inventory(&["--sign", "key"]).expect_error(3, "CRATEFERRY_KEY_PASSWORD");
    let sign = |password| {
        ran(place.command(&["inventory", "files", "--sign", "key"]).env("CRATEFERRY_KEY_PASSWORD", password))
    };
    sign("wrong").expect_error(3, "Wrong password");
    assert!(!place.path("files.yaml").exists());
    sign("a b").expect(0);
    minisign_verifies(&place, "key.pub");
}

#[test]
fn keys_are_never_overwritten() {
    for there in ["key", "key.pub"] {
        let place = Place::small();
        fs::write(place.path(there), "precious").unwrap();
        place.run(&["keygen", "--out", "key"]).expect_error(2, "is there already");
        assert_eq!(place.read(there), b"precious");
        assert_eq!(fs::read_dir(place.path("")).unwrap().count(), 2);
    }
}

#[test]
fn an_unsigned_document_takes_the_place_of_a_signed_one_with_its_signature() {
    let place = Place::small();
    place.run(&["keygen", "--out", "key"]).expect(0);
    place.inventory(&["--sign", "key"]).expect(0);
    place.inventory(&[]).expect(0);
    assert!(!place.path("files.yaml.minisig").exists());
}

#[test]
fn what_another_key_signed_or_nobody_is_not_trusted_and_not_looked_at() {
    let place = Place::small();
    place.run(&["keygen", "--out", "key"]).expect(0);
    place.run(&["keygen", "--out", "other"]).expect(0);
    let refused = |trust: &str, why: &str| {
        let said = place.check(&["--trust", trust, "--json"]).expect(5).json();
        assert!(said["bad_signature"].as_str().unwrap().contains(why), "{said}");
        assert_eq!((&said["files"], &said["signed_by"]), (&json!(0), &json!(null)));
    };
    place.inventory(&["--hashes", "xxh3"]).expect(0);
    refused("key.pub", "no files.yaml.minisig");
    place.inventory(&["--hashes", "xxh3", "--sign", "key"]).expect(0);
    refused("other.pub", "different from public key");
    let mut document = place.read("files.yaml");
    document.push(b'\n');
    fs::write(place.path("files.yaml"), document).unwrap();
    refused("key.pub", "verification failed");
    place.check(&["--trust", "nothing.pub"]).expect_error(3, "nothing.pub");
}

//! What a bundle is said to carry: for people, for programs, and on a page that an officer prints.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::fs;
use std::path::Path;

use common::flip_bit;
use common::gap::{Gap, volumes};
use crateferry_test_support::Release;
use serde_json::{Value, json};

/// What an author could write as a licence.
const HOSTILE: &str = "<script>alert(\"1\")</script> & \u{1b}[31m\u{202e}";
/// What the page makes of it: what a list cannot show as a line is a space there.
const HARMLESS: &str = "&#60;script&#62;alert(&#34;1&#34;)&#60;/script&#62; &#38; [31m\\u{202e}";

fn licensed(license: &str) -> Release {
    Release { license: Some(license.to_owned()), ..Release::default() }
}

/// A gap, and a bundle of what changed in the last generation: of everything something.
fn eventful(gap: &Gap) -> (std::path::PathBuf, Value) {
    let registry = &gap.registry;
    registry.release("gone", "1.0.0").release("Two-Words", "1.9.0").release("Two-Words", "0.1.0");
    registry.release("spoilt", "1.0.0").release("spoilt", "1.1.0").commit();
    gap.origin.sync(&[]).expect(0);
    let since = gap.origin.status()["generation"].to_string();
    registry.release_with("Two-Words", "1.10.0", licensed("Apache-2.0 OR MIT")).release("Two-Words", "1.9.5");
    registry.release_with("hostile", "1.0.0", licensed(HOSTILE)).release_with("unnamed", "1.0.0", licensed(""));
    registry.release_with("strange", "1.0.0", Release::of_bytes("no archive")).release("two", "1.0.0");
    registry.yank("Two-Words", "0.1.0").yank("Two-Words", "1.9.0").delete("spoilt", "1.0.0").delete_crate("gone");
    registry.commit();
    gap.origin.sync(&[]).expect(0);
    let program = gap.origin.beside("importer");
    fs::write(&program, "a program").unwrap();
    gap.create("delta", &["--since", &since, "--with-importer", program.to_str().unwrap()])
}

fn inspect(gap: &Gap, bundle: &Path, code: i32, more: &[&str]) -> common::Ran {
    let arguments = ["bundle", "inspect", bundle.to_str().unwrap(), "--trust", &gap.trust()];
    gap.crateferry(&[&arguments[..], more].concat()).expect(code)
}

#[test]
fn an_inspection_tells_what_is_new_yanked_and_withdrawn_with_sizes_and_licences() {
    let gap = Gap::new();
    let (bundle, made) = eventful(&gap);
    let told = inspect(&gap, &bundle, 0, &["--json"]).json();
    let new = |name: &str, version: &str, license: Value| json!({ "version": version, "bytes": gap.registry.crate_bytes(name, version).len(), "license": license });
    let two_words = &told["crates"]["two-words"];
    assert_eq!(
        two_words["new"],
        json!([new("Two-Words", "1.9.5", json!("MIT")), new("Two-Words", "1.10.0", json!("Apache-2.0 OR MIT"))])
    );
    assert_eq!(two_words["yanked"], json!(["0.1.0", "1.9.0"]));
    assert_eq!(told["crates"]["strange"]["new"], json!([new("strange", "1.0.0", Value::Null)]));
    assert_eq!(told["crates"]["unnamed"]["new"], json!([new("unnamed", "1.0.0", json!(""))]));
    assert_eq!(told["crates"]["spoilt"]["withdrawn"], json!(["1.0.0"]));
    assert_eq!(told["crates"]["spoilt"]["new"], json!([]));
    assert_eq!(told["removed"], json!(["gone"]));
    let license = |license: Value| {
        let totals = told["licenses"].as_array().unwrap().iter();
        totals.filter(|total| total["license"] == license).map(|total| total["releases"].as_u64().unwrap()).sum::<u64>()
    };
    assert_eq!([json!("MIT"), json!("Apache-2.0 OR MIT"), json!(""), Value::Null].map(license), [2, 1, 1, 1]);
    let all: u64 = told["licenses"].as_array().unwrap().iter().map(|total| total["releases"].as_u64().unwrap()).sum();
    assert_eq!(all, made["releases"]);
    assert_eq!(told["signed_by"].as_array().unwrap().len(), 1);
    assert_eq!(told["manifest"]["importers"][0]["name"], "importer");

    let said = inspect(&gap, &bundle, 0, &[]).stdout;
    for line in [
        "\nTwo-Words  1.9.5 1.10.0 ",
        "licence: MIT; Apache-2.0 OR MIT  yanked: 0.1.0 1.9.0\n",
        "\nspoilt  withdrawn: 1.0.0\n",
        "\ngone  removed\n",
        "licence     none named: 1 release,",
        "licence     not known: 1 release,",
        "program     importer, 9 B, SHA-256 ",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
    assert!(!said.contains('\u{1b}'), "{said}");
}

#[test]
fn what_is_damaged_of_a_bundle_is_named_and_does_not_hide_the_rest() {
    let gap = Gap::new();
    let (bundle, _) = eventful(&gap);
    let volume = volumes(&bundle).remove(0);
    let whole = fs::read(&volume).unwrap();
    // The last piece is the facts: its bytes end before the padding and the two blocks of the end.
    let last = whole.iter().rposition(|byte| *byte != 0).unwrap();
    flip_bit(&volume, last as u64 * 8 - 80);
    let told = inspect(&gap, &bundle, 5, &["--json"]).json();
    assert!(told["damaged"][0].as_str().unwrap().contains("-0001.tar: the piece at offset "), "{}", told["damaged"]);
    assert_eq!(told["crates"]["two-words"]["yanked"], json!(["0.1.0", "1.9.0"]));
    assert_eq!(
        told["licenses"],
        json!([{ "license": null, "releases": 6, "bytes": told["manifest"]["totals"]["bytes"] }])
    );
    // The table of contents itself.
    fs::write(&volume, &whole).unwrap();
    flip_bit(&volume, 600 * 8);
    let told = inspect(&gap, &bundle, 5, &["--json"]).json();
    assert!(told["damaged"][0].as_str().unwrap().contains("its table of contents has BLAKE3"), "{}", told["damaged"]);
    fs::remove_file(&volume).unwrap();
    assert_eq!(inspect(&gap, &bundle, 0, &["--json"]).json()["not_here"], json!([1]));
}

#[cfg(unix)]
#[test]
fn an_inspection_is_a_page_that_can_be_printed_and_runs_nothing() {
    let gap = Gap::new();
    let (bundle, made) = eventful(&gap);
    let page = gap.origin.beside("bundle.html");
    inspect(&gap, &bundle, 0, &["--page", page.to_str().unwrap()]);
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains(HARMLESS), "{text}");
    for forbidden in ["<script", "<link", "<img", "http:", "https:", "\u{202e}", "\u{1b}"] {
        assert!(!text.contains(forbidden), "{forbidden}\n{text}");
    }
    let browser = crateferry_test_support::browser::Browser::launch();
    let seen = browser.page();
    seen.viewport(1000, 1400, false).open(&format!("file://{}", page.display()));
    if let Some(folder) = std::env::var_os("CRATEFERRY_SHOTS") {
        seen.screenshot(Path::new(&folder).join("inspection.png"));
    }
    assert_eq!(seen.text("h1"), format!("Bundle {}", made["bundle"].as_str().unwrap()));
    let row = "[...document.querySelectorAll('tr')].find(row => row.cells[0].textContent === 'Two-Words').innerText";
    assert_eq!(seen.eval(row).as_str().unwrap().split('\t').nth(1), Some("1.9.5 1.10.0"));
    assert_eq!(seen.eval("document.documentElement.scrollWidth > document.documentElement.clientWidth"), false);
    assert_eq!(seen.requests().len(), 1, "it asks for nothing beside itself");
    assert_eq!(seen.problems(), [""; 0]);
    assert_eq!(seen.axe(), [""; 0]);
}

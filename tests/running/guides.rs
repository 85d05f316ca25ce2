//! The guides, followed as a new user would: every `sh` block of a page, one after another, in one shell, with a registry
//! that is made up in the place of crates.io.

use crate::common::program;
use crate::desk::Desk;
use crate::documents::{blocks, files_below, quoted, read, root, rows};

/// All `sh` blocks of a page can be run as they stand.
#[track_caller]
fn followed(page: &str) -> (Desk, String) {
    let script = blocks(&read(page), "sh").join("\n");
    assert!(script.contains("crateferry"), "{page} has no commands");
    let desk = Desk::new();
    let said = desk.follow(&script);
    (desk, said)
}

#[test]
fn the_quickstart_ends_with_a_cargo_that_uses_the_mirror() {
    let (desk, said) = followed("docs/guides/quickstart-linux.md");
    assert!(said.contains("generation  1 (new)") && said.contains("serde = \"1.0.1\""), "{said}");
    let cache = files_below(&desk.folder.path().join("home/.cargo/registry/cache"));
    assert!(cache.iter().any(|path| path.ends_with("serde-1.0.0.crate")), "{cache:?}");
}

#[test]
fn the_guide_to_refreshing_works() {
    let (desk, said) = followed("docs/guides/incremental-sync.md");
    assert!(said.contains("generation  1 of 20"), "{said}");
    assert!(desk.project().join("registry/serde-1.0.1.crate").is_file());
}

/// The digest of what a mirror in the project's folder serves.
fn digest(desk: &Desk, mirror: &str) -> serde_json::Value {
    let mut command = program();
    command.args(["status", "--json"]).arg(desk.project().join(mirror));
    let status: serde_json::Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
    status["generation_digest"].clone()
}

#[test]
fn the_way_across_an_air_gap_works_step_by_step() {
    let page = read("docs/airgap.md");
    let (_, steps) = page.split_once("## Step by step").unwrap();
    let desk = Desk::new();
    let said = desk.follow(&blocks(steps, "sh").join("\n"));
    assert!(said.contains("\"dl\":"), "{said}");
    assert_eq!(digest(&desk, "mirror"), digest(&desk, "inside/mirror"));
}

#[test]
fn the_way_across_an_air_gap_works_with_bundles() {
    let page = read("docs/airgap.md");
    let (_, bundles) = page.split_once("## Carrying bundles").unwrap();
    let (bundles, _) = bundles.split_once("## Carrying crate files").unwrap();
    let desk = Desk::new();
    let apply = "crateferry bundle apply ./replica ./outbox-3; crateferry bundle apply ./replica ./outbox-2";
    let said = desk.follow(&[&*blocks(bundles, "sh").join("\n"), apply].join("\n"));
    assert!(said.contains("\"dl\":") && said.contains("applied     before"), "{said}");
    assert_eq!(digest(&desk, "mirror"), digest(&desk, "replica"));
}

/// A page about another mirror, of which these files lie there, takes them over and fetches none.
#[track_caller]
fn takes_over(page: &str, files: &[(&str, &str, &str)]) {
    let desk = Desk::new();
    for (name, version, path) in files {
        desk.put(path, &desk.registry.crate_bytes(name, version));
    }
    let said = desk.follow(&blocks(&read(page), "sh").join("\n"));
    assert!(said.contains("held        2 releases"), "{said}");
    assert_eq!(desk.registry.crate_file_requests(), 0);
}

#[test]
fn a_panamax_mirror_is_taken_over_as_its_guide_says() {
    let crates = "my-mirror/crates";
    let files = [
        ("serde", "1.0.0", format!("{crates}/se/rd/serde/1.0.0/serde-1.0.0.crate")),
        ("syn", "2.0.0", format!("{crates}/3/s/syn/2.0.0/syn-2.0.0.crate")),
    ];
    takes_over(
        "docs/guides/from-panamax.md",
        &files.each_ref().map(|(name, version, path)| (*name, *version, &**path)),
    );
}

#[test]
fn a_romt_mirror_is_taken_over_as_its_guide_says() {
    let crates = "romt-mirror/crates";
    let files = [
        ("serde", "1.0.0", format!("{crates}/se/rd/serde/serde-1.0.0.crate")),
        ("syn", "2.0.0", format!("{crates}/3/s/syn/syn-2.0.0.crate")),
    ];
    takes_over("docs/guides/from-romt.md", &files.each_ref().map(|(name, version, path)| (*name, *version, &**path)));
}

/// The sources of the program as one text, without what only the layout of the code puts into messages.
fn sources() -> String {
    let folders = ["src", "pipeline/src", "store/src"].map(|folder| root().join(folder));
    let files = folders.iter().flat_map(|folder| files_below(folder));
    let rust = files.filter(|path| path.extension().is_some_and(|kind| kind == "rs"));
    let text: String = rust.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let mut joined = String::new();
    for part in text.split("\\\n") {
        joined.push_str(if joined.is_empty() { part } else { part.trim_start() });
    }
    joined
}

/// Whether some message in the sources has these pieces one after another.
fn is_message(sources: &str, message: &str) -> bool {
    let pieces: Vec<&str> = message.split("...").map(str::trim).filter(|piece| !piece.is_empty()).collect();
    let first = pieces.first().expect("a message has words");
    sources.match_indices(first).any(|(at, _)| {
        let end = sources[at..].char_indices().nth(400).map_or(sources.len(), |(end, _)| at + end);
        let mut rest = &sources[at..end];
        pieces.iter().all(|piece| match rest.find(piece) {
            Some(found) => {
                rest = &rest[found + piece.len()..];
                true
            }
            None => false,
        })
    })
}

#[test]
fn every_message_of_the_troubleshooting_guide_is_one_of_the_program() {
    let sources = sources();
    let rows = rows(&read("docs/guides/troubleshooting.md"));
    assert!(rows.len() > 30, "{rows:?}");
    assert!(rows.iter().all(|row| !quoted(&row[0]).is_empty()), "{rows:?}");
    let mut unknown: Vec<String> = rows.iter().flat_map(|row| quoted(&row[0])).collect();
    unknown.retain(|message| !is_message(&sources, message));
    assert!(unknown.is_empty(), "no part of the program says {unknown:#?}");
    assert!(!is_message(&sources, "the dog ... is lost"), "the search finds anything");
}

/// Links between documents lead somewhere.
#[test]
fn every_link_in_the_documents_leads_to_something() {
    let pages = files_below(&root().join("docs")).into_iter().chain([root().join("README.md")]);
    for page in pages.filter(|path| path.extension().is_some_and(|kind| kind == "md")) {
        let text = std::fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next()) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            if !anchor.is_empty() && target.extension().is_some_and(|kind| kind == "md") {
                let target = std::fs::read_to_string(&target).unwrap();
                let has = target.lines().filter(|line| line.starts_with('#')).any(|line| anchor_of(line) == anchor);
                assert!(has, "{}: {link} has no such heading", page.display());
            }
        }
    }
}

/// The name that a heading has in links.
fn anchor_of(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}

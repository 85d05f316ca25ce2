//! Selections that take what they depend on, with the real cargo as the judge: whatever it resolves from the mirror alone
//! has to be there, and has to be what it resolves from the whole registry.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use common::project::{Project, named};
use common::{Ferry, Server, chance};
use crateferry_test_support::{Dep, Registry, Release};
use fastrand::Rng;
use serde_json::Value;

/// What a mirror holds, as `name version`.
fn held(ferry: &Ferry) -> BTreeSet<String> {
    let to = tempfile::tempdir().unwrap();
    let out = to.path().join("out");
    ferry.run("export", &["--to", out.to_str().unwrap(), "--layout", "cargo"]).expect(0);
    let mut held = BTreeSet::new();
    for entry in fs::read_dir(&out).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        held.extend(name.strip_suffix(".crate").map(ToOwned::to_owned));
    }
    held
}

fn with(deps: Vec<Dep>) -> Release {
    Release { deps, ..Release::default() }
}

fn features(table: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    let list = |values: &[&str]| values.iter().map(ToString::to_string).collect();
    table.iter().map(|(name, values)| ((*name).to_owned(), list(values))).collect()
}

/// Crates with several versions, and what is awkward: a renamed dependency, one for a platform, one for tests, optional ones
/// that features turn on directly, weakly and through others.
fn web() -> Registry {
    let registry = Registry::new();
    let renamed = Dep { name: "codec".into(), package: Some("codec-core".into()), ..Dep::on("", "^0.2") };
    let windows = Dep { target: Some("cfg(windows)".into()), ..Dep::on("win", "^1") };
    let app = Release {
        deps: vec![
            Dep::on("base", "^1"),
            renamed,
            windows,
            Dep::optional("gzip", "^1"),
            Dep::optional("metrics", "^2"),
            Dep { kind: "dev".into(), ..Dep::on("test-kit", "^1") },
        ],
        features: features(&[
            ("default", &["compress"]),
            ("compress", &["gzip/fast"]),
            ("watch", &["metrics", "base/log"]),
        ]),
        ..Release::default()
    };
    registry.release_with("app", "1.0.0", app.clone()).release_with("app", "1.1.0", app.clone());
    registry.release_with("app", "2.0.0", app);
    let base = Release {
        deps: vec![Dep::optional("log-lines", "^1")],
        features: features(&[("log", &["log-lines"])]),
        ..Release::default()
    };
    for version in ["1.0.0", "1.2.0", "1.3.0-rc.1", "2.0.0"] {
        registry.release_with("base", version, base.clone());
    }
    let gzip = Release {
        deps: vec![Dep::optional("asm", "^1")],
        features: features(&[("fast", &["asm"])]),
        ..Release::default()
    };
    registry.release_with("gzip", "1.0.0", gzip.clone()).release_with("gzip", "1.0.5", gzip);
    registry.release("codec-core", "0.2.0").release("codec-core", "0.2.7").release("codec-core", "0.3.0");
    for name in ["win", "asm", "log-lines", "test-kit", "unrelated"] {
        registry.release(name, "1.0.0").release(name, "1.9.0");
    }
    registry.release("metrics", "2.4.0").yank("asm", "1.9.0");
    registry
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn a_closure_takes_all_that_a_resolution_could_pick_or_the_newest_and_nothing_else() {
    let registry = web();
    let full = Ferry::sparse(&registry);
    full.sync(&["--crate", "app@^1", "--closure", "full"]).expect(0);
    let all = [
        "app-1.0.0",
        "app-1.1.0",
        "base-1.0.0",
        "base-1.2.0",
        "gzip-1.0.0",
        "gzip-1.0.5",
        "codec-core-0.2.0",
        "codec-core-0.2.7",
        "win-1.0.0",
        "win-1.9.0",
        "asm-1.0.0",
        "log-lines-1.0.0",
        "log-lines-1.9.0",
        "metrics-2.4.0",
    ];
    assert_eq!(held(&full), set(&all));

    let newest = Ferry::sparse(&registry);
    newest.sync(&["--crate", "app", "--closure", "newest"]).expect(0);
    let few = [
        "app-1.1.0",
        "app-2.0.0",
        "base-1.2.0",
        "gzip-1.0.5",
        "codec-core-0.2.7",
        "win-1.9.0",
        "asm-1.0.0",
        "log-lines-1.9.0",
        "metrics-2.4.0",
    ];
    assert_eq!(held(&newest), set(&few));

    let narrow = Ferry::git(&registry);
    let line =
        "--crate app@^1.1 --closure newest --no-default-features --features watch --target x86_64-unknown-linux-gnu";
    narrow.sync(&line.split(' ').collect::<Vec<_>>()).expect(0);
    let fewer = ["app-1.1.0", "base-1.2.0", "codec-core-0.2.7", "log-lines-1.9.0", "metrics-2.4.0"];
    assert_eq!(held(&narrow), set(&fewer));
    narrow.sync(&["--crate", "app@^1.1", "--closure", "newest", "--dev"]).expect(0);
    assert!(held(&narrow).contains("test-kit-1.9.0"));
}

/// A registry where anything may depend on anything.
fn tangle(rng: &mut Rng) -> Registry {
    let registry = Registry::new();
    let names: Vec<String> = (0..14).map(|number| format!("tangle-{number:02}")).collect();
    for (at, name) in names.iter().enumerate() {
        for minor in 0..rng.u64(1..4) {
            for major in ["0.1", "0.2", "1.0", "2.1"].iter().take(rng.usize(1..5)) {
                let version = format!("{major}.{minor}");
                let mut deps = Vec::new();
                // Cargo refuses circles, so dependencies point to later names.
                let later = &names[at + 1..];
                for _ in 0..rng.usize(0..4).min(later.len()) {
                    let on = &later[rng.usize(..later.len())];
                    if deps.iter().any(|dep: &Dep| dep.name == *on) {
                        continue;
                    }
                    let requirement = ["*", "^0.1", "^0.2", "~0.1.0", "^1", ">=0.2, <2", "^2.1", "1.*"][rng.usize(..8)];
                    let features = if rng.bool() { vec!["more".to_owned()] } else { Vec::new() };
                    let (optional, default_features) = (rng.bool(), rng.bool());
                    let target = (rng.u8(..6) == 0).then(|| "cfg(windows)".to_owned());
                    deps.push(Dep { features, optional, default_features, target, ..Dep::on(on, requirement) });
                }
                let named: Vec<String> = deps.iter().filter(|dep| dep.optional).map(|dep| dep.name.clone()).collect();
                let mut table = BTreeMap::from([("more".to_owned(), Vec::new()), ("default".to_owned(), Vec::new())]);
                for name in named {
                    let list = ["more", "default"][rng.usize(..2)];
                    let value = [name.clone(), format!("{name}/more"), format!("{name}?/more")][rng.usize(..3)].clone();
                    table.get_mut(list).unwrap().push(value);
                }
                let yanked = rng.u8(..8) == 0;
                registry.release_with(name, &version, Release { deps, features: table, yanked, ..Release::default() });
            }
        }
    }
    registry
}

#[test]
fn cargo_resolves_the_same_from_a_full_closure_as_from_the_whole_registry_and_builds_it() {
    let (seed, mut rng) = chance();
    let mut resolved = 0;
    for round in 0..6 {
        let registry = tangle(&mut rng);
        let whole = Ferry::git(&registry);
        whole.sync(&["--all"]).expect(0);
        let all = Server::start(&whole, &[]);
        let needs = "tangle-00 = \"*\"\ntangle-01 = { version = \"*\", features = [\"more\"] }\n\
                     tangle-02 = { version = \"*\", default-features = false, optional = true }\n";
        let project = Project::depending(&named(&all, ""), needs);
        let manifest = project.file("Cargo.toml");
        let resolves = project.command("generate-lockfile").output().unwrap().status.success();
        for closure in ["full", "newest"] {
            let ferry = Ferry::sparse(&registry);
            ferry.sync(&["--manifest", manifest.to_str().unwrap(), "--closure", closure]);
            let server = Server::start(&ferry, &[]);
            let pruned = Project::depending(&named(&server, ""), needs);
            let output = pruned.command("generate-lockfile").output().unwrap();
            let context = format!("seed {seed}, round {round}, {closure}");
            if closure == "full" {
                assert_eq!(output.status.success(), resolves, "{context}: {}", String::from_utf8_lossy(&output.stderr));
            }
            if output.status.success() {
                resolved += 1;
                pruned.cargo("fetch --locked");
                let lock = |project: &Project| fs::read_to_string(project.file("Cargo.lock")).unwrap();
                if closure == "full" {
                    assert_eq!(lock(&pruned), lock(&project), "{context}");
                }
            }
        }
    }
    assert!(resolved > 0, "seed {seed}: no round could be resolved, so nothing was shown");
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_manifest_stands_for_its_whole_workspace_and_what_it_takes_from_paths() {
    let registry = web();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(
        root,
        "work/Cargo.toml",
        "[workspace]\nmembers = [\"crates/*\"]\nexclude = [\"crates/out\"]\nresolver = \"2\"\n\
         [workspace.dependencies]\nbase = { version = \"1\", features = [\"log\"] }\n",
    );
    let package = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    write(
        root,
        "work/crates/one/Cargo.toml",
        &format!(
            "{}[dependencies]\nbase.workspace = true\ntwo = {{ path = \"../two\" }}\nfar = {{ path = \"../../../far\" }}\n\
             elsewhere = {{ version = \"1\", registry = \"other\" }}\nsource = {{ git = \"https://git.example/source\" }}\n\
             [dev-dependencies]\ntest-kit = \"1\"\n[features]\nquick = [\"gzip?/fast\"]\n\
             [target.'cfg(windows)'.dependencies]\ngzip = {{ version = \"1\", optional = true, default-features = false }}\n",
            package("one")
        ),
    );
    write(root, "work/crates/two/Cargo.toml", &format!("{}[build-dependencies]\nmetrics = \"2\"\n", package("two")));
    write(root, "work/crates/out/Cargo.toml", &format!("{}[dependencies]\nunrelated = \"1\"\n", package("out")));
    write(
        root,
        "far/Cargo.toml",
        &format!("{}[dependencies]\nwin = \"1\"\n[dev-dependencies]\nunrelated = \"1\"\n", package("far")),
    );
    for member in ["one", "two"] {
        write(root, &format!("work/crates/{member}/src/lib.rs"), "");
    }
    write(root, "far/src/lib.rs", "");
    let ferry = Ferry::sparse(&registry);
    let member = root.join("work/crates/two/Cargo.toml");
    let said = ferry.sync(&["--manifest", member.to_str().unwrap(), "--closure", "newest"]).expect(1).json();
    let problems = said["problems"].to_string();
    assert!(problems.contains("elsewhere from registry other") && problems.contains("source from git"), "{problems}");
    let named =
        ["base-1.2.0", "log-lines-1.9.0", "gzip-1.0.5", "asm-1.0.0", "test-kit-1.9.0", "metrics-2.4.0", "win-1.9.0"];
    assert_eq!(held(&ferry), set(&named));

    let without = Ferry::sparse(&registry);
    without.sync(&["--manifest", member.to_str().unwrap(), "--closure", "newest", "--no-dev"]).expect(1);
    assert!(!held(&without).contains("test-kit-1.9.0"));
}

fn why(ferry: &Ferry, what: &str) -> Value {
    ferry.run("why", &[what, "--json"]).json()
}

#[test]
fn sets_are_added_up_replaced_removed_and_say_why_they_want_something() {
    let registry = web();
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "app@=1.1.0", "--closure", "newest", "--set", "web"]).expect(0);
    ferry.sync(&["--crate", "metrics", "--set", "ops"]).expect(0);
    let said = why(&ferry, "asm@1.0.0");
    let chain = &said["releases"][0]["because"][0];
    assert_eq!(*chain, serde_json::json!(["set web", "app 1.1.0", "gzip 1.0.5"]), "{said}");
    assert_eq!(why(&ferry, "asm@1.9.0")["releases"][0]["state"], "out: it is yanked");
    assert_eq!(why(&ferry, "metrics")["releases"][0]["because"][0][0], "set ops");
    assert!(why(&ferry, "unrelated")["unknown"].as_str().unwrap().contains("nothing that is selected"));

    // The set is another now; what is no longer wanted and was held is still served.
    ferry.sync(&["--crate", "base@^2", "--closure", "full", "--set", "web"]).expect(0);
    let shown = ferry.run("selection", &["--json"]).expect(0).json();
    assert_eq!(shown["sets"]["web"]["roots"][0]["name"], "base", "{shown}");
    assert!(held(&ferry).contains("base-2.0.0") && held(&ferry).contains("asm-1.0.0"));
    let said = why(&ferry, "asm@1.0.0");
    assert_eq!((&said["releases"][0]["held"], &said["releases"][0]["wanted"]), (&true.into(), &false.into()));

    ferry.run("selection", &["remove", "web", "ops"]).expect(0);
    ferry.run("selection", &["remove", "web"]).expect_error(2, "there is no set web");
    ferry.sync(&[]).expect_error(2, "nothing is selected");
}

#[test]
fn a_closure_follows_the_index_and_a_refresh_of_nothing_asks_once_for_each_file() {
    let registry = web();
    for ferry in [Ferry::sparse(&registry), Ferry::git(&registry)] {
        ferry.sync(&["--crate", "app@^1.1", "--closure", "newest"]).expect(0);
    }
    let ferry = Ferry::sparse(&registry);
    ferry.sync(&["--crate", "app@^1.1", "--closure", "newest"]).expect(0);
    let before = (held(&ferry), registry.requests());
    ferry.sync(&[]).expect(0);
    // config.json, and the nine crates of the closure with the one that is only for tests left out.
    assert!(registry.requests() - before.1 <= 12, "{} requests", registry.requests() - before.1);
    assert_eq!(held(&ferry), before.0);

    // A new release brings a new dependency, which brings another.
    registry.release_with("fresh", "0.1.0", with(vec![Dep::on("deeper", "^3")])).release("deeper", "3.0.0");
    let log = with(vec![Dep::on("fresh", "^0.1")]);
    registry.release_with("log-lines", "1.10.0", log);
    ferry.sync(&[]).expect(0);
    let now = held(&ferry);
    assert!(now.contains("log-lines-1.10.0") && now.contains("fresh-0.1.0") && now.contains("deeper-3.0.0"), "{now:?}");
}

#[test]
fn selections_that_contradict_themselves_are_refused_before_anything_changes() {
    let registry = web();
    let ferry = Ferry::sparse(&registry);
    let refused = |line: &str, named: &str| {
        ferry.sync(&line.split(' ').collect::<Vec<_>>()).expect_error(2, named);
        assert!(!ferry.mirror().join("crateferry.toml").exists(), "{line}");
    };
    refused("--crate app --closure locked", "no lock file says");
    refused("--crate app@nonsense --closure full", "not a version requirement");
    refused("--crate app --closure full --target no-such-target", "no target of this name");
    refused("--crate app --target x86_64-unknown-linux-gnu", "--target chooses among dependencies");
    refused("--all --closure full --features fast", "are about --crate and --list");
    refused("--crate app --set .hidden", "no name for a set");
    refused("--set empty", "nothing is named");
    refused("--manifest /nowhere/Cargo.toml", "/nowhere/Cargo.toml");
    let said = ferry.sync(&["--crate", "app@^9", "--closure", "full"]).expect(1).stdout;
    assert!(said.contains("app ^9: no release fits"), "{said}");
}

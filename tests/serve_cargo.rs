//! What a mirror serves, as the real cargo sees it. Cargo gets a home of its own and no way out: every proxy that it
//! could use refuses, so what it has, it has from the mirror.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::path::Path;

use common::project::{Project, REPLACED, named};
use common::server::certificates;
use common::{Ferry, Server, wait_until};
use crateferry_test_support::{Dep, Registry, Release};

/// A small graph with what is awkward in it: build metadata, upper case, an underscore, a renamed dependency and one
/// that only a feature brings.
fn graph() -> Registry {
    let registry = Registry::new();
    let renamed = Dep { name: "renamed".into(), package: Some("Mixed_Case".into()), ..Dep::on("", "^0.3") };
    let alpha = Release {
        deps: vec![Dep::on("leaf-one", "^1.2"), renamed, Dep::optional("extra", "^2")],
        features2: Some([("more".to_owned(), vec!["dep:extra".to_owned()])].into()),
        v: Some(2),
        ..Release::default()
    };
    registry
        .release_with("alpha", "1.0.0", alpha.clone())
        .release("leaf-one", "1.2.3+build.7")
        .release("Mixed_Case", "0.3.0")
        .release("extra", "2.0.0")
        .release("solo", "1.0.0")
        .release_with("alpha", "1.1.0", alpha);
    registry
}

/// A mirror of all of it.
fn mirrored(registry: &Registry) -> Ferry {
    let ferry = Ferry::sparse(registry);
    sync(&ferry);
    ferry
}

fn sync(ferry: &Ferry) {
    ferry.sync(&["--crate", "alpha", "leaf-one", "Mixed_Case", "extra", "solo", "--include-yanked"]).expect(0);
}

/// Path and status of each request that the server logged.
fn requests(server: &Server) -> Vec<(String, u16)> {
    let log = server.log();
    let lines = log.lines().filter(|line| line.contains("request method="));
    let field = |line: &str, name: &str| {
        let (_, rest) = line.split_once(name).unwrap();
        rest.split([' ', '"']).next().unwrap().to_owned()
    };
    lines.map(|line| (field(line, "path=\""), field(line, "status=").parse().unwrap())).collect()
}

/// What was asked for while something was done.
fn requests_of(server: &Server, act: impl FnOnce()) -> Vec<(String, u16)> {
    let before = requests(server).len();
    act();
    requests(server).split_off(before)
}

const LOG: [&str; 2] = ["--log-level", "debug"];

#[test]
fn cargo_fetches_builds_adds_searches_shows_and_updates() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let server = Server::start(&ferry, &LOG);
    let project = Project::of(&server);

    project.cargo("fetch");
    assert!(project.cargo("run --quiet --offline").contains("1.1.0 0.3.0"));
    assert_eq!((project.locked("alpha"), project.locked("leaf-one")), ("1.1.0".into(), "1.2.3+build.7".into()));
    let lock = std::fs::read_to_string(project.file("Cargo.lock")).unwrap();
    assert!(!lock.contains(server.base()), "the lock file names crates.io alone: {lock}");

    assert!(project.cargo("add solo").contains("Adding solo v1.0.0"));
    assert!(project.cargo("add --rename again leaf_one").contains("translating `leaf_one` to `leaf-one`"));
    assert!(project.cargo("add --dry-run mixed_case").contains("translating `mixed_case` to `Mixed_Case`"));
    project.cargo("build --quiet");

    let found = project.cargo("search --registry mirror mixed-CASE");
    assert!(found.starts_with("Mixed_Case = \"0.3.0\""), "{found}");
    let info = project.cargo("info --registry mirror leaf-one");
    assert!(info.contains("version: 1.2.3+build.7"), "{info}");
    assert!(project.cargo_fails("add nothing-like-it").contains("could not be found"));
    let failed: Vec<_> = requests(&server).into_iter().filter(|(_, status)| *status >= 400).collect();
    assert!(failed.iter().all(|(path, status)| *status == 404 && path.starts_with("/index/")), "{failed:?}");
}

#[test]
fn what_did_not_change_is_not_sent_again() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let server = Server::start(&ferry, &LOG);
    let project = Project::of(&server);
    project.cargo("update");
    let again = requests_of(&server, || drop(project.cargo("update")));
    let (config, files): (Vec<_>, Vec<_>) = again.into_iter().partition(|(path, _)| path == "/index/config.json");
    assert_eq!((config.len(), files.len()), (1, 4), "{files:?}");
    assert!(files.iter().all(|(_, status)| *status == 304), "{files:?}");

    // One crate changes: that one is sent.
    registry.release("extra", "2.1.0");
    sync(&ferry);
    server.wait_for_log("generation=2");
    let third = requests_of(&server, || drop(project.cargo("update")));
    let sent: Vec<_> = third.iter().filter(|(path, status)| *status == 200 && path.contains('/')).collect();
    let changed = ("/index/ex/tr/extra".to_owned(), 200);
    assert!(sent.iter().all(|one| **one == changed || one.0 == "/index/config.json"), "{third:?}");
    assert!(third.contains(&changed), "{third:?}");
    assert_eq!(project.locked("extra"), "2.1.0");
}

#[test]
fn crates_io_can_be_replaced_by_an_unnamed_source_too() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let server = Server::start(&ferry, &["--download-by", "name", "--log-level", "debug"]);
    let index = format!("sparse+{}", server.url("/index/"));
    let project = Project::new(&format!("{REPLACED}[source.mirror]\nregistry = \"{index}\"\n"));
    project.cargo("fetch");
    project.cargo("check --quiet --offline");
    assert!(project.cargo(&format!("search --index {index} solo")).contains("solo = \"1.0.0\""));
    let downloads: Vec<_> = requests(&server).into_iter().filter(|(path, _)| path.starts_with("/crates/")).collect();
    assert!(downloads.contains(&("/crates/leaf-one/leaf-one-1.2.3+build.7.crate".into(), 200)), "{downloads:?}");
    assert_eq!(downloads.len(), 4, "{downloads:?}");
}

#[test]
fn a_yanked_release_goes_on_for_who_has_locked_it() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let server = Server::start(&ferry, &LOG);
    let project = Project::of(&server);
    project.cargo("generate-lockfile");
    assert_eq!(project.locked("alpha"), "1.1.0");
    registry.yank("alpha", "1.1.0");
    sync(&ferry);
    server.wait_for_log("generation=2");
    let project = project.with_new_home();
    project.cargo("fetch --locked");
    project.cargo("check --quiet --locked --offline");
    std::fs::remove_file(project.file("Cargo.lock")).unwrap();
    project.cargo("update");
    assert_eq!(project.locked("alpha"), "1.0.0", "nobody else gets it");
}

#[test]
fn cargo_trusts_a_private_authority_that_it_is_told_of() {
    let registry = graph();
    let ferry = mirrored(&registry);
    let [ca, chain, key] = certificates(&ferry.beside(""));
    let tls = ["--tls-cert", chain.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let server = Server::start(&ferry, &[&LOG[..], &tls].concat());
    assert!(server.base().starts_with("https://"));
    let trusting = Project::new(&named(&server, &format!("[http]\ncainfo = {ca:?}\n")));
    trusting.cargo("fetch");
    trusting.cargo("check --quiet --offline");
    assert!(trusting.cargo("search --registry mirror solo").contains("solo = "));
    let again = requests_of(&server, || drop(trusting.cargo("update")));
    assert!(again.iter().all(|(path, status)| *status == 304 || path == "/index/config.json"), "{again:?}");
    Project::of(&server).cargo_fails("fetch");
}

mod tokens {
    use super::*;

    /// `crateferry token ...` on a file.
    fn token(file: &Path, action: &str, name: &[&str]) -> common::Ran {
        let output = common::program().args(["token", action]).arg(file).args(name).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        common::Ran {
            code: output.status.code(),
            signal: None,
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    fn add(file: &Path, name: &str) -> String {
        let said = token(file, "add", &[name]).expect(0).stdout;
        let token = said.strip_suffix('\n').unwrap();
        assert!(token.starts_with("cfy_") && !token.contains(char::is_whitespace), "{said:?}");
        token.to_owned()
    }

    #[cfg(unix)]
    fn mode(file: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(file).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_token_is_printed_once_and_its_file_holds_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let first = add(&file, "build-1");
        let second = token(&file, "add", &["build_2.x", "--json"]).expect(0).json();
        assert_eq!(second["name"], "build_2.x");
        let text = std::fs::read_to_string(&file).unwrap();
        let hashes =
            [&first, second["token"].as_str().unwrap()].map(|token| crateferry_test_support::sha256(token.as_bytes()));
        assert_eq!(text, format!("build-1 {}\nbuild_2.x {}\n", hashes[0], hashes[1]));
        assert_eq!(token(&file, "list", &[]).expect(0).stdout, "build-1\nbuild_2.x\n");
        let listed = token(&file, "list", &["--json"]).expect(0).json();
        assert_eq!((&listed[0]["name"], &listed[1]["sha256"]), (&"build-1".into(), &hashes[1].clone().into()));
    }

    #[test]
    fn names_that_exist_or_are_not_plain_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        for name in ["a b", "#a", "", "a\nb", "é"] {
            token(&file, "add", &[name]).expect_error(2, "a token's name is");
        }
        assert!(!file.exists());
        add(&file, "ci");
        let before = std::fs::read(&file).unwrap();
        token(&file, "add", &["ci"]).expect_error(2, "there is a token of ci already");
        token(&file, "remove", &["other"]).expect_error(2, "there is no token of other");
        assert_eq!(std::fs::read(&file).unwrap(), before);
        for action in [&["list"][..], &["remove", "ci"]] {
            token(&folder.path().join("nothing"), action[0], &action[1..]).expect_error(2, "nothing");
        }
    }

    #[test]
    fn what_people_wrote_into_the_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        let hash = crateferry_test_support::sha256(b"secret");
        std::fs::write(&file, format!("# ci is what builds\n\nci {hash}\nhand\t{hash}")).unwrap();
        add(&file, "new");
        token(&file, "remove", &["ci"]).expect(0);
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with(&format!("# ci is what builds\n\nhand\t{hash}\nnew ")), "{text}");
        assert_eq!(token(&file, "list", &[]).expect(0).stdout, "hand\nnew\n");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_read_a_new_file_and_changes_keep_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        add(&file, "a");
        assert_eq!(mode(&file), 0o600);
        add(&file, "b");
        token(&file, "remove", &["a"]).expect(0);
        assert_eq!(mode(&file), 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        token(&file, "remove", &["b"]).expect(0);
        assert_eq!(mode(&file), 0o640);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn none_of_many_at_once_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tokens");
        std::thread::scope(|scope| {
            for number in 0..20 {
                let file = &file;
                scope.spawn(move || add(file, &format!("n{number}")));
            }
        });
        assert_eq!(token(&file, "list", &[]).expect(0).stdout.lines().count(), 20);
    }

    const PROVIDER: &str = "[registry]\nglobal-credential-providers = [\"cargo:token\"]\n";

    /// A project whose cargo shows this token.
    fn showing(server: &Server, token: &str) -> Project {
        let project = Project::new(&named(server, PROVIDER));
        let credentials = format!("[registries.mirror]\ntoken = \"{token}\"\n");
        std::fs::write(project.folder.path().join("home/credentials.toml"), credentials).unwrap();
        project
    }

    #[test]
    fn cargo_shows_its_token_for_everything() {
        let registry = graph();
        let ferry = mirrored(&registry);
        let file = ferry.beside("tokens");
        let first = add(&file, "first");
        let server = Server::start(&ferry, &["--tokens", file.to_str().unwrap(), "--log-level", "debug"]);
        let project = showing(&server, &first);
        project.cargo("fetch");
        project.cargo("check --quiet --offline");
        project.cargo("add solo");
        assert!(project.cargo("search --registry mirror solo").contains("solo = "));
        assert!(project.cargo("info --registry mirror extra").contains("version: 2.0.0"));
        let again = requests_of(&server, || drop(project.cargo("update")));
        let kinds: Vec<u16> = again.iter().filter(|(path, _)| path.starts_with("/index/")).map(|one| one.1).collect();
        assert!(kinds.iter().filter(|status| **status == 304).count() == 5, "{again:?}");

        // Another one is let in, and the first one is not, while the server runs.
        let second = add(&file, "second");
        token(&file, "remove", &["first"]).expect(0);
        wait_until("the new token is let in", || {
            showing(&server, &second).command("fetch").output().unwrap().status.success()
        });
        let refused = showing(&server, &first).cargo_fails("fetch");
        assert!(refused.contains("401") || refused.contains("token"), "{refused}");
        let named_only = Project::of(&server).cargo_fails("fetch");
        assert!(named_only.contains("credential-provider"), "{named_only}");
    }

    #[test]
    fn a_file_that_cannot_be_read_leaves_the_tokens_valid_and_says_so() {
        let registry = graph();
        let ferry = mirrored(&registry);
        let file = ferry.beside("tokens");
        let secret = add(&file, "one");
        let server = Server::start(&ferry, &["--tokens", file.to_str().unwrap()]);
        std::fs::write(&file, "not a token\n").unwrap();
        server.wait_for_log("the old tokens stay valid");
        showing(&server, &secret).cargo("fetch");
        std::fs::write(&file, "").unwrap();
        server.wait_for_log("the tokens changed");
        showing(&server, &secret).cargo_fails("fetch");
    }
}

/// Runs the program with these arguments, which go well.
#[track_caller]
fn crateferry(ferry: &Ferry, arguments: &[&str]) -> common::Ran {
    let mut command = common::program();
    command.args(arguments);
    ferry.start(command).wait().expect(0)
}

#[test]
fn cargo_builds_behind_a_gap_after_each_of_six_bundles_under_a_running_server() {
    let registry = graph();
    let origin = Ferry::git(&registry);
    origin.sync(&["--all"]).expect(0);
    let path = |name: &str| origin.beside(name).to_str().unwrap().to_owned();
    let (mirror, far, key) = (origin.mirror().to_str().unwrap().to_owned(), path("far"), path("key"));
    crateferry(&origin, &["keygen", "--out", &key]);
    crateferry(&origin, &["bundle", "create", &mirror, "--full", "--out", &path("b0"), "--sign", &key]);
    crateferry(&origin, &["bundle", "apply", &far, &path("b0"), "--trust", &path("key.pub")]);
    let mut command = common::program();
    command.args(["serve", &far, "--listen", "127.0.0.1:0"]);
    let server = Server::ready(origin.start(command));
    let project = Project::of(&server);
    assert!(project.cargo("run").contains("1.1.0 0.3.0"));
    for round in 1..=6 {
        let version = format!("1.1.{round}");
        let alpha = Release { deps: vec![Dep::on("leaf-one", "^1.2")], ..Release::default() };
        let more = Release { features: [("more".to_owned(), Vec::new())].into(), ..alpha };
        registry.release_with("alpha", &version, more);
        for filler in 0..10 {
            registry.release_with(&format!("filler-{round}-{filler}"), "1.0.0", Release::sized(40_000));
        }
        registry.commit();
        origin.sync(&[]).expect(0);
        let (bundle, since) = (path(&format!("b{round}")), round.to_string());
        let range = ["--since", &since, "--volume-size", "100kB"];
        let made = [&["bundle", "create", &mirror, "--out", &bundle, "--sign", &key, "--json"], &range[..]].concat();
        assert_eq!(crateferry(&origin, &made).json()["volumes"], 5);
        let applied = crateferry(&origin, &["bundle", "apply", &far, &bundle, "--json"]).json();
        assert_eq!(applied["serves"]["number"], round + 1);
        wait_until("the server serves the new generation", || {
            let said = project.cargo("update");
            said.contains(&version) || project.locked("alpha") == version
        });
        assert!(project.cargo("run").contains(&format!("{version} 0.3.0")));
        let status = crateferry(&origin, &["status", &far, "--json"]).json();
        assert_eq!(status["generation_digest"], origin.digest());
    }
}

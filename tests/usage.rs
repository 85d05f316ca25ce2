//! Wrong usage: each error names the thing and the next step, ends with the right code, and leaves everything as it was.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;
mod look;

use std::path::Path;

use common::{Ferry, Ran, program};
use crateferry_test_support::{Fault, Registry};
use look::{hasty, served};

/// Runs `crateferry ARGUMENTS`, with `MIRROR` in them standing for a folder that does not exist: the run ends with this
/// code, says all of this on stderr, and makes no folder.
#[track_caller]
fn makes_nothing(arguments: &[&str], code: i32, said: &[&str]) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let mirror = folder.path().join("mirror").display().to_string();
    let arguments = arguments.iter().map(|argument| argument.replace("MIRROR", &mirror));
    let ran = run(program().current_dir(folder.path()).args(arguments));
    expect(&ran, code, said);
    assert_eq!(look::contents(folder.path()), [], "nothing is made");
    ran
}

fn run(command: &mut std::process::Command) -> Ran {
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code(), signal: None, stdout: text(output.stdout), stderr: text(output.stderr) }
}

#[track_caller]
fn expect(ran: &Ran, code: i32, said: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}{}", ran.stdout, ran.stderr);
    for words in said {
        assert!(ran.stderr.contains(words), "{words:?} is not said: {}", ran.stderr);
    }
}

/// An upstream that no test may ever get as far as to ask.
const NOWHERE: &str = "sparse+http://127.0.0.1:1/index/";

/// Every verb that takes a mirror, with what it needs beside it.
const VERBS: [&[&str]; 11] = [
    &["sync", "--crate", "serde", "--upstream", NOWHERE],
    &["plan", "--crate", "serde", "--upstream", NOWHERE],
    &["status"],
    &["holes"],
    &["holes", "accept", "serde@1.0.0"],
    &["approve"],
    &["verify"],
    &["rebuild"],
    &["export", "--to", "out", "--layout", "cargo"],
    &["init"],
    &["gc"],
];

/// `crateferry VERB MIRROR REST` in the folder that the mirror lies in.
fn on(mirror: &Path, verb: &[&str]) -> Ran {
    run(program().current_dir(mirror.parent().unwrap()).arg(verb[0]).arg(mirror).args(&verb[1..]))
}

/// Everything that belongs to a mirror: without the lock, the last run's account of itself and the git clone, and with the databases' names alone, because
/// opening them may touch them.
fn belongings(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = look::contents(folder);
    let passing = |path: &Path| {
        let place = path.strip_prefix(folder).unwrap().to_string_lossy();
        place == "lock" || place == "reading" || place == "log/run.json" || place.starts_with("upstream")
    };
    all.retain(|(path, _)| !passing(path));
    all.iter_mut().filter(|(path, _)| path.extension().is_some_and(|kind| kind == "redb")).for_each(|(_, b)| b.clear());
    all
}

mod command_lines {
    use super::*;

    #[test]
    fn an_unknown_verb_or_option_is_named() {
        makes_nothing(&["mirror", "MIRROR"], 2, &["mirror", "--help"]);
        makes_nothing(&["sync", "MIRROR", "--everything"], 2, &["--everything", "--help"]);
    }

    #[test]
    fn a_missing_argument_is_named() {
        makes_nothing(&["sync"], 2, &["<MIRROR>"]);
        makes_nothing(&["export", "MIRROR"], 2, &["--to", "--layout"]);
        makes_nothing(&["holes", "MIRROR", "accept"], 2, &["NAME@VERSION"]);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named_with_its_option() {
        let sync = |option, value| ["sync", "MIRROR", "--crate", "serde", option, value];
        makes_nothing(&sync("--concurrency", "0"), 2, &["--concurrency", "1 to 1024"]);
        makes_nothing(&sync("--concurrency", "many"), 2, &["--concurrency", "auto"]);
        makes_nothing(&sync("--retries", "often"), 2, &["--retries", "often"]);
        makes_nothing(&sync("--timeout", "soon"), 2, &["--timeout", "soon"]);
        makes_nothing(&sync("--limit", "-1"), 2, &["-1"]);
        makes_nothing(&sync("--log-level", "loud"), 2, &["--log-level", "loud"]);
        makes_nothing(&["export", "MIRROR", "--to", "x", "--layout", "odd"], 2, &["--layout", "odd", "sharded"]);
    }

    #[test]
    fn nothing_selected_says_how_to_select() {
        makes_nothing(&["sync", "MIRROR"], 2, &["nothing is selected", "--lockfile", "--crate", "--all"]);
        makes_nothing(&["plan", "MIRROR"], 2, &["nothing is selected", "--lockfile"]);
    }

    #[test]
    fn a_selection_that_cannot_be_read_is_named() {
        makes_nothing(&["sync", "MIRROR", "--crate", "serde@nonsense"], 2, &["serde@nonsense", "requirement"]);
        makes_nothing(&["sync", "MIRROR", "--crate", "../x"], 2, &["../x", "crate name"]);
        makes_nothing(&["sync", "MIRROR", "--lockfile", "none.lock"], 2, &["lock file none.lock"]);
        makes_nothing(&["sync", "MIRROR", "--list", "none.txt"], 2, &["list none.txt"]);
        makes_nothing(&["holes", "MIRROR", "accept", "serde"], 2, &["serde", "NAME@VERSION"]);
    }

    #[test]
    fn an_upstream_or_network_that_cannot_be_used_makes_no_mirror() {
        let sync = |option, value| ["sync", "MIRROR", "--crate", "serde", option, value];
        makes_nothing(&sync("--upstream", "ftp://host/x"), 2, &["ftp://host/x", "crates-io"]);
        makes_nothing(&sync("--upstream", ""), 2, &["upstream"]);
        makes_nothing(&sync("--download-url", "host/{crate}"), 2, &["--download-url", "host/{crate}"]);
        makes_nothing(&sync("--download-url", "https://host/{name}"), 2, &["--download-url", "{crate}"]);
        makes_nothing(&sync("--contact", "a(b"), 2, &["contact", "a(b"]);
        makes_nothing(&sync("--ca-file", "none.pem"), 2, &["none.pem", "ca-files"]);
        makes_nothing(&sync("--checksums", "none.jsonl"), 2, &["checksums none.jsonl"]);
        makes_nothing(&["init", "MIRROR", "--contact", "a(b"], 2, &["contact", "a(b"]);
        makes_nothing(&["init", "MIRROR", "--upstream", "ftp://host/x"], 2, &["ftp://host/x"]);
    }

    #[test]
    fn everything_of_an_index_without_a_list_makes_no_mirror() {
        let upstream = ["sync", "MIRROR", "--all", "--upstream", "sparse+https://127.0.0.1:1/index/"];
        makes_nothing(&upstream, 2, &["https://127.0.0.1:1/index/", "no list", "git index"]);
    }

    #[test]
    fn verbs_that_read_a_mirror_say_that_there_is_none_and_what_makes_one() {
        for verb in VERBS[2..9].iter().chain([&VERBS[10]]) {
            let arguments = [&[verb[0], "MIRROR"], &verb[1..]].concat();
            makes_nothing(&arguments, 2, &["there is no mirror in", "crateferry init"]);
        }
    }

    /// A file beside the mirror with this text is given with this option.
    #[track_caller]
    fn a_bad_file_is_named(option: &str, text: &str, said: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("given"), text).unwrap();
        let mirror = folder.path().join("mirror");
        let ran = on(&mirror, &["sync", "--crate", "serde", option, "given"]);
        expect(&ran, 2, said);
        assert!(!mirror.exists());
    }

    #[test]
    fn a_file_that_does_not_parse_is_named_with_the_line() {
        a_bad_file_is_named("--lockfile", "this is no lock file", &["lock file given"]);
        a_bad_file_is_named("--list", "serde\n# a comment\n\nserde@@\n", &["list given, line 4"]);
        a_bad_file_is_named("--list", "https://host/none\n", &["list given, line 1", "names no crate file"]);
        a_bad_file_is_named("--checksums", "{\"url\":\"x\"}\n", &["checksums given", "line 1"]);
        a_bad_file_is_named("--ca-file", "no certificate", &["given", "ca-files"]);
    }
}

mod folders {
    use super::*;

    /// Every verb on what `make` puts in the mirror's place.
    #[track_caller]
    fn every_verb_refuses(make: impl Fn(&Path), code: i32, said: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("mirror");
        make(&mirror);
        let before = look::contents(folder.path());
        for verb in VERBS {
            let ran = on(&mirror, verb);
            expect(&ran, code, said);
            assert_eq!(look::contents(folder.path()), before, "{verb:?} changed something");
        }
    }

    #[test]
    fn a_file_in_the_place_of_a_mirror_is_left_alone() {
        every_verb_refuses(|mirror| std::fs::write(mirror, "precious").unwrap(), 2, &["mirror is not a folder"]);
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let foreign = |mirror: &Path| {
            std::fs::create_dir(mirror).unwrap();
            std::fs::write(mirror.join("photo.jpg"), "precious").unwrap();
        };
        every_verb_refuses(foreign, 2, &["mirror"]);
        let folder = tempfile::tempdir().unwrap();
        foreign(&folder.path().join("mirror"));
        for verb in [VERBS[0], VERBS[1], VERBS[9]] {
            expect(&on(&folder.path().join("mirror"), verb), 2, &["is not a mirror and not empty", "new folder"]);
        }
    }

    #[test]
    fn a_mirror_of_a_newer_format_is_left_alone_whatever_its_configuration_holds() {
        let newer = |mirror: &Path| {
            std::fs::create_dir_all(mirror.join("packs")).unwrap();
            std::fs::write(mirror.join("crateferry.toml"), "format = 99\nsurprise = { a = 1 }\n").unwrap();
            std::fs::write(mirror.join("packs/000001.tar"), "of the future").unwrap();
        };
        let folder = tempfile::tempdir().unwrap();
        let mirror = folder.path().join("mirror");
        newer(&mirror);
        let before = look::contents(folder.path());
        for verb in VERBS[..9].iter().chain([&VERBS[10]]) {
            expect(&on(&mirror, verb), 2, &["has format 99", "use a newer crateferry"]);
        }
        expect(&on(&mirror, VERBS[9]), 2, &["there is a mirror in"]);
        assert_eq!(look::contents(folder.path()), before);
    }

    #[test]
    fn a_place_where_nothing_can_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "precious").unwrap();
        let mirror = folder.path().join("file/mirror");
        for verb in [VERBS[0], VERBS[9]] {
            let mut command = program();
            let ran = run(command.arg(verb[0]).arg(&mirror).args(&verb[1..]));
            expect(&ran, 3, &["file/mirror", "because"]);
        }
        assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), b"precious");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_system_that_takes_no_folder_is_named() {
        let ran = run(program().args(["init", "/proc/mirror"]));
        expect(&ran, 3, &["/proc/mirror", "because"]);
    }

    #[test]
    fn a_log_file_that_cannot_be_opened_is_named_and_nothing_is_done() {
        makes_nothing(&["init", "MIRROR", "--log-file", "none/log"], 3, &["the log file none/log"]);
    }
}

/// A mirror that holds `serde 1.0.0`.
fn mirrored() -> (Registry, Ferry) {
    let registry = Registry::new();
    registry.release("serde", "1.0.0");
    let ferry = hasty(&registry);
    ferry.sync(&["--crate", "serde"]).expect(0);
    registry.reset_counters();
    (registry, ferry)
}

/// The run changes nothing of a mirror; what it holds is served as before and the next sync is complete.
#[track_caller]
fn loses_nothing(spoil: impl FnOnce(&Registry, &Ferry) -> Ran, code: i32, said: &[&str]) {
    let (registry, ferry) = mirrored();
    let before = belongings(&ferry.mirror());
    let ran = spoil(&registry, &ferry);
    expect(&ran, code, said);
    assert_eq!(belongings(&ferry.mirror()), before, "something changed");
    registry.heal();
    ferry.sync(&[]).expect(0);
    assert_eq!(served(&ferry, "serde"), registry.row("serde", "1.0.0"));
    assert_eq!(registry.crate_file_requests(), 0);
}

mod mirrors {
    use super::*;

    #[test]
    fn everything_of_an_index_without_a_list_is_not_stored_as_a_wish() {
        loses_nothing(|_, ferry| ferry.sync(&["--all"]), 2, &["no list", "git index"]);
    }

    #[test]
    fn a_bad_selection_stores_no_part_of_it() {
        let bad = ["--crate", "other", "--crate", "serde@nonsense"];
        loses_nothing(|_, ferry| ferry.sync(&bad), 2, &["serde@nonsense"]);
    }

    #[test]
    fn a_bad_download_url_stores_no_part_of_the_selection() {
        let bad = ["--crate", "other", "--download-url", "nonsense"];
        loses_nothing(|_, ferry| ferry.sync(&bad), 2, &["--download-url", "nonsense"]);
    }

    #[test]
    fn accepting_what_is_not_lacking_changes_nothing() {
        let accept = ["accept", "serde@1.0.0"];
        loses_nothing(|_, ferry| ferry.run("holes", &accept), 2, &["serde 1.0.0 is not lacking", "crateferry holes"]);
    }

    #[test]
    fn making_a_mirror_where_one_is_changes_nothing() {
        loses_nothing(|_, ferry| ferry.run("init", &[]), 2, &["there is a mirror in", "already"]);
    }

    #[test]
    fn a_mirror_that_wants_nothing_says_how_to_select() {
        let registry = Registry::new();
        let ferry = hasty(&registry);
        let ran = ferry.sync(&[]);
        expect(&ran, 2, &["nothing is selected", "--lockfile"]);
        assert_eq!(registry.requests(), 0);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_file() {
        let (_registry, ferry) = mirrored();
        let text = std::fs::read_to_string(ferry.file("crateferry.toml")).unwrap();
        std::fs::write(ferry.file("crateferry.toml"), format!("surprise = 1\n{text}")).unwrap();
        for verb in ["sync", "plan", "status", "approve"] {
            expect(&ferry.run(verb, &[]), 2, &["crateferry.toml", "surprise"]);
        }
        ferry.run("verify", &[]).expect(0);
        std::fs::write(ferry.file("crateferry.toml"), text.replace("[network]", "[network]\nretires = 3")).unwrap();
        expect(&ferry.run("sync", &[]), 2, &["crateferry.toml", "retires", "retries"]);
    }

    #[test]
    fn a_mirror_that_another_process_writes_names_it_and_can_be_read() {
        let registry = Registry::new();
        registry.release("serde", "1.0.0").release("syn", "1.0.0").fault("syn", "1.0.0", Fault::held());
        let ferry = Ferry::sparse(&registry); // patient: the writer must still wait when all have looked
        ferry.sync(&["--crate", "serde"]).expect(0);
        let running = ferry.start_sync(&["--crate", "syn"]);
        registry.wait_for(1, |request| request.path.ends_with("syn-1.0.0.crate"));
        let pid = format!("locked by process {}", running.id());
        for verb in [VERBS[0], VERBS[1], VERBS[4], VERBS[5], VERBS[7]] {
            expect(&on(&ferry.mirror(), verb), 4, &[&pid]);
        }
        for verb in [VERBS[2], VERBS[3], VERBS[6]] {
            expect(&on(&ferry.mirror(), verb), 0, &[]);
        }
        registry.let_go();
        running.wait().expect(0);
        assert_eq!(served(&ferry, "syn"), registry.row("syn", "1.0.0"));
    }
}

mod upstreams {
    use super::*;

    fn closed_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn sync_from(ferry: &Ferry, upstream: &str) -> Ran {
        ferry.run("sync", &["--upstream", upstream, "--retries", "0"])
    }

    #[test]
    fn an_upstream_that_is_out_of_reach_is_named() {
        let url = format!("http://127.0.0.1:{}/index/", closed_port());
        loses_nothing(|_, ferry| sync_from(ferry, &format!("sparse+{url}")), 3, &[&url, "because"]);
        loses_nothing(|_, ferry| sync_from(ferry, &url), 3, &[&url, "because"]);
    }

    #[test]
    fn a_page_in_the_place_of_a_registry_is_named() {
        let page = |registry: &Registry, ferry: &Ferry| {
            registry.fault_path("/", Fault::body("<html>please log in</html>"));
            ferry.sync(&[])
        };
        loses_nothing(page, 3, &["/index/", "there is no registry at this URL"]);
    }

    #[test]
    fn a_page_in_the_place_of_a_git_repository_is_named() {
        let page = |registry: &Registry, ferry: &Ferry| {
            registry.fault_path("/", Fault::body("<html>please log in</html>"));
            sync_from(ferry, &format!("{}/elsewhere", registry.url()))
        };
        loses_nothing(page, 3, &["/elsewhere", "because"]);
    }

    #[test]
    fn a_folder_that_is_no_repository_or_not_there_is_named() {
        let folder = |_: &Registry, ferry: &Ferry| sync_from(ferry, "file:///dev/null/none");
        loses_nothing(folder, 3, &["/dev/null/none", "because"]);
        let folder = |_: &Registry, ferry: &Ferry| sync_from(ferry, "/dev/null/none");
        loses_nothing(folder, 3, &["/dev/null/none", "because"]);
    }

    #[test]
    fn a_first_sync_that_cannot_reach_its_upstream_leaves_a_mirror_that_the_same_command_fills() {
        let registry = Registry::new();
        registry.release("serde", "1.0.0").fault_path("/", Fault::status(500));
        let ferry = Ferry::sparse(&registry);
        let sync = ["--crate", "serde", "--retries", "0"];
        expect(&ferry.sync(&sync), 3, &[&registry.index_url(), "500"]);
        registry.heal();
        ferry.sync(&sync).expect(0);
        assert_eq!(served(&ferry, "serde"), registry.row("serde", "1.0.0"));
    }
}

mod losses {
    use super::*;

    /// A file of the mirror is lost: verbs that need it say so and what mends it, and after that all is as before.
    #[track_caller]
    fn is_named_and_mended(lose: impl FnOnce(&Ferry), verbs: &[&[&str]], problem: &str) {
        let (registry, ferry) = mirrored();
        let digest = ferry.digest();
        lose(&ferry);
        for verb in verbs {
            expect(&on(&ferry.mirror(), verb), 5, &[problem, "crateferry rebuild"]);
        }
        ferry.run("rebuild", &[]).expect(0);
        ferry.sync(&[]).expect(0);
        assert_eq!((ferry.digest(), registry.crate_file_requests()), (digest, 0));
        ferry.run("verify", &[]).expect(0);
    }

    const WRITERS: [&[&str]; 4] = [VERBS[0], VERBS[4], VERBS[5], VERBS[10]];
    const READERS: [&[&str]; 4] = [VERBS[2], VERBS[3], VERBS[6], VERBS[8]];

    #[test]
    fn a_lost_ledger_is_never_a_new_mirror() {
        let lose = |ferry: &Ferry| std::fs::remove_file(ferry.file("ledger.redb")).unwrap();
        is_named_and_mended(lose, &WRITERS, "the ledger is lost");
    }

    #[test]
    fn an_empty_ledger_is_a_lost_one() {
        let lose = |ferry: &Ferry| drop(std::fs::File::create(ferry.file("ledger.redb")).unwrap());
        is_named_and_mended(lose, &WRITERS, "the ledger is lost");
    }

    #[test]
    fn a_lost_catalog_is_named_by_those_who_read_it() {
        let lose = |ferry: &Ferry| std::fs::remove_file(ferry.file("catalog.redb")).unwrap();
        is_named_and_mended(lose, &READERS, "the catalog is lost");
    }

    #[test]
    fn a_lost_catalog_is_derived_again_by_the_next_sync() {
        let (registry, ferry) = mirrored();
        std::fs::remove_file(ferry.file("catalog.redb")).unwrap();
        ferry.sync(&[]).expect(0);
        assert_eq!(served(&ferry, "serde"), registry.row("serde", "1.0.0"));
    }

    #[test]
    fn packs_without_a_configuration_are_damage_and_no_place_for_a_new_mirror() {
        let (_registry, ferry) = mirrored();
        std::fs::remove_file(ferry.file("crateferry.toml")).unwrap();
        let before = belongings(&ferry.mirror());
        for verb in VERBS.iter().filter(|verb| verb[0] != "rebuild") {
            expect(&on(&ferry.mirror(), verb), 5, &["the configuration is lost"]);
        }
        assert_eq!(belongings(&ferry.mirror()), before);
    }
}

//! The files that start the program: units, image, compose file. Their command lines are checked beside the command line's
//! types; here, what the programs that read them say.

use std::process::Command;

use serde_json::Value;

use crate::documents::{files_below, read, root};

/// The units, with the program that was just built in the place of the installed one.
fn units() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for path in files_below(&root().join("docs/deploy/systemd")) {
        let name = path.file_name().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace("/usr/local/bin/crateferry", env!("CARGO_BIN_EXE_crateferry"));
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn systemd_analyze(arguments: &[&str], folder: &tempfile::TempDir, units: &[&str]) -> Option<String> {
    let mut command = Command::new("systemd-analyze");
    command.args(arguments).args(units.iter().map(|unit| folder.path().join(unit)));
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None, // nobody here could use the units
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    Some(said)
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    let units = units();
    let all = ["crateferry-sync.service", "crateferry-sync.timer", "crateferry-serve.service"];
    let Some(said) = systemd_analyze(&["verify", "--man=no"], &units, &all) else { return };
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("crateferry")).collect();
    assert!(ours.is_empty(), "{said}");
}

#[test]
fn the_units_leave_little_that_a_service_could_harm() {
    let units = units();
    for unit in ["crateferry-sync.service", "crateferry-serve.service"] {
        // Tenths: below 2 of 10.
        let arguments = ["security", "--offline=true", "--no-pager", "--threshold=20"];
        systemd_analyze(&arguments, &units, &[unit]);
    }
}

/// The value of a `KEY=` line.
fn value<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn the_units_agree_with_each_other_and_with_the_program() {
    let sync = read("docs/deploy/systemd/crateferry-sync.service");
    let serve = read("docs/deploy/systemd/crateferry-serve.service");
    let users = read("docs/deploy/systemd/crateferry.sysusers.conf");
    let user = users.lines().find_map(|line| line.strip_prefix("u ")?.split(' ').next()).unwrap();
    assert_eq!((value(&sync, "User"), value(&serve, "User")), (vec![user], vec![user]));
    assert_eq!(value(&serve, "Type"), ["notify"]);
    assert_eq!(value(&sync, "Type"), ["oneshot"]);
    // The state folder is the one that the other one reads and that the commands name.
    let state = format!("/var/lib/{}", value(&sync, "StateDirectory")[0]);
    assert_eq!(value(&serve, "ReadOnlyPaths"), [state.as_str()]);
    assert!(value(&sync, "ExecStart")[0].contains(&format!(" {state}/")));
    assert!(value(&serve, "ExecStart")[0].contains(&format!(" {state}/")));
    // A stopped sync ends with 143, within 10 s.
    assert_eq!(value(&sync, "SuccessExitStatus"), ["143"]);
    assert!(value(&sync, "TimeoutStopSec")[0].parse::<u32>().unwrap() > 10);
    assert!(value(&serve, "TimeoutStopSec")[0].parse::<u32>().unwrap() > 10);
}

#[test]
fn the_image_is_built_from_what_there_is() {
    let image = read("docs/deploy/docker/Dockerfile");
    let manifest: toml::Table = read("Cargo.toml").parse().unwrap();
    let rust = manifest["workspace"]["package"]["rust-version"].as_str().unwrap();
    assert!(image.contains(&format!("FROM rust:{rust}-")), "the image is built with the Rust that Cargo.toml names");
    let profile = image.split("--profile ").nth(1).unwrap().split_whitespace().next().unwrap();
    assert!(manifest["profile"].get(profile).is_some(), "there is no profile {profile}");
    assert!(image.contains(&format!("/source/target/{profile}/crateferry ")));
    let instructions =
        ["FROM", "WORKDIR", "COPY", "RUN", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"];
    for line in image.replace("\\\n", " ").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        assert!(instructions.contains(&line.split(' ').next().unwrap()), "{line}");
    }
}

#[test]
fn the_compose_file_names_what_there_is() {
    let file: Value = serde_saphyr::from_str(&read("docs/deploy/docker/compose.yaml")).unwrap();
    let folder = root().join("docs/deploy/docker");
    let build = &file["services"]["serve"]["build"];
    let context = folder.join(build["context"].as_str().unwrap());
    assert_eq!(context.canonicalize().unwrap(), root().canonicalize().unwrap());
    assert!(context.join(build["dockerfile"].as_str().unwrap()).is_file());
    let known = ["image", "build", "command", "environment", "ports", "volumes", "restart", "stop_grace_period"];
    let known = [&known[..], &["read_only", "tmpfs", "cap_drop", "security_opt", "profiles"]].concat();
    let image = read("docs/deploy/docker/Dockerfile");
    for (name, service) in file["services"].as_object().unwrap() {
        for key in service.as_object().unwrap().keys() {
            assert!(known.contains(&key.as_str()), "{name}: {key}");
        }
        for volume in service["volumes"].as_array().unwrap() {
            let (volume, place) = volume.as_str().unwrap().split_once(':').unwrap();
            let is_named = file["volumes"].as_object().unwrap().contains_key(volume);
            assert!(volume.starts_with('.') || is_named, "{volume} is not declared");
            assert!(!is_named || image.contains(&format!("VOLUME {place}\n")), "the image has no volume {place}");
        }
        for (variable, _) in service["environment"].as_object().unwrap() {
            assert!(read("docs/operating.md").contains(variable), "{variable} is no variable");
        }
    }
}

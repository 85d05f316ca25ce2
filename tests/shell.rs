//! What the program gives to shells and to `man`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

mod common;

use std::process::{Command, Output};

use common::program;

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = said(program().arg("--help"));
    let list = help.split_once("Commands:").unwrap().1.split_once("\n\n").unwrap().0;
    let indented = list.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    indented.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[track_caller]
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?} ended with {status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

#[test]
fn bash_completes_commands_and_options_with_the_script() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("crateferry.bash");
    std::fs::write(&script, said(program().args(["completions", "bash"]))).unwrap();
    let complete = |words: &str, last: usize| {
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={last}; _crateferry crateferry \"${{COMP_WORDS[{last}]}}\" x; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        said(Command::new("bash").args(["--norc", "--noprofile", "-c", &line]))
    };
    assert_eq!(complete("crateferry reb", 1).trim(), "rebuild");
    assert!(complete("crateferry sync --lock", 2).contains("--lockfile"));
    for command in commands() {
        let reply = complete("crateferry ''", 1);
        assert!(reply.split_whitespace().any(|word| word == command), "{command} is not completed: {reply}");
    }
}

#[test]
fn every_shell_has_a_script() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = said(program().args(["completions", shell]));
        assert!(script.contains("crateferry") && script.contains("lockfile"), "{shell}: {script}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    assert!(said(program().arg("man")).contains(".TH crateferry 1"));
    said(program().args(["man", "--dir"]).arg(&pages));
    for command in commands().iter().filter(|command| *command != "help") {
        let page = std::fs::read_to_string(pages.join(format!("crateferry-{command}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS"), "{command}: {page}");
    }
}

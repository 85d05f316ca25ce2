//! The fake registry as a program.

#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

#[test]
fn it_says_where_it_is_and_serves_until_its_input_closes() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fake-registry"));
    command.args(["--releases", "20", "--mean-size", "3000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut program = command.spawn().unwrap();
    let lines = BufReader::new(program.stdout.take().unwrap()).lines().map(Result::unwrap);
    let said: HashMap<String, String> = lines
        .take_while(|line| line != "ready=yes")
        .filter_map(|line| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let rows = fetched(&said["ca_file"], &format!("{}/index/c0/00/c00002", said["url"]));
    assert_eq!(rows.lines().count(), 6);
    drop(program.stdin.take());
    assert!(program.wait().unwrap().success());
}

fn fetched(ca_file: &str, url: &str) -> String {
    let output = Command::new("curl").args(["--silent", "--fail", "--cacert", ca_file, url]).output().unwrap();
    assert!(output.status.success(), "curl {url} failed");
    String::from_utf8(output.stdout).unwrap()
}

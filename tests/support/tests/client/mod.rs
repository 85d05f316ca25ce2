//! Real clients, set up to trust a fake registry and nothing else.
#![allow(dead_code, clippy::unwrap_used, reason = "each test binary uses a part of it")]

use std::path::Path;
use std::process::Command;

use crateferry_test_support::Registry;
use tempfile::TempDir;

/// One transfer by curl.
pub struct Curl {
    command: Command,
    folder: TempDir,
}

/// What came of a transfer.
#[derive(Debug)]
pub struct Answer {
    /// curl's exit code.
    pub exit: i32,
    /// The status, or 0 if there was none.
    pub status: u16,
    /// The body, as far as it came.
    pub body: Vec<u8>,
    headers: String,
}

impl Curl {
    pub fn new(registry: &Registry) -> Self {
        let mut command = Command::new("curl");
        command.args(["--silent", "--http2", "--max-time", "20", "--cacert"]).arg(registry.ca_file());
        Curl { command, folder: tempfile::tempdir().unwrap() }
    }

    pub fn option(mut self, option: &str) -> Self {
        self.command.arg(option);
        self
    }

    pub fn header(self, name: &str, value: &str) -> Self {
        self.option("--header").option(&format!("{name}: {value}"))
    }

    pub fn get(mut self, url: &str) -> Answer {
        let (body, headers) = (self.folder.path().join("body"), self.folder.path().join("headers"));
        self.command.arg("--output").arg(&body).arg("--dump-header").arg(&headers);
        let output = self.command.args(["--write-out", "%{http_code}", url]).output().unwrap();
        let status = String::from_utf8_lossy(&output.stdout);
        Answer {
            exit: output.status.code().unwrap(),
            status: status[status.len().saturating_sub(3)..].parse().unwrap(),
            body: std::fs::read(body).unwrap_or_default(),
            headers: std::fs::read_to_string(headers).unwrap_or_default(),
        }
    }
}

impl Answer {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<String> {
        let mut fields = self.headers.lines().filter_map(|line| line.split_once(':'));
        fields.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned()))
    }
}

/// A clone of the git index with a working tree.
pub fn git_clone(registry: &Registry, url: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut git = Command::new("git");
    git.args(["clone", "--quiet", "--single-branch", "--branch", "master", url]).arg(folder.path());
    let status = git.env("GIT_SSL_CAINFO", registry.ca_file()).status().unwrap();
    assert!(status.success(), "git clone {url} failed");
    folder
}

/// Lets cargo do something with a tiny project that has this dependency, and gives its `Cargo.lock`.
pub fn cargo(registry: &Registry, index: &str, dependency: &str, verb: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| std::fs::write(folder.path().join(path), text).unwrap();
    let package = "[package]\nname = \"tiny\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\npath = \"lib.rs\"\n";
    write("Cargo.toml", &format!("{package}[workspace]\n[dependencies]\n{dependency}\n"));
    write("lib.rs", "");
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    write("home/config.toml", &replaced_source(index));
    run_cargo(registry, folder.path(), &home, verb);
    std::fs::read_to_string(folder.path().join("Cargo.lock")).unwrap()
}

fn replaced_source(url: &str) -> String {
    format!("[source.crates-io]\nreplace-with = \"fake\"\n[source.fake]\nregistry = \"{url}\"\n")
}

fn run_cargo(registry: &Registry, folder: &Path, home: &Path, verb: &str) {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.arg(verb).current_dir(folder).env("CARGO_HOME", home).env("CARGO_HTTP_CAINFO", registry.ca_file());
    cargo.env_remove("CARGO_TARGET_DIR").env_remove("CARGO_BUILD_TARGET");
    let output = cargo.output().unwrap();
    assert!(output.status.success(), "cargo {verb} failed: {}", String::from_utf8_lossy(&output.stderr));
}

/// The number of lines in a file.
pub fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

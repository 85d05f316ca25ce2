//! A small program to be built, with a cargo of its own that has no way out: every proxy that it could use refuses.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A program that depends on `alpha` and, by another name, on `Mixed_Case`.
pub struct Project {
    folder: TempDir,
    config: String,
}

const MANIFEST: &str = "[package]\nname = \"program\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n\
    alpha = { version = \"1\", features = [\"more\"] }\nbeta = { package = \"Mixed_Case\", version = \"0.3\" }\n";

impl Project {
    /// One whose crates.io is replaced by a source: `local-registry = "DIR"` or `registry = "URL"`.
    pub fn of(source: &str) -> Project {
        let config = format!("[source.crates-io]\nreplace-with = \"mirror\"\n[source.mirror]\n{source}\n");
        let project = Project { folder: tempfile::tempdir().unwrap(), config };
        std::fs::create_dir_all(project.file("src")).unwrap();
        std::fs::write(project.file("Cargo.toml"), MANIFEST).unwrap();
        let main = "fn main() { println!(\"{} {}\", alpha::VERSION, beta::VERSION) }\n";
        std::fs::write(project.file("src/main.rs"), main).unwrap();
        project.with_new_home()
    }

    /// Another cargo, which knows nothing yet and has built nothing.
    pub fn with_new_home(self) -> Project {
        for folder in [self.home(), self.file("target")] {
            if folder.exists() {
                std::fs::remove_dir_all(&folder).unwrap();
            }
        }
        std::fs::create_dir(self.home()).unwrap();
        std::fs::write(self.home().join("config.toml"), &self.config).unwrap();
        self
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join("project").join(path)
    }

    /// What cargo said, which did what it was told.
    #[track_caller]
    pub fn cargo(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "cargo {arguments}: {}", said(&output));
        said(&output)
    }

    /// What cargo said, which could not do it.
    #[track_caller]
    pub fn cargo_fails(&self, arguments: &str) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(!output.status.success(), "cargo {arguments} went well: {}", said(&output));
        said(&output)
    }

    fn command(&self, arguments: &str) -> Command {
        let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
        let mut command = Command::new(&cargo);
        command.args(arguments.split(' ')).current_dir(self.file("")).env_clear();
        for key in ["PATH", "HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN", "SystemRoot", "TMPDIR"] {
            command.envs(std::env::var_os(key).map(|value| (key, value)));
        }
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env(proxy, "http://127.0.0.1:9");
        }
        command.envs([("no_proxy", "127.0.0.1"), ("NO_PROXY", "127.0.0.1"), ("CARGO_NET_RETRY", "0")]);
        command.env("CARGO_HOME", self.home()).env("CARGO_TERM_COLOR", "never");
        command
    }

    /// Which version of a crate the lock file names.
    pub fn locked(&self, name: &str) -> String {
        let lock = std::fs::read_to_string(self.file("Cargo.lock")).unwrap();
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }

    /// Builds and runs the program, as the lock file has it; returns what it says.
    #[track_caller]
    pub fn run_locked(&self, more: &str) -> String {
        self.cargo(&format!("run --quiet --locked{more}")).trim().to_owned()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

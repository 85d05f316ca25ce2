//! A project with a real cargo that has its registry from a mirror. Cargo gets a home of its own and no way out: every proxy
//! that it could use refuses, so what it has, it has from the mirror.

use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::Server;

/// A project with a cargo of its own.
pub struct Project {
    pub folder: TempDir,
}

/// Cargo's own way to name a replacement.
pub const REPLACED: &str = "[source.crates-io]\nreplace-with = \"mirror\"\n";

impl Project {
    /// A program that depends on `alpha` and, by another name, on `Mixed_Case`; its cargo has this configuration.
    pub fn new(config: &str) -> Project {
        let project = Project::depending(
            config,
            "alpha = { version = \"1\", features = [\"more\"] }\nbeta = { package = \"Mixed_Case\", version = \"0.3\" }\n",
        );
        let main = "fn main() { println!(\"{} {}\", alpha::VERSION, beta::VERSION) }\n";
        std::fs::write(project.file("src/main.rs"), main).unwrap();
        project
    }

    /// A library with these lines below `[dependencies]`.
    pub fn depending(config: &str, dependencies: &str) -> Project {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("home/config.toml", config);
        let package = "[package]
name = \"program\"
version = \"0.1.0\"
edition = \"2021\"
";
        write(
            "project/Cargo.toml",
            &format!(
                "{package}[dependencies]
{dependencies}"
            ),
        );
        write(
            "project/src/main.rs",
            "fn main() {}
",
        );
        Project { folder }
    }

    /// One whose crates.io is replaced by the server, as a named registry.
    pub fn of(server: &Server) -> Project {
        Project::new(&named(server, ""))
    }

    pub fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join("project").join(path)
    }

    /// Another cargo, which has downloaded nothing yet.
    pub fn with_new_home(self) -> Project {
        let home = self.folder.path().join("home");
        let config = std::fs::read(home.join("config.toml")).unwrap();
        std::fs::remove_dir_all(&home).unwrap();
        std::fs::create_dir(&home).unwrap();
        std::fs::write(home.join("config.toml"), config).unwrap();
        self
    }

    pub fn command(&self, arguments: &str) -> Command {
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
        command.env("CARGO_HOME", self.folder.path().join("home")).env("CARGO_TERM_COLOR", "never");
        command
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

    /// Which version of a crate the lock file names.
    pub fn locked(&self, name: &str) -> String {
        let lock = std::fs::read_to_string(self.file("Cargo.lock")).unwrap();
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

/// What a program said.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The configuration that makes a server the named registry `mirror` and replaces crates.io by it.
pub fn named(server: &Server, more: &str) -> String {
    format!("{REPLACED}[registries.mirror]\nindex = \"sparse+{}\"\n{more}", server.url("/index/"))
}

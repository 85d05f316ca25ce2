//! A place where documents are followed: a project with a lock file, a home folder, and a registry that is made up in the place
//! of crates.io.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crateferry_test_support::Registry;
use tempfile::TempDir;

use crate::common::program;

/// Where a reader sits. All of it goes when this is dropped.
pub struct Desk {
    pub folder: TempDir,
    pub registry: Registry,
}

impl Desk {
    /// With a registry that has `serde` and `syn`.
    pub fn new() -> Desk {
        let registry = Registry::new();
        registry.release("serde", "1.0.0").release("serde", "1.0.1").release("syn", "2.0.0");
        Desk::with(registry)
    }

    /// With a registry that has at least `serde 1.0.0` and `syn 2.0.0`, which the project depends on.
    pub fn with(registry: Registry) -> Desk {
        let desk = Desk { folder: tempfile::tempdir().unwrap(), registry };
        std::fs::create_dir_all(desk.project().join("src")).unwrap();
        std::fs::create_dir_all(desk.home()).unwrap();
        std::fs::write(desk.project().join("src/lib.rs"), "").unwrap();
        let manifest = "[package]\nname = \"project\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                        [dependencies]\nserde = \"=1.0.0\"\nsyn = \"2\"\n";
        std::fs::write(desk.project().join("Cargo.toml"), manifest).unwrap();
        std::fs::write(desk.project().join("Cargo.lock"), desk.lock_file()).unwrap();
        desk
    }

    /// The project's folder, where scripts are run.
    pub fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Puts a file into the project's folder.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let path = self.project().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn lock_file(&self) -> String {
        let package = |name: &str, version: &str| {
            let source = "registry+https://github.com/rust-lang/crates.io-index";
            let checksum = self.registry.checksum(name, version);
            format!(
                "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\nsource = \"{source}\"\nchecksum = \"{checksum}\"\n\n"
            )
        };
        let project =
            "[[package]]\nname = \"project\"\nversion = \"0.1.0\"\ndependencies = [\n \"serde\",\n \"syn\",\n]\n\n";
        format!("version = 4\n\n{project}{}{}", package("serde", "1.0.0"), package("syn", "2.0.0"))
    }

    /// Runs a script as a reader does, and says what it printed. Servers that it starts end with it.
    #[track_caller]
    pub fn follow(&self, script: &str) -> String {
        self.try_follow(script).unwrap_or_else(|problem| panic!("{problem}"))
    }

    /// The same; the error is what was run and what it said.
    pub fn try_follow(&self, script: &str) -> Result<String, String> {
        let (port, admin_port) = (free_port(), free_port());
        let address = format!("127.0.0.1:{port}");
        let script = format!("set -eu\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}");
        let script = script.replace("127.0.0.1:8080", &address).replace("9090", &admin_port);
        let mut command = Command::new("bash");
        for (key, _) in program().get_envs() {
            command.env_remove(key);
        }
        command.args(["-c", &script]).current_dir(self.project()).stdin(Stdio::null());
        command.env("HOME", self.home()).env_remove("CARGO_HOME").env("PATH", path());
        if let Some(rustup) = std::env::var_os("RUSTUP_HOME").or_else(rustup_home) {
            command.env("RUSTUP_HOME", rustup);
        }
        command.env("CRATEFERRY_UPSTREAM", self.registry.sparse_url()).env("CRATEFERRY_LISTEN", &address);
        command.env("CRATEFERRY_CA_FILE", self.registry.ca_file()).env("CRATEFERRY_ALLOW_HOSTS", "127.0.0.1");
        command.env("CARGO_NET_RETRY", "0");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        if output.status.success() { Ok(said) } else { Err(format!("{}\n{script}\n--\n{said}", output.status)) }
    }
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// The program that was built and the cargo that builds it come first.
fn path() -> std::ffi::OsString {
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    let folder = |program: &Path| program.parent().unwrap_or(Path::new("")).to_owned();
    let first = [folder(Path::new(program().get_program())), folder(&cargo)];
    let rest = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(first.into_iter().chain(std::env::split_paths(&rest))).unwrap()
}

fn rustup_home() -> Option<std::ffi::OsString> {
    Some(PathBuf::from(std::env::var_os("HOME")?).join(".rustup").into())
}

//! What whole-program tests share: a mirror's folder, the real program on it, and what it said.
//!
//! ```text
//! let registry = Registry::new();
//! registry.release("serde", "1.0.0");
//! let ferry = Ferry::sparse(&registry);
//! let said = ferry.sync(&["--crate", "serde"]).expect(0).json();
//! ```
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crateferry_test_support::Registry;
use fastrand::Rng;
use serde_json::Value;
use tempfile::TempDir;

pub mod gap;
mod knowledge;
pub mod project;
pub mod server;

pub use knowledge::Knowledge;
pub use server::Server;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a run may take that a test waits for the end of.
const LONGEST: Duration = Duration::from_mins(5);

/// A mirror's folder and the upstream that it syncs from. The folder goes when this is dropped.
pub struct Ferry {
    folder: TempDir,
    /// What `--upstream` and `--ca-file` say.
    upstream: Vec<String>,
    runs: AtomicUsize,
}

impl Ferry {
    /// A mirror of the registry's sparse index; not made yet.
    pub fn sparse(registry: &Registry) -> Ferry {
        Ferry::of(registry, &registry.sparse_url())
    }

    /// A mirror of the registry's git index, read as a local repository. It is made, since only its configuration can
    /// permit crate files from a private address that the upstream's URL does not name.
    pub fn git(registry: &Registry) -> Ferry {
        let ferry = Ferry::of(registry, &registry.git_file_url());
        ferry.init().configure("network", "allow-hosts = [\"127.0.0.1\"]");
        ferry
    }

    /// A mirror of any upstream, with the registry's certificate trusted; not made yet.
    pub fn of(registry: &Registry, upstream: &str) -> Ferry {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = registry.ca_file().display().to_string();
        let upstream = ["--upstream".into(), upstream.to_owned(), "--ca-file".into(), ca_file].to_vec();
        Ferry { folder, upstream, runs: AtomicUsize::new(0) }
    }

    /// The same mirror, which syncs from another upstream from now on.
    pub fn switch_to(&mut self, upstream: &str) {
        upstream.clone_into(&mut self.upstream[1]);
    }

    /// The mirror's folder.
    pub fn mirror(&self) -> PathBuf {
        self.folder.path().join("mirror")
    }

    /// A file in the mirror's folder.
    pub fn file(&self, path: &str) -> PathBuf {
        self.mirror().join(path)
    }

    /// A place beside the mirror, for a test's own files.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A copy of the mirror as it is now, with the same upstream.
    pub fn copy(&self) -> Ferry {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(&self.mirror(), &folder.path().join("mirror"));
        Ferry { folder, upstream: self.upstream.clone(), runs: AtomicUsize::new(0) }
    }

    /// Makes the empty mirror.
    pub fn init(&self) -> &Self {
        let upstream: Vec<&str> = self.upstream.iter().map(String::as_str).collect();
        self.run("init", &upstream).expect(0);
        self
    }

    /// Writes a line into a section of the mirror's configuration: `configure("store", "pack-size = \"1 MB\"")`.
    pub fn configure(&self, section: &str, line: &str) -> &Self {
        let path = self.file("crateferry.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let head = format!("\n[{section}]\n");
        assert!(text.contains(&head), "crateferry.toml has no section {section}");
        std::fs::write(&path, text.replace(&head, &format!("{head}{line}\n"))).unwrap();
        self
    }

    /// Writes a line above all sections of the mirror's configuration.
    pub fn top(&self, line: &str) -> &Self {
        let path = self.file("crateferry.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{line}\n{text}")).unwrap();
        self
    }

    /// The program, with a clean environment: `crateferry VERB MIRROR ARGUMENTS...`.
    pub fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = program();
        command.arg(verb).arg(self.mirror()).args(arguments);
        command
    }

    /// Runs a verb to its end.
    pub fn run(&self, verb: &str, arguments: &[&str]) -> Ran {
        self.start(self.command(verb, arguments)).wait()
    }

    /// Runs a sync from the upstream to its end, with `--json`.
    pub fn sync(&self, arguments: &[&str]) -> Ran {
        self.start_sync(arguments).wait()
    }

    /// Starts a sync from the upstream, with `--json`.
    pub fn start_sync(&self, arguments: &[&str]) -> Running {
        let mut command = self.command("sync", arguments);
        command.args(&self.upstream).arg("--json");
        self.start(command)
    }

    /// Starts a command whose output is kept.
    pub fn start(&self, command: Command) -> Running {
        self.start_with(command, Stdio::null())
    }

    /// The same with something to read.
    pub fn start_with(&self, mut command: Command, stdin: Stdio) -> Running {
        let number = self.runs.fetch_add(1, Ordering::Relaxed);
        let stdout = self.beside(&format!("{number}.stdout"));
        let stderr = self.beside(&format!("{number}.stderr"));
        command.stdin(stdin).stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        Running { child: command.spawn().unwrap(), stdout, stderr }
    }

    /// A server of the mirror, which answers.
    #[track_caller]
    pub fn serve(&self, arguments: &[&str]) -> Server {
        Server::start(self, arguments)
    }

    /// What `status --json` says, whatever its exit code.
    pub fn status(&self) -> Value {
        self.run("status", &["--json"]).json()
    }

    /// The digest of the generation that is served.
    pub fn digest(&self) -> String {
        self.status()["generation_digest"].as_str().expect("something is published").to_owned()
    }

    /// All that its ledger knows, as the next run will find it. No process may be writing the mirror.
    pub fn knowledge(&self) -> Knowledge {
        Knowledge::of(&self.mirror())
    }

    /// The lengths of all packs, by name, in order.
    pub fn packs(&self) -> Vec<(String, u64)> {
        let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let entries = std::fs::read_dir(self.file("packs")).unwrap().map(Result::unwrap);
        let mut packs: Vec<_> = entries.map(|entry| (name(&entry), entry.metadata().unwrap().len())).collect();
        packs.sort();
        packs
    }
}

/// The program, with nothing in its environment that configures it or leads it to a proxy.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crateferry"));
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy().to_ascii_uppercase();
        if name.starts_with("CRATEFERRY_") || name.ends_with("_PROXY") || name.starts_with("RUST_LOG") {
            command.env_remove(key);
        }
    }
    command
}

/// A run of the program that has not ended; it is killed when this is dropped.
pub struct Running {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; panics if that does not come.
    #[track_caller]
    pub fn wait(mut self) -> Ran {
        let end = Instant::now() + LONGEST;
        while !self.has_ended() {
            assert!(Instant::now() < end, "it goes on for more than {LONGEST:?}, and told: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(2));
        }
        self.ran()
    }

    /// Ends it as `kill -9` does, if it has not ended by itself.
    pub fn kill(mut self) -> Ran {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ran()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    fn ran(&mut self) -> Ran {
        let status = self.child.wait().unwrap();
        #[cfg(unix)]
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        #[cfg(not(unix))]
        let signal = None;
        Ran { code: status.code(), signal, stdout: read(&self.stdout), stderr: read(&self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A run of the program that has ended.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Ran {
    /// It ended with this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Ran {
        assert_eq!(self.code, Some(code), "exit code\nstdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// It ended with this exit code and named this on stderr.
    #[track_caller]
    pub fn expect_error(self, code: i32, named: &str) -> Ran {
        let ran = self.expect(code);
        assert!(ran.stderr.contains(named), "{named:?} is not named on stderr: {}", ran.stderr);
        ran
    }

    /// What it wrote to stdout, which is JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error})\nstdout: {}\nstderr: {}", self.stdout, self.stderr))
    }
}

/// Chance for a test that tries what chance brings: from `CRATEFERRY_SEED`, else another one each time. Tests name the
/// seed when they fail.
pub fn chance() -> (u64, Rng) {
    let seed = std::env::var("CRATEFERRY_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    (seed, Rng::with_seed(seed))
}

/// Waits until something is so; panics with `what` after a minute.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it did not come to this: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Turns one bit of a file around.
pub fn flip_bit(path: &Path, bit: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
    // A sealed pack is read-only, and who flips its bits does not ask.
    std::fs::remove_file(path).unwrap();
    File::create(path).unwrap().write_all(&bytes).unwrap();
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

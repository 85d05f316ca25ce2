//! The programs that are compared: how each is told to fetch the whole registry, and how to see that it did.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use serde_json::Value;

use super::process::{Cost, find, measure, tethered};
use super::tree::Registry;
use super::web::Web;

/// How long any one program may run.
const LIMIT: Duration = Duration::from_secs(30 * 60);
/// Requests at once, for the programs that have to be told.
const REQUESTS_AT_ONCE: usize = 64;

/// A program that fetches crate files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// This project: follows the git index, verifies, stores durably, publishes.
    Crateferry,
    /// Follows the git index, verifies, writes files.
    Panamax,
    /// Is given the URLs and writes files.
    Curl,
    /// Is given the URLs and drops what it receives: the floor under all that speak HTTP/2 and TLS.
    H2load,
}

/// What all runs have in common.
pub struct Course<'a> {
    pub registry: &'a Registry,
    pub web: &'a Web,
    /// The crateferry to run.
    pub crateferry: &'a Path,
}

/// One run of a program that did what it was told.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub cost: Cost,
    pub files: u64,
    pub bytes: u64,
}

impl Peer {
    pub fn name(self) -> &'static str {
        match self {
            Peer::Crateferry => "crateferry",
            Peer::Panamax => "panamax",
            Peer::Curl => "curl",
            Peer::H2load => "h2load",
        }
    }

    /// The program, or how to get it.
    pub fn program(self, course: &Course) -> Result<PathBuf, &'static str> {
        match self {
            Peer::Crateferry => Ok(course.crateferry.to_owned()),
            Peer::Panamax => {
                let installed = super::peers_folder().join("bin/panamax");
                let install = "cargo install panamax --locked --root target/bench-peers";
                Some(installed).filter(|program| program.is_file()).or_else(|| find("panamax")).ok_or(install)
            }
            Peer::Curl => find("curl").ok_or("apt-get install curl"),
            Peer::H2load => find("h2load").ok_or("apt-get install nghttp2-client"),
        }
    }

    /// Fetches the registry into a new folder, which is removed afterwards.
    pub fn run(self, course: &Course) -> anyhow::Result<Run> {
        let program = self.program(course).map_err(anyhow::Error::msg)?;
        let folder = super::scratch()?;
        let log = folder.path().join("log");
        let command = self.command(&program, course, folder.path())?;
        settle();
        let run = measure(command, &log, LIMIT)
            .and_then(|finished| {
                ensure!(finished.status.success(), "it ended with {}", finished.status);
                let (files, bytes) = self.fetched(course, folder.path(), &log)?;
                Ok(Run { cost: finished.cost, files, bytes })
            })
            .with_context(|| format!("{} failed; it said:\n{}", self.name(), tail(&log)))?;
        Ok(run)
    }

    fn command(self, program: &Path, course: &Course, folder: &Path) -> anyhow::Result<Command> {
        match self {
            Peer::Crateferry => Ok(first_sync(program, course, &folder.join("mirror"))),
            Peer::Panamax => panamax(program, course, &folder.join("mirror")),
            Peer::Curl => curl(program, course, folder),
            Peer::H2load => h2load(program, course, folder),
        }
    }

    /// Counts what was fetched, and refuses a run that did not fetch all.
    fn fetched(self, course: &Course, folder: &Path, log: &Path) -> anyhow::Result<(u64, u64)> {
        let (files, bytes) = match self {
            Peer::Crateferry => held(&status(course.crateferry, &folder.join("mirror"))?)?,
            Peer::Panamax => count_crate_files(&folder.join("mirror/crates"))?,
            Peer::Curl => count_crate_files(&folder.join("files"))?,
            Peer::H2load => received(log)?,
        };
        let wanted = course.registry.releases() as u64;
        ensure!(files == wanted, "{files} of {wanted} crate files are there");
        ensure!(self == Peer::H2load || bytes >= course.registry.bytes, "{bytes} of {} bytes", course.registry.bytes);
        Ok((files, bytes))
    }
}

/// The command line that makes a mirror of the whole registry.
pub fn first_sync(program: &Path, course: &Course, mirror: &Path) -> Command {
    first_sync_from(program, course.web, &course.registry.git_index(), mirror)
}

/// The same from another repository of the index.
pub fn first_sync_from(program: &Path, web: &Web, index: &Path, mirror: &Path) -> Command {
    let mut command = tethered(program);
    let download_url = format!("{}/crates/{{crate}}/{{crate}}-{{version}}.crate", web.url());
    command.arg("sync").arg(mirror).args(["--all", "--sidecars", "index"]);
    command.args(["--upstream", &file_url(index), "--download-url", &download_url]).arg("--ca-file").arg(web.ca_file());
    command
}

fn panamax(program: &Path, course: &Course, mirror: &Path) -> anyhow::Result<Command> {
    std::fs::create_dir_all(mirror)?;
    let (url, index) = (course.web.url(), file_url(&course.registry.git_index()));
    let config = format!(
        "[mirror]\nretries = 5\n\n[crates]\nsync = true\ndownload_threads = {REQUESTS_AT_ONCE}\n\
         source = \"{url}/api/v1/crates\"\nsource_index = \"{index}\"\n"
    );
    std::fs::write(mirror.join("mirror.toml"), config)?;
    let mut command = tethered(program);
    command.arg("sync").arg(mirror).env("SSL_CERT_FILE", course.web.ca_file());
    Ok(command)
}

fn curl(program: &Path, course: &Course, folder: &Path) -> anyhow::Result<Command> {
    let files = folder.join("files");
    std::fs::create_dir(&files)?;
    let mut list = String::new();
    for path in course.registry.crate_paths() {
        let name = path.rsplit('/').next().unwrap_or(&path);
        writeln!(list, "url = \"{}{path}\"\noutput = \"{}/{name}\"", course.web.url(), files.display())?;
    }
    let config = folder.join("curl.conf");
    std::fs::write(&config, list)?;
    let mut command = tethered(program);
    command.args(["--disable", "--silent", "--show-error", "--fail", "--http2", "--parallel"]);
    command.args(["--parallel-max", &REQUESTS_AT_ONCE.to_string()]);
    command.arg("--cacert").arg(course.web.ca_file()).arg("--config").arg(config);
    Ok(command)
}

fn h2load(program: &Path, course: &Course, folder: &Path) -> anyhow::Result<Command> {
    let list = folder.join("urls");
    let urls: String = course.registry.crate_paths().map(|path| course.web.url() + &path + "\n").collect();
    std::fs::write(&list, urls)?;
    let mut command = tethered(program);
    let (requests, streams) = (course.registry.releases().to_string(), REQUESTS_AT_ONCE.to_string());
    command.args(["-n", &requests, "-c", "4", "-m", &streams, "-i"]).arg(list);
    Ok(command)
}

fn file_url(path: &Path) -> String {
    format!("file://{}", path.display())
}

/// What `crateferry status --json` says.
pub fn status(program: &Path, mirror: &Path) -> anyhow::Result<Value> {
    let output = tethered(program).arg("status").arg(mirror).arg("--json").output()?;
    serde_json::from_slice(&output.stdout).with_context(|| {
        format!("status ended with {} and said {}", output.status, String::from_utf8_lossy(&output.stderr))
    })
}

/// How many releases a mirror holds, and their bytes.
pub fn held(status: &Value) -> anyhow::Result<(u64, u64)> {
    let files = status["releases"]["held"].as_u64().context("status does not say what is held")?;
    Ok((files, status["bytes"].as_u64().context("status does not say how many bytes are held")?))
}

fn count_crate_files(folder: &Path) -> anyhow::Result<(u64, u64)> {
    let mut count = (0, 0);
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let more = if entry.file_type()?.is_dir() {
            count_crate_files(&entry.path())?
        } else if entry.path().extension().is_some_and(|extension| extension == "crate") {
            (1, entry.metadata()?.len())
        } else {
            (0, 0)
        };
        count = (count.0 + more.0, count.1 + more.1);
    }
    Ok(count)
}

/// The answers of status 2xx and the bytes of bodies that h2load counted.
pub fn received(log: &Path) -> anyhow::Result<(u64, u64)> {
    let text = std::fs::read_to_string(log)?;
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let files = line("status codes:").and_then(|rest| rest.split_once(" 2xx")?.0.trim().parse().ok());
    // As in: 1.71GB (1838421313) total, 1.20MB (1258291) headers (space savings 95%), 1.71GB (1837000000) data
    let bytes = line("traffic:").and_then(|rest| rest.rsplit_once('(')?.1.split_once(')')?.0.parse().ok());
    Ok((files.context("h2load counts no answers")?, bytes.context("h2load counts no bytes")?))
}

/// Lets the disk finish what the last run left to it.
fn settle() {
    nix::unistd::sync();
}

fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

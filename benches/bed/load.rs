//! Servers under load: h2load asks, and what the server took is read from the kernel.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::authority::Certificates;
use super::peer::received;
use super::process::{Tethered, find, tethered};
use super::tree::Registry;
use super::web::{Roots, Web, free_port};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks at a server's memory.
const SAMPLE: Duration = Duration::from_millis(100);

/// A tree of files as nginx serves it: crate files, index files, and these gzipped beside them.
pub fn tree(registry: &Registry, folder: &Path) -> anyhow::Result<PathBuf> {
    let tree = folder.join("tree");
    std::fs::create_dir(&tree)?;
    std::os::unix::fs::symlink(registry.root.join("crates"), tree.join("crates"))?;
    for path in registry.index_paths()? {
        let path = path.trim_start_matches('/');
        let (text, to) = (std::fs::read(registry.root.join(path))?, tree.join(path));
        std::fs::create_dir_all(to.parent().context("index files lie in folders")?)?;
        std::fs::write(&to, &text)?;
        let mut packed = GzEncoder::new(Vec::new(), Compression::new(6));
        packed.write_all(&text)?;
        std::fs::write(to.with_file_name(format!("{}.gz", path.rsplit('/').next().unwrap_or(path))), packed.finish()?)?;
    }
    Ok(tree)
}

/// A server to put a load on.
pub enum Subject {
    /// This project.
    Crateferry { process: Tethered, port: u16, _folder: TempDir },
    /// The peer.
    Nginx(Web),
}

impl Subject {
    /// Starts crateferry and waits until it answers.
    pub fn crateferry(program: &Path, mirror: &Path) -> anyhow::Result<Subject> {
        let folder = super::scratch()?;
        let (certificates, port) = (Certificates::write(folder.path())?, free_port()?);
        let mut command = tethered(program);
        command.arg("serve").arg(mirror).args(["--listen", &format!("127.0.0.1:{port}"), "--max-per-address", "2000"]);
        command.arg("--tls-cert").arg(&certificates.leaf).arg("--tls-key").arg(&certificates.key);
        let log = std::fs::File::create(folder.path().join("log"))?;
        let process = command.stdout(Stdio::null()).stderr(log).spawn().context("cannot start crateferry")?;
        let mut process = Tethered::new(process);
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if process.has_ended()? || begun.elapsed() > PATIENCE {
                bail!("crateferry does not listen: {}", std::fs::read_to_string(folder.path().join("log"))?);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(Subject::Crateferry { process, port, _folder: folder })
    }

    /// Starts nginx on a tree of files.
    pub fn nginx(tree: &Path) -> anyhow::Result<Subject> {
        Ok(Subject::Nginx(Web::start(&Roots { registry: tree, overlay: None })?))
    }

    /// The memory that is resident now, in bytes.
    pub fn memory(&self) -> anyhow::Result<u64> {
        Ok(self.usage()?.1)
    }

    fn usage(&self) -> anyhow::Result<(Duration, u64)> {
        match self {
            Subject::Crateferry { process, .. } => process.usage(),
            Subject::Nginx(web) => web.process().usage(),
        }
    }

    fn url(&self) -> String {
        match self {
            Subject::Crateferry { port, .. } => format!("https://localhost:{port}"),
            Subject::Nginx(web) => web.url(),
        }
    }
}

/// What h2load asks for.
pub struct Load {
    /// The paths, asked for in turn.
    pub paths: Vec<String>,
    /// How many requests.
    pub requests: usize,
    /// Over how many connections.
    pub connections: usize,
    /// Requests at once on each.
    pub streams: usize,
}

/// What became of a load.
#[derive(Clone, Copy, Debug)]
pub struct Loaded {
    requests: u64,
    bytes: u64,
    wall: Duration,
    cpu: Duration,
    /// The most memory that was resident when looked at, in bytes.
    pub rss: u64,
}

impl Loaded {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.wall.as_secs_f64()
    }

    pub fn cpu_micros(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.requests as f64
    }

    pub fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.wall.as_secs_f64()
    }
}

impl Load {
    /// Puts the load on a server, after a warming one that asks for each path once.
    pub fn put_on(&self, subject: &Subject) -> anyhow::Result<Loaded> {
        let folder = super::scratch()?;
        self.run(subject, folder.path(), self.paths.len())?;
        let (before, peak, over) = (subject.usage()?.0, AtomicU64::new(0), AtomicBool::new(false));
        let (wall, counted) = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    peak.fetch_max(subject.memory().unwrap_or(0), Ordering::Relaxed);
                    std::thread::sleep(SAMPLE);
                }
            });
            let begun = Instant::now();
            let counted = self.run(subject, folder.path(), self.requests);
            over.store(true, Ordering::Relaxed);
            (begun.elapsed(), counted)
        });
        let (requests, bytes) = counted?;
        let cpu = subject.usage()?.0.saturating_sub(before);
        Ok(Loaded { requests, bytes, wall, cpu, rss: peak.into_inner() })
    }

    fn run(&self, subject: &Subject, folder: &Path, requests: usize) -> anyhow::Result<(u64, u64)> {
        let (list, log) = (folder.join("urls"), folder.join("log"));
        let url = subject.url();
        std::fs::write(&list, self.paths.iter().map(|path| format!("{url}{path}\n")).collect::<String>())?;
        let program = find("h2load").context("h2load is not installed; on Debian: apt-get install nghttp2-client")?;
        let mut command: Command = tethered(program);
        let connections = self.connections.min(requests);
        command.args(["-n", &requests.to_string(), "-c", &connections.to_string(), "-m", &self.streams.to_string()]);
        command.args(["-H", "accept-encoding: gzip", "-i"]).arg(list);
        let status = command.stdout(std::fs::File::create(&log)?).stderr(Stdio::null()).status()?;
        let said = std::fs::read_to_string(&log)?;
        ensure!(status.success(), "h2load ended with {status}: {said}");
        let (answered, bytes) = received(&log)?;
        ensure!(answered == requests as u64, "{answered} of {requests} requests were answered: {said}");
        Ok((answered, bytes))
    }
}

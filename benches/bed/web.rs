//! nginx in front of a registry: TLS and HTTP/2 on a port of its own, as an ordinary child process.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tempfile::TempDir;

use super::authority::Certificates;
use super::process::{Tethered, tethered};

/// How long nginx may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// Where nginx is looked for if no folder of `PATH` has it.
const NGINX: &str = "/usr/sbin/nginx";

/// A running nginx.
pub struct Web {
    nginx: Tethered,
    port: u16,
    certificates: Certificates,
    folder: TempDir,
}

/// What nginx serves.
pub struct Roots<'a> {
    /// The registry.
    pub registry: &'a Path,
    /// Files that go before those of the registry.
    pub overlay: Option<&'a Path>,
}

impl Web {
    /// Starts nginx, and waits until it listens.
    pub fn start(roots: &Roots) -> anyhow::Result<Self> {
        let folder = super::scratch()?;
        let certificates = Certificates::write(folder.path())?;
        let port = free_port()?;
        let config = folder.path().join("nginx.conf");
        std::fs::write(&config, configuration(folder.path(), &certificates, port, roots))?;
        let nginx = tethered(program()?)
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&config)
            .arg("-e")
            .arg(error_log(folder.path()))
            .spawn()
            .context("cannot start nginx")?;
        let mut web = Web { nginx: Tethered::new(nginx), port, certificates, folder };
        web.wait_until_it_listens()?;
        Ok(web)
    }

    /// The URL of its root, without a slash at the end.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// The certificate that clients must trust.
    pub fn ca_file(&self) -> &Path {
        &self.certificates.authority
    }

    /// The process and those that it started.
    pub fn process(&self) -> &Tethered {
        &self.nginx
    }

    fn wait_until_it_listens(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if self.nginx.has_ended()? || start.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(error_log(self.folder.path())).unwrap_or_default();
                bail!("nginx does not listen on port {}: {}", self.port, log.trim());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

fn program() -> anyhow::Result<PathBuf> {
    super::process::find("nginx")
        .or_else(|| Some(PathBuf::from(NGINX)).filter(|path| path.exists()))
        .context("nginx is not installed; on Debian: apt-get install nginx-light")
}

pub fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot find a free port")?;
    Ok(listener.local_addr()?.port())
}

fn error_log(folder: &Path) -> PathBuf {
    folder.join("error.log")
}

/// A static server that never closes a connection early, and keeps all its files in its folder.
fn configuration(folder: &Path, certificates: &Certificates, port: u16, roots: &Roots) -> String {
    let mut text = Vec::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a vector takes all");
    line("daemon off;".into());
    if nix::unistd::geteuid().is_root() {
        line("user root;".into());
    }
    line(format!("worker_processes 2;\npid {}/nginx.pid;", folder.display()));
    line("events { worker_connections 1024; }\nhttp {".into());
    for temporary in ["client_body", "proxy", "fastcgi", "scgi", "uwsgi"] {
        line(format!("  {temporary}_temp_path {}/{temporary};", folder.display()));
    }
    line("  access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000; gzip_static on;".into());
    line("  default_type application/octet-stream;\n  server {".into());
    line(format!("    listen 127.0.0.1:{port} ssl http2;\n    server_name localhost;"));
    line(format!("    ssl_certificate {};", certificates.leaf.display()));
    line(format!("    ssl_certificate_key {};", certificates.key.display()));
    line(format!("    root {};", roots.registry.display()));
    // The form of panamax, which cannot be told another.
    line(r"    rewrite ^/api/v1/crates/([^/]+)/([^/]+)/download$ /crates/$1/$1-$2.crate;".into());
    if let Some(overlay) = roots.overlay {
        line(format!("    location /crates/ {{ root {}; try_files $uri @registry; }}", overlay.display()));
        line(format!("    location @registry {{ root {}; }}", roots.registry.display()));
    }
    line("  }\n}".into());
    String::from_utf8(text).expect("paths were displayed")
}

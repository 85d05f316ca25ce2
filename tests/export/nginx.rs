//! nginx on a free port of the loopback interface, with a folder of its own and the configuration that the manual has.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How often another port is tried: who looks for a free one may lose it to somebody else.
const ATTEMPTS: usize = 5;

/// A running nginx; it is killed when this is dropped, and ended by the system if the test is.
pub struct Nginx {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Nginx {
    /// Serves an empty folder.
    pub fn start() -> Nginx {
        (0..ATTEMPTS).find_map(|_| Nginx::try_start()).expect("nginx listens; on Debian: apt-get install nginx-light")
    }

    fn try_start() -> Option<Nginx> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        std::fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), port)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program()).arg("-p").arg(folder.path());
        command.args(["-c", "nginx.conf", "-e", "error.log"]).stdin(Stdio::null()).stderr(Stdio::null());
        let nginx = Nginx { child: command.spawn().unwrap(), port, folder };
        nginx.listens().then_some(nginx)
    }

    fn listens(&self) -> bool {
        let end = Instant::now() + Duration::from_secs(10);
        let pid = self.folder.path().join("nginx.pid");
        while Instant::now() < end {
            // The file comes when the port is its own.
            if pid.exists() && TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// The folder that it serves.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// The URL of a path that begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it was asked for, one request a line: method, path as it came, status.
    pub fn requests(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("access.log")).unwrap()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn program() -> PathBuf {
    let beside_path = PathBuf::from("/usr/sbin/nginx");
    if beside_path.exists() { beside_path } else { "nginx".into() }
}

/// The server that the manual has, with another address and folder.
fn server(port: u16) -> String {
    let manual = include_str!("../../docs/operating.md");
    let (_, rest) = manual.split_once("```nginx\n").unwrap();
    let (server, _) = rest.split_once("```").unwrap();
    let moved = server.replace("listen 80;", &format!("listen 127.0.0.1:{port};")).replace("/srv/crates", "root");
    assert!(moved.contains("127.0.0.1") && moved.contains("root root;"), "{moved}");
    moved
}

fn configuration(folder: &Path, port: u16) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|what| format!("{what}_temp_path {}/{what};\n", folder.display()))
        .collect();
    format!(
        "daemon off; master_process off; pid nginx.pid;\nevents {{}}\nhttp {{\n{temporary}\
         log_format short '$request_method $request_uri $status';\naccess_log access.log short;\n{}}}\n",
        server(port)
    )
}

//! The program as a running server.
//!
//! ```text
//! let server = Server::start(&ferry, &["--download-by", "name"]);
//! let url = server.url("/index/config.json");
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::{Ferry, PATIENCE, Running, wait_until};

/// A `crateferry serve` that answers; it is killed when this is dropped.
pub struct Server {
    running: Running,
    /// `http://127.0.0.1:PORT`, or with `https`.
    base: String,
}

impl Server {
    /// Serves the mirror, unless told otherwise on a free port of the loopback interface, and waits until it does.
    #[track_caller]
    pub fn start(ferry: &Ferry, arguments: &[&str]) -> Server {
        Server::ready(Server::begin(ferry, arguments))
    }

    /// Waits until a started program answers.
    #[track_caller]
    pub fn ready(mut running: Running) -> Server {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(base) = base(&running.stderr()) {
                return Server { running, base };
            }
            assert!(!running.has_ended(), "the server ended: {}", running.stderr());
            assert!(Instant::now() < end, "the server does not answer: {}", running.stderr());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// Starts the program and waits for nothing, for servers that are not expected to answer at once.
    pub fn begin(ferry: &Ferry, arguments: &[&str]) -> Running {
        let mut command = ferry.command("serve", arguments);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        ferry.start(command)
    }

    /// The server's URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The URL of a path that begins with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The host and port that it listens on.
    pub fn address(&self) -> &str {
        self.base.split_once("://").unwrap().1
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running.id()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.running.stderr()
    }

    /// Waits until a line of its log holds this.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the server logs {text:?}"), || self.log().contains(text));
    }

    /// The process, to be ended and looked at.
    pub fn into_running(self) -> Running {
        self.running
    }
}

/// Where a server says it listens.
fn base(log: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains("serving on http"))?;
    let (_, rest) = line.split_once("serving on ")?;
    Some(rest.split([' ', '"', '\n']).next()?.to_owned())
}

/// The certificate of an authority, and a server's certificate and key that it vouches for.
pub fn certificates(folder: &Path) -> [PathBuf; 3] {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.distinguished_name.push(DnType::CommonName, "an authority of our own");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    [("ca.pem", authority.pem()), ("chain.pem", server.pem()), ("key.pem", key.serialize_pem())].map(|(name, text)| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    })
}

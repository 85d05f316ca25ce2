//! The git index over HTTP: `git http-backend`, run as the CGI program that it is.
//!
//! The protocol is git's own, so that clients meet what they meet elsewhere, protocol version 2 and gzip'd
//! request bodies included.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use bytes::{Buf, Bytes};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, ChildStdout, Command};

use crate::git::isolated_git;
use crate::payload::Source;
use crate::routes::Answer;

/// The most that a CGI program may say before its body.
const MOST_HEADERS: usize = 64 * 1024;

/// What a request to the git index says.
pub(crate) struct GitRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) path_info: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: Bytes,
}

/// The folder of repositories that is served.
pub(crate) struct Backend {
    root: PathBuf,
}

impl Backend {
    pub(crate) fn new(root: &Path) -> Self {
        Backend { root: root.to_owned() }
    }

    /// Lets git answer; its output is passed on as it comes.
    pub(crate) async fn answer(&self, request: GitRequest<'_>) -> Answer {
        let mut child = self.command(&request).spawn().unwrap();
        let (stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        tokio::spawn(feed(stdin, request.body));
        let Some((head, read)) = read_head(&mut stdout).await else {
            return Answer::text(StatusCode::BAD_GATEWAY, "git http-backend gave no answer");
        };
        let (status, headers) = parse_head(&head);
        Answer { status, headers, source: Source::Program { read, output: stdout, child: Box::new(child) } }
    }

    fn command(&self, request: &GitRequest<'_>) -> Command {
        let mut git = Command::from(isolated_git());
        git.arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("GATEWAY_INTERFACE", "CGI/1.1")
            .env("SERVER_PROTOCOL", "HTTP/1.1")
            .env("REMOTE_ADDR", "127.0.0.1")
            .env("REQUEST_METHOD", request.method.as_str())
            .env("PATH_INFO", request.path_info)
            .env("QUERY_STRING", request.query)
            .env("CONTENT_LENGTH", request.body.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let passed_on = [
            ("content-type", "CONTENT_TYPE"),
            ("content-encoding", "HTTP_CONTENT_ENCODING"),
            ("git-protocol", "GIT_PROTOCOL"),
            ("user-agent", "HTTP_USER_AGENT"),
        ];
        for (header, variable) in passed_on {
            if let Some(value) = request.headers.get(header).and_then(|value| value.to_str().ok()) {
                git.env(variable, value);
            }
        }
        git
    }
}

async fn feed(mut stdin: ChildStdin, body: Bytes) {
    let _ = stdin.write_all(&body).await;
}

/// Reads up to the blank line; gives what stands before it and what was read behind it.
async fn read_head(stdout: &mut ChildStdout) -> Option<(Bytes, Bytes)> {
    let mut read = Vec::new();
    while read.len() < MOST_HEADERS {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            let mut read = Bytes::from(read);
            let head = read.split_to(end);
            read.advance(4);
            return Some((head, read));
        }
        if stdout.read_buf(&mut read).await.ok()? == 0 {
            return None;
        }
    }
    None
}

fn parse_head(head: &[u8]) -> (StatusCode, HeaderMap) {
    let mut status = StatusCode::OK;
    let mut headers = HeaderMap::new();
    for line in String::from_utf8_lossy(head).lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("status") {
            let code = value.split_whitespace().next().and_then(|code| code.parse().ok());
            status = code.unwrap_or(StatusCode::BAD_GATEWAY);
        } else if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.trim().parse::<HeaderValue>()) {
            headers.append(name, value);
        }
    }
    (status, headers)
}

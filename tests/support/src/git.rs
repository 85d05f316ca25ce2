//! The git index: a real bare repository, made by the real git.
//!
//! Commits go through `git fast-import`, which takes a hundred thousand rows in a second and accepts paths
//! that a working tree would refuse, which hostile indexes need. Names, dates and configuration are fixed, so
//! that equal content gives equal commits.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::Bytes;

/// When the first commit was made, in seconds since 1970.
const FIRST_COMMIT: u64 = 1_700_000_000;
const BRANCH: &str = "refs/heads/master";

/// The bare repository of an index, with its branch `master`.
pub(crate) struct GitIndex {
    repository: PathBuf,
    commits: u64,
}

impl GitIndex {
    /// Makes an empty repository at this path.
    pub(crate) fn create(repository: &Path) -> Self {
        let index = GitIndex { repository: repository.to_owned(), commits: 0 };
        std::fs::create_dir_all(repository).unwrap();
        index.git(&["init", "--quiet", "--bare", "--initial-branch=master", "."]);
        for (key, value) in [("uploadpack.allowFilter", "true"), ("gc.auto", "0"), ("http.receivepack", "false")] {
            index.git(&["config", key, value]);
        }
        index
    }

    /// Whether nothing was ever committed.
    pub(crate) fn is_empty(&self) -> bool {
        self.commits == 0
    }

    /// Writes a commit that changes these files, each to its text or away.
    pub(crate) fn commit(&mut self, message: &str, changes: &[(String, Option<Bytes>)]) {
        let mut stream = self.header(message);
        if self.commits > 0 {
            writeln!(stream, "from {BRANCH}^0").unwrap();
        }
        let mut stream = stream.into_bytes();
        for (path, text) in changes.iter().filter(|(path, _)| can_be_in_a_tree(path)) {
            write_change(&mut stream, path, text.as_ref());
        }
        self.feed(&["fast-import", "--quiet", "--force"], &stream);
        self.commits += 1;
    }

    /// Replaces all history by one commit without parent that has the same tree; the old tip moves to a branch.
    pub(crate) fn squash(&mut self) {
        let old = self.head();
        self.git(&["update-ref", &format!("refs/heads/snapshot-{}", self.date()), &old]);
        self.commits += 1;
        let time = self.time();
        let new = self.git_at(time, &["commit-tree", "-m", "Collapse index into one commit", "master^{tree}"]);
        self.git(&["update-ref", BRANCH, &new]);
    }

    /// Moves `master` back by so many commits.
    pub(crate) fn rewind(&self, commits: usize) {
        let older = self.git(&["rev-parse", "--verify", &format!("{BRANCH}~{commits}")]);
        self.git(&["update-ref", BRANCH, &older]);
    }

    /// The commit that `master` names.
    pub(crate) fn head(&self) -> String {
        self.git(&["rev-parse", "--verify", BRANCH])
    }

    /// Runs git in the repository, and gives its output without the last newline.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_at(FIRST_COMMIT, arguments)
    }

    fn git_at(&self, time: u64, arguments: &[&str]) -> String {
        let date = format!("{time} +0000");
        let mut git = self.command(arguments);
        let output = git.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?} failed: {errors}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn feed(&self, arguments: &[&str], input: &[u8]) {
        let mut git = self.command(arguments).stdin(Stdio::piped()).spawn().unwrap();
        let written = git.stdin.take().unwrap().write_all(input);
        let status = git.wait().unwrap();
        assert!(status.success() && written.is_ok(), "git {arguments:?} failed: {status}");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut git = isolated_git();
        git.arg("-C").arg(&self.repository).args(arguments).env("GIT_DIR", ".");
        git
    }

    fn header(&self, message: &str) -> String {
        let person = format!("Fake registry <registry@localhost> {} +0000", self.time());
        format!(
            "commit {BRANCH}\nauthor {person}\ncommitter {person}\ndata {length}\n{message}\n",
            length = message.len()
        )
    }

    fn time(&self) -> u64 {
        FIRST_COMMIT + self.commits * 60
    }

    fn date(&self) -> String {
        let time = jiff::Timestamp::from_second(i64::try_from(self.time()).unwrap()).unwrap();
        time.strftime("%Y-%m-%d-%H%M").to_string()
    }
}

/// A git that reads no configuration but the repository's own.
pub(crate) fn isolated_git() -> Command {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").stdin(Stdio::null());
    for (who, mail) in [("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"), ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL")] {
        git.env(who, "Fake registry").env(mail, "registry@localhost");
    }
    git
}

/// Even a hostile tree has no empty names.
fn can_be_in_a_tree(path: &str) -> bool {
    path.split('/').all(|part| !part.is_empty())
}

fn write_change(stream: &mut Vec<u8>, path: &str, text: Option<&Bytes>) {
    match text {
        Some(text) => {
            writeln!(stream, "M 644 inline {}\ndata {}", quoted(path), text.len()).unwrap();
            stream.extend_from_slice(text);
            stream.push(b'\n');
        }
        None => writeln!(stream, "D {}", quoted(path)).unwrap(),
    }
}

/// A path as git quotes it, so that any byte may be in it.
fn quoted(path: &str) -> String {
    let mut text = String::from("\"");
    for byte in path.bytes() {
        match byte {
            b'"' | b'\\' => write!(text, "\\{}", char::from(byte)).unwrap(),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => write!(text, "\\{byte:03o}").unwrap(),
        }
    }
    text.push('"');
    text
}

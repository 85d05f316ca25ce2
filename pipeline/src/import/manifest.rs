//! The log of the earlier tool: JSON Lines, one for each attempt to download a file.
//!
//! Its paths say which files it wrote, its sizes and checksums what they were then. It may have been written elsewhere, and the
//! folder moved since: of each path so many leading parts are left away that a file of the folder remains. No path leads out of
//! the folder.

use std::io::{self, BufRead, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use crateferry_store::Sha256;
use serde::Deserialize;

/// A line that is longer is none that the earlier tool wrote.
const LINE: usize = 64 << 10;

/// The schema that is understood.
const SCHEMA: u64 = 1;

/// A file that was downloaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) path: String,
    pub(super) size: u64,
    pub(super) sha256: Sha256,
}

/// Why a line tells nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is too long.
    #[error("the line is longer than {LINE} bytes")]
    TooLong,
    /// It is not JSON, or has not the fields that it should have.
    #[error("{0}")]
    Json(String),
    /// It is of another schema.
    #[error("its schema_version is {0}, and {SCHEMA} is understood")]
    Schema(u64),
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default = "schema_when_none_is_named")]
    schema_version: u64,
    ok: bool,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    sha256: Option<String>,
}

fn schema_when_none_is_named() -> u64 {
    SCHEMA
}

/// Reads a line; none if it is of an attempt that failed.
pub(super) fn parse(line: &[u8]) -> Result<Option<Logged>, Malformed> {
    if line.len() > LINE {
        return Err(Malformed::TooLong);
    }
    let fields: Fields = serde_json::from_slice(line).map_err(|error| Malformed::Json(describe(&error)))?;
    if fields.schema_version != SCHEMA {
        return Err(Malformed::Schema(fields.schema_version));
    }
    if !fields.ok {
        return Ok(None);
    }
    let lacks = |field: &str| Malformed::Json(format!("it says ok and has no {field}"));
    let path = fields.path.filter(|path| !path.is_empty()).ok_or_else(|| lacks("path"))?;
    let size = fields.size.ok_or_else(|| lacks("size"))?;
    let sha256 = fields.sha256.ok_or_else(|| lacks("sha256"))?;
    let sha256 = sha256
        .parse()
        .map_err(|error: crateferry_store::NameError| Malformed::Json(format!("its sha256 is none: {error}")))?;
    Ok(Some(Logged { path, size, sha256 }))
}

fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line").next().unwrap_or_default();
    format!("{what} (column {})", error.column())
}

/// The lines of a log, with their numbers.
pub(super) struct Lines<R> {
    text: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(text: R) -> Self {
        Lines { text, number: 0 }
    }

    /// The next lines, at most `count`, without those that are blank; none at the end.
    pub(super) fn take(&mut self, count: usize) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut lines = Vec::new();
        while lines.len() < count
            && let Some(line) = self.next()?
        {
            if !line.iter().all(u8::is_ascii_whitespace) {
                lines.push((self.number, line));
            }
        }
        Ok(lines)
    }

    /// The next line; of one that is too long, so much as shows that.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if self.text.by_ref().take(LINE as u64 + 1).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line.len() > LINE && line.last() != Some(&b'\n') {
            self.text.skip_until(b'\n')?;
        }
        self.number += 1;
        Ok(Some(line))
    }
}

/// Finds the files of a log in a folder.
#[derive(Debug)]
pub(super) struct Locator {
    /// Without links in it.
    root: PathBuf,
    /// How many leading parts were left away the last time.
    left_away: AtomicUsize,
}

impl Locator {
    pub(super) fn new(root: &Path) -> Self {
        Locator { root: root.to_owned(), left_away: AtomicUsize::new(0) }
    }

    /// The file of the folder that a logged path names, if there is one.
    pub(super) fn locate(&self, logged: &str) -> Option<PathBuf> {
        let separator = if logged.contains('/') { '/' } else { '\\' };
        let is_drive = |part: &str| part.len() == 2 && part.ends_with(':');
        let parts = logged.split(separator).filter(|part| !matches!(*part, "" | "."));
        let parts: Vec<&str> = parts.skip_while(|part| is_drive(part)).collect();
        if parts.is_empty() || !parts.iter().all(|part| is_plain(part)) {
            return None;
        }
        let hint = self.left_away.load(Ordering::Relaxed);
        let found = std::iter::once(hint)
            .chain(0..parts.len())
            .find_map(|count| Some((count, self.file(parts.get(count..)?)?)));
        let (count, path) = found?;
        self.left_away.store(count, Ordering::Relaxed);
        Some(path)
    }

    /// The file below the folder, if there is one and no link leads to it.
    fn file(&self, parts: &[&str]) -> Option<PathBuf> {
        let path: PathBuf = std::iter::once(self.root.as_os_str()).chain(parts.iter().map(AsRef::as_ref)).collect();
        let is_file = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
        let parent = path.parent()?;
        (is_file && parent.canonicalize().is_ok_and(|real| real == parent)).then_some(path)
    }
}

/// Whether a part of a path is a name, on any system.
fn is_plain(part: &str) -> bool {
    let mut components = Path::new(part).components();
    matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "somebody has to write the files that are found")]
mod tests {
    use super::*;

    fn line(path: &str) -> String {
        format!(
            "{{\"schema_version\":1,\"url\":\"https://host/x\",\"path\":{path:?},\"size\":3,\"sha256\":\"{}\",\"ok\":true,\"retries\":0}}",
            Sha256::of(b"abc")
        )
    }

    #[test]
    fn a_download_is_read_and_a_failed_attempt_is_none() {
        let logged = Logged { path: "out/a.crate".into(), size: 3, sha256: Sha256::of(b"abc") };
        assert_eq!(parse(line("out/a.crate").as_bytes()), Ok(Some(logged)));
        assert_eq!(parse(br#"{"url":"x","ok":false,"error":"404","retries":2,"status":404}"#), Ok(None));
    }

    #[test]
    fn a_line_that_tells_nothing_says_why() {
        let problem = |line: &str| parse(line.as_bytes()).unwrap_err().to_string();
        for (bad, named) in [
            (r#"{"schema_version":1,"ok":tr"#, "EOF while parsing a value (column 27)"),
            ("{\"ok\":true,\"size\":1,\"sha256\":\"\"}", "no path"),
            ("{\"ok\":true,\"path\":\"x\",\"sha256\":\"\"}", "no size"),
            ("{\"ok\":true,\"path\":\"x\",\"size\":1,\"sha256\":\"zz\"}", "its sha256"),
            ("{\"path\":\"x\"}", "missing field `ok`"),
            ("{\"schema_version\":2,\"ok\":true}", "schema_version is 2"),
            (&"x".repeat(LINE + 1), "longer than"),
        ] {
            assert!(problem(bad).contains(named), "{bad:.80}: {}", problem(bad));
        }
    }

    #[test]
    fn lines_keep_their_numbers_whatever_their_neighbours_are() {
        let text = format!("one\n\n  \r\n{}\nfive\nsix", "x".repeat(3 * LINE));
        let mut lines = Lines::new(text.as_bytes());
        let first = lines.take(2).unwrap();
        assert_eq!((first[0].0, &first[0].1[..], first[1].0), (1, &b"one\n"[..], 4));
        assert_eq!(parse(&first[1].1), Err(Malformed::TooLong));
        assert_eq!(lines.take(9).unwrap(), [(5, b"five\n".to_vec()), (6, b"six".to_vec())]);
        assert!(lines.take(9).unwrap().is_empty());
    }

    #[test]
    fn a_folder_that_was_moved_is_found_and_nothing_outside_of_it() {
        let outer = tempfile::tempdir().unwrap();
        let outer = outer.path().canonicalize().unwrap();
        let root = outer.join("root");
        std::fs::create_dir_all(root.join("s/er")).unwrap();
        std::fs::write(root.join("s/er/serde-1.0.0.crate"), "").unwrap();
        std::fs::write(outer.join("secret"), "").unwrap();
        let locator = Locator::new(&root);
        let file = Some(root.join("s/er/serde-1.0.0.crate"));
        for path in [
            "s/er/serde-1.0.0.crate",
            "/old/out/s/er/serde-1.0.0.crate",
            "./s//er/serde-1.0.0.crate",
            r"C:\o\s\er\serde-1.0.0.crate",
        ] {
            assert_eq!(locator.locate(path), file, "{path}");
        }
        let secret = outer.join("secret").display().to_string();
        for path in ["../secret", "s/../../secret", secret.as_str(), "s/er", "", "/", "s/er/other.crate"] {
            assert_eq!(locator.locate(path), None, "{path}");
        }
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&outer, root.join("out")).unwrap();
            std::os::unix::fs::symlink(outer.join("secret"), root.join("link")).unwrap();
            assert_eq!((locator.locate("out/secret"), locator.locate("link")), (None, None));
        }
    }
}

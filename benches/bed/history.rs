//! A day at the upstream: a copy of the git index that goes on, and the crate files that come with it.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use crateferry_test_support::{index_path, sha256};

use super::tree::Registry;

/// What changes in a round, in releases.
#[derive(Debug, Clone, Copy)]
pub struct Day {
    pub new: usize,
    pub yanked: usize,
    pub deleted: usize,
    /// Releases whose name and version now have another checksum.
    pub republished: usize,
}

impl Day {
    /// About two hours at crates.io, and one of each rare thing.
    pub const ORDINARY: Day = Day { new: 500, yanked: 20, deleted: 1, republished: 1 };

    /// How many more releases a mirror holds after it: other bytes under a known name are held beside the first.
    pub fn gain(self) -> usize {
        self.new + self.republished - self.deleted
    }

    fn changes(self) -> usize {
        self.new + self.yanked + self.deleted + self.republished
    }
}

/// The upstream's index and files after the registry was generated.
pub struct History<'a> {
    registry: &'a Registry,
    /// The bare repository, at first a copy of the registry's.
    pub index: PathBuf,
    /// The root of the new crate files, in the registry's layout.
    pub overlay: PathBuf,
    rounds: usize,
}

impl<'a> History<'a> {
    /// Begins where the registry ends; the copy lies in `folder`.
    pub fn begin(registry: &'a Registry, folder: &Path) -> anyhow::Result<Self> {
        let (index, overlay) = (folder.join("index.git"), folder.join("overlay"));
        std::fs::create_dir(&overlay)?;
        let clone = git().args(["clone", "--quiet", "--bare"]).arg(registry.git_index()).arg(&index).status()?;
        ensure!(clone.success(), "git clone ended with {clone}");
        Ok(History { registry, index, overlay, rounds: 0 })
    }

    /// Commits one round of changes, each in a crate of its own that no round touched before.
    pub fn go_on(&mut self, day: Day) -> anyhow::Result<()> {
        let first = self.rounds * day.changes();
        self.rounds += 1;
        let each = self.registry.bulk.versions_per_crate;
        ensure!((first + day.changes()) * each <= self.registry.releases(), "the registry has too few crates");
        let changed = (0..day.changes()).map(|change| self.changed_file(first + change, change, day));
        let changed: Vec<(String, String)> = changed.collect::<anyhow::Result<_>>()?;
        self.commit(&changed)
    }

    /// The index file of a crate after a change to it, with its path.
    fn changed_file(&self, crate_number: usize, change: usize, day: Day) -> anyhow::Result<(String, String)> {
        let name = format!("c{crate_number:05}");
        let path = index_path(&name);
        let mut text = std::fs::read_to_string(self.registry.root.join("index").join(&path))?;
        let first_row = text.lines().next().context("an index file without rows")?.to_owned();
        let replacement = if change < day.new {
            text += &self.publish(&name, "2.0.0", &first_row)?;
            return Ok((path, text));
        } else if change < day.new + day.yanked {
            first_row.replace("\"yanked\":false", "\"yanked\":true") + "\n"
        } else if change < day.new + day.yanked + day.deleted {
            String::new()
        } else {
            self.publish(&name, "1.0.0", &first_row)?
        };
        Ok((path, text.replacen(&(first_row + "\n"), &replacement, 1)))
    }

    /// Writes a new crate file, and gives its row, made after that of version 1.0.0.
    fn publish(&self, name: &str, version: &str, pattern: &str) -> anyhow::Result<String> {
        let old = self.registry.root.join(format!("crates/{name}/{name}-1.0.0.crate"));
        let mut body = std::fs::read(&old).with_context(|| format!("cannot read {}", old.display()))?;
        body.extend_from_slice(format!("{version} of round {}", self.rounds).as_bytes());
        let folder = self.overlay.join("crates").join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(format!("{name}-{version}.crate")), &body)?;
        let (before, rest) = pattern.split_once("\"cksum\":\"").context("a row without checksum")?;
        let after = rest.get(64..).context("a row with a short checksum")?;
        let row = format!("{before}\"cksum\":\"{}{after}\n", sha256(&body));
        Ok(row.replace("\"vers\":\"1.0.0\"", &format!("\"vers\":\"{version}\"")))
    }

    fn commit(&self, changed: &[(String, String)]) -> anyhow::Result<()> {
        let mut import = git();
        import.arg("-C").arg(&self.index).args(["fast-import", "--quiet"]).stdin(Stdio::piped());
        let mut import = import.spawn().context("cannot start git")?;
        let mut input = import.stdin.take().context("git takes no input")?;
        let person = format!("Bench <bench@localhost> {} +0000", 1_800_000_000 + self.rounds);
        write!(input, "commit refs/heads/master\ncommitter {person}\ndata 5\nround\nfrom refs/heads/master^0\n")?;
        for (path, text) in changed {
            write!(input, "M 644 inline {path}\ndata {}\n{text}\n", text.len())?;
        }
        drop(input);
        let status = import.wait()?;
        ensure!(status.success(), "git fast-import ended with {status}");
        Ok(())
    }
}

/// A git that reads no configuration but the repository's own.
fn git() -> Command {
    let mut git = Command::new("git");
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env_remove("GIT_DIR");
    git
}

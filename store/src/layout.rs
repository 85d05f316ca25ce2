//! Every path in a mirror, computed in one place.
//!
//! No part of a path comes from an index, a bundle or a request: packs are numbered, everything else has a fixed
//! name.

use std::path::{Path, PathBuf};

/// The paths of one mirror.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout of the mirror in `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Layout { root: root.into() }
    }

    /// The mirror's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration, written once by `init`.
    pub fn config(&self) -> PathBuf {
        self.root.join("crateferry.toml")
    }

    /// The writer's database.
    pub fn ledger(&self) -> PathBuf {
        self.root.join("ledger.redb")
    }

    /// The readers' database.
    pub fn catalog(&self) -> PathBuf {
        self.root.join("catalog.redb")
    }

    /// The file whose kernel lock the one writer holds; it tells the writer's process id.
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// The file whose kernel lock all share who read what is served.
    pub(crate) fn reading(&self) -> PathBuf {
        self.root.join("reading")
    }

    /// The next [`Layout::reading`], before it takes that name.
    pub(crate) fn reading_part(&self) -> PathBuf {
        self.root.join("reading.part")
    }

    /// The [`Layout::reading`] of those who began before the last collection.
    pub(crate) fn reading_before(&self) -> PathBuf {
        self.root.join("reading.before")
    }

    /// The folder of packs.
    pub fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    /// A pack that is complete and never written again.
    pub fn sealed_pack(&self, number: u32) -> PathBuf {
        self.packs().join(format!("{number:06}.tar"))
    }

    /// The pack that is being appended to.
    pub fn open_pack(&self, number: u32) -> PathBuf {
        self.packs().join(format!("{number:06}.tar.open"))
    }

    /// The clone of a git upstream: a cache, never the only copy of anything.
    pub fn upstream(&self) -> PathBuf {
        self.root.join("upstream")
    }

    /// The clone of an advisory database: a cache as well.
    pub fn advisories(&self) -> PathBuf {
        self.root.join("advisories")
    }

    /// A database dump that was fetched: a cache as well.
    pub fn dump(&self) -> PathBuf {
        self.root.join("dump")
    }

    /// Bytes that failed their check.
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Large bodies in flight; emptied whenever the mirror is opened for writing.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Bundles in the making.
    pub fn outgoing(&self) -> PathBuf {
        self.root.join("outgoing")
    }

    /// What is known of bundles whose generation is not served yet.
    pub fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// The audit record of attempted objects.
    pub fn manifest(&self) -> PathBuf {
        self.log().join("manifest.jsonl")
    }

    /// An earlier part of the audit record.
    pub fn rotated_manifest(&self, number: u32) -> PathBuf {
        self.log().join(format!("manifest-{number:06}.jsonl"))
    }

    /// How far the sync is that runs now, or how far the last one came.
    pub fn run(&self) -> PathBuf {
        self.log().join("run.json")
    }

    /// The next text of [`Layout::run`], while it is written.
    pub(crate) fn run_part(&self) -> PathBuf {
        self.log().join("run.json.part")
    }

    /// The same of [`Layout::plan`].
    pub(crate) fn plan_part(&self) -> PathBuf {
        self.log().join("plan.json.part")
    }

    /// Where a scrub goes on for which there was no time.
    pub fn scrub(&self) -> PathBuf {
        self.log().join("scrub.json")
    }

    /// The same of [`Layout::scrub`].
    pub(crate) fn scrub_part(&self) -> PathBuf {
        self.log().join("scrub.json.part")
    }

    /// Who took which crate file, if that is written down.
    pub fn downloads(&self) -> PathBuf {
        self.log().join("downloads.log")
    }

    /// What the last plan came to.
    pub fn plan(&self) -> PathBuf {
        self.log().join("plan.json")
    }

    /// The folder of logs.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The folder of what says whose signatures count for bundles; made when there is something to be in it.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// What was asked for in vain, in a folder of its own that servers may write; made when there is something to be in it.
    pub fn wishes(&self) -> PathBuf {
        self.root.join("wishes").join("wishes.txt")
    }

    /// The chain of signed key lists, as it rides beside bundles.
    pub fn key_lists(&self) -> PathBuf {
        self.keys().join("keys.json")
    }

    /// The key list that is to be signed elsewhere.
    pub fn next_key_list(&self) -> PathBuf {
        self.keys().join("next.json")
    }

    /// The keys that a replica was told to trust when it was made.
    pub fn pinned_keys(&self) -> PathBuf {
        self.keys().join("pinned.json")
    }

    /// Folders that a new mirror begins with.
    pub(crate) fn folders(&self) -> [PathBuf; 4] {
        [self.packs(), self.quarantine(), self.tmp(), self.log()]
    }

    /// The packs that exist, in order of their numbers: (number, is sealed).
    pub(crate) fn list_packs(&self) -> std::io::Result<Vec<(u32, bool)>> {
        let mut packs = Vec::new();
        for entry in std::fs::read_dir(self.packs())? {
            if let Some(pack) = entry?.file_name().to_str().and_then(parse_pack_name) {
                packs.push(pack);
            }
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// The file of a pack, sealed or open.
    pub(crate) fn pack(&self, number: u32, sealed: bool) -> PathBuf {
        if sealed { self.sealed_pack(number) } else { self.open_pack(number) }
    }
}

fn parse_pack_name(name: &str) -> Option<(u32, bool)> {
    let (stem, sealed) = match name.strip_suffix(".tar") {
        Some(stem) => (stem, true),
        None => (name.strip_suffix(".tar.open")?, false),
    };
    let number = stem.parse().ok()?;
    (stem.len() >= 6).then_some((number, sealed))
}

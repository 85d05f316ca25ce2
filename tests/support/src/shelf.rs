//! What the fake registry holds.
//!
//! Releases lie under the path of their index file, since that is the unit in which clients see change. Index
//! texts are written when they are asked for; the bodies of made releases in bulk are too, so that a registry
//! of 100,000 releases costs little more than their checksums. Each change gives its index file a new revision
//! and marks it for the next git commit.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::crate_file::{made, opaque, sha256};
use crate::release::{Release, Row, index_path};
use crate::template::Asked;

/// All releases, and the texts that tests put in their place.
#[derive(Default)]
pub(crate) struct Shelf {
    crates: BTreeMap<String, Vec<Held>>,
    raw: BTreeMap<String, Bytes>,
    appended: BTreeMap<String, Vec<u8>>,
    revisions: BTreeMap<String, u64>,
    uncommitted: BTreeSet<String>,
    clock: u64,
}

/// One release.
pub(crate) struct Held {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) checksum: String,
    release: Release,
    body: Body,
}

/// Where a release's bytes come from.
enum Body {
    Held(Bytes),
    Made,
    Opaque(usize),
}

/// An index file as it is now.
pub(crate) struct IndexFile {
    pub(crate) bytes: Bytes,
    pub(crate) revision: u64,
}

impl Held {
    /// A release whose bytes are kept.
    pub(crate) fn kept(name: &str, version: &str, release: Release, salt: &[u8]) -> Self {
        let body = release.body.clone().unwrap_or_else(|| made(name, version, &release, salt).into());
        let checksum = release.cksum.clone().unwrap_or_else(|| sha256(&body));
        Held { name: name.to_owned(), version: version.to_owned(), checksum, release, body: Body::Held(body) }
    }

    /// A small release whose bytes are made anew each time.
    pub(crate) fn small(name: String, version: String) -> Self {
        let checksum = sha256(&made(&name, &version, &Release::default(), b""));
        Held { name, version, checksum, release: Release::default(), body: Body::Made }
    }

    /// A release of meaningless bytes, made anew each time.
    pub(crate) fn opaque(name: String, version: String, size: usize) -> Self {
        let checksum = sha256(&opaque(&name, &version, size));
        Held { name, version, checksum, release: Release::default(), body: Body::Opaque(size) }
    }

    /// The crate file.
    pub(crate) fn body(&self) -> Bytes {
        match &self.body {
            Body::Held(bytes) => bytes.clone(),
            Body::Made => made(&self.name, &self.version, &Release::default(), b"").into(),
            Body::Opaque(size) => opaque(&self.name, &self.version, *size).into(),
        }
    }

    /// The index row, with its newline.
    pub(crate) fn row(&self) -> String {
        let release = &self.release;
        let row = Row {
            name: &self.name,
            vers: &self.version,
            deps: &release.deps,
            cksum: &self.checksum,
            features: &release.features,
            features2: release.features2.as_ref(),
            yanked: release.yanked,
            links: release.links.as_deref(),
            rust_version: release.rust_version.as_deref(),
            pubtime: release.pubtime.as_deref(),
            v: release.v,
        };
        row.line()
    }

    fn is(&self, name: &str, version: &str) -> bool {
        self.name == name && self.version == version
    }
}

impl Shelf {
    /// Puts a release on the shelf, in the place of the one with its name and version if there is one.
    pub(crate) fn put(&mut self, held: Held) {
        let path = index_path(&held.name);
        self.touch(&path);
        let releases = self.crates.entry(path).or_default();
        match releases.iter_mut().find(|old| old.is(&held.name, &held.version)) {
            Some(old) => *old = held,
            None => releases.push(held),
        }
    }

    /// Puts many releases on the shelf.
    pub(crate) fn put_all(&mut self, releases: Vec<Held>) {
        for held in releases {
            self.put(held);
        }
    }

    /// Puts a release beside the one that has its name and version already.
    pub(crate) fn put_again(&mut self, held: Held) {
        let path = index_path(&held.name);
        self.touch(&path);
        self.crates.entry(path).or_default().push(held);
    }

    /// Sets or clears the yanked flag; a release that is not there is a mistake in the test.
    pub(crate) fn set_yanked(&mut self, name: &str, version: &str, yanked: bool) {
        let path = index_path(name);
        let releases = self.crates.get_mut(&path).into_iter().flatten();
        let held = releases.into_iter().find(|held| held.is(name, version));
        held.unwrap_or_else(|| panic!("{name} {version} is not on the shelf")).release.yanked = yanked;
        self.touch(&path);
    }

    /// Takes away one release, row and bytes.
    pub(crate) fn delete(&mut self, name: &str, version: &str) {
        let path = index_path(name);
        if let Some(releases) = self.crates.get_mut(&path) {
            releases.retain(|held| !held.is(name, version));
            if releases.is_empty() {
                self.crates.remove(&path);
            }
        }
        self.touch(&path);
    }

    /// Takes away a whole crate, and whatever else stands in its index file.
    pub(crate) fn delete_file(&mut self, path: &str) {
        self.crates.remove(path);
        self.raw.remove(path);
        self.appended.remove(path);
        self.touch(path);
    }

    /// Puts these bytes in the place of an index file, whatever lies on the shelf.
    pub(crate) fn put_raw(&mut self, path: &str, bytes: Bytes) {
        self.raw.insert(path.to_owned(), bytes);
        self.touch(path);
    }

    /// Writes these bytes after the rows of an index file.
    pub(crate) fn append_raw(&mut self, path: &str, bytes: &[u8]) {
        self.appended.entry(path.to_owned()).or_default().extend_from_slice(bytes);
        self.touch(path);
    }

    /// Writes a publication time into every row that has none: a bulk rewrite without a new version.
    pub(crate) fn rewrite_rows(&mut self, pubtime: &str) {
        for held in self.crates.values_mut().flatten() {
            held.release.pubtime.get_or_insert_with(|| pubtime.to_owned());
        }
        let paths: Vec<String> = self.crates.keys().cloned().collect();
        for path in &paths {
            self.touch(path);
        }
    }

    fn touch(&mut self, path: &str) {
        self.clock += 1;
        self.revisions.insert(path.to_owned(), self.clock);
        self.uncommitted.insert(path.to_owned());
    }

    /// The index file at this path.
    pub(crate) fn index_file(&self, path: &str) -> Option<IndexFile> {
        let bytes = match self.raw.get(path) {
            Some(raw) => raw.clone(),
            None => self.written(path)?,
        };
        Some(IndexFile { bytes, revision: self.revisions.get(path).copied().unwrap_or(0) })
    }

    fn written(&self, path: &str) -> Option<Bytes> {
        let releases = self.crates.get(path);
        let appended = self.appended.get(path);
        if releases.is_none() && appended.is_none() {
            return None;
        }
        let mut text: Vec<u8> = releases.into_iter().flatten().flat_map(|held| held.row().into_bytes()).collect();
        text.extend_from_slice(appended.map_or(&[], Vec::as_slice));
        Some(text.into())
    }

    /// The paths of all index files, in order.
    pub(crate) fn index_paths(&self) -> BTreeSet<String> {
        self.crates.keys().chain(self.raw.keys()).chain(self.appended.keys()).cloned().collect()
    }

    /// The index files that changed since this was last asked, each with its text, or nothing if it is gone.
    pub(crate) fn take_uncommitted(&mut self) -> Vec<(String, Option<Bytes>)> {
        let paths = std::mem::take(&mut self.uncommitted);
        paths
            .into_iter()
            .map(|path| {
                let text = self.index_file(&path).map(|file| file.bytes);
                (path, text)
            })
            .collect()
    }

    /// Lets the next commit write this path again.
    pub(crate) fn commit_again(&mut self) {
        self.uncommitted = self.index_paths();
    }

    /// The last release put under this name and version.
    pub(crate) fn find(&self, name: &str, version: &str) -> Option<&Held> {
        self.crates.get(&index_path(name))?.iter().rev().find(|held| held.is(name, version))
    }

    /// The release that a download path asked for.
    pub(crate) fn asked(&self, asked: &Asked) -> Option<&Held> {
        match (&asked.name, &asked.version, &asked.checksum) {
            (Some(name), Some(version), None) => self.find(name, version),
            (Some(name), _, Some(checksum)) => {
                self.crates.get(&index_path(name))?.iter().find(|held| held.checksum == *checksum)
            }
            (None, _, Some(checksum)) => self.releases().find(|held| held.checksum == *checksum),
            _ => None,
        }
    }

    /// All releases, in index order.
    pub(crate) fn releases(&self) -> impl Iterator<Item = &Held> {
        self.crates.values().flatten()
    }
}

//! What tests of the store share: crates that are made up, and a disk that fails, remembers and loses.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

pub mod disk;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crateferry_store::{
    Batch, BlobId, BodyBuilder, CrateName, Disk, Event, Mirror, OpenError, Place, Release, ReleaseId, Selection,
    Sha256, Shrink, State, StoreLimits, SystemDisk, Version, WriteError, Writer, publish, wait,
};
use tempfile::TempDir;

/// Seconds since 1970, if anybody asks.
pub const NOW: u64 = 1_700_000_000;

const ID: &str = "0123456789abcdef0123456789abcdef";

/// An empty mirror in a folder of its own.
pub fn new_mirror(limits: &StoreLimits) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let config = format!("format = 1\nmirror = \"{ID}\"\nupstream = \"crates-io\"\n");
    Mirror::create(root.path(), ID, &config, limits.clone()).unwrap();
    root
}

/// Opens it as the operating system has it.
pub fn open(root: &Path, limits: &StoreLimits) -> Result<Mirror, OpenError> {
    open_on(root, limits, Arc::new(SystemDisk))
}

/// Opens it on another disk.
pub fn open_on(root: &Path, limits: &StoreLimits, disk: Arc<dyn Disk>) -> Result<Mirror, OpenError> {
    Mirror::open(root, limits.clone(), disk)
}

/// The bytes of a release.
pub fn bytes(name: &str, version: &str) -> Vec<u8> {
    let mut bytes = format!("the crate file of {name} {version}\n").into_bytes();
    let length = 100 + Sha256::of(&bytes).0[0] as usize * 8;
    bytes.resize(length, b'.');
    bytes
}

/// A release whose checksum is that of its [`bytes`].
pub fn release(name: &str, version: &str) -> Release {
    let id = ReleaseId { name: name.parse().unwrap(), version: version.parse().unwrap() };
    Release { id, checksum: Sha256::of(&bytes(name, version)) }
}

/// The index file of a crate with these versions.
pub fn index_file(name: &str, versions: &[&str]) -> Vec<u8> {
    let row = |version: &&str| {
        let checksum = release(name, version).checksum;
        format!(
            r#"{{"name":"{name}","vers":"{version}","deps":[],"cksum":"{checksum}","features":{{}},"yanked":false}}"#
        )
    };
    versions.iter().map(|version| row(version) + "\n").collect::<String>().into_bytes()
}

/// A batch as recording makes it: the upstream's text, and its releases as wanted.
pub fn wanted(name: &str, versions: &[&str]) -> Batch {
    let mut batch = Batch::default();
    let text = index_file(name, versions);
    let lower: CrateName = name.parse().unwrap();
    let reference = batch.add_text(&text);
    batch.add(Event::Upstream { name: lower.lower(), blob: BlobId::of(&text), etag: None, text: Some(reference) });
    let releases: Vec<(Version, Sha256)> =
        versions.iter().map(|version| (version.parse().unwrap(), release(name, version).checksum)).collect();
    batch.add(Event::Wanted { name: lower, releases, at: NOW });
    batch
}

/// Makes a batch durable.
pub fn settle(writer: &Writer, batch: Batch) -> Result<Vec<Place>, WriteError> {
    let pending = writer.submit(batch);
    wait(writer.flush())?;
    wait(pending)
}

/// Asks for a release's bytes to be stored; they are when the answer is there.
pub fn store(writer: &Writer, name: &str, version: &str) -> impl Future<Output = Result<Place, WriteError>> + use<> {
    let bytes = bytes(name, version);
    let mut body = BodyBuilder::in_memory(bytes.len());
    body.push(&bytes).unwrap();
    let release = release(name, version);
    let verified = body.finish(None).prove(release.checksum).unwrap();
    writer.store(&release, verified, None)
}

/// Waits for an answer.
pub fn answer<T>(answer: impl Future<Output = T>) -> T {
    futures::executor::block_on(answer)
}

/// Makes a mirror of so many crates with these versions, all held and published; gives its folder.
pub fn published_mirror(limits: &StoreLimits, crates: usize, versions: &[&str]) -> TempDir {
    let root = new_mirror(limits);
    let mirror = open(root.path(), limits).unwrap();
    let writer = mirror.writer().unwrap();
    let mut all = Batch::default();
    all.add(Event::Selection { selection: Selection { all: true, ..Selection::default() } });
    settle(&writer, all).unwrap();
    for number in 0..crates {
        hold(&writer, &crate_name(number), versions);
    }
    publish(&mirror, &writer, Shrink::WithinLimit, NOW).unwrap();
    root
}

/// `c000`, `c001`, ...
pub fn crate_name(number: usize) -> String {
    format!("c{number:03}")
}

/// Records a crate and stores all its releases.
pub fn hold(writer: &Writer, name: &str, versions: &[&str]) {
    settle(writer, wanted(name, versions)).unwrap();
    let stored: Vec<_> = versions.iter().map(|version| store(writer, name, version)).collect();
    wait(writer.flush()).unwrap();
    for stored in stored {
        answer(stored).unwrap();
    }
}

/// All releases that the ledger holds: their bytes are read and compared.
#[track_caller]
pub fn held(mirror: &Mirror) -> Vec<Release> {
    let mut held = Vec::new();
    mirror
        .ledger()
        .reader()
        .unwrap()
        .each_release(|release, row| {
            if row.state == State::Stored {
                held.push((release, row.place.unwrap()));
            }
            Ok(())
        })
        .unwrap();
    for (release, place) in &held {
        let found = mirror.packs().read(*place).unwrap_or_else(|error| panic!("{release}: {error:?}"));
        assert_eq!(Sha256::of(&found), release.checksum, "the bytes of {release}");
    }
    held.into_iter().map(|(release, _)| release).collect()
}

/// The packs of a mirror, in order.
pub fn packs(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root.join("packs")).unwrap();
    let mut packs: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    packs.sort();
    packs
}

/// Copies a folder with all that is in it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

//! What the benches share: a registry of plain files behind nginx, and processes that are watched while they run.
//!
//! Nothing here leaves the loopback interface. Every process is tethered to the bench: it ends when the bench
//! does, however that ends.
#![allow(dead_code, reason = "each bench uses a part of it")]

mod authority;
pub mod history;
pub mod load;
pub mod peer;
pub mod process;
pub mod report;
pub mod tree;
pub mod web;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

/// How the names of scratch folders begin; the number of the process that made them follows.
const SCRATCH: &str = "run-";

/// Whether cargo started this as a bench; `cargo test --all-targets` starts it too, and then nothing is to be done.
pub fn is_bench_run() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// The folder that keeps generated registries between runs.
pub fn data_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-data")
}

/// The folder into which `cargo install --root` puts the peers.
pub fn peers_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-peers")
}

/// An empty folder on the disk that holds the registry; it goes when it is dropped.
pub fn scratch() -> anyhow::Result<TempDir> {
    let data = data_folder();
    std::fs::create_dir_all(&data).with_context(|| format!("cannot make {}", data.display()))?;
    let prefix = format!("{SCRATCH}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(&data).with_context(|| format!("cannot use {}", data.display()))
}

/// Removes the folders of benches that were killed.
pub fn sweep() -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(data_folder()) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let owner = name.strip_prefix(SCRATCH).and_then(|rest| rest.split_once('-')).map(|(owner, _)| owner);
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

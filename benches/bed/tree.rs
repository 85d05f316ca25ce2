//! The registry as plain files, generated once for each pair of parameters and kept.

use std::path::{Path, PathBuf};

use anyhow::Context;
use crateferry_test_support::{Bulk, Tree, Written};

/// How large a registry to make.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// The number of releases.
    pub releases: usize,
    /// The mean size of crate files in bytes.
    pub mean_size: usize,
}

/// A generated registry: `crates/`, `index/` and the bare repository `index.git`.
pub struct Registry {
    /// Its folder.
    pub root: PathBuf,
    /// What is in it.
    pub bulk: Bulk,
    /// The size of all crate files together.
    pub bytes: u64,
}

impl Registry {
    /// The registry of this size, from the data folder or newly made.
    pub fn prepare(size: Size) -> anyhow::Result<Self> {
        let bulk = Bulk { mean_size: Some(size.mean_size), ..Bulk::of(size.releases) };
        let root = super::data_folder().join(format!("registry-{}x{}", size.releases, size.mean_size));
        let bytes = match written(&root) {
            Some(bytes) => bytes,
            None => generate(&root, bulk)?,
        };
        Ok(Registry { root, bulk, bytes })
    }

    /// The bare repository of the index.
    pub fn git_index(&self) -> PathBuf {
        self.root.join("index.git")
    }

    /// The number of releases.
    pub fn releases(&self) -> usize {
        self.bulk.releases
    }

    /// The path of each index file below the server's root.
    pub fn index_paths(&self) -> anyhow::Result<Vec<String>> {
        let mut paths = Vec::new();
        collect(&self.root.join("index"), "/index", &mut paths)?;
        paths.retain(|path| path != "/index/config.json");
        paths.sort_unstable();
        Ok(paths)
    }

    /// The path of each crate file below the server's root.
    pub fn crate_paths(&self) -> impl Iterator<Item = String> + use<> {
        self.bulk.ids().map(|(name, version)| format!("/crates/{name}/{name}-{version}.crate"))
    }
}

fn collect(folder: &Path, prefix: &str, paths: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let path = format!("{prefix}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() { collect(&entry.path(), &path, paths)? } else { paths.push(path) }
    }
    Ok(())
}

/// What the registry in this folder came to, if it is whole.
fn written(root: &Path) -> Option<u64> {
    std::fs::read_to_string(mark(root)).ok()?.trim().parse().ok()
}

/// The file that is written last.
fn mark(root: &Path) -> PathBuf {
    root.join("bytes")
}

fn generate(root: &Path, bulk: Bulk) -> anyhow::Result<u64> {
    eprintln!("generating {} releases ...", bulk.releases);
    if root.exists() {
        std::fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    let dl = "https://localhost/crates/{crate}/{crate}-{version}.crate".to_owned();
    let Written { bytes, .. } = Tree { out: root.to_owned(), bulk, dl }.write();
    std::fs::write(mark(root), bytes.to_string()).with_context(|| format!("cannot write to {}", root.display()))?;
    Ok(bytes)
}

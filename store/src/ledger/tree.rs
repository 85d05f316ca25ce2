//! The hash tree over all served index files: one digest for a whole generation.
//!
//! Index paths fall into 65,536 buckets by the first two bytes of BLAKE3(path). A bucket's digest is
//! `BLAKE3(0x00 ‖ for each entry in order of path: length of path as u16 LE ‖ path ‖ BLAKE3 of the served file)`; a
//! node's is `BLAKE3(0x01 ‖ left ‖ right)`. Nodes are numbered as in a heap: 1 is the root, buckets are 65,536 to
//! 131,071. Publishing costs the buckets that changed and their way to the root.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use redb::{ReadableTable, Table};

use super::LedgerError;
use super::rows::RowError;
use crate::id::Blake3;

const BUCKETS: u32 = 1 << 16;
const DEPTH: usize = 16;

type Bytes = &'static [u8];

/// The digest of an empty subtree, by depth; 0 is the root.
static EMPTY: LazyLock<[Blake3; DEPTH + 1]> = LazyLock::new(|| {
    let mut digests = [bucket_digest(std::iter::empty()); DEPTH + 1];
    for depth in (0..DEPTH).rev() {
        digests[depth] = node_digest(digests[depth + 1], digests[depth + 1]);
    }
    digests
});

/// The key of a leaf: its bucket, then its path.
pub(super) fn leaf_key(path: &str) -> Vec<u8> {
    let mut key = blake3::hash(path.as_bytes()).as_bytes()[..2].to_vec();
    key.extend_from_slice(path.as_bytes());
    key
}

/// The bucket of a leaf.
pub(super) fn bucket_of(key: &[u8]) -> u32 {
    u32::from(key[0]) << 8 | u32::from(key[1])
}

/// Computes the digests of the changed buckets and all above them, and returns the root.
pub(super) fn update(
    leaves: &Table<'_, Bytes, Bytes>,
    nodes: &mut Table<'_, u32, Bytes>,
    changed: &BTreeSet<u32>,
) -> Result<Blake3, LedgerError> {
    for &bucket in changed {
        let digest = hash_bucket(leaves, bucket)?;
        nodes.insert(BUCKETS + bucket, digest.0.as_slice())?;
    }
    let mut level: BTreeSet<u32> = changed.iter().map(|bucket| (BUCKETS + bucket) / 2).collect();
    while level.iter().any(|&node| node >= 1) {
        for &node in &level {
            let digest = node_digest(get(nodes, 2 * node)?, get(nodes, 2 * node + 1)?);
            nodes.insert(node, digest.0.as_slice())?;
        }
        level = level.iter().map(|node| node / 2).collect();
    }
    get(nodes, 1)
}

fn hash_bucket(leaves: &Table<'_, Bytes, Bytes>, bucket: u32) -> Result<Blake3, LedgerError> {
    let prefix = (bucket as u16).to_be_bytes();
    let mut entries = Vec::new();
    for leaf in leaves.range(prefix.as_slice()..)? {
        let (key, value) = leaf?;
        let (key, value) = (key.value(), value.value());
        if !key.starts_with(&prefix) {
            break;
        }
        let digest = value.try_into().map_err(|_| RowError { table: "leaves" })?;
        entries.push((key[2..].to_vec(), Blake3(digest)));
    }
    Ok(bucket_digest(entries.iter().map(|(path, digest)| (path.as_slice(), *digest))))
}

fn get(nodes: &Table<'_, u32, Bytes>, node: u32) -> Result<Blake3, LedgerError> {
    match nodes.get(node)? {
        Some(row) => Ok(Blake3(row.value().try_into().map_err(|_| RowError { table: "nodes" })?)),
        None => Ok(EMPTY[node.ilog2() as usize]),
    }
}

fn bucket_digest<'a>(entries: impl Iterator<Item = (&'a [u8], Blake3)>) -> Blake3 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[0]);
    for (path, digest) in entries {
        hasher.update(&(path.len() as u16).to_le_bytes());
        hasher.update(path);
        hasher.update(&digest.0);
    }
    Blake3(*hasher.finalize().as_bytes())
}

fn node_digest(left: Blake3, right: Blake3) -> Blake3 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[1]);
    hasher.update(&left.0);
    hasher.update(&right.0);
    Blake3(*hasher.finalize().as_bytes())
}

/// The root over `(index path, BLAKE3 of the served file)` pairs, computed at once: what `verify` compares with.
pub(crate) fn root_of(files: impl IntoIterator<Item = (String, Blake3)>) -> Blake3 {
    let mut leaves: Vec<(Vec<u8>, Blake3)> =
        files.into_iter().map(|(path, digest)| (leaf_key(&path), digest)).collect();
    leaves.sort_unstable();
    let mut level = vec![EMPTY[DEPTH]; BUCKETS as usize];
    for bucket in leaves.chunk_by(|a, b| a.0[..2] == b.0[..2]) {
        let entries = bucket.iter().map(|(key, digest)| (&key[2..], *digest));
        level[bucket_of(&bucket[0].0) as usize] = bucket_digest(entries);
    }
    while level.len() > 1 {
        level = level.chunks_exact(2).map(|pair| node_digest(pair[0], pair[1])).collect();
    }
    level[0]
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;
    use redb::{Builder, TableDefinition};

    use super::*;

    const LEAVES: TableDefinition<Bytes, Bytes> = TableDefinition::new("leaves");
    const NODES: TableDefinition<u32, Bytes> = TableDefinition::new("nodes");

    #[test]
    fn a_tree_that_grew_step_by_step_has_the_root_of_one_computed_at_once() {
        let db = Builder::new().create_with_backend(InMemoryBackend::new()).unwrap();
        let txn = db.begin_write().unwrap();
        let mut leaves = txn.open_table(LEAVES).unwrap();
        let mut nodes = txn.open_table(NODES).unwrap();
        let mut files = Vec::new();
        let mut root = Blake3([0; 32]);
        for n in 0..300u32 {
            let (path, digest) = (format!("ab/cd/abcd{n}"), Blake3::of(&n.to_le_bytes()));
            let key = leaf_key(&path);
            leaves.insert(key.as_slice(), digest.0.as_slice()).unwrap();
            root = update(&leaves, &mut nodes, &BTreeSet::from([bucket_of(&key)])).unwrap();
            files.push((path, digest));
        }
        assert_eq!(root, root_of(files.clone()));

        let (path, _) = files.pop().unwrap();
        let key = leaf_key(&path);
        leaves.remove(key.as_slice()).unwrap();
        root = update(&leaves, &mut nodes, &BTreeSet::from([bucket_of(&key)])).unwrap();
        assert_eq!(root, root_of(files), "removing a file leads back");
    }
}

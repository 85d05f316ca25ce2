//! The store's limits, in one place.

use std::time::Duration;

/// Sizes, counts and times that bound what the store does. Arguments, so that tests can make them small.
#[derive(Clone, Debug)]
pub struct StoreLimits {
    /// A pack is sealed when a group ends beyond this many bytes.
    pub pack_bytes: u64,
    /// A group closes when it has this many members.
    pub group_members: usize,
    /// A group closes when its members and events have this many bytes.
    pub group_bytes: u64,
    /// A group closes when its first member has waited this long.
    pub group_delay: Duration,
    /// Bytes of a pack that are gathered in memory before they are written.
    pub write_buffer: usize,
    /// Disk space that is reserved ahead of the writes, in bytes.
    pub preallocate: u64,
    /// Requests that may wait for the writer; more wait in the flow.
    pub queue: usize,
    /// The ledger's page cache in bytes.
    pub ledger_cache: usize,
    /// The catalog's page cache in bytes.
    pub catalog_cache: usize,
    /// A group record or table of contents longer than this is damage.
    pub record_bytes: u64,
    /// An index file, unpacked, longer than this is refused.
    pub index_file_bytes: u64,
    /// The quarantine keeps at most this many bytes; older files go first.
    pub quarantine_bytes: u64,
    /// A part of the audit record ends at this many bytes.
    pub manifest_bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits {
            pack_bytes: 1 << 30,
            group_members: 4096,
            group_bytes: 64 << 20,
            group_delay: Duration::from_millis(250),
            write_buffer: 1 << 20,
            preallocate: 16 << 20,
            queue: 16 << 10,
            ledger_cache: 16 << 20,
            catalog_cache: 8 << 20,
            record_bytes: 256 << 20,
            index_file_bytes: 64 << 20,
            quarantine_bytes: 256 << 20,
            manifest_bytes: 64 << 20,
        }
    }
}

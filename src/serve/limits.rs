//! Every number that bounds what clients can make the server do.

use std::time::Duration;

/// The limits of a server.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// Connections at once; more wait in the operating system's queue.
    pub connections: usize,
    /// Connections at once from one address; more are closed at once.
    pub connections_per_address: usize,
    /// How long a new connection may take until its first request is there, TLS included.
    pub first_request: Duration,
    /// How long it may take until each further request is there.
    pub idle: Duration,
    /// In each such time a client that is being answered must take what `least_rate` makes of it.
    pub stall: Duration,
    /// Bytes a second.
    pub least_rate: f64,
    /// Bytes of a request's head.
    pub head_bytes: u32,
    /// Requests at once on an HTTP/2 connection.
    pub streams: u32,
    /// Bytes of a body that are read together.
    pub chunk: usize,
    /// Bytes of bodies in memory for one connection, however many requests it has.
    pub connection_bytes: usize,
    /// Threads that one connection keeps busy at once.
    pub connection_turns: usize,
    /// Threads that all connections together keep busy at once, but for reading what was read before.
    pub turns: usize,
    /// Bytes of a connection that the operating system holds unsent.
    pub unsent: u32,
    /// How long requests under way may take once the server is asked to stop. The whole stop is promised in 10 s.
    pub drain: Duration,
    /// How long a connection without a request stays open then.
    pub last_wait: Duration,
    /// How often the catalog and the files of certificates and tokens are looked at.
    pub follow: Duration,
    /// How long a request waits for the catalog to be checked, or derived again, where its answer depends on that.
    pub settle: Duration,
    /// Between two attempts to derive a catalog that cannot be derived.
    pub mend: Duration,
    /// How often names that were asked for in vain are written.
    pub wishes: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        ServeLimits {
            connections: 8192,
            connections_per_address: 256,
            first_request: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            least_rate: 1024.0,
            head_bytes: 16 << 10,
            streams: 32,
            chunk: 16 << 10,
            connection_bytes: 32 << 10,
            connection_turns: 4,
            turns: 16,
            unsent: 128 << 10,
            drain: Duration::from_secs(8),
            last_wait: Duration::from_secs(1),
            follow: Duration::from_secs(1),
            settle: Duration::from_secs(10),
            mend: Duration::from_secs(60),
            wishes: Duration::from_secs(60),
        }
    }
}

impl ServeLimits {
    /// The same, with no more connections than there are files that may be open, if that has a limit: packs need some too.
    pub fn within(self, open_files: Option<u64>) -> ServeLimits {
        let files = open_files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
        let most = files - (files / 2).min(BESIDE_CONNECTIONS);
        if most < self.connections {
            tracing::warn!(connections = most, "fewer connections at once, since only {files} files may be open");
        }
        ServeLimits { connections: self.connections.min(most), ..self }
    }
}

/// Files that are open beside connections: packs, the catalog, what the operating system wants.
const BESIDE_CONNECTIONS: usize = 640;

/// What bounds the web pages.
#[derive(Clone, Debug)]
pub struct PageLimits {
    /// Pages that are made at once; more wait. Cargo's requests do not wait for them.
    pub at_once: usize,
    /// Results on a page of search.
    pub results: usize,
    /// Versions on a page of a crate.
    pub versions: usize,
    /// Rows on a page of any other list.
    pub rows: usize,
    /// Lock files that are read at once; more wait.
    pub uploads: usize,
    /// Streams of progress at once.
    pub streams: usize,
    /// How often the run of a sync is looked at while somebody watches.
    pub look: Duration,
    /// How often a stream says that it is alive.
    pub sign_of_life: Duration,
    /// How long a stream lasts; browsers then open the next one.
    pub stream: Duration,
}

impl Default for PageLimits {
    fn default() -> Self {
        PageLimits {
            at_once: 16,
            uploads: 4,
            results: 20,
            versions: 100,
            rows: 200,
            streams: 512,
            look: Duration::from_secs(1),
            sign_of_life: Duration::from_secs(10),
            stream: Duration::from_secs(600),
        }
    }
}

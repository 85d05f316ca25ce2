//! A fake registry for crateferry's tests and benches.
//!
//! It is a real server with real TLS, HTTP/2, a sparse index and a git index served by git itself, so that a
//! test of the program is a test of its network code too. What it holds, how it misbehaves and what was asked
//! of it are all said in the test:
//!
//! ```
//! use crateferry_test_support::{Fault, Registry};
//!
//! let registry = Registry::new();
//! registry
//!     .release("serde", "1.0.0")
//!     .fault("serde", "1.0.0", Fault::status(503).retry_after("1").once());
//! // ... a sync runs ...
//! assert_eq!(registry.requests_for("serde", "1.0.0"), 0);
//! ```
//!
//! It never leaves the loopback interface, writes only where it is told or in a temporary folder, and makes
//! the same bytes on each run.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "it serves tests alone, where a panic is an answer")]
#![allow(clippy::return_self_not_must_use, reason = "chaining is a convenience, not a duty")]

mod backend;
#[cfg(unix)]
pub mod browser;
mod bulk;
mod crate_file;
mod fault;
mod folder;
mod git;
mod log;
mod noise;
mod payload;
mod registry;
mod release;
mod routes;
mod server;
mod shelf;
mod sparse;
mod template;
mod tls;
mod tree;

pub use bulk::Bulk;
pub use crate_file::sha256;
pub use fault::Fault;
pub use log::Request;
pub use registry::{Builder, Registry};
pub use release::{Dep, Release, index_path};
pub use sparse::Etags;
pub use tree::{Tree, Written};

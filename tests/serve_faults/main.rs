//! What clients and damaged disks can do to a running server: each test says what becomes of it.
//!
//! The real program is asked over sockets on which a test may send whatever it likes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

#[path = "../common/mod.rs"]
mod common;

mod content;
mod damage;
mod drain;
mod frames;
mod hosts;
mod http2;
mod logs;
mod memory;
mod paths;
mod places;
mod requests;
mod slow;
mod starved;
mod tls;
mod tokens;
mod wire;

use crateferry_test_support::{Registry, Release};

use crate::common::Ferry;

/// A mirror that holds `demo` 1.0.0 and 1.1.0 and the crates that a test adds, and the registry that it came from.
struct Mirrored {
    registry: Registry,
    ferry: Ferry,
}

impl Mirrored {
    fn new() -> Mirrored {
        Mirrored::with(&[])
    }

    /// Adds crates of these sizes, version 1.0.0.
    fn with(crates: &[(&str, usize)]) -> Mirrored {
        let registry = Registry::new();
        registry.release("demo", "1.0.0").release("demo", "1.1.0");
        let mut selection = vec!["--crate", "demo"];
        for (name, size) in crates {
            registry.release_with(name, "1.0.0", Release::sized(*size));
            selection.extend(["--crate", name]);
        }
        let ferry = Ferry::sparse(&registry);
        ferry.sync(&selection).expect(0);
        Mirrored { registry, ferry }
    }

    /// Where version 1.0.0 of a crate is downloaded by checksum.
    fn path_of(&self, name: &str) -> String {
        format!("/crates/{name}/1.0.0/{}", self.registry.checksum(name, "1.0.0"))
    }

    /// The bytes of version 1.0.0 of a crate.
    fn bytes_of(&self, name: &str) -> Vec<u8> {
        self.registry.crate_bytes(name, "1.0.0").to_vec()
    }
}

const DEMO: &str = "/crates/demo/demo-1.0.0.crate";
const DEMO_INDEX: &str = "/index/de/mo/demo";

//! The steps between a release that is wanted and one that is held. No stage knows another.

mod describe;
mod enforce;
mod fetch;
mod store;
mod verify;

pub use describe::Describe;
pub use enforce::{Checksums, ChecksumsError, Enforce};
pub use fetch::{Fault, Fetch, FetchLimits, Outage};
pub use store::Store;
pub use verify::{Verify, WrongBytes};

//! The steps between a release that is wanted and one that is held. No stage knows another.

mod fetch;
mod verify;

pub use fetch::{Fault, Fetch, FetchLimits, Outage};
pub use verify::{Verify, WrongBytes};

//! The index: from an upstream's changes to what the mirror wants.
//!
//! [`select`] says which rows of an index file a selection wants within a [`policy`]; [`diff`] turns a changed file into events, both pure;
//! [`record`] makes them durable before anything is fetched. A selection that wants crates with all they need is closed over
//! first: [`closure`] computes that from what [`rows`] reads of index files.

pub mod checksums;
pub mod closure;
pub mod diff;
pub mod dump;
mod known;
pub mod policy;
pub mod proof;
pub mod record;
pub mod rows;
pub mod select;
pub mod survey;
mod waves;

pub use known::LedgerKnown;
pub use waves::close_over_held;

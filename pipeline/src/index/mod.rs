//! The index: from an upstream's changes to what the mirror wants.
//!
//! [`select`] says which rows of an index file a selection wants; [`diff`] turns a changed file into events, both pure;
//! [`record`] makes them durable before anything is fetched.

pub mod diff;
mod known;
pub mod record;
pub mod select;

pub use known::LedgerKnown;

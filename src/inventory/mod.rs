//! The documents of an inventory: writing them, reading one again, comparing one with what is there.
//!
//! `docs/inventory.md` says what is in them. Entries are kept in a nameless file on their way from the hashers to the documents, and from a
//! document to the comparison, so that memory does not grow with the number of files.

mod comparison;
mod document;
mod expected;
mod outputs;
mod spool;

pub use comparison::{Comparison, Difference};
pub use document::{Entry, Hashes, Header, Name, SCHEMA_VERSION, SignatureNote, directory};
pub use expected::Expected;
pub use outputs::{Listing, Outputs};
pub use spool::Spool;

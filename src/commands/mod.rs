//! One verb, one file.

pub mod approve;
pub mod bundle;
pub mod completions;
pub mod config;
pub mod export;
pub mod holes;
pub mod import_tree;
pub mod init;
pub mod inventory;
pub mod keygen;
pub mod keys;
pub mod man;
pub mod plan;
pub mod quarantine;
pub mod rebuild;
pub mod receipt;
pub mod report;
pub mod selection;
pub mod serve;
pub mod sidecars;
pub mod status;
pub mod sync;
pub mod token;
pub mod verify;
pub mod why;
pub mod withdraw;

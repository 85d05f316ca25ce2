//! What it takes to run the program for real: its configuration, its logs, the files that start it, the documents that
//! tell people how.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

#[path = "../common/mod.rs"]
mod common;
mod config;
mod deploy;
#[cfg(unix)]
mod desk;
mod documents;
#[cfg(unix)]
mod guides;
mod logs;
#[path = "../look/mod.rs"]
mod look;
#[cfg(unix)]
mod mapping;

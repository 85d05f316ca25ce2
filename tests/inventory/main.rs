//! `inventory` and `keygen` as users run them. Digests, documents and signatures are compared with what programs say that know nothing
//! of crateferry; a test whose program is not there fails and names the package.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod checks;
mod digests;
mod documents;
mod openpgp;
mod problems;
mod signing;

//! The web pages: what they say, as a program reads them, and how they look and work in a real browser.
#![allow(clippy::unwrap_used, reason = "in a test a panic is an answer")]

#[path = "../common/mod.rs"]
mod common;

#[cfg(unix)]
mod browsing;
mod cargo;
mod content;
mod events;
mod feed;
mod manners;
mod site;

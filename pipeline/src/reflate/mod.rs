//! Recompression: crate files at a fraction of their size, bit for bit.
//!
//! A crate file is a gzip'd tar, and the versions of a crate are nearly equal, but gzip hides it. So the gzip is undone, the tars of many
//! crate files are compressed together, and the reader does the gzip again. That comes out the same only with the very encoder that
//! `cargo package` used. Five of them have made nearly all crate files there are; which one it was is found by trying.
//!
//! - [`take_apart`] is for who sends: crate file to [`Apart`], its recipe and its contents. What no encoder gives again stays as it is.
//! - [`FrameBuilder`] and [`Frame`] compress what belongs together, and take it out again; with the contents of a crate file that the
//!   receiver holds as a base, if there is one.
//! - [`Member::rebuild`] is for who receives: contents back to the crate file. **The caller checks its SHA-256**, always: a build of
//!   this program on another processor, or a frame from an enemy, may give other bytes. Nothing here claims that they are right.
//!
//! All of it is pure and synchronous. Nothing depends on time, on history or on other threads: equal input gives equal output.
//! `docs/format.md` has a frame to the byte.

mod apart;
mod encoder;
mod frame;
mod gzip;
mod record;
mod stock_zlib;

#[cfg(test)]
mod tests;

pub use apart::{Apart, MAX_CONTENT, RebuildError, Recipe, take_apart, take_apart_within};
pub use encoder::{Encoder, Encoders};
pub use frame::{Base, Contents, Frame, FrameBuilder, FrameError, Level, zstd_version};
pub use record::Member;

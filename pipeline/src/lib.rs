//! How things move: upstreams, the index, stages and the flow that links them. No database, no file writes.
pub mod advisories;
pub mod bundle;
pub mod clock;
pub mod cpu;
pub mod facts;
pub mod failure;
pub mod flow;
pub mod import;
pub mod index;
pub mod inventory;
pub mod item;
pub mod limits;
pub mod net;
pub mod reflate;
pub mod settle;
pub mod stages;
pub mod upstream;
pub mod work;

use std::error::Error;

/// An error and its sources, in one line.
pub fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

//! What the last plan of a mirror came to, for the web pages.

use std::collections::BTreeMap;

use crateferry_store::{Layout, write_plan_file};
use serde::{Deserialize, Serialize};

/// A plan, as people read it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Planned {
    /// When it was made, in seconds since 1970.
    pub at: u64,
    /// What it says, line by line: a word, and what of it.
    pub lines: Vec<(String, String)>,
    /// All that is selected by the month that it was published in: releases, and bytes of those whose length is known.
    pub growth: BTreeMap<String, (u64, u64)>,
    /// What cannot be resolved from what would be kept; the first of it.
    pub lacking: Vec<String>,
}

impl Planned {
    /// The last one, if it can be read.
    pub fn last(layout: &Layout) -> Option<Planned> {
        serde_json::from_slice(&std::fs::read(layout.plan()).ok()?).ok()
    }

    /// Keeps it for others to read. That it cannot be kept is no reason to fail.
    pub fn keep(&self, layout: &Layout) {
        let kept =
            serde_json::to_vec(self).map_err(std::io::Error::from).and_then(|text| write_plan_file(layout, &text));
        if let Err(error) = kept {
            tracing::warn!("the web pages will not show this plan: {error}");
        }
    }
}

//! `crateferry approve`: publishes deletions that were held back because they were many, or a changed checksum.

use std::fmt;

use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_pipeline::index::checksums;
use crateferry_store::{Generation, Shrink, publish};
use serde::Serialize;

use crate::cli::ApproveArgs;
use crate::report::{self, Exit, count, usage};
use crate::selection::parse_release;
use crate::session;

pub fn run(args: &ApproveArgs) -> anyhow::Result<Exit> {
    let ids = args.releases.iter().map(|text| parse_release(text)).collect::<Result<Vec<_>, _>>()?;
    let (mirror, _) = session::open_origin(&args.mirror)?;
    let changed = checksums::changed(&mirror.ledger().reader()?)?;
    if let Some(id) = ids.iter().find(|id| !changed.contains(&id.lower())) {
        return Err(usage(format!(
            "the checksum of {id} never changed: `crateferry status` lists under alarms what did"
        )));
    }
    let (writer, now) = (mirror.writer()?, SystemClock.now());
    let (shrink, switched) = if ids.is_empty() {
        (Shrink::Accept, 0)
    } else {
        (Shrink::Keep, checksums::switch(&mirror, &writer, ids, now)?.len() as u64)
    };
    if switched == 0 && !args.releases.is_empty() {
        return Err(usage(
            "what upstream promises now is served already, or is not held yet: `crateferry why` tells which",
        ));
    }
    let published = publish(&mirror, &writer, shrink, now)?;
    let withdrawn = published.withdrawn;
    report::print(args.json, &Approved { withdrawn, switched, generation: published.generation })?;
    Ok(Exit::Complete)
}

#[derive(Debug, Serialize)]
struct Approved {
    withdrawn: u64,
    /// Versions that are served with the checksum that the upstream promises now.
    switched: u64,
    generation: Option<Generation>,
}

impl fmt::Display for Approved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "withdrawn   {}", count(self.withdrawn, "release"))?;
        if self.switched > 0 {
            writeln!(f, "switched    {} to the later checksum", count(self.switched, "version"))?;
        }
        match &self.generation {
            Some(generation) => {
                writeln!(f, "generation  {} (new)\ndigest      {}", generation.number, generation.digest)
            }
            None => writeln!(f, "nothing was held back"),
        }
    }
}

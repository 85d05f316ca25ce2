//! `crateferry approve`: publishes deletions that were held back because they were many.

use std::fmt;

use crateferry_pipeline::clock::{Clock, SystemClock};
use crateferry_store::{Generation, Shrink, publish};
use serde::Serialize;

use crate::cli::ReadArgs;
use crate::report::{self, Exit, count};
use crate::session;

pub fn run(args: &ReadArgs) -> anyhow::Result<Exit> {
    let (mirror, _) = session::open_origin(&args.mirror)?;
    let writer = mirror.writer()?;
    let published = publish(&mirror, &writer, Shrink::Accept, SystemClock.now())?;
    report::print(args.json, &Approved { withdrawn: published.withdrawn, generation: published.generation })?;
    Ok(Exit::Complete)
}

#[derive(Debug, Serialize)]
struct Approved {
    withdrawn: u64,
    generation: Option<Generation>,
}

impl fmt::Display for Approved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "withdrawn   {}", count(self.withdrawn, "release"))?;
        match &self.generation {
            Some(generation) => {
                writeln!(f, "generation  {} (new)\ndigest      {}", generation.number, generation.digest)
            }
            None => writeln!(f, "nothing was held back"),
        }
    }
}

//! `crateferry rebuild`: ledger and catalog again, from the packs alone.

use std::fmt;
use std::sync::Arc;

use crateferry_store::{Rebuilt, StoreLimits, SystemDisk, rebuild};
use serde::Serialize;

use crate::cli::RebuildArgs;
use crate::report::{self, Exit, count};

pub fn run(args: &RebuildArgs) -> anyhow::Result<Exit> {
    let rebuilt = rebuild(&args.mirror, args.new_epoch, StoreLimits::default(), Arc::new(SystemDisk))?;
    report::print(args.json, &Result::from(rebuilt))?;
    Ok(Exit::Complete)
}

#[derive(Debug, Serialize)]
struct Result {
    packs: u64,
    records: u64,
    epoch: u32,
    new_epoch: bool,
    problems: Vec<String>,
}

impl From<Rebuilt> for Result {
    fn from(rebuilt: Rebuilt) -> Self {
        let Rebuilt { packs, records, problems, epoch, new_epoch, .. } = rebuilt;
        Result { packs, records, epoch, new_epoch, problems }
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rebuilt     from {} in {}", count(self.records, "record"), count(self.packs, "pack"))?;
        for problem in &self.problems {
            writeln!(f, "found       {problem}")?;
        }
        if self.new_epoch {
            writeln!(
                f,
                "epoch       {} (new): something that was published may be lost; run `crateferry sync`",
                self.epoch
            )?;
        }
        Ok(())
    }
}

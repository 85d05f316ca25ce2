//! `crateferry status`: what a mirror holds and lacks, as of its last publication, beside whatever writes it.

use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_store::{MirrorReader, StoreLimits};

use crate::cli::ReadArgs;
use crate::config::Config;
use crate::report::{self, Exit};
use crate::status::Status;

pub fn run(args: &ReadArgs) -> anyhow::Result<Exit> {
    let mirror = MirrorReader::open(&args.mirror, StoreLimits::default())?;
    let config = Config::read(&args.mirror)?;
    let summary = mirror.catalog.summary()?.ok_or_else(|| anyhow::anyhow!("the catalog is empty; run a sync"))?;
    let status = Status::new(summary, &config, SystemClock.now());
    report::print(args.json, &status)?;
    Ok(if status.is_whole() { Exit::Complete } else { Exit::Holes })
}

//! `crateferry completions`: what a shell needs to complete command lines.

use crate::cli::CompletionsArgs;
use crate::report::{self, Exit};

pub fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    report::print_bytes(&args.script())?;
    Ok(Exit::Complete)
}

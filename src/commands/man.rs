//! `crateferry man`: manual pages, made of what `--help` says.

use anyhow::Context;

use crate::cli::ManArgs;
use crate::report::{self, Exit};

pub fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    match &args.dir {
        None => report::print_bytes(&ManArgs::page()?)?,
        Some(dir) => {
            let failed = || format!("cannot write manual pages to {}", dir.display());
            std::fs::create_dir_all(dir).with_context(failed)?;
            ManArgs::write_all(dir).with_context(failed)?;
        }
    }
    Ok(Exit::Complete)
}

//! `crateferry init`: an empty mirror.

use crateferry_pipeline::upstream::Scope;

use crate::cli::InitArgs;
use crate::report::Exit;
use crate::session;

pub fn run(args: &InitArgs) -> anyhow::Result<Exit> {
    let (mirror, _) = session::create(&args.mirror, &args.upstream, &Scope::names([]))?;
    tracing::info!(mirror = %args.mirror.display(), config = %mirror.layout().config().display(), "made an empty mirror");
    Ok(Exit::Complete)
}

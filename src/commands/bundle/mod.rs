//! `crateferry bundle`: what crosses the gap.

mod apply;
mod attach;
pub mod create;
mod folder;
mod inspect;
mod page;
mod parity;
mod read;
mod stream;
pub mod watch;

use crate::cli::{BundleAction, BundleArgs};
use crate::report::Exit;

pub fn run(args: &BundleArgs) -> anyhow::Result<Exit> {
    match &args.action {
        BundleAction::Create(args) => create::run(args),
        BundleAction::AttachSignature(args) => attach::run(args),
        BundleAction::Apply(args) => apply::run(args),
        BundleAction::Inspect(args) => inspect::run(args),
        BundleAction::Verify(args) => read::verify(args),
        BundleAction::Extract(args) => read::extract(args),
    }
}

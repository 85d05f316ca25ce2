//! crateferry mirrors crates.io for networks that cannot reach it.
//!
//! This crate is the wiring: the only one that knows the command line, the environment and the terminal. What moves is in
//! `crateferry-pipeline`, what is held in `crateferry-store`.

mod admin;
mod cli;
mod commands;
mod config;
mod downloads;
mod dump;
mod holdings;
mod inventory;
mod keys;
mod logging;
mod metrics;
mod plan;
mod progress;
mod receipt;
mod report;
mod run;
mod scrub;
#[cfg(test)]
mod security_page;
mod selection;
mod serve;
mod service_manager;
mod session;
mod sidecar;
mod signals;
mod status;
mod visible;
mod wishes;
mod words;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Panics that become errors are told as these alone.
fn tell_panics_once() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if crateferry_store::is_caught() { tracing::debug!("{panic}") } else { usual(panic) }
    }));
}

fn main() -> ExitCode {
    tell_panics_once();
    let cli = Cli::read();
    let outcome = logging::start(&cli.logging, cli.command.mirror()).and_then(|()| match cli.command {
        Command::Init(args) => commands::init::run(&args),
        Command::Sync(args) => commands::sync::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Token(args) => commands::token::run(&args),
        Command::Plan(args) => commands::plan::run(&args),
        Command::Selection(args) => commands::selection::run(&args),
        Command::Why(args) => commands::why::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Status(args) => commands::status::run(&args),
        Command::Holes(args) => commands::holes::run(&args),
        Command::Approve(args) => commands::approve::run(&args),
        Command::Withdraw(args) => commands::withdraw::run(&args),
        Command::Quarantine(args) => commands::quarantine::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Gc(args) => commands::gc::run(&args),
        Command::Rebuild(args) => commands::rebuild::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Sidecars(args) => commands::sidecars::run(&args),
        Command::ImportTree(args) => commands::import_tree::run(&args),
        Command::Bundle(args) => commands::bundle::run(&args),
        Command::Receipt(args) => commands::receipt::run(&args),
        Command::Inventory(args) => commands::inventory::run(&args),
        Command::Keygen(args) => commands::keygen::run(&args),
        Command::Keys(args) => commands::keys::run(&args),
        Command::Config(args) => commands::config::run(&args, &cli.logging),
        Command::Completions(args) => commands::completions::run(&args),
        Command::Man(args) => commands::man::run(&args),
    });
    report::end(outcome)
}

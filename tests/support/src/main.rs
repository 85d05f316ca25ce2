//! The fake registry as a program: served until its standard input closes, or written as a tree of files.
//!
//! What a script needs to know goes to standard output, one `key=value` a line, the last of which is
//! `ready=yes`.
#![allow(clippy::unwrap_used, reason = "it serves tests and benches alone")]

use std::io::{Read, Write};
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use crateferry_test_support::{Bulk, Registry, Tree};

/// A registry that is made up, for tests and benches.
#[derive(Parser)]
#[command(name = "fake-registry", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    content: Content,
    /// Listen on this port for HTTPS; else on any that is free.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Listen on this port for plain HTTP; else on any that is free.
    #[arg(long, default_value_t = 0)]
    plain_port: u16,
    /// Keep certificate and git index here; else in a temporary folder.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Let indexes and crate files name the plain HTTP address.
    #[arg(long)]
    plain_http: bool,
    /// Offer HTTP/1.1 alone.
    #[arg(long)]
    http1_only: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Write crate files, a sparse index and a bare git index for a web server.
    Generate {
        /// Where to.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// The download URL for the index's `config.json`.
        #[arg(long, value_name = "URL")]
        dl: String,
        #[command(flatten)]
        content: Content,
    },
}

#[derive(clap::Args)]
struct Content {
    /// The number of releases.
    #[arg(long, default_value_t = 0)]
    releases: usize,
    /// The mean size of crate files; without it they are small and real.
    #[arg(long, value_name = "BYTES")]
    mean_size: Option<usize>,
    /// How many versions each crate has.
    #[arg(long, default_value_t = 7)]
    versions_per_crate: usize,
}

impl Content {
    fn bulk(&self) -> Bulk {
        let Content { releases, mean_size, versions_per_crate } = *self;
        Bulk { releases, versions_per_crate, mean_size }
    }
}

fn main() {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Generate { out, dl, content }) => generate(out, dl, &content),
        None => serve(&arguments),
    }
}

fn generate(out: PathBuf, dl: String, content: &Content) {
    let written = Tree { out, bulk: content.bulk(), dl }.write();
    say("releases", written.releases);
    say("bytes", written.bytes);
    say("index_files", written.index_files);
}

fn serve(arguments: &Arguments) {
    let registry = start(arguments);
    registry.bulk(arguments.content.bulk());
    say("url", registry.url());
    say("plain_url", registry.plain_url());
    say("sparse_index", registry.sparse_url());
    say("git_index", registry.git_https_url());
    say("git_file_index", registry.git_file_url());
    say("ca_file", registry.ca_file().display());
    say("ready", "yes");
    let _ = std::io::stdin().lock().read_to_end(&mut Vec::new());
}

fn start(arguments: &Arguments) -> Registry {
    let mut builder = Registry::builder().port(arguments.port).plain_port(arguments.plain_port);
    if let Some(data) = &arguments.data {
        builder = builder.data(data);
    }
    if arguments.plain_http {
        builder = builder.plain_http();
    }
    if arguments.http1_only {
        builder = builder.http1_only();
    }
    builder.start()
}

fn say(key: &str, value: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{key}={value}").and_then(|()| out.flush()).unwrap();
}

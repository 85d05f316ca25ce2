//! `crateferry token`: who may use a server.

use std::fmt;

use serde::Serialize;

use crate::cli::{TokenAction, TokenArgs};
use crate::report::{self, Exit};
use crate::serve::TokenFile;

pub fn run(args: &TokenArgs) -> anyhow::Result<Exit> {
    match &args.action {
        TokenAction::Add { file, name } => {
            let token = TokenFile::add(file, name)?;
            report::print(args.json, &Added { name, token })?;
        }
        TokenAction::List { file } => {
            let entries = TokenFile::read(file)?.entries()?;
            let listed = entries.into_iter().map(|entry| Listed { name: entry.name, sha256: entry.hash.to_string() });
            report::print(args.json, &List(listed.collect()))?;
        }
        TokenAction::Remove { file, name } => {
            TokenFile::remove(file, name)?;
            report::print(args.json, &Removed { removed: name })?;
        }
    }
    Ok(Exit::Complete)
}

#[derive(Serialize)]
struct Added<'a> {
    name: &'a str,
    token: String,
}

impl fmt::Display for Added<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.token)
    }
}

#[derive(Serialize)]
struct Listed {
    name: String,
    sha256: String,
}

#[derive(Serialize)]
#[serde(transparent)]
struct List(Vec<Listed>);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|token| writeln!(f, "{}", token.name.escape_debug()))
    }
}

#[derive(Serialize)]
struct Removed<'a> {
    removed: &'a str,
}

impl fmt::Display for Removed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "removed     {}", self.removed)
    }
}

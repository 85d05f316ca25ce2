//! `crateferry selection`: what a mirror wants; `remove` makes it want less.

use std::fmt;

use anyhow::Context as _;
use crateferry_pipeline::index::record::select;
use crateferry_store::{Closure, CrateName, Features, MirrorReader, Root, Selection, Set, SetName, StoreLimits};
use serde::Serialize;

use crate::cli::{SelectionAction, SelectionShowArgs};
use crate::report::{self, Exit, usage};
use crate::session;

pub fn run(args: &SelectionShowArgs) -> anyhow::Result<Exit> {
    let selection = match &args.action {
        Some(SelectionAction::Remove { sets, crates, all }) => remove(args, sets, crates, *all)?,
        None => {
            let mirror = MirrorReader::open(&args.mirror, StoreLimits::default())?;
            mirror.catalog.summary()?.map(|summary| summary.selection).unwrap_or_default()
        }
    };
    report::print(args.json, &Shown(selection))?;
    Ok(Exit::Complete)
}

fn remove(args: &SelectionShowArgs, sets: &[SetName], crates: &[String], all: bool) -> anyhow::Result<Selection> {
    let (mirror, _) = session::open_origin(&args.mirror)?;
    let mut selection = mirror.ledger().reader()?.selection()?;
    for name in sets {
        if selection.sets.remove(name).is_none() {
            return Err(usage(format!("there is no set {name}: `crateferry selection` lists them")));
        }
    }
    for text in crates {
        let name: CrateName = text.parse::<CrateName>().with_context(|| format!("--crate {text}"))?.lower();
        let Set { crates, releases, roots } = &mut selection.own;
        let (named, exact, before) = (crates.remove(&name), releases.remove(&name), roots.len());
        roots.retain(|root| root.name != name);
        if named.is_none() && exact.is_none() && roots.len() == before {
            return Err(usage(format!("{name} is wanted under no set's name or not at all: see `crateferry why`")));
        }
    }
    if all && !std::mem::take(&mut selection.all) {
        return Err(usage("the whole registry is not selected"));
    }
    let writer = mirror.writer()?;
    select(&writer, &selection)?;
    drop(writer);
    mirror.refresh_catalog()?;
    Ok(selection)
}

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Selection);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Selection { all, include_yanked, own, sets } = &self.0;
        if self.0.is_empty() {
            return writeln!(f, "nothing is selected");
        }
        if *all {
            writeln!(f, "the whole registry")?;
        }
        if *include_yanked {
            writeln!(f, "yanked releases too")?;
        }
        show(f, "", own)?;
        sets.iter().try_for_each(|(name, set)| {
            writeln!(f, "set {name}")?;
            show(f, "  ", set)
        })
    }
}

fn show(f: &mut fmt::Formatter<'_>, indent: &str, set: &Set) -> fmt::Result {
    for (name, requirements) in &set.crates {
        requirements.iter().try_for_each(|requirement| writeln!(f, "{indent}{name} {requirement}"))?;
    }
    for (name, versions) in &set.releases {
        versions.iter().try_for_each(|version| writeln!(f, "{indent}{name} {version} exactly"))?;
    }
    for Root { name, requirement, closure, features, target, targets, dev } in &set.roots {
        let how = match closure {
            Closure::Full => "all releases",
            Closure::Newest => "the newest releases",
        };
        write!(f, "{indent}{name} {requirement} and what it needs, {how}")?;
        match features {
            Features::All => write!(f, ", with any feature")?,
            Features::Named { default, names } => {
                let default = default.then_some("default");
                let names: Vec<&str> = default.into_iter().chain(names.iter().map(String::as_str)).collect();
                let named = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                write!(f, ", features: {named}")?;
            }
        }
        if *dev {
            write!(f, ", for its tests too")?;
        }
        if let Some(target) = target {
            write!(f, ", on {target}")?;
        }
        if !targets.is_empty() {
            write!(f, ", for {}", targets.iter().cloned().collect::<Vec<_>>().join(", "))?;
        }
        writeln!(f)?;
    }
    Ok(())
}

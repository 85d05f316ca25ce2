//! `crateferry quarantine`: what this mirror holds and does not give out, by the word of its operator.

use std::fmt;

use anyhow::Context as _;
use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_pipeline::settle::rfc3339;
use crateferry_store::{Batch, CrateName, Event, LedgerReader, Mask, Masks, MirrorReader, StoreLimits, Version, wait};
use serde::Serialize;

use crate::cli::QuarantineArgs;
use crate::downloads::{self, Taken};
use crate::report::{self, Exit, count, usage};
use crate::selection::parse_crate_or_release;
use crate::session;

/// The longest reason, in bytes: cargo shows it in the middle of an error message.
const LONGEST_REASON: usize = 500;

pub fn run(args: &QuarantineArgs) -> anyhow::Result<Exit> {
    if let Some(what) = &args.what {
        let (name, version) = parse_crate_or_release(what)?;
        change(args, &name.lower(), version.as_ref())?;
    }
    let mirror = MirrorReader::open(&args.mirror, StoreLimits::default())?;
    let masks = mirror.catalog.summary()?.map(|summary| summary.masks).unwrap_or_default();
    let told = |mask: &Mask| -> anyhow::Result<Told> {
        let downloaded = downloads::of(&mirror.layout, &mask.name, mask.version.as_ref());
        let downloaded = downloaded.context("cannot read who downloaded it")?;
        Ok(Told { mask: mask.clone(), downloaded })
    };
    let all = masks.all().iter().map(told).collect::<anyhow::Result<_>>()?;
    report::print(args.json, &Quarantined(all))?;
    Ok(Exit::Complete)
}

/// Puts something into quarantine, or takes it out.
fn change(args: &QuarantineArgs, name: &CrateName, version: Option<&Version>) -> anyhow::Result<()> {
    if args.reason.is_none() && !args.undo {
        return Err(usage("say why with --reason TEXT, which who asks for it is told, or take it out with --undo"));
    }
    let reason = args.reason.as_deref().map(reason).transpose()?;
    let (mirror, _) = session::open(&args.mirror)?;
    let ledger = mirror.ledger().reader()?;
    let (name, version) = (name.clone(), version.cloned());
    let event = match reason {
        Some(reason) => {
            check_room(&ledger, &name, version.as_ref())?;
            check_held(&ledger, &name, version.as_ref())?;
            Event::Masked { name, version, reason, at: SystemClock.now() }
        }
        None if ledger.masks()?.get(&name, version.as_ref()).is_none() => {
            let shown = Named(&name, version.as_ref());
            return Err(usage(format!("{shown} is not in quarantine: `crateferry quarantine` lists what is")));
        }
        None => Event::Unmasked { name, version },
    };
    drop(ledger);
    let mut batch = Batch::default();
    batch.add(event);
    let writer = mirror.writer()?;
    let pending = writer.submit(batch);
    wait(writer.flush())?;
    wait(pending)?;
    Ok(mirror.refresh_catalog()?)
}

/// A reason that can be shown on one line, wherever.
pub(super) fn reason(text: &str) -> anyhow::Result<String> {
    let text = text.trim();
    if text.is_empty() {
        return Err(usage("--reason: say why; who asks for the crate is told"));
    }
    if text.len() > LONGEST_REASON {
        return Err(usage(format!("--reason: it has {} bytes, and may have {LONGEST_REASON}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(usage("--reason: it has to be one line without control characters"));
    }
    Ok(text.to_owned())
}

/// What was mistyped would withhold nothing, and seem to.
fn check_held(ledger: &LedgerReader, name: &CrateName, version: Option<&Version>) -> anyhow::Result<()> {
    let known = ledger.releases_of(name)?;
    let is_meant = |other: &Version| version.is_none_or(|version| other == version);
    if known.iter().any(|(release, row)| row.place.is_some() && is_meant(&release.id.version)) {
        return Ok(());
    }
    let shown = Named(name, version);
    Err(usage(format!(
        "this mirror does not hold {shown}, so there is nothing to withhold; the setting `deny` of the section [policy] keeps out \
         what is not here yet"
    )))
}

fn check_room(ledger: &LedgerReader, name: &CrateName, version: Option<&Version>) -> anyhow::Result<()> {
    let masks = ledger.masks()?;
    if masks.all().len() < Masks::MOST || masks.get(name, version).is_some() {
        return Ok(());
    }
    let most = Masks::MOST;
    Err(usage(format!(
        "{most} crates and releases are in quarantine, which is the most; a crate's name alone stands for all of it"
    )))
}

/// A crate or a release, as it is written on the command line.
pub(super) struct Named<'a>(pub &'a CrateName, pub Option<&'a Version>);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(version) => write!(f, "{}@{version}", self.0),
            None => self.0.fmt(f),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Quarantined(Vec<Told>);

/// What is in quarantine, and who took it before, as far as that was written down.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    mask: Mask,
    downloaded: Vec<Taken>,
}

impl fmt::Display for Quarantined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Told { mask, downloaded } in &self.0 {
            let shown = Named(&mask.name, mask.version.as_ref());
            writeln!(f, "{shown}  since {}: {}", rfc3339(mask.at), mask.reason.escape_debug())?;
            for Taken { version, by, times, first, last } in downloaded {
                let (by, times) = (by.escape_debug(), count(*times, "download"));
                writeln!(f, "  {version} by {by}: {times}, {first} to {last}")?;
            }
        }
        Ok(())
    }
}

//! `crateferry gc`: the room of what nothing needs any more.

use std::fmt;
use std::time::Duration;

use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_pipeline::settle::rfc3339;
use crateferry_store::{Garbage, Members, Mirror, PackShare, collect, find_garbage};
use serde::Serialize;

use crate::cli::GcArgs;
use crate::report::{self, Exit, bytes, count, usage};
use crate::session;

/// How long one waits for servers and exports that began before.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(args: &GcArgs) -> anyhow::Result<Exit> {
    let (mirror, _) = session::open(&args.mirror)?;
    let now = SystemClock.now();
    let garbage = find_garbage(&mirror, args.grace.as_secs(), now)?;
    if !args.allow_most {
        check_sanity(&mirror, &garbage)?;
    }
    let mut found = Found::of(&garbage, args.dry_run);
    let exit = if garbage.is_damaged { Exit::Integrity } else { Exit::Complete };
    if !args.dry_run {
        found.collected = collect(&mirror, garbage, PATIENCE, now)?.dead;
    }
    report::print(args.json, &found)?;
    Ok(exit)
}

/// What is needed shrank oddly if nothing is served, or if most of all there is would go: then somebody should look first.
fn check_sanity(mirror: &Mirror, garbage: &Garbage) -> anyhow::Result<()> {
    let (dead, all) = (garbage.dead(), garbage.length());
    if dead.members == 0 {
        return Ok(());
    }
    let rows = mirror.ledger().reader()?.generation()?.map_or(0, |generation| generation.counts.rows);
    let odd = if rows == 0 {
        "nothing is served".to_owned()
    } else if dead.bytes > all / 2 {
        format!("{} of {} in sealed packs would go", bytes(dead.bytes), bytes(all))
    } else {
        return Ok(());
    };
    Err(usage(format!(
        "{odd}, which looks like a mistake; see what it is with --dry-run, and say --allow-most if it is none"
    )))
}

#[derive(Debug, Serialize)]
struct Found {
    dry_run: bool,
    /// What was given back; nothing in a dry run.
    collected: Members,
    /// What could be given back before.
    dead: Members,
    waiting: Members,
    waits_until: Option<u64>,
    packs: Vec<PackShare>,
    left: Vec<String>,
}

impl Found {
    fn of(garbage: &Garbage, dry_run: bool) -> Found {
        Found {
            dry_run,
            collected: Members::default(),
            dead: garbage.dead(),
            waiting: garbage.waiting,
            waits_until: garbage.until,
            packs: garbage.packs.clone(),
            left: garbage.left.clone(),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.packs.iter().map(|pack| pack.length).sum();
        writeln!(f, "looked at   {}, {}", count(self.packs.len() as u64, "sealed pack"), bytes(all))?;
        if self.dry_run {
            for pack in self.packs.iter().filter(|pack| pack.dead.members > 0) {
                let PackShare { pack: number, length, dead, .. } = pack;
                writeln!(f, "pack {number:<6} {} of {}", bytes(dead.bytes), bytes(*length))?;
            }
            writeln!(f, "to collect  {}", told(self.dead))?;
        } else {
            writeln!(f, "collected   {}", told(self.collected))?;
        }
        if let Some(until) = self.waits_until {
            writeln!(f, "waiting     {}, the first until {}", told(self.waiting), rfc3339(until))?;
        }
        self.left.iter().try_for_each(|left| writeln!(f, "left alone  {left}"))
    }
}

fn told(members: Members) -> String {
    format!("{}, {}", count(members.members, "member"), bytes(members.bytes))
}

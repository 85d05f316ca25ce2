//! `crateferry report`: what a generation serves or brought: releases, licences, advisories, what is yanked.

use std::collections::BTreeMap;
use std::fmt;

use crateferry_pipeline::advisories::{Advisories, Advisory, AdvisoryKind};
use crateferry_pipeline::clock::{Clock as _, SystemClock};
use crateferry_store::bundle::{Change, New, Plan, PlanError};
use crateferry_store::{CrateName, Mirror, Point, Sha256, Version, parse_index_file};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::{ReportArgs, ReportFormat};
use crate::report::{self, Exit, count, usage};
use crate::session;

/// How many releases of a kind are shown to people.
const SHOWN: usize = 20;

pub fn run(args: &ReportArgs) -> anyhow::Result<Exit> {
    let (mirror, config) = session::open(&args.mirror)?;
    let folder = args.advisory_db.as_ref().or(config.policy.advisory_db.as_ref());
    let advisories = match folder {
        Some(folder) => Some(Advisories::read(folder)?),
        None => session::advisories(&mirror)?,
    };
    let ledger = mirror.ledger().reader()?;
    let plan = Plan::new(&ledger, args.since).map_err(|error| match error {
        PlanError::NoGeneration(..) | PlanError::Nothing => usage(error.to_string()),
        error => error.into(),
    })?;
    let mut report = Report {
        mirror: ledger.mirror()?,
        from: plan.from.as_ref().map(crateferry_store::Generation::point),
        to: plan.to.point(),
        published_at: report::time(plan.to.published_at.cast_signed()),
        has_advisories: advisories.is_some(),
        crates: 0,
        releases: Vec::new(),
        yanked: Vec::new(),
        withdrawn: Vec::new(),
        licences: BTreeMap::new(),
        advisories: BTreeMap::new(),
    };
    plan.each(&ledger, mirror.packs(), |change| {
        report.take(&mirror, change, advisories.as_ref(), args.since.is_some())
    })?;
    match args.format {
        ReportFormat::Text => report::print(false, &report)?,
        ReportFormat::Json => report::print(true, &report)?,
        ReportFormat::Cyclonedx => report::print(true, &Materials(report.materials()))?,
    }
    Ok(Exit::Complete)
}

/// What is reported.
#[derive(Debug, Serialize)]
struct Report {
    mirror: String,
    from: Option<Point>,
    to: Point,
    published_at: String,
    /// Whether there was an advisory database to look things up in.
    has_advisories: bool,
    /// Crates that any of it is about.
    crates: u64,
    /// Releases that are served, or of those what is new.
    releases: Vec<Reported>,
    /// Releases that are yanked, of the crates that changed.
    yanked: Vec<String>,
    /// Releases that were withdrawn.
    withdrawn: Vec<String>,
    /// Releases by licence.
    licences: BTreeMap<String, u64>,
    /// Releases by what advisories warn of.
    advisories: BTreeMap<&'static str, u64>,
}

/// A release.
#[derive(Debug, Serialize)]
struct Reported {
    name: CrateName,
    version: Version,
    checksum: Sha256,
    bytes: u64,
    yanked: bool,
    /// As its manifest has it; none if that is not known.
    licence: Option<String>,
    advisories: Vec<Advisory>,
}

impl Report {
    fn take(
        &mut self,
        mirror: &Mirror,
        change: Change,
        advisories: Option<&Advisories>,
        is_delta: bool,
    ) -> anyhow::Result<()> {
        let Change { name, text, new, withdrawn, .. } = change;
        self.crates += 1;
        if is_delta {
            self.withdrawn.extend(withdrawn.iter().map(|(release, ..)| release.id.to_string()));
        }
        let Some((text, _)) = text else { return Ok(()) };
        let bytes = mirror.packs().text(text.place, text.digests.blake3)?;
        let file = parse_index_file(&name, &bytes);
        let yanked = file.entries.iter().filter(|entry| entry.yanked);
        self.yanked.extend(yanked.map(|entry| format!("{} {}", entry.name, entry.version)));
        for New { release, place, facts } in new {
            let (name, version) = (release.id.name, release.id.version);
            let facts = facts.map(|place| mirror.packs().facts(&place)).transpose()?;
            let manifest = facts.and_then(|facts| facts.manifest);
            let licence = manifest.and_then(|manifest| {
                manifest.license.or(manifest.license_file.map(|file| format!("see its file {file}")))
            });
            let key = licence.clone().unwrap_or_else(|| "not known".to_owned());
            *self.licences.entry(key).or_default() += 1;
            let about = advisories.map(|advisories| advisories.about(&name, &version)).unwrap_or_default();
            let mut kinds: Vec<AdvisoryKind> = about.iter().map(|advisory| advisory.kind).collect();
            kinds.sort_unstable();
            kinds.dedup();
            kinds.iter().for_each(|kind| *self.advisories.entry(kind.name()).or_default() += 1);
            self.releases.push(Reported {
                yanked: file.entries.iter().any(|entry| entry.version == version && entry.yanked),
                checksum: release.checksum,
                bytes: place.length,
                name,
                version,
                licence,
                advisories: about,
            });
        }
        Ok(())
    }

    /// The releases as a bill of materials. Source: the CycloneDX 1.5 specification, its JSON form.
    fn materials(&self) -> Value {
        let components = self.releases.iter().map(|release| {
            let mut component = json!({
                "type": "library",
                "bom-ref": release.purl(),
                "name": release.name.as_str(),
                "version": release.version.as_str(),
                "purl": release.purl(),
                "hashes": [{"alg": "SHA-256", "content": release.checksum.to_string()}],
            });
            if let Some(licence) = &release.licence {
                component["licenses"] = licences(licence);
            }
            component
        });
        let mut vulnerabilities: BTreeMap<&str, (&Advisory, Vec<Value>)> = BTreeMap::new();
        for release in &self.releases {
            for advisory in &release.advisories {
                let (_, affects) = vulnerabilities.entry(&advisory.id).or_insert((advisory, Vec::new()));
                affects.push(json!({"ref": release.purl()}));
            }
        }
        let vulnerabilities = vulnerabilities.into_values().map(|(advisory, affects)| {
            let mut vulnerability = json!({
                "id": advisory.id,
                "source": {"name": "RustSec"},
                "description": format!("{}: {}", advisory.kind.name(), advisory.title),
                "published": format!("{}T00:00:00Z", advisory.date),
                "affects": affects,
            });
            if !advisory.patched.is_empty() {
                vulnerability["recommendation"] = format!("fixed in {}", advisory.patched.join(", ")).into();
            }
            vulnerability
        });
        let (generation, mirror) = (self.to.generation, &self.mirror);
        json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "serialNumber": format!("urn:uuid:{}", uuid_of(&self.to.digest.0)),
            "version": 1,
            "metadata": {
                "timestamp": report::time(SystemClock.now().cast_signed()),
                "tools": {"components": [
                    {"type": "application", "name": "crateferry", "version": env!("CARGO_PKG_VERSION")}
                ]},
                "component": {
                    "type": "data",
                    "name": format!("mirror {mirror}, generation {generation}"),
                    "version": generation.to_string(),
                },
            },
            "components": components.collect::<Vec<_>>(),
            "vulnerabilities": vulnerabilities.collect::<Vec<_>>(),
        })
    }
}

/// A licence as a bill of materials has it: an expression if it is one, else a name.
fn licences(text: &str) -> Value {
    match spdx::Expression::canonicalize(text) {
        Ok(canonical) if spdx::Expression::parse(canonical.as_deref().unwrap_or(text)).is_ok() => {
            json!([{"expression": canonical.as_deref().unwrap_or(text)}])
        }
        _ => json!([{"license": {"name": text}}]),
    }
}

/// A UUID of version 8, which may be any bytes: the same for the same content.
fn uuid_of(digest: &[u8; 32]) -> String {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

impl Reported {
    /// Its package URL; `+` is escaped, as that specification has it.
    fn purl(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version.as_str().replace('+', "%2B"))
    }
}

#[derive(Serialize)]
#[serde(transparent)]
struct Materials(Value);

impl fmt::Display for Materials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { mirror, from, to, published_at, releases, yanked, withdrawn, licences, .. } = self;
        writeln!(f, "mirror      {mirror}, epoch {}", to.epoch)?;
        match from {
            Some(from) => writeln!(f, "generations {} to {} of {published_at}", from.generation, to.generation)?,
            None => writeln!(f, "generation  {} of {published_at}", to.generation)?,
        }
        let what = if from.is_some() { "new" } else { "served" };
        writeln!(f, "{what:11} {} of {}", count(releases.len() as u64, "release"), count(self.crates, "crate"))?;
        let mut by_number: Vec<(&String, &u64)> = licences.iter().collect();
        by_number.sort_by(|one, other| other.1.cmp(one.1).then(one.0.cmp(other.0)));
        let line = |(licence, number): &(&String, &u64)| format!("{number:>6}  {}", licence.escape_debug());
        list(f, "licence", &by_number.iter().map(line).collect::<Vec<_>>())?;
        if self.has_advisories {
            let of = |release: &Reported| -> Vec<String> {
                let line = |advisory: &Advisory| {
                    let Advisory { id, title, kind, .. } = advisory;
                    format!("{} {}: {id}, {}: {}", release.name, release.version, kind.name(), title.escape_debug())
                };
                release.advisories.iter().map(line).collect()
            };
            let lines: Vec<String> = releases.iter().flat_map(of).collect();
            if lines.is_empty() {
                writeln!(f, "advisories  none is about any of these")?;
            }
            list(f, "advisory", &lines)?;
        } else {
            writeln!(f, "advisories  not looked at: name a database with --advisory-db")?;
        }
        list(f, "yanked release", yanked)?;
        list(f, "withdrawn release", withdrawn)?;
        if from.is_some() {
            list(
                f,
                "new release",
                &releases.iter().map(|one| format!("{} {}", one.name, one.version)).collect::<Vec<_>>(),
            )?;
        }
        Ok(())
    }
}

fn list(f: &mut fmt::Formatter<'_>, kind: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "{}:", count(lines.len() as u64, kind))?;
    lines.iter().take(SHOWN).try_for_each(|line| writeln!(f, "  {line}"))?;
    if lines.len() > SHOWN {
        writeln!(f, "  and {} more; --format json lists all", lines.len() - SHOWN)?;
    }
    Ok(())
}

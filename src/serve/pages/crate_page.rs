//! A crate: its versions, and what one of them needs and offers.

use std::collections::HashMap;

use askama::Template;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::response::Response;
use crateferry_store::{CrateName, Facts, Release, ReleaseId, Sha256};
use serde::Deserialize;

use super::super::answer::Problem;
use super::super::releases::{self, Dependency, Detail, IndexRow, Releases};
use super::Sheet;
use super::paging::Paging;
use super::visit::{Frame, Tab, Visit};
use crate::report::{bytes, count};
use crate::words;

/// Which version, and which page of all versions.
#[derive(Deserialize)]
pub struct Wish {
    version: Option<String>,
    page: Option<usize>,
}

#[derive(Template)]
#[template(path = "crate.html")]
struct CratePage {
    frame: Frame,
    name: String,
    chosen: Chosen,
    versions: Vec<VersionRow>,
    version_count: String,
    paging: Paging,
    unreadable: Option<String>,
    holes: Option<String>,
}

/// The version that the page is about.
struct Chosen {
    row: VersionRow,
    is_newest: bool,
    /// For `cargo add`, which takes no build metadata.
    requirement: String,
    rust_version: Option<String>,
    /// Its checksum changed upstream, after it was first served.
    has_alarm: bool,
    /// Why its crate file is not given out.
    withheld: Option<String>,
    /// None if this part of its row cannot be read.
    detail: Option<Needs>,
    /// Where the document that describes it is, from the root on.
    sidecar: String,
    /// None if nothing is known of what its crate file tells.
    facts: Option<Known>,
}

/// What the crate file tells.
struct Known {
    description: Option<String>,
    license: Option<String>,
    edition: Option<String>,
    /// What leads elsewhere: title and URL.
    links: Vec<(&'static str, String)>,
    /// Words that lead to a search.
    keywords: Vec<String>,
    categories: Vec<String>,
    authors: Vec<String>,
    /// Files and their bytes.
    unpacked: Option<(String, String)>,
    /// What runs when the crate is built or installed.
    runs: Vec<&'static str>,
    binaries: Vec<String>,
    commit: Option<String>,
    problem: Option<String>,
}

#[derive(Default)]
struct Needs {
    kinds: Vec<(&'static str, Vec<DependencyRow>)>,
    count: usize,
    features: Vec<(String, Vec<String>)>,
    links: Option<String>,
}

struct VersionRow {
    version: String,
    checksum: String,
    is_yanked: bool,
    /// Time and day.
    published: Option<(String, String)>,
    size: Option<String>,
    is_chosen: bool,
    /// Where its crate file is, from the root on.
    file: String,
}

struct DependencyRow {
    name: String,
    requirement: String,
    is_held: bool,
    is_optional: bool,
    target: Option<String>,
    /// What it is called in the crate, if that is another name.
    alias: Option<String>,
    registry: Option<String>,
}

/// A crate of which nothing is served.
#[derive(Template)]
#[template(path = "no_crate.html")]
struct NoCrate {
    frame: Frame,
    name: String,
    /// Why releases of it are lacking that are wanted.
    holes: Vec<(String, String)>,
    similar: Vec<String>,
}

/// A version that is not served, of a crate that is.
#[derive(Template)]
#[template(path = "no_version.html")]
struct NoVersion {
    frame: Frame,
    name: String,
    version: String,
    /// Why it is lacking, if it is wanted.
    reason: Option<String>,
    newest: Option<String>,
}

/// `/crates/NAME?version=&page=`
pub async fn show(
    visit: Visit,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<Wish>, QueryRejection>,
) -> Response {
    visit
        .answer(move |visit| {
            let Query(wish) = query.map_err(|_| Problem::Bad("A page is a number from 1 on."))?;
            let Path(name) = name.map_err(|_| Problem::Absent)?;
            let name: CrateName = name.parse().map_err(|_| Problem::Absent)?;
            match releases::read(&visit.view.mirror, &name)? {
                Some(releases) => of_releases(visit, &name, &releases, &wish),
                None => no_crate(visit, &name),
            }
        })
        .await
}

fn of_releases(visit: &Visit, name: &CrateName, releases: &Releases, wish: &Wish) -> Result<Sheet, Problem> {
    let order = releases.newest_first();
    let newest = releases.newest();
    let chosen = match &wish.version {
        Some(version) => order.iter().copied().find(|row| row.version == *version),
        None => newest,
    };
    let Some(chosen) = chosen else { return no_version(visit, name, newest, wish) };
    let versions_a_page = visit.desk.limits.versions;
    let at = order.iter().position(|row| row.version == chosen.version).unwrap_or(0);
    let page = wish.page.unwrap_or(at / versions_a_page + 1);
    let paging = Paging::new(page, versions_a_page, order.len());
    if !paging.is_there() {
        return Err(Problem::Absent);
    }
    let sizes = sizes(visit, name)?;
    let row = |row: &IndexRow| version_row(row, &sizes, row.version == chosen.version);
    let lacking = visit.summary().holes.iter().filter(|hole| hole.name.lower() == name.lower()).count() as u64;
    Sheet::of(&CratePage {
        frame: visit.frame(Some(Tab::Crates)),
        name: chosen.name.clone(),
        versions: paging.part(&order).iter().map(|version| row(version)).collect(),
        version_count: count(order.len() as u64, "version"),
        paging,
        unreadable: (releases.unreadable > 0).then(|| count(releases.unreadable as u64, "release")),
        holes: (lacking > 0).then(|| count(lacking, "release")),
        chosen: Chosen {
            row: row(chosen),
            is_newest: newest.is_some_and(|newest| newest.version == chosen.version),
            requirement: chosen.version.split('+').next().unwrap_or_default().to_owned(),
            rust_version: chosen.rust_version.clone(),
            has_alarm: has_alarm(visit, name, chosen),
            withheld: withheld(visit, name, chosen),
            sidecar: format!("api/v1/crates/{}/{}/sidecar", chosen.name, chosen.version.replace('+', "%2B")),
            facts: facts(visit, name, chosen)?,
            detail: releases.detail(chosen).map(|detail| needs(visit, detail)).transpose()?,
        },
    })
}

/// What the crate file of a release tells, as far as the mirror knows it.
fn facts(visit: &Visit, name: &CrateName, row: &IndexRow) -> Result<Option<Known>, Problem> {
    let (Ok(version), Ok(checksum)) = (row.version.parse(), row.checksum.parse()) else { return Ok(None) };
    let release = Release { id: ReleaseId { name: name.clone(), version }, checksum };
    let mirror = &visit.view.mirror;
    let Some(place) = mirror.catalog.facts(&release)? else { return Ok(None) };
    Ok(Some(known(mirror.packs.facts(&place)?)))
}

fn known(facts: Facts) -> Known {
    let Facts { problem, manifest, commit, files, unpacked_size, .. } = facts;
    let manifest = manifest.unwrap_or_default();
    let links = [
        ("Repository", manifest.repository),
        ("Documentation", manifest.documentation),
        ("Home page", manifest.homepage),
    ];
    let runs = [
        (manifest.build_script == Some(true), "a build script"),
        (manifest.proc_macro, "a procedural macro, in the compiler"),
    ];
    Known {
        description: manifest.description,
        license: manifest.license.or(manifest.license_file.map(|file| format!("see {file}"))),
        edition: manifest.edition,
        links: links.into_iter().filter_map(|(title, url)| Some((title, url.filter(|url| is_web(url))?))).collect(),
        keywords: manifest.keywords,
        categories: manifest.categories,
        authors: manifest.authors,
        unpacked: files.zip(unpacked_size).map(|(files, size)| (count(files, "file"), bytes(size))),
        runs: runs.into_iter().filter_map(|(does, what)| does.then_some(what)).collect(),
        binaries: manifest.binaries.unwrap_or_default(),
        commit,
        problem,
    }
}

/// Whether a text from a crate file is an address that a browser may be sent to.
fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// How long each crate file is that is held of a crate.
fn sizes(visit: &Visit, name: &CrateName) -> Result<HashMap<(String, Sha256), u64>, Problem> {
    let held = visit.view.mirror.catalog.held_of(name)?;
    let size = |held: crateferry_store::Held| {
        ((held.release.id.version.to_string(), held.release.checksum), held.place.length)
    };
    Ok(held.into_iter().map(size).collect())
}

fn version_row(row: &IndexRow, sizes: &HashMap<(String, Sha256), u64>, is_chosen: bool) -> VersionRow {
    let checksum: Option<Sha256> = row.checksum.parse().ok();
    let size = checksum.and_then(|checksum| sizes.get(&(row.version.clone(), checksum)));
    let (name, version) = (&row.name, &row.version);
    VersionRow {
        version: version.clone(),
        checksum: row.checksum.clone(),
        is_yanked: row.is_yanked(),
        published: row.pubtime.as_deref().and_then(|time| Some((time.to_owned(), words::day(time)?.to_owned()))),
        size: size.map(|size| bytes(*size)),
        is_chosen,
        file: format!("crates/{name}/{name}-{}.crate", version.replace('+', "%2B")),
    }
}

fn has_alarm(visit: &Visit, name: &CrateName, row: &IndexRow) -> bool {
    let mut alarms = visit.summary().alarms.iter();
    alarms.any(|alarm| alarm.name.lower() == name.lower() && alarm.version.as_str() == row.version)
}

fn withheld(visit: &Visit, name: &CrateName, row: &IndexRow) -> Option<String> {
    let id = ReleaseId { name: name.clone(), version: row.version.parse().ok()? };
    visit.summary().masks.of(&id).map(|mask| mask.reason.clone())
}

fn needs(visit: &Visit, detail: Detail) -> Result<Needs, Problem> {
    let features = detail.features();
    let features = features.into_iter().map(|(name, brings)| (name.to_owned(), brings.to_vec())).collect();
    let (mut normal, mut build, mut dev) = (Vec::new(), Vec::new(), Vec::new());
    let count = detail.deps.len();
    for dependency in detail.deps {
        let kind = match dependency.kind.as_deref() {
            Some("build") => &mut build,
            Some("dev") => &mut dev,
            _ => &mut normal,
        };
        kind.push(dependency_row(visit, dependency)?);
    }
    let mut kinds = vec![("Dependencies", normal), ("Build dependencies", build), ("Dev dependencies", dev)];
    kinds.retain(|(_, rows)| !rows.is_empty());
    kinds.iter_mut().for_each(|(_, rows)| rows.sort_by_cached_key(|row| (row.is_optional, row.name.clone())));
    Ok(Needs { kinds, count, features, links: detail.links })
}

fn dependency_row(visit: &Visit, dependency: Dependency) -> Result<DependencyRow, Problem> {
    let name = dependency.crate_name().to_owned();
    let is_held = match name.parse() {
        Ok(name) if dependency.registry.is_none() => visit.view.mirror.catalog.index_file(&name)?.is_some(),
        _ => false,
    };
    Ok(DependencyRow {
        alias: dependency.package.is_some().then_some(dependency.name),
        requirement: dependency.req,
        is_held,
        is_optional: dependency.optional,
        target: dependency.target,
        registry: dependency.registry,
        name,
    })
}

/// How many crates of a similar name are offered.
const SIMILAR: usize = 8;

fn no_crate(visit: &Visit, name: &CrateName) -> Result<Sheet, Problem> {
    let holes = visit.summary().holes.iter().filter(|hole| hole.name.lower() == name.lower());
    let (_, similar) = visit.view.names.find(name.as_str(), 0, SIMILAR);
    let page = NoCrate {
        frame: visit.frame(Some(Tab::Crates)).seeking(name.as_str()),
        name: name.to_string(),
        holes: holes.map(|hole| (hole.version.to_string(), hole.reason.clone())).collect(),
        similar: similar.iter().map(CrateName::to_string).collect(),
    };
    Ok(Sheet::of(&page)?.with(StatusCode::NOT_FOUND))
}

fn no_version(visit: &Visit, name: &CrateName, newest: Option<&IndexRow>, wish: &Wish) -> Result<Sheet, Problem> {
    let version = wish.version.clone().unwrap_or_default();
    let is_meant =
        |hole: &&crateferry_store::Hole| hole.name.lower() == name.lower() && hole.version.as_str() == version;
    let page = NoVersion {
        frame: visit.frame(Some(Tab::Crates)),
        name: newest.map_or_else(|| name.to_string(), |newest| newest.name.clone()),
        reason: visit.summary().holes.iter().find(is_meant).map(|hole| hole.reason.clone()),
        newest: newest.map(|newest| newest.version.clone()),
        version,
    };
    Ok(Sheet::of(&page)?.with(StatusCode::NOT_FOUND))
}

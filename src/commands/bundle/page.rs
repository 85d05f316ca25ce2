//! What a bundle carries as a page to print and to sign by hand: one file, without scripts, that asks nobody for anything.

use askama::Template;

use super::inspect::{Carries, Contents};
use crate::report::{bytes, grouped};

/// The longest lists on the page: crates and removed names, licences, volumes, versions of a crate.
const CRATES: usize = 2_000;
const LICENSES: usize = 200;
const VOLUMES: usize = 500;
const VERSIONS: usize = 50;

/// The page's text.
pub fn of(contents: &Contents) -> askama::Result<String> {
    let (yanked, withdrawn) = contents.gone();
    let rows = contents.crates.values().take(CRATES).map(Row::of).collect();
    Page { contents, yanked: grouped(yanked), withdrawn: grouped(withdrawn), rows }.render()
}

#[derive(Template)]
#[template(path = "inspection.html")]
struct Page<'a> {
    contents: &'a Contents,
    yanked: String,
    withdrawn: String,
    rows: Vec<Row<'a>>,
}

/// A crate.
struct Row<'a> {
    name: &'a str,
    new: String,
    bytes: String,
    licenses: String,
    yanked: String,
    withdrawn: String,
}

impl<'a> Row<'a> {
    fn of(carries: &'a Carries) -> Row<'a> {
        let new = carries.new_releases();
        let is_new = !new.is_empty();
        Row {
            name: carries.name.as_str(),
            new: some(new.iter().map(|new| new.version)),
            bytes: if is_new { bytes(carries.bytes()) } else { String::new() },
            licenses: carries.licenses().join("; "),
            yanked: some(carries.yanked().into_iter()),
            withdrawn: some(carries.withdrawn.iter().map(crateferry_store::Version::as_str)),
        }
    }
}

/// The first of some versions, and how many there are beyond.
fn some<'a>(versions: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = versions.len().saturating_sub(VERSIONS);
    let text = versions.take(VERSIONS).collect::<Vec<_>>().join(" ");
    if more > 0 { format!("{text} and {} more", grouped(more as u64)) } else { text }
}

impl Page<'_> {
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        clippy::unused_self,
        reason = "this is how a template passes arguments"
    )]
    fn number(&self, number: &u64) -> String {
        grouped(*number)
    }

    #[allow(clippy::unused_self, reason = "this is how a template calls")]
    fn bytes(&self, count: impl std::borrow::Borrow<u64>) -> String {
        bytes(*count.borrow())
    }

    /// Each volume that is listed: its file's name, its length, its SHA-256, whether it was there.
    fn volumes(&self) -> impl Iterator<Item = (String, String, String, bool)> + '_ {
        let manifest = &self.contents.manifest;
        (1..).zip(&manifest.volumes).take(VOLUMES).map(|(number, volume)| {
            let is_here = !self.contents.not_here.contains(&number);
            (manifest.bundle.volume_name(number), grouped(volume.length), volume.sha256.to_string(), is_here)
        })
    }

    /// Each licence that is listed: its words, and how many releases and bytes.
    fn licenses(&self) -> impl Iterator<Item = (&str, String, String)> {
        let totals = self.contents.licenses.iter().take(LICENSES);
        totals.map(|total| (total.words(), grouped(total.releases), bytes(total.bytes)))
    }

    /// What is said of lists that do not have all.
    fn cuts(&self) -> Vec<String> {
        let Contents { crates, removed, licenses, manifest, .. } = self.contents;
        let cuts = [
            cut(CRATES, crates.len(), "crates"),
            cut(CRATES, removed.len(), "removed crates"),
            cut(LICENSES, licenses.len(), "licences"),
            cut(VOLUMES, manifest.volumes.len(), "volumes"),
        ];
        cuts.into_iter().flatten().collect()
    }

    fn removed(&self) -> String {
        self.contents.removed.iter().take(CRATES).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// What is said of a list that does not have all; nothing if it has.
fn cut(shown: usize, all: usize, things: &str) -> Option<String> {
    (all > shown).then(|| format!("{} of {} {things} are listed.", grouped(shown as u64), grouped(all as u64)))
}

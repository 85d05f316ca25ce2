//! The manifest: which bundle it is, what it leads from and to, and the digests of its volumes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::parity::{Parity, Which};
use crate::id::{Blake3, Sha256};
use crate::pack::{Generation, Point};

/// The format of bundles that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;

/// The highest number of a generation.
const HIGHEST: u64 = i64::MAX as u64;

/// The most bytes of all volumes and what they carry together: so that they can be added up.
const LARGEST: u64 = 1 << 60;

/// What a bundle's volumes can hold, and the format of each.
pub const SECTIONS: [(&str, u32); 5] =
    [("crate-files", 1), ("index", 1), ("facts", 1), ("releases", 1), ("advisories", 1)];

/// Names a bundle: 32 hexadecimal digits, the same for the same content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BundleId(String);

impl BundleId {
    /// The id of what has this digest.
    pub fn of(digest: Blake3) -> BundleId {
        BundleId(digest.to_string()[..32].to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The file name of a volume.
    pub fn volume_name(&self, number: u32) -> String {
        self.file_name(Which::Volume(number))
    }

    /// The file name of a volume of either kind.
    pub fn file_name(&self, which: Which) -> String {
        match which {
            Which::Volume(number) => format!("{self}-{number:04}.tar"),
            Which::Parity(number) => format!("{self}-parity-{number:04}.tar"),
        }
    }
}

impl fmt::Display for BundleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BundleId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 32 && text.bytes().all(is_digit) {
            return Ok(BundleId(text.to_owned()));
        }
        Err(format!("{text:?} is no bundle's id: that has 32 hexadecimal digits"))
    }
}

impl TryFrom<String> for BundleId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BundleId> for String {
    fn from(id: BundleId) -> String {
        id.0
    }
}

/// A kind of content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Section {
    /// Its name.
    pub name: String,
    /// The version of its format.
    pub format: u32,
    /// Who does not know it cannot apply the bundle.
    pub required: bool,
}

/// The length and digest of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// How many.
    pub length: u64,
    /// Their digest.
    pub blake3: Blake3,
}

/// What a bundle carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Index files that are new or changed.
    pub index_files: u64,
    /// Index files that are no longer served.
    pub removed: u64,
    /// Crate files.
    pub releases: u64,
    /// Their bytes, as crate files.
    pub bytes: u64,
    /// Crate files that travel as they are, because they did not come back bit for bit.
    pub raw: u64,
    /// Bytes of all volumes together but for tables of contents and tar headers.
    pub carried: u64,
}

/// A volume, as the manifest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSummary {
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256, for `sha256sum`.
    pub sha256: Sha256,
    /// Its BLAKE3.
    pub blake3: Blake3,
    /// Its table of contents, as it lies in it.
    pub contents: Sum,
}

/// A program that lies beside the volumes, so that the other side needs nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Importer {
    /// Its file's name.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub sha256: Sha256,
}

impl Importer {
    /// Whether a program may be called so: letters, digits, dots, dashes and underscores, and like nothing else in a bundle.
    pub fn is_name(name: &str) -> bool {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let lower = name.to_ascii_lowercase();
        let is_ours =
            ["manifest.json", "keys.json"].iter().any(|ours| lower.starts_with(ours)) || lower.contains(".tar");
        (1..=100).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with(['.', '-']) && !is_ours
    }
}

/// The summary of a bundle that is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format of the bundle: 1.
    pub format: u32,
    /// The bundle's id.
    pub bundle: BundleId,
    /// The mirror that it comes from.
    pub mirror: String,
    /// The generation that a receiver must have; none if it needs nothing.
    pub from: Option<Point>,
    /// The generation that it leads to.
    pub to: Generation,
    /// The newest of the generations between them, `to` included.
    pub through: Vec<Point>,
    /// What made it.
    pub tool: String,
    /// The level of recompression: `none`, `fast` or `max`.
    pub level: String,
    /// The encoders that are needed to make crate files again, as bits.
    pub encoders: u32,
    /// The version of zstd that it was made with.
    pub zstd: String,
    /// What its volumes hold.
    pub sections: Vec<Section>,
    /// What it carries.
    pub totals: Totals,
    /// Its volumes; the first has number 1.
    pub volumes: Vec<VolumeSummary>,
    /// The parity over its volumes, if it has some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parity: Option<Parity>,
    /// Programs beside them.
    pub importers: Vec<Importer>,
}

/// A manifest that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is not what it should be.
    #[error("the bundle's manifest is damaged")]
    Malformed(#[source] serde_json::Error),
    /// It was written by a later program.
    #[error("the bundle has format {0}, this program reads up to {FORMAT}; a newer one will read it")]
    Newer(u32),
    /// It holds what only a later program understands.
    #[error("the bundle has a section {name:?} of format {format}, which this program does not know; a newer one will")]
    UnknownSection {
        /// The section.
        name: String,
        /// Its format.
        format: u32,
    },
    /// It contradicts itself.
    #[error("the bundle's manifest contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl Manifest {
    /// The longest that is read.
    pub const LONGEST: u64 = 16 << 20;

    /// The exact bytes that are signed.
    pub fn to_text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).expect("plain fields");
        text.push(b'\n');
        text
    }

    /// Reads a manifest whose signature was checked.
    pub fn parse(text: &[u8]) -> Result<Manifest, ManifestError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_slice(text).map_err(ManifestError::Malformed)?;
        if format > FORMAT {
            return Err(ManifestError::Newer(format));
        }
        let manifest: Manifest = serde_json::from_slice(text).map_err(ManifestError::Malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let is_known = |section: &&Section| SECTIONS.contains(&(section.name.as_str(), section.format));
        if let Some(unknown) =
            self.sections.iter().filter(|section| section.required).find(|section| !is_known(section))
        {
            let Section { name, format, .. } = unknown.clone();
            return Err(ManifestError::UnknownSection { name, format });
        }
        let contradiction = |what| Err(ManifestError::Contradiction(what));
        if self.volumes.is_empty() || u32::try_from(self.volumes.len()).is_err() {
            return contradiction("it has no volumes");
        }
        let Totals { bytes, carried, .. } = self.totals;
        let lengths = self.volumes.iter().map(|volume| volume.length).chain([bytes, carried]);
        if lengths.fold(0, u64::saturating_add) > LARGEST {
            return contradiction("it has more bytes than any disk");
        }
        if let Some(Err(what)) = self.parity.as_ref().map(|parity| parity.reach(&self.volumes)) {
            return contradiction(what);
        }
        if !self.importers.iter().all(|importer| Importer::is_name(&importer.name)) {
            return contradiction("a program beside it has a name that no program may have");
        }
        let to = self.to.point();
        if self.through.last() != Some(&to) {
            return contradiction("the last generation on its way is not the one it leads to");
        }
        if to.generation > HIGHEST {
            return contradiction("it leads to a generation with a number that no mirror comes to");
        }
        if !self.through.is_sorted_by_key(Point::order) {
            return contradiction("the generations on its way are not in order");
        }
        if self.from.is_some_and(|from| from.order() >= to.order() && from != to) {
            return contradiction("it leads to a generation that is older than the one it leads from");
        }
        Ok(())
    }

    /// A section that a bundle of this program has.
    pub fn sections() -> Vec<Section> {
        let section =
            |(name, format): (&str, u32)| Section { name: name.to_owned(), format, required: name != "facts" };
        SECTIONS.map(section).into()
    }

    /// The number that this program gives to bundles that it makes.
    pub const FORMAT: u32 = FORMAT;

    /// A volume by its number.
    pub fn volume(&self, number: u32) -> Option<&VolumeSummary> {
        self.volumes.get((number as usize).checked_sub(1)?)
    }
}

//! Parity of a bundle: writing it, finding what is lost in a folder, and saying what it mends.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use crateferry_pipeline::bundle::PackError;
use crateferry_store::Blake3;
use crateferry_store::bundle::{
    BundleId, Losses, Manifest, Mending, Open, Parity, ParityError, ParityPlan, ParityVolume, Reach, Shelf,
    VolumeSummary, Which,
};
use serde::Serialize;

use super::folder::Folder;
use crate::report::{bytes, count};

/// What parity to make, and over what.
pub struct Making<'a> {
    /// The folder that the volumes lie in.
    pub out: &'a Path,
    pub bundle: &'a BundleId,
    pub volumes: &'a [VolumeSummary],
    pub percent: u8,
    pub volume_size: u64,
    pub done: &'a AtomicU64,
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Making<'_> {
    /// Writes the parity volumes beside the volumes, each under its name when it is whole.
    pub fn run(&self) -> anyhow::Result<Parity> {
        let plan = ParityPlan::new(self.volumes, self.percent, self.volume_size)?;
        let name = |which| self.bundle.file_name(which);
        let part = |number| self.out.join(format!(".{}.part", name(Which::Parity(number))));
        for number in 1..=plan.volumes() as u32 {
            File::create(part(number)).with_context(|| format!("cannot write {}", part(number).display()))?;
        }
        let open_volume = |number| File::open(self.out.join(name(Which::Volume(number)))).map(Some);
        let open_part = |number| File::options().read(true).write(true).open(part(number)).map(Some);
        let volumes = Shelf::new(self.volumes.len(), &open_volume);
        let parts = Shelf::new(plan.volumes(), &open_part);
        let parity = plan.write(&volumes, &parts, self.done, self.stop).map_err(|error| match error {
            ParityError::Interrupted => PackError::Interrupted.into(),
            error => anyhow::Error::from(error),
        })?;
        drop(parts);
        for (number, volume) in (1..).zip(&parity.volumes) {
            let path = self.out.join(name(Which::Parity(number)));
            let failed = || format!("cannot write {}", path.display());
            let file = File::options().write(true).open(part(number)).with_context(failed)?;
            file.sync_all().with_context(failed)?;
            fs::rename(part(number), &path).with_context(failed)?;
            tracing::info!(volume = name(Which::Parity(number)), bytes = bytes(volume.length), "wrote");
        }
        Ok(parity)
    }
}

/// The parity of a bundle in short.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Brief {
    pub volumes: usize,
    pub bytes: u64,
    #[serde(flatten)]
    pub mends: Reach,
}

impl Brief {
    /// That of a bundle, if it has parity.
    pub fn of(manifest: &Manifest) -> Option<Brief> {
        let parity = manifest.parity.as_ref()?;
        let mends = parity.reach(&manifest.volumes).ok()?;
        let bytes = parity.volumes.iter().map(|volume| volume.length).sum();
        Some(Brief { volumes: parity.volumes.len(), bytes, mends })
    }
}

impl std::fmt::Display for Brief {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}; mends ", count(self.volumes as u64, "volume"), bytes(self.bytes))?;
        let Reach { lost_volumes, scratch, percent_for_a_volume } = self.mends;
        match lost_volumes {
            0 => {
                write!(f, "a scratch of up to {}; no whole volume (that needs {percent_for_a_volume}%)", bytes(scratch))
            }
            1 => write!(f, "any one lost volume"),
            lost => write!(f, "any {lost} lost volumes"),
        }
    }
}

/// What the parity volumes in a folder say of the volumes there.
pub enum Found<'a> {
    /// The bundle has no parity, or none of it is here.
    None,
    /// It is here, but its tables are damaged.
    Unreadable,
    /// It is known which blocks are lost.
    Blocks(Box<Mending<'a>>),
}

/// How the volumes in a folder are opened, and those of parity.
pub fn openers<'a>(
    folder: &'a Folder,
    manifest: &'a Manifest,
) -> [impl Fn(u32) -> io::Result<Option<File>> + Sync + 'a; 2] {
    [Which::Volume as fn(u32) -> Which, Which::Parity]
        .map(|which| move |number| folder.file(&manifest.bundle, which(number)).map_err(io::Error::other))
}

/// Looks at all blocks in a folder.
pub fn look<'a>(
    manifest: &Manifest,
    volumes: &'a Open<'a>,
    parity_volumes: &'a Open<'a>,
    done: &AtomicU64,
    stop: &(dyn Fn() -> bool + Sync),
) -> Result<Found<'a>, ParityError> {
    let Some(parity) = &manifest.parity else { return Ok(Found::None) };
    let parity_volumes = Shelf::new(parity.volumes.len(), parity_volumes);
    if !parity_volumes.has_any() {
        return Ok(Found::None);
    }
    let volumes = Shelf::new(manifest.volumes.len(), volumes);
    let found = Mending::survey(parity, &manifest.volumes, volumes, parity_volumes, done, stop)?;
    Ok(found.map_or(Found::Unreadable, |mending| Found::Blocks(Box::new(mending))))
}

/// What is lost, in words.
pub fn told(losses: &Losses) -> String {
    let Losses { blocks, of, worst: (lost, may), beyond, .. } = losses;
    let of_them = if *blocks == 1 { "is" } else { "are" };
    let lost_of = format!("{blocks} of {} {of_them} lost", count(*of, "block"));
    if beyond.is_empty() {
        format!("{lost_of}, and the parity that is here mends them")
    } else {
        format!("{lost_of}, up to {lost} in a row where the parity that is here mends {may}")
    }
}

/// What is wrong with a parity volume, if something is.
pub fn damage(mut file: File, promised: &ParityVolume, stop: &dyn Fn() -> bool) -> Option<String> {
    let (mut hasher, mut buffer) = (blake3::Hasher::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer) {
            Err(error) => return Some(format!("cannot read it: {error}")),
            Ok(_) if stop() => return None,
            Ok(0) => break,
            Ok(length) => hasher.update(&buffer[..length]),
        };
    }
    let found = Blake3(hasher.finalize().into());
    (found != promised.blake3).then(|| format!("it has BLAKE3 {found}, should have {}", promised.blake3))
}

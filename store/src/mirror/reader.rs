//! A mirror that is read beside its writer.

use std::path::Path;
use std::sync::Arc;

use super::{Lock, Mirror, check_format, derive_catalog, require_file};
use crate::disk::{Disk, SystemDisk};
use crate::layout::Layout;
use crate::ledger::{Catalog, CatalogReader, LedgerError};
use crate::limits::StoreLimits;
use crate::open_error::OpenError;
use crate::pack::PackReader;
use crate::reading::Reading;

/// A mirror, open for reading its catalog and packs, beside whatever process writes it.
pub struct MirrorReader {
    /// What is served.
    pub catalog: CatalogReader,
    /// Its bytes.
    pub packs: PackReader,
    /// Its paths.
    pub layout: Layout,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) limits: StoreLimits,
    _reading: Option<Reading>,
}

impl MirrorReader {
    /// Opens a mirror for reading. A catalog that a killed writer left in need of a repair is repaired, or a copy of it
    /// where that is not possible: a writer is at work, the disk is read-only.
    pub fn open(root: &Path, limits: StoreLimits) -> Result<MirrorReader, OpenError> {
        let layout = Layout::new(root);
        check_format(&layout)?;
        let reading = Reading::begin(&layout);
        let catalog = read_catalog(&layout, &limits)?;
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let packs = PackReader::new(disk.clone(), layout.clone(), limits.index_file_bytes);
        Ok(MirrorReader { catalog, packs, layout, disk, limits, _reading: reading })
    }

    /// Lets collections go on beside this reader, which must not read what releases are any more, but the catalog alone.
    #[must_use]
    pub fn without_bytes(self) -> MirrorReader {
        MirrorReader { _reading: None, ..self }
    }

    /// Opens a mirror whose catalog is lost or has a `problem`. It is derived again, unless opening it for writing was
    /// enough, and is sound then. Takes being the mirror's writer for that long: [`OpenError::Locked`] says to try again
    /// later.
    pub fn mend(root: &Path, limits: &StoreLimits, problem: &OpenError) -> Result<MirrorReader, OpenError> {
        let mirror = Mirror::open(root, limits.clone(), Arc::new(SystemDisk))?;
        let Mirror { layout, ledger, catalog, packs, _lock, .. } = mirror;
        drop(catalog);
        let checked = || {
            let mirror = Self::open(root, limits.clone())?;
            mirror.catalog.check(|| {})?;
            Ok(mirror)
        };
        checked().or_else(|_: OpenError| {
            tracing::warn!(error = problem as &dyn std::error::Error, "the catalog is derived again");
            drop(derive_catalog(&SystemDisk, &layout, limits, &ledger.reader()?, &packs)?);
            checked()
        })
    }

    /// The limits it was opened with.
    pub fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    /// The mirror as of the catalog's last commit, if there was one after this reader's. Cheap enough to ask each second;
    /// whoever still reads from this one goes on seeing what it saw.
    pub fn newer(&self) -> Result<Option<MirrorReader>, OpenError> {
        let path = self.layout.catalog();
        let reading = Reading::begin(&self.layout);
        let catalog = if self.catalog.is_copy() {
            // Until a writer repairs it, or somebody else may.
            CatalogReader::open(&path, self.limits.catalog_cache).ok()
        } else if self.catalog.is_file(&path) {
            self.catalog.newer()?
        } else {
            Some(read_catalog(&self.layout, &self.limits)?) // it was derived again
        };
        Ok(catalog.map(|catalog| MirrorReader {
            catalog,
            packs: self.packs.clone(),
            layout: self.layout.clone(),
            disk: self.disk.clone(),
            limits: self.limits.clone(),
            _reading: reading,
        }))
    }
}

/// Opens the catalog for reading. A writer that was killed may have left it in need of a repair, which takes a moment
/// of being the writer.
fn read_catalog(layout: &Layout, limits: &StoreLimits) -> Result<CatalogReader, OpenError> {
    let path = layout.catalog();
    require_file(layout, &path, "the catalog is lost")?;
    if let Ok(reader) = CatalogReader::open(&path, limits.catalog_cache) {
        return Ok(reader);
    }
    match repair(layout, limits) {
        Ok(()) => {
            tracing::info!("the catalog was left unclean by a writer that was killed, and is repaired");
            Ok(CatalogReader::open(&path, limits.catalog_cache)?)
        }
        Err(damage) if damage.is_damage() => Err(damage),
        Err(_) => Ok(read_copy(&path, limits.catalog_cache)?),
    }
}

fn repair(layout: &Layout, limits: &StoreLimits) -> Result<(), OpenError> {
    let _lock = Lock::take(layout)?;
    drop(Catalog::open(&SystemDisk, &layout.catalog(), limits.catalog_cache)?);
    Ok(())
}

/// Reads a repaired copy of a catalog that cannot be repaired itself: another process is the writer, or nothing may be
/// written here.
fn read_copy(path: &Path, cache: usize) -> Result<CatalogReader, LedgerError> {
    match CatalogReader::open_copy(path, cache) {
        Ok(copy) => {
            tracing::warn!("the catalog needs a repair and cannot be written now; reading a repaired copy of it");
            Ok(copy)
        }
        // Perhaps only because the writer repaired it while it was being copied.
        Err(error) => CatalogReader::open(path, cache).map_err(|_| error),
    }
}

//! Making and opening a mirror.
//!
//! A mirror is made by [`Mirror::create`] and by nothing else; every other door opens what exists and treats what is
//! missing as damage. Opening for writing takes the kernel lock, empties `tmp/`, and adopts the whole groups that lie
//! behind what the ledger knows: the packs are the log, the ledger follows them.

mod reader;

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

pub use self::reader::MirrorReader;
use crate::adoption::Adoption;
use crate::body::Spool;
use crate::disk::{Disk, SystemDisk};
use crate::layout::Layout;
use crate::ledger::{Catalog, Identification, Ledger, LedgerError, LedgerReader};
use crate::limits::StoreLimits;
use crate::open_error::{MIRROR_FORMAT, OpenError};
use crate::pack::{PackReader, Tail};
use crate::reading::{self, Reading};
use crate::writer::{Start, Writer};

/// The kernel lock of a mirror's one writer; released by the kernel however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn take(layout: &Layout) -> Result<Lock, OpenError> {
        let path = layout.lock();
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(OpenError::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                drop(file.read_to_string(&mut pid));
                return Err(OpenError::Locked { path: layout.root().to_owned(), pid: pid.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(OpenError::io("lock", &path)(source)),
        }
        write_pid(&mut file).map_err(OpenError::io("write", &path))?;
        Ok(Lock { _file: file })
    }
}

impl Lock {
    /// The same, but waits a moment: after a crash, a server that starts holds the lock while it repairs the catalog, and
    /// a sync that starts with it must not fail for that.
    fn take_soon(layout: &Layout) -> Result<Lock, OpenError> {
        const STEP: Duration = Duration::from_millis(50);
        let mut left = MOMENT;
        loop {
            match Lock::take(layout) {
                Err(OpenError::Locked { .. }) if !left.is_zero() => {
                    std::thread::sleep(STEP);
                    left = left.saturating_sub(STEP);
                }
                taken => return taken,
            }
        }
    }
}

/// How long a writer waits for the lock.
const MOMENT: Duration = Duration::from_secs(1);

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

/// A mirror, open for writing.
#[derive(Debug)]
pub struct Mirror {
    layout: Layout,
    limits: StoreLimits,
    disk: Arc<dyn Disk>,
    ledger: Arc<Ledger>,
    catalog: Catalog,
    packs: PackReader,
    _lock: Lock,
}

impl Mirror {
    /// Makes a mirror in a folder that is new, empty, or left by a creation that was interrupted. `id` is 32
    /// hexadecimal digits that no other mirror has.
    pub fn create(root: &Path, id: &str, config: &str, limits: StoreLimits) -> Result<Mirror, OpenError> {
        let layout = Layout::new(root);
        check_empty(&layout)?;
        for folder in std::iter::once(root.to_owned()).chain(layout.folders()) {
            std::fs::create_dir_all(&folder).map_err(OpenError::io("make", &folder))?;
        }
        let lock = Lock::take(&layout)?;
        check_empty(&layout)?; // another process may have made it meanwhile
        remove_if_there(&layout.ledger())?;
        let identification = Identification { mirror: id.to_owned(), epoch: 0 };
        drop(Ledger::create(&SystemDisk, &layout.ledger(), limits.ledger_cache, &identification)?);
        let catalog = Catalog::create(&SystemDisk, &layout.catalog(), limits.catalog_cache)?;
        drop(catalog);
        // The configuration is what makes the folder a mirror, so it comes last and whole.
        write_durably(&layout.config(), config.as_bytes())?;
        sync_parent(root)?;
        let mirror = Self::open_locked(layout, limits, Arc::new(SystemDisk), lock)?;
        mirror.refresh_catalog()?;
        Ok(mirror)
    }

    /// Whether [`Mirror::create`] would take this folder.
    pub fn check_new(root: &Path) -> Result<(), OpenError> {
        check_empty(&Layout::new(root))
    }

    /// Checks that a folder is a mirror of a format that this program knows, whatever state it is in.
    pub fn check_there(root: &Path) -> Result<(), OpenError> {
        check_format(&Layout::new(root))
    }

    /// Opens a mirror for writing.
    pub fn open(root: &Path, limits: StoreLimits, disk: Arc<dyn Disk>) -> Result<Mirror, OpenError> {
        let layout = Layout::new(root);
        check_format(&layout)?;
        let lock = Lock::take_soon(&layout)?;
        Self::open_locked(layout, limits, disk, lock)
    }

    /// Opens a mirror whose ledger was made again. Its catalog is derived from that, whatever catalog is there; readers have the one or the
    /// other.
    pub(crate) fn open_rebuilt(
        layout: Layout,
        limits: StoreLimits,
        disk: Arc<dyn Disk>,
        lock: Lock,
    ) -> Result<Mirror, OpenError> {
        let derived = |disk: &dyn Disk, layout: &Layout, limits: &StoreLimits, ledger: &Ledger, packs: &PackReader| {
            derive_catalog(disk, layout, limits, &ledger.reader()?, packs)
        };
        Self::open_with(layout, limits, disk, lock, derived)
    }

    fn open_locked(layout: Layout, limits: StoreLimits, disk: Arc<dyn Disk>, lock: Lock) -> Result<Mirror, OpenError> {
        Self::open_with(layout, limits, disk, lock, open_catalog)
    }

    fn open_with(
        layout: Layout,
        limits: StoreLimits,
        disk: Arc<dyn Disk>,
        lock: Lock,
        catalog: impl FnOnce(&dyn Disk, &Layout, &StoreLimits, &Ledger, &PackReader) -> Result<Catalog, OpenError>,
    ) -> Result<Mirror, OpenError> {
        require_file(&layout, &layout.ledger(), "the ledger is lost")?;
        empty_folder(&layout.tmp())?;
        drop(Reading::begin(&layout)); // readers who may write nothing find the file then
        let ledger = Arc::new(Ledger::open(disk.as_ref(), &layout.ledger(), limits.ledger_cache)?);
        check_mirror(&layout, &ledger.reader()?.mirror()?)?;
        Adoption { layout: &layout, limits: &limits, disk: disk.as_ref(), ledger: &ledger }.run()?;
        let packs = PackReader::new(disk.clone(), layout.clone(), limits.index_file_bytes);
        let catalog = catalog(disk.as_ref(), &layout, &limits, &ledger, &packs)?;
        Ok(Mirror { layout, limits, disk, ledger, catalog, packs, _lock: lock })
    }

    /// Starts the writer. There must be only one at a time.
    pub fn writer(&self) -> Result<Writer, OpenError> {
        let reader = self.ledger.reader()?;
        let (open_pack, next_pack) = open_pack(&self.layout, &reader.packs()?)?;
        let start = Start {
            disk: self.disk.clone(),
            layout: self.layout.clone(),
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            mirror: reader.mirror()?,
            chain: reader.chain()?,
            open_pack,
            next_pack,
        };
        Writer::start(start).map_err(OpenError::io("open the last pack of", self.layout.root()))
    }

    /// All that is known.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// The bytes.
    pub fn packs(&self) -> &PackReader {
        &self.packs
    }

    /// The paths.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The limits it was opened with.
    pub fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    /// The folder for large bodies.
    pub fn spool(&self) -> Spool {
        Spool::new(&self.layout.tmp())
    }

    /// Lets readers see what the ledger knows now.
    pub fn refresh_catalog(&self) -> Result<(), LedgerError> {
        self.catalog.follow(&self.ledger.reader()?, &self.packs)
    }

    /// The disk that its packs lie on.
    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Waits until nobody reads any more what the catalog named before its last commit; false if somebody does for too long.
    pub(crate) fn wait_for_earlier_readers<E: From<io::Error> + From<LedgerError>>(
        &self,
        patience: Duration,
    ) -> Result<bool, E> {
        reading::wait_for_earlier(&self.layout, patience, || Ok(self.catalog.touch()?))
    }
}

/// Opens the catalog for writing; one that is lost or damaged is derived from the ledger.
fn open_catalog(
    disk: &dyn Disk,
    layout: &Layout,
    limits: &StoreLimits,
    ledger: &Ledger,
    packs: &PackReader,
) -> Result<Catalog, OpenError> {
    let path = layout.catalog();
    let reader = ledger.reader()?;
    if path.exists() {
        match Catalog::open_following(disk, &path, limits.catalog_cache, &reader, packs) {
            Ok(catalog) => return Ok(catalog),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the catalog is derived again"),
        }
    }
    derive_catalog(disk, layout, limits, &reader, packs)
}

/// Derives the catalog from the ledger. It gets its name when it is whole, so that no reader sees a part of it.
fn derive_catalog(
    disk: &dyn Disk,
    layout: &Layout,
    limits: &StoreLimits,
    ledger: &LedgerReader,
    packs: &PackReader,
) -> Result<Catalog, OpenError> {
    let (part, path) = (layout.tmp().join("catalog.redb"), layout.catalog());
    let catalog = Catalog::create(disk, &part, limits.catalog_cache)?;
    catalog.follow(ledger, packs)?;
    disk.rename(&part, &path).map_err(OpenError::io("rename", &part))?;
    disk.sync_folder(layout.root()).map_err(OpenError::io("sync", layout.root()))?;
    Ok(catalog)
}

fn check_empty(layout: &Layout) -> Result<(), OpenError> {
    let root = layout.root();
    match std::fs::metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(OpenError::io("look at", root)(source)),
        Ok(metadata) if !metadata.is_dir() => return Err(OpenError::NotAFolder(root.to_owned())),
        Ok(_) => {}
    }
    if layout.config().exists() {
        return Err(OpenError::Exists(root.to_owned()));
    }
    let ours = [
        "lock",
        "ledger.redb",
        "catalog.redb",
        "crateferry.part",
        "packs",
        "quarantine",
        "tmp",
        "log",
        "upstream",
        "incoming",
        "outgoing",
        "keys",
        "reading",
        "lost+found",
    ];
    for entry in std::fs::read_dir(root).map_err(OpenError::io("list", root))? {
        let name = entry.map_err(OpenError::io("list", root))?.file_name();
        if !ours.iter().any(|known| *known == name) {
            return Err(OpenError::NotEmpty(root.to_owned()));
        }
    }
    let packs = layout.packs();
    if packs.exists() && !layout.list_packs().map_err(OpenError::io("list", &packs))?.is_empty() {
        let problem = "there are packs, but the configuration is lost".to_owned();
        return Err(OpenError::Damaged { path: root.to_owned(), problem });
    }
    Ok(())
}

pub(crate) fn check_format(layout: &Layout) -> Result<(), OpenError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let (root, path) = (layout.root(), layout.config());
    if root.exists() && !root.is_dir() {
        return Err(OpenError::NotAFolder(root.to_owned()));
    }
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(no_config(layout)),
        other => other.map_err(OpenError::io("read", &path))?,
    };
    let format: Format =
        toml::from_str(&text).map_err(|source| OpenError::Config { path: path.clone(), source: Box::new(source) })?;
    if format.format > MIRROR_FORMAT {
        return Err(OpenError::Newer { path: root.to_owned(), found: format.format });
    }
    Ok(())
}

/// A ledger that belongs to another mirror must not decide what is cut from this one's packs.
pub(crate) fn check_mirror(layout: &Layout, ledger: &str) -> Result<(), OpenError> {
    #[derive(Deserialize)]
    struct Named {
        mirror: Option<String>,
    }
    let path = layout.config();
    let text = std::fs::read_to_string(&path).map_err(OpenError::io("read", &path))?;
    let named: Named =
        toml::from_str(&text).map_err(|source| OpenError::Config { path: path.clone(), source: Box::new(source) })?;
    match named.mirror {
        Some(mirror) if mirror != ledger => {
            let problem = format!("the ledger belongs to mirror {ledger}, the configuration to {mirror}");
            Err(OpenError::Damaged { path: layout.root().to_owned(), problem })
        }
        _ => Ok(()),
    }
}

fn no_config(layout: &Layout) -> OpenError {
    let path = layout.root().to_owned();
    match layout.list_packs() {
        Ok(packs) if !packs.is_empty() => {
            OpenError::Damaged { path, problem: "there are packs, but the configuration is lost".into() }
        }
        _ => OpenError::Missing(path),
    }
}

fn require_file(layout: &Layout, file: &Path, problem: &str) -> Result<(), OpenError> {
    if std::fs::metadata(file).is_ok_and(|metadata| metadata.len() > 0) {
        return Ok(());
    }
    Err(OpenError::Damaged { path: layout.root().to_owned(), problem: problem.to_owned() })
}

pub(crate) fn remove_if_there(path: &Path) -> Result<(), OpenError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(OpenError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn empty_folder(path: &Path) -> Result<(), OpenError> {
    std::fs::create_dir_all(path).map_err(OpenError::io("make", path))?;
    let is_link = std::fs::symlink_metadata(path).map_err(OpenError::io("look at", path))?.is_symlink();
    if is_link {
        return Err(OpenError::io("empty", path)(io::Error::other("it is a link, which is not followed")));
    }
    for entry in std::fs::read_dir(path).map_err(OpenError::io("list", path))? {
        let entry = entry.map_err(OpenError::io("list", path))?;
        let is_folder = entry.file_type().map_err(OpenError::io("look at", path))?.is_dir();
        let entry = entry.path();
        let removed = if is_folder { std::fs::remove_dir_all(&entry) } else { std::fs::remove_file(&entry) };
        removed.map_err(OpenError::io("remove", &entry))?;
    }
    Ok(())
}

/// Writes a file so that it is there whole or not at all.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), OpenError> {
    let part = path.with_extension("part");
    let write = || -> io::Result<()> {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, path)?;
        crate::os::sync_folder(path.parent().expect("files of a mirror lie in its folder"))
    };
    write().map_err(OpenError::io("write", path))
}

/// Makes the name of a folder durable.
fn sync_parent(folder: &Path) -> Result<(), OpenError> {
    let whole = std::path::absolute(folder).map_err(OpenError::io("find", folder))?;
    let parent = whole.parent().unwrap_or(&whole);
    crate::os::sync_folder(parent).map_err(OpenError::io("sync", parent))
}

/// Which pack is open and where it ends, and the number of the next one.
fn open_pack(layout: &Layout, known: &[(u32, u64, bool)]) -> Result<(Option<(u32, u64)>, u32), OpenError> {
    let packs = layout.list_packs().map_err(OpenError::io("list", &layout.packs()))?;
    let next = packs.iter().map(|pack| pack.0).chain(known.iter().map(|pack| pack.0)).max().unwrap_or(0) + 1;
    let open = packs.iter().rfind(|(_, sealed)| !sealed).map(|(number, _)| {
        let length = known.iter().find(|pack| pack.0 == *number).map_or(0, |pack| pack.1);
        (*number, length)
    });
    Ok((open, next))
}

/// How a pack ends, in words.
pub(crate) fn describe_tail(tail: &Tail) -> Option<String> {
    match tail {
        Tail::Torn(error) => Some(error.to_string()),
        Tail::Clean | Tail::Sealed { .. } => None,
    }
}

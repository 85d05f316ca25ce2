//! Making and opening a mirror.
//!
//! A mirror is made by [`Mirror::create`] and by nothing else; every other door opens what exists and treats what is
//! missing as damage. Opening for writing takes the kernel lock, empties `tmp/`, and adopts the whole groups that lie
//! behind what the ledger knows: the packs are the log, the ledger follows them.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::body::Spool;
use crate::disk::{Disk, DiskFile, SystemDisk};
use crate::layout::Layout;
use crate::ledger::{Applied, Catalog, CatalogReader, Chain, Identification, Ledger, LedgerError};
use crate::limits::StoreLimits;
use crate::pack::{Group, PackReader, Scan, ScanError, Tail, last_record, prove_members};
use crate::writer::{Start, Writer};

/// The format of the folder that this program makes, and the newest that it opens.
pub const MIRROR_FORMAT: u32 = 1;

/// A mirror that cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is nothing.
    #[error("there is no mirror in {}; `crateferry init` or `crateferry sync` makes one", .0.display())]
    Missing(PathBuf),
    /// It is a file.
    #[error("{} is not a folder", .0.display())]
    NotAFolder(PathBuf),
    /// It holds something else.
    #[error("{} is not a mirror and not empty; name an empty or new folder", .0.display())]
    NotEmpty(PathBuf),
    /// There is a mirror already.
    #[error("there is a mirror in {} already", .0.display())]
    Exists(PathBuf),
    /// A newer program made it.
    #[error("{} has format {found}, this program knows formats up to {MIRROR_FORMAT}; use a newer crateferry", path.display())]
    Newer {
        /// The mirror.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Its configuration does not say which format it has.
    #[error("cannot read the format from {}", path.display())]
    Config {
        /// The configuration.
        path: PathBuf,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// Another process writes.
    #[error("{} is locked by {}", path.display(), holder(*.pid))]
    Locked {
        /// The mirror.
        path: PathBuf,
        /// Its process id, if it could be read.
        pid: Option<u32>,
    },
    /// A part of the mirror is lost or damaged.
    #[error("{}: {problem}; `crateferry rebuild {}` makes its databases again from the packs", path.display(), path.display())]
    Damaged {
        /// The mirror.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file system refused.
    #[error("cannot {step} {}", path.display())]
    Io {
        /// What was tried.
        step: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A database could not be opened or read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or("another process".into(), |pid| format!("process {pid}"))
}

impl OpenError {
    fn io<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| OpenError::Io { step, path: path.to_owned(), source }
    }
}

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
        drop(Ledger::create(&layout.ledger(), limits.ledger_cache, &identification)?);
        let catalog = Catalog::create(&layout.catalog(), limits.catalog_cache)?;
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

    /// Opens a mirror for writing.
    pub fn open(root: &Path, limits: StoreLimits, disk: Arc<dyn Disk>) -> Result<Mirror, OpenError> {
        let layout = Layout::new(root);
        check_format(&layout)?;
        let lock = Lock::take(&layout)?;
        Self::open_locked(layout, limits, disk, lock)
    }

    fn open_locked(layout: Layout, limits: StoreLimits, disk: Arc<dyn Disk>, lock: Lock) -> Result<Mirror, OpenError> {
        require_file(&layout, &layout.ledger(), "the ledger is lost")?;
        empty_folder(&layout.tmp())?;
        let ledger = Arc::new(Ledger::open(&layout.ledger(), limits.ledger_cache)?);
        check_mirror(&layout, &ledger.reader()?.mirror()?)?;
        Adoption { layout: &layout, limits: &limits, disk: disk.as_ref(), ledger: &ledger }.run()?;
        let catalog = open_catalog(&layout, &limits, &ledger)?;
        let packs = PackReader::new(disk.clone(), layout.clone(), limits.index_file_bytes);
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
        self.catalog.follow(&self.ledger.reader()?)
    }
}

impl MirrorReader {
    /// Opens a mirror for reading.
    pub fn open(root: &Path, limits: StoreLimits) -> Result<MirrorReader, OpenError> {
        let layout = Layout::new(root);
        check_format(&layout)?;
        require_file(&layout, &layout.catalog(), "the catalog is lost")?;
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let catalog = read_catalog(&layout, &limits)?;
        let packs = PackReader::new(disk.clone(), layout.clone(), limits.index_file_bytes);
        Ok(MirrorReader { catalog, packs, layout, disk, limits })
    }
}

/// Opens the catalog for reading. A writer that was killed may have left it in need of a repair, which takes a moment
/// of being the writer.
fn read_catalog(layout: &Layout, limits: &StoreLimits) -> Result<CatalogReader, OpenError> {
    let first = match CatalogReader::open(&layout.catalog(), limits.catalog_cache) {
        Ok(reader) => return Ok(reader),
        Err(error) => error,
    };
    match Lock::take(layout) {
        Ok(_lock) => drop(Catalog::open(&layout.catalog(), limits.catalog_cache)?),
        Err(_) => return Err(first.into()),
    }
    Ok(CatalogReader::open(&layout.catalog(), limits.catalog_cache)?)
}

/// Opens the catalog for writing; one that is lost or damaged is derived from the ledger.
fn open_catalog(layout: &Layout, limits: &StoreLimits, ledger: &Ledger) -> Result<Catalog, LedgerError> {
    let path = layout.catalog();
    let reader = ledger.reader()?;
    if path.exists() {
        match Catalog::open(&path, limits.catalog_cache).and_then(|catalog| catalog.follow(&reader).map(|()| catalog)) {
            Ok(catalog) => return Ok(catalog),
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "the catalog is derived again"),
        }
    }
    let catalog = Catalog::create(&path, limits.catalog_cache)?;
    catalog.follow(&reader)?;
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
fn check_mirror(layout: &Layout, ledger: &str) -> Result<(), OpenError> {
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

fn remove_if_there(path: &Path) -> Result<(), OpenError> {
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

/// Brings the ledger to where the packs are.
struct Adoption<'a> {
    layout: &'a Layout,
    limits: &'a StoreLimits,
    disk: &'a dyn Disk,
    ledger: &'a Ledger,
}

impl Adoption<'_> {
    fn run(&self) -> Result<(), OpenError> {
        let known = self.ledger.reader()?.packs()?;
        let present = self.layout.list_packs().map_err(OpenError::io("list", &self.layout.packs()))?;
        for (number, length, _) in &known {
            let Some((_, sealed)) = present.iter().find(|pack| pack.0 == *number) else {
                return Err(self.damaged(format!("pack {number} is lost")));
            };
            self.check_length(*number, *sealed, *length)?;
        }
        for (number, sealed) in present {
            let (length, noted) =
                known.iter().find(|pack| pack.0 == number).map_or((0, false), |pack| (pack.1, pack.2));
            if !noted {
                self.make_durable(number, sealed, length)?;
                self.adopt(number, sealed, length)?;
            }
        }
        Ok(())
    }

    /// What is adopted must be durable before the ledger names it. Whoever wrote it may have been killed before its sync,
    /// and after a sync that failed the kernel takes the pages for clean: so the bytes are written once more, as they are
    /// read, and synced then. A sealed pack was synced before it was renamed.
    fn make_durable(&self, number: u32, sealed: bool, from: u64) -> Result<(), OpenError> {
        let path = self.layout.pack(number, sealed);
        if !sealed {
            let file = self.disk.open(&path).map_err(OpenError::io("open", &path))?;
            write_again(file.as_ref(), from).map_err(OpenError::io("make durable", &path))?;
        }
        let folder = self.layout.packs();
        self.disk.sync_folder(&folder).map_err(OpenError::io("sync", &folder))
    }

    fn check_length(&self, number: u32, sealed: bool, durable: u64) -> Result<(), OpenError> {
        let path = self.layout.pack(number, sealed);
        let length = std::fs::metadata(&path).map_err(OpenError::io("look at", &path))?.len();
        if length >= durable {
            return Ok(());
        }
        Err(self.damaged(format!("pack {number} has {length} bytes, should have at least {durable}")))
    }

    /// Applies the whole groups behind what the ledger knows of a pack.
    fn adopt(&self, number: u32, sealed: bool, from: u64) -> Result<(), OpenError> {
        let path = self.layout.pack(number, sealed);
        let file = self.disk.open_read(&path).map_err(OpenError::io("open", &path))?;
        let length = file.length().map_err(OpenError::io("look at", &path))?;
        let mut scan = Scan::new(file.as_ref(), from, length, self.limits.record_bytes);
        let reader = self.ledger.reader()?;
        let (mut chain, mirror) = (reader.chain()?, reader.mirror()?);
        drop(reader);
        let mut stopped = None;
        loop {
            let end = scan.position();
            match next_proven(&mut scan, file.as_ref(), &chain, &mirror) {
                Ok(Some(group)) => chain = self.apply(&group)?,
                Ok(None) => break,
                Err(torn) => {
                    stopped = Some((end, torn));
                    break;
                }
            }
        }
        match stopped {
            Some((end, torn)) if sealed => {
                Err(self.damaged(format!("sealed pack {number} is damaged at offset {end}: {torn}")))
            }
            Some((end, torn)) => {
                self.check_cut(file.as_ref(), number, (end, length), &torn, &chain)?;
                tracing::info!(pack = number, cut = length - end, why = %torn, "cut the torn tail of the open pack");
                Ok(())
            }
            None if sealed => Ok(self.ledger.seal_pack(number)?),
            None => Ok(()),
        }
    }

    /// A tail may be cut only if nothing that was acknowledged can lie in it. When a process is killed or the power fails,
    /// only a few groups are not yet durable; whatever lies further behind a damaged place was acknowledged once.
    fn check_cut(
        &self,
        file: &dyn DiskFile,
        number: u32,
        (end, length): (u64, u64),
        torn: &TornGroup,
        chain: &Chain,
    ) -> Result<(), OpenError> {
        let path = self.layout.open_pack(number);
        let last = last_record(file, end, length).map_err(OpenError::io("read", &path))?;
        let foreign = matches!(torn, TornGroup::Foreign(_) | TornGroup::Unchained(_));
        if !foreign && last.is_none_or(|last| last <= chain.sequence + UNACKNOWLEDGED) {
            return Ok(());
        }
        Err(self.damaged(format!("pack {number} is damaged at offset {end}, before whole records: {torn}")))
    }

    fn apply(&self, group: &Group) -> Result<Chain, OpenError> {
        self.ledger.apply(&[Applied { record: &group.record, digest: group.digest, end: group.end }])?;
        let header = &group.record.header;
        Ok(Chain { sequence: header.sequence, digest: group.digest, epoch: header.epoch })
    }

    fn damaged(&self, problem: String) -> OpenError {
        OpenError::Damaged { path: self.layout.root().to_owned(), problem }
    }
}

/// Writes the bytes from `from` on where they are, and syncs them.
fn write_again(file: &dyn DiskFile, from: u64) -> io::Result<()> {
    let length = file.length()?;
    if from >= length {
        return Ok(());
    }
    let mut buffer = vec![0; 1 << 20];
    let mut at = from;
    while at < length {
        let want = buffer.len().min(usize::try_from(length - at).unwrap_or(usize::MAX));
        file.read_exact_at(&mut buffer[..want], at)?;
        file.write_all_at(&buffer[..want], at)?;
        at += want as u64;
    }
    file.sync()
}

/// Groups that a writer may have written and not yet made durable: one at the syncer, one before it, one being handed over.
pub(crate) const UNACKNOWLEDGED: u64 = 3;

/// The next group, if it is whole, follows the chain, and its members are what its record says.
fn next_proven(
    scan: &mut Scan<'_>,
    file: &dyn DiskFile,
    chain: &Chain,
    mirror: &str,
) -> Result<Option<Group>, TornGroup> {
    let Some(group) = scan.next_group()? else { return Ok(None) };
    if group.record.header.mirror != mirror {
        return Err(TornGroup::Foreign(group.record.header.mirror));
    }
    if group.record.header.previous != chain.digest {
        return Err(TornGroup::Unchained(group.record.header.sequence));
    }
    prove_members(file, &group.record.members)?;
    Ok(Some(group))
}

/// Why a group behind the durable length is not adopted.
#[derive(Debug, thiserror::Error)]
enum TornGroup {
    #[error(transparent)]
    Scan(#[from] ScanError),
    #[error("it holds records of mirror {0}")]
    Foreign(String),
    #[error("record {0} does not follow the last one that the ledger knows")]
    Unchained(u64),
}

/// How a pack ends, in words.
pub(crate) fn describe_tail(tail: &Tail) -> Option<String> {
    match tail {
        Tail::Torn(error) => Some(error.to_string()),
        Tail::Clean | Tail::Sealed { .. } => None,
    }
}

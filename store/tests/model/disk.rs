//! A disk that loses power at an exact call, for packs and databases alike.
//!
//! It writes to a real folder at once, so that whoever looks sees what a running system would show, and remembers how to take
//! back each write, length and name that no sync has covered. When power is lost nothing more gets through, and of what was
//! not durable all, nothing, some or parts stay.
//!
//! Power is not lost between two changes of a database's contents, whose order redb leaves to chance, but at the sync behind
//! them: any of them may be lost there, so nothing is left out, and the same seed loses the same of what lies at one place.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crateferry_store::{Disk, DiskFile, SystemDisk};

/// What is written at once or not at all.
const SECTOR: usize = 512;

/// What becomes of that which was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It is all there: the process was killed, not the machine. It is not durable yet.
    Killed,
    /// It is gone.
    Dropped,
    /// Any of the writes are there, whatever their order was.
    Reordered,
    /// Any sectors of any of the writes are there.
    Torn,
}

/// A change of a file's contents that no sync has covered.
#[derive(Debug)]
enum Change {
    Write { offset: u64, before: Vec<u8>, length: u64, after: Vec<u8> },
    Length { before: u64, after: u64, cut: Vec<u8> },
}

impl Change {
    fn place(&self) -> u64 {
        match self {
            Change::Write { offset, .. } => *offset,
            Change::Length { .. } => u64::MAX,
        }
    }
}

/// A change of names that no sync of a folder has covered.
#[derive(Debug)]
enum Naming {
    Made {
        file: u64,
        path: PathBuf,
    },
    /// `over` is the file that had the name before.
    Moved {
        file: u64,
        from: PathBuf,
        to: PathBuf,
        over: Option<u64>,
    },
    Removed {
        file: u64,
        path: PathBuf,
    },
}

impl Naming {
    fn file(&self) -> u64 {
        let (Naming::Made { file, .. } | Naming::Moved { file, .. } | Naming::Removed { file, .. }) = self;
        *file
    }

    /// The path that it is about.
    fn path(&self) -> &Path {
        let (Naming::Made { path, .. } | Naming::Moved { to: path, .. } | Naming::Removed { path, .. }) = self;
        path
    }
}

#[derive(Debug, Default)]
struct State {
    /// Where files lie; those that were removed lie aside, as long as that may come to nothing.
    places: HashMap<u64, PathBuf>,
    files: u64,
    contents: BTreeMap<u64, Vec<Change>>,
    names: Vec<Naming>,
    /// Calls that change something, since power came back.
    calls: u64,
    /// The call at which power is lost.
    last_call: Option<u64>,
    has_no_power: bool,
    /// Syncs of packs wait.
    is_held: bool,
    /// What was called, in order.
    log: Vec<String>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    aside: PathBuf,
    state: Mutex<State>,
    let_go: Condvar,
}

/// The disk; clones are the same one.
#[derive(Clone, Debug)]
pub struct PowerDisk(Arc<Inner>);

impl PowerDisk {
    /// A disk for the mirror in `root`. What may have to come back is kept in `aside`, on the same file system.
    pub fn new(root: &Path, aside: &Path) -> PowerDisk {
        let (root, aside) = (root.to_owned(), aside.to_owned());
        PowerDisk(Arc::new(Inner { root, aside, state: Mutex::default(), let_go: Condvar::new() }))
    }

    /// Loses power at the call with this number, counted from now on from 1.
    pub fn lose_power_at(&self, call: u64) {
        let mut state = self.state();
        state.last_call = Some(state.calls + call);
    }

    /// Loses power now.
    pub fn lose_power(&self) {
        self.state().has_no_power = true;
        self.0.let_go.notify_all();
    }

    /// Whether nothing gets through any more.
    pub fn has_no_power(&self) -> bool {
        self.state().has_no_power
    }

    /// Whether power will be lost at a later call.
    pub fn will_lose_power(&self) -> bool {
        let state = self.state();
        state.last_call.is_some() && !state.has_no_power
    }

    /// No power will be lost any more.
    pub fn come_to_rest(&self) {
        self.state().last_call = None;
    }

    /// Lets syncs of packs wait, or go on.
    pub fn hold_syncs(&self, is_held: bool) {
        self.state().is_held = is_held;
        self.0.let_go.notify_all();
    }

    /// What was called since the beginning, but for changes of what is in databases.
    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    /// Brings power back; the folder is then as it may be after such a loss. The same seed loses the same. Nobody may have a
    /// file open.
    pub fn come_back(&self, loss: Loss, seed: u64) {
        let mut state = self.state();
        (state.has_no_power, state.is_held, state.last_call) = (false, false, None);
        if loss == Loss::Killed {
            return;
        }
        for (file, changes) in std::mem::take(&mut state.contents) {
            if let Some(path) = state.places.get(&file).filter(|path| path.exists()) {
                lose_contents(path, &changes, loss, seed ^ file.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            }
        }
        let kept = match loss {
            Loss::Dropped => 0,
            _ => Choice(seed).up_to(state.names.len() as u64 + 1) as usize,
        };
        let lost = state.names.split_off(kept);
        for naming in lost.into_iter().rev() {
            take_back(naming, &mut state.places);
        }
        // What is left of them has now reached the disk.
        state.names.clear();
        state.places.retain(|_, path| !path.starts_with(&self.0.aside));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// The state, once syncs go on, if they are held.
    fn when_let_go(&self, is_sync_of_packs: bool) -> MutexGuard<'_, State> {
        let waits = |state: &mut State| is_sync_of_packs && state.is_held && !state.has_no_power;
        self.0.let_go.wait_while(self.state(), waits).unwrap()
    }

    /// Counts a call that changes something, but no change of what is in a database. Says whether power goes at it; what it
    /// was to change then may still be changed, but not durably.
    fn call(&self, state: &mut State, what: &str, path: &Path) -> io::Result<bool> {
        if state.has_no_power {
            return Err(no_power());
        }
        let is_free = (what.starts_with("write") || what.starts_with("set length")) && is_database(path);
        if is_free {
            return Ok(false);
        }
        state.calls += 1;
        let name = path.strip_prefix(&self.0.root).unwrap_or(path);
        state.log.push(format!("{what} {}", name.display()));
        state.has_no_power = state.last_call == Some(state.calls);
        Ok(state.has_no_power)
    }

    fn file(&self, file: u64, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(PowerFile { disk: self.clone(), file, inner })
    }

    fn aside(&self, file: u64) -> PathBuf {
        self.0.aside.join(file.to_string())
    }
}

impl State {
    fn file_at(&mut self, path: &Path) -> u64 {
        let known = self.places.iter().find(|(_, place)| *place == path).map(|(file, _)| *file);
        known.unwrap_or_else(|| self.new_file(path))
    }

    fn new_file(&mut self, path: &Path) -> u64 {
        // The store empties `tmp` without asking.
        self.places.retain(|_, place| place != path);
        self.files += 1;
        self.places.insert(self.files, path.to_owned());
        self.files
    }
}

fn is_database(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "redb" || extension == "new")
}

fn no_power() -> io::Error {
    io::Error::other("there is no power")
}

fn answer(lost: bool) -> io::Result<()> {
    if lost { Err(no_power()) } else { Ok(()) }
}

fn take_back(naming: Naming, places: &mut HashMap<u64, PathBuf>) {
    let back = |places: &mut HashMap<u64, PathBuf>, file: u64, path: PathBuf| {
        if let Some(now) = places.get(&file)
            && std::fs::rename(now, &path).is_ok()
        {
            places.insert(file, path);
        }
    };
    match naming {
        Naming::Made { file, path } => {
            drop(std::fs::remove_file(path));
            places.remove(&file);
        }
        Naming::Moved { file, from, to, over } => {
            back(places, file, from);
            over.into_iter().for_each(|over| back(places, over, to.clone()));
        }
        Naming::Removed { file, path } => back(places, file, path),
    }
}

/// Random enough, and the same for the same seed.
struct Choice(u64);

impl Choice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn up_to(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn lose_contents(path: &Path, changes: &[Change], loss: Loss, seed: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    for change in changes.iter().rev() {
        match change {
            Change::Write { offset, before, length, .. } => {
                bytes[*offset as usize..][..before.len()].copy_from_slice(before);
                bytes.truncate(*length as usize);
            }
            Change::Length { before, cut, .. } => {
                bytes.resize(*before as usize - cut.len(), 0);
                bytes.extend_from_slice(cut);
            }
        }
    }
    let mut times: HashMap<u64, u64> = HashMap::new();
    for change in changes.iter().filter(|_| loss != Loss::Dropped) {
        let place = change.place();
        let times = times.entry(place).or_default();
        *times += 1;
        keep_some(&mut bytes, change, loss, &mut Choice(seed ^ Choice(place).next() ^ *times));
    }
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn keep_some(bytes: &mut Vec<u8>, change: &Change, loss: Loss, choice: &mut Choice) {
    let is_kept = choice.up_to(2) == 0;
    match change {
        Change::Write { offset, after, .. } if loss == Loss::Torn => {
            let (begin, end) = (*offset as usize, *offset as usize + after.len());
            // Sectors are those of the disk, not of the write.
            let mut at = begin;
            while at < end {
                let next = ((at / SECTOR + 1) * SECTOR).min(end);
                if choice.up_to(2) == 0 {
                    put(bytes, at, &after[at - begin..next - begin]);
                }
                at = next;
            }
        }
        Change::Write { offset, after, .. } if is_kept => put(bytes, *offset as usize, after),
        Change::Length { after, .. } if is_kept => bytes.resize(*after as usize, 0),
        Change::Write { .. } | Change::Length { .. } => {}
    }
}

fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let end = at + piece.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[at..end].copy_from_slice(piece);
}

impl Disk for PowerDisk {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let lost = self.call(&mut state, "create", path)?;
        let inner = SystemDisk.create(path)?;
        let file = state.new_file(path);
        state.names.push(Naming::Made { file, path: path.to_owned() });
        answer(lost)?;
        Ok(self.file(file, inner))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let inner = SystemDisk.open(path)?;
        Ok(self.file(state.file_at(path), inner))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        SystemDisk.open_read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let lost = self.call(&mut state, "rename", from)?;
        let over = to.exists().then(|| state.file_at(to));
        if let Some(over) = over {
            std::fs::rename(to, self.aside(over))?;
            state.places.insert(over, self.aside(over));
        }
        let file = state.file_at(from);
        SystemDisk.rename(from, to)?;
        state.places.insert(file, to.to_owned());
        state.names.push(Naming::Moved { file, from: from.to_owned(), to: to.to_owned(), over });
        answer(lost)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !path.exists() {
            return SystemDisk.remove(path);
        }
        let lost = self.call(&mut state, "remove", path)?;
        let file = state.file_at(path);
        std::fs::rename(path, self.aside(file))?;
        state.places.insert(file, self.aside(file));
        state.names.push(Naming::Removed { file, path: path.to_owned() });
        answer(lost)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let mut state = self.when_let_go(path == self.0.root.join("packs"));
        let lost = self.call(&mut state, "sync folder", path)?;
        answer(lost)?;
        let is_durable = |naming: &Naming| naming.path().parent() == Some(path);
        let durable: Vec<u64> = state.names.iter().filter(|naming| is_durable(naming)).map(Naming::file).collect();
        // A file that came from another folder need not be there any more.
        state.names.retain(|naming| !durable.contains(&naming.file()));
        Ok(())
    }

    fn make_read_only(&self, path: &Path) -> io::Result<()> {
        let lost = self.call(&mut self.state(), "protect", path)?;
        answer(lost)?;
        SystemDisk.make_read_only(path)
    }

    fn make_writable(&self, path: &Path) -> io::Result<()> {
        let lost = self.call(&mut self.state(), "unprotect", path)?;
        answer(lost)?;
        SystemDisk.make_writable(path)
    }
}

#[derive(Debug)]
struct PowerFile {
    disk: PowerDisk,
    file: u64,
    inner: Arc<dyn DiskFile>,
}

impl PowerFile {
    fn path(&self, state: &State) -> PathBuf {
        state.places.get(&self.file).cloned().unwrap_or_default()
    }

    fn call<'a>(&self, mut state: MutexGuard<'a, State>, what: &str) -> io::Result<(MutexGuard<'a, State>, bool)> {
        let path = self.path(&state);
        let lost = self.disk.call(&mut state, what, &path)?;
        Ok((state, lost))
    }

    /// What a file has from an offset on, as far as it goes.
    fn there(&self, offset: u64, length: u64) -> io::Result<(Vec<u8>, u64)> {
        let end = self.inner.length()?;
        let mut bytes = vec![0; length.min(end.saturating_sub(offset)) as usize];
        self.inner.read_exact_at(&mut bytes, offset)?;
        Ok((bytes, end))
    }

    fn remember(&self, state: &mut State, change: Change) {
        state.contents.entry(self.file).or_default().push(change);
    }
}

impl DiskFile for PowerFile {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let (mut state, lost) = self.call(self.disk.state(), &format!("write {} bytes at {offset} of", bytes.len()))?;
        let (before, length) = self.there(offset, bytes.len() as u64)?;
        self.inner.write_all_at(bytes, offset)?;
        self.remember(&mut state, Change::Write { offset, before, length, after: bytes.to_vec() });
        answer(lost)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.inner.read_exact_at(buffer, offset)
    }

    fn sync(&self) -> io::Result<()> {
        let is_pack = self.path(&self.disk.state()).starts_with(self.disk.0.root.join("packs"));
        let state = self.disk.when_let_go(is_pack);
        let (mut state, lost) = self.call(state, "sync")?;
        answer(lost)?;
        state.contents.remove(&self.file);
        Ok(())
    }

    fn reserve(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_all_at(&vec![0; length as usize], offset)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let (mut state, lost) = self.call(self.disk.state(), &format!("set length {length} of"))?;
        let before = self.inner.length()?;
        let (cut, _) = self.there(length.min(before), before.saturating_sub(length))?;
        self.inner.set_length(length)?;
        self.remember(&mut state, Change::Length { before, after: length, cut });
        answer(lost)
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn same_file(&self) -> io::Result<File> {
        self.inner.same_file()
    }
}

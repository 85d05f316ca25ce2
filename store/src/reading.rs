//! Who reads what is served, so that a collection can wait for those who may still read what it takes.
//!
//! Each reader shares the kernel lock of one file for as long as it looks at one state of the catalog, and has it before it
//! looks. A collection, when the catalog no longer names what it is to take, puts a new file in that one's place: who still
//! has the lock of the old file may be reading what the catalog named before, and nobody who comes later is.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::layout::Layout;
use crate::os;

/// How often one looks whether somebody still reads.
const STEP: Duration = Duration::from_millis(50);

/// The lock of one reader; shared by all of them.
#[derive(Debug)]
pub(crate) struct Reading {
    _file: File,
}

impl Reading {
    /// Takes the lock. Where nothing may be written and no such file was ever made, there is none: whoever opens the mirror
    /// for writing makes the file.
    pub(crate) fn begin(layout: &Layout) -> Option<Reading> {
        match os::open_shared(&layout.reading()) {
            Ok(file) => Some(Reading { _file: file }),
            Err(error) => {
                tracing::debug!(%error, "reads without a lock");
                None
            }
        }
    }
}

/// Waits until nobody reads any more who began before this; false if somebody does for longer than one is patient. `show` is
/// called when there is a new file: it has to make the catalog newer, so that those who follow it come again.
pub(crate) fn wait_for_earlier<E: From<io::Error>>(
    layout: &Layout,
    patience: Duration,
    show: impl FnOnce() -> Result<(), E>,
) -> Result<bool, E> {
    let end = Instant::now() + patience;
    let (path, before, part) = (layout.reading(), layout.reading_before(), layout.reading_part());
    drop(os::open_shared(&path)?);
    // A collection that was killed may have left readers of a file before this one.
    if os::file_id(&before) != os::file_id(&path) && !wait_for(&before, end)? {
        return Ok(false);
    }
    if !before.exists() {
        std::fs::hard_link(&path, &before)?;
    }
    std::fs::write(&part, b"")?;
    std::fs::rename(&part, &path)?;
    show()?;
    Ok(wait_for(&before, end)?)
}

/// Waits until nobody has the lock of a file, and removes it.
fn wait_for(path: &Path, end: Instant) -> io::Result<bool> {
    while !is_free(path)? {
        if Instant::now() >= end {
            return Ok(false);
        }
        std::thread::sleep(STEP);
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(true),
    }
}

/// Whether nobody has the lock of a file. It is not kept.
fn is_free(path: &Path) -> io::Result<bool> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        other => other?,
    };
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_over(layout: &Layout) -> bool {
        wait_for_earlier(layout, Duration::ZERO, || io::Result::Ok(())).unwrap()
    }

    #[test]
    fn one_waits_for_those_who_read_before_and_for_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert!(is_over(&layout), "nobody reads");
        let (one, two) = (Reading::begin(&layout).unwrap(), Reading::begin(&layout).unwrap());
        let mut later = None;
        let show = || {
            later = Reading::begin(&layout);
            drop(one);
            io::Result::Ok(())
        };
        assert!(!wait_for_earlier(&layout, Duration::ZERO, show).unwrap(), "the other one still reads");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                drop((two, later));
            });
            assert!(wait_for_earlier(&layout, Duration::from_secs(20), || io::Result::Ok(())).unwrap());
        });
    }

    #[test]
    fn who_came_between_two_collections_is_waited_for_by_the_second() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let first = Reading::begin(&layout).unwrap();
        assert!(!is_over(&layout));
        let second = Reading::begin(&layout).unwrap();
        assert!(!is_over(&layout));
        drop(first);
        assert!(!is_over(&layout));
        drop(second);
        assert!(is_over(&layout));
    }

    #[test]
    fn a_collection_that_was_killed_between_its_two_steps_is_taken_up() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let reading = Reading::begin(&layout).unwrap();
        std::fs::hard_link(layout.reading(), layout.reading_before()).unwrap();
        assert!(!is_over(&layout));
        drop(reading);
        assert!(is_over(&layout));
        assert!(!layout.reading_before().exists());
    }
}

//! A log file that never grows without end, and never ends the work.
//!
//! Lines are appended whole. At its size or day the file is renamed to its name with the time behind it, and a new one
//! begins; of those renamed, the oldest go. Several processes may append to the same file, and other programs may rename
//! it (logrotate): before each line a process looks whether the file that it has open still is the one with the name, which
//! it tells by the length, and opens the new one if not. A disk that takes no more lines loses lines, which is said on
//! stderr once; the work goes on.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::cli::Rotation;

/// A file for log lines.
pub struct LogFile {
    path: PathBuf,
    rotate: Rotation,
    keep: usize,
    /// Tells what goes wrong.
    complain: fn(&str),
    open: Mutex<Open>,
}

/// The file as it is open now.
struct Open {
    file: File,
    /// The day of its lines, in days since 1970.
    day: i64,
    /// The last line could not be written to its end.
    torn: bool,
    complained: bool,
}

impl LogFile {
    /// Opens the file, and makes it if it is not there.
    pub fn open(path: &Path, rotate: Rotation, keep: usize, complain: fn(&str)) -> io::Result<LogFile> {
        // Where the process works may change what a relative path means; it does not here.
        let path = std::path::absolute(path)?;
        let open = Open::begin(&path)?;
        Ok(LogFile { path, rotate, keep, complain, open: Mutex::new(open) })
    }

    /// Appends lines.
    pub fn append(&self, text: &[u8]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that cannot give way still takes the line.
        let made_way = self.make_way(&mut open, text.len());
        if let Err(error) = open.write(text).and(made_way)
            && !std::mem::replace(&mut open.complained, true)
        {
            let path = self.path.display();
            (self.complain)(&format!(
                "the log file {path} fails: {error}; the work goes on, and log lines may be lost"
            ));
        }
    }

    /// Sees to it that there is a file, and that it is the one that should have the next so many bytes.
    fn make_way(&self, open: &mut Open, length: usize) -> io::Result<()> {
        let mut now = open.file.metadata()?;
        if !std::fs::metadata(&self.path).is_ok_and(|named| named.len() == now.len()) {
            open.again(&self.path)?;
            now = open.file.metadata()?;
        }
        if now.len() > 0 && self.is_due(&now, open.day, length) && is_plain(&self.path) {
            self.rotate(open)?;
        }
        Ok(())
    }

    fn is_due(&self, now: &Metadata, day: i64, length: usize) -> bool {
        let too_long = self.rotate.size.is_some_and(|size| now.len() + length as u64 > size);
        too_long || (self.rotate.daily && day != today())
    }

    /// Gives the file another name and begins a new one.
    fn rotate(&self, open: &mut Open) -> io::Result<()> {
        let name = self.claim()?;
        if let Err(error) = std::fs::rename(&self.path, &name) {
            std::fs::remove_file(&name)?;
            // If it is gone, another process was faster.
            return if error.kind() == io::ErrorKind::NotFound { open.again(&self.path) } else { Err(error) };
        }
        open.again(&self.path)?;
        self.prune()
    }

    /// Makes an empty file with the time in its name, or the next one behind those of all that are there: so of two processes
    /// none renames over the other's file, and the order of the names is that of the files, however fast they follow.
    fn claim(&self) -> io::Result<PathBuf> {
        let last = self.renamed()?.last().and_then(|path| time_of(path));
        let next = last.and_then(|last| last.checked_add(MOMENT).ok());
        let mut time = next.into_iter().fold(Timestamp::now(), Timestamp::max);
        loop {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{}", time.strftime(STAMP)));
            match File::create_new(&name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    time = time.checked_add(MOMENT).map_err(io::Error::other)?;
                }
                claimed => return claimed.map(|_| name.into()),
            }
        }
    }

    /// The files that gave way, the oldest first.
    fn renamed(&self) -> io::Result<Vec<PathBuf>> {
        let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(Vec::new()) };
        let prefix = format!("{}.", name.to_string_lossy());
        let mut old = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let is_old =
                entry.file_name().to_str().is_some_and(|name| name.strip_prefix(&prefix).is_some_and(is_stamp));
            if is_old {
                old.push(entry.path());
            }
        }
        old.sort();
        Ok(old)
    }

    /// Removes the oldest of the renamed files.
    fn prune(&self) -> io::Result<()> {
        let old = self.renamed()?;
        let surplus = old.len().saturating_sub(self.keep);
        for path in &old[..surplus] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Open {
    fn begin(path: &Path) -> io::Result<Open> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let metadata = file.metadata()?;
        let last = metadata.modified().ok().and_then(|time| Timestamp::try_from(time).ok());
        let day = last.filter(|_| metadata.len() > 0).map_or_else(today, day);
        Ok(Open { file, day, torn: false, complained: false })
    }

    fn again(&mut self, path: &Path) -> io::Result<()> {
        *self = Open { complained: self.complained, ..Open::begin(path)? };
        Ok(())
    }

    /// In one call, so that lines of several processes do not mix.
    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let written = self.file.write(text)?;
        if written < text.len() {
            self.torn = true;
            self.file.write_all(&text[written..])?;
            self.torn = false;
        }
        Ok(())
    }
}

/// The time in a renamed file's name: by name they are ordered by age.
const STAMP: &str = "%Y%m%dT%H%M%S.%3fZ";

/// The time in a renamed file's name.
fn time_of(path: &Path) -> Option<Timestamp> {
    let name = path.file_name()?.to_str()?;
    let stamp = name.get(name.len().checked_sub("00000000T000000.000Z".len())?..)?;
    let time = DateTime::strptime("%Y%m%dT%H%M%S%.fZ", stamp).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

/// What stamps are apart at least.
const MOMENT: Duration = Duration::from_millis(1);

fn is_stamp(text: &str) -> bool {
    let shape: String = text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    shape == "00000000T000000.000Z"
}

fn today() -> i64 {
    day(Timestamp::now())
}

fn day(time: Timestamp) -> i64 {
    time.as_second().div_euclid(24 * 60 * 60)
}

/// Whether a path is a file itself, and not a terminal, a pipe, or a link to any of them, like `/dev/stdout`.
fn is_plain(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    const BYTES: Rotation = Rotation { size: Some(30), daily: false };
    const DAILY: Rotation = Rotation { size: None, daily: true };

    fn open(path: &Path, rotate: Rotation, keep: usize) -> LogFile {
        LogFile::open(path, rotate, keep, |problem| panic!("{problem}")).unwrap()
    }

    /// The contents of all files in a folder, the oldest first; the file itself is the last.
    fn contents(folder: &Path) -> Vec<String> {
        let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort_by_key(|path| (path.ends_with("log"), path.clone()));
        paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    fn append_lines(log: &LogFile, lines: std::ops::Range<u32>) {
        for line in lines {
            log.append(format!("this is line {line:02}\n").as_bytes());
        }
    }

    #[test]
    fn a_file_gives_way_before_it_is_too_long_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("log.other"), "not a log\n").unwrap();
        let log = open(&folder.path().join("log"), BYTES, 2);
        append_lines(&log, 0..5);
        let kept = ["this is line 02\n", "this is line 03\n", "not a log\n", "this is line 04\n"];
        assert_eq!(contents(folder.path()), kept);
    }

    #[test]
    fn files_keep_their_order_when_the_clock_goes_back() {
        let folder = tempfile::tempdir().unwrap();
        let ahead = "99981231T235959.998Z";
        std::fs::write(folder.path().join(format!("log.{ahead}")), "of tomorrow\n").unwrap();
        let log = open(&folder.path().join("log"), BYTES, 3);
        append_lines(&log, 0..3);
        let kept = ["of tomorrow\n", "this is line 00\n", "this is line 01\n", "this is line 02\n"];
        assert_eq!(contents(folder.path()), kept);
    }

    #[test]
    fn a_line_longer_than_a_file_may_be_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let log = open(&folder.path().join("log"), BYTES, 2);
        log.append(&[b'a'; 100]);
        assert_eq!(contents(folder.path()), ["a".repeat(100)]);
    }

    #[test]
    fn a_file_of_another_day_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, "yesterday\n").unwrap();
        let yesterday = SystemTime::now() - Duration::from_secs(24 * 60 * 60);
        File::options().append(true).open(&path).unwrap().set_modified(yesterday).unwrap();
        let log = open(&path, DAILY, 8);
        append_lines(&log, 0..2);
        assert_eq!(contents(folder.path()), ["yesterday\n", "this is line 00\nthis is line 01\n"]);
    }

    #[test]
    fn a_file_that_others_rename_or_remove_begins_anew_without_a_signal() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let log = open(&path, Rotation { size: None, daily: false }, 8);
        log.append(b"one\n");
        std::fs::rename(&path, &moved).unwrap();
        log.append(b"two\n");
        assert_eq!(contents(folder.path()), ["one\n", "two\n"]);
        std::fs::remove_file(&moved).unwrap();
        std::fs::remove_file(&path).unwrap();
        log.append(b"three\n");
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap(); // as `copytruncate` does
        log.append(b"four\n");
        assert_eq!(contents(folder.path()), ["four\n"]);
    }

    #[test]
    fn two_that_write_the_same_file_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let logs = [open(&path, BYTES, 100), open(&path, BYTES, 100)];
        std::thread::scope(|threads| {
            threads.spawn(|| append_lines(&logs[0], 0..20));
            threads.spawn(|| append_lines(&logs[1], 20..40));
        });
        let all = contents(folder.path()).concat();
        let mut lines: Vec<&str> = all.lines().collect();
        lines.sort_unstable();
        let expected: Vec<String> = (0..40).map(|line| format!("this is line {line:02}")).collect();
        assert_eq!(lines, expected);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_of_its_own_is_never_renamed() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("log"), folder.path().join("target"));
        std::os::unix::fs::symlink(&target, &path).unwrap();
        let log = open(&path, BYTES, 2);
        append_lines(&log, 0..3);
        assert_eq!(std::fs::read_to_string(&target).unwrap().lines().count(), 3);
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_told_once_and_stops_nothing() {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COMPLAINTS: AtomicU32 = AtomicU32::new(0);
        let complain = |problem: &str| {
            assert!(problem.contains("/dev/full"), "{problem}");
            COMPLAINTS.fetch_add(1, Ordering::Relaxed);
        };
        let log = LogFile::open(Path::new("/dev/full"), BYTES, 2, complain).unwrap();
        append_lines(&log, 0..3);
        assert_eq!(COMPLAINTS.load(Ordering::Relaxed), 1);
    }
}

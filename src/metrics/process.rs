//! What the operating system counts of this process: from Linux's `/proc`, and nothing where there is none.

use std::path::Path;

/// What one process uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUse {
    /// Seconds of all cores together.
    pub cpu_seconds: f64,
    /// Bytes of its memory that are resident.
    pub resident_bytes: u64,
    /// Open files, sockets and the like.
    pub open_fds: u64,
}

/// Ticks a second in `/proc/PID/stat`: a constant of Linux's interface, whatever the kernel's own clock.
const TICKS: f64 = 100.0;

impl ProcessUse {
    /// What this process uses; none where the system does not tell it by files.
    pub fn now() -> Option<ProcessUse> {
        Self::read(Path::new("/proc/self"))
    }

    fn read(process: &Path) -> Option<ProcessUse> {
        let stat = std::fs::read_to_string(process.join("stat")).ok()?;
        let status = std::fs::read_to_string(process.join("status")).ok()?;
        Some(ProcessUse {
            cpu_seconds: cpu_seconds(&stat)?,
            resident_bytes: resident_bytes(&status)?,
            open_fds: std::fs::read_dir(process.join("fd")).ok()?.count() as u64,
        })
    }
}

/// The fields behind the process's name, which may hold anything, are separated by spaces; user and system time are the
/// 12th and 13th of them.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || times.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 500 0 0 0 123 77 0 0 20 0 1 0 5 1000 200";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(resident_bytes("Name:\ta\nVmRSS:\t    12 kB\n"), Some(12 * 1024));
    }

    #[test]
    fn this_process_uses_something_if_the_system_tells_it() {
        let Some(used) = ProcessUse::now() else { return };
        assert!(used.resident_bytes > 100_000 && used.open_fds >= 3, "{used:?}");
    }

    #[test]
    fn a_system_without_proc_tells_nothing() {
        assert_eq!(ProcessUse::read(Path::new("/nonexistent/self")), None);
    }
}

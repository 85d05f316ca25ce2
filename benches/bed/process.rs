//! Processes that end with the bench, and what they cost.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// Time between two looks at a process.
const SAMPLE: Duration = Duration::from_millis(50);
/// How long a process may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);

/// A command with a bare environment that the kernel ends when this process does, however that ends.
pub fn tethered(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program).env_clear();
    for kept in ["PATH", "HOME"] {
        command.envs(std::env::var_os(kept).map(|value| (kept, value)));
    }
    command
}

/// The program of this name in a folder of `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A child that is ended when this is dropped.
pub struct Tethered(Child);

impl Tethered {
    pub fn new(child: Child) -> Self {
        Tethered(child)
    }

    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// What it took of the CPU since it began, and the memory that is resident now, in bytes; with its own children.
    pub fn usage(&self) -> anyhow::Result<(Duration, u64)> {
        let pid = self.pid()?;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|child| child.parse().ok()).map(Pid::from_raw);
        let mut usage = (Duration::ZERO, 0);
        for pid in children.chain([pid]) {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
            usage.0 += cpu_time(pid)?;
            usage.1 += field(&status, "VmRSS:") * 1024;
        }
        Ok(usage)
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.0.id())?))
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if self.has_ended()? {
            return Ok(());
        }
        kill(self.pid()?, Signal::SIGTERM)?;
        let asked = Instant::now();
        while !self.has_ended()? {
            if asked.elapsed() > GRACE {
                self.0.kill()?;
                self.0.wait()?;
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Tethered {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("process {} was not ended: {error}", self.0.id());
        }
    }
}

/// What a process took, with the children that it waited for; memory is its own alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    pub wall: Duration,
    pub user: Duration,
    pub system: Duration,
    /// The most memory that was resident, in bytes.
    pub rss: u64,
    /// The most anonymous memory that was resident when looked at, in bytes.
    pub rss_anon: u64,
    /// The bytes that it made the disk write.
    pub written: u64,
}

impl Cost {
    pub fn cpu(&self) -> Duration {
        self.user + self.system
    }
}

/// How a run ended.
pub struct Finished {
    pub status: ExitStatus,
    pub cost: Cost,
}

/// Runs a command to its end, with its output in `log`, for at most `limit`.
pub fn measure(mut command: Command, log: &Path, limit: Duration) -> anyhow::Result<Finished> {
    let file = File::create(log).with_context(|| format!("cannot make {}", log.display()))?;
    command.stdin(std::process::Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let before = used_by_children()?;
    let start = Instant::now();
    let mut process = Tethered(command.spawn().with_context(|| format!("cannot start {command:?}"))?);
    let (ended, peaks) = watch(&process, start + limit)?;
    let status = process.0.wait()?;
    let after = used_by_children()?;
    let (user, system) = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
    Ok(Finished { status, cost: Cost { wall: ended.duration_since(start), user, system, ..peaks } })
}

/// Watches a process until it ended, but leaves it to be reaped; gives the time of its end and its peaks.
fn watch(process: &Tethered, deadline: Instant) -> anyhow::Result<(Instant, Cost)> {
    let pid = process.pid()?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let ended = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT);
        // The watcher may have given up meanwhile.
        let _ = tell.send(ended.map(|_| Instant::now()));
    });
    let mut peaks = Cost::default();
    loop {
        let heard = told.recv_timeout(SAMPLE);
        look(pid, &mut peaks);
        match heard {
            Ok(ended) => return Ok((ended?, peaks)),
            Err(RecvTimeoutError::Disconnected) => bail!("the watcher of process {pid} is gone"),
            Err(RecvTimeoutError::Timeout) if Instant::now() > deadline => bail!("process {pid} took too long"),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Raises the peaks to what `/proc` says now; an ended process says nothing of its memory.
fn look(pid: Pid, peaks: &mut Cost) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    peaks.rss = peaks.rss.max(field(&status, "VmHWM:") * 1024);
    peaks.rss_anon = peaks.rss_anon.max(field(&status, "RssAnon:") * 1024);
    peaks.written = peaks.written.max(field(&io, "write_bytes:"));
}

/// User and system time of a process, those of its threads that ended included; proc(5) has it in hundredths.
fn cpu_time(pid: Pid) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok());
    Ok(Duration::from_millis(ticks.sum::<u64>() * 10))
}

fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// User and system time of all children that were reaped so far, with theirs.
fn used_by_children() -> anyhow::Result<(Duration, Duration)> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros =
        |time: nix::sys::time::TimeVal| Duration::from_micros(u64::try_from(time.num_microseconds()).unwrap_or(0));
    Ok((micros(usage.user_time()), micros(usage.system_time())))
}

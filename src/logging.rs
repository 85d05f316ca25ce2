//! Log lines: to stderr or to a file, as text or as JSON. Progress bars step aside for them.

mod log_file;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::OnceLock;

use anyhow::Context;
use crateferry_store::Layout;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriter};

use crate::cli::{LogFormat, LoggingArgs};
use crate::config::{LogConfig, Origin, Setting, Settings};
use crate::progress::bars;
pub use log_file::LogFile;

static HAS_FILE: OnceLock<()> = OnceLock::new();

/// Whether log lines go to a file, which is then all that tells of this run later.
pub fn has_file() -> bool {
    HAS_FILE.get().is_some()
}

/// Starts logging, as the command line, the environment and the mirror's file say.
pub fn start(args: &LoggingArgs, mirror: Option<&Path>) -> anyhow::Result<()> {
    let (settings, mut warnings) = settings(mirror)?;
    let settings = settings.with(args.given());
    let log = settings.config()?.log;
    let (writer, colours) = match open(&log) {
        Ok(Some(file)) => {
            HAS_FILE.get_or_init(|| ());
            (BoxMakeWriter::new(Lines(move |text: &[u8]| file.append(text))), false)
        }
        Ok(None) => to_stderr(),
        Err(error) if is_configured(&settings) || is_full(&error) => {
            warnings.push(format!("{error:#}; log lines go to stderr"));
            to_stderr()
        }
        Err(error) => return Err(error),
    };
    begin(&log, writer, colours);
    warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    Ok(())
}

/// What the mirror's file and the environment say. A file that cannot be used is told, and left to the command: some need
/// none.
fn settings(mirror: Option<&Path>) -> anyhow::Result<(Settings, Vec<String>)> {
    let environment = Settings::of_environment()?;
    let path = mirror.map(|mirror| Layout::new(mirror).config());
    let text = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
    Ok(match path.zip(text).map(|(path, text)| Settings::read(&text, &path)) {
        Some(Ok(settings)) => (settings, Vec::new()),
        Some(Err(error)) => (environment, vec![format!("{error:#}; its section [log] is not used")]),
        None => (environment, Vec::new()),
    })
}

/// Whether the log file is that of the mirror's configuration: whoever only reads the mirror need not be able to write it.
fn is_configured(settings: &Settings) -> bool {
    let setting = Setting::find("log", "file").expect("there is this setting");
    matches!(settings.get(setting).1, [Origin::File { .. }])
}

fn is_full(error: &anyhow::Error) -> bool {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    cause.is_some_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

fn open(log: &LogConfig) -> anyhow::Result<Option<LogFile>> {
    let Some(path) = &log.file else { return Ok(None) };
    let file = LogFile::open(path, log.rotate, log.keep, say);
    file.map(Some).with_context(|| format!("cannot open the log file {}", path.display()))
}

fn begin(log: &LogConfig, writer: BoxMakeWriter, colours: bool) {
    let level = &log.level;
    let own = format!("error,crateferry={level},crateferry_pipeline={level},crateferry_store={level}");
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(own)).with_writer(writer).with_ansi(colours);
    match log.format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

fn to_stderr() -> (BoxMakeWriter, bool) {
    (BoxMakeWriter::new(Lines(beside_bars)), io::stderr().is_terminal())
}

/// Says something beside the log.
fn say(text: &str) {
    beside_bars(format!("{text}\n").as_bytes());
}

/// Writes to stderr, above the progress bars.
fn beside_bars(text: &[u8]) {
    let written = bars().suspend(|| io::stderr().write_all(text));
    drop(written); // nowhere is left to complain
}

/// Gathers what is written of a line, and hands it on whole.
struct Lines<F>(F);

impl<'a, F: Fn(&[u8]) + 'a> MakeWriter<'a> for Lines<F> {
    type Writer = Line<'a, F>;

    fn make_writer(&'a self) -> Line<'a, F> {
        Line { take: &self.0, text: Vec::new() }
    }
}

struct Line<'a, F: Fn(&[u8])> {
    take: &'a F,
    text: Vec<u8>,
}

impl<F: Fn(&[u8])> Write for Line<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: Fn(&[u8])> Drop for Line<'_, F> {
    fn drop(&mut self) {
        (self.take)(&self.text);
    }
}

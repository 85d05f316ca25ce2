//! Log lines: to stderr or to a file, as text or as JSON. Progress bars step aside for them.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use anyhow::Context;
use indicatif::MultiProgress;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::{BoxMakeWriter, MakeWriter};

use crate::cli::{LogFormat, LoggingArgs};
use crate::progress::bars;

/// Starts logging.
pub fn start(args: &LoggingArgs) -> anyhow::Result<()> {
    let (writer, colours) = match &args.log_file {
        Some(path) => {
            let file = OpenOptions::new().create(true).append(true).open(path);
            let file = file.with_context(|| format!("cannot open the log file {}", path.display()))?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
        None => (BoxMakeWriter::new(BesideBars(bars())), io::stderr().is_terminal()),
    };
    let level = args.log_level.to_string().to_lowercase();
    let own = format!("error,crateferry={level},crateferry_pipeline={level},crateferry_store={level}");
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(own)).with_writer(writer).with_ansi(colours);
    match args.log_format {
        LogFormat::Text => builder.with_target(false).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}

/// Writes log lines above the progress bars.
struct BesideBars(&'static MultiProgress);

impl<'a> MakeWriter<'a> for BesideBars {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bars: self.0, text: Vec::new() }
    }
}

struct Line {
    bars: &'static MultiProgress,
    text: Vec<u8>,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let written = self.bars.suspend(|| io::stderr().write_all(&self.text));
        drop(written); // nowhere is left to complain
    }
}

//! Where log lines go and how they look.
#![expect(clippy::doc_markdown, reason = "the comments are what --help prints")]

use std::fmt;

use clap::{Args, ValueEnum, ValueHint};
use serde::Deserialize;

use super::Rotation;

#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Logging")]
#[expect(clippy::struct_field_names, reason = "the fields are the options' names")]
pub struct LoggingArgs {
    /// How log lines look [env: CRATEFERRY_LOG_FORMAT] [default: text]
    #[arg(long, global = true, value_enum)]
    pub log_format: Option<LogFormat>,
    /// Least level that is logged: error, warn, info, debug or trace [env: CRATEFERRY_LOG_LEVEL] [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<tracing::Level>,
    /// Append log lines to a file instead of writing them to stderr [env: CRATEFERRY_LOG_FILE]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log_file: Option<String>,
    /// When the log file gives way to a new one: at a SIZE, daily, SIZE,daily or off [env: CRATEFERRY_LOG_ROTATE]
    /// [default: 64 MiB]
    #[arg(long, global = true, value_name = "WHEN")]
    pub log_rotate: Option<Rotation>,
    /// How many older log files are kept [env: CRATEFERRY_LOG_KEEP] [default: 8]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub log_keep: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

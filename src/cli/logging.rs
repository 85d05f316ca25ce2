//! Where log lines go and how they look.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
#[expect(clippy::struct_field_names, reason = "the fields are the options' names")]
pub struct LoggingArgs {
    /// How log lines look on stderr
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "CRATEFERRY_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// Least level that is logged: error, warn, info, debug or trace
    #[arg(long, global = true, default_value = "info", env = "CRATEFERRY_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: tracing::Level,
    /// Append log lines to a file instead of writing them to stderr
    #[arg(long, global = true, env = "CRATEFERRY_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

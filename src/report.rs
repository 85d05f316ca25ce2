//! How a run ends: exit codes and words.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use crateferry_pipeline::net::NetworkError;
use crateferry_pipeline::upstream::UpstreamError;
use crateferry_store::bundle::StagingError;
use crateferry_store::{AdvisoryDb, CollectError, LedgerError, OpenError, ReadError, RebuildError, RowError};
use serde::Serialize;

use crate::keys::Untrusted;

/// How a run ended, if no error ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is done.
    Complete,
    /// Finished, with unaccepted holes or something held for approval.
    Holes,
    /// Finished, but something could not be read.
    Unread,
    /// An integrity failure was found.
    Integrity,
    /// A signal ended it; the number is 128 and the signal's.
    Interrupted(u8),
}

/// A command line that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Builds a usage error.
pub fn usage(text: impl Into<String>) -> anyhow::Error {
    Usage(text.into()).into()
}

/// Ends the program: says what went wrong and returns the exit code.
pub fn end(outcome: anyhow::Result<Exit>) -> ExitCode {
    match outcome {
        Ok(Exit::Complete) => ExitCode::from(0),
        Ok(Exit::Holes) => ExitCode::from(1),
        Ok(Exit::Unread) => ExitCode::from(3),
        Ok(Exit::Integrity) => ExitCode::from(5),
        Ok(Exit::Interrupted(code)) => ExitCode::from(code),
        Err(error) => {
            let causes: Vec<String> = error.chain().skip(1).map(|cause| format!("  because {cause}\n")).collect();
            drop(write!(std::io::stderr(), "error: {error}\n{}", causes.concat()));
            ExitCode::from(error_code(&error))
        }
    }
}

fn error_code(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<Usage>() {
            return 2;
        }
        if let Some(open) = cause.downcast_ref::<OpenError>() {
            return open_code(open);
        }
        if let Some(RebuildError::Open(open)) = cause.downcast_ref() {
            return open_code(open);
        }
        if let Some(CollectError::Open(open)) = cause.downcast_ref() {
            return open_code(open);
        }
        if let Some(CollectError::Read) = cause.downcast_ref() {
            return 4;
        }
        if let Some(untrusted) = cause.downcast_ref() {
            return if matches!(untrusted, Untrusted::NothingPinned(_)) { 2 } else { 5 };
        }
        if is_damage(cause) || matches!(cause.downcast_ref(), Some(RebuildError::Damaged { .. })) {
            return 5;
        }
        if let Some(StagingError::TooSmall { .. }) = cause.downcast_ref() {
            return 2;
        }
        if let Some(UpstreamError::NoList { .. }) = cause.downcast_ref() {
            return 2;
        }
        if let Some(network) = cause.downcast_ref::<NetworkError>() {
            return if matches!(network, NetworkError::Client(_)) { 3 } else { 2 };
        }
    }
    3
}

/// Whether an error says that something held is not what was written.
fn is_damage(cause: &(dyn std::error::Error + 'static)) -> bool {
    let ledger = matches!(
        cause.downcast_ref(),
        Some(
            LedgerError::Row(_) | LedgerError::Damaged { .. } | LedgerError::Generation(_) | LedgerError::Record { .. }
        )
    );
    ledger
        || matches!(
            cause.downcast_ref(),
            Some(ReadError::Text { .. } | ReadError::Object { .. } | ReadError::Facts { .. })
        )
        || cause.is::<RowError>()
}

fn open_code(error: &OpenError) -> u8 {
    match error {
        OpenError::Locked { .. } => 4,
        OpenError::Damaged { .. } => 5,
        OpenError::Ledger(ledger) => {
            if is_damage(ledger) {
                5
            } else {
                3
            }
        }
        OpenError::Io { .. } => 3,
        _ => 2,
    }
}

/// Prints a result on stdout: for people, or as JSON.
pub fn print(json: bool, result: &(impl Serialize + Display)) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, result)?;
        writeln!(out)?;
    } else {
        write!(out, "{result}")?;
    }
    Ok(out.flush()?)
}

/// Prints a result for people on stderr, where stdout is taken.
pub fn tell(result: &impl Display) -> anyhow::Result<()> {
    Ok(write!(std::io::stderr().lock(), "{result}")?)
}

/// Prints a result on stdout as it is.
pub fn print_bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// A number of bytes for people.
pub fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().si().to_string()
}

/// A time in seconds since 1970, as RFC 3339 has it.
pub fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// An advisory database in a line.
pub fn advisories(database: &AdvisoryDb) -> String {
    let AdvisoryDb { commit, committed_at, advisories, .. } = database;
    let number = match advisories {
        1 => "1 advisory".to_owned(),
        number => format!("{} advisories", grouped(*number)),
    };
    format!("{number}, commit {:.12} of {}", commit, time(committed_at.cast_signed()))
}

/// What a policy keeps out, by rule, and when the first of that enters.
pub fn kept_out(rules: &BTreeMap<&'static str, u64>, enters: Option<i64>) -> Option<String> {
    let counted: Vec<String> =
        rules.iter().map(|(rule, releases)| format!("{} by {rule}", grouped(*releases))).collect();
    let enters = enters.map(|time| format!("the next enters {}", self::time(time)));
    let parts: Vec<String> = counted.into_iter().chain(enters).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 release`, `2 releases`
pub fn count(number: u64, thing: &str) -> String {
    let plural = match (number, thing) {
        (1, _) => "",
        (_, "index" | "wish") => "es",
        (_, "advisory") => return format!("{} advisories", grouped(number)),
        (_, "dependency") => return format!("{} dependencies", grouped(number)),
        _ => "s",
    };
    format!("{} {thing}{plural}", grouped(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_readable() {
        assert_eq!(count(1, "release"), "1 release");
        assert_eq!(count(1_234_567, "release"), "1,234,567 releases");
        assert_eq!(count(0, "hole"), "0 holes");
    }
}

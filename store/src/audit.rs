//! The audit record: one line of JSON for every object that a sync attempted.
//!
//! `log/manifest.jsonl` is only ever appended to; a part that is full gets a number and a new one begins. It is for
//! people and auditors: nothing in the mirror depends on it, and it is written behind what it tells of.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use serde::Serialize;

use crate::layout::Layout;

/// One attempted object.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRecord<'a> {
    /// The version of this record's keys: 1.
    pub schema_version: u32,
    /// What was asked.
    pub url: &'a str,
    /// Where the bytes lie: `packs/000007.tar:OFFSET`; empty if they were not stored.
    pub path: String,
    /// Bytes received.
    pub size: u64,
    /// The SHA-256 of the stored bytes, or the promised one if nothing was stored.
    pub sha256: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Whether the object is stored.
    pub ok: bool,
    /// Why not.
    pub error: Option<&'a str>,
    /// How often it was asked for again within the run.
    pub retries: u32,
    /// The last HTTP status.
    pub status: Option<u16>,
    /// The last generation at the time of the attempt.
    pub generation: u64,
}

/// The audit record could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct AuditError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// The open part of the audit record.
#[derive(Debug)]
pub struct AuditLog {
    layout: Layout,
    limit: u64,
    length: u64,
    file: BufWriter<File>,
}

impl AuditLog {
    /// Opens the audit record of a mirror for appending.
    pub fn open(layout: &Layout, limit: u64) -> Result<AuditLog, AuditError> {
        let (file, length) = open_part(layout)?;
        Ok(AuditLog { layout: layout.clone(), limit, length, file })
    }

    /// Appends a record.
    pub fn append(&mut self, record: &AuditRecord<'_>) -> Result<(), AuditError> {
        let mut line = serde_json::to_vec(record).expect("plain fields");
        line.push(b'\n');
        self.file.write_all(&line).map_err(|source| self.error("write", source))?;
        self.length += line.len() as u64;
        if self.length >= self.limit { self.rotate() } else { Ok(()) }
    }

    /// Hands what was appended to the operating system.
    pub fn flush(&mut self) -> Result<(), AuditError> {
        self.file.flush().map_err(|source| self.error("write", source))
    }

    fn rotate(&mut self) -> Result<(), AuditError> {
        self.flush()?;
        let next = (1..u32::MAX)
            .find(|&number| !self.layout.rotated_manifest(number).exists())
            .ok_or_else(|| self.error("rotate", io::ErrorKind::AlreadyExists.into()))?;
        std::fs::rename(self.layout.manifest(), self.layout.rotated_manifest(next))
            .map_err(|source| self.error("rotate", source))?;
        (self.file, self.length) = open_part(&self.layout)?;
        Ok(())
    }

    fn error(&self, step: &'static str, source: io::Error) -> AuditError {
        AuditError { step, path: self.layout.manifest(), source }
    }
}

fn open_part(layout: &Layout) -> Result<(BufWriter<File>, u64), AuditError> {
    let path = layout.manifest();
    let open = || -> io::Result<(BufWriter<File>, u64)> {
        std::fs::create_dir_all(layout.log())?;
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let length = file.metadata()?.len();
        Ok((BufWriter::new(file), length))
    };
    open().map_err(|source| AuditError { step: "open", path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(url: &str) -> AuditRecord<'_> {
        AuditRecord {
            schema_version: 1,
            url,
            path: String::new(),
            size: 0,
            sha256: String::new(),
            started_at: String::new(),
            finished_at: String::new(),
            ok: false,
            error: Some("404"),
            retries: 0,
            status: Some(404),
            generation: 0,
        }
    }

    #[test]
    fn the_audit_record_goes_on_where_it_ended_and_rotates_when_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        for _ in 0..2 {
            let mut log = AuditLog::open(&layout, 1 << 20).unwrap();
            log.append(&record("a")).unwrap();
            log.flush().unwrap();
        }
        assert_eq!(std::fs::read_to_string(layout.manifest()).unwrap().lines().count(), 2);

        let mut log = AuditLog::open(&layout, 10).unwrap();
        log.append(&record("b")).unwrap();
        assert_eq!(std::fs::read_to_string(layout.rotated_manifest(1)).unwrap().lines().count(), 3);
        assert_eq!(std::fs::metadata(layout.manifest()).unwrap().len(), 0);
    }
}

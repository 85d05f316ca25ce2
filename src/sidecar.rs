//! Sidecars: the documents that describe releases.
//!
//! A sidecar is the release's line in the index as it is, with a few members behind it. So whatever the index says, fields
//! that nobody here knows included, is in the document byte for byte.

use crateferry_store::{Facts, Release};
use serde::Serialize;

/// What a sidecar has beside the line of the index.
#[derive(Debug, Serialize)]
pub struct Beside<'a> {
    /// The version of these members.
    sidecar_version: u32,
    /// The crate file's name.
    crate_file: String,
    /// Where the crate file can be downloaded.
    crate_url: String,
    /// The path of the crate's index file.
    index_path: String,
    /// What the crate file tells; none if it was not read.
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Facts>,
}

impl<'a> Beside<'a> {
    /// The version of the members that are added.
    const VERSION: u32 = 1;

    pub fn new(release: &Release, crate_url: String, facts: Option<&'a Facts>) -> Self {
        let id = &release.id;
        Beside {
            sidecar_version: Self::VERSION,
            crate_file: format!("{}-{}.crate", id.name, id.version),
            crate_url,
            index_path: id.name.index_path(),
            facts,
        }
    }

    /// The document: the members of an index line, which is a JSON object that is not empty, and these.
    pub fn behind(&self, line: &[u8]) -> Vec<u8> {
        let line = line.trim_ascii();
        let members = serde_json::to_vec(self).expect("plain fields");
        let open = line.strip_suffix(b"}").unwrap_or(line).trim_ascii_end();
        [open, b",", &members[1..], b"\n"].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crateferry_store::{ReleaseId, Sha256};

    #[test]
    fn the_line_of_the_index_is_in_the_document_as_it_is() {
        let id = ReleaseId { name: "Serde".parse().unwrap(), version: "1.0.0+a".parse().unwrap() };
        let release = Release { id, checksum: Sha256::of(b"x") };
        let beside = Beside::new(&release, "https://h/x".into(), None);
        let document = beside.behind(b"{\"name\":\"Serde\", \"odd\" : 1.50e3 } \r");
        assert_eq!(
            std::str::from_utf8(&document).unwrap(),
            "{\"name\":\"Serde\", \"odd\" : 1.50e3,\"sidecar_version\":1,\"crate_file\":\"Serde-1.0.0+a.crate\",\
             \"crate_url\":\"https://h/x\",\"index_path\":\"se/rd/serde\"}\n"
        );
        assert!(serde_json::from_slice::<serde_json::Value>(&document).is_ok());
    }
}

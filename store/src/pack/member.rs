//! What a member of a pack is called, and its tar header.

use crate::id::{CrateName, ReleaseId, Sha256, Version};

/// The name that a group record gives to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberName {
    /// `crates/NAME/NAME-VERSION.crate`
    Crate(ReleaseId),
    /// `index/SHA256.gz`: an index file's text, named by the SHA-256 of the text before compression.
    Index(Sha256),
    /// `facts/SHA256.json`, named by the SHA-256 of the crate file; `facts/SHA256.head.json` if only its beginning was read.
    Facts {
        /// The crate file's.
        sha256: Sha256,
        complete: bool,
    },
    /// `advisories/SHA256.tar.zst`: an archive of an advisory database.
    Advisories(Sha256),
    /// `groups/NNNNNNNN.jsonl`
    Group(u64),
    /// `toc.jsonl`: the last member of a sealed pack.
    Contents,
}

impl MemberName {
    pub(crate) fn parse(text: &str) -> Option<MemberName> {
        if text == "toc.jsonl" {
            return Some(MemberName::Contents);
        }
        let (kind, rest) = text.split_once('/')?;
        match kind {
            "crates" => parse_crate(rest),
            "index" => Some(MemberName::Index(rest.strip_suffix(".gz")?.parse().ok()?)),
            "facts" => parse_facts(rest),
            "advisories" => Some(MemberName::Advisories(rest.strip_suffix(".tar.zst")?.parse().ok()?)),
            "groups" => Some(MemberName::Group(rest.strip_suffix(".jsonl")?.parse().ok()?)),
            _ => None,
        }
    }
}

fn parse_facts(rest: &str) -> Option<MemberName> {
    let stem = rest.strip_suffix(".json")?;
    let head = stem.strip_suffix(".head");
    Some(MemberName::Facts { sha256: head.unwrap_or(stem).parse().ok()?, complete: head.is_none() })
}

fn parse_crate(rest: &str) -> Option<MemberName> {
    let (folder, file) = rest.split_once('/')?;
    let version = file.strip_suffix(".crate")?.strip_prefix(folder)?.strip_prefix('-')?;
    let name: CrateName = folder.parse().ok()?;
    let version: Version = version.parse().ok()?;
    Some(MemberName::Crate(ReleaseId { name, version }))
}

impl std::fmt::Display for MemberName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            MemberName::Crate(ReleaseId { name, version }) => write!(f, "crates/{name}/{name}-{version}.crate"),
            MemberName::Index(sha256) => write!(f, "index/{sha256}.gz"),
            MemberName::Facts { sha256, complete: true } => write!(f, "facts/{sha256}.json"),
            MemberName::Facts { sha256, complete: false } => write!(f, "facts/{sha256}.head.json"),
            MemberName::Advisories(sha256) => write!(f, "advisories/{sha256}.tar.zst"),
            MemberName::Group(sequence) => write!(f, "groups/{sequence:08}.jsonl"),
            MemberName::Contents => f.write_str("toc.jsonl"),
        }
    }
}

/// A ustar header with nothing of this machine in it: no time, no owner, mode 0644. A name that does not fit is
/// replaced by `objects/SHA256`.
pub(crate) fn tar_header(name: &str, length: u64, fallback: &Sha256) -> [u8; 512] {
    let mut header = tar::Header::new_ustar();
    if header.set_path(name).is_err() {
        header = tar::Header::new_ustar(); // it may hold a part of the name
        header.set_path(format!("objects/{fallback}")).expect("72 bytes fit into a ustar header");
    }
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    *header.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_names_read_what_they_print() {
        let id = ReleaseId { name: "a-b".parse().unwrap(), version: "1.0.0-x.1+y".parse().unwrap() };
        let sha256 = Sha256::of(b"x");
        for name in [
            MemberName::Crate(id),
            MemberName::Index(sha256),
            MemberName::Facts { sha256, complete: true },
            MemberName::Facts { sha256, complete: false },
            MemberName::Advisories(sha256),
            MemberName::Group(7),
            MemberName::Contents,
        ] {
            assert_eq!(MemberName::parse(&name.to_string()), Some(name));
        }
        for bad in ["crates/a/b-1.crate", "crates/../x-1.crate", "index/xyz.gz", "etc/passwd", ""] {
            assert_eq!(MemberName::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_longest_name_falls_back_to_its_digest() {
        let name = "x".repeat(64);
        let version = format!("1.0.0-{}", "y".repeat(122));
        let long = MemberName::Crate(ReleaseId { name: name.parse().unwrap(), version: version.parse().unwrap() });
        let header = tar_header(&long.to_string(), 1, &Sha256::of(b"x"));
        let header = tar::Header::from_byte_slice(&header);
        assert!(header.path_bytes().starts_with(b"objects/"));
    }
}

//! Which release a file's name claims to be.
//!
//! Nothing is believed because of a name: it only says which promise the bytes are to be compared with.

use std::ffi::OsStr;
use std::path::Path;

use crateferry_store::ReleaseId;

/// What crate files are called at their end.
const SUFFIX: &str = ".crate";

/// What the name of a file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is a crate file of one of these releases, the likeliest first.
    Releases(Vec<ReleaseId>),
    /// It is a crate file.
    CrateFile,
    /// Nothing.
    Nothing,
}

/// Reads the end of a path: `NAME-VERSION.crate`, or in a folder of the crate `VERSION.crate` or `VERSION/download`.
pub(super) fn read(path: &Path) -> Claim {
    let Some(file) = path.file_name().and_then(OsStr::to_str) else { return suffix_alone(path) };
    let mut folders = path.ancestors().skip(1).map(|folder| folder.file_name().and_then(OsStr::to_str));
    let (parent, grandparent) = (folders.next().flatten(), folders.next().flatten());
    let releases = match (file.strip_suffix(SUFFIX), parent, grandparent) {
        (Some(stem), parent, _) => {
            let in_folder = parent.filter(|_| stem.starts_with(|first: char| first.is_ascii_digit()));
            ReleaseId::readings(stem).into_iter().chain(in_folder.and_then(|name| release(name, stem))).collect()
        }
        (None, Some(version), Some(name)) if file == "download" => release(name, version).into_iter().collect(),
        _ => Vec::new(),
    };
    if releases.is_empty() { suffix_alone(path) } else { Claim::Releases(releases) }
}

fn suffix_alone(path: &Path) -> Claim {
    let is_crate_file = path.file_name().is_some_and(|name| name.as_encoded_bytes().ends_with(SUFFIX.as_bytes()));
    if is_crate_file { Claim::CrateFile } else { Claim::Nothing }
}

fn release(name: &str, version: &str) -> Option<ReleaseId> {
    Some(ReleaseId { name: name.parse().ok()?, version: version.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The releases that a path may be, as `NAME VERSION`.
    fn claimed(path: &str) -> Vec<String> {
        match read(Path::new(path)) {
            Claim::Releases(ids) => ids.iter().map(|id| format!("{} {}", id.name, id.version)).collect(),
            Claim::CrateFile => vec!["a crate file".to_owned()],
            Claim::Nothing => Vec::new(),
        }
    }

    #[test]
    fn every_layout_names_its_release() {
        for path in [
            "serde-1.0.0.crate",
            "s/er/serde-1.0.0.crate",
            "crates/se/rd/serde/1.0.0/serde-1.0.0.crate",
            "index.example-0123456789abcdef/serde-1.0.0.crate",
            "crates/serde/serde-1.0.0.crate",
            "api/v1/crates/serde/1.0.0/download",
        ] {
            assert_eq!(claimed(path)[0], "serde 1.0.0", "{path}");
        }
        assert_eq!(claimed("serde/1.0.0.crate"), ["serde 1.0.0"]);
    }

    #[test]
    fn the_dash_before_the_first_dot_is_the_likeliest_one() {
        assert_eq!(claimed("a-b-1.0.0-rc.1+x-2.3.crate")[0], "a-b 1.0.0-rc.1+x-2.3");
        assert_eq!(claimed("md-5-0.10.6.crate"), ["md-5 0.10.6", "md 5-0.10.6"]);
        assert_eq!(claimed("x/1serde-1.0.0.crate"), ["1serde 1.0.0", "x 1serde-1.0.0"], "or in the crate's own folder");
    }

    #[test]
    fn other_names_tell_nothing() {
        for path in ["README.md", "1.0.0/download", "config.json", "serde", "..", "serde-1.0.0.crate.json", ""] {
            assert!(claimed(path).is_empty(), "{path}");
        }
        for path in ["serde.crate", "-1.0.0.crate", ".crate", "a\nb-1.0.0.crate", "a:b#\"-1.0.0.crate"] {
            assert_eq!(claimed(path), ["a crate file"], "{path:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_name_that_is_no_text_may_still_be_a_crate_files() {
        use std::os::unix::ffi::OsStrExt as _;
        assert_eq!(read(Path::new(OsStr::from_bytes(b"x/\xff-1.0.0.crate"))), Claim::CrateFile);
        assert_eq!(read(Path::new(OsStr::from_bytes(b"x/\xff"))), Claim::Nothing);
    }
}

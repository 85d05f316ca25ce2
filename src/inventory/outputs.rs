//! Where an inventory's documents go, and how: under another name until they are whole and durable.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use crateferry_pipeline::inventory::{FileName, LONGEST_MEMBER_NAME, single_file_header};
use crateferry_store::make_names_durable;
use serde::Serialize;
use tempfile::NamedTempFile;

use super::document::{Entry, Header};
use crate::keys::{Kind, SigningKey};
use crate::report::usage;

const YAML: &str = ".yaml";
const TAR: &str = ".tar";
const TOML: &str = ".toml";

/// Whether a member of a tar archive is filled up to whole records of this many bytes.
const TAR_RECORD: u64 = 512;

/// What the name of a document's signature ends with.
fn signature_suffix(kind: Kind) -> String {
    format!("{YAML}{}", kind.suffix())
}

/// The files of one inventory: all have one prefix, in one folder.
#[derive(Debug)]
pub struct Outputs {
    dir: PathBuf,
    prefix: OsString,
}

impl Outputs {
    /// In a folder, which is made if it is not there.
    pub fn new(dir: &Path, prefix: &OsStr) -> anyhow::Result<Outputs> {
        let bytes = prefix.as_encoded_bytes();
        if bytes.is_empty() || bytes.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0)) {
            return Err(usage(format!("{} is no prefix of a file name", prefix.display())));
        }
        if bytes.len() + TOML.len() > LONGEST_MEMBER_NAME {
            let longest = LONGEST_MEMBER_NAME - TOML.len();
            return Err(usage(format!("a prefix has at most {longest} bytes; give another one with --out-prefix")));
        }
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        Ok(Outputs { dir: dir.to_owned(), prefix: prefix.to_owned() })
    }

    /// What a folder's documents are called if nobody says: as the folder, cut where that would be too long.
    pub fn default_prefix(folder: &OsStr) -> OsString {
        if folder.len() + TOML.len() <= LONGEST_MEMBER_NAME {
            return folder.to_owned();
        }
        let text = folder.to_string_lossy();
        text[..text.floor_char_boundary(LONGEST_MEMBER_NAME - TOML.len())].into()
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn file_name(&self, suffix: &str) -> OsString {
        let mut name = self.prefix.clone();
        name.push(suffix);
        name
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(self.file_name(suffix))
    }

    /// The document.
    pub fn yaml(&self) -> PathBuf {
        self.path(YAML)
    }

    /// The archive with the other form of it.
    pub fn tar(&self) -> PathBuf {
        self.path(TAR)
    }

    /// The signature of a kind, whether it is there or not.
    pub fn signature(&self, kind: Kind) -> PathBuf {
        self.path(&signature_suffix(kind))
    }

    /// The name of the signature's file.
    pub fn signature_name(&self, kind: Kind) -> String {
        self.file_name(&signature_suffix(kind)).to_string_lossy().into_owned()
    }

    /// The names that these files have below a folder, if they lie there. They are no part of what is inventoried.
    pub fn below(&self, root: &Path) -> io::Result<Vec<FileName>> {
        let (dir, root) = (self.dir.canonicalize()?, root.canonicalize()?);
        let Ok(between) = dir.strip_prefix(&root) else { return Ok(Vec::new()) };
        let name = |suffix: &str| {
            let path = between.join(self.file_name(suffix));
            let parts: Vec<&[u8]> = path.iter().map(OsStr::as_encoded_bytes).collect();
            FileName::new(parts.join(&b'/'))
        };
        let mut names = vec![name(TAR), name(YAML)];
        names.extend(Kind::ALL.map(|kind| name(&signature_suffix(kind))));
        Ok(names)
    }

    /// Writes all of them. Signatures of an earlier document are taken away.
    pub fn write(&self, header: &Header, files: &mut Listed, key: Option<&SigningKey>) -> anyhow::Result<()> {
        let mut yaml = self.part()?;
        write_yaml(yaml.as_file_mut(), header, files).context("cannot write the YAML document")?;
        let mut tar = self.part()?;
        self.write_tar(tar.as_file_mut(), header, files).context("cannot write the archive")?;
        let signature = match key {
            Some(key) => {
                yaml.rewind()?;
                let text = key.sign(&mut yaml, &self.file_name(YAML).to_string_lossy())?;
                let mut signature = self.part()?;
                signature.write_all(text.as_bytes())?;
                Some((signature, key.kind()))
            }
            None => None,
        };
        self.settle(tar, TAR)?;
        let written = signature.as_ref().map(|(_, kind)| *kind);
        for kind in Kind::ALL.into_iter().filter(|kind| Some(*kind) != written) {
            remove(&self.signature(kind))?;
        }
        if let Some((part, kind)) = signature {
            self.settle(part, &signature_suffix(kind))?;
        }
        self.settle(yaml, YAML)?;
        make_names_durable(&self.dir).with_context(|| format!("cannot make {} durable", self.dir.display()))
    }

    /// A file that is not called what it will be.
    fn part(&self) -> anyhow::Result<NamedTempFile> {
        let make = |path: &Path| File::options().read(true).write(true).create_new(true).open(path);
        let part = tempfile::Builder::new().prefix(".inventory-").suffix(".part").make_in(&self.dir, make);
        part.with_context(|| format!("cannot write into {}", self.dir.display()))
    }

    fn settle(&self, part: NamedTempFile, suffix: &str) -> anyhow::Result<()> {
        let path = self.path(suffix);
        let failed = || format!("cannot write {}", path.display());
        part.as_file().sync_all().with_context(failed)?;
        part.persist(&path).map(drop).map_err(|error| error.error).with_context(failed)
    }

    /// The header comes last, since it has the length.
    fn write_tar(&self, file: &mut File, header: &Header, files: &mut Listed) -> anyhow::Result<()> {
        file.write_all(&[0; TAR_RECORD as usize])?;
        write_toml(file, header, files)?;
        let size = file.stream_position()? - TAR_RECORD;
        let fill = size.next_multiple_of(TAR_RECORD) - size;
        io::copy(&mut io::repeat(0).take(fill + 2 * TAR_RECORD), file)?;
        let name = self.file_name(TOML);
        let member = single_file_header(name.as_encoded_bytes(), size);
        let member = member.context("the document is larger than 8 GiB, which an archive cannot hold")?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file.write_all(&member)?)
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}, which signs an earlier document", path.display()))
        }
        _ => Ok(()),
    }
}

fn write_yaml(file: &mut File, header: &Header, files: &mut Listed) -> anyhow::Result<()> {
    let mut out = BufWriter::new(file);
    let text = yaml(header)?;
    out.write_all(text.as_bytes())?;
    if files.count == 0 {
        out.write_all(b"files: []\n")?;
    } else {
        out.write_all(FILES.as_bytes())?;
        files.yaml.rewind()?;
        io::copy(&mut files.yaml, &mut out)?;
    }
    Ok(out.flush()?)
}

fn write_toml(file: &mut File, header: &Header, files: &mut Listed) -> anyhow::Result<()> {
    file.write_all(toml::to_string(header)?.as_bytes())?;
    files.toml.rewind()?;
    io::copy(&mut files.toml, file)?;
    Ok(())
}

/// How a list of files begins in YAML.
const FILES: &str = "files:\n";

fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    Ok(serde_saphyr::to_string_with_options(value, options)?)
}

/// The files of an inventory as its documents have them, written down as they come: in nameless files, so that memory does not
/// grow with their number.
pub struct Listing {
    yaml: BufWriter<File>,
    toml: BufWriter<File>,
    count: u64,
}

/// All of them.
pub struct Listed {
    yaml: File,
    toml: File,
    count: u64,
}

impl Listing {
    /// An empty one, on the disk that a folder lies on.
    pub fn new(dir: &Path) -> io::Result<Listing> {
        let [yaml, toml] = [tempfile::tempfile_in(dir)?, tempfile::tempfile_in(dir)?].map(BufWriter::new);
        Ok(Listing { yaml, toml, count: 0 })
    }

    /// Writes the next one down. Entries of one list may be written one by one, in both forms.
    pub fn push(&mut self, entry: &Entry) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct One<'a> {
            files: [&'a Entry; 1],
        }
        let one = One { files: [entry] };
        let text = yaml(&one)?;
        let text = text.strip_prefix(FILES).context("a list does not begin as it should")?;
        self.yaml.write_all(text.as_bytes())?;
        write!(self.toml, "\n{}", toml::to_string(&one)?)?;
        self.count += 1;
        Ok(())
    }

    /// There are no more.
    pub fn finish(self) -> io::Result<Listed> {
        Ok(Listed { yaml: self.yaml.into_inner()?, toml: self.toml.into_inner()?, count: self.count })
    }
}

//! A tar archive of a folder as a source, and the header of one that holds a single file.
//!
//! The only place here that knows tar. Headers are read first, without the bytes between them; then the files come in path order, as from the
//! folder itself, whatever their order in the archive. No member's name is ever used as a path.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tar::EntryType;

use super::name::FileName;
use super::source::{Content, Found, Problem, Source, What};

/// An archive that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {} as a tar archive (it has to be uncompressed)", path.display())]
pub struct ArchiveError {
    path: PathBuf,
    source: io::Error,
}

/// A tar archive.
#[derive(Debug)]
pub struct Archive {
    file: File,
    members: std::collections::btree_map::IntoIter<FileName, Member>,
    /// Where the file lies that was found last.
    at: Option<(u64, u64)>,
}

#[derive(Clone, Debug)]
enum Member {
    File {
        offset: u64,
        size: u64,
    },
    /// The same bytes as another member that came before.
    HardLink(FileName),
    Link(FileName),
    Special,
    NotUnderstood(&'static str),
}

impl Archive {
    /// Reads the headers of an archive. If all members lie in a folder of the name `folder`, as `tar cf FOLDER.tar FOLDER` writes them, that part is taken
    /// off. The files of some names are left out.
    pub fn open(path: &Path, folder: &FileName, left_out: &[FileName]) -> Result<Archive, ArchiveError> {
        let failed = |source| ArchiveError { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let mut members = headers(&file).map_err(failed)?.without(folder);
        members.retain(|name, _| !left_out.contains(name));
        Ok(Archive { file, members: members.into_iter(), at: None })
    }
}

/// What the archive has, the last one of each name.
fn headers(file: &File) -> io::Result<Members> {
    let mut members = Members::default();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let Some(name) = plain(&entry.path_bytes()) else {
            let member = Member::NotUnderstood("its name leads out of the archive");
            members.by_name.insert(FileName::new(entry.path_bytes()), member);
            continue;
        };
        members.has_dots |= entry.path_bytes().starts_with(b"./");
        let link = || entry.link_name_bytes().unwrap_or_default();
        let member = match entry.header().entry_type() {
            EntryType::Directory => continue,
            EntryType::Regular | EntryType::Continuous => {
                Member::File { offset: entry.raw_file_position(), size: entry.size() }
            }
            EntryType::Link => {
                plain(&link()).map_or(Member::NotUnderstood("a hard link out of the archive"), Member::HardLink)
            }
            EntryType::Symlink => Member::Link(FileName::new(link())),
            EntryType::Char | EntryType::Block | EntryType::Fifo => Member::Special,
            EntryType::GNUSparse => Member::NotUnderstood("a sparse file of GNU tar, which is not supported"),
            _ => Member::NotUnderstood("a kind of member that is not supported"),
        };
        members.by_name.insert(name, member);
    }
    Ok(members)
}

#[derive(Default)]
struct Members {
    by_name: BTreeMap<FileName, Member>,
    /// Whether names begin at `.`, so that there is no folder around them.
    has_dots: bool,
}

/// A name without `.` and empty parts; none if it has a `..`.
fn plain(name: &[u8]) -> Option<FileName> {
    let mut plain = FileName::new([]);
    for part in name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part == b".." {
            return None;
        }
        plain = plain.join(part);
    }
    Some(plain)
}

impl Members {
    /// Without the folder around all of them, if that is there, and with hard links followed.
    fn without(self, folder: &FileName) -> BTreeMap<FileName, Member> {
        let mut around = folder.as_bytes().to_vec();
        around.push(b'/');
        let is_around = !self.has_dots && self.by_name.keys().all(|name| name.as_bytes().starts_with(&around));
        let cut = if is_around { around.len() } else { 0 };
        let followed = |name: &FileName, member: &Member| {
            let member = match member {
                Member::HardLink(to) => match self.by_name.get(to) {
                    Some(Member::File { offset, size }) => Member::File { offset: *offset, size: *size },
                    _ => Member::NotUnderstood("a hard link to what the archive does not have"),
                },
                member => member.clone(),
            };
            (FileName::new(&name.as_bytes()[cut..]), member)
        };
        self.by_name.iter().map(|(name, member)| followed(name, member)).collect()
    }
}

impl Source for Archive {
    fn next(&mut self) -> Option<Found> {
        let (name, member) = self.members.next()?;
        let what = match member {
            Member::File { offset, size } => {
                self.at = Some((offset, size));
                What::File { size, modified: None }
            }
            Member::Link(target) => What::Link { target },
            Member::Special => What::Special,
            Member::HardLink(_) => What::Unread(Problem::NotUnderstood("a hard link that was not followed")),
            Member::NotUnderstood(why) => What::Unread(Problem::NotUnderstood(why)),
        };
        Some(Found { name, what })
    }

    fn open(&mut self) -> Result<Box<dyn Content + '_>, Problem> {
        let (offset, size) = self.at.take().expect("a file was found");
        self.file.seek(SeekFrom::Start(offset)).map_err(Problem::refused("read"))?;
        Ok(Box::new(Span { bytes: (&self.file).take(size) }))
    }
}

/// A part of an archive.
struct Span<'a> {
    bytes: io::Take<&'a File>,
}

impl Read for Span<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.bytes.read(buffer)
    }
}

impl Content for Span<'_> {
    fn settle(&mut self) -> Result<(), Problem> {
        Ok(())
    }
}

/// The longest name that [`single_file_header`] takes, in bytes.
pub const LONGEST_MEMBER_NAME: usize = 100;

/// The header of a file in a ustar archive, which tells nothing of this system: mode 0644, no owner, time 0. None if the name is too long, or the file
/// larger than 8 GiB.
pub fn single_file_header(name: &[u8], size: u64) -> Option<[u8; 512]> {
    if name.len() > LONGEST_MEMBER_NAME || size >= 1 << 33 {
        return None;
    }
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Some(*header.as_bytes())
}

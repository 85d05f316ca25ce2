//! Walking through the archive of a crate file, under caps.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};

use flate2::bufread::GzDecoder;
use tar::{Archive, Entry, EntryType, PaxExtensions};

use super::Extent;

/// What was seen of an archive.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Nothing more can be seen.
    pub(super) complete: bool,
    /// Why the walk ended before the archive did.
    pub(super) problem: Option<String>,
    /// The text of `Cargo.toml`.
    pub(super) manifest: Option<Vec<u8>>,
    /// The text of `.cargo_vcs_info.json`.
    pub(super) vcs: Option<Vec<u8>>,
    /// Files, and the bytes of all of them.
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// Files that cargo takes for something by their names.
    pub(super) has_build_rs: bool,
    pub(super) has_main: bool,
    /// The programs below `src/bin`.
    pub(super) binaries: BTreeSet<String>,
}

/// Longest `Cargo.toml` in bytes.
const MANIFEST: u64 = 1 << 20;
/// Longest `.cargo_vcs_info.json`, and longest name of a member that needs more than its header, in bytes.
const SMALL: u64 = 64 << 10;
/// Most members of an archive.
const MEMBERS: u64 = 100_000;

/// How many bytes a crate file of `length` bytes may inflate to. Sources rarely shrink to a tenth; deflate can to a
/// thousandth.
fn cap(length: u64) -> u64 {
    length.saturating_mul(200).clamp(64 << 20, 512 << 20)
}

impl Contents {
    /// Walks through an archive.
    pub(super) fn read(crate_file: impl Read, length: u64, extent: Extent) -> Contents {
        let limit = if extent == Extent::Head { Extent::PATIENCE } else { cap(length) };
        let left = Cell::new(limit);
        let inflated = Bounded { inner: GzDecoder::new(BufReader::with_capacity(32 << 10, crate_file)), left: &left };
        let mut contents = Contents::default();
        match contents.walk(inflated, extent) {
            Ok(()) => contents.complete |= extent == Extent::Whole,
            Err(_) if left.get() == 0 && extent == Extent::Head => {}
            Err(_) if left.get() == 0 => contents.give_up(format!("it inflates to more than {limit} bytes")),
            Err(error) => contents.give_up(error.to_string()),
        }
        contents
    }

    /// The archive was walked through to its end.
    pub(super) fn is_whole(&self) -> bool {
        self.complete && self.problem.is_none()
    }

    fn give_up(&mut self, problem: String) {
        (self.problem, self.complete) = (Some(problem), true);
    }

    fn walk(&mut self, inflated: impl Read, extent: Extent) -> io::Result<()> {
        let mut archive = Archive::new(inflated);
        let mut long_name = None;
        let mut members = 0;
        for member in archive.entries()?.raw(true) {
            let mut member = member?;
            members += 1;
            if members > MEMBERS {
                return Err(io::Error::other(format!("it has more than {MEMBERS} members")));
            }
            match member.header().entry_type() {
                EntryType::GNULongName => long_name = Some(gnu_name(&mut member)?),
                EntryType::XHeader => long_name = pax_path(&mut member)?,
                EntryType::Regular | EntryType::Continuous => {
                    let path = long_name.take().unwrap_or_else(|| member.path_bytes().into_owned());
                    self.file(&path, &mut member)?;
                }
                _ => long_name = None,
            }
            let end = member.raw_file_position() + member.size();
            if extent == Extent::Head && self.manifest.is_some() && end > Extent::HEAD {
                return Ok(());
            }
        }
        // What follows the archive belongs to the gzip member, whose checksum comes last.
        io::copy(&mut archive.into_inner(), &mut io::sink())?;
        self.complete = true;
        Ok(())
    }

    /// Takes from a file what it tells.
    fn file(&mut self, path: &[u8], file: &mut Entry<'_, impl Read>) -> io::Result<()> {
        self.files += 1;
        self.bytes += file.size();
        let path = std::str::from_utf8(path).unwrap_or_default();
        // The first part is the name and version of the package.
        let Some((_, path)) = path.split_once('/') else { return Ok(()) };
        match path {
            "Cargo.toml" if self.manifest.is_none() => {
                self.manifest = Some(read_all(file, MANIFEST, "its Cargo.toml")?);
            }
            ".cargo_vcs_info.json" if self.vcs.is_none() => {
                self.vcs = Some(read_all(file, SMALL, "its .cargo_vcs_info.json")?);
            }
            "build.rs" => self.has_build_rs = true,
            "src/main.rs" => self.has_main = true,
            _ => self.binaries.extend(binary(path).map(str::to_owned)),
        }
        Ok(())
    }
}

/// The program that cargo makes of a file below `src/bin` if no manifest says otherwise.
fn binary(path: &str) -> Option<&str> {
    let path = path.strip_prefix("src/bin/")?;
    let name = path.strip_suffix("/main.rs").or_else(|| path.strip_suffix(".rs"))?;
    (!name.contains('/')).then_some(name)
}

/// The name of the member behind this one.
fn gnu_name(member: &mut Entry<'_, impl Read>) -> io::Result<Vec<u8>> {
    let mut name = read_all(member, SMALL, "the name of a member")?;
    name.truncate(name.iter().position(|&byte| byte == 0).unwrap_or(name.len()));
    Ok(name)
}

fn pax_path(member: &mut Entry<'_, impl Read>) -> io::Result<Option<Vec<u8>>> {
    let text = read_all(member, SMALL, "the header of a member")?;
    let fields = PaxExtensions::new(&text).filter_map(Result::ok);
    Ok(fields.filter(|field| field.key_bytes() == b"path").map(|field| field.value_bytes().to_vec()).last())
}

fn read_all(member: &mut Entry<'_, impl Read>, limit: u64, what: &str) -> io::Result<Vec<u8>> {
    if member.size() > limit {
        return Err(io::Error::other(format!("{what} is longer than {limit} bytes")));
    }
    let mut bytes = Vec::with_capacity(member.size() as usize);
    member.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads until nothing is left of what may be read; then it fails.
struct Bounded<'a, R> {
    inner: R,
    left: &'a Cell<u64>,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.get();
        if left == 0 && !buffer.is_empty() {
            return Err(io::Error::other("it is too long"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.inner.read(&mut buffer[..most])?;
        self.left.set(left - length as u64);
        Ok(length)
    }
}

//! A bundle as one stream, for a link that goes one way: a ustar archive of what would lie in its folder, the manifest first, then what
//! vouches for it, then the rest, the volumes in order.
//!
//! A stream is not a format of its own: unpacked, it is the bundle's folder.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use crateferry_pipeline::bundle::PackError;
use crateferry_store::bundle::{BundleId, Manifest};
use tar::{EntryType, Header};
use tokio_util::sync::CancellationToken;

use super::folder::{CHAIN, MANIFEST, SignedManifest};
use crate::keys::{LONGEST_CHAIN, LONGEST_SIGNATURE, MOST_SIGNATURES, SignatureFile};

/// What the command line calls standard input and output.
const STANDARD: &str = "-";

/// A header, and what members are filled up to.
const BLOCK: usize = 512;

/// Whether a path stands for standard input or output.
pub fn is_meant(path: &Path) -> bool {
    path == Path::new(STANDARD)
}

/// Writes the bundle that lies whole in a folder.
pub fn send(folder: &Path, manifest: &Manifest, out: impl Write, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    let rank = |name: &str| match name {
        MANIFEST => 0,
        CHAIN => 1,
        name if name.starts_with(MANIFEST) => 2,
        name if manifest.importers.iter().any(|importer| importer.name == name) => 3,
        _ => 4,
    };
    names.sort_by(|one, other| (rank(one), one).cmp(&(rank(other), other)));
    let failed = "cannot write the stream";
    let mut archive = tar::Builder::new(out);
    for name in names {
        if stop.is_cancelled() {
            return Err(PackError::Interrupted.into());
        }
        let path = folder.join(&name);
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut header = Header::new_ustar();
        header.set_size(file.metadata()?.len());
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(EntryType::Regular);
        archive.append_data(&mut header, &name, file).context(failed)?;
    }
    archive.into_inner().context(failed)?.flush().context(failed)
}

/// A bundle that comes as a stream, behind what is signed.
pub struct Stream {
    input: Box<dyn Read + Send>,
    /// Bytes of the last member, and of its fill, that are still to come.
    left: u64,
    /// The member that is next, if its header was read.
    next: Option<Member>,
}

struct Member {
    name: String,
    length: u64,
}

impl Stream {
    /// Reads what is signed, the signatures, and the chain of key lists. Nothing of it is believed yet, so each has a limit.
    pub fn open(input: impl Read + Send + 'static) -> anyhow::Result<(SignedManifest, Stream)> {
        let input = Box::new(BufReader::with_capacity(256 << 10, input));
        let mut stream = Stream { input, left: 0, next: None };
        let failed = "cannot read the stream";
        let first = stream.member().context(failed)?;
        let Some(first) = first.filter(|member| member.name == MANIFEST) else {
            bail!("this stream is no bundle: it does not begin with {MANIFEST}");
        };
        let manifest = stream.whole(&first, Manifest::LONGEST).context(failed)?;
        let (mut signatures, mut chain) = (Vec::new(), None);
        while let Some(member) = stream.member().context(failed)? {
            if member.name == CHAIN && chain.is_none() {
                chain = Some(stream.whole(&member, LONGEST_CHAIN).context(failed)?);
            } else if member.name.starts_with(&format!("{MANIFEST}.")) && signatures.len() <= MOST_SIGNATURES {
                let bytes = stream.whole(&member, LONGEST_SIGNATURE).context(failed)?;
                signatures.push(SignatureFile { name: member.name, bytes });
            } else {
                stream.next = Some(member);
                break;
            }
        }
        Ok((SignedManifest { from: "the stream".to_owned(), manifest, signatures, chain }, stream))
    }

    /// The next volume of a bundle, and its number; none at the end. Whatever is not read of it is passed over.
    pub fn volume(&mut self, bundle: &BundleId, count: u32) -> io::Result<Option<(u32, impl Read + '_)>> {
        while let Some(member) = self.member()? {
            let number = (1..=count).find(|number| bundle.volume_name(*number) == member.name);
            if let Some(number) = number {
                return Ok(Some((number, Bytes { stream: self, left: member.length })));
            }
        }
        Ok(None)
    }

    /// The next header; none at the end of the archive, or of what there is of it.
    fn member(&mut self) -> io::Result<Option<Member>> {
        if let Some(member) = self.next.take() {
            return Ok(Some(member));
        }
        io::copy(&mut self.input.by_ref().take(self.left), &mut io::sink())?;
        self.left = 0;
        let mut header = Header::new_old();
        match self.input.read_exact(header.as_mut_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            // Whoever writes is to end in peace.
            io::copy(&mut self.input, &mut io::sink())?;
            return Ok(None);
        }
        let sum = |header: &Header| {
            let bytes = header.as_bytes();
            let field = 148..156;
            let all = bytes.iter().enumerate().map(|(at, byte)| if field.contains(&at) { b' ' } else { *byte });
            all.map(u32::from).sum::<u32>()
        };
        let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem.to_owned());
        if header.cksum()? != sum(&header) {
            return Err(invalid("a header of the archive is damaged"));
        }
        let length = header.entry_size()?;
        let fill = (BLOCK as u64 - length % BLOCK as u64) % BLOCK as u64;
        self.left = length.checked_add(fill).ok_or_else(|| invalid("a member is too long"))?;
        // A name that is no plain file's stands for nothing that is looked for.
        let is_file = matches!(header.entry_type(), EntryType::Regular);
        let name = if is_file { String::from_utf8_lossy(&header.path_bytes()).into_owned() } else { String::new() };
        Ok(Some(Member { name, length }))
    }

    /// All of the member whose header was read last.
    fn whole(&mut self, member: &Member, longest: u64) -> anyhow::Result<Vec<u8>> {
        if member.length > longest {
            bail!("{} has {} bytes, and {longest} are allowed", member.name, member.length);
        }
        let mut bytes = Vec::new();
        Bytes { left: member.length, stream: self }.read_to_end(&mut bytes)?;
        if bytes.len() as u64 == member.length { Ok(bytes) } else { Err(anyhow!("it ends within {}", member.name)) }
    }
}

/// The bytes of a member.
struct Bytes<'a> {
    stream: &'a mut Stream,
    left: u64,
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.input.by_ref().take(self.left).read(buffer)?;
        self.left -= read as u64;
        self.stream.left -= read as u64;
        Ok(read)
    }
}

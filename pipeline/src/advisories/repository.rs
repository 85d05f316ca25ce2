//! The files of an advisory database as a git repository of one commit, and git's protocol to fetch it.
//!
//! The protocol is version 0 over "smart" HTTP, which every client falls back to. Sources: git's documents `gitprotocol-pack`,
//! `gitprotocol-http` and `gitprotocol-capabilities`. Whoever fetches gets the whole pack: it is smaller than what a negotiation over it
//! would be worth.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Read as _, Write as _};

use gix::ObjectId;
use gix::objs::tree::{Entry, EntryKind};
use gix::objs::{Commit, Kind, Tree};
use gix::protocol::transport::packetline::blocking_io::encode;
use gix::protocol::transport::packetline::{Channel, decode};
use gix_pack::data::output;

use super::Files;

/// The branch that it has.
const BRANCH: &str = "refs/heads/main";

/// What a client may send to ask for a pack: so many objects of its own no client names.
const LONGEST: u64 = 1 << 20;

/// The most bytes of a band.
const BAND: usize = 65_515;

/// A request that is not git's.
#[derive(Debug, thiserror::Error)]
#[error("not a request of git's: {0}")]
pub struct BadRequest(&'static str);

/// A repository, ready to be sent.
#[derive(Debug)]
pub struct Repository {
    head: ObjectId,
    pack: Vec<u8>,
}

/// A folder in the making.
#[derive(Default)]
struct Folder<'a> {
    folders: BTreeMap<&'a str, Folder<'a>>,
    files: BTreeMap<&'a str, &'a [u8]>,
}

/// The objects of a pack in the making.
#[derive(Default)]
struct Objects {
    known: HashSet<ObjectId>,
    entries: Vec<output::Entry>,
}

impl Repository {
    /// The repository whose one commit has these files; its message names the commit that they were taken from. The same files give
    /// the same repository.
    pub fn new(files: &Files, commit: &str, committed_at: u64) -> gix::Result<Repository> {
        let mut root = Folder::default();
        for (path, content) in files.iter() {
            let (mut folder, mut rest) = (&mut root, path);
            while let Some((name, below)) = rest.split_once('/') {
                (folder, rest) = (folder.folders.entry(name).or_default(), below);
            }
            folder.files.insert(rest, content);
        }
        let mut objects = Objects::default();
        let tree = objects.folder(&root)?;
        let time = gix::date::Time { seconds: committed_at.try_into().unwrap_or(i64::MAX), offset: 0 };
        let signature = gix::actor::Signature { name: "crateferry".into(), email: "crateferry".into(), time };
        let message = format!("Advisory database as of commit {commit}\n").into();
        let head = objects.add(
            Kind::Commit,
            &Commit {
                tree,
                parents: Vec::new().into(),
                author: signature.clone(),
                committer: signature,
                encoding: None,
                message,
                extra_headers: Vec::new(),
            },
        )?;
        Ok(Repository { head, pack: objects.pack()? })
    }

    /// The commit that clients get.
    pub fn head(&self) -> String {
        self.head.to_string()
    }

    /// What answers `/info/refs?service=git-upload-pack`.
    pub fn advertisement(&self) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let capabilities = format!(
            "multi_ack_detailed include-tag shallow no-progress side-band-64k ofs-delta symref=HEAD:{BRANCH} object-format=sha1 agent=crateferry/{}",
            env!("CARGO_PKG_VERSION")
        );
        encode::text_to_write(b"# service=git-upload-pack", &mut out)?;
        encode::flush_to_write(&mut out)?;
        encode::data_to_write(format!("{} HEAD\0{capabilities}\n", self.head).as_bytes(), &mut out)?;
        encode::data_to_write(format!("{} {BRANCH}\n", self.head).as_bytes(), &mut out)?;
        encode::flush_to_write(&mut out)?;
        Ok(out)
    }

    /// What answers a request to `/git-upload-pack`, whose body may be gzipped.
    pub fn answer(&self, body: &[u8], is_gzipped: bool) -> Result<Vec<u8>, BadRequest> {
        let mut unpacked = Vec::new();
        let body = if is_gzipped {
            let text = flate2::read::GzDecoder::new(body);
            text.take(LONGEST).read_to_end(&mut unpacked).map_err(|_| BadRequest("it does not unpack"))?;
            &unpacked
        } else {
            body
        };
        let request = Request::read(body, &self.head.to_string())?;
        Ok(self.reply(&request).expect("memory can be written"))
    }

    fn reply(&self, request: &Request) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        if request.deepens {
            // The one commit has no parents, so nothing of it is shallow.
            encode::flush_to_write(&mut out)?;
        }
        let Some(form) = request.wants.filter(|_| request.flushes > 1 || request.is_done) else { return Ok(out) };
        encode::data_to_write(b"NAK\n", &mut out)?;
        if !request.is_done {
            return Ok(out);
        }
        if form == Form::Plain {
            out.extend_from_slice(&self.pack);
            return Ok(out);
        }
        for part in self.pack.chunks(BAND) {
            encode::band_to_write(Channel::Data, part, &mut out)?;
        }
        encode::flush_to_write(&mut out)?;
        Ok(out)
    }
}

/// How a pack is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// As it is.
    Plain,
    /// In a band of its own.
    Banded,
}

/// What a client asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// The pack, in this form.
    wants: Option<Form>,
    deepens: bool,
    /// The first ends what it wants, each further one a part of what it has.
    flushes: u32,
    is_done: bool,
}

impl Request {
    fn read(mut body: &[u8], head: &str) -> Result<Request, BadRequest> {
        let mut request = Request::default();
        while !body.is_empty() {
            let Ok(decode::Stream::Complete { line, bytes_consumed }) = decode::streaming(body) else {
                return Err(BadRequest("a line of it is cut or damaged"));
            };
            body = &body[bytes_consumed..];
            let Some(line) = line.as_slice() else {
                request.flushes += 1;
                continue;
            };
            let line = std::str::from_utf8(line.trim_ascii_end()).map_err(|_| BadRequest("a line is no text"))?;
            let mut words = line.split(' ');
            match (words.next(), words.next()) {
                (Some("want"), Some(id)) if id == head => {
                    let is_banded = words.any(|word| word == "side-band-64k");
                    let form = if is_banded { Form::Banded } else { Form::Plain };
                    request.wants.get_or_insert(form); // the first line has the capabilities
                }
                (Some("want"), _) => return Err(BadRequest("it wants an object that is not advertised")),
                (Some("deepen" | "deepen-since" | "deepen-not"), Some(_)) => request.deepens = true,
                (Some("done"), None) => request.is_done = true,
                (Some("have" | "shallow"), Some(_)) => {}
                _ => return Err(BadRequest("it has a line of another kind")),
            }
        }
        if request.is_done && request.wants.is_none() {
            return Err(BadRequest("it wants nothing"));
        }
        Ok(request)
    }
}

impl Objects {
    fn folder(&mut self, folder: &Folder<'_>) -> gix::Result<ObjectId> {
        let mut entries = Vec::new();
        for (name, inner) in &folder.folders {
            let oid = self.folder(inner)?;
            entries.push(Entry { mode: EntryKind::Tree.into(), filename: (*name).into(), oid });
        }
        for (name, content) in &folder.files {
            let oid = self.push(Kind::Blob, content)?;
            entries.push(Entry { mode: EntryKind::Blob.into(), filename: (*name).into(), oid });
        }
        entries.sort();
        self.add(Kind::Tree, &Tree { entries })
    }

    fn add(&mut self, kind: Kind, object: &impl gix::objs::WriteTo) -> gix::Result<ObjectId> {
        let mut bytes = Vec::new();
        object.write_to(&mut bytes).map_err(gix::Error::from_error)?;
        self.push(kind, &bytes)
    }

    fn push(&mut self, kind: Kind, bytes: &[u8]) -> gix::Result<ObjectId> {
        let id = gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, bytes)?;
        if self.known.insert(id) {
            let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            let packed = packed.write_all(bytes).and_then(|()| packed.finish()).map_err(gix::Error::from_error)?;
            let kind = output::entry::Kind::Base(kind);
            self.entries.push(output::Entry { id, kind, decompressed_size: bytes.len(), compressed_data: packed });
        }
        Ok(id)
    }

    fn pack(self) -> gix::Result<Vec<u8>> {
        let (count, version) = (self.entries.len() as u32, gix_pack::data::Version::V2);
        let entries = std::iter::once(Ok(self.entries));
        let mut pack = output::bytes::FromEntriesIter::new(entries, Vec::new(), count, version, gix::hash::Kind::Sha1);
        pack.by_ref().try_for_each(|written| written.map(drop))?;
        Ok(pack.into_write())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository() -> Repository {
        let mut files = Files::default();
        for path in ["crates/b/RUSTSEC-2026-0001.md", "crates/b.c/RUSTSEC-2026-0002.md", "crates/bc/x.md", "README.md"]
        {
            files.add(path, b"the same".to_vec()).unwrap();
        }
        Repository::new(&files, "c0ffee", 1_790_000_000).unwrap()
    }

    fn lines(lines: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for line in lines {
            match *line {
                "flush" => encode::flush_to_write(&mut out).unwrap(),
                line => encode::text_to_write(line.as_bytes(), &mut out).unwrap(),
            };
        }
        out
    }

    #[test]
    fn the_same_files_give_the_same_repository_and_equal_contents_one_object() {
        let (one, other) = (repository(), repository());
        assert_eq!((one.head, &one.pack), (other.head, &other.pack));
        // A commit, five trees of which none equals another but those with the same names, one blob.
        assert_eq!(&one.pack[..8], b"PACK\0\0\0\x02");
        assert_eq!(u32::from_be_bytes(one.pack[8..12].try_into().unwrap()), 7);
    }

    #[test]
    fn a_pack_is_sent_when_the_client_is_done_and_not_before() {
        let repository = repository();
        let head = repository.head();
        let (want, banded) = (format!("want {head}"), format!("want {head} side-band-64k ofs-delta"));
        let have = format!("have {}", "1".repeat(40));
        let ask = |list: &[&str]| repository.answer(&lines(list), false).unwrap();
        assert_eq!(ask(&["flush"]), b"", "who wants nothing gets nothing");
        assert_eq!(ask(&[&want, "flush", &have, "flush"]), b"0008NAK\n");
        assert_eq!(ask(&[&want, "deepen 1", "flush"]), b"0000");
        let plain = ask(&[&want, "flush", "done"]);
        assert_eq!(plain, [b"0008NAK\n", repository.pack.as_slice()].concat());
        let shallow = ask(&[&want, "deepen 1", "flush", &have, "done"]);
        assert_eq!(shallow, [b"00000008NAK\n", repository.pack.as_slice()].concat());
        let bands = ask(&[&banded, &want, "flush", "done"]);
        assert!(bands.starts_with(b"0008NAK\n") && bands.ends_with(b"0000"));
        assert_eq!(bands[12], 1, "the band of data");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let repository = repository();
        let want = format!("want {}", repository.head());
        let other = format!("want {}", "0".repeat(40));
        for list in [&[other.as_str(), "flush", "done"][..], &["flush", "done"], &[&want, "command=fetch"], &["push"]] {
            assert!(repository.answer(&lines(list), false).is_err(), "{list:?}");
        }
        for bytes in [&b"zzzz"[..], b"0003", b"00", b"ffff", b"0009want\xff", b"0032want "] {
            assert!(repository.answer(bytes, false).is_err(), "{bytes:?}");
            assert!(repository.answer(bytes, true).is_err(), "{bytes:?}");
        }
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        bomb.write_all(&vec![b'0'; 64 << 20]).unwrap();
        // Of what unpacks to far more than any request, no more than that is looked at.
        assert!(repository.answer(&bomb.finish().unwrap(), true).is_ok_and(|answer| answer.is_empty()));
    }
}

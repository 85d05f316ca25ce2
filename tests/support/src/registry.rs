//! The fake registry as tests see it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::backend::Backend;
use crate::bulk::Bulk;
use crate::fault::{Fault, Faults, Target};
use crate::folder;
use crate::git::GitIndex;
use crate::log::{Log, Request};
use crate::release::{Release, index_path};
use crate::routes::{GIT, INDEX, Manners, Routes};
use crate::server::{Server, bind};
use crate::shelf::{Held, Shelf};
use crate::sparse::Etags;
use crate::tls;

/// How long [`Registry::wait_for`] waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry that runs from when it is made until it is dropped.
///
/// What is put on its shelf is served at once by the sparse index and as crate files; the git index follows
/// with [`commit`](Registry::commit). Methods that change it give it back, so that they can be chained.
pub struct Registry {
    routes: Arc<Routes>,
    git: Mutex<GitIndex>,
    url: String,
    plain_url: String,
    data: Data,
    _server: Server,
}

/// Settings that a registry must have from the start.
#[derive(Debug, Default)]
pub struct Builder {
    port: u16,
    plain_port: u16,
    data: Option<PathBuf>,
    dl: Option<String>,
    http1_only: bool,
    plain_http: bool,
}

/// The folder of the certificate and the git repository.
enum Data {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Data {
    fn path(&self) -> &Path {
        match self {
            Data::Temporary(folder) => folder.path(),
            Data::Kept(path) => path,
        }
    }
}

impl Builder {
    /// Listens on this port for TLS; else on any that is free.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Listens on this port for plain HTTP; else on any that is free.
    #[must_use]
    pub fn plain_port(mut self, port: u16) -> Self {
        self.plain_port = port;
        self
    }

    /// Keeps certificate and git index in this folder, and leaves them there; the git index is made anew.
    #[must_use]
    pub fn data(mut self, folder: &Path) -> Self {
        self.data = Some(folder.to_owned());
        self
    }

    /// The download URL for `config.json`, with cargo's markers; `{base}` stands for the registry's own URL.
    #[must_use]
    pub fn download_url(mut self, dl: &str) -> Self {
        self.dl = Some(dl.to_owned());
        self
    }

    /// Offers HTTP/1.1 alone.
    #[must_use]
    pub fn http1_only(mut self) -> Self {
        self.http1_only = true;
        self
    }

    /// Makes [`Registry::url`], and all that hangs on it, the URL of plain HTTP.
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Starts the registry.
    pub fn start(self) -> Registry {
        let data = match &self.data {
            Some(path) => Data::Kept(path.clone()),
            None => Data::Temporary(tempfile::tempdir().unwrap()),
        };
        let (tls_listener, tls_port) = bind(self.port).unwrap();
        let (plain_listener, plain_port) = bind(self.plain_port).unwrap();
        let plain_url = format!("http://127.0.0.1:{plain_port}");
        let url = if self.plain_http { plain_url.clone() } else { format!("https://127.0.0.1:{tls_port}") };
        let repositories = data.path().join("git");
        let git = Mutex::new(new_git_index(&repositories.join("index")));
        let routes = Arc::new(self.routes(&url, &repositories));
        let server = Server::new();
        let protocols: &[&[u8]] = if self.http1_only { &[b"http/1.1"] } else { &[b"h2", b"http/1.1"] };
        let acceptor = tls::acceptor(&data.path().join("ca.pem"), protocols);
        server.listen(tls_listener, Some(acceptor), Arc::clone(&routes));
        server.listen(plain_listener, None, Arc::clone(&routes));
        Registry { routes, git, url, plain_url, data, _server: server }
    }

    fn routes(&self, url: &str, repositories: &Path) -> Routes {
        let dl = self.dl.as_deref().unwrap_or("{base}/crates/{crate}/{crate}-{version}.crate").replace("{base}", url);
        Routes {
            shelf: Mutex::new(Shelf::default()),
            faults: Faults::default(),
            log: Arc::new(Log::default()),
            manners: Mutex::new(Manners::new(dl)),
            gzip_index: false.into(),
            gate: watch::Sender::new(false),
            backend: Backend::new(repositories),
            api: url.to_owned(),
        }
    }
}

fn new_git_index(path: &Path) -> GitIndex {
    if path.exists() {
        std::fs::remove_dir_all(path).unwrap();
    }
    GitIndex::create(path)
}

impl Default for Registry {
    fn default() -> Self {
        Registry::new()
    }
}

/// Starting it, and where it is.
impl Registry {
    /// An empty registry on free ports, with TLS, in a temporary folder.
    pub fn new() -> Self {
        Registry::builder().start()
    }

    /// A registry with other settings.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Its URL, without a slash at the end: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same by the name `localhost`, for which the certificate is good too.
    pub fn localhost_url(&self) -> String {
        self.url.replace("127.0.0.1", "localhost")
    }

    /// The URL of the same content over plain HTTP.
    pub fn plain_url(&self) -> &str {
        &self.plain_url
    }

    /// The certificate of the authority that clients must trust, as a PEM file.
    pub fn ca_file(&self) -> PathBuf {
        self.data.path().join("ca.pem")
    }

    /// The URL of the sparse index, with its slash at the end.
    pub fn index_url(&self) -> String {
        format!("{}{INDEX}", self.url)
    }

    /// The same as cargo and crateferry take it: `sparse+https://...`.
    pub fn sparse_url(&self) -> String {
        format!("sparse+{}", self.index_url())
    }

    /// The URL of one file of the sparse index.
    pub fn index_file_url(&self, path: &str) -> String {
        format!("{}{path}", self.index_url())
    }

    /// The URL of a crate file, as a client makes it from `config.json`. The release must be there.
    pub fn crate_url(&self, name: &str, version: &str) -> String {
        let checksum = self.checksum(name, version);
        format!("{}{}", self.url, self.routes.manners().template.path(name, version, &checksum))
    }

    /// The git index as a `file://` URL. What is on the shelf is committed, if nothing ever was.
    pub fn git_file_url(&self) -> String {
        format!("file://{}", self.git_folder().display())
    }

    /// The git index over HTTPS. What is on the shelf is committed, if nothing ever was.
    pub fn git_https_url(&self) -> String {
        self.git_folder();
        format!("{}{GIT}/index", self.url)
    }

    /// The folder of the bare git repository. What is on the shelf is committed, if nothing ever was.
    pub fn git_folder(&self) -> PathBuf {
        if self.git.lock().unwrap().is_empty() {
            self.commit();
        }
        self.data.path().join("git/index")
    }
}

/// What is on its shelf.
impl Registry {
    /// A small release, with a crate file that cargo can build. One that is there already becomes as new.
    pub fn release(&self, name: &str, version: &str) -> &Self {
        self.release_with(name, version, Release::default())
    }

    /// A release with particulars. One that is there already is replaced.
    pub fn release_with(&self, name: &str, version: &str, release: Release) -> &Self {
        self.put(Held::kept(name, version, release, b""))
    }

    /// So many small releases: `c00000 1.0.0` to `1.0.6`, then `c00001`, and so on.
    pub fn releases(&self, count: usize) -> &Self {
        self.bulk(Bulk::of(count))
    }

    /// Many releases of given sizes.
    pub fn bulk(&self, bulk: Bulk) -> &Self {
        let made = bulk.make();
        self.routes.shelf().put_all(made);
        self
    }

    /// Yanks a release.
    pub fn yank(&self, name: &str, version: &str) -> &Self {
        self.routes.shelf().set_yanked(name, version, true);
        self
    }

    /// Takes a yank back.
    pub fn unyank(&self, name: &str, version: &str) -> &Self {
        self.routes.shelf().set_yanked(name, version, false);
        self
    }

    /// Adds a field to every row that lacks it, as upstream does now and then: every index file changes, and no
    /// release is new.
    pub fn rewrite_rows(&self) -> &Self {
        self.routes.shelf().rewrite_rows("2024-01-01T00:00:00Z");
        self
    }

    /// Deletes a release, row and crate file.
    pub fn delete(&self, name: &str, version: &str) -> &Self {
        self.routes.shelf().delete(name, version);
        self
    }

    /// Deletes a crate, index file and all.
    pub fn delete_crate(&self, name: &str) -> &Self {
        self.delete_index_file(&index_path(name))
    }

    /// Deletes an index file and all releases in it.
    pub fn delete_index_file(&self, path: &str) -> &Self {
        self.routes.shelf().delete_file(path);
        self
    }

    /// Publishes a release with the same name and version and other bytes, in the place of the old one.
    pub fn republish(&self, name: &str, version: &str, seed: &[u8]) -> &Self {
        self.put(Held::kept(name, version, Release::default(), seed))
    }

    /// Publishes a release with the same name and version and other bytes, beside the old one: two rows. Its
    /// bytes are those served.
    pub fn duplicate(&self, name: &str, version: &str, seed: &[u8]) -> &Self {
        self.routes.shelf().put_again(Held::kept(name, version, Release::default(), seed));
        self
    }

    /// Puts any bytes in the place of an index file, at any path, whatever lies on the shelf.
    pub fn raw_index_file(&self, path: &str, bytes: impl Into<Bytes>) -> &Self {
        self.routes.shelf().put_raw(path, bytes.into());
        self
    }

    /// Writes any bytes after the rows of an index file.
    pub fn raw_index_rows(&self, path: &str, bytes: &[u8]) -> &Self {
        self.routes.shelf().append_raw(path, bytes);
        self
    }

    /// The index file at this path, as it is served.
    pub fn index_file(&self, path: &str) -> Option<Bytes> {
        self.routes.shelf().index_file(path).map(|file| file.bytes)
    }

    /// The paths of all index files, in order, without `config.json`.
    pub fn index_paths(&self) -> Vec<String> {
        self.routes.shelf().index_paths().into_iter().collect()
    }

    /// The names and versions of all releases, in index order.
    pub fn release_ids(&self) -> Vec<(String, String)> {
        self.routes.shelf().releases().map(|held| (held.name.clone(), held.version.clone())).collect()
    }

    /// The crate file of a release. The release must be there.
    pub fn crate_bytes(&self, name: &str, version: &str) -> Bytes {
        self.held(name, version, Held::body)
    }

    /// The checksum that a release's row has. The release must be there.
    pub fn checksum(&self, name: &str, version: &str) -> String {
        self.held(name, version, |held| held.checksum.clone())
    }

    /// The index row of a release, with its newline. The release must be there.
    pub fn row(&self, name: &str, version: &str) -> String {
        self.held(name, version, Held::row)
    }

    /// Writes the index as a folder of files, as a checkout of the git index is.
    pub fn write_folder(&self, path: &Path) -> &Self {
        let shelf = self.routes.shelf();
        folder::write(
            path,
            &self.routes.config(),
            shelf.index_paths().iter().filter_map(|path| {
                let file = shelf.index_file(path)?;
                Some((path.clone(), file.bytes))
            }),
        );
        drop(shelf);
        self
    }

    fn put(&self, held: Held) -> &Self {
        self.routes.shelf().put(held);
        self
    }

    fn held<T>(&self, name: &str, version: &str, read: impl FnOnce(&Held) -> T) -> T {
        let shelf = self.routes.shelf();
        read(shelf.find(name, version).unwrap_or_else(|| panic!("{name} {version} is not on the shelf")))
    }
}

/// Its git index.
impl Registry {
    /// Commits what changed since the last commit to the git index.
    pub fn commit(&self) -> &Self {
        let mut changes = self.routes.shelf().take_uncommitted();
        changes.push(("config.json".to_owned(), Some(self.routes.config())));
        self.git.lock().unwrap().commit("Update index", &changes);
        self
    }

    /// Replaces the git index's history by one commit without parent and with the same tree; the old tip moves
    /// to a branch `snapshot-DATE`.
    pub fn squash(&self) -> &Self {
        self.git_folder();
        self.git.lock().unwrap().squash();
        self
    }

    /// Moves `master` back by so many commits, as an operator's mistake or an attack would. The next commit
    /// brings everything again.
    pub fn force_push_older(&self, commits: usize) -> &Self {
        self.git.lock().unwrap().rewind(commits);
        self.routes.shelf().commit_again();
        self
    }

    /// The commit that `master` names.
    pub fn git_head(&self) -> String {
        self.git_folder();
        self.git.lock().unwrap().head()
    }

    /// Runs git in the bare repository and gives its output, for what has no method of its own.
    pub fn git(&self, arguments: &[&str]) -> String {
        self.git_folder();
        self.git.lock().unwrap().git(arguments)
    }
}

/// How it behaves.
impl Registry {
    /// A fault for one crate file.
    pub fn fault(&self, name: &str, version: &str, fault: Fault) -> &Self {
        self.add(Target::CrateFile { name: name.to_owned(), version: version.to_owned() }, fault)
    }

    /// A fault for all crate files.
    pub fn fault_crate_files(&self, fault: Fault) -> &Self {
        self.add(Target::AnyCrateFile, fault)
    }

    /// A fault for the sparse index file of one crate.
    pub fn fault_index_file(&self, name: &str, fault: Fault) -> &Self {
        self.add(Target::IndexFile(index_path(name)), fault)
    }

    /// A fault for all paths that begin like this: `/index/`, `/git/`, `/crates/serde/`, or one file.
    pub fn fault_path(&self, prefix: &str, fault: Fault) -> &Self {
        self.add(Target::Path(prefix.to_owned()), fault)
    }

    /// Breaks the body of this crate file once, in its middle.
    pub fn cut_body_once(&self, name: &str, version: &str) -> &Self {
        let middle = self.crate_bytes(name, version).len() / 2;
        self.fault(name, version, Fault::cut_after(middle).once())
    }

    /// Answers `fault` to every request for a crate file while more than `most` of them are in flight.
    pub fn limit_in_flight(&self, most: usize, fault: Fault) -> &Self {
        self.routes.manners().limit = Some((most, fault));
        self
    }

    /// Takes all faults and limits back.
    pub fn heal(&self) -> &Self {
        self.routes.faults.clear();
        self.routes.manners().limit = None;
        self
    }

    /// Answers all requests that [`Fault::held`] holds, now and from now on.
    pub fn let_go(&self) -> &Self {
        self.routes.gate.send_replace(true);
        self
    }

    /// Holds requests with [`Fault::held`] again.
    pub fn hold(&self) -> &Self {
        self.routes.gate.send_replace(false);
        self
    }

    /// What the `ETag`s of index files say.
    pub fn etags(&self, etags: Etags) -> &Self {
        self.routes.manners().etags = etags;
        self
    }

    /// Makes all `ETag`s the same for ever, whatever the content.
    pub fn lie_about_etags(&self) -> &Self {
        self.etags(Etags::Constant)
    }

    /// Compresses index files for clients that take gzip.
    pub fn gzip_index(&self) -> &Self {
        self.routes.gzip_index.store(true, Ordering::Relaxed);
        self
    }

    /// Moves the crate files: another `dl` in `config.json`, with `{base}` for the registry's own URL.
    pub fn set_download_url(&self, dl: &str) -> &Self {
        self.routes.manners().move_downloads(&dl.replace("{base}", &self.url));
        self
    }

    fn add(&self, target: Target, fault: Fault) -> &Self {
        self.routes.faults.add(target, fault);
        self
    }
}

/// What was asked of it.
impl Registry {
    /// The number of all requests.
    pub fn requests(&self) -> usize {
        self.routes.log.total()
    }

    /// The number of requests for one crate file.
    pub fn requests_for(&self, name: &str, version: &str) -> usize {
        self.routes.log.for_crate_file(name, version)
    }

    /// The number of requests for crate files.
    pub fn crate_file_requests(&self) -> usize {
        self.routes.log.for_crate_files()
    }

    /// The number of requests for one file of the sparse index, by its path in the index.
    pub fn index_requests(&self, path: &str) -> usize {
        self.routes.log.for_path(&format!("{INDEX}{path}"))
    }

    /// The number of requests to the git index.
    pub fn git_requests(&self) -> usize {
        self.requests_matching(|request| request.path.starts_with(GIT))
    }

    /// The number of requests that match.
    pub fn requests_matching(&self, matches: impl Fn(&Request) -> bool) -> usize {
        self.routes.log.count(matches)
    }

    /// All requests, oldest first.
    pub fn request_log(&self) -> Vec<Request> {
        self.routes.log.requests()
    }

    /// The most crate files that were in flight at one time.
    pub fn max_in_flight(&self) -> usize {
        self.routes.log.most_in_flight()
    }

    /// The crate files in flight now.
    pub fn in_flight(&self) -> usize {
        self.routes.log.in_flight()
    }

    /// The number of connections that were made.
    pub fn connections(&self) -> u64 {
        self.routes.log.connections()
    }

    /// Forgets all requests and connections.
    pub fn reset_counters(&self) -> &Self {
        self.routes.log.reset();
        self
    }

    /// Waits until so many requests matched; panics if that takes longer than half a minute.
    pub fn wait_for(&self, requests: usize, matches: impl Fn(&Request) -> bool) -> &Self {
        assert!(self.routes.log.wait_for(requests, matches, PATIENCE), "{requests} such requests did not come");
        self
    }
}

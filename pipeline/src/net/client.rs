//! The HTTP clients.
//!
//! One reqwest client is one HTTP/2 connection per host, so bodies come through several clients, the lanes. A
//! client that does not know yet whether a server speaks HTTP/2 opens a connection for each request that waits
//! for one, and throws all but one away; so the first request goes alone and tells which kind of client the
//! others use. If it stands still, the others follow it after a while, and whichever is answered first tells.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::{ACCEPT_ENCODING, HeaderMap, HeaderValue};
use reqwest::{Certificate, Client, ClientBuilder, Proxy, Request, Response, Url, Version};
use tokio::sync::{MutexGuard, Semaphore, SemaphorePermit};

use super::config::ALONE;
use super::hosts::{Resolver, redirect_policy};
use super::{Forbidden, Hosts, NetworkConfig, Pause};

/// The most HTTP/1.1 connections to one host, whatever the configuration says.
const MAX_PLAIN: usize = 256;

/// A network configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// `contact` cannot stand in a header.
    #[error("the contact {0:?} (`[network] contact`) may hold only printable ASCII without parentheses")]
    Contact(String),
    /// `proxy` is not a proxy.
    #[error("the proxy {url} (`[network] proxy`) cannot be used")]
    Proxy {
        /// As configured.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// A CA file that cannot be read.
    #[error("the CA file {} (`[network] ca-files`) cannot be read", path.display())]
    ReadCa {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A CA file without usable certificates.
    #[error("the CA file {} (`[network] ca-files`) holds no usable PEM certificates", path.display())]
    ParseCa {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Option<reqwest::Error>,
    },
    /// The HTTP library refuses, for instance because the platform's certificates cannot be loaded.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

/// All ways to the network, with one set of rules.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    hosts: Arc<Hosts>,
    setup: Setup,
    index: Client,
    pauses: Mutex<HashMap<Box<str>, Arc<Pause>>>,
}

impl Network {
    /// Makes the clients. `named` are the URLs that the operator gave: the upstream, a download URL.
    pub fn new<'a>(config: &NetworkConfig, named: impl IntoIterator<Item = &'a Url>) -> Result<Self, NetworkError> {
        let named: Vec<&Url> = named.into_iter().collect();
        let own = named.iter().filter_map(|url| url.host_str().map(str::to_owned));
        let hosts = Arc::new(Hosts::new(own.chain(config.allow_hosts.iter().cloned())));
        let setup = Setup::read(config)?;
        for url in &named {
            setup.permit_proxy_of(url, &hosts);
        }
        let index = setup.index_client(config, &hosts).build().map_err(NetworkError::Client)?;
        Ok(Network { config: config.clone(), hosts, setup, index, pauses: Mutex::default() })
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &NetworkConfig {
        &self.config
    }

    /// The hosts that may be asked.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    /// Permits the host of a download URL that the registry named, if it is public.
    pub fn permit_registry(&self, url: &Url) -> Result<(), Forbidden> {
        self.setup.permit_proxy_of(url, &self.hosts);
        self.hosts.permit_registry(url)
    }

    /// The client for index files: it takes gzip and undoes it, and has time limits of its own.
    pub fn index_client(&self) -> &Client {
        &self.index
    }

    /// A client for a large file that belongs to neither the index nor the crate files: as it is sent, for as long as bytes come.
    pub fn file_client(&self) -> Result<Client, NetworkError> {
        let client = self.setup.body_client(&self.config, &self.hosts).read_timeout(self.config.rate_window);
        client.build().map_err(NetworkError::Client)
    }

    /// Clients for bodies from one host, which come exactly as they are sent.
    pub fn lanes(&self) -> Result<Lanes, NetworkError> {
        let plain = self.setup.body_client(&self.config, &self.hosts).build().map_err(NetworkError::Client)?;
        let shard = |_| {
            let client = self.setup.body_client(&self.config, &self.hosts).http2_prior_knowledge();
            Ok(Shard { client: client.build().map_err(NetworkError::Client)?, load: AtomicUsize::new(0) })
        };
        let shards = (0..self.config.connections()).map(shard).collect::<Result<_, NetworkError>>()?;
        let plain_places = Semaphore::new(self.config.max_conns_per_host.clamp(1, MAX_PLAIN));
        let (known, first) = (AtomicU8::new(UNTRIED), tokio::sync::Mutex::new(()));
        Ok(Lanes { plain, plain_places, shards, known, first })
    }

    /// What a host asked for with Retry-After, shared by all who ask this host.
    pub fn pause(&self, host: &str) -> Arc<Pause> {
        let mut pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pauses.entry(host.into()).or_default())
    }

    /// Gives a blocking client the same certificates, proxy, User-Agent and rules about addresses.
    pub fn configure_blocking(&self, client: reqwest::blocking::ClientBuilder) -> reqwest::blocking::ClientBuilder {
        let client = client
            .user_agent(self.setup.user_agent.clone())
            .tls_certs_merge(self.setup.certificates.iter().cloned())
            .dns_resolver(Arc::new(Resolver(Arc::clone(&self.hosts))))
            .connect_timeout(self.config.connect_timeout + self.config.tls_timeout);
        match &self.setup.proxy {
            Some(proxy) => client.proxy(proxy.clone()),
            None => client,
        }
    }
}

/// What all clients have in common.
struct Setup {
    user_agent: HeaderValue,
    certificates: Vec<Certificate>,
    proxy: Option<Proxy>,
    proxies: Matcher,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Setup").field("user_agent", &self.user_agent).finish_non_exhaustive()
    }
}

impl Setup {
    fn read(config: &NetworkConfig) -> Result<Self, NetworkError> {
        Ok(Setup {
            user_agent: user_agent(config)?,
            certificates: certificates(&config.ca_files)?,
            proxy: config.proxy.as_deref().map(proxy).transpose()?,
            proxies: match &config.proxy {
                Some(url) => Matcher::builder().all(url.as_str()).build(),
                None => Matcher::from_system(),
            },
        })
    }

    /// Permits connections to the proxy through which this URL is reached, if there is one.
    fn permit_proxy_of(&self, url: &Url, hosts: &Hosts) {
        let proxy = url.as_str().parse().ok().and_then(|uri| self.proxies.intercept(&uri));
        if let Some(host) = proxy.as_ref().and_then(|proxy| proxy.uri().host()) {
            hosts.permit_proxy(host);
        }
    }

    fn client(&self, config: &NetworkConfig, hosts: &Arc<Hosts>) -> ClientBuilder {
        let client = Client::builder()
            .user_agent(self.user_agent.clone())
            .referer(false)
            .redirect(redirect_policy(Arc::clone(hosts)))
            .dns_resolver(Resolver(Arc::clone(hosts)))
            .tls_certs_merge(self.certificates.iter().cloned())
            .connect_timeout(config.connect_timeout + config.tls_timeout)
            .pool_idle_timeout(config.idle_timeout)
            .pool_max_idle_per_host(config.max_idle_conns)
            .http2_initial_stream_window_size(config.stream_window())
            .http2_initial_connection_window_size(config.connection_window())
            .http2_keep_alive_interval(Duration::from_secs(20))
            .http2_keep_alive_timeout(Duration::from_secs(10));
        match &self.proxy {
            Some(proxy) => client.proxy(proxy.clone()),
            None => client,
        }
    }

    fn index_client(&self, config: &NetworkConfig, hosts: &Arc<Hosts>) -> ClientBuilder {
        self.client(config, hosts).gzip(true).timeout(config.total_timeout).read_timeout(config.rate_window)
    }

    fn body_client(&self, config: &NetworkConfig, hosts: &Arc<Hosts>) -> ClientBuilder {
        let as_it_is = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("identity"))]);
        self.client(config, hosts).gzip(false).default_headers(as_it_is)
    }
}

fn user_agent(config: &NetworkConfig) -> Result<HeaderValue, NetworkError> {
    let contact = config.contact.as_deref().unwrap_or_default();
    let printable = contact.bytes().all(|b| (b' '..=b'~').contains(&b) && !b"()\\".contains(&b));
    match HeaderValue::try_from(config.user_agent()) {
        Ok(agent) if printable => Ok(agent),
        _ => Err(NetworkError::Contact(contact.to_owned())),
    }
}

fn proxy(url: &str) -> Result<Proxy, NetworkError> {
    Proxy::all(url).map_err(|source| NetworkError::Proxy { url: url.to_owned(), source })
}

fn certificates(files: &[PathBuf]) -> Result<Vec<Certificate>, NetworkError> {
    let mut certificates = Vec::new();
    for path in files {
        let pem = fs::read(path).map_err(|source| NetworkError::ReadCa { path: path.clone(), source })?;
        let found = Certificate::from_pem_bundle(&pem)
            .map_err(|source| NetworkError::ParseCa { path: path.clone(), source: Some(source) })?;
        if found.is_empty() {
            return Err(NetworkError::ParseCa { path: path.clone(), source: None });
        }
        certificates.extend(found);
    }
    Ok(certificates)
}

/// Nothing has been asked yet.
const UNTRIED: u8 = 0;
/// The first request failed or stands still, or connections of the known kind fail now.
const UNSURE: u8 = 1;
/// The server speaks HTTP/2 itself.
const HTTP2: u8 = 2;
/// The server speaks HTTP/1.1, or sends us on to another.
const PLAIN: u8 = 3;

/// Several connections to one host.
#[derive(Debug)]
pub struct Lanes {
    plain: Client,
    plain_places: Semaphore,
    shards: Box<[Shard]>,
    known: AtomicU8,
    first: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Shard {
    client: Client,
    load: AtomicUsize,
}

/// What is known of the server that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// Nothing yet.
    Unknown,
    /// It speaks HTTP/2: requests share connections.
    Http2,
    /// It speaks HTTP/1.1, or redirects: each request has a connection of its own.
    Http1,
}

impl Lanes {
    /// Waits for a place on one of the connections. It is to be kept until the body has come.
    pub async fn enter(&self) -> Lane<'_> {
        if self.known.load(Ordering::Relaxed) == UNTRIED {
            match tokio::time::timeout(ALONE, self.first.lock()).await {
                Ok(alone) if self.known.load(Ordering::Relaxed) == UNTRIED => {
                    let first = Some(First { lanes: self, _alone: alone });
                    return Lane { lanes: self, way: self.plain_way().await, first };
                }
                Ok(_told) => {}
                Err(_stands_still) => self.tried(),
            }
        }
        let way = match self.known.load(Ordering::Relaxed) {
            HTTP2 => self.least_busy(),
            _ => self.plain_way().await,
        };
        Lane { lanes: self, way, first: None }
    }

    /// What is known of the server.
    pub fn answerer(&self) -> Answerer {
        match self.known.load(Ordering::Relaxed) {
            HTTP2 => Answerer::Http2,
            PLAIN => Answerer::Http1,
            _ => Answerer::Unknown,
        }
    }

    async fn plain_way(&self) -> Way<'_> {
        Way::Plain { _place: self.plain_places.acquire().await.expect("the semaphore is never closed") }
    }

    fn least_busy(&self) -> Way<'_> {
        let shard = self.shards.iter().min_by_key(|shard| shard.load.load(Ordering::Relaxed));
        let shard = shard.expect("there is at least one connection");
        shard.load.fetch_add(1, Ordering::Relaxed);
        Way::Shard(Loaded(shard))
    }

    /// Lets nobody wait for the first request any more. What is known stays.
    fn tried(&self) {
        let _already_known = self.known.compare_exchange(UNTRIED, UNSURE, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Remembers what kind of server answered.
    fn learn(&self, asked: Option<&str>, response: &Response) {
        let itself = response.url().host_str() == asked;
        let known = if itself && response.version() == Version::HTTP_2 { HTTP2 } else { PLAIN };
        self.known.store(known, Ordering::Relaxed);
    }
}

/// A place on one of the connections.
#[derive(Debug)]
pub struct Lane<'a> {
    lanes: &'a Lanes,
    way: Way<'a>,
    first: Option<First<'a>>,
}

#[derive(Debug)]
enum Way<'a> {
    Plain { _place: SemaphorePermit<'a> },
    Shard(Loaded<'a>),
}

impl Lane<'_> {
    /// Sends a request and waits for the answer's headers.
    pub async fn send(&mut self, request: Request) -> Result<Response, reqwest::Error> {
        match &self.way {
            Way::Plain { .. } => {
                let asked = request.url().host_str().map(str::to_owned);
                let answer = self.lanes.plain.execute(request).await;
                if let Ok(response) = &answer {
                    self.lanes.learn(asked.as_deref(), response);
                }
                self.first = None;
                answer
            }
            Way::Shard(Loaded(shard)) => {
                let answer = shard.client.execute(request).await;
                if answer.as_ref().is_err_and(reqwest::Error::is_connect) {
                    // It may be another server by now: the next request asks in a way that either kind understands.
                    self.lanes.known.store(UNSURE, Ordering::Relaxed);
                }
                answer
            }
        }
    }
}

/// The first request of all, which goes alone. However it ends, it has been tried.
#[derive(Debug)]
struct First<'a> {
    lanes: &'a Lanes,
    _alone: MutexGuard<'a, ()>,
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.lanes.tried();
    }
}

/// One request more on a connection, for as long as it lives.
#[derive(Debug)]
struct Loaded<'a>(&'a Shard);

impl Drop for Loaded<'_> {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contact_that_could_break_out_of_its_header_is_refused() {
        for contact in ["a\r\nb: c", "é@example.org", "x) cargo (", "\\"] {
            let config = NetworkConfig { contact: Some(contact.to_owned()), ..NetworkConfig::default() };
            assert!(matches!(Network::new(&config, []), Err(NetworkError::Contact(_))), "{contact:?}");
        }
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test makes its own files")]
    fn a_missing_and_an_empty_ca_file_are_named_with_their_key() {
        let dir = tempfile::tempdir().unwrap();
        let empty = dir.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        for path in [dir.path().join("none.pem"), empty] {
            let config = NetworkConfig { ca_files: vec![path.clone()], ..NetworkConfig::default() };
            let text = Network::new(&config, []).unwrap_err().to_string();
            assert!(text.contains(&path.display().to_string()) && text.contains("ca-files"), "{text}");
        }
    }

    #[tokio::test]
    async fn requests_spread_over_the_lanes() {
        let config = NetworkConfig { connections: 3, ..NetworkConfig::default() };
        let lanes = Network::new(&config, []).unwrap().lanes().unwrap();
        let held: Vec<Way<'_>> = (0..7).map(|_| lanes.least_busy()).collect();
        let loads = || lanes.shards.iter().map(|shard| shard.load.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!(loads().iter().sum::<usize>(), 7);
        assert!(loads().iter().all(|load| (2..=3).contains(load)));
        drop(held);
        assert_eq!(loads(), [0, 0, 0]);
    }
}

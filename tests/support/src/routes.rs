//! From a request to its answer: what is asked for, whether a fault has its way, and the honest answer if not.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use tokio::sync::watch;

use crate::backend::{Backend, GitRequest};
use crate::crate_file::gzip;
use crate::fault::{Answering, Ending, Fault, Faults, Length, Shape, Target};
use crate::log::{Log, Request, Ticket};
use crate::payload::{FLUSH, Payload, Source};
use crate::server::Connection;
use crate::shelf::{IndexFile, Shelf};
use crate::sparse::{self, Etags};
use crate::template::{Asked, Template};

/// The largest request body that is taken; git's lists of commits are the only ones that clients send.
const MOST_REQUEST_BODY: usize = 64 * 1024 * 1024;
/// Where the sparse index lies.
pub(crate) const INDEX: &str = "/index/";
/// Where the git index lies.
pub(crate) const GIT: &str = "/git";

/// All that an answer is made from.
pub(crate) struct Routes {
    pub(crate) shelf: Mutex<Shelf>,
    pub(crate) faults: Faults,
    pub(crate) log: Arc<Log>,
    pub(crate) manners: Mutex<Manners>,
    pub(crate) gzip_index: AtomicBool,
    pub(crate) gate: watch::Sender<bool>,
    pub(crate) backend: Backend,
    pub(crate) api: String,
}

/// How the registry behaves towards everyone.
pub(crate) struct Manners {
    /// The download URL, as `config.json` has it.
    pub(crate) dl: String,
    pub(crate) template: Template,
    pub(crate) etags: Etags,
    /// How many crate files may be in flight, and what the others get.
    pub(crate) limit: Option<(usize, Fault)>,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Index(String),
    CrateFile(Asked),
    Git(String),
    Nothing,
}

/// An answer before faults and transport.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) source: Source,
}

impl Answer {
    /// A short answer in words.
    pub(crate) fn text(status: StatusCode, text: &str) -> Self {
        Answer { status, headers: HeaderMap::new(), source: Source::Bytes(Bytes::copy_from_slice(text.as_bytes())) }
    }

    fn set(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            self.headers.insert(name, value);
        }
    }

    fn gzipped(self, bytes: &[u8]) -> Self {
        let mut answer = Answer { source: Source::Bytes(gzip(bytes).into()), ..self };
        answer.set("content-encoding", "gzip");
        answer
    }
}

impl Manners {
    /// The manners of a registry whose crate files lie at this URL, which may hold markers.
    pub(crate) fn new(dl: String) -> Self {
        let template = Template::new(path_of(&dl));
        Manners { dl, template, etags: Etags::Honest, limit: None }
    }

    /// The content of `config.json`.
    pub(crate) fn config(&self, api: Option<&str>) -> Bytes {
        let mut config = serde_json::json!({ "dl": self.dl });
        if let Some(api) = api {
            config["api"] = api.into();
        }
        format!("{}\n", serde_json::to_string_pretty(&config).unwrap()).into()
    }

    /// Moves the crate files to another URL.
    pub(crate) fn move_downloads(&mut self, dl: &str) {
        dl.clone_into(&mut self.dl);
        self.template = Template::new(path_of(dl));
    }
}

/// What comes behind scheme and authority.
fn path_of(url: &str) -> &str {
    let behind_scheme = url.find("://").map_or(0, |at| at + 3);
    url[behind_scheme..].find('/').map_or("", |at| &url[behind_scheme + at..])
}

impl Routes {
    /// Counts a connection.
    pub(crate) fn connected(&self) -> u64 {
        self.log.connected()
    }

    pub(crate) fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap()
    }

    pub(crate) fn manners(&self) -> MutexGuard<'_, Manners> {
        self.manners.lock().unwrap()
    }

    /// The content of `config.json`.
    pub(crate) fn config(&self) -> Bytes {
        self.manners().config(Some(&self.api))
    }

    /// Answers one request; an error breaks its stream.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        connection: Arc<Connection>,
    ) -> io::Result<Response<Payload>> {
        let (parts, body) = request.into_parts();
        let route = self.route(parts.uri.path());
        let ticket = self.log.open(self.record(&parts, &route, connection.number));
        let body = collect(body).await?;
        let fault = self.fault(&route, parts.uri.path());
        let outgoing = Outgoing { routes: &self, parts: &parts, route, connection, ticket };
        outgoing.send(fault, body).await
    }

    fn route(&self, path: &str) -> Route {
        let path = percent_decoded(path);
        if let Some(index) = path.strip_prefix(INDEX) {
            return Route::Index(index.to_owned());
        }
        if let Some(git) = path.strip_prefix(GIT) {
            return Route::Git(git.to_owned());
        }
        let template = self.manners().template.clone();
        let api = Template::new("/api/v1/crates");
        let read = |template: Template| template.read(&path, &|asked| self.shelf().asked(asked).is_some());
        read(template).or_else(|| read(api)).map_or(Route::Nothing, Route::CrateFile)
    }

    fn record(&self, parts: &Parts, route: &Route, connection: u64) -> Request {
        Request {
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().map(str::to_owned),
            headers: parts.headers.iter().map(|(name, value)| (name.to_string(), lossy(value))).collect(),
            protocol: format!("{:?}", parts.version),
            connection,
            crate_file: self.crate_file_of(route),
            status: None,
            bytes_sent: 0,
            finished: false,
        }
    }

    /// The name and version behind a download path, though it may show neither.
    fn crate_file_of(&self, route: &Route) -> Option<(String, String)> {
        let Route::CrateFile(asked) = route else { return None };
        if let Some(held) = self.shelf().asked(asked) {
            return Some((held.name.clone(), held.version.clone()));
        }
        Some((asked.name.clone().unwrap_or_default(), asked.version.clone().unwrap_or_default()))
    }

    fn fault(&self, route: &Route, path: &str) -> Option<Fault> {
        let id = self.crate_file_of(route);
        let crowded = || {
            let (most, fault) = self.manners().limit.clone()?;
            (self.log.in_flight() > most).then_some(fault)
        };
        let fits = |target: &Target| match (target, route) {
            (Target::CrateFile { name, version }, _) => id.as_ref().is_some_and(|id| (&id.0, &id.1) == (name, version)),
            (Target::AnyCrateFile, Route::CrateFile(_)) => true,
            (Target::IndexFile(wanted), Route::Index(asked)) => wanted == asked,
            (Target::Path(prefix), _) => path.starts_with(prefix.as_str()),
            _ => false,
        };
        id.as_ref().and_then(|_| crowded()).or_else(|| self.faults.take(fits))
    }

    fn index(&self, path: &str, asked: &HeaderMap) -> Answer {
        let file = match path {
            "config.json" => Some(IndexFile { bytes: self.config(), revision: 0 }),
            _ => self.shelf().index_file(path),
        };
        let Some(file) = file else { return Answer::text(StatusCode::NOT_FOUND, "no such index file") };
        let etags = self.manners().etags;
        let mut answer = sparse::answer(&file, etags, asked);
        if answer.status == StatusCode::OK && self.gzip_index.load(Ordering::Relaxed) && accepts_gzip(asked) {
            answer = answer.gzipped(&file.bytes);
            answer.set("vary", "accept-encoding");
        }
        answer
    }

    fn crate_file(&self, asked: &Asked, headers: &HeaderMap) -> Answer {
        let held = self.shelf().asked(asked).map(|held| (held.body(), held.checksum.clone()));
        let Some((body, checksum)) = held else { return Answer::text(StatusCode::NOT_FOUND, "no such crate file") };
        let mut answer = ranged(body, headers);
        answer.set("content-type", "application/x-tar");
        answer.set("cache-control", "public,max-age=31536000,immutable");
        answer.set("etag", &format!("\"{checksum}\""));
        answer.set("accept-ranges", "bytes");
        answer
    }
}

/// One answer on its way to the client.
struct Outgoing<'a> {
    routes: &'a Routes,
    parts: &'a Parts,
    route: Route,
    connection: Arc<Connection>,
    ticket: Ticket,
}

impl Outgoing<'_> {
    async fn send(self, fault: Option<Fault>, body: Bytes) -> io::Result<Response<Payload>> {
        let Some(fault) = fault else {
            let answer = self.honest(body).await;
            return Ok(self.respond(answer, Shape::default()));
        };
        if let Some(delay) = fault.delay {
            tokio::time::sleep(delay).await;
        }
        let (mut answer, shape) = self.faulty(&fault.answer, body).await?;
        for (name, value) in &fault.headers {
            answer.set(name, value);
        }
        Ok(self.respond(answer, shape))
    }

    async fn honest(&self, body: Bytes) -> Answer {
        match &self.route {
            Route::Index(path) => self.routes.index(path, &self.parts.headers),
            Route::CrateFile(asked) => self.routes.crate_file(asked, &self.parts.headers),
            Route::Git(path) => self.routes.backend.answer(self.git_request(path, body)).await,
            Route::Nothing => Answer::text(StatusCode::NOT_FOUND, "nothing lies here"),
        }
    }

    fn git_request<'b>(&'b self, path_info: &'b str, body: Bytes) -> GitRequest<'b> {
        let Parts { method, uri, headers, .. } = self.parts;
        GitRequest { method, path_info, query: uri.query().unwrap_or_default(), headers, body }
    }

    async fn faulty(&self, answering: &Answering, body: Bytes) -> io::Result<(Answer, Shape)> {
        let plain = Shape::default();
        Ok(match answering {
            Answering::Status(status) => (Answer::text(*status, "a fault"), plain),
            Answering::Redirect(url) => (redirect(url), plain),
            Answering::RedirectToItself => (redirect(self.parts.uri.path()), plain),
            Answering::Body(bytes) => {
                (Answer { source: Source::Bytes(bytes.clone()), ..self.honest(body).await }, plain)
            }
            Answering::WrongBytes => (wrong_bytes(self.honest(body).await).await, plain),
            Answering::Gzip => (unasked_gzip(self.honest(body).await).await, plain),
            Answering::Poured(shape) => (self.honest(body).await, *shape),
            Answering::Honest => (self.honest(body).await, plain),
            Answering::StallHeaders => std::future::pending().await,
            Answering::Held => {
                self.gate_opened().await;
                (self.honest(body).await, plain)
            }
            Answering::Reset => {
                self.connection.abort();
                return Err(io::Error::other("reset by a fault"));
            }
            Answering::GoAway => {
                self.connection.leave();
                tokio::time::sleep(FLUSH).await;
                (self.honest(body).await, plain)
            }
        })
    }

    async fn gate_opened(&self) {
        let mut gate = self.routes.gate.subscribe();
        let _ = gate.wait_for(|open| *open).await;
    }

    fn respond(self, answer: Answer, shape: Shape) -> Response<Payload> {
        let Answer { status, mut headers, source } = answer;
        let bodiless = status == StatusCode::NOT_MODIFIED || self.parts.method == Method::HEAD;
        if let Some(length) =
            said_length(&source, shape, self.parts.version).filter(|_| status != StatusCode::NOT_MODIFIED)
        {
            headers.insert(header::CONTENT_LENGTH, length.into());
        }
        self.ticket.answered(status.as_u16());
        let payload = match source {
            _ if bodiless => Payload::whole(Bytes::new(), self.ticket),
            Source::Bytes(bytes) if shape.is_plain() => Payload::whole(bytes, self.ticket),
            source => Payload::poured(source, shape, self.connection, self.ticket),
        };
        let mut response = Response::new(payload);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

impl Shape {
    fn is_plain(&self) -> bool {
        let honest = matches!(self.length, Length::Honest);
        self.ending == Ending::Clean && self.pace.is_none() && self.surplus == 0 && honest
    }
}

/// The Content-Length of an answer. HTTP/1.1 cannot carry more than it promises, so there a surplus promises
/// nothing.
fn said_length(source: &Source, shape: Shape, version: hyper::Version) -> Option<u64> {
    match shape.length {
        Length::Unsaid => None,
        Length::Claimed(length) => Some(length),
        Length::Honest if shape.surplus > 0 && version != hyper::Version::HTTP_2 => None,
        Length::Honest => source.length().map(|length| length as u64),
    }
}

async fn collect(body: Incoming) -> io::Result<Bytes> {
    let mut body = std::pin::pin!(body);
    let mut collected = Vec::new();
    while let Some(frame) = std::future::poll_fn(|task| body.as_mut().poll_frame(task)).await {
        if let Ok(data) = frame.map_err(io::Error::other)?.into_data() {
            collected.extend_from_slice(&data);
        }
        if collected.len() > MOST_REQUEST_BODY {
            return Err(io::Error::other("the request body is too long"));
        }
    }
    Ok(collected.into())
}

fn redirect(url: &str) -> Answer {
    let mut answer = Answer::text(StatusCode::FOUND, "elsewhere");
    answer.set("location", url);
    answer
}

async fn wrong_bytes(answer: Answer) -> Answer {
    let Answer { status, headers, source } = answer;
    let wrong: Vec<u8> = source.collect().await.iter().map(|byte| byte ^ 0x55).collect();
    Answer { status, headers, source: Source::Bytes(wrong.into()) }
}

async fn unasked_gzip(answer: Answer) -> Answer {
    let Answer { status, headers, source } = answer;
    let bytes = source.collect().await;
    Answer { status, headers, source: Source::Bytes(Bytes::new()) }.gzipped(&bytes)
}

fn accepts_gzip(asked: &HeaderMap) -> bool {
    asked.get_all(header::ACCEPT_ENCODING).iter().any(|value| lossy(value).contains("gzip"))
}

/// The whole body, or the one open-ended or closed range that was asked for.
fn ranged(body: Bytes, asked: &HeaderMap) -> Answer {
    let length = body.len();
    let answer = |status, source| Answer { status, headers: HeaderMap::new(), source: Source::Bytes(source) };
    let Some((start, end)) = asked.get(header::RANGE).and_then(|value| range(value, length)) else {
        return answer(StatusCode::OK, body);
    };
    if start >= length {
        let mut refused = answer(StatusCode::RANGE_NOT_SATISFIABLE, Bytes::new());
        refused.set("content-range", &format!("bytes */{length}"));
        return refused;
    }
    let mut part = answer(StatusCode::PARTIAL_CONTENT, body.slice(start..end));
    part.set("content-range", &format!("bytes {start}-{}/{length}", end - 1));
    part
}

/// The first byte of a range and the one behind its last.
fn range(value: &HeaderValue, length: usize) -> Option<(usize, usize)> {
    let (start, end) = value.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let start: usize = start.parse().ok()?;
    let end = if end.is_empty() { length } else { end.parse::<usize>().ok()?.saturating_add(1).min(length) };
    (start < end || start >= length).then_some((start, end))
}

fn lossy(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// The path without its escapes; what is no escape stays as it is.
fn percent_decoded(path: &str) -> String {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        let escaped = (first == b'%').then(|| escape(behind)).flatten();
        decoded.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn escape(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_read_and_the_rest_is_left() {
        assert_eq!(percent_decoded("/a%2Bb%zz+%2"), "/a+b%zz+%2");
    }

    #[test]
    fn the_path_of_a_url_begins_behind_its_host() {
        assert_eq!(path_of("https://127.0.0.1:80/crates/{crate}"), "/crates/{crate}");
        assert_eq!(path_of("https://127.0.0.1:80"), "");
    }

    #[test]
    fn a_range_is_cut_to_what_is_there() {
        assert_eq!(range(&HeaderValue::from_static("bytes=2-"), 10), Some((2, 10)));
        assert_eq!(range(&HeaderValue::from_static("bytes=2-99"), 10), Some((2, 10)));
        assert_eq!(range(&HeaderValue::from_static("bytes=5-3"), 10), None);
    }
}

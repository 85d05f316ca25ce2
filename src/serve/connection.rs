//! Connections: accepting, watching and ending them.
//!
//! The web framework sets no timers, so that a client which sends or takes nothing would hold its connection for ever.
//! Here every connection has a [watchman](super::watchman) beside it. When the server stops, requests under way are
//! finished.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_LENGTH;
use axum::http::uri::PathAndQuery;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ambiguity;
use super::body::Share;
use super::limits::ServeLimits;
use super::meter::{Connected, Measured, Meter};
use super::site::Site;
use super::tls::Certificates;
use super::together::{Inbox, Together};
use super::watchman::{InHand, Traffic, Verdict, Watchman};

/// A listening address and what is served there.
pub struct Listener {
    /// Where clients come in.
    pub tcp: TcpListener,
    /// Clients speak TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Who answers.
    pub site: Arc<Site>,
    /// What clients may do.
    pub limits: ServeLimits,
    /// What is counted.
    pub meter: Arc<Meter>,
    /// Ends the listening; connections then finish what is under way.
    pub stop: CancellationToken,
}

impl Listener {
    /// Serves until it is stopped and every connection has ended, or the time to drain is over.
    pub async fn serve(self) {
        keep_little_unsent(&self.tcp, self.limits.unsent);
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let turns = Arc::new(Semaphore::new(self.limits.turns));
        let addresses = Arc::new(Addresses::default());
        while let Some((stream, peer, place)) = self.accept(&places).await {
            let Some(seat) = Addresses::enter(&addresses, peer.ip(), self.limits.connections_per_address) else {
                self.meter.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%peer, "too many connections from this address");
                continue;
            };
            let connection = Connection {
                site: self.site.clone(),
                limits: self.limits.clone(),
                meter: self.meter.clone(),
                turns: turns.clone(),
                stop: self.stop.clone(),
                peer: peer.ip(),
                _held: (place, seat, self.meter.connected()),
            };
            let certificates = self.certificates.clone();
            connections.spawn(async move {
                if let Err(error) = connection.run(stream, certificates).await {
                    tracing::debug!(%peer, error = error.as_ref() as &dyn std::error::Error, "a connection ended");
                }
            });
        }
        drop(self.tcp);
        connections.close();
        if tokio::time::timeout(self.limits.drain, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "not all clients were done in time");
        }
    }

    /// The next client; none once the server stops.
    async fn accept(&self, places: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        loop {
            let accepted = async {
                let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
                (self.tcp.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                () = self.stop.cancelled() => return None,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, peer)) => return Some((stream, peer, place)),
                Err(error) if is_of_one_client(&error) => {}
                Err(error) => {
                    // Most likely there is no descriptor left. Trying again at once would only spin.
                    tracing::warn!(%error, "cannot accept connections for now");
                    tokio::time::sleep(self.limits.follow).await;
                }
            }
        }
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn http(limits: &ServeLimits, inbox: &Inbox) -> Builder<Inbox> {
    let mut http = Builder::new(inbox.clone());
    // The watchman looks at heads too: this timer would also end connections that lie idle.
    http.http1().header_read_timeout(None).max_buf_size(limits.head_bytes as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes)
        .max_send_buf_size(limits.chunk)
        .initial_stream_window_size(limits.head_bytes)
        .initial_connection_window_size(u32::from(u16::MAX))
        .keep_alive_interval(limits.idle / 2)
        .keep_alive_timeout(limits.first_request);
    http
}

/// Lets connections have only so many bytes in the operating system that have not been sent. Else it takes megabytes for
/// a client that reads nothing, and a client that reads slowly seems to take nothing for minutes.
#[cfg(target_os = "linux")]
fn keep_little_unsent(tcp: &TcpListener, bytes: u32) {
    if let Err(error) = socket2::SockRef::from(tcp).set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "the system's buffers for connections stay as they are");
    }
}

#[cfg(not(target_os = "linux"))]
fn keep_little_unsent(_tcp: &TcpListener, _bytes: u32) {}

/// How many connections each address has.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    fn enter(this: &Arc<Self>, address: IpAddr, most: usize) -> Option<Seat> {
        let address = one_of_many(address);
        let mut counts = this.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        (*count < most).then(|| {
            *count += 1;
            Seat { addresses: this.clone(), address }
        })
    }
}

/// What counts as one address: with IPv6 the network of 64 bits, any address of which its owner may take.
fn one_of_many(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// One connection of an address, for as long as it lives.
struct Seat {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// One connection: what it needs and what it holds.
struct Connection {
    site: Arc<Site>,
    limits: ServeLimits,
    meter: Arc<Meter>,
    turns: Arc<Semaphore>,
    stop: CancellationToken,
    peer: IpAddr,
    _held: (OwnedSemaphorePermit, Seat, Connected),
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Connection {
    async fn run(self, stream: TcpStream, certificates: Option<Arc<Certificates>>) -> Result<(), AnyError> {
        stream.set_nodelay(true)?;
        let traffic = Arc::new(Traffic::new());
        match certificates {
            None => self.answer(stream, traffic).await,
            Some(certificates) => {
                let greeted = self.greet(stream, &certificates).await;
                if greeted.is_err() {
                    self.meter.handshake_failures.fetch_add(1, Ordering::Relaxed);
                }
                self.answer(greeted?, traffic).await
            }
        }
    }

    async fn greet(&self, stream: TcpStream, certificates: &Certificates) -> Result<TlsStream<TcpStream>, AnyError> {
        let handshake = tokio::time::timeout(self.limits.first_request, certificates.acceptor().accept(stream));
        tokio::select! {
            () = self.stop.cancelled() => Err("the server stops".into()),
            greeted = handshake => Ok(greeted??),
        }
    }

    async fn answer(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        traffic: Arc<Traffic>,
    ) -> Result<(), AnyError> {
        let share = Share::new(&self.limits, self.turns.clone(), self.stop.clone(), self.peer);
        let service = {
            let (traffic, site, meter) = (traffic.clone(), self.site.clone(), self.meter.clone());
            service_fn(move |request: hyper::Request<Incoming>| {
                let measured = meter.begin(request.uri().path());
                // In a box, that goes once the body begins: most of a slow client's requests are bodies.
                Box::pin(answer(request, site.clone(), share.clone(), traffic.clone(), measured))
            })
        };
        let inbox = Inbox::default();
        let http = http(&self.limits, &inbox);
        let connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let mut together = Together::new(connection, inbox);
        let mut watchman = Watchman::new(traffic, &self.limits);
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = &mut together => return ended,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    watchman.hurry(self.limits.last_wait);
                    together.connection.as_mut().graceful_shutdown();
                }
                verdict = watchman.watch() => match verdict {
                    Verdict::Finish => together.connection.as_mut().graceful_shutdown(),
                    Verdict::Cut(why) => {
                        self.meter.cut.fetch_add(1, Ordering::Relaxed);
                        return Err(why.into());
                    }
                },
            }
        }
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    site: Arc<Site>,
    share: Share,
    traffic: Arc<Traffic>,
    mut measured: Measured,
) -> Result<Response<Answering>, Infallible> {
    let in_hand = InHand::begin(traffic);
    let mut line = Line::begin(&request);
    let path = request.uri().path_and_query().cloned();
    let mut response = match ambiguity::refusal(&request) {
        Some(refusal) => refusal,
        None => site.answer(request, share).await,
    };
    if response.status() == StatusCode::NOT_MODIFIED {
        // The router said how long an empty body is; what counts here is the one that is not sent.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    measured.answered(&response);
    let in_hand = if response.extensions().get::<Unhurried>().is_some() { in_hand.unhurried() } else { in_hand };
    if let Some(line) = &mut line {
        line.status = Some(response.status().as_u16());
    }
    Ok(response.map(|body| Answering { body, path, line, measured, in_hand }))
}

/// What the log says of a request at level debug, once its answer has gone out or was given up.
struct Line {
    method: Method,
    /// As it came, without its query. Whoever sends it chooses it, so it is logged with escapes.
    path: String,
    status: Option<u16>,
    bytes: u64,
    begun: Instant,
}

impl Line {
    fn begin<B>(request: &hyper::Request<B>) -> Option<Box<Line>> {
        let line = || Line {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            status: None,
            bytes: 0,
            begun: Instant::now(),
        };
        tracing::enabled!(tracing::Level::DEBUG).then(|| Box::new(line()))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Line { method, path, status, bytes, begun } = self;
        tracing::debug!(%method, ?path, status, bytes, ms = begun.elapsed().as_millis() as u64, "request");
    }
}

/// Marks the response whose body takes its time, like a stream of events: who reads it slowly is not cut off.
#[derive(Clone, Copy, Debug)]
pub struct Unhurried;

/// The body of an answer; the request is in hand until it is gone.
struct Answering {
    body: Body,
    path: Option<PathAndQuery>,
    line: Option<Box<Line>>,
    measured: Measured,
    in_hand: InHand,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                self.measured.sent(bytes);
                self.in_hand.took(bytes);
                self.line.iter_mut().for_each(|line| line.bytes += bytes);
            }
            Some(Err(error)) => {
                let error = crateferry_pipeline::error_chain(error);
                let path = self.path.as_ref().map_or("", PathAndQuery::path);
                tracing::error!(?path, error, "an answer ends short");
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

//! Connections: accepting, watching and ending them.
//!
//! The web framework sets no timers, so that a client which sends or takes nothing would hold its connection for ever.
//! Here every connection has a watchman beside it, who ends it when it is idle for too long or takes too little of what
//! it asked for, and lets it finish what is under way when the server stops.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Method;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::body::Share;
use super::limits::ServeLimits;
use super::meter::{Connected, Measured, Meter};
use super::tls::Certificates;

/// A listening address and what is served there.
pub struct Listener {
    /// Where clients come in.
    pub tcp: TcpListener,
    /// Clients speak TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Who answers.
    pub router: Router,
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
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.limits.connections));
        let addresses = Arc::new(Addresses::default());
        let http = http(&self.limits);
        while let Some((stream, peer, place)) = self.accept(&places).await {
            let Some(seat) = Addresses::enter(&addresses, peer.ip(), self.limits.connections_per_address) else {
                self.meter.refused.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%peer, "too many connections from this address");
                continue;
            };
            let connection = Connection {
                http: http.clone(),
                router: self.router.clone(),
                limits: self.limits.clone(),
                meter: self.meter.clone(),
                stop: self.stop.clone(),
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

fn http(limits: &ServeLimits) -> Arc<Builder<TokioExecutor>> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(limits.head_bytes as usize);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes)
        .max_send_buf_size(limits.chunk)
        .keep_alive_interval(limits.idle / 2)
        .keep_alive_timeout(limits.head);
    Arc::new(http)
}

/// How many connections each address has.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

impl Addresses {
    fn enter(this: &Arc<Self>, address: IpAddr, most: usize) -> Option<Seat> {
        let mut counts = this.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        (*count < most).then(|| {
            *count += 1;
            Seat { addresses: this.clone(), address }
        })
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
    http: Arc<Builder<TokioExecutor>>,
    router: Router,
    limits: ServeLimits,
    meter: Arc<Meter>,
    stop: CancellationToken,
    _held: (OwnedSemaphorePermit, Seat, Connected),
}

type AnyError = Box<dyn std::error::Error + Send + Sync>;

impl Connection {
    async fn run(self, stream: TcpStream, certificates: Option<Arc<Certificates>>) -> Result<(), AnyError> {
        stream.set_nodelay(true)?;
        match certificates {
            None => self.answer(stream).await,
            Some(certificates) => {
                let greeted = self.greet(stream, &certificates).await;
                if greeted.is_err() {
                    self.meter.handshake_failures.fetch_add(1, Ordering::Relaxed);
                }
                self.answer(greeted?).await
            }
        }
    }

    async fn greet(&self, stream: TcpStream, certificates: &Certificates) -> Result<TlsStream<TcpStream>, AnyError> {
        let handshake = certificates.acceptor().accept(stream);
        Ok(tokio::time::timeout(self.limits.first_request, handshake).await??)
    }

    async fn answer(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<(), AnyError> {
        let traffic = Arc::new(Traffic::new());
        let share = Share::new(self.limits.connection_bytes, self.limits.chunk);
        let service = {
            let (traffic, router, meter) = (traffic.clone(), self.router.clone(), self.meter.clone());
            let stopping = Stopping(self.stop.clone());
            service_fn(move |mut request: hyper::Request<Incoming>| {
                request.extensions_mut().insert(stopping.clone());
                let measured = meter.begin(request.uri().path());
                answer(request, router.clone(), share.clone(), traffic.clone(), measured)
            })
        };
        let stream = TokioIo::new(Metered { stream, traffic: traffic.clone() });
        let mut connection = pin!(self.http.serve_connection(stream, service));
        let mut watchman = Watchman::new(traffic, self.limits.clone());
        let mut stopping = false;
        loop {
            tokio::select! {
                ended = connection.as_mut() => return ended,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                verdict = watchman.watch() => match verdict {
                    Verdict::Finish => connection.as_mut().graceful_shutdown(),
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
    mut request: hyper::Request<Incoming>,
    router: Router,
    share: Share,
    traffic: Arc<Traffic>,
    mut measured: Measured,
) -> Result<Response<Answering>, Infallible> {
    use tower_service::Service as _;
    let guard = InHand::begin(traffic);
    let mut line = Line::begin(&request);
    request.extensions_mut().insert(share);
    let response = router.clone().call(request.map(Body::new)).await?;
    measured.answered(&response);
    let guard = if response.extensions().get::<Unhurried>().is_some() { guard.unhurried() } else { guard };
    if let Some(line) = &mut line {
        line.status = Some(response.status().as_u16());
    }
    Ok(response.map(|body| Answering { body, line, measured, _in_hand: guard }))
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
    fn begin<B>(request: &hyper::Request<B>) -> Option<Line> {
        tracing::enabled!(tracing::Level::DEBUG).then(|| Line {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            status: None,
            bytes: 0,
            begun: Instant::now(),
        })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Line { method, path, status, bytes, begun } = self;
        tracing::debug!(%method, ?path, status, bytes, ms = begun.elapsed().as_millis() as u64, "request");
    }
}

/// Tells the maker of an answer that would go on and on when the server stops.
#[derive(Clone, Debug)]
pub struct Stopping(pub CancellationToken);

/// Marks the response whose body takes its time, like a stream of events: who reads it slowly is not cut off.
#[derive(Clone, Copy, Debug)]
pub struct Unhurried;

/// What goes on in a connection; the watchman looks at it.
#[derive(Debug)]
struct Traffic {
    begun: Instant,
    /// Requests whose answers have not gone out whole.
    in_hand: AtomicUsize,
    /// Those of them that may take their time.
    unhurried: AtomicUsize,
    /// Requests so far.
    requests: AtomicU64,
    /// Bytes written.
    written: AtomicU64,
    /// Milliseconds after `begun` at which the last answer had gone out.
    rested: AtomicU64,
}

impl Traffic {
    fn new() -> Traffic {
        Traffic {
            begun: Instant::now(),
            in_hand: AtomicUsize::new(0),
            unhurried: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            written: AtomicU64::new(0),
            rested: AtomicU64::new(0),
        }
    }
}

/// A request that is being answered.
#[derive(Debug)]
struct InHand {
    traffic: Arc<Traffic>,
    unhurried: bool,
}

impl InHand {
    fn begin(traffic: Arc<Traffic>) -> InHand {
        traffic.in_hand.fetch_add(1, Ordering::Relaxed);
        traffic.requests.fetch_add(1, Ordering::Relaxed);
        InHand { traffic, unhurried: false }
    }

    fn unhurried(mut self) -> InHand {
        self.traffic.unhurried.fetch_add(1, Ordering::Relaxed);
        self.unhurried = true;
        self
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let traffic = &self.traffic;
        if self.unhurried {
            traffic.unhurried.fetch_sub(1, Ordering::Relaxed);
        }
        traffic.rested.store(traffic.begun.elapsed().as_millis() as u64, Ordering::Relaxed);
        traffic.in_hand.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer; the request is in hand until it is gone.
struct Answering {
    body: Body,
    line: Option<Line>,
    measured: Measured,
    _in_hand: InHand,
}

impl http_body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame {
            let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
            self.measured.sent(bytes);
            self.line.iter_mut().for_each(|line| line.bytes += bytes);
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

/// Decides when a connection has had its time.
struct Watchman {
    traffic: Arc<Traffic>,
    limits: ServeLimits,
    tick: tokio::time::Interval,
    /// When the stretch began in which a client must take its share, and what was written by then.
    stretch: (Instant, u64),
    asked_to_finish: bool,
}

enum Verdict {
    /// It may finish what is under way, and takes no more requests.
    Finish,
    /// It ends at once.
    Cut(&'static str),
}

impl Watchman {
    fn new(traffic: Arc<Traffic>, limits: ServeLimits) -> Watchman {
        let shortest = limits.first_request.min(limits.idle).min(limits.stall);
        let mut tick = tokio::time::interval(shortest / 2);
        tick.reset();
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stretch = (Instant::now(), 0);
        Watchman { traffic, limits, tick, stretch, asked_to_finish: false }
    }

    /// Waits until something has to be done.
    async fn watch(&mut self) -> Verdict {
        loop {
            self.tick.tick().await;
            if let Some(verdict) = self.look() {
                return verdict;
            }
        }
    }

    fn look(&mut self) -> Option<Verdict> {
        let (traffic, limits) = (&self.traffic, &self.limits);
        let in_hand = traffic.in_hand.load(Ordering::Relaxed);
        let written = traffic.written.load(Ordering::Relaxed);
        if in_hand > traffic.unhurried.load(Ordering::Relaxed) {
            let (since, before) = self.stretch;
            if since.elapsed() >= limits.stall {
                if written - before < limits.stall_bytes {
                    return Some(Verdict::Cut("the client takes too little of what it asked for"));
                }
                self.stretch = (Instant::now(), written);
            }
            return None;
        }
        self.stretch = (Instant::now(), written);
        if in_hand > 0 {
            return None;
        }
        let at_rest = traffic.begun.elapsed().as_millis() as u64 - traffic.rested.load(Ordering::Relaxed);
        let never_asked = traffic.requests.load(Ordering::Relaxed) == 0;
        let patience = if never_asked { limits.first_request } else { limits.idle };
        if u128::from(at_rest) < patience.as_millis() {
            return None;
        }
        if never_asked || self.asked_to_finish {
            return Some(Verdict::Cut("the client asks for nothing"));
        }
        self.asked_to_finish = true;
        Some(Verdict::Finish)
    }
}

/// Counts what is written.
struct Metered<S> {
    stream: S,
    traffic: Arc<Traffic>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> Metered<S> {
    fn count(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.traffic.written.fetch_add(bytes as u64, Ordering::Relaxed);
        }
        written
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.count(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

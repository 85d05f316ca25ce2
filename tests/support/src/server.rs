//! Listeners and connections: loopback only, TLS with HTTP/2 and HTTP/1.1, and plain HTTP beside it.
//!
//! The server runs on threads of its own, so that tests need no runtime. Dropping it ends all of them without
//! waiting for clients.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore};
use tokio_rustls::TlsAcceptor;

use crate::routes::Routes;

/// How many connections are served at once; more wait.
const CONNECTIONS: usize = 4096;

/// The running server.
pub(crate) struct Server {
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts the threads; nothing listens yet.
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("fake-registry")
            .enable_all()
            .build()
            .unwrap();
        Server { runtime: Some(runtime) }
    }

    /// Serves what comes to this listener, over TLS if there is an acceptor.
    pub(crate) fn listen(&self, listener: TcpListener, tls: Option<TlsAcceptor>, routes: Arc<Routes>) {
        let runtime = self.runtime.as_ref().unwrap();
        listener.set_nonblocking(true).unwrap();
        let _context = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        runtime.spawn(accept(listener, tls, routes));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A listener on the loopback interface; port 0 takes any that is free.
pub(crate) fn bind(port: u16) -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn accept(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, routes: Arc<Routes>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (tls, routes) = (tls.clone(), Arc::clone(&routes));
        tokio::spawn(async move {
            handshake(stream, tls, routes).await;
            drop(place);
        });
    }
}

async fn handshake(stream: TcpStream, tls: Option<TlsAcceptor>, routes: Arc<Routes>) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, routes).await,
        Some(tls) => {
            if let Ok(stream) = tls.accept(stream).await {
                serve(stream, routes).await;
            }
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, routes: Arc<Routes>) {
    let connection = Arc::new(Connection::new(routes.connected()));
    let service = service_fn(|request| Arc::clone(&routes).answer(request, Arc::clone(&connection)));
    let builder = builder();
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    loop {
        tokio::select! {
            _ = serving.as_mut() => return,
            () = connection.aborted.notified() => return,
            () = connection.leaving.notified() => serving.as_mut().graceful_shutdown(),
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(250);
    builder
}

/// One connection, as far as faults can act on it.
pub(crate) struct Connection {
    pub(crate) number: u64,
    aborted: Notify,
    leaving: Notify,
}

impl Connection {
    fn new(number: u64) -> Self {
        Connection { number, aborted: Notify::new(), leaving: Notify::new() }
    }

    /// Breaks the connection at once.
    pub(crate) fn abort(&self) {
        self.aborted.notify_one();
    }

    /// Lets open requests end, and tells the client to make no more of them here.
    pub(crate) fn leave(&self) {
        self.leaving.notify_one();
    }
}

//! TLS: which versions, and that a new certificate costs nobody a request.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::common::{Ferry, Server, wait_until};
use crate::frames::Http2;
use crate::wire::{Client, connect};
use crate::{DEMO, Mirrored};

/// A client's side of TLS.
pub type Secure = StreamOwned<ClientConnection, TcpStream>;

/// An authority that gives certificates for this machine.
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// Puts a new certificate and its key where the server looks for them; both are replaced as wholes.
    pub fn issue(&self, ferry: &Ferry) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = [ferry.beside("cert.pem"), ferry.beside("key.pem")];
        for (path, text) in paths.iter().zip([certificate.pem(), key.serialize_pem()]) {
            replace(path, &text);
        }
        paths
    }

    /// The arguments of a server that speaks TLS with a new certificate.
    pub fn serve(&self, ferry: &Ferry) -> Vec<&'static str> {
        let [chain, key] = self.issue(ferry).map(|path| path.to_str().unwrap().to_owned().leak() as &str);
        vec!["--tls-cert", chain, "--tls-key", key]
    }

    /// A connection that speaks HTTP/1.1.
    pub fn connect(&self, server: &Server) -> Client<Secure> {
        self.over(connect(server).stream, &[b"http/1.1"], rustls::ALL_VERSIONS)
    }

    /// TLS over a connection.
    pub fn over(
        &self,
        stream: TcpStream,
        protocols: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Client<Secure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        Client::over(StreamOwned::new(connection, stream))
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

/// The certificate that a server shows.
fn shown(authority: &Authority, server: &Server) -> CertificateDer<'static> {
    let mut client = authority.connect(server);
    assert_eq!(client.ask("GET", DEMO, &[]).status, 200);
    client.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
}

#[test]
fn tls_1_2_and_1_3_are_spoken_with_both_protocols() {
    let mirrored = Mirrored::new();
    let authority = Authority::new();
    let server = Server::start(&mirrored.ferry, &authority.serve(&mirrored.ferry));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut plain = authority.over(connect(&server).stream, &[b"http/1.1"], &[version]);
        assert_eq!(plain.ask("GET", DEMO, &[]).status, 200);
        assert_eq!(plain.stream.conn.protocol_version(), Some(version.version));
        let http2 = authority.over(connect(&server).stream, &[b"h2", b"http/1.1"], &[version]);
        let mut http2 = Http2::over(http2, &[]);
        assert_eq!(http2.get(DEMO.as_bytes()), (200, mirrored.bytes_of("demo")));
        assert_eq!(http2.client.stream.conn.alpn_protocol(), Some(b"h2".as_slice()));
    }
}

#[test]
fn what_is_older_than_tls_1_2_is_refused() {
    let mirrored = Mirrored::new();
    let authority = Authority::new();
    let server = Server::start(&mirrored.ferry, &authority.serve(&mirrored.ferry));
    for version in [[3, 0], [3, 1], [3, 2]] {
        let mut client = connect(&server);
        client.send(&hello(version));
        let answer = client.rest();
        // An alert, fatal: "protocol version" (70) or "handshake failure" (40).
        assert!(matches!(answer[..], [21, 3, _, 0, 2, 2, 70 | 40]), "{version:?}: {answer:?}");
    }
    let mut plain = connect(&server);
    plain.send_all_you_can(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(!plain.rest().starts_with(b"HTTP"));
    assert_eq!(authority.connect(&server).ask("GET", DEMO, &[]).status, 200);
}

/// The first message of a client that knows no newer version than this one.
fn hello([major, minor]: [u8; 2]) -> Vec<u8> {
    let suites = [0xc0, 0x14, 0xc0, 0x13, 0xc0, 0x0a, 0xc0, 0x09, 0x00, 0x35, 0x00, 0x2f];
    // Curves, forms of points, and signatures, so that only the version is in the way.
    let extensions: &[u8] = &[0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 8, 0, 6, 4, 3, 4, 1, 8, 4];
    let mut body = vec![major, minor];
    body.extend([7; 32]);
    body.extend([0, 0, suites.len() as u8]);
    body.extend(suites);
    body.extend([1, 0, 0, extensions.len() as u8]);
    body.extend(extensions);
    let message = [&[1, 0, 0, body.len() as u8], body.as_slice()].concat();
    [&[22, 3, 1, 0, message.len() as u8], message.as_slice()].concat()
}

#[test]
fn a_new_certificate_is_taken_up_under_load_without_a_failed_request() {
    let mirrored = Mirrored::new();
    let authority = Authority::new();
    let server = Server::start(&mirrored.ferry, &authority.serve(&mirrored.ferry));
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut lasting = authority.connect(&server);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(lasting.ask("GET", DEMO, &[]).status, 200);
                    assert_eq!(authority.connect(&server).ask("GET", DEMO, &[]).status, 200);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..2 {
            let old = shown(&authority, &server);
            authority.issue(&mirrored.ferry);
            wait_until("the new certificate is shown", || shown(&authority, &server) != old);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(asked.into_inner() > 10);
}

#[test]
fn new_files_that_cannot_be_used_leave_the_old_certificate_in_use() {
    let mirrored = Mirrored::new();
    let authority = Authority::new();
    let server = Server::start(&mirrored.ferry, &authority.serve(&mirrored.ferry));
    let old = shown(&authority, &server);
    let [chain, key] = [mirrored.ferry.beside("cert.pem"), mirrored.ferry.beside("key.pem")];
    let whole = std::fs::read_to_string(&chain).unwrap();
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let complaints = || server.log().matches("the old certificate stays in use").count();
    for (path, text) in
        [(&chain, ""), (&chain, &whole[..whole.len() / 2]), (&chain, "junk"), (&key, other_key.as_str()), (&key, "")]
    {
        let before = complaints();
        replace(path, text);
        wait_until("the server says that it cannot use it", || complaints() > before);
        assert_eq!(shown(&authority, &server), old);
    }
    std::fs::remove_file(&key).unwrap();
    assert_eq!(shown(&authority, &server), old);
    authority.issue(&mirrored.ferry);
    wait_until("the next good certificate is shown", || shown(&authority, &server) != old);
}

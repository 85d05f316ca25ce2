//! How a server begins and how it ends.

use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Ran, Server, wait_until};
use crate::frames::{GOAWAY, Http2, PREFACE};
use crate::wire::{PATIENCE, connect, connect_from, get, request};
use crate::{DEMO, Mirrored, tls};

/// What is promised for a stop, however stuck the clients are.
const PROMISED: Duration = Duration::from_secs(10);

fn terminate(server: &Server) {
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM).unwrap();
}

fn wait_until_closed(server: &Server) {
    wait_until("new connections are refused", || TcpStream::connect(server.address()).is_err());
}

/// The server's end, and how long it took from a moment on.
fn end(server: Server, since: Instant) -> (Ran, Duration) {
    let mut running = server.into_running();
    wait_until("the server ends", || running.has_ended());
    (running.wait(), since.elapsed())
}

#[test]
fn a_stop_lets_answers_under_way_go_out_whole_and_takes_nothing_new() {
    let mirrored = Mirrored::with(&[("large", 20 << 20)]);
    let (path, whole) = (mirrored.path_of("large"), mirrored.bytes_of("large"));
    let server = Server::start(&mirrored.ferry, &[]);
    let mut idle = connect(&server);
    assert_eq!(idle.ask("GET", DEMO, &[]).status, 200);
    let mut plain = connect_from(&server, [127, 0, 0, 1].into(), 64 << 10).unwrap();
    plain.send(request("GET", &path, &[]).as_bytes());
    assert!(plain.more() > 0);
    let mut http2 = Http2::connect(&server);
    let stream = http2.begin_get(path.as_bytes());
    let mut unasked = Http2::connect(&server);
    assert_eq!(unasked.get(DEMO.as_bytes()).0, 200);

    terminate(&server);
    wait_until_closed(&server);
    assert!(idle.closed_after() < Duration::from_secs(5), "a connection without a request lingers");
    assert!(unasked.ended_with_goaway());
    let answer = plain.answer("GET").unwrap();
    assert!(answer.body == whole, "{} bytes came", answer.body.len());
    let (status, body) = http2.answer(stream);
    assert!(status == 200 && body == whole, "{status}, {} bytes came", body.len());
    while http2.frame().is_some() {}
    let (ran, _) = end(server, Instant::now());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_stop_under_load_cuts_no_answer_and_is_quick() {
    let mirrored = Mirrored::with(&[("middling", 200_000)]);
    let (path, whole) = (mirrored.path_of("middling"), mirrored.bytes_of("middling"));
    let server = Server::start(&mirrored.ferry, &[]);
    let asked = AtomicUsize::new(0);
    let stopped = thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = connect(&server);
                loop {
                    client.send_all_you_can(request("GET", &path, &[]).as_bytes());
                    // Either no answer or a whole one: half an answer would panic.
                    let Some(answer) = client.answer("GET") else { return };
                    assert!(answer.status == 200 && answer.body == whole);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        wait_until("the load is there", || asked.load(Ordering::Relaxed) > 100);
        terminate(&server);
        Instant::now()
    });
    let (ran, time) = end(server, stopped);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(time < PROMISED / 2, "{time:?}");
}

#[test]
fn a_stop_waits_for_stuck_clients_no_longer_than_promised() {
    let mirrored = Mirrored::with(&[("large", 20 << 20)]);
    let path = mirrored.path_of("large");
    let authority = tls::Authority::new();
    let plain = Server::start(&mirrored.ferry, &[]);
    let encrypted = Server::start(&mirrored.ferry, &authority.serve(&mirrored.ferry));
    let mut stuck = [connect(&plain), connect(&plain), connect(&plain), connect(&encrypted)];
    for (client, sent) in
        stuck.iter_mut().zip([request("GET", &path, &[]).as_bytes(), b"GET / HT", PREFACE, b"\x16\x03\x01"])
    {
        client.send(sent);
    }
    let mut window = Http2::over(connect(&plain), &[(4, 0)]);
    window.begin_get(path.as_bytes());
    window.expect(crate::frames::HEADERS);
    let stopped = Instant::now();
    terminate(&plain);
    terminate(&encrypted);
    wait_until_closed(&plain);
    for server in [encrypted, plain] {
        let (ran, time) = end(server, stopped);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(time < PROMISED, "{time:?}");
    }
}

#[test]
fn a_stop_does_not_wait_for_who_has_asked_for_nothing() {
    let mirrored = Mirrored::new();
    let authority = tls::Authority::new();
    let plain = Server::start(&mirrored.ferry, &[]);
    let encrypted = Server::start(&mirrored.ferry, &authority.serve(&mirrored.ferry));
    let silent = [connect(&plain), connect(&encrypted)];
    let mut half = connect(&encrypted);
    half.send(b"\x16\x03\x01");
    assert_eq!(get(&plain, DEMO, &[]).status, 200);
    assert_eq!(authority.connect(&encrypted).ask("GET", DEMO, &[]).status, 200);
    for server in [plain, encrypted] {
        let stopped = Instant::now();
        terminate(&server);
        let (ran, time) = end(server, stopped);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        assert!(time < PROMISED / 2, "{time:?}");
    }
    drop(silent);
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mirrored = Mirrored::with(&[("large", 20 << 20)]);
    let server = Server::start(&mirrored.ferry, &[]);
    let mut stuck = connect(&server);
    stuck.send(request("GET", &mirrored.path_of("large"), &[]).as_bytes());
    stuck.more();
    terminate(&server);
    wait_until_closed(&server);
    let again = Instant::now();
    terminate(&server);
    let (ran, time) = end(server, again);
    assert_eq!(ran.code, Some(143));
    assert!(time < PROMISED / 2, "{time:?}");
}

#[test]
fn the_service_manager_is_told_when_the_server_is_ready_and_when_it_stops() {
    let mirrored = Mirrored::new();
    let name = format!("crateferry-test-{}", std::process::id());
    let path = mirrored.ferry.beside("notify");
    let sockets = [
        (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
        (UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(), format!("@{name}")),
    ];
    for (socket, address) in sockets {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut command = mirrored.ferry.command("serve", &["--listen", "127.0.0.1:0"]);
        command.env("NOTIFY_SOCKET", &address);
        let begun = Instant::now();
        let running = mirrored.ferry.start(command);
        assert!(heard(&socket).lines().any(|line| line == "READY=1"), "{address}");
        assert!(begun.elapsed() < Duration::from_secs(10), "ready after {:?}", begun.elapsed());
        let server = Server::ready(running);
        assert_eq!(get(&server, DEMO, &[]).status, 200);
        terminate(&server);
        assert!(heard(&socket).lines().any(|line| line == "STOPPING=1"), "{address}");
        assert_eq!(end(server, Instant::now()).0.code, Some(0));
    }
}

fn heard(socket: &UnixDatagram) -> String {
    let mut text = [0; 256];
    let count = socket.recv(&mut text).unwrap();
    String::from_utf8_lossy(&text[..count]).trim().to_owned()
}

#[test]
fn a_server_that_cannot_begin_tells_nobody_that_it_is_ready() {
    let mirrored = Mirrored::new();
    let path = mirrored.ferry.beside("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = mirrored.ferry.command("serve", &["--listen", &taken.local_addr().unwrap().to_string()]);
    command.env("NOTIFY_SOCKET", &path);
    mirrored.ferry.start(command).wait().expect_error(3, "cannot listen on");
    assert!(socket.recv(&mut [0; 256]).is_err());
}

#[test]
fn an_http2_client_is_told_to_go_elsewhere() {
    let mirrored = Mirrored::new();
    let server = Server::start(&mirrored.ferry, &[]);
    let mut client = Http2::connect(&server);
    assert_eq!(client.get(DEMO.as_bytes()).0, 200);
    terminate(&server);
    assert_eq!(client.expect(GOAWAY).payload[4..8], [0; 4], "it is no error");
}

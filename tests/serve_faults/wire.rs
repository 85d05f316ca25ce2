//! HTTP/1.1 byte by byte: what goes out is what a test writes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::common::Server;

/// How long a server may be silent before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Names are in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The value of a header that comes at most once.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes twice: {:?}", self.headers);
        value
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
pub struct Client<S = TcpStream> {
    pub stream: S,
    /// What was read and not yet asked for.
    read: Vec<u8>,
}

/// Connects to a server.
pub fn connect(server: &Server) -> Client {
    let stream = TcpStream::connect(server.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    Client::over(stream)
}

/// A connection to a server from one of the machine's own addresses, `buffer` bytes of which the system keeps unread.
pub fn connect_from(server: &Server, from: IpAddr, buffer: usize) -> io::Result<Client> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_recv_buffer_size(buffer)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    socket.connect_timeout(&server.address().parse::<SocketAddr>().unwrap().into(), PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(Client::over(TcpStream::from(socket)))
}

/// One request on a connection of its own.
pub fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> Answer {
    connect(server).ask("GET", path, headers)
}

/// Sends these very bytes on a connection of their own, and reads until the server closes it: all answers that came.
/// Panics if it stays open.
#[track_caller]
pub fn exchange(server: &Server, request: &[u8]) -> Vec<Answer> {
    let mut client = connect(server);
    client.send_all_you_can(request);
    std::iter::from_fn(|| client.answer("GET")).collect()
}

impl<S: Read + Write> Client<S> {
    pub fn over(stream: S) -> Client<S> {
        Client { stream, read: Vec::new() }
    }

    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Sends to a server that may hang up meanwhile.
    pub fn send_all_you_can(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).and_then(|()| self.stream.flush()));
    }

    /// Asks and reads the answer; the connection stays open.
    #[track_caller]
    pub fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(request(method, path, headers).as_bytes());
        self.answer(method).expect("the server answers")
    }

    /// The next answer; none if the connection ended before one began.
    #[track_caller]
    pub fn answer(&mut self, method: &str) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break at;
            }
            if self.more() == 0 {
                assert!(self.read.is_empty(), "half an answer: {}", self.read.escape_ascii());
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end + 4).collect()).unwrap();
        let mut answer = parse_head(&head);
        if answer.status >= 200 && answer.status != 304 && method != "HEAD" {
            answer.body = self.body(answer.header("content-length"));
        }
        Some(answer)
    }

    fn body(&mut self, length: Option<&str>) -> Vec<u8> {
        let Some(length) = length.map(|length| length.parse::<usize>().unwrap()) else {
            while self.more() > 0 {}
            return std::mem::take(&mut self.read);
        };
        while self.read.len() < length {
            assert!(self.more() > 0, "the body ended after {} of {length} bytes", self.read.len());
        }
        self.read.drain(..length).collect()
    }

    /// Reads some bytes: how many; none if the server has closed the connection.
    #[track_caller]
    pub fn more(&mut self) -> usize {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                self.read.extend_from_slice(&bytes[..count]);
                count
            }
            Err(error) if is_end(&error) => 0,
            Err(error) => panic!("the server neither answers nor closes: {error}"),
        }
    }

    /// Reads this many bytes, or fewer if the server closes the connection.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count && self.more() > 0 {}
        let count = count.min(self.read.len());
        self.read.drain(..count).collect()
    }

    /// Whatever comes until the server closes the connection.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() > 0 {}
        std::mem::take(&mut self.read)
    }

    /// How long it takes the server to close the connection.
    #[track_caller]
    pub fn closed_after(&mut self) -> Duration {
        let begun = Instant::now();
        while self.more() > 0 {}
        begun.elapsed()
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof)
}

/// A request as its bytes, for a host that is there.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let host =
        if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) { "" } else { "host: a.example\r\n" };
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\n{host}{headers}\r\n")
}

fn parse_head(head: &str) -> Answer {
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap_or_else(|| panic!("a header: {line:?}")));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Answer { status, headers, body: Vec::new() }
}

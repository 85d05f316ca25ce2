//! HTTP/2 frame by frame: what goes out is what a test writes, in whatever order.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::Server;
use crate::wire::{self, Client};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The window of the connection and of each stream before anybody says otherwise.
const WINDOW: usize = 65_535;

/// A frame that the server sent.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The status that a header block begins with.
    pub fn status(&self) -> u16 {
        let block = self.payload.iter().position(|byte| byte & 0xe0 != 0x20).unwrap();
        match self.payload[block..] {
            [0x88, ..] => 200,
            [0x8a, ..] => 206,
            [0x8b, ..] => 304,
            [0x8c, ..] => 400,
            [0x8d, ..] => 404,
            [0x8e, ..] => 500,
            [0x48, length, ..] if length >= 0x80 => {
                let bytes = &self.payload[block + 2..][..usize::from(length & 0x7f)];
                digits(bytes.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)), 8 * bytes.len())
            }
            [0x48, length, ..] => {
                let text = &self.payload[block + 2..][..usize::from(length)];
                std::str::from_utf8(text).unwrap().parse().unwrap()
            }
            _ => panic!("a header block without a status: {self:?}"),
        }
    }
}

/// Three digits in HPACK's code, which has five bits for 0 to 2 and six for the others.
fn digits(bits: u32, mut left: usize) -> u16 {
    let mut number = 0;
    for _ in 0..3 {
        let five = bits >> (left - 5) & 31;
        let (digit, used) = if five < 3 { (five, 5) } else { ((bits >> (left - 6) & 63) - 22, 6) };
        number = 10 * number + digit as u16;
        left -= used;
    }
    number
}

/// A connection that speaks HTTP/2.
pub struct Http2<S = TcpStream> {
    pub client: Client<S>,
    next: u32,
    taken: usize,
}

impl Http2 {
    /// Connects in clear text, with settings as they are by default.
    pub fn connect(server: &Server) -> Http2 {
        Http2::over(wire::connect(server), &[])
    }
}

impl<S: Read + Write> Http2<S> {
    /// Speaks HTTP/2 on a connection from now on.
    pub fn over(mut client: Client<S>, settings: &[(u16, u32)]) -> Http2<S> {
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(key, value)| [key.to_be_bytes().as_slice(), value.to_be_bytes().as_slice()].concat())
            .collect();
        client.send(&[PREFACE, &frame(SETTINGS, 0, 0, &settings)].concat());
        Http2 { client, next: 1, taken: 0 }
    }

    pub fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.client.send(&frame(kind, flags, stream, payload));
    }

    /// The number of the next stream.
    pub fn next_stream(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Begins a GET; says on which stream.
    pub fn begin_get(&mut self, path: &[u8]) -> u32 {
        let stream = self.next_stream();
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &head(path, &[]));
        stream
    }

    /// Begins so many GETs at once.
    pub fn begin_gets(&mut self, path: &[u8], count: usize) {
        let block = head(path, &[]);
        let all = (0..count).flat_map(|_| frame(HEADERS, END_HEADERS | END_STREAM, self.next_stream(), &block));
        let all: Vec<u8> = all.collect();
        self.client.send(&all);
    }

    /// The next frame; none if the server has closed the connection.
    pub fn frame(&mut self) -> Option<Frame> {
        let head = self.client.take(9);
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = head[..] else { return None };
        let payload = self.client.take(u32::from_be_bytes([0, l0, l1, l2]) as usize);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff;
        if kind == SETTINGS && flags & ACK == 0 {
            self.client.send_all_you_can(&frame(SETTINGS, ACK, 0, &[]));
        }
        if kind == PING && flags & ACK == 0 {
            self.client.send_all_you_can(&frame(PING, ACK, 0, &payload));
        }
        if kind == DATA {
            self.taken += payload.len();
        }
        Some(Frame { kind, flags, stream, payload })
    }

    /// The next frame of a kind; panics if the connection ends before.
    #[track_caller]
    pub fn expect(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.frame().expect("the connection is open");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Asks and takes the answer: its status and body; status 0 for a stream that was reset.
    #[track_caller]
    pub fn get(&mut self, path: &[u8]) -> (u16, Vec<u8>) {
        let stream = self.begin_get(path);
        self.answer(stream)
    }

    /// The answer on a stream.
    #[track_caller]
    pub fn answer(&mut self, stream: u32) -> (u16, Vec<u8>) {
        let (mut status, mut body) = (0, Vec::new());
        loop {
            let next = self.frame().expect("the connection is open");
            let fault = next.kind == GOAWAY && next.payload[4..8] != [0; 4];
            assert!(!fault, "the server goes away: {next:?}");
            if next.stream != stream {
                continue;
            }
            match next.kind {
                HEADERS => status = next.status(),
                DATA => body.extend_from_slice(&next.payload),
                RST_STREAM => return (0, body),
                _ => {}
            }
            if matches!(next.kind, HEADERS | DATA) && next.flags & END_STREAM != 0 {
                return (status, body);
            }
            self.give_back(stream);
        }
    }

    /// Opens the windows again by what was taken, once it is worth it.
    fn give_back(&mut self, stream: u32) {
        if self.taken > WINDOW / 2 {
            let taken = (self.taken as u32).to_be_bytes();
            // The last of them may come after the server has sent all and gone.
            let updates = [0, stream].map(|stream| frame(WINDOW_UPDATE, 0, stream, &taken));
            self.client.send_all_you_can(&updates.concat());
            self.taken = 0;
        }
    }

    /// Reads until the server closes the connection; whether it said GOAWAY before.
    #[track_caller]
    pub fn ended_with_goaway(&mut self) -> bool {
        let mut goaway = false;
        while let Some(frame) = self.frame() {
            goaway |= frame.kind == GOAWAY;
        }
        goaway
    }
}

/// A frame as its bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The header block of a GET, uncompressed.
pub fn head(path: &[u8], more: &[(&str, &str)]) -> Vec<u8> {
    // GET, http, then path and authority by the numbers of their names.
    let mut block = vec![0x82, 0x86, 0x04];
    text(&mut block, path);
    block.push(0x01);
    text(&mut block, b"a.example");
    for (name, value) in more {
        block.push(0x00);
        text(&mut block, name.as_bytes());
        text(&mut block, value.as_bytes());
    }
    block
}

/// A length in the way of HPACK, seven bits first, and the bytes.
fn text(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        block.push(rest as u8);
    }
    block.extend(text);
}

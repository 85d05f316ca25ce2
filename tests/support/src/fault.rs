//! What can go wrong, said in one line of a test.
//!
//! A [`Fault`] describes one way to answer badly and how often. Faults are tried in the order in which they
//! were given; the first that fits a request and is not used up decides, alone. Whatever a fault does not
//! change stays as it would honestly be.

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;

/// One way to answer badly.
#[derive(Debug, Clone)]
pub struct Fault {
    pub(crate) answer: Answering,
    pub(crate) delay: Option<Duration>,
    pub(crate) headers: Vec<(String, String)>,
    skip: usize,
    left: Option<usize>,
}

/// What is done in the place of the honest answer.
#[derive(Debug, Clone)]
pub(crate) enum Answering {
    Honest,
    Status(StatusCode),
    Redirect(String),
    RedirectToItself,
    Body(Bytes),
    WrongBytes,
    Gzip,
    StallHeaders,
    Held,
    Reset,
    GoAway,
    Poured(Shape),
}

/// How a body is poured out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shape {
    pub(crate) ending: Ending,
    pub(crate) pace: Option<NonZeroU64>,
    pub(crate) surplus: usize,
    pub(crate) length: Length,
}

/// What comes after the last byte that is sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The end.
    #[default]
    Clean,
    /// The end, after this many bytes.
    Short(usize),
    /// The stream (in HTTP/1.1 the connection) breaks after this many bytes.
    Cut(usize),
    /// Nothing more comes after this many bytes, for as long as the client waits.
    Stall(usize),
    /// The whole connection breaks after this many bytes, with all its streams.
    Drop(usize),
}

/// What the answer says of its length.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Length {
    /// The length of the honest body.
    #[default]
    Honest,
    /// Nothing.
    Unsaid,
    /// This.
    Claimed(u64),
}

impl Fault {
    fn answering(answer: Answering) -> Self {
        Fault { answer, delay: None, headers: Vec::new(), skip: 0, left: None }
    }

    fn poured(shape: Shape) -> Self {
        Fault::answering(Answering::Poured(shape))
    }

    /// Answers with this status code and a short text.
    pub fn status(code: u16) -> Self {
        Fault::answering(Answering::Status(StatusCode::from_u16(code).unwrap()))
    }

    /// Redirects (302) to this URL, whatever its scheme or host.
    pub fn redirect(url: &str) -> Self {
        Fault::answering(Answering::Redirect(url.to_owned()))
    }

    /// Redirects (302) to the very URL that was asked for.
    pub fn redirect_to_itself() -> Self {
        Fault::answering(Answering::RedirectToItself)
    }

    /// Sends so many bytes of the body, then breaks the stream; over HTTP/1.1 that is the connection.
    pub fn cut_after(bytes: usize) -> Self {
        Fault::poured(Shape { ending: Ending::Cut(bytes), ..Shape::default() })
    }

    /// Sends so many bytes of the body, then breaks the connection with all its streams.
    pub fn drop_connection_after(bytes: usize) -> Self {
        Fault::poured(Shape { ending: Ending::Drop(bytes), ..Shape::default() })
    }

    /// Sends so many bytes of the body, then nothing for as long as the client waits.
    pub fn stall_after(bytes: usize) -> Self {
        Fault::poured(Shape { ending: Ending::Stall(bytes), ..Shape::default() })
    }

    /// Sends the body at this many bytes a second.
    pub fn trickle(bytes_per_second: u64) -> Self {
        Fault::poured(Shape { pace: NonZeroU64::new(bytes_per_second.max(1)), ..Shape::default() })
    }

    /// Sends the body and so many bytes more, with the Content-Length of the true body.
    ///
    /// HTTP/2 carries all of it. Over HTTP/1.1 nothing can follow the promised length, so there the surplus is
    /// sent without a Content-Length.
    pub fn longer_by(bytes: usize) -> Self {
        Fault::poured(Shape { surplus: bytes, ..Shape::default() })
    }

    /// Sends the true body without a Content-Length.
    pub fn no_length() -> Self {
        Fault::poured(Shape { length: Length::Unsaid, ..Shape::default() })
    }

    /// Sends the true body and so many bytes more, without a Content-Length.
    pub fn longer_without_length(bytes: usize) -> Self {
        Fault::poured(Shape { surplus: bytes, length: Length::Unsaid, ..Shape::default() })
    }

    /// Sends so many bytes of the body and a clean end, without a Content-Length: only a checksum can tell.
    pub fn shorter_without_length(bytes: usize) -> Self {
        Fault::poured(Shape { ending: Ending::Short(bytes), length: Length::Unsaid, ..Shape::default() })
    }

    /// Sends the true body with this Content-Length.
    pub fn claimed_length(bytes: u64) -> Self {
        Fault::poured(Shape { length: Length::Claimed(bytes), ..Shape::default() })
    }

    /// Sends as many bytes as the true body has, but other ones.
    pub fn wrong_bytes() -> Self {
        Fault::answering(Answering::WrongBytes)
    }

    /// Sends this in the place of the body, with its own true length.
    pub fn body(bytes: impl Into<Bytes>) -> Self {
        Fault::answering(Answering::Body(bytes.into()))
    }

    /// Compresses the body with `Content-Encoding: gzip`, whether or not the client said that it takes it.
    pub fn gzip() -> Self {
        Fault::answering(Answering::Gzip)
    }

    /// Sends nothing at all, for as long as the client waits.
    pub fn stall_headers() -> Self {
        Fault::answering(Answering::StallHeaders)
    }

    /// Sends nothing until [`Registry::let_go`](crate::Registry::let_go), then the honest answer.
    pub fn held() -> Self {
        Fault::answering(Answering::Held)
    }

    /// Breaks the connection in the place of an answer.
    pub fn reset() -> Self {
        Fault::answering(Answering::Reset)
    }

    /// Asks the client to leave this connection (GOAWAY, or `connection: close`), then answers honestly.
    pub fn goaway() -> Self {
        Fault::answering(Answering::GoAway)
    }

    /// Answers honestly after this time.
    pub fn delay(time: Duration) -> Self {
        Fault::answering(Answering::Honest).delayed(time)
    }

    /// The same fault, after this time.
    #[must_use]
    pub fn delayed(mut self, time: Duration) -> Self {
        self.delay = Some(time);
        self
    }

    /// The same fault with a `Retry-After` of this text: seconds, a date, or nonsense.
    #[must_use]
    pub fn retry_after(self, text: &str) -> Self {
        self.header("retry-after", text)
    }

    /// The same fault with one more header; it takes the place of an honest one.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same fault for so many requests and no more; else it is for ever.
    #[must_use]
    pub fn times(mut self, requests: usize) -> Self {
        self.left = Some(requests);
        self
    }

    /// The same fault for one request.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// The same fault, but so many requests are answered honestly first.
    #[must_use]
    pub fn after(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }
}

/// Which requests a fault is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    CrateFile { name: String, version: String },
    AnyCrateFile,
    IndexFile(String),
    Path(String),
}

/// All faults that were given, in that order.
#[derive(Default)]
pub(crate) struct Faults(Mutex<Vec<(Target, Fault)>>);

impl Faults {
    /// Gives a fault to all requests that its target fits.
    pub(crate) fn add(&self, target: Target, fault: Fault) {
        self.0.lock().unwrap().push((target, fault));
    }

    /// Forgets all faults.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// The fault for a request that fits the targets which `fits` accepts; it counts as used.
    pub(crate) fn take(&self, fits: impl Fn(&Target) -> bool) -> Option<Fault> {
        let mut rules = self.0.lock().unwrap();
        rules.iter_mut().filter(|(target, _)| fits(target)).find_map(|(_, fault)| fault.used().then(|| fault.clone()))
    }
}

impl Fault {
    /// Counts one request; whether this fault decides it.
    fn used(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.left {
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(faults: &Faults) -> bool {
        faults.take(|target| *target == Target::AnyCrateFile).is_some()
    }

    #[test]
    fn a_fault_is_used_as_often_as_it_says() {
        let faults = Faults::default();
        faults.add(Target::AnyCrateFile, Fault::status(503).after(1).times(2));
        assert_eq!([(); 5].map(|()| taken(&faults)), [false, true, true, false, false]);
    }

    #[test]
    fn a_used_up_fault_lets_the_next_one_decide() {
        let faults = Faults::default();
        faults.add(Target::AnyCrateFile, Fault::status(503).once());
        faults.add(Target::AnyCrateFile, Fault::status(429));
        assert_eq!([(); 3].map(|()| taken(&faults)), [true, true, true]);
    }
}

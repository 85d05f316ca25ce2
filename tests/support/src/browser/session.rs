//! The protocol: numbered questions through a pipe, answers and events back, each for the browser or one page of it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::{Value, json};

use super::PATIENCE;
use super::heard::{Heard, thrown};

/// Who listens, by session.
pub(super) type Listeners = Arc<Mutex<HashMap<String, Sender<Value>>>>;

/// A line to the browser itself or to one page.
pub(super) struct Session {
    id: String,
    last: Cell<u64>,
    pub(super) pipe: Arc<Mutex<ChildStdin>>,
    inbox: Receiver<Value>,
    pub(super) heard: RefCell<Heard>,
}

impl Session {
    pub(super) fn new(id: &str, pipe: Arc<Mutex<ChildStdin>>, listeners: &Listeners) -> Session {
        let (sender, inbox) = channel();
        listeners.lock().unwrap().insert(id.to_owned(), sender);
        Session { id: id.to_owned(), last: Cell::new(0), pipe, inbox, heard: RefCell::default() }
    }

    /// Sends a message and gives its number. If nobody reads it any more, no answer will come either.
    pub(super) fn send(&self, method: &str, params: &Value) -> u64 {
        self.last.set(self.last.get() + 1);
        let mut message = json!({ "id": self.last.get(), "method": method, "params": params });
        if !self.id.is_empty() {
            message["sessionId"] = self.id.as_str().into();
        }
        drop(self.pipe.lock().unwrap().write_all(format!("{message}\0").as_bytes()));
        self.last.get()
    }

    /// Asks, and waits for the answer; what else is heard meanwhile is kept.
    pub(super) fn call(&self, method: &str, params: &Value) -> Result<Value, String> {
        let number = self.send(method, params);
        let end = Instant::now() + PATIENCE;
        loop {
            let mut message = self.next(end).map_err(|error| format!("{method}: {error}"))?;
            if message["id"] == number {
                let error = &message["error"];
                return if error.is_null() { Ok(message["result"].take()) } else { Err(format!("{method}: {error}")) };
            }
        }
    }

    /// The same where there is no doubt; panics else.
    #[track_caller]
    pub(super) fn sure(&self, method: &str, params: &Value) -> Value {
        sure(self.call(method, params))
    }

    /// What an expression comes to, or what it throws. `world` names the context if it is not the page's own.
    pub(super) fn eval(&self, js: &str, world: &Value) -> Result<Value, String> {
        let mut asked = json!({ "expression": js, "awaitPromise": true, "returnByValue": true, "userGesture": true });
        asked.as_object_mut().unwrap().extend(world.as_object().unwrap().clone());
        let mut answer = self.call("Runtime.evaluate", &asked)?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(thrown(details)),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// The next message, which may be an answer or an event.
    pub(super) fn next(&self, end: Instant) -> Result<Value, String> {
        let message = self.inbox.recv_timeout(end.saturating_duration_since(Instant::now()));
        let message = message.map_err(|error| match error {
            RecvTimeoutError::Timeout => "no answer in time",
            RecvTimeoutError::Disconnected => "the browser has ended",
        })?;
        self.heard.borrow_mut().take(&message);
        Ok(message)
    }
}

/// Gives each message to who listens to its session, until the browser ends; then nobody need wait any longer.
pub(super) fn pass_on(messages: ChildStdout, listeners: &Listeners) {
    for message in BufReader::new(messages).split(b'\0').map_while(Result::ok) {
        let Ok(message) = serde_json::from_slice::<Value>(&message) else { continue };
        let session = message["sessionId"].as_str().unwrap_or_default();
        if let Some(listener) = listeners.lock().unwrap().get(session) {
            drop(listener.send(message));
        }
    }
    listeners.lock().unwrap().clear();
}

#[track_caller]
pub(super) fn sure<T>(result: Result<T, String>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}

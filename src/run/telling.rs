//! Writes a run's account into the mirror, once a second and at its end.
//!
//! It has a thread of its own, which waits for nothing but time and the file: an account that stops only because the
//! network's threads are busy would say that the run has ended. A run does not fail because nobody can be told of it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crateferry_store::{Layout, write_run_file};

use super::{Phase, Run};

/// How often others are told.
const EVERY: Duration = Duration::from_secs(1);

/// Tells as long as it lives; when it goes, it says that the run is done.
#[derive(Debug)]
pub struct Telling {
    ended: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Telling {
    /// Begins to tell of a run. Only the mirror's writer may.
    pub fn of(run: Arc<Run>, layout: &Layout) -> Telling {
        let (ended, end) = sync_channel(0);
        let teller = Teller { run, layout: layout.clone() };
        let thread = std::thread::Builder::new().name("run".into()).spawn(move || teller.tell_until(&end));
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "nobody will be told how far this run is"));
        Telling { ended: Some(ended), thread: thread.ok() }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        drop(self.ended.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // if it panicked, it said so
        }
    }
}

struct Teller {
    run: Arc<Run>,
    layout: Layout,
}

impl Teller {
    fn tell_until(self, end: &Receiver<()>) {
        loop {
            self.tell();
            if end.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
                self.run.enter(Phase::Done);
                return self.tell();
            }
        }
    }

    fn tell(&self) {
        let text = serde_json::to_vec(&self.run.status()).expect("plain fields");
        if let Err(error) = write_run_file(&self.layout, &text) {
            tracing::debug!(%error, "cannot tell how far this run is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::RunStatus;

    #[test]
    fn a_run_is_told_of_until_it_ends_and_then_nobody_takes_it_for_running() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        std::fs::create_dir(layout.log()).unwrap();
        assert_eq!(RunStatus::read(&layout), None);
        let run = Arc::new(Run::default());
        run.fetches(7);
        let telling = Telling::of(run, &layout);
        while RunStatus::read(&layout).is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(RunStatus::read(&layout).unwrap().total, 7);
        drop(telling);
        assert_eq!(RunStatus::read(&layout), None);
        assert_eq!(RunStatus::last(&layout).unwrap().phase, "done");
    }

    #[test]
    fn a_run_that_cannot_be_told_of_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        drop(Telling::of(Arc::default(), &Layout::new(folder.path().join("absent"))));
    }
}

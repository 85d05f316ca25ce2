//! Passes on how far git is with receiving and resolving objects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gix::progress::{Id, MessageLevel, Step, StepShared, Unit};
use gix::{Count, NestedProgress};

use crate::upstream::{Phase, Progress};

/// Objects taken from the pack that is being received, in git's words.
const RECEIVED: Id = *b"IWIO";
/// Objects whose deltas are resolved, in git's words.
const RESOLVED: Id = *b"IWRO";

/// One of git's counters.
#[derive(Clone)]
pub(super) struct Gauge {
    progress: Arc<dyn Progress>,
    phase: Option<Phase>,
    done: Arc<AtomicUsize>,
    total: Option<usize>,
}

impl Gauge {
    pub(super) fn new(progress: Arc<dyn Progress>) -> Self {
        Gauge { progress, phase: None, done: Arc::default(), total: None }
    }

    fn report(&self, done: usize) {
        if let Some(phase) = self.phase {
            self.progress.at(phase, done as u64, self.total.map(|total| total as u64));
        }
    }
}

impl Count for Gauge {
    fn set(&self, step: Step) {
        self.done.store(step, Ordering::Relaxed);
        self.report(step);
    }

    fn step(&self) -> Step {
        self.done.load(Ordering::Relaxed)
    }

    fn inc_by(&self, step: Step) {
        let done = self.done.fetch_add(step, Ordering::Relaxed) + step;
        self.report(done);
    }

    fn counter(&self) -> StepShared {
        self.done.clone()
    }
}

impl gix::Progress for Gauge {
    fn init(&mut self, max: Option<Step>, _: Option<Unit>) {
        self.total = max;
    }

    fn set_name(&mut self, _: String) {}

    fn name(&self) -> Option<String> {
        None
    }

    fn id(&self) -> Id {
        gix::progress::UNKNOWN
    }

    fn message(&self, _: MessageLevel, _: String) {}
}

impl NestedProgress for Gauge {
    type SubProgress = Gauge;

    fn add_child(&mut self, name: impl Into<String>) -> Gauge {
        self.add_child_with_id(name, gix::progress::UNKNOWN)
    }

    fn add_child_with_id(&mut self, _: impl Into<String>, id: Id) -> Gauge {
        let phase = match id {
            RECEIVED => Some(Phase::Receiving),
            RESOLVED => Some(Phase::Resolving),
            _ => None,
        };
        Gauge { progress: self.progress.clone(), phase, done: Arc::default(), total: None }
    }
}

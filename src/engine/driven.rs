//! A caller-driven engine: its worker is here when no turn runs, and whoever turns it takes it out for so long.

use std::sync::Mutex;

use super::worker::event_loop::Worker;
use crate::pool::lock;
use crate::port::Port;

/// The worker, when no turn runs.
pub(super) struct Driven<P: Port>(Mutex<State<P>>);

struct State<P: Port> {
    worker: Option<Box<Worker<P>>>,
    /// A turn was refused since the last one began: what it was to take is left to another one.
    is_missed: bool,
}

impl<P: Port> Default for Driven<P> {
    fn default() -> Driven<P> {
        Driven(Mutex::new(State { worker: None, is_missed: false }))
    }
}

impl<P: Port> Driven<P> {
    /// Gives it back. True: a turn was refused meanwhile.
    pub(super) fn put(&self, worker: Box<Worker<P>>) -> bool {
        let mut state = lock(&self.0);
        state.worker = Some(worker);
        std::mem::take(&mut state.is_missed)
    }

    /// None: a turn runs.
    pub(super) fn take(&self) -> Option<Box<Worker<P>>> {
        let mut state = lock(&self.0);
        let worker = state.worker.take();
        state.is_missed = worker.is_none();
        worker
    }

    /// Whether a turn was refused since this was asked, or since this one began.
    pub(super) fn take_missed(&self) -> bool {
        std::mem::take(&mut lock(&self.0).is_missed)
    }

    /// A turn is refused without a look whether the worker is here.
    pub(super) fn miss(&self) {
        lock(&self.0).is_missed = true;
    }
}

//! How far an engine's end is, and who waits for it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::pool::lock;

/// The life of an engine.
pub(super) struct Life {
    state: Mutex<LifeState>,
    changed: Condvar,
}

/// What is known of it.
pub(super) struct LifeState {
    pub is_ending: bool,
    /// When the drain of the end is over.
    pub end_until_ns: u64,
    pub workers_left: u32,
    pub is_gone: bool,
    pub threads: Vec<JoinHandle<()>>,
}

impl Life {
    /// Of an engine with so many workers.
    pub(super) fn new(workers: u32) -> Life {
        let state =
            LifeState { is_ending: false, end_until_ns: 0, workers_left: workers, is_gone: false, threads: Vec::new() };
        Life { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, LifeState> {
        lock(&self.state)
    }

    /// Whoever waits looks again.
    pub(super) fn tell(&self) {
        self.changed.notify_all();
    }

    /// Waits until the engine is gone.
    pub(super) fn wait_until_gone(&self) -> MutexGuard<'_, LifeState> {
        self.changed.wait_while(self.lock(), |state| !state.is_gone).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until somebody tells of a change, or for a moment.
    pub(super) fn wait_a_moment(&self, state: MutexGuard<'_, LifeState>) {
        drop(self.changed.wait_timeout(state, Duration::from_millis(50)));
    }
}

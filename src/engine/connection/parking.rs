//! Where a worker waits when its port is broken: the host closed the descriptors, so no event comes and no wake-up.

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::pool::lock;

/// The stand-in for the waits of a port that is broken for good.
#[derive(Default)]
pub struct Parking {
    is_in_use: AtomicBool,
    is_woken: Mutex<bool>,
    changed: Condvar,
}

impl Parking {
    /// From now on the worker waits here. False: it did before.
    pub(in crate::engine) fn begin(&self) -> bool {
        !self.is_in_use.swap(true, SeqCst)
    }

    /// Whether it waits here and no more on its port.
    pub(in crate::engine) fn is_in_use(&self) -> bool {
        self.is_in_use.load(SeqCst)
    }

    /// Ends the wait of now or the next one.
    pub(super) fn wake(&self) {
        *lock(&self.is_woken) = true;
        self.changed.notify_one();
    }

    /// Waits until it is woken or so much time has passed.
    pub(in crate::engine) fn wait(&self, timeout_ns: Option<u64>) {
        let is_woken = lock(&self.is_woken);
        let mut is_woken = match timeout_ns {
            None => self.changed.wait_while(is_woken, |is_woken| !*is_woken).unwrap_or_else(PoisonError::into_inner),
            Some(timeout_ns) => {
                let timeout = Duration::from_nanos(timeout_ns);
                let waited = self.changed.wait_timeout_while(is_woken, timeout, |is_woken| !*is_woken);
                waited.unwrap_or_else(PoisonError::into_inner).0
            }
        };
        *is_woken = false;
    }
}

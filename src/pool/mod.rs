//! Everything that is bounded: blocks of memory, places, permits, timers, and the handles that name them.

pub mod blocks;
pub mod bucket;
pub mod handle;
pub mod permits;
pub mod room;
pub mod slots;
pub mod wheel;

use std::sync::PoisonError;

use crate::sync::{Mutex, MutexGuard};

/// Locks although a thread may have panicked while it held the lock: every critical section of this library leaves its
/// data whole at each point where it can panic, and a contained panic must not stop the rest of the engine.
#[inline]
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

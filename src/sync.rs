//! The locks and atomics of whatever tests/loom explores. Here they are those of the standard library; there the same
//! files are compiled with loom's, under which every order of the threads' steps is tried.

pub use std::sync::{Mutex, MutexGuard};

/// Atomics and fences.
pub mod atomic {
    pub use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
}

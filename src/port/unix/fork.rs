//! Notices fork(2). A child has none of the threads that its parent had: locks that they held stay held, and epoll,
//! sockets and eventfds are still shared with the parent. So it must do nothing at all, and finds that out by one load.

use std::io;
use std::sync::atomic::{AtomicU8, Ordering::*};

/// Nobody has asked yet, and the handler is not registered.
const UNWATCHED: u8 = 0;
/// The process that registered the handler.
const OWN: u8 = 1;
/// A child of it.
const CHILD: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNWATCHED);

/// Whether this is surely the process that it always was. If not, ask [`is_own_process`].
#[inline]
pub fn is_surely_own_process() -> bool {
    STATE.load(Relaxed) == OWN
}

/// Whether this is the process that it always was. The first question registers the handler; asked before any lock is
/// taken, no child can inherit one that is held without knowing that it is a child.
#[cold]
pub fn is_own_process() -> io::Result<bool> {
    if STATE.load(Relaxed) == UNWATCHED {
        // Two threads may both register it, which does no harm.
        // SAFETY: pthread_atfork keeps a pointer to a function that lives as long as the library, which is never
        // unloaded (build.rs); what it does is safe in a child (signal-safety(7)): one store.
        match unsafe { libc::pthread_atfork(None, None, Some(in_child)) } {
            0 => _ = STATE.compare_exchange(UNWATCHED, OWN, Relaxed, Relaxed),
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
    Ok(STATE.load(Relaxed) != CHILD)
}

/// Only the child's one thread runs this, before fork(2) returns in it.
extern "C" fn in_child() {
    STATE.store(CHILD, Relaxed);
}

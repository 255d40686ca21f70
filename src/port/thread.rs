//! Threads in which no signal is handled: signals belong to the host program.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread that has every signal blocked. The new thread inherits the mask that is set around its start
/// (pthread_sigmask(3)); the calling thread's own mask is restored.
pub fn spawn_with_signals_blocked(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    // SAFETY: both sets are plain data that the calls below fill before they are read; `pthread_sigmask` only touches
    // the calling thread's mask and the two sets, which outlive the call.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, &mut before);
        let thread = Builder::new().name(name).spawn(run);
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        thread
    }
}

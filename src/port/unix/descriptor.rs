//! Waiting for one descriptor.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Waits until it is readable or broken, a signal comes, or so much time has passed; the clock is the system's own. It needs
/// no descriptor beside this one.
pub(in crate::port) fn wait_until_readable(descriptor: BorrowedFd<'_>, timeout: Duration) {
    let mut item = libc::pollfd { fd: descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // Rounded up: rounded down, the last millisecond would spin.
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000).min(libc::c_int::MAX as u128) as libc::c_int;
    // SAFETY: poll writes to the one item that it is given, which lives for the call.
    unsafe { libc::poll(&raw mut item, 1, milliseconds) };
}

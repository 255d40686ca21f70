//! The clock.

use std::mem::MaybeUninit;

/// Monotonic time in nanoseconds.
#[inline]
pub(in crate::port) fn now_ns() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime fills the timespec that it is given; it cannot fail for this clock and a valid pointer.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

//! The three system calls of a message. On Linux they are made without the C library's functions of the same names, which
//! are cancellation points (pthreads(7)): two atomic operations around each call, and a thread that is cancelled in
//! one of them would be unwound through the engine.

use std::ffi::c_void;

use super::RawSocket;

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod system {
    use super::*;

    /// # Safety
    /// `length` bytes at `buffer` are writable.
    #[inline]
    pub unsafe fn recv(raw: RawSocket, buffer: *mut c_void, length: usize, flags: libc::c_int) -> isize {
        let (nobody, no_length) = (0_usize, 0_usize);
        // SAFETY: recvfrom(2) writes at most `length` bytes to the buffer and, without a place for it, no address.
        unsafe { libc::syscall(libc::SYS_recvfrom, raw, buffer, length, flags, nobody, no_length) as isize }
    }

    /// # Safety
    /// `length` bytes at `data` are readable.
    #[inline]
    pub unsafe fn send(raw: RawSocket, data: *const c_void, length: usize, flags: libc::c_int) -> isize {
        let (nobody, no_length) = (0_usize, 0_usize);
        // SAFETY: sendto(2) only reads the bytes; a connected socket needs no address.
        unsafe { libc::syscall(libc::SYS_sendto, raw, data, length, flags, nobody, no_length) as isize }
    }

    /// # Safety
    /// `most` events at `events` are writable.
    #[inline]
    pub unsafe fn epoll_wait(
        epoll: RawSocket,
        events: *mut libc::epoll_event,
        most: libc::c_int,
        timeout: libc::c_int,
    ) -> libc::c_int {
        let (no_mask, mask_bytes) = (0_usize, 8_usize);
        // SAFETY: epoll_pwait(2) writes at most `most` events; without a mask it is epoll_wait.
        unsafe {
            libc::syscall(libc::SYS_epoll_pwait, epoll, events, most, timeout, no_mask, mask_bytes) as libc::c_int
        }
    }
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod system {
    use super::*;

    pub use libc::{recv, send};

    #[cfg(target_os = "linux")]
    pub use libc::epoll_wait;
}

pub(super) use system::*;

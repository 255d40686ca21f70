//! The three system calls of a message. On Linux they are made without the C library's functions of the same names, which
//! are cancellation points (pthreads(7)): two atomic operations around each call, and a thread that is cancelled in
//! one of them would be unwound through the engine. AddressSanitizer, which cannot see that, has them made by the
//! C library (`--cfg wharf_libc_calls`).

use std::ffi::c_void;
use std::io;

#[cfg(all(target_os = "linux", target_arch = "x86_64", target_pointer_width = "64", not(wharf_libc_calls)))]
mod system {
    use std::arch::asm;

    use super::*;
    use crate::likely::likely;

    /// A system call of six words; gives what it gave, or its error as a negative number.
    ///
    /// # Safety
    /// What this call does with these words is sound.
    #[inline(always)]
    unsafe fn call(number: libc::c_long, words: [usize; 6]) -> isize {
        let result: isize;
        // SAFETY: the convention of the kernel (syscall(2)): number and result in rax, the words in these registers, rcx
        // and r11 are lost, and nothing is put on the stack. What the call does is vouched for by the caller.
        unsafe {
            asm!("syscall", inlateout("rax") number as isize => result, in("rdi") words[0], in("rsi") words[1],
                in("rdx") words[2], in("r10") words[3], in("r8") words[4], in("r9") words[5],
                lateout("rcx") _, lateout("r11") _, options(nostack));
        }
        result
    }

    #[inline(always)]
    fn outcome(result: isize) -> io::Result<usize> {
        if likely(result >= 0) { Ok(result as usize) } else { Err(io::Error::from_raw_os_error(-result as i32)) }
    }

    /// # Safety
    /// `length` bytes at `buffer` are writable.
    #[inline(always)]
    pub unsafe fn recv(raw: i32, buffer: *mut c_void, length: usize, flags: libc::c_int) -> io::Result<usize> {
        // SAFETY: recvfrom(2) writes at most `length` bytes to the buffer and, without a place for it, no address.
        outcome(unsafe { call(libc::SYS_recvfrom, [raw as usize, buffer as usize, length, flags as usize, 0, 0]) })
    }

    /// # Safety
    /// `length` bytes at `data` are readable.
    #[inline(always)]
    pub unsafe fn send(raw: i32, data: *const c_void, length: usize, flags: libc::c_int) -> io::Result<usize> {
        // SAFETY: sendto(2) only reads the bytes; a connected socket needs no address.
        outcome(unsafe { call(libc::SYS_sendto, [raw as usize, data as usize, length, flags as usize, 0, 0]) })
    }

    /// # Safety
    /// `most` events at `events` are writable.
    #[inline(always)]
    pub unsafe fn epoll_wait(
        epoll: i32,
        events: *mut libc::epoll_event,
        most: usize,
        timeout: libc::c_int,
    ) -> io::Result<usize> {
        // SAFETY: epoll_wait(2) writes at most `most` events.
        outcome(unsafe { call(libc::SYS_epoll_wait, [epoll as usize, events as usize, most, timeout as usize, 0, 0]) })
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_pointer_width = "64", not(wharf_libc_calls))))]
mod system {
    use super::*;

    fn outcome(result: isize) -> io::Result<usize> {
        if result >= 0 { Ok(result as usize) } else { Err(io::Error::last_os_error()) }
    }

    /// # Safety
    /// `length` bytes at `buffer` are writable.
    pub unsafe fn recv(raw: i32, buffer: *mut c_void, length: usize, flags: libc::c_int) -> io::Result<usize> {
        // SAFETY: recv(2) writes at most `length` bytes to the buffer.
        outcome(unsafe { libc::recv(raw, buffer, length, flags) })
    }

    /// # Safety
    /// `length` bytes at `data` are readable.
    pub unsafe fn send(raw: i32, data: *const c_void, length: usize, flags: libc::c_int) -> io::Result<usize> {
        // SAFETY: send(2) only reads the bytes.
        outcome(unsafe { libc::send(raw, data, length, flags) })
    }

    /// # Safety
    /// `most` events at `events` are writable.
    #[cfg(target_os = "linux")]
    pub unsafe fn epoll_wait(
        epoll: i32,
        events: *mut libc::epoll_event,
        most: usize,
        timeout: libc::c_int,
    ) -> io::Result<usize> {
        // SAFETY: epoll_wait(2) writes at most `most` events.
        outcome(unsafe { libc::epoll_wait(epoll, events, most as libc::c_int, timeout) as isize })
    }
}

pub(in crate::port) use system::*;

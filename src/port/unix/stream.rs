//! What a stream does: it sends, receives and ends.

use std::io::{self, IoSlice};
use std::mem::zeroed;

use super::errors::{check, check_size, retry};
use super::message_calls;
use super::socket::Socket;
use crate::likely::likely;

/// No SIGPIPE: where the flag is missing, SO_NOSIGPIPE was set when the socket was made.
#[cfg(not(target_vendor = "apple"))]
const SEND_FLAGS: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
#[cfg(target_vendor = "apple")]
const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT;

/// Slices of one call; the kernel takes at least as many (IOV_MAX).
const SLICES_MAX: usize = 1024;

/// Sends as much as the kernel takes.
#[inline(always)]
pub(super) fn send(socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let raw = socket.raw();
    if likely(slices.len() == 1) {
        let one = &slices[0];
        // SAFETY: pointer and length are those of the slice, which lives for the call and is only read.
        return retry(|| unsafe { message_calls::send(raw, one.as_ptr().cast(), one.len(), SEND_FLAGS) });
    }
    send_all(raw, slices)
}

/// Several slices.
#[inline(never)]
fn send_all(raw: i32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: msghdr is plain pointers and integers, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    // The kernel does not write to what is sent, though the field is mutable for recvmsg's sake.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len().min(SLICES_MAX) as _;
    // SAFETY: IoSlice has the layout of iovec on Unix (its documentation); the slices live for the call.
    retry(|| check_size(unsafe { libc::sendmsg(raw, &raw const message, SEND_FLAGS) }))
}

/// Reads what is there.
#[inline(always)]
pub(super) fn receive(raw: i32, buffer: &mut [u8]) -> io::Result<usize> {
    let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the kernel writes at most `length` bytes to the buffer, which is borrowed mutably for the call.
    retry(|| unsafe { message_calls::recv(raw, pointer, length, libc::MSG_DONTWAIT) })
}

/// What a receive would find.
pub(super) fn peek(socket: &Socket) -> io::Result<usize> {
    let mut byte = 0_u8;
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes at most one byte to `byte`, which lives for the call.
    retry(|| check_size(unsafe { libc::recv(socket.raw(), (&raw mut byte).cast(), 1, flags) }))
}

/// Whether both directions are over or an error waits (poll(2): POLLHUP, POLLERR).
pub(super) fn is_broken(socket: &Socket) -> bool {
    let mut poll = libc::pollfd { fd: socket.raw(), events: 0, revents: 0 };
    // SAFETY: one pollfd is read and written, which lives for the call.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLERR | libc::POLLHUP) != 0
}

/// Bytes on their way (tcp(7), unix(7): SIOCOUTQ, which is TIOCOUTQ).
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn unacknowledged(socket: &Socket) -> Option<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one int to `bytes`, which lives for the call.
    let result = unsafe { libc::ioctl(socket.raw(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { u64::try_from(bytes).ok() } else { None }
}

/// Elsewhere it counts other things, or nothing.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn unacknowledged(_socket: &Socket) -> Option<u64> {
    None
}

/// Sends FIN.
pub(super) fn shutdown_send(socket: &Socket) -> io::Result<()> {
    // SAFETY: shutdown takes numbers only.
    check(unsafe { libc::shutdown(socket.raw(), libc::SHUT_WR) }).map(drop)
}

//! A socket of Unix: how it is made, and what it owns.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::bound_path::BoundPath;
use super::errors::check;
#[cfg(target_vendor = "apple")]
use super::options::set;
use super::sockaddr::SockAddr;

/// A socket; closed when dropped. A listening Unix socket removes its file too. `Option<Socket>` is 8 bytes.
#[derive(Debug)]
pub struct Socket {
    /// Before `fd`, so that the file goes before the socket does: nobody finds a file on which nobody listens.
    bound: BoundPath,
    fd: OwnedFd,
}

impl Socket {
    /// The descriptor's number.
    #[inline]
    pub fn raw(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// Removes the file of this path when it is dropped.
    pub(super) fn owns(&mut self, path: &Path) {
        self.bound = BoundPath::of(path);
    }

    /// # Safety
    /// `raw` is open and owned by nobody else.
    #[inline]
    pub(super) unsafe fn own(raw: i32) -> Socket {
        // SAFETY: promised by the caller.
        Socket { bound: BoundPath::NONE, fd: unsafe { OwnedFd::from_raw_fd(raw) } }
    }
}

/// Sets close-on-exec and non-blocking.
pub(super) fn prepare(raw: i32) -> io::Result<()> {
    // SAFETY: fcntl with these commands touches no memory.
    check(unsafe { libc::fcntl(raw, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: as above.
    let flags = check(unsafe { libc::fcntl(raw, libc::F_GETFL) })?;
    // SAFETY: as above.
    check(unsafe { libc::fcntl(raw, libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

#[cfg(not(target_vendor = "apple"))]
pub(super) fn new_stream(family: libc::c_int) -> io::Result<Socket> {
    let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: socket takes numbers only; the new descriptor is nobody else's.
    unsafe { Ok(Socket::own(check(libc::socket(family, kind, 0))?)) }
}

#[cfg(target_vendor = "apple")]
pub(super) fn new_stream(family: libc::c_int) -> io::Result<Socket> {
    // SAFETY: socket takes numbers only; the new descriptor is nobody else's.
    let socket = unsafe { Socket::own(check(libc::socket(family, libc::SOCK_STREAM, 0))?) };
    prepare(socket.raw())?;
    set(socket.raw(), libc::SOL_SOCKET, libc::SO_NOSIGPIPE, 1 as libc::c_int)?;
    Ok(socket)
}

pub(super) fn bind(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    let (pointer, length) = address.as_raw();
    // SAFETY: pointer and length are those of `address`, which lives for the call.
    check(unsafe { libc::bind(socket.raw(), pointer, length) }).map(drop)
}

//! Streams and clock: the system calls that every port on Unix shares.

use std::io::{self, IoSlice};
use std::mem::{MaybeUninit, zeroed};
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

pub(super) use super::listen::{accept, adopt_listener, listen};
pub(super) use super::options::{reset_on_close, set_stream_options, take_error};
pub(super) use super::sockaddr::{local_address, peer_address};

use super::bound_path::BoundPath;
use super::hot;
use super::options::set;
use super::sockaddr::SockAddr;
use super::{Address, RawSocket, StreamOptions};
use crate::likely::{likely, unlikely};

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
    pub fn raw(&self) -> RawSocket {
        self.fd.as_raw_fd()
    }

    /// Removes the file of this path when it is dropped.
    pub(super) fn owns(&mut self, path: &Path) {
        self.bound = BoundPath::of(path);
    }

    /// # Safety
    /// `raw` is open and owned by nobody else.
    #[inline]
    pub(super) unsafe fn own(raw: RawSocket) -> Socket {
        // SAFETY: promised by the caller.
        Socket { bound: BoundPath::NONE, fd: unsafe { OwnedFd::from_raw_fd(raw) } }
    }
}

/// What a system call that gives -1 for an error gave.
#[inline]
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same for those that give a size.
fn check_size(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Calls again for as long as a signal interrupts.
#[inline(always)]
fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if unlikely(error.raw_os_error() == Some(libc::EINTR)) => {}
            outcome => return outcome,
        }
    }
}

/// Sets close-on-exec and non-blocking.
pub(super) fn prepare(raw: RawSocket) -> io::Result<()> {
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

/// Begins to connect.
pub(super) fn connect(to: &Address, from: Option<&Address>, options: &StreamOptions) -> io::Result<Socket> {
    let target = SockAddr::of(to)?;
    let socket = new_stream(target.family())?;
    // Before the connect: the size of the receive buffer decides the window that the SYN offers.
    set_stream_options(socket.raw(), options)?;
    if let Some(from) = from {
        bind_local(&socket, to, from)?;
    }
    let (pointer, length) = target.as_raw();
    // SAFETY: pointer and length are those of `target`, which lives for the call.
    match check(unsafe { libc::connect(socket.raw(), pointer, length) }) {
        // An interrupted connect goes on by itself (POSIX).
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::EINTR)) => Err(error),
        _ => Ok(socket),
    }
}

fn bind_local(socket: &Socket, to: &Address, from: &Address) -> io::Result<()> {
    let every;
    let from = match (from, to) {
        (Address::EveryIp(port), Address::Ip(SocketAddr::V4(_))) => {
            every = Address::Ip(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port));
            &every
        }
        _ => from,
    };
    match from.socket_address().map(|address| address.port()) {
        // Let the port be chosen at connect, when the target is known: the same port then serves many targets.
        #[cfg(target_os = "linux")]
        Some(0) => drop(set(socket.raw(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1 as libc::c_int)),
        // A fixed port may be left in TIME_WAIT by the connection before.
        Some(1..) => set(socket.raw(), libc::SOL_SOCKET, libc::SO_REUSEADDR, 1 as libc::c_int)?,
        _ => {}
    }
    bind(socket, &SockAddr::of(from)?)
}

/// How a connect ended.
pub(super) fn connect_result(socket: &Socket) -> io::Result<()> {
    if let Some(error) = take_error(socket.raw()) {
        return Err(error);
    }
    let peer = peer_address(socket.raw())?;
    // A connect to a free local port can meet itself (simultaneous open) when the system happens to choose that port.
    if matches!(peer, Address::Ip(_)) && local_address(socket.raw())? == peer {
        return Err(io::Error::from_raw_os_error(libc::ECONNREFUSED));
    }
    Ok(())
}

/// Resolves a host name; blocks.
pub(super) fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    Ok((host, port).to_socket_addrs()?.collect())
}

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
        return retry(|| unsafe { hot::send(raw, one.as_ptr().cast(), one.len(), SEND_FLAGS) });
    }
    send_all(raw, slices)
}

/// Several slices.
#[inline(never)]
fn send_all(raw: RawSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
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
pub(super) fn receive(raw: RawSocket, buffer: &mut [u8]) -> io::Result<usize> {
    #[cfg(feature = "simulation")]
    if super::sim::is_simulated(raw) {
        return super::sim::receive(raw, buffer);
    }
    let (pointer, length) = (buffer.as_mut_ptr().cast(), buffer.len());
    // SAFETY: the kernel writes at most `length` bytes to the buffer, which is borrowed mutably for the call.
    retry(|| unsafe { hot::recv(raw, pointer, length, libc::MSG_DONTWAIT) })
}

/// Sends FIN.
pub(super) fn shutdown_send(socket: &Socket) -> io::Result<()> {
    // SAFETY: shutdown takes numbers only.
    check(unsafe { libc::shutdown(socket.raw(), libc::SHUT_WR) }).map(drop)
}

/// Monotonic time in nanoseconds.
#[inline]
pub(super) fn now_ns() -> u64 {
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: clock_gettime fills the timespec that it is given; it cannot fail for this clock and a valid pointer.
    let now = unsafe {
        libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr());
        now.assume_init()
    };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The part of [`super::Port`] that every port on Unix has in common.
macro_rules! socket_calls {
    () => {
        type Socket = $crate::port::socket::Socket;

        fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<Socket> {
            socket::listen(address, options)
        }
        fn accepted_inherit_options(address: &Address) -> bool {
            // Linux copies the listener (tcp(7)); elsewhere it differs by option and system.
            cfg!(target_os = "linux") && !address.is_unix()
        }
        fn adopt_listener(&self, raw: RawSocket) -> io::Result<Socket> {
            socket::adopt_listener(raw)
        }
        fn accept(&self, listener: &Socket) -> io::Result<(Socket, Option<SocketAddr>)> {
            socket::accept(listener)
        }
        fn connect(&self, to: &Address, from: Option<&Address>, options: &StreamOptions) -> io::Result<Socket> {
            socket::connect(to, from, options)
        }
        fn connect_result(socket: &Socket) -> io::Result<()> {
            socket::connect_result(socket)
        }
        fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
            let host = host.to_owned();
            smol::unblock(move || socket::resolve(&host, port))
        }
        #[inline(always)]
        fn send(socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            socket::send(socket, slices)
        }
        #[inline]
        fn receive(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
            socket::receive(socket.raw(), buffer)
        }
        fn shutdown_send(socket: &Socket) -> io::Result<()> {
            socket::shutdown_send(socket)
        }
        fn reset_on_close(socket: &Socket) {
            socket::reset_on_close(socket.raw());
        }
        fn set_options(socket: &Socket, options: &StreamOptions) -> io::Result<()> {
            socket::set_stream_options(socket.raw(), options)
        }
        fn local_address(socket: &Socket) -> io::Result<Address> {
            socket::local_address(socket.raw())
        }
        fn peer_address(socket: &Socket) -> io::Result<Address> {
            socket::peer_address(socket.raw())
        }
        #[inline]
        fn raw(socket: &Socket) -> RawSocket {
            socket.raw()
        }
        #[inline]
        fn now_ns(&self) -> u64 {
            socket::now_ns()
        }
        fn random(&self) -> u64 {
            fastrand::u64(..)
        }
    };
}
pub(super) use socket_calls;

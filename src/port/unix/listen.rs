//! Listening sockets: made, taken over, accepted from.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use super::bound_path::remove_if_stale;
use super::connect::connect;
use super::errors::{accept_error, check};
use super::options::{get, set, set_stream_options};
use super::sockaddr::{SockAddr, local_address};
use super::socket::{Socket, bind, new_stream, prepare};
use crate::port::{AcceptError, Accepted, Address, ListenOptions, StreamOptions};

/// Makes a listening socket.
pub(super) fn listen(address: &Address, options: &ListenOptions) -> io::Result<Socket> {
    match address {
        Address::EveryIp(port) => match listen_on(address, options) {
            // A system without IPv6.
            Err(error) if !options.v6_only && is_family_missing(&error) => {
                let v4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port);
                listen_on(&Address::Ip(v4), options)
            }
            other => other,
        },
        Address::Unix(path) => match listen_on(address, options) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let probe = || connect(address, None, &StreamOptions { delay: true, ..Default::default() }).map(drop);
                if remove_if_stale(path, probe) { listen_on(address, options) } else { Err(error) }
            }
            other => other,
        },
        _ => listen_on(address, options),
    }
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn listen_on(address: &Address, options: &ListenOptions) -> io::Result<Socket> {
    const ON: libc::c_int = 1;
    let raw_address = SockAddr::of(address)?;
    let mut socket = new_stream(raw_address.family())?;
    let raw = socket.raw();
    if !address.is_unix() {
        // A server that starts again must not wait for the TIME_WAIT of its last run's connections.
        set(raw, libc::SOL_SOCKET, libc::SO_REUSEADDR, ON)?;
        if options.reuse_port {
            set(raw, libc::SOL_SOCKET, libc::SO_REUSEPORT, ON)?;
        }
    }
    if raw_address.family() == libc::AF_INET6 {
        set(raw, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, libc::c_int::from(options.v6_only))?;
    }
    // Before it listens, so that the first connection has them, too. Options that fail leave connections that work.
    let _ = set_stream_options(raw, &options.stream);
    bind(&socket, &raw_address)?;
    if let Address::Unix(path) = address {
        socket.owns(path);
    }
    let backlog = match options.backlog {
        0 => libc::SOMAXCONN,
        length => length.min(libc::c_int::MAX as u32) as libc::c_int,
    };
    // SAFETY: listen takes numbers only.
    check(unsafe { libc::listen(raw, backlog) })?;
    Ok(socket)
}

/// Takes over a descriptor that already listens. On an error the descriptor is left as it was, open and its owner's.
pub(super) fn adopt_listener(raw: i32) -> io::Result<Socket> {
    let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    match get(raw, libc::SOL_SOCKET, libc::SO_TYPE) {
        Ok(libc::SOCK_STREAM) => {}
        Ok(_) => return refuse("the descriptor is not a stream socket"),
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => return refuse("the descriptor is not open"),
        Err(_) => return refuse("the descriptor is not a socket"),
    }
    if get(raw, libc::SOL_SOCKET, libc::SO_ACCEPTCONN)? == 0 {
        return refuse("the descriptor's socket does not listen; call listen(2) on it before handing it over");
    }
    local_address(raw)?;
    prepare(raw)?;
    // SAFETY: it is an open socket, and whoever calls this gives it away, by contract.
    Ok(unsafe { Socket::own(raw) })
}

/// Takes one connection.
pub(super) fn accept(listener: &Socket) -> Result<Accepted<Socket>, AcceptError> {
    loop {
        let mut address = SockAddr::empty();
        match address.fill(|place, length| accept_raw(listener.raw(), place, length)) {
            Ok(raw) => {
                // SAFETY: accept made the descriptor a moment ago; nobody else has it.
                let socket = unsafe { Socket::own(raw) };
                #[cfg(target_vendor = "apple")]
                prepare_accepted(&socket).map_err(AcceptError::Connection)?;
                return Ok(Accepted { socket, peer: peer_of(&address) });
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(accept_error(error)),
        }
    }
}

/// The address that an accept gave.
#[inline]
fn peer_of(address: &SockAddr) -> Address {
    match address.to_ip() {
        Some(ip) => Address::Ip(ip),
        // Only IP and Unix sockets are ever listened on.
        None => address.to_address().unwrap_or(Address::UnixUnnamed),
    }
}

#[cfg(not(target_vendor = "apple"))]
#[inline]
fn accept_raw(raw: i32, place: *mut libc::sockaddr, length: *mut libc::socklen_t) -> libc::c_int {
    // SAFETY: `place` and `length` are those of an address that lives for the call (SockAddr::fill).
    unsafe { libc::accept4(raw, place, length, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) }
}

#[cfg(target_vendor = "apple")]
fn accept_raw(raw: i32, place: *mut libc::sockaddr, length: *mut libc::socklen_t) -> libc::c_int {
    // SAFETY: `place` and `length` are those of an address that lives for the call (SockAddr::fill).
    unsafe { libc::accept(raw, place, length) }
}

/// Fails only when the peer is gone already.
#[cfg(target_vendor = "apple")]
fn prepare_accepted(socket: &Socket) -> io::Result<()> {
    prepare(socket.raw())?;
    set(socket.raw(), libc::SOL_SOCKET, libc::SO_NOSIGPIPE, 1 as libc::c_int)
}

//! Connecting, and the addresses of names.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};

use super::errors::check;
use super::options::{set, set_stream_options, take_error};
use super::sockaddr::{SockAddr, local_address, peer_address};
use super::socket::{Socket, bind, new_stream};
use crate::port::{Address, StreamOptions};

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

/// Resolves a host name (getaddrinfo(3)); blocks.
pub(super) fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((host, 0).to_socket_addrs()?.collect())
}

//! Addresses in the form that system calls take and give.

use std::ffi::OsStr;
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::ffi::OsStrExt;

use super::errors::check;
use super::limits::{UNIX_PATH_MAX, UNIX_PATH_OFFSET};
use crate::port::address::{Address, plain};

/// A socket address of any family.
pub(super) struct SockAddr {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl SockAddr {
    /// Room for an address that the kernel fills in.
    #[inline]
    pub(super) fn empty() -> SockAddr {
        // SAFETY: sockaddr_storage is plain integers, for which all zeroes is a valid value (family AF_UNSPEC).
        SockAddr { storage: unsafe { zeroed() }, length: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    /// Lets a system call fill an empty address in; gives the call's result.
    #[inline]
    pub(super) fn fill(
        &mut self,
        call: impl FnOnce(*mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int,
    ) -> io::Result<libc::c_int> {
        check(call((&raw mut self.storage).cast(), &raw mut self.length))
    }

    /// Of an IP address.
    pub(super) fn of_ip(address: SocketAddr) -> SockAddr {
        let mut made = SockAddr::empty();
        let storage = &raw mut made.storage;
        match address {
            SocketAddr::V4(v4) => {
                // SAFETY: sockaddr_storage is as large and as aligned as every sockaddr (POSIX), zeroed, and borrowed
                // by nobody else here.
                let raw = unsafe { &mut *storage.cast::<libc::sockaddr_in>() };
                raw.sin_family = libc::AF_INET as libc::sa_family_t;
                raw.sin_port = v4.port().to_be();
                raw.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
                made.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                // SAFETY: as above.
                let raw = unsafe { &mut *storage.cast::<libc::sockaddr_in6>() };
                raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
                raw.sin6_port = v6.port().to_be();
                raw.sin6_addr.s6_addr = v6.ip().octets();
                raw.sin6_flowinfo = v6.flowinfo();
                raw.sin6_scope_id = v6.scope_id();
                made.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        made
    }

    /// Of any address that a socket can be bound or connected to.
    pub(super) fn of(address: &Address) -> io::Result<SockAddr> {
        match address {
            Address::Ip(ip) => Ok(SockAddr::of_ip(*ip)),
            Address::EveryIp(port) => Ok(SockAddr::of_ip(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port))),
            Address::Unix(path) => SockAddr::of_unix(path.as_os_str().as_bytes(), 0),
            Address::UnixAbstract(name) => SockAddr::of_unix(name, 1),
            Address::UnixUnnamed => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "a Unix socket without a name cannot be reached"))
            }
        }
    }

    /// `skip`: zero bytes before the name, which make it an abstract one.
    fn of_unix(name: &[u8], skip: usize) -> io::Result<SockAddr> {
        if name.is_empty() || name.len() > UNIX_PATH_MAX || (skip == 0 && name.contains(&0)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a Unix socket's path is empty, too long or has a zero byte",
            ));
        }
        let mut made = SockAddr::empty();
        // SAFETY: as in `of_ip`.
        let raw = unsafe { &mut *(&raw mut made.storage).cast::<libc::sockaddr_un>() };
        raw.sun_family = libc::AF_UNIX as libc::sa_family_t;
        for (place, byte) in raw.sun_path[skip..].iter_mut().zip(name) {
            *place = *byte as libc::c_char;
        }
        // A path takes its zero byte along; an abstract name ends where the length says.
        made.length = (UNIX_PATH_OFFSET + name.len() + 1) as libc::socklen_t;
        Ok(made)
    }

    /// The family, for `socket(2)`.
    #[inline]
    pub(super) fn family(&self) -> libc::c_int {
        libc::c_int::from(self.storage.ss_family)
    }

    /// Pointer and length for `bind` and `connect`; the pointer lives as long as `self`.
    #[inline]
    pub(super) fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.length)
    }

    /// The IP address, an IPv4-mapped one as plain IPv4; None for other families.
    #[inline]
    pub(super) fn to_ip(&self) -> Option<SocketAddr> {
        let storage = &raw const self.storage;
        match self.family() {
            libc::AF_INET => {
                // SAFETY: the family says that the kernel (or `of_ip`) wrote a sockaddr_in, and the storage is large
                // and aligned enough for it.
                let raw = unsafe { &*storage.cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(raw.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above, with sockaddr_in6.
                let raw = unsafe { &*storage.cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
                let port = u16::from_be(raw.sin6_port);
                Some(plain(SocketAddr::V6(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id))))
            }
            _ => None,
        }
    }

    /// The address, whatever its family.
    #[inline(never)]
    pub(super) fn to_address(&self) -> io::Result<Address> {
        if let Some(ip) = self.to_ip() {
            return Ok(Address::Ip(ip));
        }
        if self.family() != libc::AF_UNIX && self.length as usize > UNIX_PATH_OFFSET {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "neither an IP nor a Unix socket"));
        }
        // SAFETY: as in `to_ip`, with sockaddr_un.
        let raw = unsafe { &*(&raw const self.storage).cast::<libc::sockaddr_un>() };
        let length = (self.length as usize).saturating_sub(UNIX_PATH_OFFSET).min(raw.sun_path.len());
        let name: Vec<u8> = raw.sun_path[..length].iter().map(|c| *c as u8).collect();
        Ok(match name.split_first() {
            None => Address::UnixUnnamed,
            Some((0, rest)) if cfg!(target_os = "linux") && !rest.is_empty() => Address::UnixAbstract(rest.to_vec()),
            Some(_) => match name.split(|byte| *byte == 0).next().unwrap_or_default() {
                [] => Address::UnixUnnamed,
                path => Address::Unix(OsStr::from_bytes(path).into()),
            },
        })
    }
}

/// A socket's own address.
pub(super) fn local_address(raw: i32) -> io::Result<Address> {
    let mut address = SockAddr::empty();
    // SAFETY: the pointers are to a sockaddr_storage and its length, which live for the call.
    address.fill(|place, length| unsafe { libc::getsockname(raw, place, length) })?;
    address.to_address()
}

/// The address of a socket's peer.
pub(super) fn peer_address(raw: i32) -> io::Result<Address> {
    let mut address = SockAddr::empty();
    // SAFETY: the pointers are to a sockaddr_storage and its length, which live for the call.
    address.fill(|place, length| unsafe { libc::getpeername(raw, place, length) })?;
    address.to_address()
}

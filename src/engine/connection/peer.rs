//! A peer's address, packed: there is one in each place of the connection table. The name of a Unix socket does not fit;
//! that it has one is noted, and it is found when it is wanted (see peer_name.rs).

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use crate::port::Address;

/// A peer's address in 24 bytes.
#[derive(Clone, Copy, Default)]
pub struct Peer {
    ip: [u8; 16],
    /// The zone of a link-local IPv6 address: without it nobody can dial it.
    scope_id: u32,
    port: u16,
    kind: Kind,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    UnixUnnamed,
    UnixNamed,
    V4,
    V6,
}

impl Peer {
    /// Packs it.
    pub fn new(address: &Address) -> Peer {
        match address.socket_address() {
            None if *address == Address::UnixUnnamed => Peer::default(),
            None => Peer { kind: Kind::UnixNamed, ..Peer::default() },
            Some(SocketAddr::V4(v4)) => {
                let mut ip = [0; 16];
                ip[..4].copy_from_slice(&v4.ip().octets());
                Peer { ip, port: v4.port(), scope_id: 0, kind: Kind::V4 }
            }
            Some(SocketAddr::V6(v6)) => {
                Peer { ip: v6.ip().octets(), port: v6.port(), scope_id: v6.scope_id(), kind: Kind::V6 }
            }
        }
    }

    /// The IP address, if it has one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_address().map(|address| address.ip())
    }

    /// Whether it is a Unix socket with a name.
    pub(super) fn has_name(&self) -> bool {
        self.kind == Kind::UnixNamed
    }

    /// The IP address and port, if it has them.
    pub(super) fn socket_address(&self) -> Option<SocketAddr> {
        match self.kind {
            Kind::V4 => Some((<[u8; 4]>::try_from(&self.ip[..4]).ok()?, self.port).into()),
            Kind::V6 => Some(SocketAddrV6::new(Ipv6Addr::from(self.ip), self.port, 0, self.scope_id).into()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ip_address_is_unpacked_as_it_was_packed_with_its_zone() {
        for text in ["192.0.2.1:80", "[2001:db8::1]:80", "[fe80::1%7]:65535", "[::]:0"] {
            let address = Address::parse_listen(text).unwrap();
            let peer = Peer::new(&address);
            assert_eq!(peer.socket_address().map(Address::from), Some(address));
        }
        assert_eq!(size_of::<Peer>(), 24);
    }
}

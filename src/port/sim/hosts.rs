//! The hosts of every world, and from where the engine connects.

use std::net::{IpAddr, Ipv4Addr};

/// The port from which the first connect of a world comes; each has another one.
pub const FIRST_PORT: u16 = 10_000;
/// From where the engine connects.
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A host that refuses every connect.
pub const REFUSES: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
/// A host to which no route leads.
pub const UNREACHABLE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
/// A host that never answers.
pub const SILENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

/// The connect that came from this port: the number that [`super::Peer::link`] gives for its other end.
pub fn link_of(port: u16) -> Option<u32> {
    port.checked_sub(FIRST_PORT).map(u32::from)
}

//! Who the peer of a connection is, with the name of a Unix socket, which its place of the table has no room for.

use super::locked::Locked;
use crate::port::{Address, Port};

impl<P: Port> Locked<'_, P> {
    /// Who the peer is, until its `on_close` has returned. The peer of a client is where it connected to, the peer of a
    /// server has the name that its own socket was bound to: the socket is asked, or what it said when it was closed. A
    /// system that forgets the name of a peer that is gone makes it one without a name.
    pub(super) fn peer_address(&self) -> Address {
        let sender = &*self.sender;
        if let Some(ip) = sender.peer.socket_address() {
            return Address::Ip(ip);
        }
        if !sender.peer.has_name() {
            return Address::UnixUnnamed;
        }
        if let Some(target) = sender.owner.as_ref().and_then(|owner| owner.events.unix_target()) {
            return target.clone();
        }
        match &sender.socket {
            Some(socket) => P::peer_address(socket).unwrap_or(Address::UnixUnnamed),
            None => self.connections.link_of(self.connection).closed_peer(self.index),
        }
    }

    /// The socket is about to be closed: what only it can tell is kept until the worker ends its next connection.
    pub(super) fn keep_peer_name(&self) {
        if self.sender.peer.has_name() {
            self.connections.link_of(self.connection).set_closed_peer(self.index, self.peer_address());
        }
    }
}

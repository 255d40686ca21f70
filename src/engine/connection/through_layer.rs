//! The way of bytes through the layer of a connection, up and down. A connection without one never comes here.

// The layers that there are so far are those of tests.
#![cfg_attr(not(feature = "testing"), allow(dead_code))]

use std::sync::Arc;

use super::caller::Caller;
use super::close::Close;
use super::layer::{Down, Held, Up};
use super::locked::Locked;
use super::outgoing::Outgoing;
use super::owner::Owner;
use super::state::{CLOSING, Connection, LAYER_BLOCKED, LAYERED, PAUSED};
use super::turn::Turn;
use crate::engine::mutant::{self, Mutant};
use crate::likely::likely;
use crate::port::Port;
use crate::status::Status;

/// The handler, above the last layer.
struct Handler<'t, 'a, P: Port> {
    turn: &'t mut Turn<'a, P>,
    key: u64,
}

impl<P: Port> Up for Handler<'_, '_, P> {
    fn deliver(&mut self, data: &[u8]) -> bool {
        let Some((connection, _)) = self.turn.connections.table.by_key(self.key) else { return false };
        self.turn.hand_over(connection, self.key, data);
        connection.is_open() && !connection.has(CLOSING) && !connection.has(PAUSED)
    }
}

/// The queue, below the last layer.
struct Queue<'t, 'a, P: Port> {
    locked: &'t mut Locked<'a, P>,
    own: Option<&'t Caller>,
}

impl<P: Port> Down for Queue<'_, '_, P> {
    fn send(&mut self, out: &Outgoing<'_>) -> Result<(), Status> {
        self.locked.send(out, self.own)
    }
}

impl<P: Port> Locked<'_, P> {
    /// Takes a send of the user; it goes through the layer, if there is one.
    #[inline]
    pub(in crate::engine) fn send_any(&mut self, out: &Outgoing<'_>, own: Option<&Caller>) -> Result<(), Status> {
        if likely(self.sender.takes_plain_sends) { self.send(out, own) } else { self.send_through_layer(out, own) }
    }

    /// There is a layer, or no more sends are taken.
    #[cold]
    fn send_through_layer(&mut self, out: &Outgoing<'_>, own: Option<&Caller>) -> Result<(), Status> {
        if !self.sender.takes_sends() {
            return Err(Status::Closed);
        }
        match self.sender.owner.clone().as_deref().and_then(|owner| owner.layer.as_deref()) {
            Some(layer) => layer.send(out, &mut Queue { locked: self, own }),
            None => self.send(out, own),
        }
    }
}

impl<P: Port> Turn<'_, P> {
    fn layered_owner(&self, index: u32) -> Option<Arc<Owner>> {
        self.owner_of(&self.connections.table.places[index as usize]).filter(|owner| owner.layer.is_some())
    }

    /// Whether a connection with a layer may receive: there must be blocks for all that it can bring. If there are none, it
    /// is looked at again when there are.
    #[cold]
    pub(super) fn may_receive(&mut self, index: u32) -> bool {
        let need = self.connections.receive_blocks;
        if self.hold_blocks(need) {
            return true;
        }
        let connection = &self.connections.table.places[index as usize];
        connection.set(LAYER_BLOCKED);
        self.connections.lock(index).wait_for_blocks(need);
        // Blocks may have come back between the refusal and our entry in the list.
        let has_blocks = self.hold_blocks(need);
        if has_blocks {
            connection.unset(LAYER_BLOCKED);
        }
        has_blocks
    }

    /// They are held until the wait is over, for one connection after the other.
    fn hold_blocks(&mut self, need: u32) -> bool {
        let more = need.saturating_sub(self.state.held_blocks);
        let has_blocks = self.connections.blocks.reserve(more);
        if has_blocks {
            self.state.held_blocks += more;
            // The worker gives them back before it waits again.
            self.link.wake.post();
        }
        has_blocks
    }

    /// Gives back what was held for receives.
    pub(in crate::engine) fn release_blocks(&mut self) {
        let held = std::mem::take(&mut self.state.held_blocks);
        if !mutant::is_on(Mutant::HeldBlocksLost) {
            self.connections.blocks.unreserve(held);
        }
        self.connections.tell_block_waiters();
    }

    /// Bytes that came go up through the layer.
    #[cold]
    pub(super) fn receive_through_layer(&mut self, key: u64, index: u32, data: &[u8]) {
        let Some(owner) = self.layered_owner(index) else { return };
        let Some(layer) = &owner.layer else { return };
        let mut held = Held::new(&self.connections.blocks, std::mem::take(&mut self.state.held_blocks));
        let received = layer.received(&mut held, index, data, &mut Handler { turn: self, key });
        self.state.held_blocks += held.left();
        self.close_if_refused(key, received);
    }

    /// What the layer kept while the user wanted no more goes up.
    #[cold]
    pub(super) fn resume_through_layer(&mut self, key: u64, index: u32) {
        let connection = &self.connections.table.places[index as usize];
        if connection.has(PAUSED) || connection.has(CLOSING) {
            return; // Paused again before anybody looked.
        }
        let Some(owner) = self.layered_owner(index) else { return };
        let Some(layer) = &owner.layer else { return };
        let blocks = &self.connections.blocks;
        let resumed = layer.resumed(blocks, index, &mut Handler { turn: self, key });
        self.close_if_refused(key, resumed);
    }

    /// Before the end of the stream is told: what the layer kept goes up first. False: the user paused meanwhile, and the end
    /// is read again when receiving is resumed.
    pub(super) fn may_end(&mut self, connection: &Connection<P>, key: u64, index: u32) -> bool {
        if !connection.has(LAYERED) || !connection.is_open() {
            return true;
        }
        self.resume_through_layer(key, index);
        connection.has(CLOSING) || !connection.has(PAUSED)
    }

    fn close_if_refused(&self, key: u64, outcome: Result<(), Status>) {
        if let (Err(reason), Ok(mut locked)) = (outcome, self.connections.locked(key)) {
            locked.close(Close::Now, reason);
        }
    }
}

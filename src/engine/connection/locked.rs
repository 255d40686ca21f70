//! A connection whose lock is held, and how it is got.

use std::sync::MutexGuard;

use super::connections::Connections;
use super::sender::Sender;
use super::state::Connection;
use crate::likely::unlikely;
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// A connection whose lock is held. Nothing is called meanwhile but the port.
pub struct Locked<'a, P: Port> {
    pub(super) connections: &'a Connections<P>,
    pub(super) connection: &'a Connection<P>,
    pub(super) index: u32,
    pub(super) sender: MutexGuard<'a, Sender<P>>,
}

impl<P: Port> Connections<P> {
    /// A connection, locked, whatever lives in this place.
    #[inline]
    pub(in crate::engine) fn lock(&self, index: u32) -> Locked<'_, P> {
        let connection = &self.table.places[index as usize];
        Locked { connections: self, connection, index, sender: lock(&connection.sender) }
    }

    /// A connection, locked, if the handle is its.
    #[inline(always)]
    pub(in crate::engine) fn locked(&self, bits: u64) -> Result<Locked<'_, P>, Status> {
        let (connection, index) = self.table.by_handle(bits)?;
        let sender = lock(&connection.sender);
        if connection.generation() != bits as u32 || sender.owner.is_none() {
            return Err(Status::Stale);
        }
        Ok(Locked { connections: self, connection, index, sender })
    }
}

impl<P: Port> Locked<'_, P> {
    /// Threads that wait in `send_wait` or `receive_wait` look again.
    #[inline]
    pub(super) fn tell_threads(&self) {
        if unlikely(self.sender.waits.has_threads()) {
            self.connection.changed.notify_all();
        }
    }

    /// The worker looks at this connection soon.
    pub(super) fn post_ready(&self) {
        self.connections.post_ready(self.connection, self.index);
    }

    /// The worker looks at this connection when so many blocks are free.
    pub(super) fn wait_for_blocks(&mut self, need: u32) {
        let is_waiting = self.sender.waits.set_for_blocks(true);
        self.connections.block_waiters.insert(self.index, need, is_waiting);
    }
}

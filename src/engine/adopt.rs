//! From a socket to a connection: a place is taken, filled, and registered with the worker that has the fewest.

use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::api::Close;
use super::config::ConnectionConfig;
use super::connection::{Connection, PULL, Peer, Phase};
use super::core::Core;
use super::endpoint::Endpoint;
use super::failure::status_of;
use crate::pool::handle::Handle;
use crate::pool::lock;
use crate::pool::permits::{Permit, Permits};
use crate::pool::slots::Slot;
use crate::port::Port;
use crate::status::Status;

/// A place for a connection that is not there yet. Dropped unused, on whatever path, it is given back and servers that
/// wait for one are told.
pub(super) struct Place<'a, P: Port> {
    core: &'a Core<P>,
    slot: Option<Slot>,
    permit: Option<Permit>,
}

impl<P: Port> Drop for Place<'_, P> {
    fn drop(&mut self) {
        if self.slot.take().is_some() {
            self.permit = None;
            self.core.place_is_free();
        }
    }
}

impl<P: Port> Core<P> {
    /// Takes a place of the engine and, for a server, one of its permits.
    pub(super) fn take_place(&self, permits: Option<&Arc<Permits>>) -> Option<Place<'_, P>> {
        let permit = match permits {
            Some(permits) => Some(permits.try_take()?),
            None => None,
        };
        Some(Place { core: self, slot: Some(self.slots.take()?), permit })
    }

    /// Fills a place and registers it with the worker that has the fewest connections.
    pub(super) fn adopt(
        &self,
        endpoint: &Arc<Endpoint<P>>,
        socket: P::Socket,
        peer: Peer,
        mut place: Place<'_, P>,
        now_ms: u32,
    ) -> Option<u64> {
        let slot = place.slot.take()?;
        let permit = place.permit.take();
        let index = slot.index();
        let connection = &self.connections[index as usize];
        let worker = self.worker_with_fewest();
        let handle = self.fill(connection, endpoint, socket, peer, slot, permit, worker, now_ms);
        self.workers[worker].open.fetch_add(1, AcqRel);
        if endpoint.join(connection, index).is_none() {
            self.empty(connection);
            self.workers[worker].open.fetch_sub(1, AcqRel);
            endpoint.forget_peer(peer);
            self.place_is_free();
            return None;
        }
        let side = lock(&connection.send);
        if connection.generation.load(Acquire) != handle.generation {
            return Some(handle.to_bits()); // Closed already.
        }
        let attached = side.socket.as_ref().map(|socket| self.workers[worker].port.attach(socket, handle.to_bits()));
        drop(side);
        if let Some(Err(error)) = attached {
            self.close_member(index, handle.generation, Close::Now, status_of(&error));
        }
        Some(handle.to_bits())
    }

    fn worker_with_fewest(&self) -> usize {
        let counts = self.workers.iter().map(|worker| worker.open.load(Relaxed));
        counts.enumerate().min_by_key(|(_, open)| *open).map_or(0, |(worker, _)| worker)
    }

    #[allow(clippy::too_many_arguments)]
    fn fill(
        &self,
        connection: &Connection<P>,
        endpoint: &Arc<Endpoint<P>>,
        socket: P::Socket,
        peer: Peer,
        slot: Slot,
        permit: Option<Permit>,
        worker: usize,
        now_ms: u32,
    ) -> Handle {
        let ConnectionConfig { timeouts, send_queue_limit_bytes, .. } = endpoint.connection;
        let mut side = lock(&connection.send);
        let handle = self.handle_of(slot.index());
        connection.flags.store(if endpoint.wants.receive { 0 } else { PULL }, Release);
        connection.worker.store(worker as u16, Release);
        connection.endpoint.store(endpoint.handle.index, Relaxed);
        connection.raw.store(P::raw(&socket), Relaxed);
        for stamp in [&connection.last_receive_ms, &connection.last_send_ms, &connection.opened_ms] {
            stamp.store(now_ms, Relaxed);
        }
        connection.bytes_in.store(0, Relaxed);
        connection.messages_in.store(0, Relaxed);
        connection.user_data.store(0, Relaxed);
        connection.send_unsettled.store(false, Relaxed);
        connection.set_timeouts(timeouts);
        connection.measure_from_the_beginning();
        side.socket = Some(socket);
        side.close = None;
        side.reason = Status::Ok;
        side.blocked = false;
        side.apart = 0;
        side.corked = false;
        side.owes_writable = false;
        side.fin_sent = false;
        side.waiters = 0;
        side.limit = send_queue_limit_bytes;
        side.messages_out = 0;
        side.refused = 0;
        side.peer = peer;
        side.endpoint = Some(endpoint.clone());
        side.permit = permit;
        side.slot = Some(slot);
        connection.set_phase(Phase::Opening);
        handle
    }

    /// Undoes [`Core::fill`] before anybody else knew of it.
    fn empty(&self, connection: &Connection<P>) {
        let mut side = lock(&connection.send);
        connection.set_phase(Phase::Free);
        connection.generation.store(connection.generation.load(Relaxed).wrapping_add(1), Release);
        let given_back = (side.socket.take(), side.endpoint.take(), side.permit.take(), side.slot.take());
        drop(side);
        drop(given_back);
    }
}

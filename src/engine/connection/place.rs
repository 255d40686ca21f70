//! From a socket to a connection: a place is taken, filled, and registered with the worker that has the fewest.

use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::close::Close;
use super::connections::Connections;
use super::owner::Owner;
use super::peer::Peer;
use super::sender::Vacated;
use super::state::{Connection, LAYERED, PULL, Phase, READ_OUT};
use crate::engine::mutant::{self, Mutant};
use crate::engine::stats::Traffic;
use crate::pool::lock;
use crate::pool::permits::{Permit, Permits};
use crate::pool::slots::Slot;
use crate::port::{Port, RawSocket, status_of};
use crate::status::Status;

/// A place for a connection that is not there yet. Dropped unused, on whatever path, it is given back and servers that
/// wait for one are told.
pub struct Place<'a, P: Port> {
    connections: &'a Connections<P>,
    slot: Option<Slot>,
    permit: Option<Permit>,
}

impl<P: Port> Drop for Place<'_, P> {
    fn drop(&mut self) {
        if self.slot.take().is_some() {
            self.permit = None;
            self.connections.place_waiters.tell();
        }
    }
}

impl<P: Port> Connections<P> {
    /// Whether a place is free.
    pub(in crate::engine) fn has_place(&self) -> bool {
        self.table.slots.free() > 0
    }

    /// Takes a place of the engine and, for a server, one of its permits.
    pub(in crate::engine) fn take_place(&self, permits: Option<&Arc<Permits>>) -> Option<Place<'_, P>> {
        let permit = match permits {
            Some(permits) => Some(permits.try_take()?),
            None => None,
        };
        Some(Place { connections: self, slot: Some(self.table.slots.take()?), permit })
    }

    /// Makes a connection of a socket: it is registered with the worker that has the fewest. When its owner was stopped
    /// meanwhile, it ends at once, as by [`Close::Flush`].
    pub(in crate::engine) fn begin(
        &self,
        owner: &Arc<Owner>,
        socket: P::Socket,
        peer: Peer,
        mut place: Place<'_, P>,
        now_ms: u64,
    ) {
        let Some(slot) = place.slot.take() else { return };
        let index = slot.index();
        let worker = self.take_worker();
        let connection = &self.table.places[index as usize];
        let raw = P::raw(&socket);
        let handle = {
            let mut sender = lock(&connection.sender);
            let handle = self.table.handle_of(index);
            connection.begin(owner, worker, raw, now_ms);
            if peer.ip().is_none() {
                connection.set(READ_OUT);
            }
            self.table.cold[index as usize].begin(now_ms);
            sender.occupy(socket, peer, owner.clone(), place.permit.take());
            connection.set_phase(Phase::Opening);
            handle.to_bits()
        };
        slot.keep();
        if !owner.insert(&self.table.member_places, index) {
            self.close_member(index, handle as u32, Close::Flush, Status::Stopped);
        }
        self.attach(handle, index, worker);
    }

    fn attach(&self, handle: u64, index: u32, worker: usize) {
        // It may be closed, and its place another's, already.
        let Ok(locked) = self.locked(handle) else { return };
        let attached = locked.sender.socket.as_ref().map(|socket| self.links[worker].port.attach(socket, handle));
        drop(locked);
        if let Some(Err(error)) = attached {
            self.close_member(index, handle as u32, Close::Now, status_of(&error));
        }
    }

    /// Ends the use of a place: its handle is stale from here on. Gives what the connection moved and held.
    pub(super) fn vacate(&self, index: u32) -> (Traffic, Vacated) {
        let connection = &self.table.places[index as usize];
        let mut sender = lock(&connection.sender);
        let traffic = connection.traffic(&sender);
        // In this order: whoever sees the new generation sees a free place (see `Table::live_handle`).
        connection.set_phase(Phase::Free);
        connection.next_generation();
        (traffic, sender.vacate(&self.blocks))
    }

    /// Gives a place back that was vacated.
    pub(super) fn give_back(&self, index: u32) {
        self.table.slots.give_back(index);
        self.tell_block_waiters();
        self.place_waiters.tell();
    }

    /// Chooses the worker with the fewest connections, and counts the new one as its. Several do this at once: whoever finds
    /// that another was faster looks again.
    fn take_worker(&self) -> usize {
        loop {
            let counts = self.links.iter().map(|link| link.open.load(Relaxed)).enumerate();
            let Some((worker, open)) = counts.min_by_key(|(_, open)| *open) else { return 0 };
            if self.links[worker].open.compare_exchange(open, open + 1, AcqRel, Relaxed).is_ok() {
                return worker;
            }
        }
    }
}

impl<P: Port> Connection<P> {
    /// What the worker keeps of it, from the beginning.
    fn begin(&self, owner: &Owner, worker: usize, raw: P::Raw, now_ms: u64) {
        let pull = if owner.wants.receive { 0 } else { PULL };
        let layered = if owner.layer.is_some() { LAYERED } else { 0 };
        self.life.flags.store(pull | layered, Release);
        self.life.worker.store(worker as u8, Release);
        self.owner.store(owner.handle.index, Relaxed);
        raw.store(&self.raw);
        for stamp in [&self.times.received_ms, &self.times.sent_ms] {
            stamp.store(now_ms, Relaxed);
        }
        self.received.bytes.store(0, Relaxed);
        self.received.messages.store(0, Relaxed);
        self.user_data.store(0, Relaxed);
        self.unsettled.store(false, Relaxed);
        self.timeouts.set(owner.config.timeouts);
    }

    fn next_generation(&self) {
        let step = u32::from(!mutant::is_on(Mutant::StaleHandle));
        self.life.generation.store(self.life.generation.load(Relaxed).wrapping_add(step), Release);
    }
}

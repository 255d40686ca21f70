//! What the port reports of a connection becomes callbacks: the way of a message up.

use std::io;
use std::sync::atomic::Ordering::*;

use super::close::Close;
use super::state::{
    CLOSING, Connection, LAYER_BLOCKED, LAYERED, OPENED, PAUSED, PEER_ENDED, PULL, Phase, READ_OUT, RESUMED,
};
use super::turn::Turn;
use crate::engine::events::Level;
use crate::engine::failpoint;
use crate::engine::mutant::{self, Mutant};
use crate::likely::{likely, unlikely};
use crate::pool::lock;
use crate::port::{Completion, Interest, Port, RawSocket, Reading, status_of};
use crate::status::Status;

/// For [`Interest::place`]: what is received goes through a layer.
const THROUGH_LAYER: u32 = u32::MAX;

impl<P: Port> Turn<'_, P> {
    /// What is to be done when a connection is readable.
    #[inline(always)]
    pub(in crate::engine) fn interest(&mut self, key: u64) -> Interest<P::Raw> {
        let Some((connection, place)) = self.connections.table.by_key(key) else {
            return Interest { read: Reading::Gone, room: false, place: 0 };
        };
        let flags = connection.life.flags.load(Acquire);
        if likely(connection.is_open() && flags & (PEER_ENDED | PULL | PAUSED | LAYERED | READ_OUT) == 0) {
            let raw = P::Raw::load(&connection.raw);
            return Interest { read: Reading::Receive(raw), room: connection.unsettled.load(SeqCst), place };
        }
        self.rarer_interest(connection, flags, place)
    }

    #[inline(never)]
    fn rarer_interest(&mut self, connection: &Connection<P>, flags: u16, place: u32) -> Interest<P::Raw> {
        let (phase, raw) = (connection.phase(), P::Raw::load(&connection.raw));
        let room = phase != Phase::Open || connection.unsettled.load(SeqCst);
        let read = match phase {
            Phase::Free | Phase::Closed => return Interest { read: Reading::Gone, room: false, place: 0 },
            // `on_open` comes first, and may pause or close.
            Phase::Opening => Reading::Notify,
            Phase::Lingering if flags & READ_OUT != 0 => Reading::Drain(raw),
            Phase::Lingering => Reading::Receive(raw),
            _ if flags & PEER_ENDED != 0 => Reading::Nothing(raw),
            _ if flags & PULL != 0 && flags & CLOSING == 0 => Reading::Notify,
            _ if flags & PAUSED != 0 => Reading::Nothing(raw),
            _ if flags & LAYERED != 0 && !self.may_receive(place) => Reading::Nothing(raw),
            _ if flags & READ_OUT != 0 => Reading::Drain(raw),
            _ => Reading::Receive(raw),
        };
        let place = if flags & LAYERED != 0 { THROUGH_LAYER } else { place };
        Interest { read, room, place }
    }

    /// Bytes came for a connection that was open a moment ago.
    #[inline(always)]
    pub(in crate::engine) fn received(&mut self, key: u64, place: u32, data: &[u8]) {
        failpoint::hit(failpoint::Point::Dispatch);
        // Nothing has run since the port was told that it is open.
        match self.connections.table.places.get(place as usize) {
            Some(connection) if likely(connection.is_open()) => self.hand_over(connection, key, data),
            _ => self.received_otherwise(key, data),
        }
    }

    /// Through a layer, or while it lingers.
    #[inline(never)]
    fn received_otherwise(&mut self, key: u64, data: &[u8]) {
        let Some((connection, index)) = self.connections.table.by_key(key) else { return };
        if !connection.is_open() || connection.has(CLOSING) {
            return;
        }
        if connection.has(LAYERED) {
            self.receive_through_layer(key, index, data);
        } else {
            self.hand_over(connection, key, data);
        }
    }

    /// What arrived, to the user.
    #[inline(always)]
    pub(super) fn hand_over(&mut self, connection: &Connection<P>, key: u64, data: &[u8]) {
        if unlikely(connection.has(CLOSING)) {
            return;
        }
        connection.count_received(data.len(), self.now_ms());
        if let Some(Some(owner)) = self.state.owners.get(connection.owner.load(Relaxed) as usize) {
            owner.handler.on_receive(key, data);
        }
        self.called_for_a_message();
    }

    /// Anything that the port tells of a connection.
    pub(in crate::engine) fn complete(&mut self, key: u64, completion: Completion<'_>) {
        let Some((connection, index)) = self.connections.table.by_key(key) else { return };
        if !matches!(completion, Completion::Received(_)) {
            failpoint::hit(failpoint::Point::Dispatch);
        }
        match connection.phase() {
            Phase::Free | Phase::Closed => return,
            Phase::Opening => {
                self.open(connection, key, index);
                if matches!(completion, Completion::Readable) {
                    connection.set(RESUMED); // What can be read was not read yet.
                    self.connections.post_ready(connection, index);
                }
            }
            Phase::Open | Phase::Lingering => {}
        }
        match completion {
            Completion::Received(data) => self.received(key, THROUGH_LAYER, data),
            Completion::Writable => self.writable(connection, index),
            Completion::Readable => self.pullable(connection, index),
            Completion::EndOfStream if !self.may_end(connection, key, index) => {}
            Completion::EndOfStream => self.peer_ended(connection, key, index),
            Completion::Drained => {
                let _ = self.may_end(connection, key, index);
                self.drained(index);
            }
            Completion::Failed(error) => {
                let _ = self.may_end(connection, key, index);
                self.failed(connection, index, status_of(&error));
            }
        }
    }

    /// The first event of a connection: the user gets it.
    fn open(&mut self, connection: &Connection<P>, key: u64, index: u32) {
        let owner = {
            let sender = lock(&connection.sender);
            if sender.ending.close.is_some() {
                return; // Closed before it was ever told of; it is on the ready list.
            }
            connection.set_phase(Phase::Open);
            sender.owner.clone()
        };
        let Some(owner) = owner else { return };
        let place = owner.handle.index as usize;
        if self.state.owners.try_reserve((place + 1).saturating_sub(self.state.owners.len())).is_err() {
            return self.connections.close_member(index, key as u32, Close::Now, Status::NoMemory);
        }
        if self.state.owners.len() <= place {
            self.state.owners.resize_with(place + 1, || None);
        }
        self.state.owners[place] = Some(owner.clone());
        self.set_deadline(index);
        connection.set(OPENED);
        let count = owner.count_open();
        if self.connections.log.wants(Level::Debug) {
            let (kind, peer) = (owner.kind_name(), self.connections.lock(index).peer_address());
            self.connections.log.line(Level::Debug, format_args!("{kind}: {peer} connected, {count} in all"));
        }
        owner.handler.on_open(key);
        self.called();
        owner.events.opened(key);
    }

    /// The kernel has room: what waits goes on.
    fn writable(&mut self, connection: &Connection<P>, index: u32) {
        if !connection.unsettled.load(SeqCst) || mutant::is_on(Mutant::LostWritable) {
            return;
        }
        self.connections.lock(index).unblock();
        self.connections.tell_block_waiters();
        self.tell_and_progress(index);
    }

    /// A connection in pull mode has something to read: whoever waits for it is told. When nobody asks, a reset is found out
    /// here, and what came before it waits for the linger deadline to be asked for.
    fn pullable(&mut self, connection: &Connection<P>, index: u32) {
        let mut locked = self.connections.lock(index);
        locked.tell_threads();
        let sender = &locked.sender;
        let Some(socket) = sender.socket.as_ref().filter(|_| connection.is_open() && !sender.waits.has_threads())
        else {
            return;
        };
        match P::peek(socket) {
            Ok(1..) if P::is_broken(socket) => locked.fail(Status::Reset),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => locked.fail(status_of(&error)),
            _ => {}
        }
    }

    fn peer_ended(&mut self, connection: &Connection<P>, key: u64, index: u32) {
        connection.set(PEER_ENDED);
        if let Some((reason, _)) = self.reason_of_drain(index) {
            return self.finish(index, reason);
        }
        if connection.is_open() && !connection.has(CLOSING) {
            let owner = self.owner_of(connection);
            match owner.filter(|owner| owner.wants.end) {
                Some(owner) => {
                    owner.handler.on_end(key);
                    self.called();
                }
                // What is to be done for it is done below.
                None => _ = self.connections.lock(index).note_close(Close::Flush, Status::EndOfStream),
            }
        }
        self.progress(index);
    }

    /// Why a connection that hands over what has come ends, and whether it does so when nothing more is to be read.
    fn reason_of_drain(&self, index: u32) -> Option<(Status, bool)> {
        let ending = &self.connections.lock(index).sender.ending;
        (ending.close == Some(Close::Drain)).then_some((ending.reason, ending.until_empty))
    }

    /// Nothing more is to be read for now.
    fn drained(&mut self, index: u32) {
        if let Some((reason, true)) = self.reason_of_drain(index) {
            self.finish(index, reason);
        }
    }

    fn failed(&mut self, connection: &Connection<P>, index: u32, status: Status) {
        let reason = {
            let mut locked = self.connections.lock(index);
            let ending = &locked.sender.ending;
            let is_unread = connection.has(PAUSED | LAYER_BLOCKED) && !connection.has(PEER_ENDED | CLOSING);
            match ending.close {
                Some(how) if how >= Close::Drain => ending.reason,
                // The error was asked for, and what came before it was not read.
                _ if is_unread => return locked.break_off(status, false, false),
                _ => status,
            }
        };
        self.finish(index, reason);
    }

    /// Does for a connection of the ready list whatever was asked for since the last look.
    pub(in crate::engine) fn look_at(&mut self, index: u32, ring: &mut P::Ring) {
        let connections = self.connections;
        let connection = &connections.table.places[index as usize];
        connection.ready.clear();
        if connection.worker() != self.worker {
            // The place was used again, by another worker, since it was put on our list.
            return connections.post_ready(connection, index);
        }
        if connection.phase() == Phase::Free {
            return;
        }
        let key = connections.table.handle_of(index).to_bits();
        failpoint::hit(failpoint::Point::Ready);
        // What other threads left to this worker.
        connections.lock(index).flush();
        if connection.has(LAYER_BLOCKED) {
            connection.unset(LAYER_BLOCKED);
            connection.set(RESUMED);
        }
        self.tell_and_progress(index);
        if connections.table.by_key(key).is_none() {
            return; // It has ended, and the place may be another worker's by now.
        }
        if connection.has(RESUMED) {
            connection.unset(RESUMED);
            if connection.has(LAYERED) {
                self.resume_through_layer(key, index);
            }
            P::receive_again(ring, key);
        }
        if connection.phase() == Phase::Open {
            self.set_deadline(index);
        }
    }

    /// What is owed to the user, and the next step of a close.
    fn tell_and_progress(&mut self, index: u32) {
        self.tell_sent(index);
        self.tell_writable(index);
        self.progress(index);
    }

    /// One `on_sent` for each send whose last byte was handed to the kernel.
    fn tell_sent(&mut self, index: u32) {
        let connections = self.connections;
        let connection = &connections.table.places[index as usize];
        while connection.has(OPENED) {
            let mark = connections.lock(index).sender.queue.take_mark(&connections.blocks, true);
            let (Some((token, _)), Some(owner)) = (mark, self.owner_of(connection)) else { return };
            owner.handler.on_sent(connections.table.handle_of(index).to_bits(), token, Status::Ok);
            self.called();
        }
    }

    /// `on_writable` when a send was refused and half of the room is free again.
    fn tell_writable(&mut self, index: u32) {
        let connection = &self.connections.table.places[index as usize];
        {
            let mut locked = self.connections.lock(index);
            locked.tell_threads();
            let sender = &mut locked.sender;
            let has_room = sender.waiting() <= sender.bounds.limit as usize / 2;
            if !sender.waits.owes_writable() || !has_room || !connection.has(OPENED) {
                return;
            }
            sender.waits.set_owes_writable(false);
        }
        if let Some(owner) = self.owner_of(connection) {
            owner.handler.on_writable(self.connections.table.handle_of(index).to_bits());
            self.called();
        }
    }
}

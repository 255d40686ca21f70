//! What the port reports becomes callbacks: the way of a message up.

use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::api::Close;
use super::connection::{CLOSING, Connection, ENROLLED, OPENED, PAUSED, PEER_ENDED, PULL, Phase, RESUMED};
use super::endpoint::Endpoint;
use super::events::Level;
use super::failpoint;
use super::failure::status_of;
use super::worker::Desk;
use crate::likely::{likely, unlikely};
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::{Completion, Interest, Port, RawSocket, Reading, Sink};
use crate::status::Status;

impl<P: Port> Sink for Desk<'_, P> {
    #[inline(always)]
    fn interest(&mut self, key: u64) -> Interest {
        if unlikely(!is_connection(key)) {
            return Interest { read: Reading::Notify(-1), ..OTHER };
        }
        let Some((connection, place)) = self.core.connection_of(key) else { return GONE };
        let raw = connection.raw_socket();
        let flags = connection.flags.load(Acquire);
        if likely(connection.is_open() && flags & (PEER_ENDED | PULL | PAUSED) == 0) {
            return Interest { read: Reading::Receive(raw), room: connection.send_unsettled.load(SeqCst), place };
        }
        rarer_interest(raw, flags, connection.phase(), connection.send_unsettled.load(SeqCst), place)
    }

    #[inline(always)]
    fn received(&mut self, key: u64, place: u32, data: &[u8]) {
        self.wait_is_over();
        self.state.serving = key;
        failpoint::hit(failpoint::Point::Dispatch);
        // Nothing has run since the port was told that it is open.
        if let Some(connection) = self.core.connections.get(place as usize) {
            if likely(connection.is_open()) {
                self.hand_over(connection, key, data);
            }
        }
        self.state.serving = 0;
    }

    #[inline(never)]
    fn complete(&mut self, key: u64, completion: Completion<'_>) {
        self.wait_is_over();
        self.state.serving = key;
        self.dispatch(key, completion);
        self.state.serving = 0;
    }
}

const OTHER: Interest = Interest { read: Reading::Gone, room: true, place: 0 };
const GONE: Interest = Interest { room: false, ..OTHER };

#[inline(never)]
fn rarer_interest(raw: RawSocket, flags: u8, phase: Phase, is_unsettled: bool, place: u32) -> Interest {
    let read = match phase {
        Phase::Free | Phase::Closed => return GONE,
        Phase::Lingering => Reading::Receive(raw),
        _ if flags & PEER_ENDED != 0 => Reading::Nothing(raw),
        _ if flags & PULL != 0 && flags & CLOSING == 0 => Reading::Notify(raw),
        _ if flags & PAUSED != 0 => Reading::Nothing(raw),
        _ => Reading::Receive(raw),
    };
    Interest { read, room: phase != Phase::Open || is_unsettled, place }
}

#[inline]
fn is_connection(key: u64) -> bool {
    Handle::kind_of(key) == Kind::Connection as u64
}

impl<P: Port> Desk<'_, P> {
    /// The first completion of a wait.
    #[inline(always)]
    fn wait_is_over(&mut self) {
        if !self.state.clock_is_fresh {
            self.state.clock_is_fresh = true;
            // What calls for attention from here on is seen without waking anybody.
            self.outside.call.wake_up();
            self.read_clock();
        }
    }

    fn dispatch(&mut self, key: u64, completion: Completion<'_>) {
        if !is_connection(key) {
            return self.dispatch_other(key);
        }
        let Some((connection, index)) = self.core.connection_of(key) else { return };
        failpoint::hit(failpoint::Point::Dispatch);
        match connection.phase() {
            Phase::Free | Phase::Closed => return,
            Phase::Opening => self.open(connection, key, index),
            Phase::Open | Phase::Lingering => {}
        }
        match completion {
            Completion::Received(data) => self.hand_over(connection, key, data),
            Completion::Writable => self.writable(connection, index),
            Completion::Readable => {
                let side = lock(&connection.send);
                if side.waiters > 0 {
                    connection.changed.notify_all();
                }
            }
            Completion::EndOfStream => self.peer_ended(connection, key, index),
            Completion::Failed(error) => self.failed(connection, index, status_of(&error)),
        }
    }

    fn dispatch_other(&mut self, key: u64) {
        match Handle::from_bits(key) {
            Some(handle) if handle.kind == Kind::Server => self.accept_ready(handle),
            Some(_) => self.core.dial_ended(key),
            None => {}
        }
    }

    /// What was being served when a panic was caught. False: nothing was.
    #[cold]
    pub(super) fn contain_fault(&mut self) -> bool {
        let key = std::mem::replace(&mut self.state.serving, 0);
        match self.core.connection_of(key) {
            _ if key == 0 => {}
            Some((_, index)) if is_connection(key) => self.contain(index),
            _ => self.report_fault("an accept or connect"),
        }
        key != 0
    }

    /// What arrived, to the user.
    #[inline(always)]
    fn hand_over(&mut self, connection: &Connection<P>, key: u64, data: &[u8]) {
        if unlikely(!connection.is_open() || connection.has(CLOSING)) {
            return;
        }
        connection.count_received(data.len(), self.now_ms());
        if let Some(Some(endpoint)) = self.state.endpoints.get(connection.endpoint.load(Relaxed) as usize) {
            endpoint.handler.on_receive(key, data);
        }
        self.called_for_a_message();
    }

    /// The first event of a connection: the user gets it.
    fn open(&mut self, connection: &Connection<P>, key: u64, index: u32) {
        let (endpoint, peer) = {
            let side = lock(&connection.send);
            if side.close.is_some() {
                return; // Closed before it was ever told of; its end comes by attention.
            }
            connection.set_phase(Phase::Open);
            (side.endpoint.clone(), side.peer)
        };
        let Some(endpoint) = endpoint else { return };
        let place = endpoint.handle.index as usize;
        if self.state.endpoints.len() <= place {
            self.state.endpoints.resize_with(place + 1, || None);
        }
        self.state.endpoints[place] = Some(endpoint.clone());
        self.enroll(connection, index);
        connection.set(OPENED);
        let count = endpoint.count_open();
        if self.core.logs(Level::Debug) {
            let kind = endpoint.kind_name();
            self.core.log(Level::Debug, format_args!("{kind}: {peer} connected, {count} in all"));
        }
        endpoint.handler.on_open(key);
        self.called();
        if let Ok(client) = endpoint.client() {
            client.connected(key);
            endpoint.signal.notify();
        }
    }

    fn enroll(&mut self, connection: &Connection<P>, index: u32) {
        connection.worker_place.store(self.state.members.len() as u32, Relaxed);
        connection.set(ENROLLED);
        self.state.members.push(index);
        self.note_deadlines_of(connection);
    }

    /// Strikes a connection out of the members.
    pub(super) fn strike(&mut self, index: u32) {
        let place = self.core.connections[index as usize].worker_place.load(Relaxed) as usize;
        self.state.members.swap_remove(place);
        if let Some(moved) = self.state.members.get(place) {
            self.core.connections[*moved as usize].worker_place.store(place as u32, Relaxed);
        }
    }

    /// The endpoint of a connection that was opened.
    pub(super) fn endpoint_of(&self, connection: &Connection<P>) -> Arc<Endpoint<P>> {
        let place = connection.endpoint.load(Relaxed) as usize;
        self.state.endpoints[place].clone().expect("entered when the connection was opened")
    }

    /// The kernel has room: what waits goes on.
    fn writable(&mut self, connection: &Connection<P>, index: u32) {
        if !connection.send_unsettled.load(SeqCst) {
            return;
        }
        {
            let mut side = lock(&connection.send);
            side.blocked = false;
            self.core.flush_locked(connection, index, &mut side);
            if side.queue.is_empty() {
                connection.send_unsettled.store(false, Release);
            }
            if side.waiters > 0 {
                connection.changed.notify_all();
            }
        }
        self.core.feed_starving();
        self.tell_sent(connection, index);
        self.tell_writable(connection, index);
        self.progress(index);
    }

    fn peer_ended(&mut self, connection: &Connection<P>, key: u64, index: u32) {
        connection.set(PEER_ENDED);
        if connection.phase() == Phase::Open && !connection.has(CLOSING) {
            let endpoint = self.endpoint_of(connection);
            if endpoint.wants.end {
                endpoint.handler.on_end(key);
                self.called();
            } else {
                // What is to be done for it is done below.
                let mut side = lock(&connection.send);
                self.core.note_close(connection, &mut side, Close::Flush, Status::EndOfStream);
            }
        }
        self.progress(index);
    }

    fn failed(&mut self, connection: &Connection<P>, index: u32, status: Status) {
        let reason = {
            let side = lock(&connection.send);
            if side.close.is_some_and(|how| how >= Close::Now) { side.reason } else { status }
        };
        self.finish(index, reason);
    }

    /// Does for a connection whatever was asked for since the last look.
    pub(super) fn attend(&mut self, index: u32, ring: &mut P::Ring) {
        let core = self.core;
        let connection = &core.connections[index as usize];
        connection.attention.clear();
        if connection.worker.load(Acquire) as usize != self.index {
            // The place was used again, by another worker, since we were called.
            return core.call_attention(connection, index);
        }
        if connection.phase() == Phase::Free {
            return;
        }
        failpoint::hit(failpoint::Point::Attend);
        // What other threads left to this worker.
        self.core.flush_locked(connection, index, &mut lock(&connection.send));
        self.tell_sent(connection, index);
        self.tell_writable(connection, index);
        self.progress(index);
        if connection.has(RESUMED) {
            connection.unset(RESUMED);
            P::receive_again(ring, core.handle_of(index).to_bits());
        }
        if connection.phase() == Phase::Open {
            self.note_deadlines_of(connection);
        }
    }

    /// One `on_sent` for each send whose last byte was handed to the kernel.
    fn tell_sent(&mut self, connection: &Connection<P>, index: u32) {
        while connection.has(OPENED) {
            let mark = lock(&connection.send).queue.take_mark(&self.core.blocks, true);
            let Some((token, _)) = mark else { return };
            let endpoint = self.endpoint_of(connection);
            endpoint.handler.on_sent(self.core.handle_of(index).to_bits(), token, Status::Ok);
            self.called();
        }
    }

    /// `on_writable` when a send was refused and half of the room is free again.
    fn tell_writable(&mut self, connection: &Connection<P>, index: u32) {
        {
            let mut side = lock(&connection.send);
            if side.waiters > 0 {
                connection.changed.notify_all();
            }
            if !side.owes_writable || side.waiting() > side.limit as usize / 2 || !connection.has(OPENED) {
                return;
            }
            side.owes_writable = false;
        }
        let endpoint = self.endpoint_of(connection);
        endpoint.handler.on_writable(self.core.handle_of(index).to_bits());
        self.called();
    }
}

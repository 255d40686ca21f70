//! Deadlines of connections: idle, first byte, send stall, linger, and looks at the rate. A message only writes the time
//! down. Each connection has one timer in the wheel of its worker, set to the earliest time at which something can be due;
//! when it comes, what was written down is compared, and the timer is set anew.
//!
//! Before a peer is called silent or stalled the system is asked: one whose bytes wait there is not silent, whether the user
//! paused, pulls, or the worker was away; and one that acknowledges is not stalled, whether there is room again or not.

use std::io;
use std::sync::atomic::Ordering::*;

use super::close::Close;
use super::rate_meter::next_look_ms;
use super::sender::SendState;
use super::state::{Connection, PAUSED, PEER_ENDED, PULL, Phase, READ_OUT, RESUMED};
use super::turn::{NEVER, Turn};
use crate::likely::unlikely;
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

#[derive(Clone, Copy)]
enum Deadline {
    Idle,
    FirstByte,
    SendStall,
    Linger,
    /// No deadline: the next look at how fast it sends (see receive_rate.rs).
    Look,
}

impl<P: Port> Turn<'_, P> {
    /// A connection is looked at when something of it can be due.
    pub(super) fn set_deadline(&mut self, index: u32) {
        if let Some((at_ms, _)) = self.earliest(index) {
            self.set_deadline_at(index, at_ms);
        }
    }

    /// It is looked at no later than this.
    pub(super) fn set_deadline_at(&mut self, index: u32, at_ms: u64) {
        let nodes = &self.connections.table.deadlines;
        if nodes[index as usize].due().is_some_and(|before| before <= at_ms) {
            return;
        }
        let deadlines = &mut self.state.deadlines;
        deadlines.wheel.set(nodes, index, at_ms);
        deadlines.next_look_ns = deadlines.next_look_ns.min(self.connections.ns_at(at_ms));
    }

    /// It is looked at no more.
    pub(super) fn stop_deadline(&mut self, index: u32) {
        self.state.deadlines.wheel.stop(&self.connections.table.deadlines, index);
    }

    /// When a deadline may be due; [`NEVER`]: there is none.
    #[inline]
    pub(in crate::engine) fn next_deadline_ns(&self) -> u64 {
        self.state.deadlines.next_look_ns
    }

    /// Ends the connections whose time has come.
    #[inline]
    pub(in crate::engine) fn end_overdue(&mut self) {
        if unlikely(self.state.deadlines.next_look_ns <= self.state.mark_ns) {
            self.look_at_deadlines();
        }
    }

    #[inline(never)]
    fn look_at_deadlines(&mut self) {
        let (now, nodes) = (self.state.now_ms, &self.connections.table.deadlines);
        while let Some(index) = self.state.deadlines.wheel.take_due(nodes, now) {
            self.look_at_deadline(index);
        }
        let next_look_ms = self.state.deadlines.wheel.next_look();
        self.state.deadlines.next_look_ns = next_look_ms.map_or(NEVER, |at_ms| self.connections.ns_at(at_ms));
    }

    fn look_at_deadline(&mut self, index: u32) {
        let connection = &self.connections.table.places[index as usize];
        let generation = connection.generation();
        if self.least_rate_of(connection).is_some_and(|least| self.is_too_slow(index, least)) {
            self.connections.lock(index).break_off(Status::TooSlow, false, true);
        }
        match self.earliest(index) {
            Some((at_ms, what)) if at_ms <= self.state.now_ms => {
                self.expire(index, what);
                if connection.generation() == generation {
                    // It goes on: something has happened after all.
                    let next_ms = self.earliest(index).map_or(NEVER, |(at_ms, _)| at_ms);
                    if next_ms != NEVER {
                        self.set_deadline_at(index, next_ms.max(self.state.now_ms + 1));
                    }
                }
            }
            Some((at_ms, _)) => self.set_deadline_at(index, at_ms),
            None => {}
        }
    }

    /// The earliest deadline of a connection, as things stand.
    fn earliest(&self, index: u32) -> Option<(u64, Deadline)> {
        let connection = &self.connections.table.places[index as usize];
        let linger = || Some((lock(&connection.sender).lingers_until_ms(), Deadline::Linger));
        match connection.phase() {
            Phase::Open if connection.has(READ_OUT) && breaks_off(connection) => return linger(),
            Phase::Open => {}
            Phase::Lingering => return linger(),
            _ => return None,
        }
        let received = connection.times.received_ms.load(Relaxed);
        let sent = connection.times.sent_ms.load(Relaxed);
        let mut found: Option<(u64, Deadline)> = None;
        let mut consider = |at: u64, what: Deadline| {
            if found.is_none_or(|(before, _)| at < before) {
                found = Some((at, what));
            }
        };
        let idle = connection.timeouts.idle_ms.load(Relaxed);
        if idle != 0 {
            consider(received.max(sent) + u64::from(idle), Deadline::Idle);
        }
        let first_byte = connection.timeouts.first_byte_ms.load(Relaxed);
        if first_byte != 0 && connection.received.bytes.load(Relaxed) == 0 {
            let opened = self.connections.table.cold[index as usize].opened_ms.load(Relaxed);
            consider(opened + u64::from(first_byte), Deadline::FirstByte);
        }
        let stall = connection.timeouts.send_stall_ms.load(Relaxed);
        if stall != 0 && connection.unsettled.load(Acquire) {
            consider(sent + u64::from(stall), Deadline::SendStall);
        }
        if let Some(least) = self.least_rate_of(connection) {
            consider(next_look_ms(least, self.state.now_ms), Deadline::Look);
        }
        found
    }

    fn expire(&mut self, index: u32, what: Deadline) {
        let connection = &self.connections.table.places[index as usize];
        if matches!(what, Deadline::Idle | Deadline::FirstByte) && self.has_come(index) {
            return match what {
                // It came within its time.
                Deadline::FirstByte => connection.timeouts.first_byte_ms.store(0, Relaxed),
                _ => connection.times.received_ms.store(self.state.now_ms, Relaxed),
            };
        }
        if matches!(what, Deadline::Linger) && connection.is_open() && !connection.has(PULL) && self.has_come(index) {
            // It is being read to the end, late.
            return self.postpone_linger(index);
        }
        let mut locked = self.connections.lock(index);
        let sender = &locked.sender;
        let (how, reason) = match what {
            Deadline::Idle => (Close::Now, Status::Idle),
            Deadline::FirstByte => (Close::Now, Status::FirstByte),
            Deadline::SendStall if sender.state == SendState::Blocked => {
                drop(locked);
                return self.end_if_stalled(index);
            }
            Deadline::SendStall | Deadline::Look => return,
            Deadline::Linger if sender.ending.close == Some(Close::Drain) => {
                (if sender.ending.resets { Close::Reset } else { Close::Now }, sender.ending.reason)
            }
            Deadline::Linger if sender.queue.is_empty() => {
                locked.throw_away_received();
                (Close::Now, sender.ending.reason)
            }
            Deadline::Linger => (Close::Reset, Status::Timeout),
        };
        locked.note_close(how, reason);
        drop(locked);
        self.finish(index, reason);
    }

    fn postpone_linger(&mut self, index: u32) {
        let mut locked = self.connections.lock(index);
        locked.sender.ending.lingers_since_ms = self.state.now_ms;
        locked.connection.set(RESUMED);
        locked.post_ready();
    }

    /// Whether bytes wait in the system, or news of which the worker will hear in a moment.
    fn has_come(&self, index: u32) -> bool {
        let connection = &self.connections.table.places[index as usize];
        let locked = self.connections.lock(index);
        let Some(socket) = &locked.sender.socket else { return false };
        match P::peek(socket) {
            Ok(1..) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            // The end of the stream, or an error: told soon, if it is read at all.
            _ => !connection.has(PEER_ENDED | PAUSED | PULL),
        }
    }

    /// A peer that has acknowledged something since the last look is slow, not stalled.
    fn end_if_stalled(&mut self, index: u32) {
        let connection = &self.connections.table.places[index as usize];
        let mut locked = self.connections.lock(index);
        let Some(socket) = &locked.sender.socket else { return };
        let cold = &self.connections.table.cold[index as usize];
        if let Some(under_way) = P::unacknowledged(socket) {
            let acknowledged = locked.sender.queue.sent().saturating_sub(under_way);
            if cold.acknowledged.swap(acknowledged, Relaxed) != acknowledged {
                return connection.times.sent_ms.store(self.state.now_ms, Relaxed);
            }
        }
        locked.break_off(Status::SendStalled, true, true);
    }
}

/// Whether a connection hands over what has come, and ends.
fn breaks_off<P: Port>(connection: &Connection<P>) -> bool {
    lock(&connection.sender).ending.close == Some(Close::Drain)
}

//! Deadlines of connections: idle, first byte, send stall, linger, and looks at the rate. A message only writes the time down; a sweep over the
//! worker's connections compares, at the earliest time at which one of them can be due.

use std::sync::atomic::Ordering::*;

use super::api::Close;
use super::config::MinReceive;
use super::connection::{Connection, Phase};
use super::worker::Desk;
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// A sweep that comes later than this after it was due is that of a worker that was away.
const LATE_MS: i32 = 5;
/// Turns for which a late sweep is put off at most, while events come: many more events than there are connections, mostly.
const MOST_TURNS_PUT_OFF: u32 = 128;
/// More than two readings of the clock by different threads are apart.
const CLOCKS_APART_MS: u32 = 60_000;

/// Milliseconds until `at`, on a clock of 32 bits; negative when it has passed.
pub(super) fn until(at: u32, now: u32) -> i32 {
    at.wrapping_sub(now) as i32
}

impl<P: Port> Desk<'_, P> {
    /// The sweep must come no later than this.
    pub(super) fn note_deadline(&mut self, at_ms: u32) {
        match self.state.next_sweep_ms {
            Some(before) if until(before, at_ms) <= 0 => {}
            _ => self.state.next_sweep_ms = Some(at_ms),
        }
    }

    /// The sweep must come in time for this connection.
    pub(super) fn note_deadlines_of(&mut self, connection: &Connection<P>) {
        let least = self.least_rate_of(connection);
        if let Some((at_ms, _)) = earliest(connection, self.now_ms(), least) {
            self.note_deadline(at_ms);
        }
    }

    /// Ends the connections whose time has come. `completions`: what the wait before has brought.
    pub(super) fn sweep_if_due(&mut self, completions: u32) {
        let now = self.now_ms();
        let late_ms = self.state.next_sweep_ms.map_or(-1, |at| -until(at, now));
        if late_ms < 0 || late_ms > LATE_MS && self.puts_off(completions) {
            return;
        }
        self.state.sweep_put_off = 0;
        self.state.next_sweep_ms = None;
        let mut place = 0;
        let mut next: Option<u32> = None;
        while let Some(&index) = self.state.members.get(place) {
            let core = self.core;
            let connection = &core.connections[index as usize];
            let least = self.least_rate_of(connection);
            if least.is_some_and(|least| self.end_if_too_slow(index, least)) {
                continue; // Another has its place in the list now.
            }
            match earliest(connection, now, least) {
                Some((at_ms, what)) if until(at_ms, now) <= 0 => {
                    self.expire(index, what);
                    if self.state.members.get(place) == Some(&index) {
                        place += 1; // It goes on: the flush made progress after all.
                        next = Some(next.map_or(now + 1, |next| if until(next, now + 1) < 0 { next } else { now + 1 }));
                    }
                }
                Some((at_ms, _)) => {
                    next = Some(next.map_or(at_ms, |next| if until(next, at_ms) < 0 { next } else { at_ms }));
                    place += 1;
                }
                None => place += 1,
            }
        }
        if let Some(next) = next {
            // Many connections with deadlines close to each other share a sweep.
            let gap = 1 + self.state.members.len() as u32 / 1000;
            let at = if until(next, now.wrapping_add(gap)) < 0 { now.wrapping_add(gap) } else { next };
            self.note_deadline(at);
        }
    }

    /// Who was away for long - a callback blocked, the process was stopped - first takes what has come meanwhile: a peer whose
    /// bytes are there is not silent.
    #[cold]
    fn puts_off(&mut self, completions: u32) -> bool {
        let turns = self.state.sweep_put_off;
        self.state.sweep_put_off += 1;
        turns == 0 || completions > 0 && turns < MOST_TURNS_PUT_OFF
    }

    fn expire(&mut self, index: u32, what: Deadline) {
        let core = self.core;
        let connection = &core.connections[index as usize];
        let (how, reason) = {
            let side = lock(&connection.send);
            match what {
                Deadline::Idle => (Close::Now, Status::Idle),
                Deadline::FirstByte => (Close::Now, Status::FirstByte),
                Deadline::SendStall if side.blocked => (Close::Reset, Status::SendStalled),
                Deadline::SendStall | Deadline::Look => return,
                Deadline::Linger if side.queue.is_empty() => (Close::Now, side.reason),
                Deadline::Linger => (Close::Reset, Status::Timeout),
            }
        };
        core.note_close(connection, &mut lock(&connection.send), how, reason);
        self.finish(index, reason);
    }
}

#[derive(Clone, Copy)]
enum Deadline {
    Idle,
    FirstByte,
    SendStall,
    Linger,
    /// No deadline: the next look at how fast it sends (see receive_rate.rs).
    Look,
}

/// The earliest deadline of a connection, as things stand; `least` is the rate that is asked of its peer.
fn earliest<P: Port>(connection: &Connection<P>, now: u32, least: Option<MinReceive>) -> Option<(u32, Deadline)> {
    match connection.phase() {
        Phase::Open => {}
        Phase::Lingering => return Some((lock(&connection.send).linger_until_ms, Deadline::Linger)),
        _ => return None,
    }
    let received = connection.last_receive_ms.load(Relaxed);
    let sent = connection.last_send_ms.load(Relaxed);
    let mut found: Option<(u32, Deadline)> = None;
    let mut consider = |at: u32, what: Deadline| {
        if found.is_none_or(|(before, _)| until(at, before) < 0) {
            found = Some((at, what));
        }
    };
    let idle = connection.idle_ms.load(Relaxed);
    if idle != 0 {
        // By age: a side that was silent for more than half of the clock's lap would count as the future. Another thread
        // may have written its time a moment ahead of this turn's.
        let age = |at: u32| now.wrapping_add(CLOCKS_APART_MS).wrapping_sub(at);
        let last = if age(received) < age(sent) { received } else { sent };
        consider(last.wrapping_add(idle), Deadline::Idle);
    }
    let first_byte = connection.first_byte_ms.load(Relaxed);
    if first_byte != 0 && connection.bytes_in.load(Relaxed) == 0 {
        consider(connection.opened_ms.load(Relaxed).wrapping_add(first_byte), Deadline::FirstByte);
    }
    let stall = connection.send_stall_ms.load(Relaxed);
    if stall != 0 && connection.send_unsettled.load(Acquire) {
        consider(sent.wrapping_add(stall), Deadline::SendStall);
    }
    if let Some(least) = least {
        consider(least.next_look_ms(now), Deadline::Look);
    }
    found
}

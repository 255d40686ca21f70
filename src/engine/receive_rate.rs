//! The least rate at which a peer must send while it sends. Nothing is done for a message: now and then a sweep compares
//! what has come with what had come before.
//!
//! A measurement runs from one byte to a later one that came before anything was sent to the peer. Silence is in no
//! measurement, or a peer that waits for an answer would be slow; who answers begins anew, or a peer that asks once a
//! minute would be.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use super::api::Close;
use super::config::MinReceive;
use super::connection::{Connection, PAUSED, PULL, Phase};
use super::deadlines::until;
use super::worker::Desk;
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// No measurement is under way, or none is wanted.
const NONE: u32 = 0;

/// What is known of a connection's rate. Only its worker measures; others may end a measurement.
#[derive(Debug)]
pub struct Measured {
    /// When to look next; [`NONE`]: never.
    look_ms: AtomicU32,
    /// When the byte came with which the measurement began.
    since_ms: AtomicU32,
    /// Bytes received by then, or at the last look.
    bytes: AtomicU64,
}

/// A time that does not look like [`NONE`].
fn some(at_ms: u32) -> u32 {
    at_ms.max(1)
}

impl MinReceive {
    /// When to look again. A slow peer is found out after twice the grace period or so. All connections are looked at in
    /// one sweep, so the times are multiples of half a period.
    fn next_look_ms(self, now_ms: u32) -> u32 {
        let between_ms = (self.grace_ms / 2).max(1);
        some((now_ms - now_ms % between_ms).wrapping_add(between_ms))
    }
}

impl Measured {
    pub(super) const fn new() -> Measured {
        Measured { look_ms: AtomicU32::new(NONE), since_ms: AtomicU32::new(NONE), bytes: AtomicU64::new(0) }
    }

    /// A new connection.
    pub(super) fn reset(&self, least: MinReceive, flags: u8, now_ms: u32) {
        let is_wanted = least.bytes_per_s > 0 && flags & PULL == 0;
        self.look_ms.store(if is_wanted { least.next_look_ms(now_ms) } else { NONE }, Relaxed);
        self.since_ms.store(NONE, Relaxed);
        self.bytes.store(0, Relaxed);
    }

    /// When the next look is due.
    pub(super) fn look_ms(&self) -> Option<u32> {
        Some(self.look_ms.load(Relaxed)).filter(|at_ms| *at_ms != NONE)
    }

    /// What came until now is not measured: this side did not read.
    pub(super) fn begin_anew(&self) {
        self.since_ms.store(NONE, Relaxed);
    }
}

impl<P: Port> Connection<P> {
    /// Looks, if it is time; true when the peer has been too slow for longer than it may.
    fn is_too_slow(&self, least: MinReceive, now_ms: u32) -> bool {
        let measured = &self.measured;
        measured.look_ms.store(least.next_look_ms(now_ms), Relaxed);
        let (received_ms, sent_ms) = (self.last_receive_ms.load(Relaxed), self.last_send_ms.load(Relaxed));
        let (since_ms, bytes) = (measured.since_ms.load(Relaxed), self.bytes_in.load(Relaxed));
        let before = measured.bytes.load(Relaxed);
        let begin = |at_ms: u32| {
            measured.since_ms.store(at_ms, Relaxed);
            measured.bytes.store(bytes, Relaxed);
        };
        let is_answered = until(received_ms, sent_ms) <= 0;
        if is_answered || self.has(PAUSED) {
            begin(NONE);
            return false;
        }
        if since_ms == NONE || until(since_ms, sent_ms) <= 0 {
            // What came since the last look, if anything, is the beginning.
            begin(if bytes == before { NONE } else { some(received_ms) });
            return false;
        }
        let took_ms = until(received_ms, since_ms).max(0) as u64;
        if took_ms < u64::from(least.grace_ms) {
            return false;
        }
        if (bytes - before) * 1000 < u64::from(least.bytes_per_s) * took_ms {
            return true;
        }
        begin(some(received_ms));
        false
    }
}

impl<P: Port> Desk<'_, P> {
    /// Ends a connection whose peer sends too slowly; true when it did.
    pub(super) fn end_if_too_slow(&mut self, index: u32, now_ms: u32) -> bool {
        let core = self.core;
        let connection = &core.connections[index as usize];
        let is_due = connection.measured.look_ms().is_some_and(|at_ms| until(at_ms, now_ms) <= 0);
        if !is_due || connection.phase() != Phase::Open {
            return false;
        }
        let least = self.endpoint_of(connection).connection.min_receive;
        if !connection.is_too_slow(least, now_ms) {
            return false;
        }
        core.close_locked(connection, index, &mut lock(&connection.send), Close::Now, Status::TooSlow);
        self.finish(index, Status::TooSlow);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::blocks::Blocks;
    use crate::port::polling::PollingPort;

    const LEAST: MinReceive = MinReceive { bytes_per_s: 1000, grace_ms: 1000 };

    /// A connection whose peer and owner do what is said, at which the sweep looks every half grace period.
    struct Story {
        connection: Connection<PollingPort>,
        now_ms: u32,
    }

    impl Story {
        /// Close to where the clock laps, so that every story crosses it.
        fn new() -> Story {
            let now_ms = u32::MAX - 3000;
            let connection = Connection::new(&Blocks::new(1, 0, 256), 1);
            connection.last_receive_ms.store(now_ms, Relaxed);
            connection.last_send_ms.store(now_ms, Relaxed);
            connection.measured.reset(LEAST, 0, now_ms);
            Story { connection, now_ms }
        }

        fn receive(&self, bytes: usize) {
            self.connection.count_received(bytes, self.now_ms);
        }

        fn send(&self) {
            self.connection.last_send_ms.store(self.now_ms, Relaxed);
        }

        /// Whether it was too slow at any look.
        fn pass(&mut self, ms: u32) -> bool {
            let mut slow = false;
            for _ in 0..ms {
                self.now_ms = self.now_ms.wrapping_add(1);
                if self.connection.measured.look_ms().is_some_and(|at| until(at, self.now_ms) <= 0) {
                    slow |= self.connection.is_too_slow(LEAST, self.now_ms);
                }
            }
            slow
        }
    }

    #[test]
    fn dribbling_is_slow() {
        let mut story = Story::new();
        let mut slow_after_ms = 0;
        while !story.pass(100) {
            story.receive(10);
            slow_after_ms += 100;
            assert!(slow_after_ms < 10_000);
        }
        assert!((1000..=3000).contains(&slow_after_ms), "{slow_after_ms}");
    }

    #[test]
    fn long_gaps_between_bytes_are_slow_however_long() {
        let mut story = Story::new();
        assert!(!story.pass(100));
        story.receive(1);
        assert!(!story.pass(60_000));
        story.receive(1);
        assert!(story.pass(1000));
    }

    #[test]
    fn who_waits_for_an_answer_is_not_slow() {
        let mut story = Story::new();
        for _ in 0..5 {
            story.receive(100);
            assert!(!story.pass(30_000));
            story.send();
            assert!(!story.pass(30_000));
        }
    }

    #[test]
    fn a_fast_beginning_does_not_excuse_a_slow_rest() {
        let mut story = Story::new();
        let mut slow = false;
        for second in 0..60 {
            story.receive(if second < 3 { 1_000_000 } else { 10 });
            slow |= story.pass(1000);
            assert!(!slow || second >= 3);
        }
        assert!(slow);
    }

    #[test]
    fn a_steady_sender_at_the_rate_is_let_be() {
        let mut story = Story::new();
        for _ in 0..200 {
            story.receive(110);
            assert!(!story.pass(100));
        }
    }

    #[test]
    fn answers_and_pauses_begin_anew() {
        let mut story = Story::new();
        for _ in 0..50 {
            story.receive(10);
            assert!(!story.pass(700));
            story.send();
        }
        for _ in 0..50 {
            story.receive(10);
            assert!(!story.pass(700));
            story.connection.measured.begin_anew();
        }
    }
}

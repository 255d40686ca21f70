//! The least rate at which a peer must send while it sends. Nothing is done for a message: now and then a sweep compares
//! what has come with what had come before.
//!
//! A measurement runs from one byte to a later one that came before anything was sent to the peer. Silence is in no
//! measurement, or a peer that waits for an answer would be slow; who answers begins anew, or a peer that asks once a
//! minute would be.

use std::sync::atomic::Ordering::*;

use super::api::Close;
use super::config::MinReceive;
use super::connection::{Connection, PAUSED, PULL, Phase};
use super::deadlines::until;
use super::worker::Desk;
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// No measurement is under way.
const NONE: u32 = 0;

impl MinReceive {
    /// When to look again. A slow peer is found out after twice the grace period or so. All connections are looked at in
    /// one sweep, so the times are multiples of half a period; to look more often does no harm.
    pub(super) fn next_look_ms(self, now_ms: u32) -> u32 {
        let between_ms = (self.grace_ms / 2).max(1);
        (now_ms - now_ms % between_ms).wrapping_add(between_ms)
    }
}

impl<P: Port> Connection<P> {
    /// Ends a measurement: what comes from here on is another. Its time and its bytes are kept in ten bytes, as there are
    /// many connections.
    pub(super) fn measure_anew(&self) {
        self.measured_since_ms.store(NONE, Relaxed);
    }

    /// A new connection: nothing has come.
    pub(super) fn measure_from_the_beginning(&self) {
        self.measure_from(NONE, 0);
    }

    /// Begins a measurement at this time (or none), with the bytes that have come by now.
    fn measure_from(&self, since_ms: u32, bytes: u64) {
        self.measured_since_ms.store(since_ms, Relaxed);
        self.measured_bytes_low.store(bytes as u32, Relaxed);
        self.measured_bytes_high.store((bytes >> 32) as u16, Relaxed);
    }

    /// Bytes since then, or since the last look.
    fn measured_bytes(&self, bytes: u64) -> u64 {
        let (low, high) = (self.measured_bytes_low.load(Relaxed), self.measured_bytes_high.load(Relaxed));
        // The bytes of 48 bits do not lap within a measurement.
        bytes.wrapping_sub(u64::from(high) << 32 | u64::from(low)) & ((1 << 48) - 1)
    }

    /// Looks; true when the peer has been too slow for longer than it may.
    fn is_too_slow(&self, least: MinReceive) -> bool {
        let (received_ms, sent_ms) = (self.last_receive_ms.load(Relaxed), self.last_send_ms.load(Relaxed));
        let (since_ms, bytes) = (self.measured_since_ms.load(Relaxed), self.bytes_in.load(Relaxed));
        let is_answered = until(received_ms, sent_ms) <= 0;
        if is_answered || self.has(PAUSED) {
            self.measure_from(NONE, bytes);
            return false;
        }
        // A time that does not look like NONE.
        let received_ms = received_ms.max(1);
        if since_ms == NONE || until(since_ms, sent_ms) <= 0 {
            // What came since the last look, if anything, is the beginning.
            self.measure_from(if self.measured_bytes(bytes) == 0 { NONE } else { received_ms }, bytes);
            return false;
        }
        let took_ms = until(received_ms, since_ms).max(0) as u64;
        if took_ms < u64::from(least.grace_ms) {
            return false;
        }
        if self.measured_bytes(bytes) * 1000 < u64::from(least.bytes_per_s) * took_ms {
            return true;
        }
        self.measure_from(received_ms, bytes);
        false
    }
}

impl<P: Port> Desk<'_, P> {
    /// The rate that is asked of a connection's peer, if one is.
    pub(super) fn least_rate_of(&self, connection: &Connection<P>) -> Option<MinReceive> {
        let endpoint = self.state.endpoints.get(connection.endpoint.load(Relaxed) as usize)?.as_ref()?;
        let least = endpoint.connection.min_receive;
        (least.bytes_per_s > 0 && !connection.has(PULL)).then_some(least)
    }

    /// Ends a connection whose peer sends too slowly; true when it did.
    pub(super) fn end_if_too_slow(&mut self, index: u32, least: MinReceive) -> bool {
        let core = self.core;
        let connection = &core.connections[index as usize];
        if connection.phase() != Phase::Open || !connection.is_too_slow(least) {
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

    /// A connection whose peer and owner do what is said, at which sweeps look when they should, and at other times, too.
    struct Story {
        connection: Connection<PollingPort>,
        now_ms: u32,
        look_ms: u32,
    }

    impl Story {
        /// Close to where the clock laps, so that every story crosses it.
        fn new() -> Story {
            let now_ms = u32::MAX - 3000;
            let connection = Connection::new(&Blocks::new(1, 0, 256), 1);
            connection.last_receive_ms.store(now_ms, Relaxed);
            connection.last_send_ms.store(now_ms, Relaxed);
            Story { connection, now_ms, look_ms: LEAST.next_look_ms(now_ms) }
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
                let is_due = until(self.look_ms, self.now_ms) <= 0;
                if is_due || self.now_ms % 331 == 0 {
                    slow |= self.connection.is_too_slow(LEAST);
                    self.look_ms = LEAST.next_look_ms(self.now_ms);
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
    fn nothing_is_held_against_a_connection_that_is_paused_while_its_answer_is_made() {
        for is_paused in [false, true] {
            let mut story = Story::new();
            story.now_ms = story.now_ms.wrapping_add(10);
            story.receive(1);
            assert!(!story.connection.is_too_slow(LEAST));
            story.now_ms = story.now_ms.wrapping_add(LEAST.grace_ms + 10);
            story.receive(1);
            if is_paused {
                story.connection.set(PAUSED);
            }
            assert_eq!(story.connection.is_too_slow(LEAST), !is_paused);
        }
    }

    #[test]
    fn much_is_not_too_little_however_much() {
        let mut story = Story::new();
        for _ in 0..20 {
            // What is left of it in 32 bits is nothing.
            story.receive(1 << 33);
            assert!(!story.pass(400));
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
            story.connection.measure_anew();
        }
    }
}

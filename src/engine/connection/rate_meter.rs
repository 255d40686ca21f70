//! The least rate at which a peer must send while it sends. Nothing is done for a message: now and then a look compares
//! what has come with what had come before.
//!
//! A measurement runs from one byte to a later one that came before anything was sent to the peer. Silence is in no
//! measurement, or a peer that waits for an answer would be slow; who answers begins anew, or a peer that asks once a
//! minute would be.

use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::engine::config::MinReceive;

/// No measurement is under way.
const NONE: u64 = 0;

/// A measurement: when it began, and the bytes that had come by then.
#[derive(Default)]
pub struct RateMeter {
    since_ms: AtomicU64,
    bytes: AtomicU64,
}

impl RateMeter {
    /// Ends a measurement: what comes from here on is another.
    pub(super) fn measure_anew(&self) {
        self.since_ms.store(NONE, Relaxed);
    }

    /// A new connection: nothing has come.
    pub(super) fn measure_from_the_beginning(&self) {
        self.measure_from(NONE, 0);
    }

    /// Begins a measurement at this time (or none), with the bytes that have come by now.
    fn measure_from(&self, since_ms: u64, bytes: u64) {
        self.since_ms.store(since_ms, Relaxed);
        self.bytes.store(bytes, Relaxed);
    }

    /// Looks; true when the peer has been too slow for longer than it may. `seen`: what was written down by then.
    pub(super) fn is_too_slow(&self, least: MinReceive, seen: Seen) -> bool {
        let Seen { received_ms, sent_ms, bytes, is_paused } = seen;
        let since_ms = self.since_ms.load(Relaxed);
        let is_answered = received_ms <= sent_ms;
        if is_answered || is_paused {
            self.measure_from(NONE, bytes);
            return false;
        }
        // A time that does not look like NONE.
        let received_ms = received_ms.max(1);
        if since_ms == NONE || since_ms <= sent_ms {
            // What came since the last look, if anything, is the beginning.
            self.measure_from(if bytes == self.bytes.load(Relaxed) { NONE } else { received_ms }, bytes);
            return false;
        }
        let took_ms = received_ms.saturating_sub(since_ms);
        if took_ms < u64::from(least.grace_ms) {
            return false;
        }
        if (bytes - self.bytes.load(Relaxed)) * 1000 < u64::from(least.bytes_per_s) * took_ms {
            return true;
        }
        self.measure_from(received_ms, bytes);
        false
    }
}

/// What a connection has written down.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub received_ms: u64,
    pub sent_ms: u64,
    pub bytes: u64,
    pub is_paused: bool,
}

/// When to look again. A slow peer is found out after twice the grace period or so. The times are multiples of half a
/// period, so that many connections are looked at together; to look more often does no harm.
pub(super) fn next_look_ms(least: MinReceive, now_ms: u64) -> u64 {
    let between_ms = u64::from(least.grace_ms / 2).max(1);
    now_ms - now_ms % between_ms + between_ms
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: MinReceive = MinReceive { bytes_per_s: 1000, grace_ms: 1000 };

    /// A connection whose peer and owner do what is said, which is looked at when it should be, and at other times, too.
    struct Peer {
        meter: RateMeter,
        seen: Seen,
        now_ms: u64,
        look_ms: u64,
    }

    impl Peer {
        /// Close to where a clock of 32 bits laps, so that every test crosses it.
        fn new() -> Peer {
            let now_ms = u64::from(u32::MAX) - 3000;
            let seen = Seen { received_ms: now_ms, sent_ms: now_ms, bytes: 0, is_paused: false };
            Peer { meter: RateMeter::default(), seen, now_ms, look_ms: next_look_ms(LEAST, now_ms) }
        }

        fn receive(&mut self, bytes: u64) {
            self.seen.bytes += bytes;
            self.seen.received_ms = self.now_ms;
        }

        fn send(&mut self) {
            self.seen.sent_ms = self.now_ms;
        }

        fn is_too_slow(&self) -> bool {
            self.meter.is_too_slow(LEAST, self.seen)
        }

        /// Whether it was too slow at any look.
        fn pass(&mut self, ms: u32) -> bool {
            let mut slow = false;
            for _ in 0..ms {
                self.now_ms += 1;
                let is_due = self.look_ms <= self.now_ms;
                if is_due || self.now_ms % 331 == 0 {
                    slow |= self.is_too_slow();
                    self.look_ms = next_look_ms(LEAST, self.now_ms);
                }
            }
            slow
        }
    }

    #[test]
    fn dribbling_is_slow() {
        let mut peer = Peer::new();
        let mut slow_after_ms = 0;
        while !peer.pass(100) {
            peer.receive(10);
            slow_after_ms += 100;
            assert!(slow_after_ms < 10_000);
        }
        assert!((1000..=3000).contains(&slow_after_ms), "{slow_after_ms}");
    }

    #[test]
    fn long_gaps_between_bytes_are_slow_however_long() {
        let mut peer = Peer::new();
        assert!(!peer.pass(100));
        peer.receive(1);
        assert!(!peer.pass(60_000));
        peer.receive(1);
        assert!(peer.pass(1000));
    }

    #[test]
    fn who_waits_for_an_answer_is_not_slow() {
        let mut peer = Peer::new();
        for _ in 0..5 {
            peer.receive(100);
            assert!(!peer.pass(30_000));
            peer.send();
            assert!(!peer.pass(30_000));
        }
    }

    #[test]
    fn a_fast_beginning_does_not_excuse_a_slow_rest() {
        let mut peer = Peer::new();
        let mut slow = false;
        for second in 0..60 {
            peer.receive(if second < 3 { 1_000_000 } else { 10 });
            slow |= peer.pass(1000);
            assert!(!slow || second >= 3);
        }
        assert!(slow);
    }

    #[test]
    fn a_steady_sender_at_the_rate_is_let_be() {
        let mut peer = Peer::new();
        for _ in 0..200 {
            peer.receive(110);
            assert!(!peer.pass(100));
        }
    }

    #[test]
    fn nothing_is_held_against_a_connection_that_is_paused_while_its_answer_is_made() {
        for is_paused in [false, true] {
            let mut peer = Peer::new();
            peer.now_ms += 10;
            peer.receive(1);
            assert!(!peer.is_too_slow());
            peer.now_ms += u64::from(LEAST.grace_ms) + 10;
            peer.receive(1);
            if is_paused {
                peer.seen.is_paused = true;
            }
            assert_eq!(peer.is_too_slow(), !is_paused);
        }
    }

    #[test]
    fn much_is_not_too_little_however_much() {
        let mut peer = Peer::new();
        for _ in 0..20 {
            // What is left of it in 32 bits is nothing.
            peer.receive(1 << 33);
            assert!(!peer.pass(400));
        }
    }

    #[test]
    fn answers_and_pauses_begin_anew() {
        let mut peer = Peer::new();
        for _ in 0..50 {
            peer.receive(10);
            assert!(!peer.pass(700));
            peer.send();
        }
        for _ in 0..50 {
            peer.receive(10);
            assert!(!peer.pass(700));
            peer.meter.measure_anew();
        }
    }
}

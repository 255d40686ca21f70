//! What the host keeps of streams, connections, servers and clients.

use std::collections::VecDeque;

use wharf::ffi::*;

/// Bytes on their way from one end of a link to the other: those that were taken and not yet received.
#[derive(Default)]
pub struct Stream {
    pub expected: VecDeque<u8>,
}

/// A connection, from its `on_open` on.
pub struct Conn {
    pub handle: wharf_conn,
    pub endpoint: usize,
    pub link: u32,
    /// 0: it was dialled, 1: accepted.
    pub end: usize,
    pub is_closed: bool,
    pub reason: wharf_status,
    /// The strongest close that was asked for: 1 the sending side, 2 flush, 3 now, 4 reset.
    pub closing: u8,
    pub is_paused: bool,
    /// Something came although it was paused: only the end may follow.
    pub must_end: bool,
    /// Its server or client was stopped.
    pub is_stopped: bool,
    pub has_ended: bool,
    pub owed_writable: bool,
    /// A broadcast may have been refused for want of room in the queue, or as too much for the pool.
    pub may_be_writable: bool,
    /// Token of each send, and how many bytes had been taken with it.
    pub tokens: VecDeque<(u64, u64)>,
    pub taken: u64,
}

/// What a client must wait between its attempts.
#[derive(Default)]
pub struct Pauses {
    pub min_ms: u64,
    pub max_ms: u64,
    /// A connection that was there for less did not last.
    pub stable_ms: u64,
    /// Attempts in a row that are known to have given no connection that lasted.
    pub unstable: u32,
    /// When the attempt of now began, at the earliest.
    pub since_ms: u64,
    /// When its latest connection or attempt ended, if it was not started since.
    pub ended_ms: Option<u64>,
}

impl Pauses {
    /// It is started, if it was not before: its pauses begin anew, without one.
    pub fn begin(&mut self, now_ms: u64) {
        (self.unstable, self.since_ms, self.ended_ms) = (0, self.since_ms.min(now_ms), None);
    }

    fn least_ms(&self) -> u64 {
        let doublings = self.unstable.saturating_sub(1).min(31);
        (self.min_ms << doublings).min(self.max_ms) / 2
    }

    /// An attempt has its outcome now: gives the pause that there was and the shortest that there may be, if that was longer.
    pub fn attempted(&mut self, now_ms: u64) -> Option<(u64, u64)> {
        let before = self.ended_ms.take()?;
        let least = self.least_ms();
        (now_ms + 1 < before + least).then(|| (now_ms - before, least))
    }

    /// An attempt failed, or the connection that it gave ended.
    pub fn ended(&mut self, now_ms: u64, has_failed: bool) {
        let is_unstable = has_failed || now_ms + 2 < self.since_ms + self.stable_ms;
        self.unstable = if is_unstable { self.unstable + 1 } else { 0 };
        (self.since_ms, self.ended_ms) = (now_ms + self.least_ms(), Some(now_ms));
    }
}

/// A server or client.
pub struct Endpoint {
    pub handle: u64,
    pub is_server: bool,
    pub is_pull: bool,
    pub limit: usize,
    pub max_connections: u32,
    pub pauses: Pauses,
    /// Its latest start was followed by a stop.
    pub is_stopped: bool,
    pub is_destroyed: bool,
    pub is_dropped: bool,
    pub address: String,
}

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
    pub has_ended: bool,
    pub owed_writable: bool,
    /// A broadcast may have been refused for want of room in the queue, or as too much for the pool.
    pub may_be_writable: bool,
    /// Token of each send, and how many bytes had been taken with it.
    pub tokens: VecDeque<(u64, u64)>,
    pub taken: u64,
}

/// A server or client.
pub struct Endpoint {
    pub handle: u64,
    pub is_server: bool,
    pub is_pull: bool,
    pub limit: usize,
    pub max_connections: u32,
    pub reconnect_min_ms: u64,
    pub is_destroyed: bool,
    pub is_dropped: bool,
    /// When its latest connection or attempt ended, if it was not started since.
    pub ended_ms: Option<u64>,
    pub address: String,
}

//! Statistics: counters of an engine, a server, a client or a connection.
//!
//! Set struct_size before the call. Counters go up only, but for those that say "now". They are read while others write
//! them: each number is right, two of them may be of slightly different moments.

use super::convert::{CStruct, OutStruct};
use super::guard::guard;
use super::types::{wharf_client, wharf_conn, wharf_engine, wharf_server, wharf_status};
use crate::engine::registry::{with, with_connection};
use crate::engine::stats::{ConnectionStats, Stats};
use crate::pool::handle::Kind;

/// Counters of an engine, a server or a client. At rest accepted + connected = open + closed. Those that only an engine
/// has are zero for the others.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_stats {
    /// sizeof(wharf_stats).
    pub struct_size: usize,
    /// Connections that were accepted and given a place.
    pub accepted: u64,
    /// Connects that succeeded.
    pub connected: u64,
    /// Connects that failed.
    pub connect_failures: u64,
    /// Connections that live now.
    pub open: u64,
    /// Connections that are gone; the sum of the six below.
    pub closed: u64,
    /// Closed by this side, as asked.
    pub closed_by_us: u64,
    /// Closed because the peer ended its side.
    pub closed_by_peer: u64,
    /// Closed by a reset of the peer.
    pub closed_by_reset: u64,
    /// Closed by a deadline (idle, first byte, send stall, linger, slow receive), or because the peer answered no more
    /// (keepalive).
    pub closed_by_timeout: u64,
    /// Closed by a stop of the server, client or engine.
    pub closed_by_stop: u64,
    /// Closed by anything else.
    pub closed_by_error: u64,
    /// Connections that were reset at max_connections (WHARF_AT_LIMIT_REJECT).
    pub refused_at_limit: u64,
    /// Connections that were reset at max_connections_per_ip.
    pub refused_per_ip: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the system.
    pub bytes_out: u64,
    /// Receives: calls of on_receive, and of wharf_receive_wait that gave bytes.
    pub messages_in: u64,
    /// Sends that were taken.
    pub messages_out: u64,
    /// Bytes that wait in send queues now.
    pub queued_bytes: u64,
    /// Sends that were refused with WHARF_E_QUEUE_FULL.
    pub queue_full: u64,
    /// Sends that were refused with WHARF_E_POOL_EXHAUSTED (engine only).
    pub pool_exhausted: u64,
    /// Blocks of the pool (engine only).
    pub pool_blocks: u64,
    /// Blocks in use now (engine only).
    pub pool_blocks_in_use: u64,
    /// The most blocks that ever were in use (engine only).
    pub pool_blocks_peak: u64,
    /// How often accepting paused because there were max_connections, or accept_rate_per_s was used up.
    pub accept_pauses: u64,
    /// How often accepting backed off because descriptors or memory ran out.
    pub descriptor_exhaustions: u64,
    /// Connections that ended while their server was stopping, after the last of their bytes was handed to the system.
    pub drained: u64,
    /// Connections that a deadline reset while their server was stopping, and whose queued bytes were thrown away.
    pub drain_resets: u64,
    /// Callbacks that took longer than slow_callback_ms (engine only).
    pub slow_callbacks: u64,
    /// The longest callback in microseconds (engine only).
    pub callback_max_us: u64,
    /// The time that all callbacks took in microseconds (engine only).
    pub callback_total_us: u64,
    /// Bytes of heap set aside; what wharf_engine_footprint told (engine only).
    pub heap_bytes: u64,
    /// Connections that were reset because the allow and deny lists do not let them in.
    pub refused_by_list: u64,
    /// Connections that were reset because of accept_rate_per_s (WHARF_AT_LIMIT_REJECT).
    pub refused_by_rate: u64,
    /// Connections that were reset because on_admit refused them.
    pub refused_by_host: u64,
}

// SAFETY: repr(C), size first, integers only, a whole number of words.
unsafe impl CStruct for wharf_stats {
    const NAME: &'static str = "wharf_stats";
}

/// Counters of one connection, for wharf_conn_stats.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_connection_stats {
    /// sizeof(wharf_connection_stats).
    pub struct_size: usize,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the system.
    pub bytes_out: u64,
    /// Receives: calls of on_receive, and of wharf_receive_wait that gave bytes.
    pub messages_in: u64,
    /// Sends that were taken.
    pub messages_out: u64,
    /// Bytes that wait in the send queue now.
    pub queued_bytes: u64,
    /// Milliseconds since it was opened.
    pub age_ms: u64,
    /// Milliseconds since bytes last came or left.
    pub idle_ms: u64,
    /// The number of its worker, from 0.
    pub worker: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, integers only, a whole number of words.
unsafe impl CStruct for wharf_connection_stats {
    const NAME: &'static str = "wharf_connection_stats";
}

impl From<Stats> for wharf_stats {
    fn from(stats: Stats) -> wharf_stats {
        wharf_stats {
            struct_size: size_of::<wharf_stats>(),
            accepted: stats.accepted,
            connected: stats.connected,
            connect_failures: stats.connect_failures,
            open: stats.open,
            closed: stats.closed,
            closed_by_us: stats.closed_by.by_us,
            closed_by_peer: stats.closed_by.by_peer,
            closed_by_reset: stats.closed_by.by_reset,
            closed_by_timeout: stats.closed_by.by_timeout,
            closed_by_stop: stats.closed_by.by_stop,
            closed_by_error: stats.closed_by.by_error,
            refused_at_limit: stats.refused_at_limit,
            refused_per_ip: stats.refused_per_ip,
            bytes_in: stats.traffic.bytes_in,
            bytes_out: stats.traffic.bytes_out,
            messages_in: stats.traffic.messages_in,
            messages_out: stats.traffic.messages_out,
            queued_bytes: stats.traffic.queued_bytes,
            queue_full: stats.traffic.queue_full,
            pool_exhausted: stats.pool_exhausted,
            pool_blocks: stats.pool_blocks,
            pool_blocks_in_use: stats.pool_blocks_in_use,
            pool_blocks_peak: stats.pool_blocks_peak,
            accept_pauses: stats.accept_pauses,
            descriptor_exhaustions: stats.descriptor_exhaustions,
            drained: stats.drained,
            drain_resets: stats.drain_resets,
            slow_callbacks: stats.slow_callbacks,
            callback_max_us: stats.callback_max_us,
            callback_total_us: stats.callback_total_us,
            heap_bytes: stats.heap_bytes,
            refused_by_list: stats.refused_by_list,
            refused_by_rate: stats.refused_by_rate,
            refused_by_host: stats.refused_by_host,
        }
    }
}

impl From<ConnectionStats> for wharf_connection_stats {
    fn from(stats: ConnectionStats) -> wharf_connection_stats {
        wharf_connection_stats {
            struct_size: size_of::<wharf_connection_stats>(),
            bytes_in: stats.bytes_in,
            bytes_out: stats.bytes_out,
            messages_in: stats.messages_in,
            messages_out: stats.messages_out,
            queued_bytes: stats.queued_bytes,
            age_ms: stats.age_ms,
            idle_ms: stats.idle_ms,
            worker: stats.worker,
            reserved: 0,
        }
    }
}

/// Tells the counters of an engine: the sums of all its servers and clients, those that are gone included.
///
/// - engine: the engine
/// - out: receives the counters; set its struct_size
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: out is NULL or its struct_size is wrong
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_engine_stats(engine: wharf_engine, out: *mut wharf_stats) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or as large as struct_size says.
        let out = unsafe { OutStruct::at(out) }?;
        out.write(&with(engine, Kind::Engine, |engine| Ok(engine.stats()))?.into());
        Ok(())
    })
}

/// Tells the counters of a server.
///
/// - server: the server
/// - out: receives the counters; set its struct_size
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: out is NULL or its struct_size is wrong
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_stats(server: wharf_server, out: *mut wharf_stats) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or as large as struct_size says.
        let out = unsafe { OutStruct::at(out) }?;
        out.write(&with(server, Kind::Server, |engine| engine.server_stats(server))?.into());
        Ok(())
    })
}

/// Tells the counters of a client: all its connections since it was made.
///
/// - client: the client
/// - out: receives the counters; set its struct_size
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: out is NULL or its struct_size is wrong
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_client_stats(client: wharf_client, out: *mut wharf_stats) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or as large as struct_size says.
        let out = unsafe { OutStruct::at(out) }?;
        out.write(&with(client, Kind::Client, |engine| engine.client_stats(client))?.into());
        Ok(())
    })
}

/// Tells the counters of one connection.
///
/// - conn: the connection
/// - out: receives the counters; set its struct_size
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: out is NULL or its struct_size is wrong
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback; good in on_close, too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_stats(conn: wharf_conn, out: *mut wharf_connection_stats) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or as large as struct_size says.
        let out = unsafe { OutStruct::at(out) }?;
        out.write(&with_connection(conn, |connections, _| connections.connection_stats(conn))?.into());
        Ok(())
    })
}

//! What is asked of the engine after every step: bounds and conservation.

use wharf::ffi::*;
use wharf::port::sim;
use wharf::status::*;

use crate::common;
use crate::model::{call, fail, model};

fn counts(engine: wharf_engine) -> Option<wharf_test_counts> {
    let mut counts = wharf_test_counts::default();
    (call(|| unsafe { wharf_test_engine_counts(engine, &mut counts) }) == WHARF_OK).then_some(counts)
}

pub fn engine_stats(engine: wharf_engine) -> Option<wharf_stats> {
    let mut stats = common::stats();
    (call(|| unsafe { wharf_engine_stats(engine, &mut stats) }) == WHARF_OK).then_some(stats)
}

fn server_stats(server: wharf_server) -> Option<wharf_stats> {
    let mut stats = common::stats();
    (call(|| unsafe { wharf_server_stats(server, &mut stats) }) == WHARF_OK).then_some(stats)
}

fn is_running(server: wharf_server) -> bool {
    let mut running = 0;
    call(|| unsafe { wharf_server_is_running(server, &mut running) });
    running == 1
}

/// After every step.
pub fn all() {
    let engine = model(|model| model.engine);
    let (Some(stats), Some(counts)) = (engine_stats(engine), counts(engine)) else {
        if !model(|model| model.is_destroyed) {
            fail("the engine's handle is stale, and nobody destroyed it");
        }
        return;
    };
    of_the_engine(&stats, &counts);
    let servers: Vec<(u64, u32, usize)> = model(|model| {
        let servers = model.endpoints.iter().enumerate().filter(|(_, endpoint)| endpoint.is_server);
        servers.map(|(number, endpoint)| (endpoint.handle, endpoint.max_connections, number)).collect()
    });
    let mut listening = 0;
    for (server, max_connections, number) in servers {
        let Some(stats) = server_stats(server) else { continue };
        listening += u64::from(is_running(server));
        if stats.open > max_connections.into() {
            fail(format!("server {number} has {} connections, at most {max_connections} are allowed", stats.open));
        }
    }
    let sockets = u64::from(sim::engine_sockets());
    if sockets != listening + counts.members + counts.dials {
        let (members, dials) = (counts.members, counts.dials);
        fail(format!("{sockets} descriptors for {listening} listeners, {members} connections and {dials} connects"));
    }
    of_connections();
}

fn of_the_engine(stats: &wharf_stats, counts: &wharf_test_counts) {
    let (max_connections, pool_bytes) = model(|model| (model.max_connections, model.pool_bytes));
    model(|model| model.fold(stats.bytes_in ^ stats.bytes_out << 20 ^ stats.closed << 40));
    let by_reason = stats.closed_by_us
        + stats.closed_by_peer
        + stats.closed_by_reset
        + stats.closed_by_timeout
        + stats.closed_by_stop
        + stats.closed_by_error;
    let must = |is_so: bool, what: &str| {
        if !is_so {
            fail(format!("{what}: {counts:?}, open {}, closed {}", stats.open, stats.closed));
        }
    };
    must(stats.accepted + stats.connected == stats.open + stats.closed, "accepted + connected is not open + closed");
    must(stats.closed == by_reason, "closed is not the sum of its reasons");
    must(stats.open <= max_connections, "more connections than max_connections");
    must(stats.pool_blocks_in_use <= stats.pool_blocks, "more blocks in use than there are");
    must(stats.queued_bytes <= pool_bytes, "more bytes queued than the pool has");
    must(counts.permits == counts.server_members, "permits that are taken are not the servers' connections");
    must(counts.members == stats.open, "members are not the open connections");
    must(counts.members <= counts.places, "more connections than places");
    must(counts.places <= max_connections, "more places than there are");
    let in_use = counts.blocks - counts.extra_blocks;
    must(counts.blocks_available <= in_use + counts.extra_blocks, "more blocks than there are");
}

fn of_connections() {
    let conns: Vec<(usize, wharf_conn, usize)> = model(|model| {
        let live = model.conns.iter().enumerate().filter(|(_, conn)| !conn.is_closed);
        live.map(|(place, conn)| (place, conn.handle, model.endpoints[conn.endpoint].limit)).collect()
    });
    for (place, conn, limit) in conns {
        let mut stats = common::conn_stats();
        let status = call(|| unsafe { wharf_conn_stats(conn, &mut stats) });
        if status != WHARF_OK {
            fail(format!("connection {place} lives, and its handle gives {}", common::name(status)));
        }
        if stats.queued_bytes > limit as u64 {
            fail(format!("connection {place}: {} bytes queued, at most {limit} are allowed", stats.queued_bytes));
        }
    }
}

/// A connection that lives, when there are no faults any more.
struct Resting {
    place: usize,
    conn: wharf_conn,
    link: u32,
    end: usize,
    is_pull: bool,
    is_closing: bool,
    owed_writable: bool,
    owed_sent: bool,
    /// Somebody reads what it sends.
    is_read: bool,
}

fn resting() -> Vec<Resting> {
    let mut all: Vec<Resting> = model(|model| {
        let live = model.conns.iter().enumerate().filter(|(_, conn)| !conn.is_closed);
        live.map(|(place, conn)| Resting {
            place,
            conn: conn.handle,
            link: conn.link,
            end: conn.end,
            is_pull: model.endpoints[conn.endpoint].is_pull,
            is_closing: conn.closing > 0,
            owed_writable: conn.owed_writable,
            owed_sent: !conn.tokens.is_empty(),
            is_read: model.is_read(conn.link, 1 - conn.end),
        })
        .collect()
    });
    for one in &mut all {
        one.is_read &= !sim::is_cut(one.link) && sim::is_open(one.link, 1 - one.end);
    }
    all
}

/// What is not as it must be when there are no faults any more and everybody reads; None when all is well.
pub fn unrest() -> Option<String> {
    let all = resting();
    // Whoever has nobody that reads may keep the pool exhausted.
    let is_pool_held = all.iter().any(|one| !one.is_read);
    for one in &all {
        let place = one.place;
        let mut stats = common::conn_stats();
        if sim::is_cut(one.link) || call(|| unsafe { wharf_conn_stats(one.conn, &mut stats) }) != WHARF_OK {
            continue;
        }
        if one.is_read && stats.queued_bytes > 0 {
            return Some(format!("connection {place}: {} bytes are still queued", stats.queued_bytes));
        }
        if one.is_read && one.owed_writable && !one.is_closing && !is_pool_held {
            return Some(format!("connection {place}: on_writable is owed"));
        }
        if one.is_read && one.owed_sent {
            return Some(format!("connection {place}: an on_sent is owed"));
        }
        if !one.is_pull && !one.is_closing && sim::bytes_between(one.link, 1 - one.end) > 0 {
            return Some(format!("connection {place}: bytes for it were not read"));
        }
    }
    None
}

/// When every server and client is stopped: everything was given back.
pub fn nothing_is_held() -> Option<String> {
    let engine = model(|model| model.engine);
    let counts = counts(engine)?;
    let pool = counts.blocks - counts.extra_blocks;
    let is_back = [pool, counts.blocks].contains(&counts.blocks_available);
    let held = counts.places + counts.permits + counts.members + counts.dials + counts.timers + counts.block_waiters;
    if held == 0 && counts.tasks == 0 && is_back && sim::engine_sockets() == 0 {
        return None;
    }
    Some(format!("still held: {counts:?}, {} descriptors", sim::engine_sockets()))
}

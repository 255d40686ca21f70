//! What the host does with the engine: the same actions between turns and inside callbacks.

use fastrand::Rng;
use wharf::ffi::*;
use wharf::port::sim;
use wharf::status::*;

use crate::common;
use crate::making::{destroy, make_client, make_server, start, stop};
use crate::model::{call, fail, model, note};
use crate::plan::*;

fn allows(kind: u32) -> bool {
    model(|model| model.plan.actions & kind != 0)
}

/// A number below `most` from the random numbers of the steps or of the callbacks.
pub fn roll(most: usize) -> usize {
    model(|model| {
        let random = if model.depth > 0 { &mut model.callback_random } else { &mut model.random };
        random.usize(0..most.max(1))
    })
}

pub fn one_in(most: usize) -> bool {
    roll(most) == 0
}

/// Whether an answer is one that a live object may give.
pub fn is_sane(what: &str, status: wharf_status) {
    note!("{what}: {}", common::name(status));
    model(|model| {
        model.fold(status as u64);
        let action = what.rsplit(": ").next().unwrap_or(what).split(' ').next().unwrap_or(what);
        model.count(|| format!("{action}: {}", common::name(status)));
    });
    if matches!(status, WHARF_E_PANIC | WHARF_E_INVALID_ARGUMENT | WHARF_E_WRONG_KIND | WHARF_E_WOULD_DEADLOCK) {
        fail(format!("{what} gave {}", common::name(status)));
    }
}

/// A connection by its place in the model: one that lives, most of the time.
fn some_conn() -> Option<usize> {
    let stale_too = one_in(16);
    let all: Vec<usize> = model(|model| {
        let all = model.conns.iter().enumerate().filter(|(_, conn)| stale_too || !conn.is_closed);
        all.map(|(place, _)| place).collect()
    });
    let place = roll(all.len());
    all.get(place).copied()
}

fn some_endpoint(is_server: bool) -> Option<(usize, u64)> {
    let all = model(|model| {
        let live = |endpoint: &&(usize, u64, bool)| endpoint.2 == is_server;
        let all = model.endpoints.iter().enumerate().map(|(place, one)| (place, one.handle, one.is_server));
        all.collect::<Vec<_>>().iter().filter(live).map(|(place, handle, _)| (*place, *handle)).collect::<Vec<_>>()
    });
    let place = roll(all.len());
    all.get(place).copied()
}

/// Bytes for a send. They differ each time, so that those of a refused send cannot be taken for others.
fn bytes(len: usize) -> Vec<u8> {
    let seed = roll(1 << 30) as u64;
    let mut data = vec![0; len];
    Rng::with_seed(seed).fill(&mut data);
    data
}

fn some_len() -> usize {
    match roll(16) {
        0 => 0,
        1..8 => roll(64) + 1,
        8..13 => roll(1_500) + 1,
        13..15 => roll(8_000) + 1,
        _ => roll(40_000) + 1,
    }
}

fn queued(conn: wharf_conn) -> Option<u64> {
    let mut stats = common::conn_stats();
    (call(|| unsafe { wharf_conn_stats(conn, &mut stats) }) == WHARF_OK).then_some(stats.queued_bytes)
}

pub fn send(place: usize) {
    let (conn, limit) = model(|model| {
        let conn = &model.conns[place];
        (conn.handle, model.endpoints[conn.endpoint].limit)
    });
    let len = if one_in(12) { some_len() } else { some_len().min(limit) };
    let data = bytes(len);
    let token = if one_in(2) { model(|model| model.next_token()) } else { 0 };
    let cut = roll(data.len() + 1);
    let status = match (token, one_in(3)) {
        (0, false) => call(|| common::send(conn, &data)),
        _ => {
            let slices =
                [&data[..cut], &data[cut..]].map(|slice| wharf_slice { data: slice.as_ptr().cast(), len: slice.len() });
            call(|| unsafe { wharf_sendv(conn, slices.as_ptr(), 2, token, 0) })
        }
    };
    is_sane(&format!("conn {place}: send {} with token {token}", data.len()), status);
    was_sent(place, &data, token, status);
    if status == WHARF_E_QUEUE_FULL {
        let queued = queued(conn).unwrap_or_default() as usize;
        if queued + data.len() <= limit {
            fail(format!("a send of {} was refused as too much, {queued} of {limit} bytes are queued", data.len()));
        }
    }
    if status == WHARF_E_LIMIT && data.len() <= limit && fits_the_pool(data.len(), token) {
        fail("WHARF_E_LIMIT for a send within the limit");
    }
}

/// Whether an empty pool has room for a send.
fn fits_the_pool(len: usize, token: u64) -> bool {
    let (engine, block) = model(|model| (model.engine, model.buffer_bytes));
    let mut stats = common::stats();
    // SAFETY: the struct lives for the call.
    let status = unsafe { wharf_engine_stats(engine, &mut stats) };
    status != WHARF_OK || len.div_ceil(block) + usize::from(token != 0) <= stats.pool_blocks as usize
}

fn was_sent(place: usize, data: &[u8], token: u64, status: wharf_status) {
    model(|model| {
        let conn = &mut model.conns[place];
        if conn.is_closed && status != WHARF_E_STALE && model.depth == 0 {
            return model.fail("a send on a connection that is gone did not give WHARF_E_STALE");
        }
        if status == WHARF_E_STALE && !conn.is_closed {
            return model.fail("WHARF_E_STALE for a connection that lives");
        }
        match status {
            WHARF_OK if conn.is_closed || conn.closing > 0 => model.fail("a send was taken after the close"),
            WHARF_OK => {
                conn.taken += data.len() as u64;
                if token != 0 {
                    conn.tokens.push_back((token, conn.taken));
                }
                let (link, end) = (conn.link, conn.end);
                model.left(link, end, data);
            }
            WHARF_E_QUEUE_FULL | WHARF_E_POOL_EXHAUSTED => conn.owed_writable = true,
            _ => {}
        }
    });
}

/// How many sends a connection has taken.
fn messages_out(conn: wharf_conn) -> Option<u64> {
    let mut stats = common::conn_stats();
    (call(|| unsafe { wharf_conn_stats(conn, &mut stats) }) == WHARF_OK).then_some(stats.messages_out)
}

pub fn broadcast(endpoint: usize, server: wharf_server) {
    let members: Vec<(usize, wharf_conn)> = model(|model| {
        let all = model.conns.iter().enumerate().filter(|(_, conn)| conn.endpoint == endpoint && !conn.is_closed);
        all.map(|(place, conn)| (place, conn.handle)).collect()
    });
    let except = members.get(roll(members.len() * 2)).map_or(0, |member| member.1);
    let before: Vec<Option<u64>> = members.iter().map(|(_, conn)| messages_out(*conn)).collect();
    let data = bytes(some_len());
    let mut result = common::broadcast_result();
    let status =
        call(|| unsafe { wharf_server_broadcast(server, data.as_ptr().cast(), data.len(), except, &mut result) });
    is_sane(&format!("endpoint {endpoint}: broadcast {}", data.len()), status);
    if status != WHARF_OK {
        return;
    }
    let mut taken = 0;
    let fits = fits_the_pool(data.len(), 0);
    for ((place, conn), before) in members.iter().zip(before) {
        let after = messages_out(*conn);
        match (before, after) {
            (Some(before), Some(after)) if after == before + 1 => {
                taken += 1;
                if *conn == except {
                    fail("a broadcast went to the connection that was left out");
                }
                was_sent(*place, &data, 0, WHARF_OK);
            }
            (Some(_), Some(_)) => model(|model| {
                let limit = model.endpoints[endpoint].limit;
                let conn = &mut model.conns[*place];
                // Refused for want of room: told when there is some.
                let is_refused = conn.handle != except && conn.closing == 0 && data.len() <= limit;
                conn.owed_writable |= is_refused && fits;
                conn.may_be_writable |= is_refused;
            }),
            _ => {}
        }
    }
    if taken != result.taken {
        fail(format!("a broadcast says that {} took it; {taken} did", result.taken));
    }
}

pub fn close(place: usize) {
    // Named in the order of their strength in the model: 1 the sending side, 2 flush, 3 now, 4 reset.
    let strength = roll(4) as u8 + 1;
    let how = [WHARF_CLOSE_SEND_SIDE, WHARF_CLOSE_FLUSH, WHARF_CLOSE_NOW, WHARF_CLOSE_RESET][strength as usize - 1];
    let conn = model(|model| model.conns[place].handle);
    let status = call(|| common::close(conn, how));
    is_sane(&format!("conn {place}: close {strength}"), status);
    model(|model| {
        let depth = model.depth;
        let conn = &mut model.conns[place];
        if conn.is_closed && depth == 0 && status != WHARF_E_STALE {
            return model.fail("a close of a connection that is gone did not give WHARF_E_STALE");
        }
        if status == WHARF_OK && !conn.is_closed {
            conn.closing = conn.closing.max(strength);
            conn.owed_writable = false;
        }
    });
}

pub fn pause(place: usize, pauses: bool) {
    let (conn, is_pull) = model(|model| {
        let conn = &model.conns[place];
        (conn.handle, model.endpoints[conn.endpoint].is_pull)
    });
    let status = call(|| unsafe { if pauses { wharf_conn_pause(conn) } else { wharf_conn_resume(conn) } });
    is_sane(&format!("conn {place}: {}", if pauses { "pause" } else { "resume" }), status);
    if status == WHARF_OK && !is_pull {
        model(|model| model.conns[place].is_paused = pauses);
    }
}

fn set_timeouts(place: usize) {
    let mut timeouts = common::timeouts();
    let some = |bound: usize| if one_in(2) { 0 } else { roll(bound) as u32 + 1 };
    timeouts.idle_timeout_ms = some(5_000);
    timeouts.first_byte_timeout_ms = some(2_000);
    timeouts.send_stall_timeout_ms = some(2_000);
    let conn = model(|model| model.conns[place].handle);
    let status = call(|| unsafe { wharf_conn_set_timeouts(conn, &timeouts) });
    is_sane(&format!("conn {place}: timeouts"), status);
}

/// Handles of what is gone must never reach anybody.
fn call_stale() {
    let stale = model(|model| {
        let all: Vec<_> = model.conns.iter().filter(|conn| conn.is_closed).map(|conn| conn.handle).collect();
        all
    });
    let place = roll(stale.len());
    let Some(conn) = stale.get(place).copied() else { return };
    if model(|model| model.depth > 0) {
        return; // Inside its own on_close a handle is still good for reading.
    }
    let statuses = call(|| unsafe {
        [common::send(conn, b"stale"), common::close(conn, WHARF_CLOSE_RESET), wharf_conn_pause(conn)]
    });
    if statuses != [WHARF_E_STALE; 3] {
        fail("a call with a stale handle did not give WHARF_E_STALE");
    }
}

/// One action. `own` is the connection of the callback that this happens in.
pub fn act(own: Option<usize>) {
    let conn = || own.filter(|_| !one_in(3)).or_else(some_conn);
    match roll(48) {
        0..14 | 40..48 if allows(SENDS) => drop(conn().map(send)),
        14..16 if allows(BROADCASTS) => drop(some_endpoint(true).map(|(number, server)| broadcast(number, server))),
        16 | 17 if allows(CLOSES) => drop(conn().map(close)),
        18..22 if allows(PAUSES) => drop(conn().map(|conn| pause(conn, true))),
        22..26 if allows(PAUSES) => drop(conn().map(|conn| pause(conn, false))),
        26 | 27 if allows(TIMEOUTS) => drop(conn().map(set_timeouts)),
        28 if allows(SERVERS) => make_server(),
        29 if allows(SERVERS) => drop(some_endpoint(true).map(|(number, _)| start(number))),
        30 if allows(SERVERS) => drop(some_endpoint(true).map(|(number, _)| stop(number))),
        31 if allows(SERVERS) && one_in(3) => drop(some_endpoint(true).map(|(number, _)| destroy(number))),
        32 | 33 if allows(CLIENTS) => make_client(),
        34 if allows(CLIENTS) => drop(some_endpoint(false).map(|(number, _)| start(number))),
        35 if allows(CLIENTS) => drop(some_endpoint(false).map(|(number, _)| stop(number))),
        36 if allows(CLIENTS) => drop(some_endpoint(false).map(|(number, _)| destroy(number))),
        37 => call_stale(),
        38 if allows(SLOW) && model(|model| model.depth > 0) => sim::advance_ms(roll(400) as u64),
        39 if allows(DESTROY) && model(|model| model.depth > 0) && one_in(8) => destroy_engine(),
        _ => {}
    }
}

/// In a callback: returns at once, and the end goes on behind.
fn destroy_engine() {
    let engine = model(|model| model.engine);
    let drain_ms = roll(2_000) as u32;
    let status = call(|| unsafe { wharf_engine_destroy(engine, drain_ms) });
    is_sane("engine: destroy in a callback", status);
    if status == WHARF_OK {
        model(|model| model.is_destroyed = true);
    }
}

/// What a callback does of its own.
pub fn react(_endpoint: usize, conn: wharf_conn) {
    if !allows(MOODS) || model(|model| model.is_polite) {
        return;
    }
    let own = model(|model| model.by_handle.get(&conn).copied());
    while one_in(2) {
        act(own);
    }
}

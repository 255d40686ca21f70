//! Servers and clients of the host: made, started, stopped and destroyed.

use std::ffi::CString;

use wharf::ffi::*;
use wharf::port::sim;
use wharf::status::*;

use crate::callbacks;
use crate::common;
use crate::host::{is_sane, one_in, roll};
use crate::model::{Endpoint, Pauses, call, model};

/// How many servers and clients a run has at the most.
const MOST_ENDPOINTS: usize = 12;

fn enter(endpoint: Endpoint) {
    model(|model| model.endpoints.push(endpoint));
}

/// A server at a port of its own.
pub fn make_server() {
    let number = model(|model| model.endpoints.len());
    if number >= MOST_ENDPOINTS {
        return;
    }
    let address = format!("127.0.0.1:{}", 500 + number);
    let (is_pull, has_end) = (one_in(12), !one_in(3));
    let text = CString::new(address.clone()).unwrap();
    let mut config = common::server_config();
    config.address = text.as_ptr();
    config.max_connections = if one_in(3) { 0 } else { roll(6) as u32 + 1 };
    config.at_limit = if one_in(2) { WHARF_AT_LIMIT_WAIT } else { WHARF_AT_LIMIT_REJECT };
    config.backlog = if one_in(2) { 0 } else { roll(4) as u32 + 1 };
    config.max_connections_per_ip = if one_in(3) { roll(3) as u32 + 1 } else { 0 };
    let (limit, timeouts) = connection_knobs();
    config.send_queue_limit_bytes = limit;
    [config.idle_timeout_ms, config.first_byte_timeout_ms, config.send_stall_timeout_ms, config.linger_ms] = timeouts;
    config.keepalive_s = if one_in(3) { roll(20) as u32 + 1 } else { 0 };
    let handler = callbacks::handler(number, is_pull, has_end);
    let (engine, most) = model(|model| (model.engine, model.max_connections as u32));
    let mut server = 0;
    let status = call(|| unsafe { wharf_server_create(engine, &config, &handler, &mut server, std::ptr::null_mut()) });
    is_sane(&format!("endpoint {number}: server at {address}"), status);
    if status == WHARF_OK {
        let max_connections = if config.max_connections == 0 { most } else { config.max_connections.min(most) };
        enter(Endpoint {
            handle: server,
            is_server: true,
            is_pull,
            limit: limit as usize,
            max_connections,
            pauses: Pauses::default(),
            is_stopped: false,
            is_destroyed: false,
            is_dropped: false,
            address,
        });
        start(number);
    }
}

/// The limit of the queue, and the four timeouts.
fn connection_knobs() -> (u32, [u32; 4]) {
    let limit = match roll(4) {
        0 => roll(200) + 1,
        1 | 2 => roll(6_000) + 1,
        _ => roll(60_000) + 1,
    };
    let some = |bound: usize| if one_in(3) { roll(bound) as u32 + 1 } else { 0 };
    (limit as u32, [some(20_000), some(10_000), some(10_000), some(3_000)])
}

/// What clients may dial: servers of the same engine, peers that listen, and places where nobody answers.
fn some_target() -> String {
    let servers: Vec<String> = model(|model| {
        model.endpoints.iter().filter(|endpoint| endpoint.is_server).map(|endpoint| endpoint.address.clone()).collect()
    });
    match roll(16) {
        0..6 if !servers.is_empty() => servers[roll(servers.len())].clone(),
        0..9 => format!("10.1.0.1:{}", 700 + roll(3)),
        9 => format!("{}:80", sim::REFUSES),
        10 => format!("{}:80", sim::UNREACHABLE),
        11 => format!("{}:80", sim::SILENT),
        12 => "nobody.test:80".to_string(),
        13 => "many.test:700".to_string(),
        14 => "late.test:701".to_string(),
        _ => "127.0.0.1:9".to_string(),
    }
}

pub fn make_client() {
    let number = model(|model| model.endpoints.len());
    if number >= MOST_ENDPOINTS {
        return;
    }
    let address = some_target();
    let (is_pull, has_end) = (one_in(12), !one_in(3));
    let text = CString::new(address.clone()).unwrap();
    let mut config = common::client_config();
    config.address = text.as_ptr();
    config.connect_timeout_ms = if one_in(3) { 0 } else { roll(4_000) as u32 + 1 };
    if !one_in(3) {
        config.reconnect_min_ms = roll(300) as u32 + 1;
        config.reconnect_max_ms = config.reconnect_min_ms + roll(3_000) as u32;
        config.reconnect_stable_ms = roll(3_000) as u32 + 1;
        config.reconnect_attempts = if one_in(2) { 0 } else { roll(5) as u32 + 1 };
    }
    let (limit, timeouts) = connection_knobs();
    config.send_queue_limit_bytes = limit;
    [config.idle_timeout_ms, config.first_byte_timeout_ms, config.send_stall_timeout_ms, config.linger_ms] = timeouts;
    let handler = callbacks::handler(number, is_pull, has_end);
    let engine = model(|model| model.engine);
    let mut client = 0;
    let status = call(|| unsafe { wharf_client_create(engine, &config, &handler, &mut client, std::ptr::null_mut()) });
    is_sane(&format!("endpoint {number}: client to {address}"), status);
    if status == WHARF_OK {
        enter(Endpoint {
            handle: client,
            is_server: false,
            is_pull,
            limit: limit as usize,
            max_connections: 1,
            pauses: Pauses {
                min_ms: config.reconnect_min_ms.into(),
                max_ms: config.reconnect_max_ms.into(),
                stable_ms: config.reconnect_stable_ms.into(),
                ..Pauses::default()
            },
            is_stopped: false,
            is_destroyed: false,
            is_dropped: false,
            address,
        });
        start(number);
    }
}

pub fn start(number: usize) {
    let (handle, is_server) = model(|model| (model.endpoints[number].handle, model.endpoints[number].is_server));
    let status = call(|| unsafe {
        match is_server {
            true => wharf_server_start(handle, std::ptr::null_mut()),
            false => wharf_client_start(handle, std::ptr::null_mut()),
        }
    });
    is_sane(&format!("endpoint {number}: start"), status);
    if status == WHARF_OK {
        model(|model| {
            let endpoint = &mut model.endpoints[number];
            endpoint.is_stopped = false;
            if !is_server {
                endpoint.pauses.begin(sim::now_ms());
            }
        });
    }
}

pub fn stop(number: usize) {
    let (handle, is_server) = model(|model| (model.endpoints[number].handle, model.endpoints[number].is_server));
    let drain_ms = if one_in(3) { 0 } else { roll(3_000) as u32 };
    let status =
        call(|| unsafe { if is_server { wharf_server_stop(handle, drain_ms) } else { wharf_client_stop(handle) } });
    is_sane(&format!("endpoint {number}: stop within {drain_ms}"), status);
    note_stopped(number);
}

/// What still comes for its connections is thrown away, as it is for those that were closed.
fn note_stopped(number: usize) {
    model(|model| {
        model.endpoints[number].is_stopped = true;
        model.conns.iter_mut().filter(|conn| conn.endpoint == number).for_each(|conn| conn.is_stopped = true);
    });
}

pub fn destroy(number: usize) {
    let (handle, is_server) = model(|model| (model.endpoints[number].handle, model.endpoints[number].is_server));
    let status =
        call(|| unsafe { if is_server { wharf_server_destroy(handle) } else { wharf_client_destroy(handle) } });
    is_sane(&format!("endpoint {number}: destroy"), status);
    note_stopped(number);
    if status == WHARF_OK {
        model(|model| {
            model.endpoints[number].is_destroyed = true;
            // Its connections are closed soon: what is owed to them may or may not be told before.
            for conn in model.conns.iter_mut().filter(|conn| conn.endpoint == number) {
                conn.may_be_writable |= std::mem::take(&mut conn.owed_writable);
            }
        });
    }
}

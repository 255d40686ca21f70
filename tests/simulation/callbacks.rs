//! The handler of every server and client of a run. The context is the number of the endpoint.

use std::ffi::c_void;

use wharf::ffi::*;
use wharf::port::sim;

use crate::common;
use crate::host;
use crate::model::{call, fail, model};

/// A handler for the endpoint that will have this number.
pub fn handler(endpoint: usize, is_pull: bool, has_end: bool) -> wharf_handler {
    wharf_handler {
        struct_size: size_of::<wharf_handler>(),
        context: std::ptr::without_provenance_mut(endpoint + 1),
        on_open: Some(on_open),
        on_receive: (!is_pull).then_some(on_receive as _),
        on_sent: Some(on_sent),
        on_writable: Some(on_writable),
        on_end: has_end.then_some(on_end as _),
        on_close: Some(on_close),
        on_drop: Some(on_drop),
        on_admit: None,
    }
}

/// One callback: `tell` compares it with the model, and then the host does what comes to its mind.
fn told(context: *mut c_void, what: &str, tell: impl FnOnce(usize), conn: wharf_conn) {
    let endpoint = context.addr().wrapping_sub(1);
    let is_known = model(|model| {
        model.enter(endpoint, what);
        endpoint < model.endpoints.len()
    });
    if is_known {
        tell(endpoint);
        host::react(endpoint, conn);
    }
    model(|model| model.depth -= 1);
}

/// The port of an address.
fn port_of(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

fn link_of(endpoint: usize, conn: wharf_conn) -> Option<u32> {
    let is_server = model(|model| model.endpoints[endpoint].is_server);
    // Who dialled is known by the port from which it came.
    let address = call(|| match is_server {
        true => common::text(|buffer, len, needed| unsafe { wharf_conn_peer_address(conn, buffer, len, needed) }),
        false => common::text(|buffer, len, needed| unsafe { wharf_conn_local_address(conn, buffer, len, needed) }),
    });
    sim::link_of(port_of(&address)?)
}

fn bytes_out(conn: wharf_conn) -> Option<u64> {
    let mut stats = common::conn_stats();
    let status = call(|| unsafe { wharf_conn_stats(conn, &mut stats) });
    (status == 0).then_some(stats.bytes_out)
}

unsafe extern "C" fn on_open(context: *mut c_void, conn: wharf_conn) {
    let tell = |endpoint| {
        let link = link_of(endpoint, conn);
        model(|model| model.opened(endpoint, conn, link));
    };
    told(context, "on_open", tell, conn);
}

unsafe extern "C" fn on_receive(context: *mut c_void, conn: wharf_conn, data: *const u8, len: usize) {
    let data = unsafe { std::slice::from_raw_parts(data, len) };
    told(context, "on_receive", |endpoint| model(|model| model.received(endpoint, conn, data)), conn);
}

unsafe extern "C" fn on_sent(context: *mut c_void, conn: wharf_conn, token: u64, status: wharf_status) {
    let tell = |endpoint| {
        let Some(bytes_out) = bytes_out(conn) else { return fail("the handle is not good inside on_sent") };
        model(|model| model.sent(endpoint, conn, token, status, bytes_out));
    };
    told(context, "on_sent", tell, conn);
}

unsafe extern "C" fn on_writable(context: *mut c_void, conn: wharf_conn) {
    told(context, "on_writable", |endpoint| model(|model| model.writable(endpoint, conn)), conn);
}

unsafe extern "C" fn on_end(context: *mut c_void, conn: wharf_conn) {
    told(context, "on_end", |endpoint| model(|model| model.peer_ended(endpoint, conn)), conn);
}

unsafe extern "C" fn on_close(context: *mut c_void, conn: wharf_conn, reason: wharf_status) {
    let tell = |endpoint| {
        let bytes_out = bytes_out(conn);
        model(|model| model.closed(endpoint, conn, reason, bytes_out));
    };
    told(context, "on_close", tell, conn);
}

unsafe extern "C" fn on_drop(context: *mut c_void) {
    told(context, "on_drop", |endpoint| model(|model| model.dropped(endpoint)), 0);
}

/// The engine's log: what it reports of itself must not be a fault.
pub unsafe extern "C" fn on_log(_context: *mut c_void, _level: i32, text: *const std::ffi::c_char) {
    let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_string_lossy();
    model(|model| model.note(format_args!("log: {text}")));
    if text.contains("fault inside the library") {
        fail(format!("the engine reports: {text}"));
    }
}

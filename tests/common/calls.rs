//! Every exported function that takes a handle, by the kind that it asks for.

use std::ffi::{CString, c_char};
use std::ptr::null_mut;

use super::*;

pub type Call = (&'static str, fn(u64) -> wharf_status);

/// A zeroed struct of the right size for a call that must not get as far as to read it, or that may fill it.
pub fn text_into(
    call: unsafe extern "C" fn(u64, *mut c_char, usize, *mut usize) -> wharf_status,
    handle: u64,
) -> wharf_status {
    let mut buffer = [0; 64];
    unsafe { call(handle, buffer.as_mut_ptr(), buffer.len(), null_mut()) }
}

pub const ENGINE_CALLS: &[Call] = &[
    ("wharf_engine_turn", |handle| unsafe { wharf_engine_turn(handle, 0, null_mut()) }),
    ("wharf_engine_fd", |handle| unsafe { wharf_engine_fd(handle, &mut 0) }),
    ("wharf_engine_wake", |handle| unsafe { wharf_engine_wake(handle) }),
    ("wharf_engine_stats", |handle| unsafe { wharf_engine_stats(handle, &mut stats()) }),
    ("wharf_engine_set_faults", |handle| unsafe { wharf_engine_set_faults(handle, &fault_plan(), null_mut()) }),
    ("wharf_engine_destroy", |handle| unsafe { wharf_engine_destroy(handle, 0) }),
    ("wharf_server_create", |handle| {
        let address = CString::new("127.0.0.1:0").unwrap();
        let mut config = server_config();
        config.address = address.as_ptr();
        unsafe { wharf_server_create(handle, &config, &no_handler(), &mut 0, null_mut()) }
    }),
    ("wharf_client_create", |handle| {
        let address = CString::new("127.0.0.1:9").unwrap();
        let mut config = client_config();
        config.address = address.as_ptr();
        unsafe { wharf_client_create(handle, &config, &no_handler(), &mut 0, null_mut()) }
    }),
];

pub const SERVER_CALLS: &[Call] = &[
    ("wharf_server_start", |handle| unsafe { wharf_server_start(handle, null_mut()) }),
    ("wharf_server_stop", |handle| unsafe { wharf_server_stop(handle, 0) }),
    ("wharf_server_wait", |handle| unsafe { wharf_server_wait(handle, 0) }),
    ("wharf_server_destroy", |handle| unsafe { wharf_server_destroy(handle) }),
    ("wharf_server_is_running", |handle| unsafe { wharf_server_is_running(handle, &mut 0) }),
    ("wharf_server_address", |handle| text_into(wharf_server_address, handle)),
    ("wharf_server_connections", |handle| unsafe { wharf_server_connections(handle, null_mut(), 0, &mut 0) }),
    ("wharf_server_broadcast", |handle| unsafe {
        wharf_server_broadcast(handle, b"x".as_ptr().cast(), 1, 0, &mut broadcast_result())
    }),
    ("wharf_server_stats", |handle| unsafe { wharf_server_stats(handle, &mut stats()) }),
];

pub const CLIENT_CALLS: &[Call] = &[
    ("wharf_client_start", |handle| unsafe { wharf_client_start(handle, null_mut()) }),
    ("wharf_client_conn", |handle| unsafe { wharf_client_conn(handle, &mut 0) }),
    ("wharf_client_wait", |handle| unsafe { wharf_client_wait(handle, 0, null_mut()) }),
    ("wharf_client_stop", |handle| unsafe { wharf_client_stop(handle) }),
    ("wharf_client_destroy", |handle| unsafe { wharf_client_destroy(handle) }),
    ("wharf_client_stats", |handle| unsafe { wharf_client_stats(handle, &mut stats()) }),
];

pub const CONN_CALLS: &[Call] = &[
    ("wharf_send", |handle| send(handle, b"x")),
    ("wharf_sendv", |handle| send_token(handle, b"x", 1)),
    ("wharf_send_wait", |handle| unsafe { wharf_send_wait(handle, b"x".as_ptr().cast(), 1, 0, &mut 0) }),
    ("wharf_receive_wait", |handle| unsafe { wharf_receive_wait(handle, [0u8; 4].as_mut_ptr().cast(), 4, 0, &mut 0) }),
    ("wharf_conn_pause", |handle| unsafe { wharf_conn_pause(handle) }),
    ("wharf_conn_resume", |handle| unsafe { wharf_conn_resume(handle) }),
    ("wharf_conn_close", |handle| close(handle, WHARF_CLOSE_NOW)),
    ("wharf_conn_set_data", |handle| unsafe { wharf_conn_set_data(handle, null_mut()) }),
    ("wharf_conn_data", |handle| unsafe { wharf_conn_data(handle, &mut null_mut()) }),
    ("wharf_conn_peer_address", |handle| text_into(wharf_conn_peer_address, handle)),
    ("wharf_conn_local_address", |handle| text_into(wharf_conn_local_address, handle)),
    ("wharf_conn_set_timeouts", |handle| unsafe { wharf_conn_set_timeouts(handle, &timeouts()) }),
    ("wharf_conn_stats", |handle| unsafe { wharf_conn_stats(handle, &mut conn_stats()) }),
];

pub const WITHOUT_HANDLE: &[&str] = &[
    "wharf_engine_footprint",
    "wharf_engine_create",
    "wharf_status_name",
    "wharf_status_text",
    "wharf_version",
    "wharf_version_text",
];

pub fn no_handler() -> wharf_handler {
    let mut handler: wharf_handler = unsafe { std::mem::zeroed() };
    handler.struct_size = size_of::<wharf_handler>();
    handler
}

pub fn calls() -> impl Iterator<Item = (&'static str, u64, fn(u64) -> wharf_status)> {
    // The kind that each call asks for, as it stands in the upper four bits of a handle.
    let kinds = [(ENGINE_CALLS, 1), (SERVER_CALLS, 2), (CLIENT_CALLS, 3), (CONN_CALLS, 4)];
    kinds.into_iter().flat_map(|(calls, kind)| calls.iter().map(move |(name, call)| (*name, kind, *call)))
}

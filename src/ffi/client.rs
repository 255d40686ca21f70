//! Client: dials one address, and dials again if asked to.
//!
//! Made stopped; wharf_client_start begins to connect. It has at most one connection at a time, handed over by on_open.
//! With reconnect_max_ms it dials again when a connect fails or the connection ends, until wharf_client_stop.

use std::ffi::c_char;

use super::connection_config::connection_config;
use super::convert::{CStruct, Out, known_flags, new_handle, patience, read_struct, text_in};
use super::guard::{guard, guard_with_error};
use super::handler::{CHandler, wharf_handler};
use super::status::wharf_error;
use super::types::{WHARF_TCP_DELAY, wharf_client, wharf_conn, wharf_engine, wharf_status};
use crate::engine::config::ClientConfig;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::registry::with;
use crate::pool::handle::Kind;
use crate::status::Status;

/// How a client is made. Zero means the default; address is needed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_client_config {
    /// sizeof(wharf_client_config).
    pub struct_size: usize,
    /// Where to connect to: "example.org:80", "192.0.2.7:80", "[::1]:80", "unix:/run/x.sock". A name is resolved at
    /// each connect, on threads of the engine (resolver_threads), and its addresses are tried in turn (RFC 8305). See
    /// Addresses. Copied.
    pub address: *const c_char,
    /// Where to connect from: "192.0.2.1:0", "[::1]:0". NULL: the system chooses. Copied.
    pub local_address: *const c_char,
    /// How long resolving and connecting may take together: milliseconds, up to 2147483647. 0: 10000. Connecting to a Unix
    /// socket whose backlog is full waits for as long.
    pub connect_timeout_ms: u32,
    /// The first pause before another attempt: milliseconds, at most reconnect_max_ms. 0: 100 (or reconnect_max_ms if
    /// that is shorter). The pause doubles, with jitter, up to reconnect_max_ms: with each attempt in a row that failed,
    /// or whose connection did not last for reconnect_stable_ms.
    pub reconnect_min_ms: u32,
    /// The longest pause before another attempt: milliseconds, up to 2147483647. 0: never connect again.
    pub reconnect_max_ms: u32,
    /// Attempts in a row that may fail before it gives up. A connection that opened is no failure, however short it was,
    /// and the count begins anew. 0: no bound.
    pub reconnect_attempts: u32,
    /// WHARF_TCP_* bits.
    pub flags: u32,
    /// The most bytes that may wait in the connection's send queue: 1 to 1073741824. 0: 262144.
    pub send_queue_limit_bytes: u32,
    /// Close with WHARF_E_IDLE when nothing came and nothing left for this long: milliseconds, up to 2147483647. 0:
    /// never.
    pub idle_timeout_ms: u32,
    /// Close with WHARF_E_FIRST_BYTE when the peer has sent nothing this long after connecting: milliseconds, up to
    /// 2147483647. 0: never.
    pub first_byte_timeout_ms: u32,
    /// Close with WHARF_E_SEND_STALLED when bytes are queued and the peer takes none for this long: milliseconds, up to
    /// 2147483647. 0: never.
    pub send_stall_timeout_ms: u32,
    /// How long a flushing close waits for its bytes to leave and for the peer's FIN: milliseconds, up to 2147483647.
    /// 0: 5000.
    pub linger_ms: u32,
    /// Seconds of silence before the first keepalive probe (RFC 9293, section 3.8.4): up to 32767. 0: no keepalive. With
    /// it, a peer that vanished ends the connection with WHARF_E_TIMEOUT after this time and that of the probes, also
    /// while bytes are under way, for which no probes are sent (on Linux: TCP_USER_TIMEOUT, tcp(7)); one that takes
    /// nothing for as long (a closed window) does, too.
    pub keepalive_s: u32,
    /// Seconds between probes: up to 32767. 0: as the system does.
    pub keepalive_interval_s: u32,
    /// Probes without an answer before the connection counts as dead: up to 127. 0: as the system does.
    pub keepalive_probes: u32,
    /// The system's send buffer (SO_SNDBUF) in bytes: up to 1073741824. 0: as the system does.
    pub socket_send_buffer_bytes: u32,
    /// The system's receive buffer (SO_RCVBUF) in bytes: up to 1073741824. 0: as the system does.
    pub socket_receive_buffer_bytes: u32,
    /// How long a connection must be open to count as one that lasted, so that the pause begins anew at reconnect_min_ms:
    /// milliseconds, up to 2147483647. 0: 5000. Counted from its beginning until it closes or is asked to close;
    /// a half-close is none.
    pub reconnect_stable_ms: u32,
}

// SAFETY: repr(C), size first, integers and nullable pointers only, a whole number of words.
unsafe impl CStruct for wharf_client_config {
    const NAME: &'static str = "wharf_client_config";
}

impl wharf_client_config {
    /// The engine's own words for it.
    unsafe fn read(config: *const wharf_client_config) -> Outcome<ClientConfig> {
        // SAFETY: the conventions of the header: a config is as large as its struct_size says.
        let config = unsafe { read_struct(config) }?;
        known_flags("flags", config.flags, WHARF_TCP_DELAY)?;
        // SAFETY: the conventions of the header: a text is NULL or ends with a NUL.
        let (address, local_address) =
            unsafe { (text_in("address", config.address)?, text_in("local_address", config.local_address)?) };
        let Some(address) = address else {
            let message = "address is NULL: say where to connect to, as in \"example.org:80\"";
            return Err(Failure::new(Status::InvalidArgument, message));
        };
        Ok(ClientConfig {
            address: address.to_string(),
            local_address: local_address.map(str::to_string),
            connect_timeout_ms: config.connect_timeout_ms,
            reconnect_min_ms: config.reconnect_min_ms,
            reconnect_max_ms: config.reconnect_max_ms,
            reconnect_attempts: config.reconnect_attempts,
            reconnect_stable_ms: config.reconnect_stable_ms,
            connection: connection_config!(config),
        })
    }
}

/// Makes a client, stopped. Nothing is dialled and no callback comes before wharf_client_start.
///
/// - engine: where it lives; WHARF_DEFAULT_ENGINE for the shared one
/// - config: the configuration; copied, texts included
/// - handler: your callbacks; copied
/// - out: receives the client, or 0
/// - error: receives the details; may be NULL
///
/// You own the client: end it with wharf_client_destroy, or with its engine. If the call fails the handler was not
/// taken: none of its functions is called, on_drop included, and the context is still yours.
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: a pointer is NULL, an address is malformed, or a field is out of range; the message says
///   which
/// - WHARF_E_LIMIT: the engine has max_connections clients already
/// - WHARF_E_STOPPED: the engine is being destroyed
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_client_create(
    engine: wharf_engine,
    config: *const wharf_client_config,
    handler: *const wharf_handler,
    out: *mut wharf_client,
    error: *mut wharf_error,
) -> wharf_status {
    guard_with_error(error, || {
        // SAFETY: the conventions of the header: NULL or good for the call.
        let (out, config, handler) =
            unsafe { (new_handle(out)?, wharf_client_config::read(config)?, CHandler::read(handler)?) };
        out.set(with(engine, Kind::Engine, |engine| engine.client_create(config, handler))?);
        Ok(())
    })
}

/// Begins to connect, and returns at once: on_open tells of the connection, on_close with conn 0 of a failure. Does
/// nothing on a client that is started already.
///
/// - client: the client
/// - error: receives the details; may be NULL
///
/// A client without reconnect_max_ms is stopped again when its connect has failed or its connection has ended, and can
/// then be started anew.
///
/// Errors:
/// - WHARF_E_STATE: it is being stopped (wait for its on_close) or destroyed
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_client_start(client: wharf_client, error: *mut wharf_error) -> wharf_status {
    guard_with_error(error, || with(client, Kind::Client, |engine| engine.client_start(client)))
}

/// Gives the connection that the client has now. One that closes, or was asked to, is none; one of which you closed the
/// sending side still is.
///
/// - client: the client
/// - out: receives the connection, or 0
///
/// Errors:
/// - WHARF_E_STATE: it has none now
/// - WHARF_E_INVALID_ARGUMENT: out is NULL
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_client_conn(client: wharf_client, out: *mut wharf_conn) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let out = unsafe { Out::required(out) }?;
        out.set(with(client, Kind::Client, |engine| engine.client_connection(client))?);
        Ok(())
    })
}

/// Waits until the client has been connected since its start (on_open was called), or has given up.
///
/// - client: the client, started
/// - timeout_ms: how long to wait at most, in milliseconds; WHARF_FOREVER: for ever
/// - error: receives the details of the last attempt; may be NULL
///
/// WHARF_OK means that a connection was made; it may have ended since.
///
/// Errors:
/// - WHARF_E_REFUSED, WHARF_E_UNREACHABLE, WHARF_E_RESOLVE ...: why the last attempt failed, when it has given up
/// - WHARF_E_TIMEOUT: not connected in time, here or within connect_timeout_ms; the message tells which, and whether the
///   resolver gave no answer
/// - WHARF_E_OS, WHARF_E_NO_MEMORY: no thread could be started to resolve its name; the next attempt tries again
/// - WHARF_E_STOPPED: it was stopped before it was connected
/// - WHARF_E_STATE: it was not started
/// - WHARF_E_WOULD_DEADLOCK: called in a callback, or on the thread that turns a caller-driven engine
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
///
/// Any thread of yours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_client_wait(
    client: wharf_client,
    timeout_ms: u32,
    error: *mut wharf_error,
) -> wharf_status {
    let patience = patience(timeout_ms);
    guard_with_error(error, || with(client, Kind::Client, |engine| engine.client_wait(client, patience)))
}

/// Stops connecting, and closes the connection if there is one: queued bytes leave first, within linger_ms; the reason
/// is WHARF_E_STOPPED. Returns at once. The client can be started again after its on_close.
///
/// - client: the client
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle
///
/// Any thread, any callback. On a stopped client it does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_client_stop(client: wharf_client) -> wharf_status {
    guard(|| with(client, Kind::Client, |engine| engine.client_stop(client)))
}

/// Ends a client: stops connecting, closes its connection at once (reason WHARF_E_STOPPED), and after the last on_close
/// calls on_drop. Returns at once; the end goes on behind. To let queued bytes leave, close the connection with
/// WHARF_CLOSE_FLUSH and destroy the client in on_close.
///
/// - client: the client; its handle is stale when on_drop has returned
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no client has this handle (any more)
///
/// Any thread, any callback; calling it again while the end goes on does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_client_destroy(client: wharf_client) -> wharf_status {
    guard(|| with(client, Kind::Client, |engine| engine.client_destroy(client)))
}

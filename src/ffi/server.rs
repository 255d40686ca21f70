//! Server: listens at one address and accepts.
//!
//! Made stopped; wharf_server_start binds and listens; wharf_server_stop drains; it can be started again.
//! wharf_server_destroy ends it.

use std::ffi::c_char;

use super::connection_config::connection_config;
use super::convert::{
    CStruct, Out, TextOut, known_flags, list_in, new_handle, patience, read_struct, text_in, unknown,
};
use super::guard::{guard, guard_with_error};
use super::handler::{CHandler, wharf_handler};
use super::status::wharf_error;
use super::types::{WHARF_TCP_DELAY, wharf_conn, wharf_engine, wharf_server, wharf_status};
use crate::engine::config::{AtLimit, MinReceive, ServerConfig};
use crate::engine::failure::Outcome;
use crate::engine::registry::with;
use crate::pool::handle::Kind;
use crate::port::ListenOptions;
use crate::status::Status;

/// For wharf_server_config.at_limit: connections that are too many stay in the system's backlog until a place is free
/// (and the accept rate allows it).
pub const WHARF_AT_LIMIT_WAIT: u32 = 0;
/// For wharf_server_config.at_limit: connections that are too many are accepted, reset and counted.
pub const WHARF_AT_LIMIT_REJECT: u32 = 1;

/// For wharf_server_config.flags: an IPv6 address takes IPv6 only (IPV6_V6ONLY, RFC 3493). Without it "[::]:8088" takes
/// IPv4, too.
pub const WHARF_SERVER_V6ONLY: u32 = 1;
/// For wharf_server_config.flags: several sockets may listen on the same port (SO_REUSEPORT).
pub const WHARF_SERVER_REUSEPORT: u32 = 2;

/// How a server is made. Zero means the default; address (or listen_fd_plus_one) is needed.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_server_config {
    /// sizeof(wharf_server_config).
    pub struct_size: usize,
    /// Where to listen: "0.0.0.0:8088"; "[::1]:8088"; ":8088" for every address of the machine, IPv6 and IPv4;
    /// "unix:/run/x.sock", or "unix:@name" for the abstract namespace of Linux. Port 0: the system chooses, and
    /// wharf_server_address tells. NULL with listen_fd_plus_one. Copied.
    pub address: *const c_char,
    /// An inherited socket that already listens (socket activation), plus one: 4 for descriptor 3. 0: none. The first
    /// wharf_server_start takes it over and closes it in the end; until then it is yours.
    pub listen_fd_plus_one: i32,
    /// The most connections of this server at a time. 0, or more than the engine's: the engine's max_connections.
    pub max_connections: u32,
    /// What happens to a connection that is one too many, for max_connections or accept_rate_per_s: WHARF_AT_LIMIT_WAIT
    /// or WHARF_AT_LIMIT_REJECT.
    pub at_limit: u32,
    /// Connections that the system keeps until they are accepted (listen(2)). 0: max_connections, as the system allows.
    pub backlog: u32,
    /// WHARF_SERVER_* and WHARF_TCP_* bits.
    pub flags: u32,
    /// The most connections from one IPv4 address, or from one IPv6 /64; one too many is reset and counted. 0: no
    /// bound.
    pub max_connections_per_ip: u32,
    /// The most bytes that may wait in one connection's send queue: 1 to 1073741824. 0: 262144.
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
    /// The system's send buffer of each connection (SO_SNDBUF) in bytes: up to 1073741824. 0: as the system does.
    pub socket_send_buffer_bytes: u32,
    /// The system's receive buffer of each connection (SO_RCVBUF) in bytes: up to 1073741824. 0: as the system does.
    pub socket_receive_buffer_bytes: u32,
    /// Address blocks whose peers are let in, between commas or white space: "10.0.0.0/8, 2001:db8::/32, 192.0.2.7".
    /// At most 1048575 bytes; copied. NULL, or no entry: all. IPv4 peers of a server that takes both are in IPv4 blocks;
    /// peers of a Unix socket are in none, and let in. Who is not let in is reset and counted.
    pub allow: *const c_char,
    /// Address blocks whose peers are not let in, in the same form; stronger than allow. NULL, or no entry: none.
    pub deny: *const c_char,
    /// The most connections that are let in a second, in the long run: up to 1000000. Those that are too many wait in
    /// the backlog or are reset and counted, as at_limit says. 0: no bound.
    pub accept_rate_per_s: u32,
    /// The most connections that are let in at once after a rest: up to 1000000. 0: accept_rate_per_s.
    pub accept_burst: u32,
    /// Close with WHARF_E_TOO_SLOW when a peer sends, but fewer bytes a second than this: up to 1073741824. Measured
    /// from one byte to a later one, over at least min_receive_grace_ms; silence is for idle_timeout_ms to judge, so a
    /// peer that waits for an answer is not slow. Whatever is sent to the peer begins a new measurement, and so does
    /// wharf_conn_resume; not in pull mode. 0: no bound.
    pub min_receive_bytes_per_s: u32,
    /// How long a peer may be slower than that: milliseconds, up to 2147483647. 0: 5000.
    pub min_receive_grace_ms: u32,
}

// SAFETY: repr(C), size first, integers and nullable pointers only, a whole number of words.
unsafe impl CStruct for wharf_server_config {
    const NAME: &'static str = "wharf_server_config";
}

impl wharf_server_config {
    /// The engine's own words for it.
    pub(super) unsafe fn read(config: *const wharf_server_config) -> Outcome<ServerConfig> {
        // SAFETY: the conventions of the header: a config is as large as its struct_size says.
        let config = unsafe { read_struct(config) }?;
        known_flags("flags", config.flags, WHARF_SERVER_V6ONLY | WHARF_SERVER_REUSEPORT | WHARF_TCP_DELAY)?;
        let listen_fd = match config.listen_fd_plus_one {
            0 => None,
            fd if fd > 0 => Some(fd - 1),
            fd => return Err(unknown("listen_fd_plus_one", fd, "a descriptor plus one, or 0")),
        };
        // SAFETY: the conventions of the header: a text is NULL or ends with a NUL.
        let (allow, deny) = unsafe { (list_in("allow", config.allow)?, list_in("deny", config.deny)?) };
        let mut connection = connection_config!(config);
        connection.min_receive =
            MinReceive { bytes_per_s: config.min_receive_bytes_per_s, grace_ms: config.min_receive_grace_ms };
        Ok(ServerConfig {
            // SAFETY: the conventions of the header: a text is NULL or ends with a NUL.
            address: unsafe { text_in("address", config.address) }?.map(str::to_string),
            listen_fd,
            max_connections: config.max_connections,
            at_limit: match config.at_limit {
                WHARF_AT_LIMIT_WAIT => AtLimit::Wait,
                WHARF_AT_LIMIT_REJECT => AtLimit::Reject,
                other => return Err(unknown("at_limit", other, "a WHARF_AT_LIMIT_* constant")),
            },
            listen: ListenOptions {
                backlog: config.backlog,
                v6_only: config.flags & WHARF_SERVER_V6ONLY != 0,
                reuse_port: config.flags & WHARF_SERVER_REUSEPORT != 0,
                ..ListenOptions::default()
            },
            max_connections_per_ip: config.max_connections_per_ip,
            connection,
            allow: allow.map(str::to_string),
            deny: deny.map(str::to_string),
            accept_rate_per_s: config.accept_rate_per_s,
            accept_burst: config.accept_burst,
        })
    }
}

/// Makes a server, stopped. Nothing is bound yet and no callback comes before wharf_server_start.
///
/// - engine: where it lives; WHARF_DEFAULT_ENGINE for the shared one
/// - config: the configuration; copied, texts included
/// - handler: your callbacks; copied
/// - out: receives the server, or 0
/// - error: receives the details; may be NULL
///
/// You own the server: end it with wharf_server_destroy, or with its engine. If the call fails the handler was not
/// taken: none of its functions is called, on_drop included, and the context is still yours.
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: a pointer is NULL, the address or an entry of a list is malformed, or a field is out of
///   range; the message says which
/// - WHARF_E_LIMIT: the engine has 64 servers already
/// - WHARF_E_STOPPED: the engine is being destroyed
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_create(
    engine: wharf_engine,
    config: *const wharf_server_config,
    handler: *const wharf_handler,
    out: *mut wharf_server,
    error: *mut wharf_error,
) -> wharf_status {
    guard_with_error(error, || {
        // SAFETY: the conventions of the header: NULL or good for the call.
        let (out, config, handler) =
            unsafe { (new_handle(out)?, wharf_server_config::read(config)?, CHandler::read(handler)?) };
        out.set(with(engine, Kind::Engine, |engine| engine.server_create(config, handler))?);
        Ok(())
    })
}

/// Binds and listens. Does nothing on a server that runs already.
///
/// - server: the server
/// - error: receives the details; may be NULL
///
/// After a success callbacks may come at once, on other threads, before the call has even returned.
///
/// Errors:
/// - WHARF_E_ADDRESS_IN_USE, WHARF_E_ADDRESS_NOT_AVAILABLE, WHARF_E_PERMISSION: the system does not give the address
/// - WHARF_E_STATE: it is draining (wait first), being destroyed, or its inherited descriptor was used up by an earlier
///   start
/// - WHARF_E_INVALID_ARGUMENT: the inherited descriptor is not a listening socket
/// - WHARF_E_TOO_MANY_FILES, WHARF_E_NO_MEMORY, WHARF_E_UNSUPPORTED, WHARF_E_OS: the system cannot
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_start(server: wharf_server, error: *mut wharf_error) -> wharf_status {
    guard_with_error(error, || with(server, Kind::Server, |engine| engine.server_start(server)))
}

/// Stops accepting at once, and drains behind: every connection is closed as by WHARF_CLOSE_FLUSH, with the reason
/// WHARF_E_STOPPED. What has bytes queued after drain_ms is reset; what has none is closed behind its FIN. Returns at
/// once; wharf_server_wait waits for the end.
///
/// - server: the server
/// - drain_ms: how long the drain may take, in milliseconds; 0: reset at once what has bytes queued
///
/// When it has returned no accept begins any more. What waits in the backlog is reset by the system, unless others hold
/// the listening socket, too (an inherited descriptor): then it waits for them. The drain lets queued bytes leave; it
/// does not wait for answers that your program has yet to produce: a send gives WHARF_E_CLOSED from then on, although
/// on_sent with WHARF_OK still comes for earlier ones. On a stopped server it does nothing; a second stop can only
/// shorten the deadline.
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_stop(server: wharf_server, drain_ms: u32) -> wharf_status {
    guard(|| with(server, Kind::Server, |engine| engine.server_stop(server, drain_ms)))
}

/// Waits until the server is stopped and its last on_close has returned. Returns at once when it does not run.
///
/// - server: the server
/// - timeout_ms: how long to wait at most, in milliseconds; WHARF_FOREVER: for ever
///
/// Errors:
/// - WHARF_E_TIMEOUT: it still runs or drains
/// - WHARF_E_WOULD_DEADLOCK: called in a callback, or on the thread that turns a caller-driven engine
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
///
/// Any thread of yours. It does not stop the server: another thread, a callback or a signal's thread does.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_wait(server: wharf_server, timeout_ms: u32) -> wharf_status {
    guard(|| with(server, Kind::Server, |engine| engine.server_wait(server, patience(timeout_ms))))
}

/// Ends a server: stops it as with drain_ms 0 (reason WHARF_E_STOPPED), and after the last on_close calls
/// on_drop. Returns at once; the end goes on behind. To let queued bytes leave, stop and wait first.
///
/// - server: the server; its handle is stale when on_drop has returned
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle (any more)
///
/// Any thread, any callback; calling it again while the end goes on does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_destroy(server: wharf_server) -> wharf_status {
    guard(|| with(server, Kind::Server, |engine| engine.server_destroy(server)))
}

/// Tells whether the server listens.
///
/// - server: the server
/// - out: receives 1 or 0; it is 0 as soon as a stop was asked for
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: out is NULL
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_is_running(server: wharf_server, out: *mut u8) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let out = unsafe { Out::required(out) }?;
        out.set(with(server, Kind::Server, |engine| engine.server_is_running(server))?.into());
        Ok::<(), Status>(())
    })
}

/// Tells where the server listens, with the real port; before the first start, what it was configured with.
///
/// - server: the server
/// - buf, len, needed: where the text goes (see Strings); 64 bytes are enough for every IP address, 448 for all others
///
/// Errors:
/// - WHARF_E_LIMIT: the text was cut; needed tells how many bytes it takes
/// - WHARF_E_INVALID_ARGUMENT: buf is NULL although len is not 0, or there is nothing to write to
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_address(
    server: wharf_server,
    buf: *mut c_char,
    len: usize,
    needed: *mut usize,
) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let out = unsafe { TextOut::at(buf, len, needed) }?;
        out.write(&with(server, Kind::Server, |engine| engine.server_address(server))?)
    })
}

/// Lists the connections that are open at this moment. By the time you use one it may be gone: then it is stale.
///
/// - server: the server
/// - out: receives the handles; NULL with cap 0 to ask for the number alone
/// - cap: how many there is room for
/// - count: receives how many there are, which may be more than cap
///
/// Errors:
/// - WHARF_E_LIMIT: there are more than cap; the first cap were written
/// - WHARF_E_INVALID_ARGUMENT: count is NULL, or out is NULL although cap is not 0
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_connections(
    server: wharf_server,
    out: *mut wharf_conn,
    cap: usize,
    count: *mut usize,
) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let count = unsafe { Out::required(count) }?;
        if out.is_null() && cap > 0 {
            return Err(Status::InvalidArgument);
        }
        let mut place = 0;
        let mut write = |conn: u64| {
            if place < cap {
                // SAFETY: the caller has room for cap handles.
                unsafe { out.add(place).write_unaligned(conn) };
                place += 1;
            }
        };
        let open = with(server, Kind::Server, |engine| engine.server_connections(server, &mut write))?;
        count.set(open);
        if open <= cap || out.is_null() { Ok(()) } else { Err(Status::Limit) }
    })
}

//! Connection: the same for both sides.
//!
//! A connection belongs to a server or a client, which makes it; you get its handle from on_open. A call on a
//! connection that ended a moment ago gives WHARF_E_STALE (or WHARF_E_CLOSED), and that is all: there is nothing to
//! count or to lock.

use std::ffi::{c_char, c_void};

use super::convert::{CStruct, Out, TextOut, is_zero, read_struct};
use super::guard::guard;
use super::types::{wharf_conn, wharf_status};
use crate::engine::api::Close;
use crate::engine::config::Timeouts;
use crate::engine::failure::Outcome;
use crate::engine::registry::with_connection;
use crate::status::Status;

/// How to close: queued bytes leave, then FIN, then wait for the peer's FIN or linger_ms, so that the last bytes are
/// not destroyed by a reset (RFC 2525, section 2.17). What still arrives is thrown away. The default.
pub const WHARF_CLOSE_FLUSH: u32 = 0;
/// How to close: half-close. Queued bytes leave, then FIN; receiving goes on until the peer ends, too.
pub const WHARF_CLOSE_SEND_SIDE: u32 = 1;
/// How to close: drop what is queued and close.
pub const WHARF_CLOSE_NOW: u32 = 2;
/// How to close: drop what is queued and send RST.
pub const WHARF_CLOSE_RESET: u32 = 3;

/// The deadlines of one connection, for wharf_conn_set_timeouts. Here 0 means: no such deadline.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_timeouts {
    /// sizeof(wharf_timeouts).
    pub struct_size: usize,
    /// Close with WHARF_E_IDLE when nothing came and nothing left for this long: milliseconds, up to 2147483647. 0:
    /// never.
    pub idle_timeout_ms: u32,
    /// Close with WHARF_E_FIRST_BYTE when the peer has sent nothing this long after connecting: milliseconds, up to
    /// 2147483647. 0: never.
    pub first_byte_timeout_ms: u32,
    /// Close with WHARF_E_SEND_STALLED when bytes are queued and the peer takes none for this long: milliseconds, up to
    /// 2147483647. 0: never.
    pub send_stall_timeout_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, integers only, a whole number of words.
unsafe impl CStruct for wharf_timeouts {
    const NAME: &'static str = "wharf_timeouts";
}

/// Stops receiving: no more on_receive. The system's buffer fills, the TCP window closes, and the peer feels it. A
/// paused connection does not learn that the peer ended its side; it does learn that it broke, and what had come by then
/// is told before on_close. Bytes that wait in the system count for the deadlines: a peer that has sent is not silent.
///
/// - conn: the connection
///
/// Called inside a callback of the connection, nothing comes after it; called by another thread, an on_receive that is
/// already under way may still be running. In pull mode it does nothing.
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_pause(conn: wharf_conn) -> wharf_status {
    guard(|| with_connection(conn, |connections, _| connections.pause(conn)))
}

/// Receives again after wharf_conn_pause. Pauses do not add up: one resume ends them all.
///
/// - conn: the connection
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_resume(conn: wharf_conn) -> wharf_status {
    guard(|| with_connection(conn, |connections, _| connections.resume(conn)))
}

/// Closes a connection. Returns at once; on_close tells when it is gone.
///
/// - conn: the connection
/// - how: WHARF_CLOSE_FLUSH (0), WHARF_CLOSE_SEND_SIDE, WHARF_CLOSE_NOW or WHARF_CLOSE_RESET
///
/// A stronger way overrides a weaker one that is still under way (SEND_SIDE, FLUSH, NOW, RESET, from weak to strong); a
/// weaker one changes nothing. Further sends get WHARF_E_CLOSED. After FLUSH, NOW and RESET no more on_receive comes
/// (one may still be running when another thread closes), only on_sent for sends that are owed one, and on_close.
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: how is none of the four
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_close(conn: wharf_conn, how: u32) -> wharf_status {
    guard(|| {
        let how = match how {
            WHARF_CLOSE_FLUSH => Close::Flush,
            WHARF_CLOSE_SEND_SIDE => Close::SendSide,
            WHARF_CLOSE_NOW => Close::Now,
            WHARF_CLOSE_RESET => Close::Reset,
            _ => return Err(Status::InvalidArgument),
        };
        with_connection(conn, |connections, _| connections.close(conn, how))
    })
}

/// Keeps one pointer of yours with the connection. The engine never looks at what it points to, and does not free it:
/// do that in on_close. It is NULL when the connection opens.
///
/// - conn: the connection
/// - data: any pointer, also NULL
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_set_data(conn: wharf_conn, data: *mut c_void) -> wharf_status {
    guard(|| with_connection(conn, |connections, _| connections.set_data(conn, data as usize)))
}

/// Gives the pointer back that wharf_conn_set_data keeps. Good in on_close, too.
///
/// - conn: the connection
/// - out: receives the pointer, or NULL
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: out is NULL
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_data(conn: wharf_conn, out: *mut *mut c_void) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable; a pointer is as large as the word that is kept.
        let out = unsafe { Out::<usize>::required(out.cast()) }?;
        out.set(with_connection(conn, |connections, _| connections.data(conn))?);
        Ok(())
    })
}

/// Tells who the peer is: "192.0.2.7:40112", "[2001:db8::7]:40112", "[fe80::7%3]:40112", "unix:/run/x.sock" (see
/// Addresses). The peer of a client is where it connected to. The peer of a server on a Unix socket has the name that
/// its own socket was bound to, or none: "unix:". An IPv4 peer of a server that takes both comes as plain IPv4.
///
/// - conn: the connection
/// - buf, len, needed: where the text goes (see Strings); 64 bytes are enough for every IP address, 448 for all others
///
/// Errors:
/// - WHARF_E_LIMIT: the text was cut; needed tells how many bytes it takes
/// - WHARF_E_INVALID_ARGUMENT: buf is NULL although len is not 0, or there is nothing to write to
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback; good in on_close, too, although the socket is closed by then. (A name of a Unix socket is
/// the system's to tell: one that forgets it when the peer goes makes it "unix:". Linux keeps it.)
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_peer_address(
    conn: wharf_conn,
    buf: *mut c_char,
    len: usize,
    needed: *mut usize,
) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let out = unsafe { TextOut::at(buf, len, needed) }?;
        out.write(&with_connection(conn, |connections, _| connections.peer_address(conn))?)
    })
}

/// Tells our own end of the connection, in the same form.
///
/// - conn: the connection
/// - buf, len, needed: where the text goes (see Strings); 64 bytes are enough for every IP address, 448 for all others
///
/// Errors:
/// - WHARF_E_LIMIT: the text was cut; needed tells how many bytes it takes
/// - WHARF_E_CLOSED: the socket is closed already
/// - WHARF_E_INVALID_ARGUMENT: buf is NULL although len is not 0, or there is nothing to write to
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_local_address(
    conn: wharf_conn,
    buf: *mut c_char,
    len: usize,
    needed: *mut usize,
) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let out = unsafe { TextOut::at(buf, len, needed) }?;
        out.write(&with_connection(conn, |connections, _| connections.local_address(conn))?)
    })
}

/// Changes the deadlines of one connection, all three at once. They begin with those of its server or client.
///
/// - conn: the connection
/// - timeouts: the new ones; 0: no such deadline
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: timeouts is NULL, struct_size is wrong, or a field is out of range
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_set_timeouts(conn: wharf_conn, timeouts: *const wharf_timeouts) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or as large as struct_size says.
        let timeouts = unsafe { wharf_timeouts::read(timeouts) };
        let set = timeouts
            .and_then(|timeouts| with_connection(conn, |connections, _| connections.set_timeouts(conn, timeouts)));
        set.map_err(|failure| failure.status)
    })
}

impl wharf_timeouts {
    /// The engine's own words for it.
    unsafe fn read(timeouts: *const wharf_timeouts) -> Outcome<Timeouts> {
        // SAFETY: the conventions of the header: timeouts are as large as their struct_size says.
        let timeouts = unsafe { read_struct(timeouts) }?;
        is_zero("reserved", timeouts.reserved)?;
        Ok(Timeouts {
            idle_ms: timeouts.idle_timeout_ms,
            first_byte_ms: timeouts.first_byte_timeout_ms,
            send_stall_ms: timeouts.send_stall_timeout_ms,
        })
    }
}

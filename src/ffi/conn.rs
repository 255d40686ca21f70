//! Connection: the same for both sides.
//!
//! A connection belongs to a server or a client, which makes it; you get its handle from on_open. A call on a connection that
//! ended a moment ago gives WHARF_E_STALE (or WHARF_E_CLOSED), and that is all: there is nothing to count or to lock.

use std::ffi::{c_char, c_void};

use super::convert::{CStruct, Out, TextOut, bytes_in, bytes_out, is_zero, patience, read_struct};
use super::guard::guard;
use super::types::{wharf_conn, wharf_status};
use crate::engine::api::Close;
use crate::engine::config::Timeouts;
use crate::engine::failure::Outcome;
use crate::engine::registry::with;
use crate::pool::handle::Kind;
use crate::status::Status;

/// How to close: queued bytes leave, then FIN, then wait for the peer's FIN or linger_ms, so that the last bytes are not
/// destroyed by a reset (RFC 2525, section 2.17). What still arrives is thrown away. The default.
pub const WHARF_CLOSE_FLUSH: u32 = 0;
/// How to close: half-close. Queued bytes leave, then FIN; receiving goes on until the peer ends, too.
pub const WHARF_CLOSE_SEND_SIDE: u32 = 1;
/// How to close: drop what is queued and close.
pub const WHARF_CLOSE_NOW: u32 = 2;
/// How to close: drop what is queued and send RST.
pub const WHARF_CLOSE_RESET: u32 = 3;

/// The most slices of one wharf_sendv.
pub const WHARF_MAX_SLICES: usize = 64;

/// A piece of what wharf_sendv sends.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_slice {
    /// The bytes. NULL is good for none.
    pub data: *const c_void,
    /// How many.
    pub len: usize,
}

/// The deadlines of one connection, for wharf_conn_set_timeouts. Here 0 means: no such deadline.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_timeouts {
    /// sizeof(wharf_timeouts).
    pub struct_size: usize,
    /// Close with WHARF_E_IDLE when nothing came and nothing left for this long: milliseconds, up to 2147483647. 0: never.
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

/// Sends bytes: all of them, or none.
///
/// - conn: the connection
/// - data, len: the bytes; copied or sent before the call returns. 0 bytes are sent by doing nothing
///
/// Never blocks. On a connection with nothing queued the bytes go straight to the system from this thread. Inside a callback of
/// the connection's worker small sends are held back until the callback returns, and then leave together. What the system has no
/// room for waits in the queue. The bytes of one connection leave in the order in which the calls were taken.
///
/// Errors (nothing of it was taken):
/// - WHARF_E_QUEUE_FULL: the connection's queue has no room for it: keep it and wait for on_writable
/// - WHARF_E_POOL_EXHAUSTED: the engine's pool has no room for it: the same
/// - WHARF_E_LIMIT: len is larger than send_queue_limit_bytes: split it, or use wharf_send_wait
/// - WHARF_E_CLOSED: the sending side is closed
/// - WHARF_E_INVALID_ARGUMENT: data is NULL although len is not 0, or len is more than half of the address space
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_send(conn: wharf_conn, data: *const c_void, len: usize) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: len bytes are readable.
        let data = unsafe { bytes_in(data, len) }?;
        with(conn, Kind::Connection, |engine| engine.send(conn, &[data], 0))
    })
}

/// Sends several pieces as one: all of them, or none. Optionally tells when they are gone.
///
/// - conn: the connection
/// - slices, count: the pieces, in order; at most WHARF_MAX_SLICES; copied or sent before the call returns
/// - token: comes back in one on_sent when the last byte was handed to the system, or never will be; 0: no on_sent
/// - flags: must be 0
///
/// As wharf_send in everything else. Without any bytes, on_sent comes when everything before it is gone.
///
/// Errors (nothing of it was taken, and no on_sent comes):
/// - WHARF_E_QUEUE_FULL, WHARF_E_POOL_EXHAUSTED, WHARF_E_LIMIT, WHARF_E_CLOSED: as for wharf_send, for all pieces together
/// - WHARF_E_INVALID_ARGUMENT: slices is NULL although count is not 0, a data is NULL although its len is not 0, count is too
///   large, or flags is not 0
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_sendv(
    conn: wharf_conn,
    slices: *const wharf_slice,
    count: usize,
    token: u64,
    flags: u32,
) -> wharf_status {
    guard(|| {
        if count > WHARF_MAX_SLICES || (slices.is_null() && count > 0) || flags != 0 {
            return Err(Status::InvalidArgument);
        }
        let mut pieces: [&[u8]; WHARF_MAX_SLICES] = [&[]; WHARF_MAX_SLICES];
        let mut total = 0_usize;
        for (place, piece) in pieces.iter_mut().enumerate().take(count) {
            // SAFETY: the conventions of the header: count slices are readable, and the bytes that each of them names.
            *piece = unsafe {
                let slice = slices.add(place).read_unaligned();
                bytes_in(slice.data, slice.len)?
            };
            total = total.checked_add(piece.len()).ok_or(Status::InvalidArgument)?;
        }
        if total > isize::MAX as usize {
            return Err(Status::InvalidArgument);
        }
        with(conn, Kind::Connection, |engine| engine.send(conn, &pieces[..count], token))
    })
}

/// Sends bytes and waits until all of them were taken (handed to the system or queued). May be larger than
/// send_queue_limit_bytes: it takes pieces as room appears.
///
/// - conn: the connection
/// - data, len: the bytes
/// - timeout_ms: how long to wait at most, in milliseconds; WHARF_FOREVER: for ever
/// - taken: receives how many bytes were taken, whatever the result; those will leave; may be NULL
///
/// Sends of other threads may come between the pieces.
///
/// Errors:
/// - WHARF_E_TIMEOUT: not all was taken in time
/// - WHARF_E_WOULD_DEADLOCK: called in a callback, or on the thread that turns a caller-driven engine
/// - WHARF_E_CLOSED: the sending side is closed, or was while this waited
/// - WHARF_E_INVALID_ARGUMENT: data is NULL although len is not 0, or len is more than half of the address space
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread of yours.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_send_wait(
    conn: wharf_conn,
    data: *const c_void,
    len: usize,
    timeout_ms: u32,
    taken: *mut usize,
) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable; len bytes are readable.
        let (out, data) = unsafe { (Out::optional(taken), bytes_in(data, len)?) };
        let mut taken = 0;
        let sent = with(conn, Kind::Connection, |engine| {
            engine.send_wait(conn, data, patience(timeout_ms), &mut taken)
        });
        out.set(taken);
        sent
    })
}

/// Receives in pull mode: waits until bytes are there and copies what there is, at most len. For connections of a handler without
/// on_receive; nothing is read from the system before you ask, so the peer feels it when you do not.
///
/// - conn: the connection
/// - buf, len: where the bytes go; at least 1
/// - timeout_ms: how long to wait at most, in milliseconds; 0: take what is there; WHARF_FOREVER: for ever
/// - got: receives how many bytes were written: at least 1 on success, 0 otherwise
///
/// Errors:
/// - WHARF_E_END_OF_STREAM: the peer has sent all that it will send; the connection stays until you close it
/// - WHARF_E_TIMEOUT: nothing came in time
/// - WHARF_E_CLOSED: the connection was closed by this side
/// - WHARF_E_RESET, WHARF_E_IDLE ...: what ended the connection otherwise
/// - WHARF_E_STATE: the handler has an on_receive
/// - WHARF_E_WOULD_DEADLOCK: called in a callback, or on the thread that turns a caller-driven engine
/// - WHARF_E_INVALID_ARGUMENT: buf or got is NULL, or len is 0
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread of yours; one at a time, if the order of the bytes matters.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_receive_wait(
    conn: wharf_conn,
    buf: *mut c_void,
    len: usize,
    timeout_ms: u32,
    got: *mut usize,
) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let (got, buffer) = unsafe { (Out::required(got)?, bytes_out(buf, len)?) };
        let patience = patience(timeout_ms);
        got.set(with(conn, Kind::Connection, |engine| engine.receive_wait(conn, buffer, patience))?);
        Ok(())
    })
}

/// Stops receiving: no more on_receive. The system's buffer fills, the TCP window closes, and the peer feels it. A paused
/// connection does not learn that the peer ended its side; it does learn that it broke.
///
/// - conn: the connection
///
/// Called inside a callback of the connection, nothing comes after it; called by another thread, an on_receive that is already
/// under way may still be running. In pull mode it does nothing.
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_conn_pause(conn: wharf_conn) -> wharf_status {
    guard(|| with(conn, Kind::Connection, |engine| engine.pause(conn)))
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
    guard(|| with(conn, Kind::Connection, |engine| engine.resume(conn)))
}

/// Closes a connection. Returns at once; on_close tells when it is gone.
///
/// - conn: the connection
/// - how: WHARF_CLOSE_FLUSH (0), WHARF_CLOSE_SEND_SIDE, WHARF_CLOSE_NOW or WHARF_CLOSE_RESET
///
/// A stronger way overrides a weaker one that is still under way (SEND_SIDE, FLUSH, NOW, RESET, from weak to strong); a weaker one
/// changes nothing. Further sends get WHARF_E_CLOSED. After FLUSH, NOW and RESET no more on_receive comes (one may still be
/// running when another thread closes), only on_sent for sends that are owed one, and on_close.
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
        with(conn, Kind::Connection, |engine| engine.close(conn, how))
    })
}

/// Keeps one pointer of yours with the connection. The engine never looks at what it points to, and does not free it: do that in
/// on_close. It is NULL when the connection opens.
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
    guard(|| with(conn, Kind::Connection, |engine| engine.set_data(conn, data as usize)))
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
        out.set(with(conn, Kind::Connection, |engine| engine.data(conn))?);
        Ok(())
    })
}

/// Tells who the peer is: "192.0.2.7:40112", "[2001:db8::7]:40112", "unix:/run/x.sock"; "unix:" when its socket has no name.
/// An IPv4 peer of a server that takes both comes as plain IPv4.
///
/// - conn: the connection
/// - buf, len, needed: where the text goes (see Strings); 64 bytes are enough for every IP address
///
/// Errors:
/// - WHARF_E_LIMIT: the text was cut; needed tells how many bytes it takes
/// - WHARF_E_INVALID_ARGUMENT: buf is NULL although len is not 0, or there is nothing to write to
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no connection has this handle (any more)
///
/// Any thread, any callback; good in on_close, too.
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
        out.write(&with(conn, Kind::Connection, |engine| engine.peer_address(conn))?)
    })
}

/// Tells our own end of the connection, in the same form.
///
/// - conn: the connection
/// - buf, len, needed: where the text goes (see Strings); 64 bytes are enough for every IP address
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
        out.write(&with(conn, Kind::Connection, |engine| engine.local_address(conn))?)
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
            .and_then(|timeouts| with(conn, Kind::Connection, |engine| engine.set_timeouts(conn, timeouts)));
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

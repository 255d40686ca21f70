//! Sending and receiving.
//!
//! A send is taken whole or not at all, and the bytes of one connection leave in the order in which the calls were
//! taken, whatever the threads. What the system has no room for waits in the connection's queue, which is bounded; a
//! send that finds no room is refused, and on_writable tells when there is some again.
//!
//! What arrives comes by on_receive. A handler without on_receive asks for it instead (pull mode): wharf_receive_wait.

use std::ffi::c_void;

use super::convert::{CStruct, Out, OutStruct, bytes_in, bytes_out, patience};
use super::guard::guard;
use super::types::{wharf_conn, wharf_server, wharf_status};
use crate::engine::registry::{with, with_connection, with_connection_waiting};
use crate::pool::handle::Kind;
use crate::status::Status;

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

/// How many connections a broadcast reached. Set struct_size before the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_broadcast_result {
    /// sizeof(wharf_broadcast_result).
    pub struct_size: usize,
    /// Connections that took the bytes, whole.
    pub taken: u32,
    /// Connections that took none of them: no room in their queue or in the pool, or they are closing. Each of those
    /// without room gets its on_writable.
    pub refused: u32,
}

// SAFETY: repr(C), size first, integers only, a whole number of words.
unsafe impl CStruct for wharf_broadcast_result {
    const NAME: &'static str = "wharf_broadcast_result";
}

/// Sends bytes: all of them, or none.
///
/// - conn: the connection
/// - data, len: the bytes; copied or sent before the call returns. 0 bytes are sent by doing nothing
///
/// Never blocks. On a connection with nothing queued the bytes go straight to the system from this thread; when other
/// threads send so much that the worker keeps up better, small sends are left to it and leave together. Inside a
/// callback of the connection's worker small sends are held back until the callback returns, and then leave together.
/// What the system has no room for waits in the queue. The bytes of one connection leave in the order in which the
/// calls were taken.
///
/// Errors (nothing of it was taken):
/// - WHARF_E_QUEUE_FULL: the connection's queue has no room for it: keep it and wait for on_writable
/// - WHARF_E_POOL_EXHAUSTED: the engine's pool has no room for it: the same
/// - WHARF_E_LIMIT: len is larger than send_queue_limit_bytes, or than the whole pool: split it, or use wharf_send_wait
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
        with_connection(conn, |connections, caller| match caller {
            Some(caller) if connections.answer(conn, data, caller) => Ok(()),
            _ => connections.send(conn, &[data], 0, caller),
        })
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
/// - WHARF_E_QUEUE_FULL, WHARF_E_POOL_EXHAUSTED, WHARF_E_LIMIT, WHARF_E_CLOSED: as for wharf_send, for all pieces
///   together
/// - WHARF_E_INVALID_ARGUMENT: slices is NULL although count is not 0, a data is NULL although its len is not 0, count
///   is too large, or flags is not 0
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
        // Most sends have few pieces, and setting all places aside would cost them more than the send.
        let (mut few, mut many): ([&[u8]; 4], [&[u8]; WHARF_MAX_SLICES]);
        let pieces: &mut [&[u8]] = if count <= 4 {
            few = [&[]; 4];
            &mut few[..count]
        } else {
            many = [&[]; WHARF_MAX_SLICES];
            &mut many[..count]
        };
        // SAFETY: the conventions of the header: count slices are readable, and the bytes that each of them names.
        unsafe { gather(slices, pieces) }?;
        with_connection(conn, |connections, caller| connections.send(conn, pieces, token, caller))
    })
}

/// Reads as many slices as there are places; together they must not be longer than memory can be.
///
/// # Safety
/// That many slices are readable, and the bytes that each of them names, while the places live.
unsafe fn gather(slices: *const wharf_slice, places: &mut [&[u8]]) -> Result<(), Status> {
    let mut total = 0_usize;
    for (index, place) in places.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *place = unsafe {
            let slice = slices.add(index).read_unaligned();
            bytes_in(slice.data, slice.len)?
        };
        total = total.checked_add(place.len()).ok_or(Status::InvalidArgument)?;
    }
    if total > isize::MAX as usize { Err(Status::InvalidArgument) } else { Ok(()) }
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
        let sent = with_connection_waiting(conn, |connections| {
            connections.send_wait(conn, data, patience(timeout_ms), &mut taken)
        });
        out.set(taken);
        sent
    })
}

/// Receives in pull mode: waits until bytes are there and copies what there is, at most len. For connections of a
/// handler without on_receive; nothing is read from the system before you ask, so the peer feels it when you do not.
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
        got.set(with_connection_waiting(conn, |connections| connections.receive_wait(conn, buffer, patience))?);
        Ok(())
    })
}

/// Sends the same bytes to all connections of a server that have room; each takes them whole or not at all. Those
/// without room are left out and counted: a broadcast never waits for the slowest.
///
/// - server: the server
/// - data, len: the bytes; copied
/// - except: a connection that is left out (the one that said it), or 0
/// - result: receives how many took it; set its struct_size; may be NULL
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: data is NULL although len is not 0, or struct_size of result is wrong
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no server has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_server_broadcast(
    server: wharf_server,
    data: *const c_void,
    len: usize,
    except: wharf_conn,
    result: *mut wharf_broadcast_result,
) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or a writable struct whose struct_size is set.
        let result = if result.is_null() { None } else { Some(unsafe { OutStruct::at(result) }?) };
        // SAFETY: the conventions of the header: len bytes are readable.
        let data = unsafe { bytes_in(data, len) }?;
        let reached = with(server, Kind::Server, |engine| engine.server_broadcast(server, data, except))?;
        if let Some(result) = result {
            let (taken, refused) = (reached.taken, reached.refused);
            result.write(&wharf_broadcast_result { struct_size: 0, taken, refused });
        }
        Ok(())
    })
}

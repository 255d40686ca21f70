//! Handler: how the engine tells you what happens.
//!
//! One struct of functions and one context, given when a server or client is made. It is copied; the struct may go away
//! at once. Any function may be NULL; for two of them that changes what the engine does:
//! - without on_receive its connections are in pull mode: bytes stay in the kernel until wharf_receive_wait asks for
//!   them;
//! - without on_end a connection is closed, queued bytes first, when the peer ends its side.
//!
//! A server may be asked for its consent before there is a connection: on_admit.
//!
//! The callbacks of one connection never run at the same time. They come in this order: on_open; then on_receive,
//! on_sent, on_writable and on_end as things happen; then on_close, exactly once; then nothing. They run on worker
//! threads, or inside wharf_engine_turn of a caller-driven engine - never inside another call of yours. A C++ exception
//! or a longjmp must not leave a callback: it would cross frames that do not know of it.

use std::ffi::{c_char, c_void};

use super::convert::{CStruct, read_struct};
use super::text::write_text;
use super::types::{wharf_conn, wharf_status};
use crate::engine::events::{Handler, Wants};
use crate::engine::failure::Outcome;
use crate::status::Status;

/// For the result of on_admit: the connection is reset, and counted as refused_by_host.
pub const WHARF_ADMIT_REFUSE: i32 = 0;
/// For the result of on_admit: the connection is let in.
pub const WHARF_ADMIT_ACCEPT: i32 = 1;

/// Whether a peer is let in. A server asks for each connection that its lists and its rate let in, before there is a
/// connection: it has no handle yet, and a refused one never gets one, nor any other callback. Not called for clients.
///
/// - context: the handler's
/// - peer_address: as wharf_conn_peer_address tells it, with a NUL at the end; lives for the call
/// - len: its length, without the NUL
///
/// Returns WHARF_ADMIT_ACCEPT to let it in; anything else (0, which a failed callback of many languages returns)
/// refuses it. Whether it then finds a place is for max_connections and max_connections_per_ip to say, so not each
/// connection that is let in here gets its on_open; and the on_open may come on another worker, while this one asks
/// about the next peer already.
///
/// Called on the worker that accepts. With one worker never at the same time as another callback; with several workers
/// several may ask at once, but none any more when on_drop is called. It holds up all connections of its worker: look
/// something up, do not wait for something.
pub type wharf_on_admit =
    Option<unsafe extern "C" fn(context: *mut c_void, peer_address: *const c_char, len: usize) -> i32>;

/// The connection is there: it was accepted, or the connect has succeeded. Always the first call for a connection.
///
/// - context: the handler's
/// - conn: the connection; good until its on_close has returned
pub type wharf_on_open = Option<unsafe extern "C" fn(context: *mut c_void, conn: wharf_conn)>;

/// Bytes arrived. TCP carries a stream, not messages (RFC 9293): how it is cut into calls is chance.
///
/// - context: the handler's
/// - conn: the connection
/// - data: the bytes; they live for the call: copy what you keep
/// - len: how many; at least 1, at most receive_buffer_bytes of the engine
///
/// None comes after wharf_conn_pause or wharf_conn_close was called inside a callback of the connection. When another
/// thread calls them, one that is already under way may still be running. One exception: when a paused connection ends
/// for a reason that is not yours (a reset, a send that failed, a deadline), what had come by then is told before
/// on_close.
pub type wharf_on_receive =
    Option<unsafe extern "C" fn(context: *mut c_void, conn: wharf_conn, data: *const u8, len: usize)>;

/// A send with a token is done with. Comes exactly once for each wharf_sendv that was taken with a token other than 0,
/// in the order of the sends, and before on_close.
///
/// - context: the handler's
/// - conn: the connection
/// - token: the one of the send
/// - status: WHARF_OK: its last byte was handed to the system (which does not mean that it arrived: only an answer of
///   the peer proves that); otherwise the reason for which it never will be (WHARF_E_CLOSED: a close of yours threw it
///   away)
pub type wharf_on_sent =
    Option<unsafe extern "C" fn(context: *mut c_void, conn: wharf_conn, token: u64, status: wharf_status)>;

/// Room again. Comes once after a send was refused with WHARF_E_QUEUE_FULL or WHARF_E_POOL_EXHAUSTED, as soon as at
/// least half of send_queue_limit_bytes is free (and the pool has blocks). A send in it may be refused again; then it
/// comes again.
///
/// - context: the handler's
/// - conn: the connection
pub type wharf_on_writable = Option<unsafe extern "C" fn(context: *mut c_void, conn: wharf_conn)>;

/// The peer will send no more (it sent FIN). You may go on sending; when you are done, close with WHARF_CLOSE_SEND_SIDE
/// or WHARF_CLOSE_FLUSH. Without this function the connection is closed for you, queued bytes first.
///
/// - context: the handler's
/// - conn: the connection
pub type wharf_on_end = Option<unsafe extern "C" fn(context: *mut c_void, conn: wharf_conn)>;

/// The connection is gone: exactly once for each that was opened, and the last call for it. Inside it the handle is
/// still good for reading (wharf_conn_data, wharf_conn_peer_address, wharf_conn_stats); when it returns the handle is
/// stale.
///
/// A client's connect that failed is told here, too: with conn 0 and the reason, and without an on_open; once for each
/// attempt of a client that reconnects.
///
/// - context: the handler's
/// - conn: the connection, or 0
/// - reason: what ended it:
///   - WHARF_OK: this side closed it, as asked; after WHARF_CLOSE_FLUSH all bytes have left
///   - WHARF_E_END_OF_STREAM: the peer ended its side, and this side followed
///   - WHARF_E_RESET: the peer reset it
///   - WHARF_E_IDLE, WHARF_E_FIRST_BYTE, WHARF_E_SEND_STALLED: the timeout of that name passed
///   - WHARF_E_TOO_SLOW: it sent more slowly than min_receive_bytes_per_s
///   - WHARF_E_TIMEOUT: the peer answered neither keepalive probes nor what was sent to it; or a flushing close met its
///     linger deadline with bytes unsent; with conn 0: connect_timeout_ms passed
///   - WHARF_E_STOPPED: the server, client or engine was stopped or destroyed
///   - WHARF_E_REFUSED, WHARF_E_UNREACHABLE, WHARF_E_RESOLVE, WHARF_E_LIMIT ... with conn 0: why the connect failed
///   - WHARF_E_PANIC: a fault inside the library was contained to this connection; please report it
///   - any other: the system's error, translated
pub type wharf_on_close = Option<unsafe extern "C" fn(context: *mut c_void, conn: wharf_conn, reason: wharf_status)>;

/// The last call of a handler, exactly once, after its server or client was destroyed and the last on_close has
/// returned. Nothing uses the context any more: free it here. Not called when the create failed: then the context is
/// still yours.
///
/// - context: the handler's
pub type wharf_on_drop = Option<unsafe extern "C" fn(context: *mut c_void)>;

/// What you want to be told of a server's or client's connections.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_handler {
    /// sizeof(wharf_handler).
    pub struct_size: usize,
    /// The first argument of every call. Used on worker threads. The engine never looks at what it points to; free it
    /// in on_drop.
    pub context: *mut c_void,
    /// The connection is there.
    pub on_open: wharf_on_open,
    /// Bytes arrived. NULL: pull mode.
    pub on_receive: wharf_on_receive,
    /// A send with a token is done with.
    pub on_sent: wharf_on_sent,
    /// Room again after a refused send.
    pub on_writable: wharf_on_writable,
    /// The peer will send no more. NULL: close, queued bytes first.
    pub on_end: wharf_on_end,
    /// The connection is gone, or (conn 0) a connect failed.
    pub on_close: wharf_on_close,
    /// The last call of all.
    pub on_drop: wharf_on_drop,
    /// Whether a server lets a peer in. NULL: it does.
    pub on_admit: wharf_on_admit,
}

// SAFETY: repr(C), size first, nullable pointers only, a whole number of words.
unsafe impl CStruct for wharf_handler {
    const NAME: &'static str = "wharf_handler";
}

/// More than the address of any peer takes: the name of a Unix socket can need four characters for each byte.
const PEER_BYTES: usize = 448;

/// Calls the user's functions.
pub struct CHandler(wharf_handler);

// SAFETY: the header says that callbacks run on worker threads, those of different connections at the same time; the
// user's functions and context are made for that.
unsafe impl Send for CHandler {}
// SAFETY: the same.
unsafe impl Sync for CHandler {}

impl CHandler {
    /// Copies the user's struct.
    ///
    /// # Safety `handler` is NULL or points to a struct as large as its `struct_size` says; its functions have the
    /// header's types.
    pub unsafe fn read(handler: *const wharf_handler) -> Outcome<Box<CHandler>> {
        // SAFETY: the caller's promise.
        let handler = unsafe { read_struct(handler) }?;
        Ok(Box::new(CHandler(handler)))
    }
}

// Each call below is made as the header says: with the user's context, on a worker or in a turn, in the order of the
// engine.
impl Handler for CHandler {
    fn wants(&self) -> Wants {
        Wants { receive: self.0.on_receive.is_some(), end: self.0.on_end.is_some(), admit: self.0.on_admit.is_some() }
    }

    fn on_admit(&self, peer: &str) -> bool {
        let Some(call) = self.0.on_admit else { return true };
        let mut text = [0 as c_char; PEER_BYTES];
        // SAFETY: the buffer is as large as we say; the user's function, called as the header says, with a text for the
        // call.
        unsafe {
            write_text(peer, text.as_mut_ptr(), text.len());
            call(self.0.context, text.as_ptr(), peer.len().min(text.len() - 1)) == WHARF_ADMIT_ACCEPT
        }
    }

    fn on_open(&self, conn: u64) {
        if let Some(call) = self.0.on_open {
            // SAFETY: the user's function, called as the header says.
            unsafe { call(self.0.context, conn) }
        }
    }

    fn on_receive(&self, conn: u64, data: &[u8]) {
        if let Some(call) = self.0.on_receive {
            // SAFETY: the user's function, called as the header says; the bytes live for the call.
            unsafe { call(self.0.context, conn, data.as_ptr(), data.len()) }
        }
    }

    fn on_sent(&self, conn: u64, token: u64, status: Status) {
        if let Some(call) = self.0.on_sent {
            // SAFETY: the user's function, called as the header says.
            unsafe { call(self.0.context, conn, token, status.code()) }
        }
    }

    fn on_writable(&self, conn: u64) {
        if let Some(call) = self.0.on_writable {
            // SAFETY: the user's function, called as the header says.
            unsafe { call(self.0.context, conn) }
        }
    }

    fn on_end(&self, conn: u64) {
        if let Some(call) = self.0.on_end {
            // SAFETY: the user's function, called as the header says.
            unsafe { call(self.0.context, conn) }
        }
    }

    fn on_close(&self, conn: u64, reason: Status) {
        if let Some(call) = self.0.on_close {
            // SAFETY: the user's function, called as the header says.
            unsafe { call(self.0.context, conn, reason.code()) }
        }
    }

    fn on_drop(&self) {
        if let Some(call) = self.0.on_drop {
            // SAFETY: the user's function, called as the header says; the engine makes no call after this one.
            unsafe { call(self.0.context) }
        }
    }
}

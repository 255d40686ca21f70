//! A handler that sends back what it gets, and keeps what there is no room for: at most one piece a connection, which is
//! paused meanwhile. It counts its calls.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::common::*;

/// The first byte of a connection that wants its bytes back.
pub const ECHO: u8 = b'E';
/// The first byte of a connection that wants to be sent to without end.
pub const HOSE: u8 = b'F';
/// The largest piece that is received, and so the most that is kept for a connection that does not read.
pub const PIECE: usize = 16 << 10;
/// The handler's own memory for each connection, with what the allocator adds.
pub const MINE_BYTES: u64 = 64;

/// Counts of one or several handlers.
#[derive(Default)]
pub struct Echo {
    pub opens: AtomicU64,
    pub closes: AtomicU64,
    pub drops: AtomicU64,
    /// Connections that began with neither of the two bytes; they are reset.
    pub strangers: AtomicU64,
    /// Bytes that are kept now, and the most that ever were.
    pub kept: AtomicU64,
    pub kept_peak: AtomicU64,
    /// Closes by their reason.
    pub reasons: Reasons,
}

/// A number for each status.
pub struct Reasons([AtomicU64; 64]);

impl Default for Reasons {
    fn default() -> Reasons {
        Reasons([const { AtomicU64::new(0) }; 64])
    }
}

impl Reasons {
    pub fn count(&self, reason: wharf_status) {
        self.0[-reason as usize].fetch_add(1, SeqCst);
    }

    /// Those that there were: name and number.
    pub fn all(&self) -> Vec<(String, u64)> {
        let all = self.0.iter().enumerate().map(|(code, times)| (name(-(code as i32)), times.load(SeqCst)));
        all.filter(|(_, times)| *times > 0).collect()
    }
}

impl Echo {
    /// A handler that counts here. Its `on_drop` gives the reference back.
    pub fn handler(self: &Arc<Echo>) -> wharf_handler {
        wharf_handler {
            struct_size: size_of::<wharf_handler>(),
            context: Arc::into_raw(self.clone()) as *mut c_void,
            on_open: Some(on_open),
            on_receive: Some(on_receive),
            on_sent: Some(on_sent),
            on_writable: Some(on_writable),
            on_end: None,
            on_close: Some(on_close),
            on_drop: Some(on_drop),
            on_admit: None,
        }
    }
}

/// What the handler keeps for a connection.
#[derive(Default)]
struct Mine {
    first: u8,
    /// What could not be sent back; the connection is paused meanwhile.
    kept: Vec<u8>,
}

unsafe fn echo_of<'a>(context: *mut c_void) -> &'a Echo {
    unsafe { &*(context as *const Echo) }
}

unsafe fn mine<'a>(conn: wharf_conn) -> &'a mut Mine {
    let mut data = std::ptr::null_mut();
    ok(unsafe { wharf_conn_data(conn, &mut data) });
    unsafe { &mut *(data as *mut Mine) }
}

unsafe extern "C" fn on_open(context: *mut c_void, conn: wharf_conn) {
    unsafe { echo_of(context) }.opens.fetch_add(1, SeqCst);
    ok(unsafe { wharf_conn_set_data(conn, Box::into_raw(Box::<Mine>::default()).cast()) });
}

unsafe extern "C" fn on_receive(context: *mut c_void, conn: wharf_conn, data: *const u8, len: usize) {
    let (echo, mine, data) = unsafe { (echo_of(context), mine(conn), std::slice::from_raw_parts(data, len)) };
    if mine.first == 0 {
        mine.first = data[0];
        if mine.first == HOSE {
            pour(conn);
            pour(conn);
        }
    }
    match mine.first {
        ECHO => match send(conn, data) {
            WHARF_E_QUEUE_FULL | WHARF_E_POOL_EXHAUSTED => {
                mine.kept.extend_from_slice(data);
                echo.kept_peak.fetch_max(echo.kept.fetch_add(len as u64, SeqCst) + len as u64, SeqCst);
                ok(unsafe { wharf_conn_pause(conn) });
            }
            WHARF_OK | WHARF_E_CLOSED | WHARF_E_RESET => {}
            other => panic!("{}", name(other)),
        },
        HOSE => {}
        _ => {
            echo.strangers.fetch_add(1, SeqCst);
            ok(close(conn, WHARF_CLOSE_RESET));
        }
    }
}

unsafe extern "C" fn on_writable(context: *mut c_void, conn: wharf_conn) {
    let (echo, mine) = unsafe { (echo_of(context), mine(conn)) };
    if mine.first == HOSE {
        return pour(conn);
    }
    match send(conn, &mine.kept) {
        WHARF_E_QUEUE_FULL | WHARF_E_POOL_EXHAUSTED => {}
        _ => {
            echo.kept.fetch_sub(mine.kept.len() as u64, SeqCst);
            mine.kept = Vec::new();
            ok(unsafe { wharf_conn_resume(conn) });
        }
    }
}

/// One more piece to a connection that is sent to without end.
fn pour(conn: wharf_conn) {
    match send_token(conn, &[7; 4 * PIECE], 1) {
        WHARF_OK | WHARF_E_QUEUE_FULL | WHARF_E_POOL_EXHAUSTED | WHARF_E_CLOSED | WHARF_E_RESET => {}
        other => panic!("{}", name(other)),
    }
}

unsafe extern "C" fn on_sent(_: *mut c_void, conn: wharf_conn, _token: u64, status: wharf_status) {
    if status == WHARF_OK {
        pour(conn);
    }
}

unsafe extern "C" fn on_close(context: *mut c_void, conn: wharf_conn, reason: wharf_status) {
    let (echo, mine) = unsafe { (echo_of(context), Box::from_raw(mine(conn))) };
    echo.kept.fetch_sub(mine.kept.len() as u64, SeqCst);
    echo.reasons.count(reason);
    echo.closes.fetch_add(1, SeqCst);
}

unsafe extern "C" fn on_drop(context: *mut c_void) {
    let echo = unsafe { Arc::from_raw(context as *const Echo) };
    echo.drops.fetch_add(1, SeqCst);
}

//! The clients of the soak: they write, and expect every byte back in order, on each of their connections.

use std::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use crate::common::*;
use crate::hostile::echo::ECHO;

/// Bytes of a message.
pub const MESSAGE: usize = 256;

/// One client's handler.
#[derive(Default)]
pub struct EchoPeer {
    pub opens: AtomicU64,
    pub closes: AtomicU64,
    /// Attempts that failed: on_close without a connection.
    pub failures: AtomicU64,
    pub drops: AtomicU64,
    pub answers: AtomicU64,
    /// Bytes that came back on the connection there is now.
    place: AtomicU64,
}

/// The byte at a place of every connection's stream.
fn byte(place: u64) -> u8 {
    if place == 0 { ECHO } else { (place % 251) as u8 }
}

impl EchoPeer {
    pub fn handler(self: &Arc<EchoPeer>) -> wharf_handler {
        let mut handler: wharf_handler = unsafe { std::mem::zeroed() };
        handler.struct_size = size_of::<wharf_handler>();
        handler.context = Arc::into_raw(self.clone()) as *mut c_void;
        handler.on_open = Some(on_open);
        handler.on_receive = Some(on_receive);
        handler.on_close = Some(on_close);
        handler.on_drop = Some(on_drop);
        handler
    }
}

unsafe fn me<'a>(context: *mut c_void) -> &'a EchoPeer {
    unsafe { &*(context as *const EchoPeer) }
}

unsafe extern "C" fn on_open(context: *mut c_void, _conn: wharf_conn) {
    let me = unsafe { me(context) };
    me.opens.fetch_add(1, SeqCst);
    me.place.store(0, SeqCst);
}

unsafe extern "C" fn on_receive(context: *mut c_void, _conn: wharf_conn, data: *const u8, len: usize) {
    let (me, data) = unsafe { (me(context), std::slice::from_raw_parts(data, len)) };
    let place = me.place.load(SeqCst);
    for (at, got) in data.iter().enumerate() {
        assert_eq!(*got, byte(place + at as u64), "byte {} of a connection", place + at as u64);
    }
    let after = place + len as u64;
    me.place.store(after, SeqCst);
    me.answers.fetch_add(after / MESSAGE as u64 - place / MESSAGE as u64, SeqCst);
}

unsafe extern "C" fn on_close(context: *mut c_void, conn: wharf_conn, _reason: wharf_status) {
    let me = unsafe { me(context) };
    if conn == 0 { &me.failures } else { &me.closes }.fetch_add(1, SeqCst);
}

unsafe extern "C" fn on_drop(context: *mut c_void) {
    let me = unsafe { Arc::from_raw(context as *const EchoPeer) };
    me.drops.fetch_add(1, SeqCst);
}

/// The next message of a client, if the one before was answered.
pub fn write_next(client: wharf_client, peer: &EchoPeer) {
    let (mut conn, mut stats) = (0, conn_stats());
    let place = peer.place.load(SeqCst);
    if unsafe { wharf_client_conn(client, &mut conn) } != WHARF_OK
        || unsafe { wharf_conn_stats(conn, &mut stats) } != WHARF_OK
        // Has everything that was sent on this very connection come back?
        || (stats.bytes_in, stats.bytes_out, stats.queued_bytes) != (place, place, 0)
    {
        return;
    }
    let message: Vec<u8> = (place..place + MESSAGE as u64).map(byte).collect();
    match send(conn, &message) {
        WHARF_OK | WHARF_E_CLOSED | WHARF_E_RESET | WHARF_E_STALE => {}
        // The readers that stall have taken the pool: another time.
        WHARF_E_POOL_EXHAUSTED => {}
        other => panic!("{}", name(other)),
    }
}

//! In the steady state - connections open, messages flowing - the engine makes no heap allocation. Alone in its binary,
//! because it counts every allocation of the process.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicU64, Ordering::*};

use common::*;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES_LIVE: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES_LIVE.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES_LIVE.fetch_sub(layout.size() as u64, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

unsafe extern "C" fn on_receive(_context: *mut c_void, conn: wharf_conn, data: *const u8, len: usize) {
    let status = unsafe { wharf_send(conn, data.cast(), len) };
    assert_eq!(status, WHARF_OK);
}

const CONNECTIONS: usize = 16;

fn flow(peers: &mut [std::net::TcpStream], messages: usize) {
    let mut buffer = [0; 64 * 16];
    // Sixteen messages of 64 bytes in flight on each connection.
    for _ in 0..messages / peers.len() / 16 {
        for peer in peers.iter_mut() {
            peer.write_all(&[7; 64 * 16]).unwrap();
        }
        for peer in peers.iter_mut() {
            peer.read_exact(&mut buffer).unwrap();
        }
    }
}

#[test]
fn a_million_messages_flow_without_a_heap_allocation_and_the_footprint_is_true() {
    for port in [WHARF_PORT_EPOLL, WHARF_PORT_POLLING] {
        // The first engine of a process also sets up what the process keeps: thread-locals, the registry.
        drop(Engine::new(port));
        let before = BYTES_LIVE.load(SeqCst);
        let engine = Engine::new(port);
        let grown = BYTES_LIVE.load(SeqCst) - before;
        let told = engine.stats().heap_bytes;
        assert!(grown <= told + 16_384, "told {told}, took {grown}");
        assert!(grown >= told - 16_384, "told {told}, took {grown}");

        let mut handler: wharf_handler = unsafe { std::mem::zeroed() };
        handler.struct_size = size_of::<wharf_handler>();
        handler.on_receive = Some(on_receive);
        let server = engine.server_with(handler, "127.0.0.1:0", |config| config.idle_timeout_ms = 600_000);
        let mut peers: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
        flow(&mut peers, 10_000);
        let conn = server.connections()[0];

        let before = ALLOCATIONS.load(SeqCst);
        flow(&mut peers, 1_000_000);
        // Sends from a foreign thread, with tokens, are messages too.
        for _ in 0..10_000 {
            ok(send_token(conn, b"from elsewhere", 1));
            ok(send(conn, b"from elsewhere"));
            // The connection's peer is one of them; read on whichever it is.
            for peer in &peers {
                peer.set_nonblocking(true).unwrap();
                let mut buffer = [0; 256];
                let _ = (&mut &*peer).read(&mut buffer);
                peer.set_nonblocking(false).unwrap();
            }
        }
        let after = ALLOCATIONS.load(SeqCst);
        assert_eq!(after - before, 0, "allocations while messages flowed");
    }
}

//! Want of memory is an error of the call and leaves nothing behind: each larger allocation of a create or start is made to
//! fail in turn. Alone in its binary, because it brings an allocator of its own.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering::*};

use common::*;

/// Allocations below this size are not made to fail: single objects of the engine, its standard library and its crates, whose
/// number the configuration bounds (docs/limits.md, Memory).
const LEAST: usize = 4096;

struct Refusing;

static BYTES_LIVE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// Which allocation of this thread from now on is refused; 0: none.
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

/// Whether this one is to be refused.
fn is_refused(size: usize) -> bool {
    if size < LEAST {
        return false;
    }
    REFUSED.with(|refused| {
        let left = refused.get();
        refused.set(left.saturating_sub(1));
        left == 1
    })
}

// SAFETY: what is not refused goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        BYTES_LIVE.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        BYTES_LIVE.fetch_add(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if is_refused(size) {
            return std::ptr::null_mut();
        }
        BYTES_LIVE.fetch_add(size as i64 - layout.size() as i64, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES_LIVE.fetch_sub(layout.size() as i64, Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

/// Calls with the first allocation refused, then with the second, and so on until a call needs no more; gives how many there
/// were. Each that was refused says so and leaves nothing behind, however often: worker threads that begin beside it may keep
/// something, and lists that grew for a handle are kept for the next one, but that is once and less than is refused.
fn refuse_each(what: &str, times: usize, mut call: impl FnMut() -> wharf_status) -> u64 {
    for number in 1.. {
        let before = (BYTES_LIVE.load(SeqCst), descriptors());
        for _ in 0..times {
            REFUSED.set(number);
            let status = call();
            let was_refused = REFUSED.replace(0) == 0;
            if !was_refused {
                assert_eq!(status, WHARF_OK, "{what} without a refusal: {}", name(status));
                return number - 1;
            }
            assert_eq!(status, WHARF_E_NO_MEMORY, "{what}, allocation {number}: {}", name(status));
        }
        let after = (BYTES_LIVE.load(SeqCst), descriptors());
        let is_kept = after.0 - before.0 >= LEAST as i64 || after.1 != before.1;
        assert!(!is_kept, "{what}, allocation {number}: {before:?} bytes and descriptors, then {after:?}");
    }
    unreachable!()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn each_allocation_that_fails_is_an_error_and_leaves_nothing_behind() {
    for port in [WHARF_PORT_EPOLL, WHARF_PORT_POLLING] {
        for flags in [0, WHARF_ENGINE_CALLER_DRIVEN, WHARF_ENGINE_FAULTS] {
            refuse_in_turn(port, flags);
        }
    }
}

fn refuse_in_turn(port: u32, flags: u32) {
    // Every list is larger than what is not made to fail.
    let config = |pool_bytes| {
        let mut config = engine_config();
        config.port = port;
        config.flags = flags;
        config.workers = 2;
        config.max_connections = 4096;
        config.pool_bytes = pool_bytes;
        config
    };
    // What the process keeps is made by the first engine.
    drop(Engine::new(port));
    let mut error = error();
    let mut engine = 0;
    let refused = refuse_each("wharf_engine_create", 4, || unsafe {
        let status = wharf_engine_create(&config(32 << 20), &mut engine, &mut error);
        assert!(status == WHARF_OK || engine == 0 && message(&error).contains("memory"), "{}", message(&error));
        status
    });
    assert!(refused >= 12, "{refused} allocations");
    let engine = Engine(engine);
    let address = std::ffi::CString::new("127.0.0.1:0").unwrap();
    let mut server_config = server_config();
    server_config.address = address.as_ptr();
    server_config.max_connections_per_ip = 100;
    let (recorder, mut server) = (Recorder::new(), 0);
    let handler = recorder.handler();
    let refused = refuse_each("wharf_server_create", 100, || unsafe {
        wharf_server_create(engine.0, &server_config, &handler, &mut server, &mut error)
    });
    assert!(refused >= 2, "{refused} allocations");
    refuse_each("wharf_server_start", 100, || unsafe { wharf_server_start(server, &mut error) });
    let server = Server(server);
    let target = std::ffi::CString::new(server.address()).unwrap();
    let mut client_config = client_config();
    client_config.address = target.as_ptr();
    let (dialling, mut client) = (Recorder::new(), 0);
    let handler = dialling.handler();
    refuse_each("wharf_client_create", 100, || unsafe {
        wharf_client_create(engine.0, &client_config, &handler, &mut client, &mut error)
    });
    refuse_each("wharf_client_start", 100, || unsafe { wharf_client_start(client, &mut error) });
    // What is accepted, sent and closed asks for nothing of that size.
    let turn = || {
        if flags & WHARF_ENGINE_CALLER_DRIVEN != 0 {
            REFUSED.set(1);
            let status = unsafe { wharf_engine_turn(engine.0, 1, std::ptr::null_mut()) };
            assert_eq!((status, REFUSED.replace(0)), (WHARF_OK, 1));
        }
        true
    };
    until("the client is there", || turn() && !opens(&dialling.events()).is_empty());
    until("its peer is there", || turn() && !opens(&recorder.events()).is_empty());
    ok(send(opens(&dialling.events())[0], b"hello"));
    until("it is heard", || turn() && received(&recorder.events()) == b"hello");
    server.stop(0);
    until("it is closed", || turn() && !closes(&recorder.events()).is_empty());
    ok(engine.destroy(0));
}

//! Any sequence of calls, from outside and from inside callbacks, with handles that live, that are stale, that are of another
//! kind, and that are forged: nothing panics, no call waits, every status is one of the table, the callbacks of each
//! connection come in their order, each context is dropped exactly once, and in the end every handle is stale.
//!
//! The engine is driven by this thread, and its peers are its own clients. The first byte of the input chooses where it
//! lives: on the system's sockets - Unix sockets of the abstract namespace (TCP would run out of ports within seconds) and,
//! now and then, TCP -, or in a simulated network, without faults or with all of them.

#![no_main]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::{null, null_mut};

use libfuzzer_sys::fuzz_target;
use wharf::ffi::*;
use wharf::port::sim::{self, faults};
use wharf::status::*;

/// How often each kind of fault occurs in the simulated network: of 65,536 occasions.
const ODDS: u16 = 1_500;
/// Calls that callbacks make inside callbacks of nested turns.
const DEEPEST: u32 = 3;
const MOST_CALLS: u32 = 200;
const MOST_ENDPOINTS: usize = 12;

/// What the input still holds; all zeroes behind its end.
struct Script<'a> {
    data: Cell<&'a [u8]>,
    calls_left: Cell<u32>,
}

impl Script<'_> {
    fn byte(&self) -> u8 {
        let Some((first, rest)) = self.data.get().split_first() else { return 0 };
        self.data.set(rest);
        *first
    }

    fn word(&self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | u64::from(self.byte()))
    }

    fn ended(&self) -> bool {
        self.data.get().is_empty() || self.calls_left.get() == 0
    }
}

/// Where a connection is, as its callbacks told.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Life {
    Open,
    Ended,
    Closed,
}

/// One run: shared by all callbacks through a thread-local pointer, as contexts carry their own number.
struct World<'a> {
    script: Script<'a>,
    engine: wharf_engine,
    is_simulated: bool,
    handles: RefCell<Vec<u64>>,
    /// Where its servers listen.
    addresses: RefCell<Vec<CString>>,
    lives: RefCell<HashMap<wharf_conn, Life>>,
    /// Tokens of sends that were taken and not yet told of, by connection.
    tokens: RefCell<HashMap<wharf_conn, Vec<u64>>>,
    /// For each context: how often it was dropped.
    drops: RefCell<Vec<u32>>,
    depth: Cell<u32>,
    in_call: Cell<bool>,
    next: Cell<u64>,
}

thread_local! {
    static WORLD: Cell<*const World<'static>> = const { Cell::new(null()) };
}

/// Calls with the world of this run.
fn world<R>(call: impl FnOnce(&World<'_>) -> R) -> R {
    let place = WORLD.get();
    assert!(!place.is_null(), "a callback outside of a run");
    // SAFETY: set for as long as the world lives, and only this thread runs callbacks.
    call(unsafe { &*place })
}

impl World<'_> {
    fn told(&self, context: *mut c_void, conn: wharf_conn, from: &[Life], to: Life, what: &str) {
        assert!(!self.in_call.get(), "{what} inside a call that is no turn");
        let context = context as usize - 1;
        assert_eq!(self.drops.borrow()[context], 0, "{what} after on_drop");
        if what == "on_open" {
            let before = self.lives.borrow_mut().insert(conn, to);
            assert_eq!(before, None, "a handle was given out twice");
            self.handles.borrow_mut().push(conn);
        } else {
            let before = self.lives.borrow_mut().insert(conn, to);
            assert!(before.is_some_and(|before| from.contains(&before)), "{what} of a connection that was {before:?}");
        }
        self.call_inside();
    }

    /// A callback makes calls of its own.
    fn call_inside(&self) {
        if self.depth.get() >= DEEPEST {
            return;
        }
        self.depth.set(self.depth.get() + 1);
        for _ in 0..self.script.byte() % 4 {
            self.one_call();
        }
        self.depth.set(self.depth.get() - 1);
    }

    /// A call that must not make a callback before it returns.
    fn quietly(&self, call: impl FnOnce() -> wharf_status) -> wharf_status {
        let before = self.in_call.replace(true);
        let status = call();
        self.in_call.set(before);
        check(status);
        status
    }

    fn a_handle(&self) -> u64 {
        let handles = self.handles.borrow();
        let choice = self.script.byte();
        let known = handles[usize::from(choice & 0x3F) % handles.len()];
        match choice >> 6 {
            0..3 => known,
            // Forged: a bit of a known one is turned, or all of it is arbitrary.
            _ if choice & 1 == 0 => known ^ 1 << (self.script.byte() % 64),
            _ => self.script.word(),
        }
    }

    fn a_context(&self) -> *mut c_void {
        let mut drops = self.drops.borrow_mut();
        drops.push(0);
        drops.len() as *mut c_void
    }

    fn handler(&self, choice: u8) -> wharf_handler {
        wharf_handler {
            struct_size: size_of::<wharf_handler>(),
            context: self.a_context(),
            on_open: Some(on_open),
            on_receive: (choice & 1 == 0).then_some(on_receive),
            on_sent: Some(on_sent),
            on_writable: Some(on_writable),
            on_end: (choice & 2 == 0).then_some(on_end),
            on_close: Some(on_close),
            on_drop: Some(on_drop),
            on_admit: None,
        }
    }

    /// The context was not taken: nobody may drop it but us.
    fn forget_last_context(&self) {
        let last = self.drops.borrow_mut().last_mut().map(|drops| std::mem::replace(drops, 1));
        assert_eq!(last, Some(0), "a create that failed dropped the context");
    }

    fn create_server(&self) {
        if self.drops.borrow().len() >= MOST_ENDPOINTS {
            return;
        }
        let choice = self.script.byte();
        let address = match choice % 8 {
            0 => c"127.0.0.1:0".to_owned(),
            _ if self.is_simulated => c"127.0.0.1:0".to_owned(),
            _ => {
                self.next.set(self.next.get() + 1);
                CString::new(format!("unix:@wharf-fuzz-{}-{}", std::process::id(), self.next.get())).unwrap()
            }
        };
        let mut config: wharf_server_config = zeroed();
        config.struct_size = size_of::<wharf_server_config>();
        config.address = address.as_ptr();
        config.max_connections = u32::from(choice >> 6);
        config.at_limit = u32::from(choice >> 5 & 1);
        config.send_queue_limit_bytes = 1 + (u32::from(self.script.byte()) << 5);
        config.linger_ms = 1;
        config.idle_timeout_ms = u32::from(choice >> 3 & 1);
        let handler = self.handler(choice >> 4);
        let mut server = 0;
        let made =
            self.quietly(|| unsafe { wharf_server_create(self.engine, &config, &handler, &mut server, null_mut()) });
        if made != WHARF_OK {
            return self.forget_last_context();
        }
        self.handles.borrow_mut().push(server);
        if self.quietly(|| unsafe { wharf_server_start(server, null_mut()) }) == WHARF_OK {
            let mut text = [0 as c_char; 256];
            let status = unsafe { wharf_server_address(server, text.as_mut_ptr(), text.len(), null_mut()) };
            if status == WHARF_OK {
                let text = unsafe { CStr::from_ptr(text.as_ptr()) };
                self.addresses.borrow_mut().push(text.to_owned());
            }
        }
    }

    fn create_client(&self) {
        if self.drops.borrow().len() >= MOST_ENDPOINTS {
            return;
        }
        let choice = self.script.byte();
        let addresses = self.addresses.borrow();
        let nobody = if self.is_simulated { c"127.0.0.1:9" } else { c"unix:@wharf-fuzz-nobody" }.to_owned();
        let address = addresses.get(usize::from(choice) % (addresses.len() + 1)).unwrap_or(&nobody);
        let mut config: wharf_client_config = zeroed();
        config.struct_size = size_of::<wharf_client_config>();
        config.address = address.as_ptr();
        config.linger_ms = 1;
        config.send_queue_limit_bytes = 1 + (u32::from(self.script.byte()) << 5);
        config.reconnect_max_ms = u32::from(choice >> 7);
        config.reconnect_attempts = u32::from(choice >> 5 & 3);
        let handler = self.handler(choice >> 2);
        let mut client = 0;
        let made =
            self.quietly(|| unsafe { wharf_client_create(self.engine, &config, &handler, &mut client, null_mut()) });
        drop(addresses);
        if made != WHARF_OK {
            return self.forget_last_context();
        }
        self.handles.borrow_mut().push(client);
        self.quietly(|| unsafe { wharf_client_start(client, null_mut()) });
    }

    fn turn(&self) {
        // Callbacks are welcome inside of a turn, also of one that a callback takes.
        let before = self.in_call.replace(false);
        let mut completions = 0;
        check(unsafe { wharf_engine_turn(self.engine, 0, &mut completions) });
        self.in_call.set(before);
    }

    fn send_token(&self) {
        let (conn, token) = (self.a_handle(), u64::from(self.script.byte()));
        let data = [7_u8; 64];
        let slices =
            [(); 3].map(|()| wharf_slice { data: data.as_ptr().cast(), len: usize::from(self.script.byte() % 65) });
        let status = self.quietly(|| unsafe { wharf_sendv(conn, slices.as_ptr(), slices.len(), token, 0) });
        if status == WHARF_OK && token != 0 {
            self.tokens.borrow_mut().entry(conn).or_default().push(token);
        }
    }

    fn address(&self) {
        let (handle, choice) = (self.a_handle(), self.script.byte());
        // Of exactly that length, so that a touch behind it is noticed.
        let len = usize::from(choice % 70);
        let mut text = vec![0x55 as c_char; len].into_boxed_slice();
        let place = if len == 0 { null_mut() } else { text.as_mut_ptr() };
        let mut needed = 0;
        let status = self.quietly(|| unsafe {
            match choice >> 6 {
                0 => wharf_server_address(handle, place, len, &mut needed),
                1 => wharf_conn_peer_address(handle, place, len, &mut needed),
                _ => wharf_conn_local_address(handle, place, len, &mut needed),
            }
        });
        if (status == WHARF_OK || status == WHARF_E_LIMIT) && len > 0 {
            assert!(text.contains(&0), "a text without an end");
            assert_eq!(status == WHARF_OK, needed <= len);
        }
    }

    fn statistics(&self) {
        let handle = self.a_handle();
        let mut stats: wharf_stats = zeroed();
        stats.struct_size = size_of::<wharf_stats>();
        let mut conn_stats: wharf_connection_stats = zeroed();
        conn_stats.struct_size = size_of::<wharf_connection_stats>();
        let choice = self.script.byte() % 4;
        self.quietly(|| unsafe {
            match choice {
                0 if handle != WHARF_DEFAULT_ENGINE => wharf_engine_stats(handle, &mut stats),
                1 => wharf_server_stats(handle, &mut stats),
                2 => wharf_client_stats(handle, &mut stats),
                _ => wharf_conn_stats(handle, &mut conn_stats),
            }
        });
        assert!(stats.accepted + stats.connected >= stats.closed, "more are gone than came");
    }

    fn timeouts(&self) {
        let handle = self.a_handle();
        let timeouts = wharf_timeouts {
            struct_size: size_of::<wharf_timeouts>(),
            idle_timeout_ms: u32::from(self.script.byte() & 1),
            first_byte_timeout_ms: u32::from(self.script.byte() & 1),
            send_stall_timeout_ms: u32::from(self.script.byte() & 1),
            reserved: 0,
        };
        self.quietly(|| unsafe { wharf_conn_set_timeouts(handle, &timeouts) });
    }

    /// None of them may wait: this thread turns the engine, or the time is 0.
    fn waits(&self) {
        let (handle, choice) = (self.a_handle(), self.script.byte());
        let mut data = [0_u8; 64];
        let mut len = 0;
        self.quietly(|| unsafe {
            match choice % 4 {
                0 => wharf_receive_wait(handle, data.as_mut_ptr().cast(), data.len(), 0, &mut len),
                1 => wharf_send_wait(handle, data.as_ptr().cast(), data.len(), 0, &mut len),
                2 => wharf_server_wait(handle, 0),
                _ => wharf_client_wait(handle, 0, null_mut()),
            }
        });
        assert!(len <= data.len());
    }

    fn data(&self) {
        let handle = self.a_handle();
        let mut out = null_mut();
        let value = usize::from(self.script.byte()) as *mut c_void;
        if self.quietly(|| unsafe { wharf_conn_set_data(handle, value) }) == WHARF_OK {
            assert_eq!(self.quietly(|| unsafe { wharf_conn_data(handle, &mut out) }), WHARF_OK);
            assert_eq!(out, value);
        }
    }

    fn lists(&self) {
        let (handle, choice) = (self.a_handle(), self.script.byte());
        let cap = usize::from(choice % 5);
        let mut list = vec![0; cap].into_boxed_slice();
        let mut count = 0;
        let place = if cap == 0 { null_mut() } else { list.as_mut_ptr() };
        let status = self.quietly(|| unsafe { wharf_server_connections(handle, place, cap, &mut count) });
        if status == WHARF_OK && count > 0 {
            let lives = self.lives.borrow();
            assert!(list.iter().take(count).all(|conn| lives.get(conn).is_some_and(|life| *life != Life::Closed)));
        }
    }

    fn one_call(&self) {
        let left = self.script.calls_left.get();
        if left == 0 {
            return;
        }
        self.script.calls_left.set(left - 1);
        let data = [9_u8; 4096];
        let engine = |handle: u64| if handle == WHARF_DEFAULT_ENGINE { self.engine } else { handle };
        match self.script.byte() % 32 {
            0 | 1 => self.create_server(),
            2 | 3 => self.create_client(),
            4..9 => self.turn(),
            9 | 10 => {
                let (conn, len) = (self.a_handle(), usize::from(self.script.byte()) * 16);
                self.quietly(|| unsafe { wharf_send(conn, data.as_ptr().cast(), len) });
            }
            11 | 12 => self.send_token(),
            13 => {
                let (conn, how) = (self.a_handle(), u32::from(self.script.byte() % 5));
                self.quietly(|| unsafe { wharf_conn_close(conn, how) });
            }
            14 => drop(self.quietly(|| unsafe { wharf_conn_pause(self.a_handle()) })),
            15 => drop(self.quietly(|| unsafe { wharf_conn_resume(self.a_handle()) })),
            16 => drop(self.quietly(|| unsafe { wharf_server_start(self.a_handle(), null_mut()) })),
            17 => {
                let drain_ms = u32::from(self.script.byte() & 1);
                self.quietly(|| unsafe { wharf_server_stop(self.a_handle(), drain_ms) });
            }
            18 => drop(self.quietly(|| unsafe { wharf_server_destroy(self.a_handle()) })),
            19 => drop(self.quietly(|| unsafe { wharf_client_start(self.a_handle(), null_mut()) })),
            20 => drop(self.quietly(|| unsafe { wharf_client_stop(self.a_handle()) })),
            21 => drop(self.quietly(|| unsafe { wharf_client_destroy(self.a_handle()) })),
            22 => {
                let (server, except, len) = (self.a_handle(), self.a_handle(), usize::from(self.script.byte()) * 8);
                let mut result: wharf_broadcast_result = zeroed();
                result.struct_size = size_of::<wharf_broadcast_result>();
                self.quietly(|| unsafe {
                    wharf_server_broadcast(server, data.as_ptr().cast(), len, except, &mut result)
                });
            }
            23 => self.address(),
            24 => self.statistics(),
            25 => self.timeouts(),
            26 => self.waits(),
            27 => self.data(),
            28 => self.lists(),
            29 => {
                let (mut running, mut conn) = (0, 0);
                self.quietly(|| unsafe { wharf_server_is_running(self.a_handle(), &mut running) });
                self.quietly(|| unsafe { wharf_client_conn(self.a_handle(), &mut conn) });
            }
            30 => {
                let mut fd = -1;
                self.quietly(|| unsafe { wharf_engine_fd(engine(self.a_handle()), &mut fd) });
                self.quietly(|| unsafe { wharf_engine_wake(engine(self.a_handle())) });
            }
            _ if self.script.byte() % 8 == 0 => {
                // Outside of a callback it takes the last turns.
                let before = self.in_call.replace(false);
                check(unsafe { wharf_engine_destroy(engine(self.a_handle()), 0) });
                self.in_call.set(before);
            }
            _ => {}
        }
    }

    /// What must hold when the engine is gone.
    fn check_end(&self) {
        assert!(self.drops.borrow().iter().all(|drops| *drops == 1), "on_drop came {:?} times", self.drops.borrow());
        let lives = self.lives.borrow();
        assert!(lives.values().all(|life| *life == Life::Closed), "an on_close is missing: {lives:?}");
        assert!(self.tokens.borrow().values().all(Vec::is_empty), "an on_sent is missing");
        for handle in self.handles.borrow().iter() {
            let status = unsafe { wharf_send(*handle, [1_u8].as_ptr().cast(), 1) };
            assert!(matches!(status, WHARF_E_STALE | WHARF_E_WRONG_KIND), "{handle:#x} gives {status}");
        }
    }
}

fn zeroed<T>() -> T {
    // SAFETY: only used for structs of the C ABI, of which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}

fn check(status: wharf_status) {
    assert!((WHARF_E_FIRST_BYTE..=WHARF_OK).contains(&status) && status != WHARF_E_PANIC, "status {status}");
}

const ALIVE: [Life; 2] = [Life::Open, Life::Ended];

unsafe extern "C" fn on_open(context: *mut c_void, conn: wharf_conn) {
    world(|world| world.told(context, conn, &[], Life::Open, "on_open"));
}

unsafe extern "C" fn on_receive(context: *mut c_void, conn: wharf_conn, data: *const u8, len: usize) {
    // SAFETY: the bytes live for the call.
    let data = unsafe { std::slice::from_raw_parts(data, len) };
    assert!(!data.is_empty() && data.iter().all(|byte| [7, 9, 0].contains(byte)), "bytes that nobody sent");
    world(|world| world.told(context, conn, &[Life::Open], Life::Open, "on_receive"));
}

unsafe extern "C" fn on_sent(context: *mut c_void, conn: wharf_conn, token: u64, status: wharf_status) {
    check(status);
    world(|world| {
        let mut tokens = world.tokens.borrow_mut();
        let owed = tokens.get_mut(&conn).filter(|owed| !owed.is_empty()).expect("an on_sent that nobody is owed");
        assert_eq!(owed.remove(0), token, "an on_sent out of order");
        drop(tokens);
        let life = world.lives.borrow().get(&conn).copied().unwrap_or(Life::Closed);
        world.told(context, conn, &ALIVE, life, "on_sent");
    });
}

unsafe extern "C" fn on_writable(context: *mut c_void, conn: wharf_conn) {
    world(|world| {
        let life = world.lives.borrow().get(&conn).copied().unwrap_or(Life::Closed);
        world.told(context, conn, &ALIVE, life, "on_writable");
    });
}

unsafe extern "C" fn on_end(context: *mut c_void, conn: wharf_conn) {
    world(|world| world.told(context, conn, &[Life::Open], Life::Ended, "on_end"));
}

unsafe extern "C" fn on_close(context: *mut c_void, conn: wharf_conn, reason: wharf_status) {
    check(reason);
    world(|world| match conn {
        0 => world.call_inside(),
        _ => world.told(context, conn, &ALIVE, Life::Closed, "on_close"),
    });
}

unsafe extern "C" fn on_drop(context: *mut c_void) {
    world(|world| {
        world.drops.borrow_mut()[context as usize - 1] += 1;
        world.call_inside();
    });
}

unsafe extern "C" fn on_log(_context: *mut c_void, _level: i32, message: *const c_char) {
    // SAFETY: a terminated text that lives for the call.
    let message = unsafe { CStr::from_ptr(message) }.to_str().expect("UTF-8");
    assert!(!message.contains("fault inside"), "{message}");
}

fn engine(port: u32) -> wharf_engine {
    let mut config: wharf_engine_config = zeroed();
    config.struct_size = size_of::<wharf_engine_config>();
    config.flags = WHARF_ENGINE_CALLER_DRIVEN;
    config.port = port;
    config.max_connections = 6;
    config.buffer_bytes = 256;
    config.pool_bytes = 4096;
    config.receive_buffer_bytes = 1024;
    config.log_level = WHARF_LOG_ERROR;
    config.on_log = Some(on_log);
    let mut engine = 0;
    assert_eq!(unsafe { wharf_engine_create(&config, &mut engine, null_mut()) }, WHARF_OK);
    engine
}

fuzz_target!(|data: &[u8]| {
    let script = Script { data: Cell::new(data), calls_left: Cell::new(MOST_CALLS) };
    let choice = script.byte();
    let is_simulated = choice & 1 == 1;
    if is_simulated {
        let rooms = if choice & 4 == 0 { (4096, 4096) } else { (100, 100) };
        sim::begin(&sim::Setup { seed: choice.into(), descriptor_limit: u32::MAX, rooms, names: Vec::new() });
    }
    let engine = engine(if is_simulated { WHARF_TEST_PORT_SIM } else { WHARF_PORT_AUTO });
    if is_simulated && choice & 2 == 2 {
        sim::set_faults(faults::ALL, [ODDS; faults::CLASSES]);
    }
    let world = World {
        script,
        engine,
        is_simulated,
        handles: RefCell::new(vec![engine]),
        addresses: RefCell::default(),
        lives: RefCell::default(),
        tokens: RefCell::default(),
        drops: RefCell::default(),
        depth: Cell::new(0),
        in_call: Cell::new(false),
        next: Cell::new(0),
    };
    WORLD.set((&raw const world).cast());
    while !world.script.ended() {
        world.one_call();
    }
    if is_simulated {
        sim::set_faults(0, [0; faults::CLASSES]);
    }
    // Gone already, when one of the calls destroyed it.
    let ended = unsafe { wharf_engine_destroy(engine, 0) };
    assert!(ended == WHARF_OK || ended == WHARF_E_STALE, "{ended}");
    world.check_end();
    WORLD.set(null());
});

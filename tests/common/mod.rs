//! What the scenario tests share: engines, servers and clients through the C ABI, a handler that records every call, and
//! peers on plain sockets. Tests wait for events, with a deadline that only a broken promise reaches.

#![allow(dead_code)]

pub mod calls;

use std::ffi::{CStr, CString, c_char, c_void};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

pub use wharf::ffi::*;
pub use wharf::status::*;

/// Long enough for a loaded machine; a test that gets there has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a scenario on every port, each as a test of its own.
#[macro_export]
macro_rules! on_every_port {
    ($($(#[$attribute:meta])* fn $name:ident($port:ident) $body:block)*) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(#[$attribute])*
            fn scenario($port: u32) $body
            #[test]
            fn epoll() {
                scenario(WHARF_PORT_EPOLL);
            }
            #[test]
            fn polling() {
                scenario(WHARF_PORT_POLLING);
            }
        }
    )*};
}

/// One call of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Open(wharf_conn),
    Receive(wharf_conn, Vec<u8>),
    Sent(wharf_conn, u64, wharf_status),
    Writable(wharf_conn),
    End(wharf_conn),
    Close(wharf_conn, wharf_status),
    Drop,
}

impl Event {
    /// The connection that it tells of.
    pub fn conn(&self) -> wharf_conn {
        match self {
            Event::Open(conn) | Event::Receive(conn, _) | Event::Sent(conn, ..) => *conn,
            Event::Writable(conn) | Event::End(conn) | Event::Close(conn, _) => *conn,
            Event::Drop => 0,
        }
    }
}

type Hook = Box<dyn Fn(&Event) + Send + Sync>;

/// Records every call of a handler and calls a hook with it.
pub struct Recorder {
    events: Mutex<Vec<Event>>,
    changed: Condvar,
    hook: Hook,
    keeps_data: bool,
    admit: OnceLock<AdmitHook>,
}

/// What on_admit is told, and what it answers.
type AdmitHook = Box<dyn Fn(&str) -> i32 + Send + Sync>;

/// Which callbacks a handler leaves out.
#[derive(Clone, Copy, Default)]
pub struct Without {
    pub receive: bool,
    pub end: bool,
}

impl Recorder {
    pub fn new() -> Arc<Recorder> {
        Self::with_hook(|_| {})
    }

    /// The hook runs inside the callback, on the worker.
    pub fn with_hook(hook: impl Fn(&Event) + Send + Sync + 'static) -> Arc<Recorder> {
        Arc::new(Recorder {
            events: Mutex::new(Vec::new()),
            changed: Condvar::new(),
            hook: Box::new(hook),
            keeps_data: true,
            admit: OnceLock::new(),
        })
    }

    /// The same, without keeping what was received: for much traffic.
    pub fn forgetful(hook: impl Fn(&Event) + Send + Sync + 'static) -> Arc<Recorder> {
        Arc::new(Recorder {
            events: Mutex::new(Vec::new()),
            changed: Condvar::new(),
            hook: Box::new(hook),
            keeps_data: false,
            admit: OnceLock::new(),
        })
    }

    fn told(&self, event: Event) {
        (self.hook)(&event);
        if self.keeps_data || !matches!(event, Event::Receive(..)) {
            self.lock().push(event);
            self.changed.notify_all();
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub fn events(&self) -> Vec<Event> {
        self.lock().clone()
    }

    /// Waits until what was recorded satisfies a condition; gives it.
    #[track_caller]
    pub fn wait(&self, what: &str, is_enough: impl Fn(&[Event]) -> bool) -> Vec<Event> {
        let events = self.lock();
        let (events, timeout) = self.changed.wait_timeout_while(events, PATIENCE, |events| !is_enough(events)).unwrap();
        assert!(!timeout.timed_out(), "waited in vain for {what}; seen: {:?}", summary(&events));
        events.clone()
    }

    /// Waits for the first connection.
    #[track_caller]
    pub fn wait_open(&self) -> wharf_conn {
        self.wait_opens(1)[0]
    }

    #[track_caller]
    pub fn wait_opens(&self, count: usize) -> Vec<wharf_conn> {
        let events = self.wait("on_open", |events| opens(events).len() >= count);
        opens(&events)
    }

    /// Waits for a close; gives its reason.
    #[track_caller]
    pub fn wait_close(&self) -> wharf_status {
        let events = self.wait("on_close", |events| closes(events).iter().any(|_| true));
        closes(&events)[0].1
    }

    #[track_caller]
    pub fn wait_closes(&self, count: usize) -> Vec<(wharf_conn, wharf_status)> {
        let events = self.wait("on_close", |events| closes(events).len() >= count);
        closes(&events)
    }

    #[track_caller]
    pub fn wait_received(&self, len: usize) -> Vec<u8> {
        let events = self.wait("received bytes", |events| received(events).len() >= len);
        received(&events)
    }

    #[track_caller]
    pub fn wait_drop(&self) {
        self.wait("on_drop", |events| events.contains(&Event::Drop));
    }

    /// The C handler that records here. The strong reference of the context is given back by `on_drop`.
    pub fn handler(self: &Arc<Self>) -> wharf_handler {
        self.handler_without(Without::default())
    }

    /// The same with an on_admit; once for each recorder.
    pub fn handler_asking(self: &Arc<Self>, admit: impl Fn(&str) -> i32 + Send + Sync + 'static) -> wharf_handler {
        assert!(self.admit.set(Box::new(admit)).is_ok());
        wharf_handler { on_admit: Some(on_admit), ..self.handler() }
    }

    pub fn handler_without(self: &Arc<Self>, without: Without) -> wharf_handler {
        wharf_handler {
            struct_size: size_of::<wharf_handler>(),
            context: Arc::into_raw(self.clone()) as *mut c_void,
            on_open: Some(on_open),
            on_receive: (!without.receive).then_some(on_receive as _),
            on_sent: Some(on_sent),
            on_writable: Some(on_writable),
            on_end: (!without.end).then_some(on_end as _),
            on_close: Some(on_close),
            on_drop: Some(on_drop),
            on_admit: None,
        }
    }
}

fn summary(events: &[Event]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for event in events.iter().rev().take(12).rev() {
        lines.push(match event {
            Event::Receive(conn, data) => format!("Receive({conn:#x}, {} bytes)", data.len()),
            other => format!("{other:x?}"),
        });
    }
    lines.insert(0, format!("{} events", events.len()));
    lines
}

pub fn opens(events: &[Event]) -> Vec<wharf_conn> {
    events.iter().filter_map(|event| if let Event::Open(conn) = event { Some(*conn) } else { None }).collect()
}

pub fn closes(events: &[Event]) -> Vec<(wharf_conn, wharf_status)> {
    events
        .iter()
        .filter_map(|event| if let Event::Close(conn, reason) = event { Some((*conn, *reason)) } else { None })
        .collect()
}

pub fn received(events: &[Event]) -> Vec<u8> {
    events
        .iter()
        .filter_map(|event| if let Event::Receive(_, data) = event { Some(data) } else { None })
        .flatten()
        .copied()
        .collect()
}

unsafe fn recorder<'a>(context: *mut c_void) -> &'a Recorder {
    unsafe { &*(context as *const Recorder) }
}

unsafe extern "C" fn on_admit(context: *mut c_void, peer_address: *const c_char, len: usize) -> i32 {
    let address = unsafe { CStr::from_ptr(peer_address) }.to_str().unwrap();
    assert_eq!(address.len(), len);
    unsafe { recorder(context) }.admit.get().unwrap()(address)
}

unsafe extern "C" fn on_open(context: *mut c_void, conn: wharf_conn) {
    unsafe { recorder(context) }.told(Event::Open(conn));
}

unsafe extern "C" fn on_receive(context: *mut c_void, conn: wharf_conn, data: *const u8, len: usize) {
    let data = unsafe { std::slice::from_raw_parts(data, len) };
    unsafe { recorder(context) }.told(Event::Receive(conn, data.to_vec()));
}

unsafe extern "C" fn on_sent(context: *mut c_void, conn: wharf_conn, token: u64, status: wharf_status) {
    unsafe { recorder(context) }.told(Event::Sent(conn, token, status));
}

unsafe extern "C" fn on_writable(context: *mut c_void, conn: wharf_conn) {
    unsafe { recorder(context) }.told(Event::Writable(conn));
}

unsafe extern "C" fn on_end(context: *mut c_void, conn: wharf_conn) {
    unsafe { recorder(context) }.told(Event::End(conn));
}

unsafe extern "C" fn on_close(context: *mut c_void, conn: wharf_conn, reason: wharf_status) {
    unsafe { recorder(context) }.told(Event::Close(conn, reason));
}

unsafe extern "C" fn on_drop(context: *mut c_void) {
    unsafe { recorder(context) }.told(Event::Drop);
    drop(unsafe { Arc::from_raw(context as *const Recorder) });
}

/// The handler of a recorder that a failed create did not take: no on_drop will come for it.
pub fn take_back(handler: &wharf_handler) {
    drop(unsafe { Arc::from_raw(handler.context as *const Recorder) });
}

/// A zeroed C struct with its size set, as C users write it.
macro_rules! zeroed_struct {
    ($name:ident, $type:ty) => {
        pub fn $name() -> $type {
            let mut config: $type = unsafe { std::mem::zeroed() };
            config.struct_size = size_of::<$type>();
            config
        }
    };
}

zeroed_struct!(engine_config, wharf_engine_config);
zeroed_struct!(server_config, wharf_server_config);
zeroed_struct!(client_config, wharf_client_config);
zeroed_struct!(error, wharf_error);
zeroed_struct!(stats, wharf_stats);
zeroed_struct!(conn_stats, wharf_connection_stats);
zeroed_struct!(timeouts, wharf_timeouts);
zeroed_struct!(fault_plan, wharf_fault_plan);
zeroed_struct!(broadcast_result, wharf_broadcast_result);

pub fn message(error: &wharf_error) -> String {
    unsafe { CStr::from_ptr(error.message.as_ptr()) }.to_string_lossy().into_owned()
}

#[track_caller]
pub fn ok(status: wharf_status) {
    assert_eq!(status, WHARF_OK, "{}", name(status));
}

pub fn name(status: wharf_status) -> String {
    unsafe { CStr::from_ptr(wharf_status_name(status)) }.to_string_lossy().into_owned()
}

/// An engine that is destroyed, at once, when dropped.
pub struct Engine(pub wharf_engine);

impl Engine {
    pub fn new(port: u32) -> Engine {
        Self::with(port, |_| {})
    }

    #[track_caller]
    pub fn with(port: u32, change: impl FnOnce(&mut wharf_engine_config)) -> Engine {
        let mut config = engine_config();
        config.port = port;
        change(&mut config);
        let mut engine = 0;
        let mut error = error();
        let status = unsafe { wharf_engine_create(&config, &mut engine, &mut error) };
        assert_eq!(status, WHARF_OK, "{}", message(&error));
        Engine(engine)
    }

    pub fn stats(&self) -> wharf_stats {
        let mut stats = stats();
        ok(unsafe { wharf_engine_stats(self.0, &mut stats) });
        stats
    }

    #[track_caller]
    pub fn server(&self, recorder: &Arc<Recorder>) -> Server {
        self.server_with(recorder.handler(), "127.0.0.1:0", |_| {})
    }

    /// A server that is started.
    #[track_caller]
    pub fn server_with(
        &self,
        handler: wharf_handler,
        address: &str,
        change: impl FnOnce(&mut wharf_server_config),
    ) -> Server {
        let address = CString::new(address).unwrap();
        let mut config = server_config();
        config.address = address.as_ptr();
        change(&mut config);
        let mut server = 0;
        let mut error = error();
        let status = unsafe { wharf_server_create(self.0, &config, &handler, &mut server, &mut error) };
        assert_eq!(status, WHARF_OK, "{}", message(&error));
        let server = Server(server);
        server.start();
        server
    }

    /// A client that is started.
    #[track_caller]
    pub fn client_with(
        &self,
        handler: wharf_handler,
        address: &str,
        change: impl FnOnce(&mut wharf_client_config),
    ) -> Client {
        let address = CString::new(address).unwrap();
        let mut config = client_config();
        config.address = address.as_ptr();
        change(&mut config);
        let mut client = 0;
        let mut error = error();
        let status = unsafe { wharf_client_create(self.0, &config, &handler, &mut client, &mut error) };
        assert_eq!(status, WHARF_OK, "{}", message(&error));
        let status = unsafe { wharf_client_start(client, &mut error) };
        assert_eq!(status, WHARF_OK, "{}", message(&error));
        Client(client)
    }

    #[track_caller]
    pub fn client(&self, recorder: &Arc<Recorder>, address: &str) -> Client {
        self.client_with(recorder.handler(), address, |_| {})
    }

    pub fn destroy(&self, drain_ms: u32) -> wharf_status {
        unsafe { wharf_engine_destroy(self.0, drain_ms) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.destroy(0);
    }
}

#[derive(Clone, Copy)]
pub struct Server(pub wharf_server);

impl Server {
    #[track_caller]
    pub fn start(&self) {
        let mut error = error();
        let status = unsafe { wharf_server_start(self.0, &mut error) };
        assert_eq!(status, WHARF_OK, "{}", message(&error));
    }

    pub fn address(&self) -> String {
        text(|buffer, len, needed| unsafe { wharf_server_address(self.0, buffer, len, needed) })
    }

    /// A blocking peer that is connected.
    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        connect(&self.address())
    }

    pub fn stats(&self) -> wharf_stats {
        let mut stats = stats();
        ok(unsafe { wharf_server_stats(self.0, &mut stats) });
        stats
    }

    pub fn stop(&self, drain_ms: u32) {
        ok(unsafe { wharf_server_stop(self.0, drain_ms) });
    }

    #[track_caller]
    pub fn wait(&self) {
        ok(unsafe { wharf_server_wait(self.0, PATIENCE.as_millis() as u32) });
    }

    pub fn is_running(&self) -> bool {
        let mut running = 0;
        ok(unsafe { wharf_server_is_running(self.0, &mut running) });
        running == 1
    }

    pub fn connections(&self) -> Vec<wharf_conn> {
        let mut out = vec![0; 4096];
        let mut count = 0;
        ok(unsafe { wharf_server_connections(self.0, out.as_mut_ptr(), out.len(), &mut count) });
        out.truncate(count);
        out
    }

    pub fn destroy(&self) -> wharf_status {
        unsafe { wharf_server_destroy(self.0) }
    }
}

#[derive(Clone, Copy)]
pub struct Client(pub wharf_client);

impl Client {
    pub fn stats(&self) -> wharf_stats {
        let mut stats = stats();
        ok(unsafe { wharf_client_stats(self.0, &mut stats) });
        stats
    }

    pub fn wait(&self, ms: u32) -> (wharf_status, String) {
        let mut error = error();
        let status = unsafe { wharf_client_wait(self.0, ms, &mut error) };
        (status, message(&error))
    }

    #[track_caller]
    pub fn conn(&self) -> wharf_conn {
        let mut conn = 0;
        ok(unsafe { wharf_client_conn(self.0, &mut conn) });
        conn
    }

    pub fn stop(&self) {
        ok(unsafe { wharf_client_stop(self.0) });
    }

    pub fn destroy(&self) -> wharf_status {
        unsafe { wharf_client_destroy(self.0) }
    }
}

/// Text that a function writes into a buffer of ours.
#[track_caller]
pub fn text(call: impl FnOnce(*mut c_char, usize, *mut usize) -> wharf_status) -> String {
    let mut buffer = [0 as c_char; 256];
    let mut needed = 0;
    ok(call(buffer.as_mut_ptr(), buffer.len(), &mut needed));
    let text = unsafe { CStr::from_ptr(buffer.as_ptr()) }.to_str().unwrap().to_string();
    assert_eq!(needed, text.len() + 1);
    text
}

pub fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub fn send(conn: wharf_conn, data: &[u8]) -> wharf_status {
    unsafe { wharf_send(conn, data.as_ptr().cast(), data.len()) }
}

pub fn send_token(conn: wharf_conn, data: &[u8], token: u64) -> wharf_status {
    let slice = wharf_slice { data: data.as_ptr().cast(), len: data.len() };
    unsafe { wharf_sendv(conn, &slice, 1, token, 0) }
}

pub fn close(conn: wharf_conn, how: u32) -> wharf_status {
    unsafe { wharf_conn_close(conn, how) }
}

/// Reads exactly so many bytes.
#[track_caller]
pub fn read_exact(stream: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    stream.read_exact(&mut data).unwrap();
    data
}

/// Reads until the peer's FIN.
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut data = Vec::new();
    stream.read_to_end(&mut data).unwrap();
    data
}

pub fn write_all(stream: &mut TcpStream, data: &[u8]) {
    stream.write_all(data).unwrap();
}

pub fn end(stream: &TcpStream) {
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Waits for something that no event tells, looking again and again.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// A handler that sends everything back.
pub fn echo() -> Arc<Recorder> {
    Recorder::forgetful(|event| {
        if let Event::Receive(conn, data) = event {
            ok(send(*conn, data));
        }
    })
}

/// Bytes that differ at each place, for comparing streams.
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut data = vec![0; len];
    random.fill(&mut data);
    data
}

/// Where a Unix socket may be, another one each time; the server takes the file away again.
pub fn unix_path() -> std::path::PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("wharf-{}-{number}.sock", std::process::id()))
}

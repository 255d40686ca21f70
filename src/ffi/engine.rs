//! Engine: memory, bounds and threads.
//!
//! An engine sets aside everything that its servers and clients will need - places for connections, the buffer pool,
//! receive buffers - and never goes past it. In the steady state (connections open, messages flowing) it allocates
//! nothing.
//!
//! Worker threads (the default): the engine owns its threads, named wharf-0, wharf-1 ..., with all signals blocked but
//! those of faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS).
//! Caller-driven (WHARF_ENGINE_CALLER_DRIVEN): no threads; your thread calls wharf_engine_turn, and every callback runs
//! inside that call.

use std::ffi::{c_char, c_int, c_void};
use std::sync::Arc;

use super::convert::{CStruct, Out, known_flags, new_handle, read_struct, signed_patience, unknown};
use super::guard::{guard, guard_anywhere, guard_with_error};
use super::status::wharf_error;
use super::text::write_text;
use super::types::{wharf_engine, wharf_status};
use crate::engine::config::{EngineConfig, PortChoice};
use crate::engine::events::{LINE_BYTES, Level, Log};
use crate::engine::failure::Outcome;
use crate::engine::registry::{self, with};
use crate::pool::handle::Kind;
use crate::port::OsHandle;
use crate::status::Status;

/// For wharf_engine_config.workers: one worker for each core that the process may use.
pub const WHARF_WORKERS_ONE_A_CORE: u32 = u32::MAX;

/// For wharf_engine_config.flags: no threads, you call wharf_engine_turn.
pub const WHARF_ENGINE_CALLER_DRIVEN: u32 = 1;

/// For wharf_engine_config.flags: wharf_engine_set_faults works. For tests only: such an engine is slower.
pub const WHARF_ENGINE_FAULTS: u32 = 2;

/// For wharf_engine_config.port: the fastest that the system has.
pub const WHARF_PORT_AUTO: u32 = 0;
/// For wharf_engine_config.port: epoll(7); Linux only.
pub const WHARF_PORT_EPOLL: u32 = 1;
/// For wharf_engine_config.port: the portable one (kqueue, event ports, poll).
pub const WHARF_PORT_POLLING: u32 = 2;

/// Level of a log line: something was lost or will not work.
pub const WHARF_LOG_ERROR: i32 = 1;
/// Level of a log line: a bound was met, or something took too long.
pub const WHARF_LOG_WARNING: i32 = 2;
/// Level of a log line: servers and clients start and stop.
pub const WHARF_LOG_INFO: i32 = 3;
/// Level of a log line: each connection.
pub const WHARF_LOG_DEBUG: i32 = 4;

/// A log line.
///
/// - context: log_context of the engine's configuration
/// - level: WHARF_LOG_ERROR ... WHARF_LOG_DEBUG
/// - message: one line of UTF-8 without a line break; lives for the call
///
/// Called on workers only (or inside a turn); with several workers, on several threads at once. A call that takes long
/// delays the connections of its worker. The function and its context must stay good until wharf_engine_destroy has
/// returned on a thread of yours.
///
/// Of lines that a peer, or a trouble that stays, could make floods of - refused connections of each reason, accepts
/// and connects that fail, slow callbacks, faults - an engine makes at most 10 of each kind a second; the next one of
/// the kind says how many were left out. The statistics count them all. No lock of the engine is held meanwhile: call
/// what you like.
pub type wharf_on_log = Option<unsafe extern "C" fn(context: *mut c_void, level: i32, message: *const c_char)>;

/// How an engine is made. Zero everywhere but in struct_size is a good beginning.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_engine_config {
    /// sizeof(wharf_engine_config).
    pub struct_size: usize,
    /// Worker threads: 1 to 256, or WHARF_WORKERS_ONE_A_CORE. 0: one; then no two callbacks of the engine ever run at
    /// the same time. With more, that holds for the callbacks of one connection only. Ignored when caller-driven.
    pub workers: u32,
    /// WHARF_ENGINE_* bits.
    pub flags: u32,
    /// Connections of all servers and clients together: 1 to 1048575. 0: 1024.
    pub max_connections: u32,
    /// Size of one block of the pool in bytes: 256 to 1048576, a multiple of 64. 0: 4096. A connection with something
    /// to send holds whole blocks; an idle one holds none.
    pub buffer_bytes: u32,
    /// Size of the whole pool in bytes: at least one block, at most 64 GiB. 0: 16 MiB. All bytes that wait to be sent,
    /// of all connections, are in it.
    pub pool_bytes: u64,
    /// Size of each worker's receive buffer in bytes, and so the most that one on_receive hands over: 1024 to 16777216.
    /// 0: 57344.
    pub receive_buffer_bytes: u32,
    /// WHARF_PORT_*: how the engine waits for the system.
    pub port: u32,
    /// Callbacks that take longer than this are counted (slow_callbacks of the statistics) and logged: milliseconds.
    /// 0: 100.
    pub slow_callback_ms: u32,
    /// The least important level that on_log wants: WHARF_LOG_*. 0: WHARF_LOG_INFO.
    pub log_level: i32,
    /// Where log lines go. NULL: nowhere.
    pub on_log: wharf_on_log,
    /// The first argument of on_log. Stays yours.
    pub log_context: *mut c_void,
    /// Threads on which host names are resolved, because the system's resolver blocks: 1 to 64. 0: 2. They are started
    /// when the first client with a name is made, also when caller-driven; an engine without one has none. Named
    /// wharf-dns-0 ...; signals are blocked in them as in workers.
    pub resolver_threads: u32,
    /// The stack of each worker thread, on which your callbacks run, in bytes: 65536 to 1073741824, rounded up to whole
    /// pages. 0: as large as that of any thread of pthread_create (on Linux with glibc RLIMIT_STACK, usually 8 MiB).
    pub worker_stack_bytes: u32,
}

// SAFETY: repr(C), size first, integers and nullable pointers only, a whole number of words.
unsafe impl CStruct for wharf_engine_config {
    const NAME: &'static str = "wharf_engine_config";
}

/// Hands log lines to a C function.
struct CLog {
    function: unsafe extern "C" fn(*mut c_void, i32, *const c_char),
    context: *mut c_void,
    level: Level,
}

// SAFETY: the header says that on_log runs on worker threads, on several at once; its context is made for that.
unsafe impl Send for CLog {}
// SAFETY: the same.
unsafe impl Sync for CLog {}

/// Longer lines are cut.
const LOG_LINE_BYTES: usize = LINE_BYTES + 1;

impl Log for CLog {
    fn level(&self) -> Level {
        self.level
    }

    fn line(&self, level: Level, text: &str) {
        let mut line = [0 as c_char; LOG_LINE_BYTES];
        // SAFETY: the buffer is as large as we say; the function is called as the header says, with a text for the
        // call.
        unsafe {
            write_text(text, line.as_mut_ptr(), line.len());
            (self.function)(self.context, level as i32, line.as_ptr());
        }
    }
}

impl wharf_engine_config {
    /// The engine's own words for it. NULL means all defaults.
    unsafe fn read(config: *const wharf_engine_config) -> Outcome<EngineConfig> {
        if config.is_null() {
            return Ok(EngineConfig::default());
        }
        // SAFETY: the conventions of the header: a config is as large as its struct_size says.
        let config = unsafe { read_struct(config) }?;
        known_flags("flags", config.flags, WHARF_ENGINE_CALLER_DRIVEN | WHARF_ENGINE_FAULTS)?;
        Ok(EngineConfig {
            workers: config.workers,
            caller_driven: config.flags & WHARF_ENGINE_CALLER_DRIVEN != 0,
            max_connections: config.max_connections,
            buffer_bytes: config.buffer_bytes,
            pool_bytes: config.pool_bytes,
            receive_buffer_bytes: config.receive_buffer_bytes,
            port: match config.port {
                WHARF_PORT_AUTO => PortChoice::Auto,
                WHARF_PORT_EPOLL => PortChoice::Epoll,
                WHARF_PORT_POLLING => PortChoice::Polling,
                #[cfg(feature = "simulation")]
                super::testing::WHARF_TEST_PORT_SIM => PortChoice::Sim,
                other => return Err(unknown("port", other, "a WHARF_PORT_* constant")),
            },
            faults: config.flags & WHARF_ENGINE_FAULTS != 0,
            slow_callback_ms: config.slow_callback_ms,
            log: config.log()?,
            resolver_threads: config.resolver_threads,
            worker_stack_bytes: config.worker_stack_bytes,
        })
    }

    fn log(&self) -> Outcome<Option<Arc<dyn Log>>> {
        let level = match self.log_level {
            WHARF_LOG_ERROR => Level::Error,
            WHARF_LOG_WARNING => Level::Warning,
            0 | WHARF_LOG_INFO => Level::Info,
            WHARF_LOG_DEBUG => Level::Debug,
            other => return Err(unknown("log_level", other, "a WHARF_LOG_* constant")),
        };
        let log = self.on_log.map(|function| CLog { function, context: self.log_context, level });
        Ok(log.map(|log| Arc::new(log) as Arc<dyn Log>))
    }
}

/// Tells how many bytes of heap an engine of this configuration sets aside, without making it.
///
/// - config: the configuration, or NULL for the defaults
/// - bytes: receives the number
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: bytes is NULL, or a field is out of range (wharf_engine_create says which)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_engine_footprint(config: *const wharf_engine_config, bytes: *mut u64) -> wharf_status {
    guard_anywhere(|| {
        // SAFETY: the conventions of the header: NULL or good for the call.
        let (bytes, config) = unsafe { (Out::required(bytes)?, wharf_engine_config::read(config)) };
        let footprint = config.and_then(|config| registry::footprint(&config));
        bytes.set(footprint.map_err(|failure| failure.status)?);
        Ok(())
    })
}

/// Makes an engine: sets its memory aside and starts its threads.
///
/// - config: the configuration, or NULL for the defaults; copied
/// - out: receives the engine, or 0
/// - error: receives the details; may be NULL
///
/// You own the engine: end it with wharf_engine_destroy. A process has at most 255 besides WHARF_DEFAULT_ENGINE.
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: out is NULL, or a field of config is out of range; the message names it
/// - WHARF_E_LIMIT: 255 engines live already
/// - WHARF_E_TOO_MANY_FILES, WHARF_E_NO_MEMORY, WHARF_E_OS: the system has no descriptors, memory or threads left
/// - WHARF_E_UNSUPPORTED: this system does not have the chosen port
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_engine_create(
    config: *const wharf_engine_config,
    out: *mut wharf_engine,
    error: *mut wharf_error,
) -> wharf_status {
    guard_with_error(error, || {
        // SAFETY: the conventions of the header: NULL or good for the call.
        let (out, config) = unsafe { (new_handle(out)?, wharf_engine_config::read(config)?) };
        out.set(registry::create(&config)?);
        Ok(())
    })
}

/// Takes one turn of a caller-driven engine: waits until something happens, and makes the callbacks that are due.
///
/// - engine: a caller-driven engine
/// - timeout_ms: how long to wait at most, in milliseconds; 0: do what is due and never wait; -1: for ever
/// - completions: receives how many things happened (0: none; the time was up, wharf_engine_wake was called, or the
///   engine had something to do of its own); may be NULL
///
/// Make one turn after you started something, before you wait on wharf_engine_fd for the first time. Threads may take
/// turns one after another, but not two at once. A signal does not end the turn: its handler runs, and the wait goes on
/// for the time that is left. A host that wants to act upon a signal has another thread call wharf_engine_wake, gives a
/// timeout, or watches wharf_engine_fd beside a descriptor that its handler writes to.
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: timeout_ms is below -1
/// - WHARF_E_STATE: the engine has worker threads, or another thread is in a turn of it
/// - WHARF_E_WOULD_DEADLOCK: called inside a callback of this engine
/// - WHARF_E_LIMIT: called inside callbacks of 8 other engines, each turned inside a callback of the one before
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
/// - WHARF_E_OS: the engine's descriptors were closed behind its back. Its connections have ended with WHARF_E_OS, and
///   it can only be destroyed; until then each turn makes the callbacks that are due, waits as it was told, and says so
///
/// Callbacks run inside this call, and only inside it (and inside wharf_engine_destroy).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_engine_turn(
    engine: wharf_engine,
    timeout_ms: i32,
    completions: *mut u32,
) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let completions = unsafe { Out::optional(completions) };
        let patience = signed_patience(timeout_ms)?;
        completions.set(with(engine, Kind::Engine, |engine| engine.turn(patience))?);
        Ok(())
    })
}

/// Gives the descriptor of a caller-driven engine that is readable when a turn is due: for I/O, for a deadline, or
/// because another thread asked for something. Watch it in a loop of your own (poll, epoll, libuv, GLib, Qt, asyncio).
///
/// - engine: a caller-driven engine
/// - fd: receives the descriptor, or -1 when the call fails
///
/// Watch it level-triggered or edge-triggered, as your loop does: a turn that leaves something to do makes a new edge,
/// so one turn for each edge is enough. The descriptor is the engine's: do not read from it, write to it or close it;
/// stop watching it before wharf_engine_destroy.
///
/// Errors:
/// - WHARF_E_INVALID_ARGUMENT: fd is NULL
/// - WHARF_E_STATE: the engine has worker threads
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
/// - WHARF_E_UNSUPPORTED, WHARF_E_OS: the port has no such descriptor, or the system refused it, or it was closed behind
///   the engine's back
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_engine_fd(engine: wharf_engine, fd: *mut c_int) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let fd = unsafe { Out::required(fd) }?;
        fd.set(-1);
        let found = with(engine, Kind::Engine, |engine| engine.descriptor());
        match found.map_err(|failure| failure.status)? {
            OsHandle::Descriptor(descriptor) => fd.set(descriptor),
            OsHandle::Handle(_) => return Err(Status::Unsupported),
        }
        Ok(())
    })
}

/// Ends the wait of a turn that is under way, or of the next one. Harmless on an engine with threads.
///
/// - engine: the engine
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
///
/// Any thread, any callback. Not in a signal handler; there, write to a descriptor that your loop watches.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_engine_wake(engine: wharf_engine) -> wharf_status {
    guard(|| with(engine, Kind::Engine, |engine| engine.wake()))
}

/// Ends an engine: stops its servers and clients, lets queued bytes leave for at most deadline_ms, resets what is left,
/// makes the last callbacks (every on_close, then every on_drop), ends the threads and gives all memory back.
///
/// - engine: the engine; with WHARF_DEFAULT_ENGINE the shared one, and its next use makes a new one
/// - deadline_ms: how long queued bytes may take, in milliseconds; 0: close everything at once
///
/// On a thread of yours it blocks until all of that is done; afterwards no callback runs and all its handles are stale.
/// In a callback of the same engine it returns at once and the end goes on behind. On a caller-driven engine it takes
/// the last turns itself, so callbacks run inside it. Calling it again while it goes on is allowed and can only shorten
/// the deadline.
///
/// Errors:
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle (any more)
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_engine_destroy(engine: wharf_engine, deadline_ms: u32) -> wharf_status {
    guard(|| with(engine, Kind::Engine, |engine| engine.destroy(deadline_ms)))
}

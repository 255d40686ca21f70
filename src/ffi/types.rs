//! Handles and common constants.
//!
//! A handle is a number that names an object: kind, engine, place and generation in 64 bits. It is never a pointer.
//! Copy it, keep it in a table, hand it to another thread, print it. The handle of something that is gone gives
//! WHARF_E_STALE, the handle of another kind WHARF_E_WRONG_KIND; neither is ever a crash, and neither ever reaches
//! another object that happens to use the same place now.

/// What a call gives back: WHARF_OK (0), or one of the negative WHARF_E_* numbers.
pub type wharf_status = i32;

/// Names an engine. From wharf_engine_create; or WHARF_DEFAULT_ENGINE.
pub type wharf_engine = u64;

/// Names a server. From wharf_server_create.
pub type wharf_server = u64;

/// Names a client. From wharf_client_create.
pub type wharf_client = u64;

/// Names a connection of either side. You never make one: on_open hands it to you, and after on_close it is stale.
pub type wharf_conn = u64;

/// No object. Every kind of handle may hold it; no object ever has it.
pub const WHARF_NONE: u64 = 0;

/// Where an engine is asked for: the engine with default settings that the whole process shares. It is made on first
/// use. wharf_engine_destroy takes it down like any other; the next use makes a new one.
pub const WHARF_DEFAULT_ENGINE: u64 = 0;

/// For the timeout_ms of the calls that wait: wait for ever.
pub const WHARF_FOREVER: u32 = u32::MAX;

/// For the flags of a server or client: leave Nagle's algorithm on (RFC 896), which delays small sends to merge them.
/// It is off by default (TCP_NODELAY).
pub const WHARF_TCP_DELAY: u32 = 256;

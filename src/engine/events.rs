//! What the engine tells its user.

use crate::status::Status;

/// Which calls a handler wants; the engine chooses its defaults by what is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// `on_receive` exists. Without it the connection is in pull mode: bytes stay in the kernel until they are asked for.
    pub receive: bool,
    /// `on_end` exists. Without it a connection is closed, queued bytes first, when the peer ends its side.
    pub end: bool,
    /// `on_admit` exists.
    pub admit: bool,
}

/// The callbacks of a server or client. They run on the worker that owns the connection, never two at a time for one
/// connection, in the order `on_open`, any of the others, `on_close` once, and last of all `on_drop` once.
#[allow(unused_variables)]
pub trait Handler: Send + Sync + 'static {
    /// Which calls are wanted.
    fn wants(&self) -> Wants;
    /// Whether a server lets in the peer with this address. Asked by the worker that accepts, before there is a
    /// connection; with several workers, by several at once.
    fn on_admit(&self, peer: &str) -> bool {
        true
    }
    /// The connection is there.
    fn on_open(&self, conn: u64) {}
    /// Bytes arrived; they live for the call.
    fn on_receive(&self, conn: u64, data: &[u8]) {}
    /// A send with this token was handed to the kernel whole (Ok), or will never be (the reason).
    fn on_sent(&self, conn: u64, token: u64, status: Status) {}
    /// Room again after a send was refused.
    fn on_writable(&self, conn: u64) {}
    /// The peer will send no more.
    fn on_end(&self, conn: u64) {}
    /// The connection is gone; `conn` is 0 when a connect failed.
    fn on_close(&self, conn: u64, reason: Status) {}
    /// The last call.
    fn on_drop(&self) {}
}

/// How much a log line matters; the numbers are those of the C ABI.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(i32)]
pub enum Level {
    /// Something was lost or will not work.
    Error = 1,
    /// A bound was met, or something took too long.
    Warning = 2,
    /// Servers and clients start and stop.
    Info = 3,
    /// Each connection.
    Debug = 4,
}

/// The most bytes of a log line: a sentence with the longest address, a Unix name each of whose bytes is written as `\xHH`.
pub const LINE_BYTES: usize = 640;

/// Where log lines go. Called on workers only (or in a turn), by several at once when there are several.
pub trait Log: Send + Sync + 'static {
    /// The least important level that is wanted.
    fn level(&self) -> Level;
    /// One line, without a line break.
    fn line(&self, level: Level, text: &str);
}

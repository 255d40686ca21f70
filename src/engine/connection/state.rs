//! One place of the connection table: the pooled operation object, reused for the next connection.
//!
//! What the owning worker alone writes is relaxed atomics (others only read it for counters); what any thread may change
//! is the [`Sender`], behind the connection's own lock. The generation changes under that lock, so whoever holds the lock
//! and has compared the generation holds the connection it meant.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Condvar, Mutex};

use super::sender::Sender;
use crate::engine::config::Timeouts;
use crate::engine::stats::Traffic;
use crate::engine::wake::ReadyMark;
use crate::pool::blocks::Blocks;
use crate::port::{Port, RawSocket};

/// Where a connection is in its life. Only its worker moves it on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// The place is free.
    Free = 0,
    /// Registered with the port; `on_open` has not been called.
    Opening = 1,
    /// The user has it.
    Open = 2,
    /// Closing as asked: what is queued leaves, what arrives is thrown away.
    Lingering = 3,
    /// The socket is closed; the last callbacks run.
    Closed = 4,
}

/// The user asked to receive nothing for now.
pub const PAUSED: u16 = 1;
/// The handler has no `on_receive`: bytes stay in the kernel until asked for.
pub const PULL: u16 = 2;
/// The peer's FIN was seen.
pub const PEER_ENDED: u16 = 4;
/// The port must look again: receiving was resumed.
pub const RESUMED: u16 = 8;
/// `on_open` was called, so `on_close` is owed.
pub const OPENED: u16 = 16;
/// The user closed it: what arrives is thrown away.
pub const CLOSING: u16 = 32;
/// A layer stands between the stream and the handler.
pub const LAYERED: u16 = 64;
/// A layer has no block for what it would have to keep: nothing is read until there are some.
pub const LAYER_BLOCKED: u16 = 128;
/// Reading goes on until the system has no more, as a short read does not mean that: Unix sockets stop at a descriptor
/// that the peer passes (unix(7)), and a connection that ends is read to the last byte.
pub const READ_OUT: u16 = 256;

/// The place of one connection.
#[repr(align(64))]
pub struct Connection<P: Port> {
    pub(in crate::engine) life: Life,
    pub(super) raw: <P::Raw as RawSocket>::Cell,
    pub(super) owner: AtomicU32,
    pub(super) times: Times,
    pub(super) received: Received,
    pub(super) timeouts: TimeoutCells,
    /// Stands on its worker's ready list.
    pub(super) ready: ReadyMark,
    /// A send is on its way to the kernel, or the kernel had no room: the worker must look when the socket turns
    /// writable. Set before the system call, so that an edge in the middle of it is not lost.
    pub(super) unsettled: AtomicBool,
    pub(super) user_data: AtomicUsize,
    pub(in crate::engine) sender: Mutex<Sender<P>>,
    /// Wakes threads in `send_wait` and `receive_wait`.
    pub(super) changed: Condvar,
}

/// Which use of the place this is, how far it is, and whose.
pub struct Life {
    pub(super) generation: AtomicU32,
    pub(super) phase: AtomicU8,
    pub(super) worker: AtomicU8,
    pub(super) flags: AtomicU16,
}

/// When bytes last came and left: milliseconds of the engine's clock.
#[derive(Default)]
pub struct Times {
    pub(super) received_ms: AtomicU64,
    pub(super) sent_ms: AtomicU64,
}

/// What has come; only its one reader writes it (the worker, or a pulling thread under the lock).
#[derive(Default)]
pub struct Received {
    pub(super) bytes: AtomicU64,
    pub(super) messages: AtomicU64,
}

/// The deadlines that can be changed for each connection: milliseconds; 0: none.
#[derive(Default)]
pub struct TimeoutCells {
    pub(super) idle_ms: AtomicU32,
    pub(super) first_byte_ms: AtomicU32,
    pub(super) send_stall_ms: AtomicU32,
}

impl TimeoutCells {
    pub(super) fn set(&self, timeouts: Timeouts) {
        self.idle_ms.store(timeouts.idle_ms, Relaxed);
        self.first_byte_ms.store(timeouts.first_byte_ms, Relaxed);
        self.send_stall_ms.store(timeouts.send_stall_ms, Relaxed);
    }
}

impl<P: Port> Connection<P> {
    /// A free place.
    pub fn new(blocks: &Blocks, first_generation: u32) -> Connection<P> {
        Connection {
            life: Life {
                generation: AtomicU32::new(first_generation),
                phase: AtomicU8::new(Phase::Free as u8),
                worker: AtomicU8::new(0),
                flags: AtomicU16::new(0),
            },
            raw: Default::default(),
            owner: AtomicU32::new(0),
            times: Times::default(),
            received: Received::default(),
            timeouts: TimeoutCells::default(),
            ready: ReadyMark::new(),
            unsettled: AtomicBool::new(false),
            user_data: AtomicUsize::new(0),
            sender: Mutex::new(Sender::vacant(blocks)),
            changed: Condvar::new(),
        }
    }

    /// Which use of the place this is.
    #[inline(always)]
    pub(in crate::engine) fn generation(&self) -> u32 {
        self.life.generation.load(Acquire)
    }

    /// The worker that it belongs to.
    #[inline(always)]
    pub(in crate::engine) fn worker(&self) -> usize {
        self.life.worker.load(Acquire).into()
    }

    /// Where it is in its life.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.life.phase.load(Acquire) {
            0 => Phase::Free,
            1 => Phase::Opening,
            2 => Phase::Open,
            3 => Phase::Lingering,
            _ => Phase::Closed,
        }
    }

    /// Whether the user has it.
    #[inline(always)]
    pub(in crate::engine) fn is_open(&self) -> bool {
        self.life.phase.load(Acquire) == Phase::Open as u8
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.life.phase.store(phase as u8, Release);
    }

    #[inline]
    pub(in crate::engine) fn has(&self, flag: u16) -> bool {
        self.life.flags.load(Acquire) & flag != 0
    }

    pub(in crate::engine) fn set(&self, flag: u16) {
        self.life.flags.fetch_or(flag, AcqRel);
    }

    pub(in crate::engine) fn unset(&self, flag: u16) {
        self.life.flags.fetch_and(!flag, AcqRel);
    }

    /// Counts what arrived.
    #[inline]
    pub(super) fn count_received(&self, len: usize, now_ms: u64) {
        let Received { bytes, messages } = &self.received;
        bytes.store(bytes.load(Relaxed) + len as u64, Relaxed);
        messages.store(messages.load(Relaxed) + 1, Relaxed);
        self.times.received_ms.store(now_ms, Relaxed);
    }

    /// What it has moved so far.
    pub(super) fn traffic(&self, sender: &Sender<P>) -> Traffic {
        Traffic {
            bytes_in: self.received.bytes.load(Relaxed),
            messages_in: self.received.messages.load(Relaxed),
            queued_bytes: if self.phase() == Phase::Closed { 0 } else { sender.waiting() as u64 },
            ..sender.traffic()
        }
    }
}

#[cfg(all(test, target_os = "linux", target_pointer_width = "64"))]
mod tests {
    use super::*;
    use crate::port::epoll::EpollPort;

    #[test]
    fn a_place_of_the_table_is_small() {
        // Finding a place costs a multiplication by this; at 264 an echoed message took nine instructions more.
        assert_eq!(size_of::<Connection<EpollPort>>(), 256);
    }
}

//! One place of the connection table: the pooled operation object, reused for the next connection.
//!
//! What the owning worker alone writes is relaxed atomics (others only read it for counters); what any thread may change
//! is behind the connection's own send lock. The generation changes under that lock, so whoever holds the lock and has
//! compared the generation holds the connection it meant.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Condvar, Mutex};

use super::api::Close;
use super::endpoint::Endpoint;
use super::handshakes::AttentionMark;
use super::send_queue::SendQueue;
use crate::pool::blocks::Blocks;
use crate::pool::permits::Permit;
use crate::pool::slots::Slot;
use crate::port::{Port, RawSocket};
use crate::status::Status;

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
pub const PAUSED: u8 = 1;
/// The handler has no `on_receive`: bytes stay in the kernel until asked for.
pub const PULL: u8 = 2;
/// The peer's FIN was seen.
pub const PEER_ENDED: u8 = 4;
/// The port must look again: receiving was resumed.
pub const RESUMED: u8 = 8;
/// `on_open` was called, so `on_close` is owed.
pub const OPENED: u8 = 16;
/// The user closed it: what arrives is thrown away.
pub const CLOSING: u8 = 32;
/// Stands in its worker's list of members.
pub const ENROLLED: u8 = 64;

/// The place of one connection.
pub struct Connection<P: Port> {
    pub(super) generation: AtomicU32,
    pub(super) phase: AtomicU8,
    pub(super) flags: AtomicU8,
    pub(super) worker: AtomicU16,
    pub(super) endpoint: AtomicU32,
    pub(super) raw: AtomicI32,
    pub(super) last_receive_ms: AtomicU32,
    pub(super) last_send_ms: AtomicU32,
    pub(super) opened_ms: AtomicU32,
    pub(super) bytes_in: AtomicU64,
    pub(super) messages_in: AtomicU64,
    pub(super) idle_ms: AtomicU32,
    pub(super) first_byte_ms: AtomicU32,
    pub(super) send_stall_ms: AtomicU32,
    /// Place in the worker's list of members.
    pub(super) worker_place: AtomicU32,
    /// Place in the endpoint's list of members; changed under that list's lock.
    pub(super) endpoint_place: AtomicU32,
    /// Stands in the worker's attention list.
    pub(super) attention: AttentionMark,
    /// A send is on its way to the kernel, or the kernel had no room: the worker must look when the socket turns
    /// writable. Set before the system call, so that an edge in the middle of it is not lost.
    pub(super) send_unsettled: AtomicBool,
    pub(super) user_data: AtomicUsize,
    pub(super) send: Mutex<SendSide<P>>,
    /// Wakes threads in `send_wait` and `receive_wait`.
    pub(super) changed: Condvar,
}

/// What any thread may change, under the send lock.
pub struct SendSide<P: Port> {
    pub(super) socket: Option<P::Socket>,
    pub(super) queue: SendQueue,
    /// The end that was asked for, and why.
    pub(super) close: Option<Close>,
    pub(super) reason: Status,
    /// The kernel had no room; the port will say when it has.
    pub(super) blocked: bool,
    /// Bytes that its worker holds back in its own buffer, before all that is queued (see cork.rs).
    pub(super) apart: u32,
    /// Bytes in its queue are held back, and it stands in its worker's list of such connections.
    pub(super) corked: bool,
    /// A send was refused: `on_writable` is owed.
    pub(super) owes_writable: bool,
    /// Stands in the engine's list of connections that wait for blocks.
    pub(super) starving: bool,
    pub(super) fin_sent: bool,
    pub(super) waiters: u16,
    pub(super) linger_until_ms: u32,
    pub(super) limit: u32,
    pub(super) messages_out: u64,
    pub(super) refused: u32,
    pub(super) peer: Peer,
    pub(super) endpoint: Option<Arc<Endpoint<P>>>,
    /// Held for as long as the connection lives; dropping them gives them back.
    pub(super) permit: Option<Permit>,
    pub(super) slot: Option<Slot>,
}

impl<P: Port> SendSide<P> {
    /// Whether sends are taken (still).
    #[inline]
    pub(super) fn takes_sends(&self) -> bool {
        self.close.is_none() && self.socket.is_some()
    }

    /// Bytes that wait to leave.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.apart as usize
    }

    /// Throws away what waits; marks stay, to be told.
    pub(super) fn drop_bytes(&mut self, blocks: &Blocks) {
        self.apart = 0;
        self.queue.drop_bytes(blocks);
    }
}

/// A peer's address in 20 bytes.
#[derive(Clone, Copy, Default)]
pub struct Peer {
    ip: [u8; 16],
    port: u16,
    kind: u8,
}

impl Peer {
    /// Packs it; None is a peer without an address (a Unix socket).
    pub fn new(address: Option<std::net::SocketAddr>) -> Peer {
        match address.map(super::api::plain) {
            None => Peer::default(),
            Some(std::net::SocketAddr::V4(v4)) => {
                let mut ip = [0; 16];
                ip[..4].copy_from_slice(&v4.ip().octets());
                Peer { ip, port: v4.port(), kind: 4 }
            }
            Some(std::net::SocketAddr::V6(v6)) => Peer { ip: v6.ip().octets(), port: v6.port(), kind: 6 },
        }
    }

    /// The IP address, if it has one.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        match self.kind {
            4 => Some(<[u8; 4]>::try_from(&self.ip[..4]).ok()?.into()),
            6 => Some(self.ip.into()),
            _ => None,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip() {
            Some(ip) => std::net::SocketAddr::new(ip, self.port).fmt(f),
            None => f.write_str("unix:"),
        }
    }
}

impl<P: Port> Connection<P> {
    /// A free place.
    pub fn new(blocks: &Blocks, first_generation: u32) -> Connection<P> {
        Connection {
            generation: AtomicU32::new(first_generation),
            phase: AtomicU8::new(Phase::Free as u8),
            flags: AtomicU8::new(0),
            worker: AtomicU16::new(0),
            endpoint: AtomicU32::new(0),
            raw: AtomicI32::new(-1),
            last_receive_ms: AtomicU32::new(0),
            last_send_ms: AtomicU32::new(0),
            opened_ms: AtomicU32::new(0),
            bytes_in: AtomicU64::new(0),
            messages_in: AtomicU64::new(0),
            idle_ms: AtomicU32::new(0),
            first_byte_ms: AtomicU32::new(0),
            send_stall_ms: AtomicU32::new(0),
            worker_place: AtomicU32::new(0),
            endpoint_place: AtomicU32::new(0),
            attention: AttentionMark::new(),
            send_unsettled: AtomicBool::new(false),
            user_data: AtomicUsize::new(0),
            send: Mutex::new(SendSide {
                socket: None,
                queue: SendQueue::new(blocks),
                close: None,
                reason: Status::Ok,
                blocked: false,
                apart: 0,
                corked: false,
                owes_writable: false,
                starving: false,
                fin_sent: false,
                waiters: 0,
                linger_until_ms: 0,
                limit: 0,
                messages_out: 0,
                refused: 0,
                peer: Peer::default(),
                endpoint: None,
                permit: None,
                slot: None,
            }),
            changed: Condvar::new(),
        }
    }

    /// Where it is in its life.
    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Acquire) {
            0 => Phase::Free,
            1 => Phase::Opening,
            2 => Phase::Open,
            3 => Phase::Lingering,
            _ => Phase::Closed,
        }
    }

    /// Whether the user has it.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        self.phase.load(Acquire) == Phase::Open as u8
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Release);
    }

    #[inline]
    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags.load(Acquire) & flag != 0
    }

    pub(super) fn set(&self, flag: u8) {
        self.flags.fetch_or(flag, AcqRel);
    }

    pub(super) fn unset(&self, flag: u8) {
        self.flags.fetch_and(!flag, AcqRel);
    }

    pub(super) fn raw_socket(&self) -> RawSocket {
        self.raw.load(Relaxed)
    }

    /// Counts what arrived; only its one reader calls this (the worker, or a pulling thread under the lock).
    #[inline]
    pub(super) fn count_received(&self, len: usize, now_ms: u32) {
        self.bytes_in.store(self.bytes_in.load(Relaxed) + len as u64, Relaxed);
        self.messages_in.store(self.messages_in.load(Relaxed) + 1, Relaxed);
        self.last_receive_ms.store(now_ms, Relaxed);
    }
}

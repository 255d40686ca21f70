//! A worker, as its connections and other threads see it: its port, its ready list, its clock, and how to wake it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};

use super::parking::Parking;
use crate::engine::wake::WorkerWake;
use crate::pool::lock;
use crate::pool::room::{self, NoMemory};
use crate::port::{Address, Port};

/// Sends of other threads in one millisecond, to all connections of a worker, after which the worker sends for them.
const BURST_PER_MS: u32 = 32;

/// What others may touch of a worker.
pub struct WorkerLink<P: Port> {
    pub(in crate::engine) port: P,
    /// Connections that it must look at.
    ready: Mutex<Vec<u32>>,
    /// Whether there is something to do, and whether it must be woken for it.
    pub(in crate::engine) wake: WorkerWake,
    /// Its connections.
    pub(super) open: AtomicU32,
    /// Milliseconds since the engine began, read once a turn.
    pub(super) now_ms: AtomicU64,
    burst: Burst,
    /// The host asked for the end of the turn.
    pub(in crate::engine) is_turn_to_end: AtomicBool,
    /// Where it waits when its port is broken.
    pub(in crate::engine) parking: Parking,
    pub(in crate::engine) callbacks: CallbackTimes,
    /// The name of the Unix peer of the connection that it ends now, whose socket is closed already.
    closed_peer: Mutex<Option<(u32, Address)>>,
}

/// How many sends of other threads came in a millisecond.
#[derive(Default)]
struct Burst {
    at_ms: AtomicU64,
    sends: AtomicU32,
}

/// What the user's callbacks have cost this worker.
#[derive(Default)]
pub struct CallbackTimes {
    pub(in crate::engine) slow: AtomicU64,
    pub(in crate::engine) max_ns: AtomicU64,
    pub(in crate::engine) total_ns: AtomicU64,
}

impl<P: Port> WorkerLink<P> {
    /// Of a worker with this port; room for all connections on its list is set aside.
    pub fn new(port: P, max_connections: usize) -> Result<WorkerLink<P>, NoMemory> {
        Ok(WorkerLink {
            port,
            ready: Mutex::new(room::list(max_connections)?),
            wake: WorkerWake::new(),
            open: AtomicU32::new(0),
            now_ms: AtomicU64::new(0),
            burst: Burst::default(),
            is_turn_to_end: AtomicBool::new(false),
            parking: Parking::default(),
            callbacks: CallbackTimes::default(),
            closed_peer: Mutex::new(None),
        })
    }

    /// The peer of the connection in this place, whose socket is closed.
    pub(super) fn closed_peer(&self, index: u32) -> Address {
        let kept = lock(&self.closed_peer);
        let of_this = kept.as_ref().filter(|(place, _)| *place == index);
        of_this.map_or(Address::UnixUnnamed, |(_, peer)| peer.clone())
    }

    /// Keeps it until the next one: a worker ends one connection after the other.
    pub(super) fn set_closed_peer(&self, index: u32, peer: Address) {
        *lock(&self.closed_peer) = (peer != Address::UnixUnnamed).then_some((index, peer));
    }

    /// Tells it that there is something to do, and wakes it if it waits or is about to. What it is must be noted before.
    pub(in crate::engine) fn post(&self) {
        if self.wake.post() {
            self.ring();
        }
    }

    /// The host wants its turn to end, or the next one.
    pub(in crate::engine) fn ring_for_the_host(&self) {
        self.is_turn_to_end.store(true, SeqCst);
        self.ring();
    }

    /// Ends its wait, or the next one.
    pub(in crate::engine) fn ring(&self) {
        if self.parking.is_in_use() { self.parking.wake() } else { self.port.wake() }
    }

    /// Puts a connection on the ready list.
    pub(super) fn post_ready(&self, index: u32) {
        lock(&self.ready).push(index);
        self.post();
    }

    /// Changes the ready list for an empty one.
    pub(in crate::engine) fn swap_ready(&self, other: &mut Vec<u32>) {
        std::mem::swap(other, &mut *lock(&self.ready));
    }

    /// Whether other threads send so much to connections of this worker that it should do it for them, all that has come
    /// meanwhile in one system call. It must be able to look at once: it waits on its port, or is quick.
    pub(super) fn is_in_a_burst(&self, now_ms: u64) -> bool {
        let (at_ms, sends) = (self.burst.at_ms.load(Relaxed), self.burst.sends.load(Relaxed));
        // Threads that meet here may miscount, which only moves the border.
        if at_ms != now_ms {
            self.burst.at_ms.store(now_ms, Relaxed);
            self.burst.sends.store(1, Relaxed);
            return false;
        }
        self.burst.sends.store(sends.saturating_add(1), Relaxed);
        let is_quick = || now_ms <= self.now_ms.load(Relaxed) + 1;
        sends >= BURST_PER_MS && (self.wake.sleeps() || is_quick())
    }
}

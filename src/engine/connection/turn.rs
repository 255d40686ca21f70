//! One worker's turn, as its connections see it: what they need while something happens to them, and what each callback
//! is followed by.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::caller::Caller;
use super::connections::Connections;
use super::owner::Owner;
use super::state::Connection;
use super::worker_link::WorkerLink;
use crate::engine::events::Level;
use crate::engine::log::Flood;
use crate::likely::unlikely;
use crate::pool::wheel::Wheel;
use crate::port::Port;
use crate::status::Status;

/// What only the worker itself knows.
pub struct TurnState {
    /// Owners of this worker's connections, by index.
    pub(super) owners: Vec<Option<Arc<Owner>>>,
    pub(super) deadlines: Deadlines,
    /// When the engine last had control back.
    pub(in crate::engine) mark_ns: u64,
    /// The clock of this turn: milliseconds since the engine began.
    pub(super) now_ms: u64,
    /// The key whose completion is being dispatched, or 0.
    pub(in crate::engine) serving: u64,
    /// The clock was read since the wait ended.
    pub(in crate::engine) clock_is_fresh: bool,
    /// Some of what callbacks sent is held back still.
    pub(in crate::engine) corks_left: bool,
    /// A listener may have more connections than were accepted.
    pub(in crate::engine) accepts_left: bool,
    /// Blocks that are reserved for what a layer may have to keep of the next receive.
    pub(in crate::engine) held_blocks: u32,
}

/// The deadlines of the worker's connections.
pub(super) struct Deadlines {
    pub(super) wheel: Wheel,
    /// When the wheel must be looked at.
    pub(super) next_look_ns: u64,
}

/// There is nothing to look at.
pub(in crate::engine) const NEVER: u64 = u64::MAX;

/// What is at hand while a connection is worked on.
pub struct Turn<'a, P: Port> {
    pub(in crate::engine) connections: &'a Connections<P>,
    pub(in crate::engine) link: &'a WorkerLink<P>,
    pub(in crate::engine) worker: usize,
    pub(in crate::engine) caller: &'a Caller,
    pub(in crate::engine) state: &'a mut TurnState,
}

impl TurnState {
    /// Of a worker that begins.
    pub fn new<P: Port>(connections: &Connections<P>, worker: usize) -> TurnState {
        let mark_ns = connections.links[worker].port.now_ns();
        let now_ms = connections.ms_at(mark_ns);
        let wheel = Wheel::new(now_ms);
        TurnState {
            owners: Vec::new(),
            deadlines: Deadlines { wheel, next_look_ns: NEVER },
            mark_ns,
            now_ms,
            serving: 0,
            clock_is_fresh: false,
            corks_left: false,
            accepts_left: false,
            held_blocks: 0,
        }
    }
}

impl<P: Port> Turn<'_, P> {
    /// After each callback: its time is counted, and what it sent leaves.
    #[inline(never)]
    pub(in crate::engine) fn called(&mut self) {
        self.called_for_a_message();
    }

    /// The same, where each call would count.
    #[inline(always)]
    pub(super) fn called_for_a_message(&mut self) {
        self.state.corks_left = self.connections.flush_corks(self.caller, self.now_ms());
        let callbacks = &self.link.callbacks;
        let now_ns = self.link.port.now_ns();
        let took_ns = now_ns.saturating_sub(self.state.mark_ns);
        self.state.mark_ns = now_ns;
        callbacks.total_ns.store(callbacks.total_ns.load(Relaxed) + took_ns, Relaxed);
        if unlikely(took_ns > callbacks.max_ns.load(Relaxed)) {
            callbacks.max_ns.store(took_ns, Relaxed);
        }
        if unlikely(took_ns > self.connections.slow_callback_ns) {
            self.report_slow(took_ns);
        }
    }

    #[cold]
    fn report_slow(&mut self, took_ns: u64) {
        self.link.callbacks.slow.fetch_add(1, Relaxed);
        let (ms, worker) = (took_ns / 1_000_000, self.worker);
        self.connections.log.limited(
            Flood::SlowCallback,
            self.state.mark_ns,
            Level::Warning,
            format_args!("worker {worker}: a callback took {ms} ms; its other connections waited"),
        );
        self.read_clock();
    }

    /// The port broke: the host closed the descriptors. No event will come any more, so the worker's connections end.
    #[cold]
    #[inline(never)]
    pub(in crate::engine) fn port_is_broken(&mut self, error: io::Error) {
        if !self.link.parking.begin() {
            return;
        }
        let worker = self.worker;
        self.connections.log.line(
            Level::Error,
            format_args!("worker {worker}: its port is broken, its connections end: wait on the port failed: {error}"),
        );
        self.connections.close_all_of(worker, Status::Os);
    }

    /// Reads the clock for this turn.
    #[inline]
    pub(in crate::engine) fn read_clock(&mut self) {
        self.state.mark_ns = self.link.port.now_ns();
        self.state.now_ms = self.connections.ms_at(self.state.mark_ns);
        self.link.now_ms.store(self.state.now_ms, Relaxed);
    }

    /// The clock of this turn, as connections keep it.
    #[inline]
    pub(in crate::engine) fn now_ms(&self) -> u64 {
        self.state.now_ms
    }

    /// The owner of a connection that was opened.
    pub(super) fn owner_of(&self, connection: &Connection<P>) -> Option<Arc<Owner>> {
        self.state.owners.get(connection.owner.load(Relaxed) as usize)?.clone()
    }
}

//! One loop: run the stories that can go on, look at the connections that called for attention, wait on the port,
//! dispatch what happened, sweep the deadlines that are due.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Waker};

use super::api::Close;
use super::cork::Cork;
use super::core::Core;
use super::endpoint::Endpoint;
use super::events::Level;
use super::local::{self, Local};
use super::tasks::{Driver, WakeWith};
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// A worker: whoever holds it runs its turns.
pub struct Worker<P: Port> {
    core: Arc<Core<P>>,
    index: usize,
    ring: P::Ring,
    state: State<P>,
    driver: Driver,
    waker: Waker,
    local: Option<Box<Local>>,
    /// The attention list that is being worked on; changes places with the shared one.
    attention: Vec<u32>,
}

/// What only the worker itself knows.
pub struct State<P: Port> {
    /// Endpoints of this worker's connections, by index.
    pub(super) endpoints: Vec<Option<Arc<Endpoint<P>>>>,
    /// Its connections, each with its place in this list.
    pub(super) members: Vec<u32>,
    pub(super) next_sweep_ms: Option<u32>,
    /// When the engine last had control back.
    mark_ns: u64,
    /// The clock was read since the wait ended.
    pub(super) clock_is_fresh: bool,
}

/// Where completions are dispatched; apart from the ring, which the port holds meanwhile.
pub struct Desk<'a, P: Port> {
    pub(super) core: &'a Core<P>,
    pub(super) index: usize,
    pub(super) state: &'a mut State<P>,
}

impl<P: Port> Worker<P> {
    pub(super) fn new(core: &Arc<Core<P>>, index: usize, ring: P::Ring) -> Worker<P> {
        let most = core.config.max_connections as usize;
        let weak = Arc::downgrade(core);
        let waker = Waker::from(Arc::new(WakeWith(move || {
            if let Some(core) = weak.upgrade() {
                let outside = &core.workers[index];
                if outside.tasks.wake() {
                    outside.rouse();
                }
            }
        })));
        let local = Local {
            place: core.handle.engine,
            worker: index as u32,
            engine: core.clone(),
            cork: std::cell::RefCell::new(Cork::new(core.config.max_connections, core.config.buffer_bytes)),
        };
        Worker {
            core: core.clone(),
            index,
            ring,
            driver: core.workers[index].tasks.driver(),
            waker,
            local: Some(Box::new(local)),
            attention: Vec::with_capacity(most),
            state: State {
                endpoints: Vec::new(),
                members: Vec::with_capacity(most),
                next_sweep_ms: None,
                mark_ns: core.workers[index].port.now_ns(),
                clock_is_fresh: false,
            },
        }
    }

    /// Turns on this thread until the engine ends.
    pub(super) fn run(&mut self) {
        let before = self.local.take().and_then(local::enter);
        while !self.core.exiting.load(SeqCst) {
            // A contained fault was logged; the next turn goes on.
            let _ = self.turn_contained(None);
        }
        self.local = local::leave(before);
    }

    /// One turn; waits at most `timeout_ns` (None: for ever). Gives the number of completions.
    pub(super) fn turn(&mut self, timeout_ns: Option<u64>) -> Result<u32, Status> {
        let before = self.local.take().and_then(local::enter);
        let completions = self.turn_contained(timeout_ns);
        self.local = local::leave(before);
        completions
    }

    /// Faults while a connection is served are contained where they happen; this is for all that is left.
    fn turn_contained(&mut self, timeout_ns: Option<u64>) -> Result<u32, Status> {
        catch_unwind(AssertUnwindSafe(|| self.turn_inside(timeout_ns))).map_err(|_| {
            self.desk().report_fault("a turn");
            Status::Panic
        })
    }

    fn turn_inside(&mut self, timeout_ns: Option<u64>) -> u32 {
        if self.core.config.caller_driven {
            // The host may have been away for long; a worker thread has just ended its turn before.
            self.core.workers[self.index].sleeping.store(false, SeqCst);
            self.desk().read_clock();
        }
        self.run_stories();
        let mut completions = self.attend_all();
        completions += self.wait(timeout_ns);
        self.core.workers[self.index].tasks.fire_timers(self.state.mark_ns);
        self.desk().sweep_if_due();
        if self.core.config.caller_driven {
            // What this turn brought about is told in this turn, not when the host comes back.
            self.run_stories();
            completions += self.attend_all();
            self.prepare_descriptor();
        }
        completions
    }

    fn desk(&mut self) -> Desk<'_, P> {
        Desk { core: &self.core, index: self.index, state: &mut self.state }
    }

    /// Waits on the port and dispatches what happened.
    fn wait(&mut self, timeout_ns: Option<u64>) -> u32 {
        let timeout_ns = self.time_to_wait(timeout_ns);
        let core = &self.core;
        let outside = &core.workers[self.index];
        outside.sleeping.store(true, SeqCst);
        let timeout_ns = if self.has_work() { Some(0) } else { timeout_ns };
        self.state.clock_is_fresh = false;
        let mut desk = Desk { core, index: self.index, state: &mut self.state };
        let waited = outside.port.wait(&mut self.ring, timeout_ns, &mut desk);
        outside.sleeping.store(false, SeqCst);
        if !desk.state.clock_is_fresh {
            desk.read_clock();
        }
        waited.unwrap_or_else(|error| {
            core.log(Level::Error, format_args!("worker {}: wait on the port failed: {error}", self.index));
            0
        })
    }

    fn has_work(&self) -> bool {
        let outside = &self.core.workers[self.index];
        outside.tasks.is_woken() || outside.is_called.load(SeqCst) || self.core.exiting.load(SeqCst)
    }

    /// Between two turns the descriptor must tell of whatever makes the next one due.
    fn prepare_descriptor(&mut self) {
        let due = self.desk().next_due_ns();
        let outside = &self.core.workers[self.index];
        if let Err(error) = outside.port.set_alarm(due) {
            self.core.log(Level::Error, format_args!("the alarm of the engine's descriptor failed: {error}"));
        }
        outside.sleeping.store(true, SeqCst);
        if self.has_work() {
            outside.port.wake();
        }
    }

    fn time_to_wait(&mut self, timeout_ns: Option<u64>) -> Option<u64> {
        let mark_ns = self.state.mark_ns;
        let due = self.desk().next_due_ns().map(|due| due.saturating_sub(mark_ns));
        match (timeout_ns, due) {
            (Some(timeout), Some(due)) => Some(timeout.min(due)),
            (one, other) => one.or(other),
        }
    }

    fn run_stories(&mut self) {
        let tasks = &self.core.workers[self.index].tasks;
        if !tasks.take_woken() {
            return;
        }
        let mut context = Context::from_waker(&self.waker);
        let driver = &mut self.driver;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _ = driver.as_mut().poll(&mut context);
        }));
        if polled.is_err() {
            // The future that panicked is lost; its executor goes on with a new driver.
            self.driver = tasks.driver();
            tasks.wake();
            self.desk().report_fault("a story");
        }
        self.desk().called();
    }

    fn attend_all(&mut self) -> u32 {
        let outside = &self.core.workers[self.index];
        if !outside.is_called.load(Acquire) {
            return 0;
        }
        outside.is_called.store(false, SeqCst);
        std::mem::swap(&mut self.attention, &mut *lock(&outside.attention));
        let mut attended = 0;
        while let Some(index) = self.attention.pop() {
            attended += 1;
            let mut desk = Desk { core: &self.core, index: self.index, state: &mut self.state };
            let ring = &mut self.ring;
            if catch_unwind(AssertUnwindSafe(|| desk.attend(index, ring))).is_err() {
                desk.contain(index);
            }
        }
        attended
    }
}

impl<P: Port> Desk<'_, P> {
    /// After each callback: its time is counted, and what it corked leaves.
    #[inline]
    pub(super) fn called(&mut self) {
        self.core.flush_corks();
        let now_ns = self.core.workers[self.index].port.now_ns();
        let took_ns = now_ns.saturating_sub(self.state.mark_ns);
        self.state.mark_ns = now_ns;
        let outside = &self.core.workers[self.index];
        outside.callback_total_ns.store(outside.callback_total_ns.load(Relaxed) + took_ns, Relaxed);
        if took_ns > outside.callback_max_ns.load(Relaxed) {
            outside.callback_max_ns.store(took_ns, Relaxed);
        }
        if took_ns > u64::from(self.core.config.slow_callback_ms) * 1_000_000 {
            self.report_slow(took_ns);
        }
    }

    #[cold]
    fn report_slow(&mut self, took_ns: u64) {
        let outside = &self.core.workers[self.index];
        outside.slow_callbacks.fetch_add(1, Relaxed);
        let ms = took_ns / 1_000_000;
        self.core.log(
            Level::Warning,
            format_args!("worker {}: a callback took {ms} ms; its other connections waited", self.index),
        );
        self.read_clock();
    }

    /// Reads the clock for this turn.
    pub(super) fn read_clock(&mut self) {
        let outside = &self.core.workers[self.index];
        self.state.mark_ns = outside.port.now_ns();
        outside.now_ms.store(((self.state.mark_ns - self.core.started_ns) / 1_000_000) as u32, Relaxed);
    }

    /// The clock of this turn.
    #[inline]
    pub(super) fn now_ms(&self) -> u32 {
        self.core.now_ms(self.index)
    }

    /// When this worker must look at the clock again.
    fn next_due_ns(&self) -> Option<u64> {
        let timer = self.core.workers[self.index].tasks.next_timer_ns();
        let sweep = self.state.next_sweep_ms.map(|at| {
            let in_ms = (at.wrapping_sub(self.now_ms()) as i32).max(0) as u64;
            self.state.mark_ns + in_ms * 1_000_000
        });
        match (timer, sweep) {
            (Some(timer), Some(sweep)) => Some(timer.min(sweep)),
            (one, other) => one.or(other),
        }
    }

    /// A panic was caught while this connection was served: it ends, the others go on.
    #[cold]
    pub(super) fn contain(&mut self, index: u32) {
        self.report_fault("a connection");
        let core = self.core;
        let generation = core.connections[index as usize].generation.load(Acquire);
        core.close_member(index, generation, Close::Now, Status::Panic);
    }

    #[cold]
    pub(super) fn report_fault(&self, what: &str) {
        self.core.log(
            Level::Error,
            format_args!("worker {}: a fault inside the library was contained while {what} was served", self.index),
        );
    }
}

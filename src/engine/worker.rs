//! One loop: run the stories that can go on, look at the connections that called for attention, wait on the port,
//! dispatch what happened, sweep the deadlines that are due.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Waker};

use super::accept::Pace;
use super::api::Close;
use super::core::{Core, Outside, extra_blocks};
use super::cork::Cork;
use super::endpoint::Endpoint;
use super::events::Level;
use super::local::{self, Local};
use super::tasks::{Driver, WakeWith};
use crate::likely::unlikely;
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
    /// Turns for which a sweep that is late was put off.
    pub(super) sweep_put_off: u32,
    /// When the engine last had control back.
    mark_ns: u64,
    /// The clock was read since the wait ended.
    pub(super) clock_is_fresh: bool,
    /// Some of what callbacks sent is held back still.
    pub(super) corks_left: bool,
    pub(super) accept_pace: Pace,
    /// The key whose completion is being dispatched, or 0.
    pub(super) serving: u64,
}

/// What was caught.
enum Fault {
    /// One connection (or accept) had it, and is ended.
    Contained,
    /// Nobody in particular.
    OfTheTurn,
}

/// Where completions are dispatched; apart from the ring, which the port holds meanwhile.
pub struct Desk<'a, P: Port> {
    pub(super) core: &'a Core<P>,
    pub(super) outside: &'a Outside<P>,
    pub(super) index: usize,
    pub(super) local: &'a Local,
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
                    outside.ask();
                }
            }
        })));
        let local = Local {
            place: core.handle.engine,
            worker: index as u32,
            engine: core.clone(),
            cork: std::cell::RefCell::new(Cork::new(
                core.config.max_connections,
                extra_blocks(&core.config) / core.config.workers,
            )),
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
                sweep_put_off: 0,
                mark_ns: core.workers[index].port.now_ns(),
                clock_is_fresh: false,
                corks_left: false,
                accept_pace: Pace::new(core.config.caller_driven),
                serving: 0,
            },
        }
    }

    /// Turns on this thread until the engine ends.
    pub(super) fn run(&mut self) {
        let mut local = self.local.take();
        let core = Arc::clone(&self.core);
        let outside = &core.workers[self.index];
        local::enter(&mut local, |local| {
            while !core.exiting.load(SeqCst) {
                // A contained fault was logged; the next turn goes on with what is left.
                let _ = self.contained(local, |worker| {
                    loop {
                        if unlikely(worker.is_asked(outside)) {
                            worker.do_what_is_asked(local);
                            // After the call was taken: before, it could come between the look and the taking, and be lost.
                            if core.exiting.load(SeqCst) {
                                return;
                            }
                        }
                        worker.wait(&core, outside, local, None);
                    }
                });
            }
        });
        self.local = local;
    }

    /// One turn; waits at most `timeout_ns` (None: for ever). Gives the number of completions.
    pub(super) fn turn(&mut self, timeout_ns: Option<u64>) -> Result<u32, Status> {
        let mut local = self.local.take();
        let completions = local::enter(&mut local, |local| {
            let mut completions = self.contained(local, |worker| worker.turn_driven(local, timeout_ns));
            while let Err(Fault::Contained) = completions {
                completions = self.contained(local, |worker| worker.turn_driven(local, Some(0)));
            }
            completions.map_err(|_| Status::Panic)
        });
        self.local = local;
        completions.unwrap_or(Err(Status::Limit))
    }

    /// Catches a panic; when it came while a connection was served, that one ends and the others go on.
    fn contained<R>(&mut self, local: &Local, work: impl FnOnce(&mut Self) -> R) -> Result<R, Fault> {
        catch_unwind(AssertUnwindSafe(|| work(self))).map_err(|_| {
            if self.desk(local).contain_fault() {
                return Fault::Contained;
            }
            self.desk(local).report_fault("a turn");
            Fault::OfTheTurn
        })
    }

    fn turn_driven(&mut self, local: &Local, timeout_ns: Option<u64>) -> u32 {
        // The host may have been away for long; a worker thread has just ended its turn before.
        let mut desk = self.desk(local);
        desk.outside.call.wake_up();
        desk.read_clock();
        let mut completions = self.do_what_is_asked(local);
        let core = Arc::clone(&self.core);
        completions += self.wait(&core, &core.workers[self.index], local, timeout_ns);
        // What this turn brought about is told in this turn, not when the host comes back.
        completions += self.do_what_is_asked(local);
        self.prepare_descriptor(local);
        completions
    }

    #[inline]
    fn desk<'a>(&'a mut self, local: &'a Local) -> Desk<'a, P> {
        let core = &*self.core;
        Desk { core, outside: &core.workers[self.index], index: self.index, local, state: &mut self.state }
    }

    /// Whether there is anything to do before the next wait.
    #[inline(always)]
    fn is_asked(&self, outside: &Outside<P>) -> bool {
        self.state.corks_left || outside.call.is_asked()
    }

    /// Moves on the stories that can go on, and looks at the connections that called for attention.
    #[inline(never)]
    fn do_what_is_asked(&mut self, local: &Local) -> u32 {
        let outside = &self.core.workers[self.index];
        if self.state.corks_left {
            self.state.corks_left = self.core.flush_corks(local, outside.now_ms.load(Relaxed));
        }
        // Before the looks: who asks from here on is seen the next time.
        if !outside.call.take() {
            return 0;
        }
        self.run_stories(local);
        self.attend_all(local)
    }

    /// Waits on the port and dispatches what happened; then looks at the clock.
    #[inline(always)]
    fn wait(&mut self, core: &Core<P>, outside: &Outside<P>, local: &Local, timeout_ns: Option<u64>) -> u32 {
        let mut desk = Desk { core, outside, index: self.index, local, state: &mut self.state };
        let timeout_ns = desk.time_to_wait(timeout_ns);
        let must_not_wait = outside.call.fall_asleep() || desk.state.corks_left;
        let timeout_ns = if unlikely(must_not_wait) { Some(0) } else { timeout_ns };
        desk.state.clock_is_fresh = false;
        let waited = outside.port.wait(&mut self.ring, timeout_ns, &mut desk);
        outside.call.wake_up();
        if !desk.state.clock_is_fresh {
            desk.read_clock();
        }
        outside.tasks.fire_timers(desk.state.mark_ns);
        let completions = waited.unwrap_or_else(|error| {
            core.log(Level::Error, format_args!("worker {}: wait on the port failed: {error}", desk.index));
            0
        });
        if unlikely(desk.state.next_sweep_ms.is_some()) {
            desk.sweep_if_due(completions);
        }
        completions
    }

    /// Between two turns the descriptor must tell of whatever makes the next one due.
    fn prepare_descriptor(&mut self, local: &Local) {
        let due_ns = self.desk(local).next_due_ns();
        let core = &*self.core;
        let outside = &core.workers[self.index];
        if let Err(error) = outside.port.set_alarm(due_ns) {
            core.log(Level::Error, format_args!("the alarm of the engine's descriptor failed: {error}"));
        }
        if outside.call.fall_asleep() || self.state.corks_left {
            outside.port.wake();
        }
    }

    fn run_stories(&mut self, local: &Local) {
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
            self.core.workers[self.index].ask();
            self.desk(local).report_fault("a story");
        }
        self.desk(local).called();
    }

    fn attend_all(&mut self, local: &Local) -> u32 {
        let core = &*self.core;
        let outside = &core.workers[self.index];
        std::mem::swap(&mut self.attention, &mut *lock(&outside.attention));
        let mut attended = 0;
        while let Some(index) = self.attention.pop() {
            attended += 1;
            let mut desk = Desk { core, outside, index: self.index, local, state: &mut self.state };
            let ring = &mut self.ring;
            if catch_unwind(AssertUnwindSafe(|| desk.attend(index, ring))).is_err() {
                desk.contain(index);
            }
        }
        attended
    }
}

impl<P: Port> Desk<'_, P> {
    /// After each callback: its time is counted, and what it sent leaves.
    #[inline(never)]
    pub(super) fn called(&mut self) {
        self.called_for_a_message();
    }

    /// The same, where each call would count.
    #[inline(always)]
    pub(super) fn called_for_a_message(&mut self) {
        self.state.corks_left = self.core.flush_corks(self.local, self.now_ms());
        let outside = self.outside;
        let now_ns = outside.port.now_ns();
        let took_ns = now_ns.saturating_sub(self.state.mark_ns);
        self.state.mark_ns = now_ns;
        outside.callback_total_ns.store(outside.callback_total_ns.load(Relaxed) + took_ns, Relaxed);
        if unlikely(took_ns > outside.callback_max_ns.load(Relaxed)) {
            outside.callback_max_ns.store(took_ns, Relaxed);
        }
        if unlikely(took_ns > self.core.slow_callback_ns) {
            self.report_slow(took_ns);
        }
    }

    #[cold]
    fn report_slow(&mut self, took_ns: u64) {
        self.outside.slow_callbacks.fetch_add(1, Relaxed);
        let ms = took_ns / 1_000_000;
        self.core.log(
            Level::Warning,
            format_args!("worker {}: a callback took {ms} ms; its other connections waited", self.index),
        );
        self.read_clock();
    }

    /// Reads the clock for this turn.
    #[inline]
    pub(super) fn read_clock(&mut self) {
        self.state.mark_ns = self.outside.port.now_ns();
        let since_start_ns = self.state.mark_ns - self.core.started_ns;
        self.outside.now_ms.store((since_start_ns / 1_000_000) as u32, Relaxed);
    }

    /// The clock of this turn.
    #[inline]
    pub(super) fn now_ms(&self) -> u32 {
        self.outside.now_ms.load(Relaxed)
    }

    #[inline]
    fn time_to_wait(&self, timeout_ns: Option<u64>) -> Option<u64> {
        let due = self.next_due_ns().map(|due| due.saturating_sub(self.state.mark_ns));
        match (timeout_ns, due) {
            (Some(timeout), Some(due)) => Some(timeout.min(due)),
            (one, other) => one.or(other),
        }
    }

    /// When this worker must look at the clock again.
    #[inline]
    fn next_due_ns(&self) -> Option<u64> {
        let timer = self.outside.tasks.next_timer_ns();
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

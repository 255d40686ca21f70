//! One loop: run the stories that can go on, look at the connections that called for attention, wait on the port,
//! dispatch what happened, sweep the deadlines that are due.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::*;
use std::task::{Context, Waker};

use super::api::Close;
use super::connection::{CLOSING, Connection, ENROLLED, OPENED, PAUSED, PEER_ENDED, PULL, Phase, RESUMED};
use super::core::Core;
use super::endpoint::Endpoint;
use super::events::Level;
use super::failpoint;
use super::failure::status_of;
use super::local::{self, Local};
use super::tasks::{Driver, WakeWith};
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::{Completion, Interest, Port, Sink};
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
    endpoints: Vec<Option<Arc<Endpoint<P>>>>,
    /// Its connections, each with its place in this list.
    pub(super) members: Vec<u32>,
    pub(super) next_sweep_ms: Option<u32>,
    /// When the engine last had control back.
    mark_ns: u64,
    /// The clock was read since the wait ended.
    clock_is_fresh: bool,
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
            corked: std::cell::RefCell::new(Vec::with_capacity(most)),
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

impl<P: Port> Sink for Desk<'_, P> {
    #[inline]
    fn interest(&mut self, key: u64) -> Interest {
        let Some(handle) = Handle::from_bits(key) else { return Interest::Gone };
        if handle.kind != Kind::Connection {
            return Interest::Notify(-1);
        }
        let Some(connection) = self.core.connections.get(handle.index as usize) else { return Interest::Gone };
        if connection.generation.load(Relaxed) != handle.generation {
            return Interest::Gone;
        }
        let raw = connection.raw_socket();
        let flags = connection.flags.load(Acquire);
        match connection.phase() {
            Phase::Free | Phase::Closed => Interest::Gone,
            Phase::Lingering => Interest::Receive(raw),
            _ if flags & PEER_ENDED != 0 => Interest::Nothing(raw),
            _ if flags & PULL != 0 && flags & CLOSING == 0 => Interest::Notify(raw),
            _ if flags & PAUSED != 0 => Interest::Nothing(raw),
            _ => Interest::Receive(raw),
        }
    }

    #[inline]
    fn complete(&mut self, key: u64, completion: Completion<'_>) {
        let Some(handle) = Handle::from_bits(key) else { return };
        if matches!(completion, Completion::Writable) && self.needs_no_room(handle) {
            return;
        }
        if !self.state.clock_is_fresh {
            self.state.clock_is_fresh = true;
            self.read_clock();
        }
        if catch_unwind(AssertUnwindSafe(|| self.dispatch(handle, completion))).is_err() {
            match handle.kind {
                Kind::Connection => self.contain(handle.index),
                _ => self.report_fault("an accept or connect"),
            }
        }
    }
}

impl<P: Port> Desk<'_, P> {
    /// Edge-triggered readiness tells of room with every message; hardly anybody waits for it.
    #[inline]
    fn needs_no_room(&self, handle: Handle) -> bool {
        let connection = match self.core.connections.get(handle.index as usize) {
            Some(connection) if handle.kind == Kind::Connection => connection,
            _ => return false,
        };
        connection.phase() == Phase::Open && !connection.send_unsettled.load(SeqCst)
    }

    #[inline]
    fn dispatch(&mut self, handle: Handle, completion: Completion<'_>) {
        match handle.kind {
            Kind::Connection => {}
            Kind::Server => return self.accept_ready(handle),
            _ => return self.core.dial_ended(handle.to_bits()),
        }
        let core = self.core;
        let Some(connection) = core.connections.get(handle.index as usize) else { return };
        if connection.generation.load(Relaxed) != handle.generation {
            return;
        }
        failpoint::hit(failpoint::Point::Dispatch);
        match connection.phase() {
            Phase::Free | Phase::Closed => return,
            Phase::Opening => self.open(connection, handle),
            _ => {}
        }
        match completion {
            Completion::Received(data) => self.received(connection, handle, data),
            Completion::Writable => self.writable(connection, handle.index),
            Completion::Readable => {
                let side = lock(&connection.send);
                if side.waiters > 0 {
                    connection.changed.notify_all();
                }
            }
            Completion::EndOfStream => self.peer_ended(connection, handle),
            Completion::Failed(error) => self.failed(connection, handle.index, status_of(&error)),
        }
    }

    #[inline]
    fn received(&mut self, connection: &Connection<P>, handle: Handle, data: &[u8]) {
        if connection.phase() != Phase::Open || connection.has(CLOSING) {
            return;
        }
        connection.count_received(data.len(), self.now_ms());
        if let Some(Some(endpoint)) = self.state.endpoints.get(connection.endpoint.load(Relaxed) as usize) {
            endpoint.handler.on_receive(handle.to_bits(), data);
        }
        self.called();
    }

    /// The first event of a connection: the user gets it.
    fn open(&mut self, connection: &Connection<P>, handle: Handle) {
        let (endpoint, peer) = {
            let side = lock(&connection.send);
            if side.close.is_some() {
                return; // Closed before it was ever told of; its end comes by attention.
            }
            connection.set_phase(Phase::Open);
            (side.endpoint.clone(), side.peer)
        };
        let Some(endpoint) = endpoint else { return };
        let place = endpoint.handle.index as usize;
        if self.state.endpoints.len() <= place {
            self.state.endpoints.resize_with(place + 1, || None);
        }
        self.state.endpoints[place] = Some(endpoint.clone());
        self.enroll(connection, handle.index);
        connection.set(OPENED);
        let count = endpoint.count_open();
        if self.core.logs(Level::Debug) {
            let kind = endpoint.kind_name();
            self.core.log(Level::Debug, format_args!("{kind}: {peer} connected, {count} in all"));
        }
        endpoint.handler.on_open(handle.to_bits());
        self.called();
        if let Ok(client) = endpoint.client() {
            client.connected(handle.to_bits());
            endpoint.signal.notify();
        }
    }

    fn enroll(&mut self, connection: &Connection<P>, index: u32) {
        connection.worker_place.store(self.state.members.len() as u32, Relaxed);
        connection.set(ENROLLED);
        self.state.members.push(index);
        self.note_deadlines_of(connection);
    }

    /// Strikes a connection out of the members.
    pub(super) fn strike(&mut self, index: u32) {
        let place = self.core.connections[index as usize].worker_place.load(Relaxed) as usize;
        self.state.members.swap_remove(place);
        if let Some(moved) = self.state.members.get(place) {
            self.core.connections[*moved as usize].worker_place.store(place as u32, Relaxed);
        }
    }

    /// The endpoint of a connection that was opened.
    pub(super) fn endpoint_of(&self, connection: &Connection<P>) -> Arc<Endpoint<P>> {
        let place = connection.endpoint.load(Relaxed) as usize;
        self.state.endpoints[place].clone().expect("entered when the connection was opened")
    }

    /// The kernel has room: what waits goes on.
    fn writable(&mut self, connection: &Connection<P>, index: u32) {
        if !connection.send_unsettled.load(SeqCst) {
            return;
        }
        {
            let mut side = lock(&connection.send);
            side.blocked = false;
            self.core.flush_locked(connection, index, &mut side);
            if side.queue.is_empty() {
                connection.send_unsettled.store(false, Release);
            }
            if side.waiters > 0 {
                connection.changed.notify_all();
            }
        }
        self.core.feed_starving();
        self.tell_sent(connection, index);
        self.tell_writable(connection, index);
        self.progress(index);
    }

    fn peer_ended(&mut self, connection: &Connection<P>, handle: Handle) {
        connection.set(PEER_ENDED);
        if connection.phase() == Phase::Open && !connection.has(CLOSING) {
            let endpoint = self.endpoint_of(connection);
            if endpoint.wants.end {
                endpoint.handler.on_end(handle.to_bits());
                self.called();
            } else {
                self.core.close_member(handle.index, handle.generation, Close::Flush, Status::EndOfStream);
            }
        }
        self.progress(handle.index);
    }

    fn failed(&mut self, connection: &Connection<P>, index: u32, status: Status) {
        let reason = {
            let side = lock(&connection.send);
            if side.close.is_some_and(|how| how >= Close::Now) { side.reason } else { status }
        };
        self.finish(index, reason);
    }

    /// Does for a connection whatever was asked for since the last look.
    fn attend(&mut self, index: u32, ring: &mut P::Ring) {
        let core = self.core;
        let connection = &core.connections[index as usize];
        connection.attention.store(false, SeqCst);
        if connection.worker.load(Acquire) as usize != self.index {
            // The place was used again, by another worker, since we were called.
            return core.call_attention(connection, index);
        }
        if connection.phase() == Phase::Free {
            return;
        }
        failpoint::hit(failpoint::Point::Attend);
        self.tell_sent(connection, index);
        self.tell_writable(connection, index);
        self.progress(index);
        if connection.has(RESUMED) {
            connection.unset(RESUMED);
            P::receive_again(ring, core.handle_of(index).to_bits());
        }
        if connection.phase() == Phase::Open {
            self.note_deadlines_of(connection);
        }
    }

    /// One `on_sent` for each send whose last byte was handed to the kernel.
    fn tell_sent(&mut self, connection: &Connection<P>, index: u32) {
        while connection.has(OPENED) {
            let mark = lock(&connection.send).queue.take_mark(&self.core.blocks, true);
            let Some((token, _)) = mark else { return };
            let endpoint = self.endpoint_of(connection);
            endpoint.handler.on_sent(self.core.handle_of(index).to_bits(), token, Status::Ok);
            self.called();
        }
    }

    /// `on_writable` when a send was refused and half of the room is free again.
    fn tell_writable(&mut self, connection: &Connection<P>, index: u32) {
        {
            let mut side = lock(&connection.send);
            if side.waiters > 0 {
                connection.changed.notify_all();
            }
            if !side.owes_writable || side.queue.len() > side.limit as usize / 2 || !connection.has(OPENED) {
                return;
            }
            side.owes_writable = false;
        }
        let endpoint = self.endpoint_of(connection);
        endpoint.handler.on_writable(self.core.handle_of(index).to_bits());
        self.called();
    }

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
    fn contain(&mut self, index: u32) {
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

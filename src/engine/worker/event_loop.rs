//! One loop: run the tasks that can go on, look at the connections of the ready list, wait on the port, dispatch what
//! happened, end what is overdue.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Waker};

use super::dispatch::Dispatcher;
use super::sources::Sources;
use super::tasks::{Driver, WakeWith};
use super::timers::Timers;
use super::workers::Workers;
use crate::engine::connection::caller::Caller;
use crate::engine::connection::connections::Connections;
use crate::engine::connection::turn::{NEVER, Turn, TurnState};
use crate::engine::connection::turn_context::{self, TurnContext};
use crate::engine::connection::worker_link::WorkerLink;
use crate::engine::events::Level;
use crate::engine::log::Flood;
use crate::likely::unlikely;
use crate::pool::room::{self, NoMemory};
use crate::port::Port;
use crate::status::Status;

/// A worker: whoever holds it runs its turns.
pub struct Worker<P: Port> {
    workers: Arc<Workers<P>>,
    index: usize,
    ring: P::Ring,
    state: TurnState,
    driver: Driver,
    waker: Waker,
    context: Option<Box<TurnContext>>,
    /// The ready list that is being worked on; changes places with the shared one.
    ready: Vec<u32>,
}

/// What a wait needs of what the workers share.
struct Surroundings<'a, P: Port> {
    connections: &'a Connections<P>,
    link: &'a WorkerLink<P>,
    timers: &'a Timers,
    sources: &'a Sources<P>,
}

/// What was caught.
enum Fault {
    /// One connection (or accept) had it, and is ended.
    Contained,
    /// Nobody in particular.
    OfTheTurn,
}

impl<'a, P: Port> Surroundings<'a, P> {
    fn of(workers: &'a Workers<P>, index: usize) -> Surroundings<'a, P> {
        let connections = &*workers.connections;
        let (link, timers) = (&connections.links[index], &workers.tasks[index].timers);
        Surroundings { connections, link, timers, sources: &workers.sources }
    }
}

impl<P: Port> Worker<P> {
    /// The worker of this number. So many blocks of the pool back what the callbacks of all workers send; `engine` is the
    /// engine's place in the registry.
    pub fn new(
        workers: &Arc<Workers<P>>,
        index: usize,
        engine: u8,
        backing_blocks: u32,
        ring: P::Ring,
    ) -> Result<Worker<P>, NoMemory> {
        let weak = Arc::downgrade(workers);
        let waker = Waker::from(Arc::new(WakeWith(move || {
            if let Some(workers) = weak.upgrade() {
                if workers.tasks[index].wake() {
                    workers.connections.links[index].post();
                }
            }
        })));
        let connections = &workers.connections;
        let cork = RefCell::new(connections.new_cork(backing_blocks)?);
        let caller = Caller { engine, worker: index as u32, cork };
        let context = TurnContext { caller, calls: connections.clone() };
        Ok(Worker {
            index,
            ring,
            state: TurnState::new(connections, index),
            driver: workers.tasks[index].driver(),
            waker,
            context: Some(Box::new(context)),
            ready: room::list(connections.table.places.len())?,
            workers: workers.clone(),
        })
    }

    /// Turns on this thread until the engine ends.
    pub fn run(&mut self) {
        let mut context = self.context.take();
        let workers = Arc::clone(&self.workers);
        let surroundings = Surroundings::of(&workers, self.index);
        let link = surroundings.link;
        turn_context::enter(&mut context, |context| {
            let caller = &context.caller;
            while !workers.is_exiting() {
                // A contained fault was logged; the next turn goes on with what is left.
                let _ = self.contained(caller, |worker| {
                    loop {
                        if unlikely(worker.has_work(link)) {
                            worker.do_work(caller);
                            // After the work was taken: before, it could come between the look and the taking, and be
                            // lost.
                            if workers.is_exiting() {
                                return;
                            }
                        }
                        if worker.wait(&surroundings, caller, None).is_none() {
                            return worker.run_without_port(&surroundings, caller);
                        }
                    }
                });
            }
        });
        self.context = context;
    }

    /// The port is broken: what has to end ends, and the engine with it when it is told to.
    #[cold]
    fn run_without_port(&mut self, surroundings: &Surroundings<'_, P>, caller: &Caller) {
        while !self.workers.is_exiting() {
            self.do_work(caller);
            if self.workers.is_exiting() {
                return;
            }
            self.wait_without_port(surroundings, caller, None);
        }
    }

    /// One turn; waits at most `timeout_ns` (None: for ever). Gives the number of completions.
    pub fn turn(&mut self, timeout_ns: Option<u64>) -> Result<u32, Status> {
        let mut context = self.context.take();
        let completions = turn_context::enter(&mut context, |context| {
            let caller = &context.caller;
            let mut completions = self.contained(caller, |worker| worker.turn_driven(caller, timeout_ns));
            while let Err(Fault::Contained) = completions {
                completions = self.contained(caller, |worker| worker.turn_driven(caller, Some(0)));
            }
            if completions.is_err() {
                // What the turn left undone is done in another one.
                self.workers.connections.links[self.index].ring();
            }
            completions.map_err(|_| Status::Panic)
        });
        self.context = context;
        let completions = completions.unwrap_or(Err(Status::Limit))?;
        let is_broken = self.workers.connections.links[self.index].parking.is_in_use();
        if is_broken { Err(Status::Os) } else { Ok(completions) }
    }

    /// Catches a panic; when it came while a connection was served, that one ends and the others go on.
    fn contained<R>(&mut self, caller: &Caller, work: impl FnOnce(&mut Self) -> R) -> Result<R, Fault> {
        catch_unwind(AssertUnwindSafe(|| work(self))).map_err(|_| {
            let mut dispatcher = self.dispatcher(caller);
            if dispatcher.contain_fault() {
                return Fault::Contained;
            }
            dispatcher.report_fault("a turn");
            Fault::OfTheTurn
        })
    }

    fn turn_driven(&mut self, caller: &Caller, timeout_ns: Option<u64>) -> u32 {
        let workers = Arc::clone(&self.workers);
        let surroundings = Surroundings::of(&workers, self.index);
        let link = surroundings.link;
        // The host may have been away for long; a worker thread has just ended its turn before.
        link.wake.wake_up();
        self.dispatcher(caller).turn.read_clock();
        self.state.accepts_left = false;
        let until_ns = timeout_ns.map(|timeout_ns| self.state.mark_ns.saturating_add(timeout_ns));
        // Where it breaks in this turn, the host is told of that at once.
        let was_broken = link.parking.is_in_use();
        let is_working = self.has_work(link);
        let mut completions = self.do_work(caller);
        completions += self.wait_on(&surroundings, caller, timeout_ns);
        // A signal ends a wait early, and the port at times; then it goes on.
        while completions == 0
            && !is_working
            && was_broken == link.parking.is_in_use()
            && self.has_time_left(&surroundings, caller, until_ns)
        {
            let left_ns = until_ns.map(|until_ns| until_ns.saturating_sub(self.state.mark_ns));
            completions += self.wait_on(&surroundings, caller, left_ns);
        }
        link.is_turn_to_end.store(false, SeqCst);
        // What this turn brought about is told in this turn, not when the host comes back.
        completions += self.do_work(caller);
        self.prepare_descriptor(link, caller);
        completions
    }

    /// Whether a wait that brought nothing ended before its time, and nobody asked for that.
    fn has_time_left(&mut self, surroundings: &Surroundings<'_, P>, caller: &Caller, until_ns: Option<u64>) -> bool {
        let Surroundings { link, timers, .. } = *surroundings;
        if self.has_work(link) || link.is_turn_to_end.load(SeqCst) {
            return false;
        }
        let mut turn = self.dispatcher(caller).turn;
        turn.read_clock();
        let due_ns = timers.next_ns().min(turn.next_deadline_ns()).min(until_ns.unwrap_or(NEVER));
        turn.state.mark_ns < due_ns
    }

    /// Waits on the port, or without it once it is broken.
    fn wait_on(&mut self, surroundings: &Surroundings<'_, P>, caller: &Caller, timeout_ns: Option<u64>) -> u32 {
        if surroundings.link.parking.is_in_use() {
            self.wait_without_port(surroundings, caller, timeout_ns);
            return 0;
        }
        self.wait(surroundings, caller, timeout_ns).unwrap_or(0)
    }

    #[inline]
    fn dispatcher<'a>(&'a mut self, caller: &'a Caller) -> Dispatcher<'a, P> {
        let connections = &*self.workers.connections;
        let link = &connections.links[self.index];
        let turn = Turn { connections, link, worker: self.index, caller, state: &mut self.state };
        Dispatcher { turn, sources: &self.workers.sources }
    }

    /// Whether there is anything to do before the next wait.
    #[inline(always)]
    fn has_work(&self, link: &WorkerLink<P>) -> bool {
        self.state.corks_left || link.wake.has_work()
    }

    /// Moves on the tasks that can go on, and looks at the connections of the ready list.
    #[inline(never)]
    fn do_work(&mut self, caller: &Caller) -> u32 {
        if self.state.corks_left {
            let now_ms = self.dispatcher(caller).turn.now_ms();
            self.state.corks_left = self.workers.connections.flush_corks(caller, now_ms);
        }
        if self.state.held_blocks > 0 {
            self.dispatcher(caller).turn.release_blocks();
        }
        // Before the looks: what is posted from here on is seen the next time.
        if !self.workers.connections.links[self.index].wake.take_work() {
            return 0;
        }
        self.run_tasks(caller);
        self.look_at_ready(caller)
    }

    /// Waits on the port and dispatches what happened; then looks at the clock. Gives the number of completions; None: the port
    /// is broken.
    #[inline(always)]
    fn wait(&mut self, surroundings: &Surroundings<'_, P>, caller: &Caller, timeout_ns: Option<u64>) -> Option<u32> {
        let Surroundings { connections, link, timers, sources } = *surroundings;
        let turn = Turn { connections, link, worker: self.index, caller, state: &mut self.state };
        let mut dispatcher = Dispatcher { turn, sources };
        let due_ns = timers.next_ns().min(dispatcher.turn.next_deadline_ns());
        let timeout_ns = if due_ns == NEVER {
            timeout_ns
        } else {
            let due_in_ns = due_ns.saturating_sub(dispatcher.turn.state.mark_ns);
            Some(timeout_ns.map_or(due_in_ns, |timeout_ns| timeout_ns.min(due_in_ns)))
        };
        let must_not_wait = link.wake.fall_asleep() || dispatcher.turn.state.corks_left;
        let timeout_ns = if unlikely(must_not_wait) { Some(0) } else { timeout_ns };
        dispatcher.turn.state.clock_is_fresh = false;
        let waited = link.port.wait(&mut self.ring, timeout_ns, &mut dispatcher);
        let mut turn = dispatcher.turn;
        link.wake.wake_up();
        if !turn.state.clock_is_fresh {
            turn.read_clock();
        }
        let completions = match waited {
            Ok(completions) => completions,
            Err(error) => {
                // What is due is found by the wait without a port.
                turn.port_is_broken(error);
                return None;
            }
        };
        timers.fire(turn.state.mark_ns);
        turn.end_overdue();
        Some(completions)
    }

    /// The same for a port that is broken: nothing can happen but what is posted and what is due.
    #[cold]
    fn wait_without_port(&mut self, surroundings: &Surroundings<'_, P>, caller: &Caller, timeout_ns: Option<u64>) {
        let Surroundings { link, timers, .. } = *surroundings;
        let mut turn = self.dispatcher(caller).turn;
        turn.read_clock();
        let due_ns = timers.next_ns().min(turn.next_deadline_ns());
        let due_in_ns = (due_ns != NEVER).then(|| due_ns.saturating_sub(turn.state.mark_ns));
        let timeout_ns = timeout_ns.into_iter().chain(due_in_ns).min();
        if !(link.wake.fall_asleep() || turn.state.corks_left) {
            link.parking.wait(timeout_ns);
        }
        link.wake.wake_up();
        turn.read_clock();
        timers.fire(turn.state.mark_ns);
        turn.end_overdue();
    }

    /// Between two turns the descriptor must tell of whatever makes the next one due.
    fn prepare_descriptor(&mut self, link: &WorkerLink<P>, caller: &Caller) {
        if link.parking.is_in_use() {
            return;
        }
        let timer_ns = self.workers.tasks[self.index].timers.next_ns();
        let due_ns = timer_ns.min(self.dispatcher(caller).turn.next_deadline_ns());
        if let Err(error) = link.port.set_alarm((due_ns != NEVER).then_some(due_ns)) {
            let log = &self.workers.connections.log;
            let line = format_args!("the alarm of the engine's descriptor failed: {error}");
            log.limited(Flood::AlarmFailed, self.state.mark_ns, Level::Error, line);
        }
        // A host that watches it edge-triggered comes again only for a new edge.
        let is_left = self.state.corks_left || self.state.accepts_left || P::may_have_more(&self.ring);
        if link.wake.fall_asleep() || is_left {
            link.ring();
        }
    }

    fn run_tasks(&mut self, caller: &Caller) {
        let tasks = &self.workers.tasks[self.index];
        if !tasks.take_woken() {
            return;
        }
        let mut task_context = Context::from_waker(&self.waker);
        let driver = &mut self.driver;
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _ = driver.as_mut().poll(&mut task_context);
        }));
        if polled.is_err() {
            // The future that panicked is lost; its executor goes on with a new driver.
            self.driver = tasks.driver();
            tasks.wake();
            self.workers.connections.links[self.index].post();
            self.dispatcher(caller).report_fault("a task");
        }
        self.dispatcher(caller).turn.called();
    }

    fn look_at_ready(&mut self, caller: &Caller) -> u32 {
        let workers = Arc::clone(&self.workers);
        let connections = &*workers.connections;
        let link = &connections.links[self.index];
        link.swap_ready(&mut self.ready);
        let mut looks = 0;
        while let Some(index) = self.ready.pop() {
            looks += 1;
            let mut turn = Turn { connections, link, worker: self.index, caller, state: &mut self.state };
            let ring = &mut self.ring;
            if catch_unwind(AssertUnwindSafe(|| turn.look_at(index, ring))).is_err() {
                self.dispatcher(caller).contain(index);
            }
        }
        looks
    }
}

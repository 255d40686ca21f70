//! How an engine begins and ends: threads or a caller that turns it, and the story of the end.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use super::api::{Close, Patience};
use super::config::EngineConfig;
use super::connection::Connection;
use super::core::{Core, Endpoints, Life, Outside, extra_blocks, port_setup};
use super::endpoint::Role;
use super::events::Level;
use super::failure::{Failure, Outcome};
use super::handshakes::WaitingServers;
use super::local;
use super::registry;
use super::stats::Stats;
use super::tasks::Signal;
use super::worker::Worker;
use crate::pool::blocks::Blocks;
use crate::pool::handle::Handle;
use crate::pool::lock;
use crate::pool::slots::Slots;
use crate::port::Port;
use crate::port::thread::spawn_with_signals_blocked;
use crate::status::Status;

/// An engine and the rings that its workers will hold.
type Made<P> = (Arc<Core<P>>, Vec<<P as Port>::Ring>);

impl<P: Port> Core<P> {
    /// Makes an engine of a validated configuration: everything is set aside here. Threads begin with [`Core::launch`].
    pub(super) fn create(config: EngineConfig, handle: Handle, first_generation: u32) -> Outcome<Made<P>> {
        let setup = port_setup(&config);
        let mut rings = Vec::new();
        let mut workers = Vec::new();
        for _ in 0..config.workers {
            let (port, ring) = P::open(&setup).map_err(|error| Failure::from_io("open the port", &error))?;
            workers.push(Outside::new(port, &config));
            rings.push(ring);
        }
        let most = config.max_connections;
        let blocks = Blocks::new(config.blocks() - extra_blocks(&config), extra_blocks(&config), config.buffer_bytes);
        let core = Arc::new_cyclic(|me: &Weak<Core<P>>| Core {
            me: me.clone(),
            handle,
            started_ns: workers[0].port.now_ns(),
            slow_callback_ns: u64::from(config.slow_callback_ms) * 1_000_000,
            log_level: config.log.as_ref().map_or(0, |log| log.level() as i32),
            connections: (0..most).map(|_| Connection::new(&blocks, first_generation)).collect(),
            slots: Slots::new(most),
            servers_without_place: WaitingServers::new(),
            blocks,
            endpoints: Mutex::new(Endpoints {
                places: Vec::new(),
                next_generation: first_generation,
                shut: false,
                gone: Stats::default(),
            }),
            endpoint_gone: Signal::default(),
            dials: Mutex::new(HashMap::new()),
            next_dial: AtomicU32::new(0),
            starving: Mutex::new(Vec::with_capacity(most as usize)),
            least_need: AtomicU32::new(u32::MAX),
            pool_exhausted: AtomicU64::new(0),
            life: Mutex::new(Life { workers_left: config.workers, ..Life::default() }),
            life_changed: Condvar::new(),
            exiting: AtomicBool::new(false),
            driven: Mutex::new(None),
            turner: Mutex::new(None),
            workers: workers.into(),
            config,
        });
        Ok((core, rings))
    }

    /// Starts the worker threads, or keeps the worker for the caller's turns.
    pub(super) fn launch(self: &Arc<Self>, rings: Vec<P::Ring>) -> Outcome<()> {
        for (index, ring) in rings.into_iter().enumerate() {
            let mut worker = Box::new(Worker::new(self, index, ring));
            if self.config.caller_driven {
                *lock(&self.driven) = Some(worker);
                continue;
            }
            let core = self.clone();
            let begun = spawn_with_signals_blocked(format!("wharf-{index}"), move || {
                worker.run();
                drop(worker);
                core.worker_left(index);
            });
            match begun {
                Ok(thread) => lock(&self.life).threads.push(thread),
                Err(error) => {
                    self.tell_workers_to_exit();
                    // The threads that did start, and this call for those that did not, take the name away.
                    lock(&self.life).workers_left -= self.config.workers - index as u32 - 1;
                    self.worker_left(index);
                    return Err(Failure::from_io("start a worker thread", &error));
                }
            }
        }
        Ok(())
    }

    fn tell_workers_to_exit(&self) {
        self.exiting.store(true, SeqCst);
        self.workers.iter().for_each(Outside::ask);
    }

    /// The last worker to leave takes the engine's name away.
    fn worker_left(&self, index: usize) {
        self.workers[index].tasks.end();
        let mut life = lock(&self.life);
        life.workers_left -= 1;
        if life.workers_left > 0 {
            return;
        }
        life.gone = true;
        drop(life);
        registry::strike(self.handle, self.latest_generation());
        self.life_changed.notify_all();
    }

    /// No handle that this engine gave out has a generation above this.
    fn latest_generation(&self) -> u32 {
        let connections = self.connections.iter().map(|connection| connection.generation.load(Acquire));
        connections.fold(lock(&self.endpoints).next_generation, u32::max)
    }

    /// Runs one turn on the calling thread.
    pub(super) fn turn_once(&self, patience: Patience) -> Result<u32, Status> {
        if !self.config.caller_driven {
            return Err(Status::State);
        }
        let mut worker = self.take_driven()?;
        let timeout_ns = patience.map(|patience| u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        let completions = worker.turn(timeout_ns);
        self.put_back_driven(worker);
        completions
    }

    fn take_driven(&self) -> Result<Box<Worker<P>>, Status> {
        if self.runs_on_this_thread() {
            return Err(Status::WouldDeadlock);
        }
        let worker = lock(&self.driven).take();
        let worker = worker.ok_or_else(|| if lock(&self.life).gone { Status::Stale } else { Status::State })?;
        *lock(&self.turner) = Some(local::thread_number());
        Ok(worker)
    }

    fn put_back_driven(&self, worker: Box<Worker<P>>) {
        if self.exiting.load(SeqCst) {
            drop(worker);
            self.worker_left(0);
        } else {
            *lock(&self.driven) = Some(worker);
        }
        self.life_changed.notify_all();
    }

    fn runs_on_this_thread(&self) -> bool {
        local::with(|local| local.is_some_and(|local| local.place == self.handle.engine))
    }

    /// Begins the end, and waits for it unless this thread is needed for it.
    pub(super) fn end(&self, drain_ms: u32) -> Result<(), Status> {
        self.begin_end(drain_ms);
        if self.runs_on_this_thread() {
            return Ok(());
        }
        if self.config.caller_driven {
            return self.turn_to_the_end();
        }
        if local::in_turn() {
            // Two engines that end each other in callbacks would wait for each other.
            return Ok(());
        }
        let life = lock(&self.life);
        let mut life = self.life_changed.wait_while(life, |life| !life.gone).unwrap_or_else(PoisonError::into_inner);
        let threads = std::mem::take(&mut life.threads);
        drop(life);
        for thread in threads {
            // A worker contains its panics; one that died all the same has nothing left to wait for.
            let _ = thread.join();
        }
        Ok(())
    }

    /// The caller's thread takes the last turns, or waits while another thread is in one.
    fn turn_to_the_end(&self) -> Result<(), Status> {
        loop {
            let life = lock(&self.life);
            if life.gone {
                return Ok(());
            }
            let worker = lock(&self.driven).take();
            match worker {
                Some(mut worker) => {
                    drop(life);
                    *lock(&self.turner) = Some(local::thread_number());
                    let turned = worker.turn(None);
                    self.put_back_driven(worker);
                    // A contained fault was logged; the next turn goes on.
                    if turned == Err(Status::Limit) {
                        return Err(Status::Limit);
                    }
                }
                None => drop(self.life_changed.wait_timeout(life, std::time::Duration::from_millis(50))),
            }
        }
    }

    fn begin_end(&self, drain_ms: u32) {
        let until = self.workers[0].port.now_ns().saturating_add(u64::from(drain_ms) * 1_000_000);
        let mut life = lock(&self.life);
        if std::mem::replace(&mut life.ending, true) {
            // Asked again: the deadline can only come closer.
            life.end_until_ns = life.end_until_ns.min(until);
            drop(life);
            self.endpoint_gone.notify();
            return;
        }
        life.end_until_ns = until;
        drop(life);
        lock(&self.endpoints).shut = true;
        if let Some(core) = self.me.upgrade() {
            self.workers[0].tasks.spawn(async move { core.end_story(drain_ms).await });
        }
    }

    /// Servers that drain have until then at the most.
    fn bring_forward(&self, until_ns: u64) {
        let left_ms = until_ns.saturating_sub(self.workers[0].port.now_ns()).div_ceil(1_000_000);
        for endpoint in self.all_endpoints() {
            let _ = self.stop_server(&endpoint, u32::try_from(left_ms).unwrap_or(u32::MAX), false, true);
        }
    }

    /// The story of the end: every server drains, every client stops, each handler has its last call, the workers leave.
    async fn end_story(self: Arc<Self>, drain_ms: u32) {
        for endpoint in self.all_endpoints() {
            // An endpoint that is already on its way out goes on.
            let _ = match &endpoint.role {
                Role::Server(_) => self.stop_server(&endpoint, drain_ms, drain_ms == 0, true),
                Role::Client(_) => {
                    self.stop_client(&endpoint, if drain_ms == 0 { Close::Now } else { Close::Flush }, true)
                }
            };
        }
        let outside = &self.workers[0];
        let mut told_until = u64::MAX;
        while !self.all_endpoints().is_empty() {
            let until = lock(&self.life).end_until_ns;
            if until < told_until {
                told_until = until;
                self.bring_forward(until);
            }
            if outside.port.now_ns() < until {
                let now = || outside.port.now_ns();
                smol::future::or(self.endpoint_gone.notified(), outside.tasks.sleep_until(until, now)).await;
                continue;
            }
            for endpoint in self.all_endpoints() {
                let _ = self.stop_client(&endpoint, Close::Reset, true);
            }
            self.endpoint_gone.notified().await;
        }
        let stats = self.sum_stats();
        self.log(
            Level::Info,
            format_args!(
                "engine: ended; {} accepted, {} connected, {} closed, {} blocks in use",
                stats.accepted, stats.connected, stats.closed, stats.pool_blocks_in_use
            ),
        );
        self.tell_workers_to_exit();
    }
}

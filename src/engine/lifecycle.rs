//! How an engine begins and ends: threads or a caller that turns it, and the task of the end.

use std::sync::Arc;

use super::api::Close;
use super::config::EngineConfig;
use super::connection::connections::backing_blocks;
use super::connection::turn_context;
use super::core::{Core, port_setup};
use super::driven::Driven;
use super::events::Level;
use super::failure::{Failure, Outcome};
use super::life::Life;
use super::owners::Owners;
use super::places;
use super::server::server::Stop;
use super::worker::event_loop::Worker;
use super::worker::workers::Workers;
use crate::pool::handle::Handle;
use crate::port::Port;
use crate::port::thread::spawn;
use crate::status::Status;

/// An engine and its workers, which do not run yet.
type Made<P> = (Arc<Core<P>>, Vec<Box<Worker<P>>>);

impl<P: Port> Core<P> {
    /// Makes an engine of a validated configuration: everything is set aside here. Threads begin with [`Core::launch`].
    pub(super) fn create(config: EngineConfig, handle: Handle, first_generation: u32) -> Outcome<Made<P>> {
        let setup = port_setup(&config);
        let mut rings = Vec::new();
        let mut ports = Vec::new();
        for _ in 0..config.workers {
            let (port, ring) = P::open(&setup).map_err(|error| Failure::from_io("open the port", &error))?;
            ports.push(port);
            rings.push(ring);
        }
        let workers = Arc::new(Workers::new(&config, handle.engine, first_generation, ports)?);
        let backing = backing_blocks(&config);
        let mut idle = Vec::new();
        for (index, ring) in rings.into_iter().enumerate() {
            idle.push(Box::new(Worker::new(&workers, index, handle.engine, backing, ring)?));
        }
        let owners = Owners::new(handle.engine, workers.clone(), &config, first_generation);
        let core = Arc::new_cyclic(|me| Core {
            me: me.clone(),
            handle,
            workers,
            owners: Arc::new(owners),
            life: Life::new(config.workers),
            driven: Driven::default(),
            config,
        });
        Ok((core, idle))
    }

    /// Starts the worker threads, or keeps the worker for the caller's turns.
    pub(super) fn launch(self: &Arc<Self>, workers: Vec<Box<Worker<P>>>) -> Outcome<()> {
        for (index, mut worker) in workers.into_iter().enumerate() {
            if self.config.caller_driven {
                self.driven.put(worker);
                continue;
            }
            let core = self.clone();
            let stack_bytes = self.config.worker_stack_bytes as usize;
            let begun = spawn(format!("wharf-{index}"), stack_bytes, move || {
                worker.run();
                drop(worker);
                core.worker_left(index);
            });
            match begun {
                Ok(thread) => self.life.lock().threads.push(thread),
                Err(error) => {
                    self.workers.exit();
                    // The threads that did start, and this call for those that did not, take the name away.
                    self.life.lock().workers_left -= self.config.workers - index as u32 - 1;
                    self.worker_left(index);
                    return Err(Failure::from_io("start a worker thread", &error));
                }
            }
        }
        Ok(())
    }

    /// The last worker to leave takes the engine's name away.
    pub(super) fn worker_left(&self, index: usize) {
        self.workers.tasks[index].end();
        let mut life = self.life.lock();
        life.workers_left -= 1;
        if life.workers_left > 0 {
            return;
        }
        drop(life);
        self.owners.resolver.end();
        self.life.lock().is_gone = true;
        let latest = self.workers.connections.table.latest_generation().max(self.owners.latest_generation());
        places::give_back(self.handle, latest);
        self.life.tell();
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
        if turn_context::in_turn() {
            // Two engines that end each other in callbacks would wait for each other.
            return Ok(());
        }
        let threads = std::mem::take(&mut self.life.wait_until_gone().threads);
        for thread in threads {
            // A worker contains its panics; one that died all the same has nothing left to wait for.
            let _ = thread.join();
        }
        Ok(())
    }

    fn begin_end(&self, drain_ms: u32) {
        let until_ns = self.workers.now_ns().saturating_add(u64::from(drain_ms) * 1_000_000);
        let mut life = self.life.lock();
        if std::mem::replace(&mut life.is_ending, true) {
            // Asked again: the deadline can only come closer.
            life.end_until_ns = life.end_until_ns.min(until_ns);
            drop(life);
            self.owners.one_gone.notify();
            return;
        }
        life.end_until_ns = until_ns;
        drop(life);
        self.owners.shut();
        if let Some(core) = self.me.upgrade() {
            self.workers.spawn(async move { core.end_all(drain_ms).await });
        }
    }

    /// The task of the end: every server drains, every client stops, each handler has its last call, the workers leave.
    async fn end_all(self: Arc<Self>, drain_ms: u32) {
        let stop = Stop { drain_ms, is_abrupt: drain_ms == 0, destroys: true };
        // Those that are already on their way out go on.
        self.owners.servers().iter().for_each(|server| server.stop(stop));
        let how = if drain_ms == 0 { Close::Due } else { Close::Flush };
        self.owners.clients().iter().for_each(|client| client.stop(how, true));
        let mut told_until_ns = u64::MAX;
        while !self.owners.is_empty() {
            let until_ns = self.life.lock().end_until_ns;
            if until_ns < told_until_ns {
                told_until_ns = until_ns;
                self.bring_forward(until_ns);
            }
            if self.workers.now_ns() < until_ns {
                smol::future::or(self.owners.one_gone.notified(), self.workers.sleep_until(until_ns)).await;
                continue;
            }
            self.owners.clients().iter().for_each(|client| client.stop(Close::Due, true));
            self.owners.one_gone.notified().await;
        }
        let stats = self.sum_stats();
        self.workers.connections.log.line(
            Level::Info,
            format_args!(
                "engine: ended; {} accepted, {} connected, {} closed, {} blocks in use",
                stats.accepted, stats.connected, stats.closed, stats.pool_blocks_in_use
            ),
        );
        self.workers.exit();
    }

    /// Servers that drain have until then at the most.
    fn bring_forward(&self, until_ns: u64) {
        let left_ms = until_ns.saturating_sub(self.workers.now_ns()).div_ceil(1_000_000);
        let drain_ms = u32::try_from(left_ms).unwrap_or(u32::MAX);
        let stop = Stop { drain_ms, is_abrupt: false, destroys: true };
        self.owners.servers().iter().for_each(|server| server.stop(stop));
    }
}

//! What all threads share of one engine: the tables, the pool, the workers' outer sides.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::task::Waker;
use std::thread::JoinHandle;

use super::config::{EngineConfig, MAX_SERVERS};
use super::connection::{Connection, Phase, SendSide};
use super::cork;
use super::endpoint::Endpoint;
use super::events::Level;
use super::handshakes::{WaitingServers, WorkerCall};
use super::log::Line;
use super::stats::Stats;
use super::tasks::{Signal, Tasks};
use super::worker::Worker;
use crate::likely::likely;
use crate::pool::blocks::Blocks;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::pool::slots::Slots;
use crate::port::{Port, PortSetup};
use crate::status::Status;

/// One engine.
pub struct Core<P: Port> {
    /// Itself, for stories that live on.
    pub(super) me: Weak<Core<P>>,
    /// Its own handle.
    pub(super) handle: Handle,
    pub(super) config: EngineConfig,
    pub(super) started_ns: u64,
    /// A callback that takes longer is reported.
    pub(super) slow_callback_ns: u64,
    pub(super) workers: Box<[Outside<P>]>,
    pub(super) connections: Box<[Connection<P>]>,
    pub(super) slots: Arc<Slots>,
    /// Servers that do not accept until a place is free.
    pub(super) servers_without_place: WaitingServers,
    pub(super) blocks: Blocks,
    pub(super) endpoints: Mutex<Endpoints<P>>,
    /// Told when an endpoint has gone.
    pub(super) endpoint_gone: Signal,
    /// Connects under way, by key.
    pub(super) dials: Mutex<HashMap<u64, Dial>>,
    pub(super) next_dial: AtomicU32,
    /// Connections that were refused blocks, with how many they need; the least need is known without the lock.
    pub(super) starving: Mutex<Vec<(u32, u32)>>,
    pub(super) least_need: AtomicU32,
    pub(super) pool_exhausted: AtomicU64,
    pub(super) log_level: i32,
    pub(super) life: Mutex<Life>,
    pub(super) life_changed: Condvar,
    /// Workers leave their loops.
    pub(super) exiting: AtomicBool,
    /// Caller-driven: the worker, when no turn runs, and who turned it last.
    pub(super) driven: Mutex<Option<Box<Worker<P>>>>,
    pub(super) turner: Mutex<Option<usize>>,
}

/// One connect under way.
#[derive(Default)]
pub(super) struct Dial {
    pub ended: bool,
    pub waker: Option<Waker>,
}

/// The servers and clients, by index; clients come behind the places of the servers.
pub(super) struct Endpoints<P: Port> {
    pub places: Vec<Option<Arc<Endpoint<P>>>>,
    pub next_generation: u32,
    /// No endpoint may be made any more.
    pub shut: bool,
    /// Sums of those that are gone.
    pub gone: Stats,
}

/// How far the engine's end is.
#[derive(Default)]
pub(super) struct Life {
    pub ending: bool,
    /// When the drain of the end is over.
    pub end_until_ns: u64,
    pub workers_left: u32,
    pub gone: bool,
    pub threads: Vec<JoinHandle<()>>,
}

/// What others may touch of a worker.
pub struct Outside<P: Port> {
    pub(super) port: P,
    pub(super) tasks: Tasks,
    /// Connections that it must look at.
    pub(super) attention: Mutex<Vec<u32>>,
    /// Whether there is something to do, and whether it must be woken for it.
    pub(super) call: WorkerCall,
    pub(super) open: AtomicU32,
    /// Milliseconds since the engine began, read once a turn.
    pub(super) now_ms: AtomicU32,
    /// How many sends of other threads came in a millisecond.
    pub(super) foreign_sends_ms: AtomicU32,
    pub(super) foreign_sends: AtomicU32,
    pub(super) slow_callbacks: AtomicU64,
    pub(super) callback_max_ns: AtomicU64,
    pub(super) callback_total_ns: AtomicU64,
}

/// At most one of so many blocks of the pool backs what callbacks send.
const SHARE_OF_BACKING: u32 = 8;

/// A connection, its handle taken apart, and its lock.
pub(super) type Locked<'a, P> = (&'a Connection<P>, Handle, MutexGuard<'a, SendSide<P>>);

/// How the port of each worker is made.
pub(super) fn port_setup(config: &EngineConfig) -> PortSetup {
    PortSetup {
        receive_buffer_bytes: config.receive_buffer_bytes as usize,
        max_connections: config.max_connections as usize,
        receives_per_turn: 16,
    }
}

/// Blocks of the pool that are set apart: they back what the workers' callbacks have sent.
pub(super) fn extra_blocks(config: &EngineConfig) -> u32 {
    let backing = config.workers.saturating_mul(cork::backing_blocks(config.buffer_bytes));
    // A small pool is left whole: what callbacks send waits in its blocks from the beginning.
    if backing <= config.blocks() / SHARE_OF_BACKING { backing } else { 0 }
}

/// Bytes of heap that an engine of this (validated) configuration sets aside.
pub(super) fn footprint<P: Port>(config: &EngineConfig) -> u64 {
    let connections = u64::from(config.max_connections);
    let list = 4 * connections;
    let connection = size_of::<Connection<P>>() as u64;
    // Each worker: its attention list and the one it works on, its members, its cork.
    let worker = P::heap_bytes(&port_setup(config)) + 3 * list + cork::heap_bytes(config.max_connections);
    // Shared: the places, the free places, the starving.
    connections * connection
        + Slots::heap_bytes(config.max_connections)
        + 2 * list
        + Blocks::heap_bytes(config.blocks(), config.buffer_bytes)
        + u64::from(config.workers) * worker
}

/// Why a number is not the handle of a connection that lives.
#[cold]
pub(super) fn names_no_connection(bits: u64) -> Status {
    match Handle::from_bits(bits) {
        Some(handle) if handle.kind != Kind::Connection => Status::WrongKind,
        _ => Status::Stale,
    }
}

impl<P: Port> Core<P> {
    /// The place that a key of the port means, if its generation is still the one. Keys are our own: their kind is asked
    /// for elsewhere.
    #[inline]
    pub(super) fn connection_of(&self, key: u64) -> Option<(&Connection<P>, u32)> {
        let index = Handle::index_of(key);
        let connection = self.connections.get(index as usize)?;
        likely(connection.generation.load(Relaxed) == Handle::generation_of(key)).then_some((connection, index))
    }

    /// The place of a connection, if the handle's generation is its. It can be gone a moment later: who changes it asks
    /// again under its lock.
    #[inline]
    pub(super) fn connection(&self, bits: u64) -> Result<(&Connection<P>, Handle), Status> {
        if Handle::kind_of(bits) != Kind::Connection as u64 {
            return Err(names_no_connection(bits));
        }
        let (engine, index, generation) =
            (Handle::engine_of(bits), Handle::index_of(bits), Handle::generation_of(bits));
        let handle = Handle { kind: Kind::Connection, engine, index, generation };
        let connection = self.connections.get(index as usize).ok_or(Status::Stale)?;
        if connection.generation.load(Acquire) != handle.generation || connection.phase() == Phase::Free {
            return Err(Status::Stale);
        }
        Ok((connection, handle))
    }

    /// The same, locked.
    #[inline]
    pub(super) fn locked(&self, bits: u64) -> Result<Locked<'_, P>, Status> {
        let (connection, handle) = self.connection(bits)?;
        let side = lock(&connection.send);
        if connection.generation.load(Acquire) != handle.generation || side.endpoint.is_none() {
            return Err(Status::Stale);
        }
        Ok((connection, handle, side))
    }

    /// The handle that names the connection in this place now.
    #[inline]
    pub(super) fn handle_of(&self, index: u32) -> Handle {
        let generation = self.connections[index as usize].generation.load(Acquire);
        Handle { kind: Kind::Connection, engine: self.handle.engine, index, generation }
    }

    /// The handle of the connection in this place, if one lives there. A place that is being freed must not be named by
    /// the generation of the connection that will have it next.
    pub(super) fn live_handle(&self, index: u32) -> Option<Handle> {
        let handle = self.handle_of(index);
        let lives = self.connections[index as usize].phase() != Phase::Free;
        (lives && self.handle_of(index) == handle).then_some(handle)
    }

    /// The server or client that a handle names.
    pub(super) fn endpoint(&self, bits: u64, kind: Kind) -> Result<Arc<Endpoint<P>>, Status> {
        let handle = Handle::from_bits(bits).ok_or(Status::Stale)?;
        if handle.kind != kind {
            return Err(Status::WrongKind);
        }
        let endpoints = lock(&self.endpoints);
        match endpoints.places.get(handle.index as usize) {
            Some(Some(endpoint)) if endpoint.handle == handle => Ok(Arc::clone(endpoint)),
            _ => Err(Status::Stale),
        }
    }

    /// Enters a new endpoint in a free place, made by `make` with its handle.
    pub(super) fn enter_endpoint(
        &self,
        kind: Kind,
        make: impl FnOnce(Handle) -> Endpoint<P>,
    ) -> Result<Arc<Endpoint<P>>, Status> {
        let mut endpoints = lock(&self.endpoints);
        if endpoints.shut {
            return Err(Status::Stopped);
        }
        let servers = MAX_SERVERS as usize;
        let places = match kind {
            Kind::Server => 0..servers,
            _ => servers..servers + self.config.max_connections as usize,
        };
        let index = match places.clone().find(|place| endpoints.places.get(*place).is_none_or(Option::is_none)) {
            Some(index) => index,
            None => return Err(Status::Limit),
        };
        if endpoints.places.len() <= index {
            endpoints.places.resize_with(index + 1, || None);
        }
        let generation = endpoints.next_generation;
        endpoints.next_generation = generation.wrapping_add(1);
        let handle = Handle { kind, engine: self.handle.engine, index: index as u32, generation };
        let endpoint = Arc::new(make(handle));
        endpoints.places[index] = Some(Arc::clone(&endpoint));
        Ok(endpoint)
    }

    /// The last step of an endpoint: its last callback has returned.
    pub(super) fn strike_endpoint(&self, endpoint: &Endpoint<P>) {
        let mut endpoints = lock(&self.endpoints);
        let stats = endpoint.stats(&self.connections);
        super::endpoint::add_stats(&mut endpoints.gone, &stats);
        endpoints.places[endpoint.handle.index as usize] = None;
        drop(endpoints);
        self.endpoint_gone.notify();
    }

    /// Every endpoint that lives.
    pub(super) fn all_endpoints(&self) -> Vec<Arc<Endpoint<P>>> {
        lock(&self.endpoints).places.iter().flatten().cloned().collect()
    }

    /// Puts a connection on its worker's list, and wakes the worker if it waits.
    pub(super) fn call_attention(&self, connection: &Connection<P>, index: u32) {
        if !connection.attention.set() {
            return;
        }
        let worker = &self.workers[connection.worker.load(Acquire) as usize];
        lock(&worker.attention).push(index);
        worker.ask();
    }

    /// Milliseconds since the engine began, as the worker last read them.
    #[inline]
    pub(super) fn now_ms(&self, worker: usize) -> u32 {
        self.workers[worker].now_ms.load(Relaxed)
    }

    /// The same, read now.
    pub(super) fn clock_ms(&self) -> u32 {
        ((self.workers[0].port.now_ns() - self.started_ns) / 1_000_000) as u32
    }

    /// Whether a line of this level is wanted; asked before anything is formatted.
    #[inline]
    pub(super) fn logs(&self, level: Level) -> bool {
        self.log_level >= level as i32
    }

    /// Hands a line to the user's log. Called on workers only.
    pub(super) fn log(&self, level: Level, text: std::fmt::Arguments<'_>) {
        if let Some(log) = self.config.log.as_ref().filter(|_| self.logs(level)) {
            let mut line = Line::default();
            // A line that is too long is cut, which is not an error.
            let _ = std::fmt::write(&mut line, text);
            log.line(level, line.text());
        }
    }

    /// The counters of the whole engine.
    pub(super) fn sum_stats(&self) -> Stats {
        let mut stats = lock(&self.endpoints).gone;
        for endpoint in self.all_endpoints() {
            super::endpoint::add_stats(&mut stats, &endpoint.stats(&self.connections));
        }
        stats.pool_exhausted = self.pool_exhausted.load(Relaxed);
        stats.pool_blocks = self.blocks.count().into();
        stats.pool_blocks_in_use = self.blocks.in_use().into();
        stats.pool_blocks_peak = self.blocks.peak().into();
        let mut max_ns = 0;
        let mut total_ns = 0;
        for worker in &self.workers {
            stats.slow_callbacks += worker.slow_callbacks.load(Relaxed);
            max_ns = max_ns.max(worker.callback_max_ns.load(Relaxed));
            total_ns += worker.callback_total_ns.load(Relaxed);
        }
        stats.callback_max_us = max_ns / 1000;
        stats.callback_total_us = total_ns / 1000;
        stats.heap_bytes = footprint::<P>(&self.config);
        stats
    }
}

impl<P: Port> Outside<P> {
    pub(super) fn new(port: P, config: &EngineConfig) -> Outside<P> {
        Outside {
            port,
            tasks: Tasks::new(),
            attention: Mutex::new(Vec::with_capacity(config.max_connections as usize)),
            call: WorkerCall::new(),
            open: AtomicU32::new(0),
            now_ms: AtomicU32::new(0),
            foreign_sends_ms: AtomicU32::new(0),
            foreign_sends: AtomicU32::new(0),
            slow_callbacks: AtomicU64::new(0),
            callback_max_ns: AtomicU64::new(0),
            callback_total_ns: AtomicU64::new(0),
        }
    }

    /// Tells it that there is something to do, and wakes it if it waits or is about to. What it is must be noted before.
    pub(super) fn ask(&self) {
        if self.call.ask() {
            self.port.wake();
        }
    }
}

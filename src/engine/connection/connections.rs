//! All connections of an engine, and what they share: the table, the pool, the links to their workers.

use std::sync::atomic::AtomicU64;

use super::block_waiters::BlockWaiters;
use super::cork::{self, Cork};
use super::place_waiters::PlaceWaiters;
use super::state::Connection;
use super::table::Table;
use super::turn_context::{self, Turner};
use super::worker_link::WorkerLink;
use crate::engine::config::EngineConfig;
#[cfg(feature = "testing")]
use crate::engine::failure::{Failure, Outcome};
use crate::engine::log::Logger;
use crate::pool::blocks::Blocks;
use crate::pool::room::{self, NoMemory};
use crate::port::Port;
use crate::status::Status;

/// The connections of one engine.
pub struct Connections<P: Port> {
    pub(in crate::engine) table: Table<P>,
    pub(in crate::engine) blocks: Blocks,
    pub(in crate::engine) block_waiters: BlockWaiters,
    pub(in crate::engine) pool_exhausted: AtomicU64,
    pub(in crate::engine) links: Box<[WorkerLink<P>]>,
    /// Servers that do not accept until a place is free.
    pub(in crate::engine) place_waiters: PlaceWaiters,
    pub(in crate::engine) log: Logger,
    /// Who turns a caller-driven engine.
    pub(in crate::engine) turner: Turner,
    pub(super) is_caller_driven: bool,
    /// Blocks that one receive can fill, with one that is begun.
    pub(super) receive_blocks: u32,
    started_ns: u64,
    /// A callback that takes longer is reported.
    pub(super) slow_callback_ns: u64,
}

/// At most one of so many blocks of the pool backs what callbacks send.
const SHARE_OF_BACKING: u32 = 8;

/// Blocks of the pool that are set aside: they back what the workers' callbacks have sent.
pub fn backing_blocks(config: &EngineConfig) -> u32 {
    let backing = config.workers.saturating_mul(cork::backing_blocks(config.buffer_bytes));
    // A small pool is left whole: what callbacks send waits in its blocks from the beginning.
    if backing <= config.blocks() / SHARE_OF_BACKING { backing } else { 0 }
}

impl<P: Port> Connections<P> {
    /// Sets everything aside. `ports` are those of the workers.
    pub fn new(
        config: &EngineConfig,
        engine: u8,
        first_generation: u32,
        ports: Vec<P>,
    ) -> Result<Connections<P>, NoMemory> {
        let most = config.max_connections;
        let backing = backing_blocks(config);
        let blocks = Blocks::new(config.blocks() - backing, backing, config.buffer_bytes)?;
        let started_ns = ports[0].now_ns();
        let mut links = room::list(ports.len())?;
        for port in ports {
            links.push(WorkerLink::new(port, most as usize)?);
        }
        Ok(Connections {
            table: Table::new(engine, most, &blocks, first_generation)?,
            blocks,
            block_waiters: BlockWaiters::new(most)?,
            pool_exhausted: AtomicU64::new(0),
            started_ns,
            links: links.into_boxed_slice(),
            place_waiters: PlaceWaiters::new(),
            log: Logger::new(config.log.clone()),
            turner: Turner::default(),
            is_caller_driven: config.caller_driven,
            receive_blocks: config.receive_buffer_bytes.div_ceil(config.buffer_bytes) + 1,
            slow_callback_ns: u64::from(config.slow_callback_ms) * 1_000_000,
        })
    }

    /// Bytes of heap that `new` and the workers set aside for connections.
    pub fn heap_bytes(config: &EngineConfig) -> u64 {
        let most = config.max_connections;
        // Each worker: its ready list and the one that it works on, its cork.
        let worker = 2 * 4 * u64::from(most) + cork::heap_bytes(most);
        Table::<P>::heap_bytes(most)
            + BlockWaiters::heap_bytes(most)
            + Blocks::heap_bytes(config.blocks(), config.buffer_bytes)
            + u64::from(config.workers) * worker
    }

    /// Whether connections may have a layer: the pool must be able to hold what one receive can bring.
    #[cfg(feature = "testing")]
    pub(in crate::engine) fn can_layer(&self) -> Outcome<()> {
        let (need, count) = (self.receive_blocks, self.blocks.count());
        if need <= count {
            return Ok(());
        }
        let text = format!(
            "a receive can bring {need} blocks, the pool has {count}: raise pool_bytes or lower receive_buffer_bytes"
        );
        Err(Failure::new(Status::Limit, text))
    }

    /// Whether its owner turns the engine.
    pub(in crate::engine) fn is_caller_driven(&self) -> bool {
        self.is_caller_driven
    }

    /// What a worker's callbacks may hold back.
    pub fn new_cork(&self, backing_blocks: u32) -> Result<Cork, NoMemory> {
        Cork::new(self.table.places.len() as u32, backing_blocks / self.links.len() as u32)
    }

    /// The worker of a connection.
    #[inline]
    pub(super) fn link_of(&self, connection: &Connection<P>) -> &WorkerLink<P> {
        &self.links[connection.worker()]
    }

    /// Puts a connection on its worker's ready list, and wakes the worker if it waits.
    pub(in crate::engine) fn post_ready(&self, connection: &Connection<P>, index: u32) {
        if connection.ready.set() {
            self.link_of(connection).post_ready(index);
        }
    }

    /// Milliseconds since the engine began.
    pub(in crate::engine) fn ms_at(&self, now_ns: u64) -> u64 {
        (now_ns - self.started_ns) / 1_000_000
    }

    /// When so many milliseconds have passed since then.
    pub(super) fn ns_at(&self, ms: u64) -> u64 {
        self.started_ns.saturating_add(ms.saturating_mul(1_000_000))
    }

    /// The milliseconds at this moment, as connections keep them.
    pub(in crate::engine) fn clock_ms(&self) -> u64 {
        self.ms_at(self.links[0].port.now_ns())
    }

    /// A thread that must do the work cannot wait for it.
    pub(in crate::engine) fn may_block(&self) -> Result<(), Status> {
        if turn_context::in_turn() || self.turner.is_this_thread() { Err(Status::WouldDeadlock) } else { Ok(()) }
    }
}

//! What an engine holds at this moment, for tests of conservation. Only with the feature `testing`.

use super::config::EngineConfig;
use super::connection::connections::backing_blocks;
use super::owners::Owners;
use super::worker::workers::Workers;
use crate::pool::handle::Kind;
use crate::pool::lock;
use crate::port::Port;

/// Counts of everything that is taken and given back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// Places of the connection table that are taken.
    pub places: u64,
    /// Permits of all servers that are taken.
    pub permits: u64,
    /// Members of all servers.
    pub server_members: u64,
    /// Members of all servers and clients.
    pub members: u64,
    /// Blocks that can be reserved, the extra ones not counted in.
    pub blocks_available: u64,
    /// Blocks of the pool, and those beside it that back what callbacks send.
    pub blocks: u64,
    /// The same: only those beside it.
    pub extra_blocks: u64,
    /// Connects under way.
    pub dials: u64,
    /// Timers of tasks.
    pub timers: u64,
    /// 1 when a task is under way, otherwise 0.
    pub tasks: u64,
    /// Connections in the list of those that wait for blocks.
    pub block_waiters: u64,
}

/// Counts.
pub(super) fn of<P: Port>(workers: &Workers<P>, owners: &Owners<P>, config: &EngineConfig) -> Counts {
    let connections = &workers.connections;
    let extra_blocks = backing_blocks(config);
    let mut counts = Counts {
        places: (connections.table.places.len() - connections.table.slots.free()) as u64,
        blocks_available: connections.blocks.available().into(),
        blocks: u64::from(connections.blocks.count()) + u64::from(extra_blocks),
        extra_blocks: extra_blocks.into(),
        dials: workers.sources.count(Kind::Dial) as u64,
        block_waiters: connections.block_waiters.count() as u64,
        ..Counts::default()
    };
    for tasks in &workers.tasks {
        let (has_tasks, timers) = tasks.counts();
        counts.tasks |= u64::from(has_tasks);
        counts.timers += timers as u64;
    }
    for server in owners.servers() {
        counts.server_members += lock(&server.owner.members).places.len() as u64;
        counts.permits += u64::from(server.permits_taken());
    }
    counts.members = counts.server_members;
    for client in owners.clients() {
        counts.members += lock(&client.owner.members).places.len() as u64;
    }
    counts
}

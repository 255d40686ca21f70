//! What an engine holds at this moment, for tests of conservation. Only with the feature `testing`.

use super::core::{Core, extra_blocks};
use super::endpoint::Role;
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
    /// Connections in the books of all servers.
    pub server_members: u64,
    /// Connections in all books.
    pub members: u64,
    /// Blocks that can be reserved, the extra ones not counted in.
    pub blocks_available: u64,
    /// Blocks of the pool, and those beside it that back what callbacks send.
    pub blocks: u64,
    /// The same: only those beside it.
    pub extra_blocks: u64,
    /// Connects under way.
    pub dials: u64,
    /// Stories' timers.
    pub timers: u64,
    /// 1 when a story is under way, otherwise 0.
    pub stories: u64,
    /// Connections in the list of those that wait for blocks.
    pub starving: u64,
}

impl<P: Port> Core<P> {
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts {
            places: self.connections.len() as u64 - self.slots.free() as u64,
            blocks_available: self.blocks.available().into(),
            blocks: u64::from(self.blocks.count()) + u64::from(extra_blocks(&self.config)),
            extra_blocks: extra_blocks(&self.config).into(),
            dials: lock(&self.dials).len() as u64,
            starving: lock(&self.starving).len() as u64,
            ..Counts::default()
        };
        for worker in &self.workers {
            let (has_stories, timers) = worker.tasks.counts();
            counts.stories |= u64::from(has_stories);
            counts.timers += timers as u64;
        }
        for endpoint in self.all_endpoints() {
            let members = lock(&endpoint.book).members.len() as u64;
            counts.members += members;
            if let Role::Server(server) = &endpoint.role {
                counts.server_members += members;
                counts.permits += u64::from(server.permits.taken());
            }
        }
        counts
    }
}

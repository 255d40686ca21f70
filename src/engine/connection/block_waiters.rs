//! Connections whose send was refused for want of blocks, and how many blocks each of them needs. A connection is told
//! only when there are as many as it needs, so this cannot go round in circles.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::*};

use crate::likely::unlikely;
use crate::pool::lock;
use crate::pool::room::{self, NoMemory};

/// Nobody waits.
const NOBODY: u32 = u32::MAX;

/// Who waits for blocks of the pool.
pub struct BlockWaiters {
    waiting: Mutex<Vec<Waiter>>,
    /// The least need of all, known without the lock.
    least_need: AtomicU32,
}

struct Waiter {
    index: u32,
    need: u32,
}

impl BlockWaiters {
    /// Nobody; room for all connections is set aside.
    pub fn new(max_connections: u32) -> Result<BlockWaiters, NoMemory> {
        Ok(BlockWaiters {
            waiting: Mutex::new(room::list(max_connections as usize)?),
            least_need: AtomicU32::new(NOBODY),
        })
    }

    /// Bytes of heap that `new` sets aside.
    pub fn heap_bytes(max_connections: u32) -> u64 {
        u64::from(max_connections) * size_of::<Waiter>() as u64
    }

    /// How many wait.
    #[cfg(feature = "testing")]
    pub fn count(&self) -> usize {
        lock(&self.waiting).len()
    }

    /// Inserts a connection that needs this many blocks. The least of its refused sends counts; an entry may also be left
    /// of the connection that had the place before.
    pub fn insert(&self, index: u32, need: u32, is_waiting: bool) {
        let mut waiting = lock(&self.waiting);
        if !is_waiting {
            waiting.push(Waiter { index, need });
        } else if let Some(waiter) = waiting.iter_mut().find(|waiter| waiter.index == index) {
            waiter.need = waiter.need.min(need);
        }
        self.least_need.fetch_min(need, SeqCst);
    }

    /// Whether so many blocks are enough for somebody who waits.
    #[inline]
    pub fn may_take(&self, available: impl FnOnce() -> u32) -> bool {
        let least = self.least_need.load(Relaxed);
        unlikely(least != NOBODY) && least <= available()
    }

    /// Removes one for whom so many blocks are enough.
    pub fn take(&self, available: u32) -> Option<u32> {
        let mut waiting = lock(&self.waiting);
        let place = waiting.iter().position(|waiter| waiter.need <= available);
        let taken = place.map(|place| waiting.swap_remove(place).index);
        let least = waiting.iter().map(|waiter| waiter.need).min().unwrap_or(NOBODY);
        self.least_need.store(least, SeqCst);
        taken
    }
}

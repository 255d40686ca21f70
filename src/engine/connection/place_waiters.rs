//! Who rests until a place of the connection table is free.

use std::sync::Arc;

use crate::engine::wake::PlaceWaiterCount;
use crate::pool::lock;
use crate::sync::Mutex;

/// Somebody that rests until a place is free.
pub trait PlaceWaiter: Send + Sync {
    /// A place may be free.
    fn place_is_free(&self);
}

/// Who waits for a place.
pub struct PlaceWaiters {
    count: PlaceWaiterCount,
    waiting: Mutex<Vec<Arc<dyn PlaceWaiter>>>,
}

impl PlaceWaiters {
    /// Nobody.
    pub fn new() -> PlaceWaiters {
        PlaceWaiters { count: PlaceWaiterCount::new(), waiting: Mutex::new(Vec::new()) }
    }

    /// One more waits. It must look for a place once more, in [`PlaceWaiters::last_look`].
    pub fn insert(&self, waiter: Arc<dyn PlaceWaiter>) {
        lock(&self.waiting).push(waiter);
        self.count.enter();
    }

    /// It waits no more.
    pub fn remove(&self, waiter: &Arc<dyn PlaceWaiter>) {
        self.count.leave();
        let mut waiting = lock(&self.waiting);
        let place = waiting.iter().position(|other| Arc::ptr_eq(other, waiter));
        let removed = place.map(|place| waiting.swap_remove(place));
        drop(waiting);
        drop(removed);
    }

    /// A place may have become free between the refusal and the entry.
    pub fn last_look(&self, has_place: impl FnOnce() -> bool) -> bool {
        self.count.last_look(has_place)
    }

    /// A place was given back.
    pub(super) fn tell(&self) {
        // Otherwise who begins to wait sees the place in its last look.
        if self.count.must_be_told() {
            self.tell_all();
        }
    }

    /// From the last to the first: whoever leaves the list meanwhile has the last one take its place, which was told.
    #[cold]
    fn tell_all(&self) {
        let mut place = lock(&self.waiting).len();
        while place > 0 {
            place -= 1;
            let waiter = lock(&self.waiting).get(place).cloned();
            if let Some(waiter) = waiter {
                waiter.place_is_free();
            }
        }
    }
}

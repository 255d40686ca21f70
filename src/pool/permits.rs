//! A counting semaphore that never blocks: one permit for each connection of a server.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU32, Ordering};

/// How many may be taken, and how many are.
#[derive(Debug)]
pub struct Permits {
    taken: AtomicU32,
    limit: u32,
}

/// One permit; given back when dropped, on whatever path.
#[derive(Debug)]
pub struct Permit(Arc<Permits>);

impl Permits {
    /// Permits for at most `limit` holders.
    pub fn new(limit: u32) -> Arc<Permits> {
        Arc::new(Permits { taken: AtomicU32::new(0), limit })
    }

    /// Takes one, if one is left.
    pub fn try_take(self: &Arc<Self>) -> Option<Permit> {
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| (taken < self.limit).then_some(taken + 1))
            .ok()
            .map(|_| Permit(Arc::clone(self)))
    }

    /// How many are taken now.
    pub fn taken(&self) -> u32 {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_never_exceed_the_limit_and_come_back_when_dropped() {
        let permits = Permits::new(2);
        let first = permits.try_take();
        let second = permits.try_take();
        assert!(first.is_some() && second.is_some() && permits.try_take().is_none());
        drop(first);
        assert_eq!(permits.taken(), 1);
        assert!(permits.try_take().is_some());
    }
}

//! The wake-up protocols between threads, which must lose nothing. They are small and know nothing of the rest, so that
//! tests/loom can try every order of their steps.

use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering::*, fence};

/// Between a worker and whoever has something for it to do. Either the worker sees that before it waits, or
/// whoever posts it sees that it sleeps and wakes it.
pub struct WorkerWake {
    /// There is something to do: a task can go on, a connection is on the ready list, or the engine ends.
    has_work: AtomicBool,
    /// It waits, or is about to: whoever gives it work must wake it.
    sleeping: AtomicBool,
}

impl WorkerWake {
    /// The worker is awake and has something to do: its first turn.
    pub fn new() -> WorkerWake {
        WorkerWake { has_work: AtomicBool::new(true), sleeping: AtomicBool::new(false) }
    }

    /// Tells that there is something to do; what it is must be noted before. True: the worker must be woken, by the one
    /// who is told so.
    #[inline]
    pub fn post(&self) -> bool {
        self.has_work.store(true, SeqCst);
        self.sleeping.swap(false, SeqCst)
    }

    /// Whether there is something to do.
    #[inline(always)]
    pub fn has_work(&self) -> bool {
        self.has_work.load(SeqCst)
    }

    /// Whether there is something to do; what is posted from here on is seen the next time, so what there is must be looked at
    /// after this.
    #[inline(always)]
    pub fn take_work(&self) -> bool {
        self.has_work.swap(false, SeqCst)
    }

    /// The worker is about to wait. True: it must not, there is something to do.
    #[inline(always)]
    pub fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, SeqCst);
        self.has_work.load(SeqCst)
    }

    /// The wait is over. Who still sees it sleep wakes it once more than needed.
    #[inline(always)]
    pub fn wake_up(&self) {
        self.sleeping.store(false, Release);
    }

    /// Whether it waits, for what may be wrong a moment later.
    #[inline]
    pub fn sleeps(&self) -> bool {
        self.sleeping.load(Relaxed)
    }
}

/// A connection stands on its worker's ready list once at most.
pub struct ReadyMark(AtomicBool);

impl ReadyMark {
    /// It does not stand there.
    pub fn new() -> ReadyMark {
        ReadyMark(AtomicBool::new(false))
    }

    /// Something was changed that the worker must see. True: the connection must be put on the list. False: it is there,
    /// and the worker has yet to look.
    #[inline]
    pub fn set(&self) -> bool {
        !self.0.swap(true, AcqRel)
    }

    /// The worker has taken it off the list and is about to look, under the lock under which it was changed.
    #[inline]
    pub fn clear(&self) {
        self.0.store(false, SeqCst);
    }
}

/// Between a server that finds no place for a connection and whoever gives one back: how many servers wait. Either the one sees the place in its
/// last look, or the other sees that somebody waits.
pub struct PlaceWaiterCount(AtomicU32);

impl PlaceWaiterCount {
    /// None waits.
    pub fn new() -> PlaceWaiterCount {
        PlaceWaiterCount(AtomicU32::new(0))
    }

    /// One more waits. It must look for a place once more, in [`PlaceWaiterCount::last_look`].
    pub fn enter(&self) {
        self.0.fetch_add(1, SeqCst);
    }

    /// One less.
    pub fn leave(&self) {
        self.0.fetch_sub(1, SeqCst);
    }

    /// A place may have become free between the refusal and the entry.
    pub fn last_look(&self, has_place: impl FnOnce() -> bool) -> bool {
        fence(SeqCst);
        has_place()
    }

    /// Asked after a place was given back: whether a server may wait for it.
    #[inline]
    pub fn must_be_told(&self) -> bool {
        fence(SeqCst);
        self.0.load(Relaxed) > 0
    }
}

//! The timers of tasks, in a timing wheel. A task that waits holds one; to set, move and stop it takes a fixed number of
//! steps, however many there are.

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::task::{Poll, Waker};

use crate::pool::lock;
use crate::pool::wheel::{Node, Wheel};

/// A tick of the wheel.
const TICK_NS: u64 = 1_000_000;
/// There is no timer.
const NEVER: u64 = u64::MAX;

/// The timers of one worker's tasks.
pub struct Timers {
    waiting: Mutex<Waiting>,
    /// When the wheel must be looked at; the largest number when no timer is set.
    next_ns: AtomicU64,
}

struct Waiting {
    wheel: Wheel,
    nodes: Vec<Node>,
    wakers: Vec<Option<Waker>>,
    free: Vec<u32>,
}

impl Timers {
    /// None; the clock shows this now.
    pub fn new(now_ns: u64) -> Timers {
        let wheel = Wheel::new(now_ns / TICK_NS);
        let waiting = Waiting { wheel, nodes: Vec::new(), wakers: Vec::new(), free: Vec::new() };
        Timers { waiting: Mutex::new(waiting), next_ns: AtomicU64::new(NEVER) }
    }

    /// How many are held.
    #[cfg(feature = "testing")]
    pub fn count(&self) -> usize {
        let waiting = lock(&self.waiting);
        waiting.nodes.len() - waiting.free.len()
    }

    /// When the next one may be due; the largest number when there is none.
    #[inline]
    pub fn next_ns(&self) -> u64 {
        self.next_ns.load(Acquire)
    }

    /// Wakes the tasks whose time has come.
    #[inline]
    pub fn fire(&self, now_ns: u64) {
        if self.next_ns.load(Acquire) <= now_ns {
            self.fire_due(now_ns);
        }
    }

    #[cold]
    fn fire_due(&self, now_ns: u64) {
        loop {
            let due = {
                let mut waiting = lock(&self.waiting);
                let Waiting { wheel, nodes, wakers, .. } = &mut *waiting;
                let due = wheel.take_due(nodes, now_ns / TICK_NS);
                self.note_next(wheel);
                due.map(|timer| wakers[timer as usize].take())
            };
            match due {
                // Without the lock: the waker runs code of the executor.
                Some(waker) => waker.into_iter().for_each(Waker::wake),
                None => return,
            }
        }
    }

    fn note_next(&self, wheel: &Wheel) {
        let next_ns = wheel.next_look().map_or(NEVER, |tick| tick.saturating_mul(TICK_NS));
        self.next_ns.store(next_ns, Release);
    }

    /// Waits until the clock shows `at_ns`.
    pub async fn sleep_until(&self, at_ns: u64, now_ns: impl Fn() -> u64) {
        let mut timer = Timer { timers: self, number: None };
        poll_fn(|context| {
            if now_ns() >= at_ns {
                return Poll::Ready(());
            }
            timer.set(at_ns, context.waker());
            Poll::Pending
        })
        .await;
    }
}

impl Waiting {
    fn take_free(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            self.wakers.push(None);
            self.nodes.len() as u32 - 1
        })
    }
}

/// A timer of a task; given back when the task stops waiting.
struct Timer<'a> {
    timers: &'a Timers,
    number: Option<u32>,
}

impl Timer<'_> {
    fn set(&mut self, at_ns: u64, waker: &Waker) {
        let mut waiting = lock(&self.timers.waiting);
        let number = *self.number.get_or_insert_with(|| waiting.take_free());
        let Waiting { wheel, nodes, wakers, .. } = &mut *waiting;
        wakers[number as usize] = Some(waker.clone());
        // Rounded up: the tick before would be too early.
        wheel.set(nodes, number, at_ns.div_ceil(TICK_NS));
        self.timers.note_next(wheel);
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut waiting = lock(&self.timers.waiting);
        let Waiting { wheel, nodes, wakers, free } = &mut *waiting;
        wheel.stop(nodes, number);
        let waker = wakers[number as usize].take();
        free.push(number);
        self.timers.note_next(wheel);
        drop(waiting);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::Context;

    use super::*;

    #[test]
    fn a_timer_that_is_given_up_is_forgotten() {
        let timers = Timers::new(0);
        {
            let mut sleep = Box::pin(timers.sleep_until(5 * TICK_NS, || 1));
            let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(timers.next_ns(), 5 * TICK_NS);
        }
        assert_eq!(timers.next_ns(), NEVER);
        timers.fire(1000 * TICK_NS);
    }

    #[test]
    fn a_place_of_a_timer_is_used_again() {
        let timers = Timers::new(0);
        for _ in 0..1000 {
            let mut sleep = Box::pin(timers.sleep_until(TICK_NS, || 0));
            let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        assert_eq!(lock(&timers.waiting).nodes.len(), 1);
    }

    /// Counts how often it is called.
    #[derive(Default)]
    struct Woken(AtomicU64);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn a_task_is_woken_once_when_its_time_has_come_and_not_before() {
        let timers = Timers::new(0);
        let woken = [(); 2].map(|()| std::sync::Arc::new(Woken::default()));
        let clock = AtomicU64::new(0);
        let ats = [5 * TICK_NS + 1, 9 * TICK_NS];
        let mut sleeps = ats.map(|at_ns| Box::pin(timers.sleep_until(at_ns, || clock.load(Relaxed))));
        let wakers = woken.clone().map(Waker::from);
        let mut poll = |place: usize| sleeps[place].as_mut().poll(&mut Context::from_waker(&wakers[place])).is_ready();
        let counts = || [woken[0].0.load(Relaxed), woken[1].0.load(Relaxed)];
        assert!(!poll(0) && !poll(1));
        assert_eq!(timers.next_ns(), 6 * TICK_NS, "the tick before would be too early");
        timers.fire(6 * TICK_NS - 1);
        assert_eq!(counts(), [0, 0]);
        clock.store(6 * TICK_NS, Relaxed);
        timers.fire(6 * TICK_NS);
        timers.fire(7 * TICK_NS);
        assert_eq!(counts(), [1, 0]);
        assert!(poll(0) && !poll(1));
        // The wheel may want to be looked at before; nobody is woken by that.
        while timers.next_ns() < ats[1] {
            let at_ns = timers.next_ns();
            timers.fire(at_ns);
        }
        assert_eq!((counts(), timers.next_ns()), ([1, 0], ats[1]));
        clock.store(ats[1], Relaxed);
        timers.fire(ats[1]);
        assert_eq!((counts(), timers.next_ns()), ([1, 1], NEVER));
        assert!(poll(1));
    }
}

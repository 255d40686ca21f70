//! Stories: whatever waits is an async fn on its worker's executor. It is polled only in a turn in which its waker fired.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use crate::pool::lock;

/// The stories of one worker. Any thread may begin one; only the worker polls them.
pub struct Tasks {
    /// None once the worker has left.
    executor: Mutex<Option<Arc<smol::Executor<'static>>>>,
    woken: AtomicBool,
    timers: Mutex<Timers>,
    /// The time of the earliest timer; the largest number when there is none.
    next_timer_ns: AtomicU64,
}

const NEVER: u64 = u64::MAX;

#[derive(Default)]
struct Timers {
    next_id: u64,
    waiting: Vec<(u64, u64, Waker)>, // (time in ns, id, whom to wake)
}

/// What a worker polls to move its stories on.
pub type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Tasks {
    pub fn new() -> Tasks {
        Tasks {
            executor: Mutex::new(Some(Arc::new(smol::Executor::new()))),
            woken: AtomicBool::new(true),
            timers: Mutex::new(Timers::default()),
            next_timer_ns: AtomicU64::new(NEVER),
        }
    }

    /// Begins a story; it runs in a later turn of the worker, never inside this call.
    pub fn spawn(&self, story: impl Future<Output = ()> + Send + 'static) {
        let executor = lock(&self.executor).clone();
        if let Some(executor) = executor {
            executor.spawn(story).detach();
        }
    }

    /// The future that runs every story of this worker for ever.
    pub fn driver(&self) -> Driver {
        let executor = lock(&self.executor).clone();
        Box::pin(async move {
            while let Some(executor) = &executor {
                executor.tick().await;
            }
        })
    }

    /// Drops the stories that still wait: they hold the engine, which could not be freed otherwise.
    pub fn end(&self) {
        let executor = lock(&self.executor).take();
        drop(executor);
    }

    /// Whether a story is under way, and how many timers wait.
    #[cfg(feature = "testing")]
    pub fn counts(&self) -> (bool, usize) {
        let has_stories = lock(&self.executor).as_ref().is_some_and(|executor| !executor.is_empty());
        (has_stories, lock(&self.timers).waiting.len())
    }

    /// Called by the waker; true when the worker must be told.
    pub fn wake(&self) -> bool {
        !self.woken.swap(true, Ordering::AcqRel)
    }

    /// Whether a story can go on; asking clears it.
    #[inline]
    pub fn take_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire) && self.woken.swap(false, Ordering::AcqRel)
    }

    /// The time of the earliest timer.
    pub fn next_timer_ns(&self) -> Option<u64> {
        Some(self.next_timer_ns.load(Ordering::Acquire)).filter(|at_ns| *at_ns != NEVER)
    }

    /// Wakes the stories whose time has come.
    #[inline]
    pub fn fire_timers(&self, now_ns: u64) {
        if self.next_timer_ns.load(Ordering::Acquire) <= now_ns {
            self.fire(now_ns);
        }
    }

    #[cold]
    fn fire(&self, now_ns: u64) {
        while self.next_timer_ns.load(Ordering::Acquire) <= now_ns {
            let due = {
                let mut timers = lock(&self.timers);
                let place = timers.waiting.iter().position(|timer| timer.0 <= now_ns);
                let due = place.map(|place| timers.waiting.swap_remove(place));
                self.note_next(&timers);
                due
            };
            match due {
                Some((_, _, waker)) => waker.wake(),
                None => return,
            }
        }
    }

    fn note_next(&self, timers: &Timers) {
        let next = timers.waiting.iter().map(|timer| timer.0).min().unwrap_or(NEVER);
        self.next_timer_ns.store(next, Ordering::Release);
    }

    /// Waits until the clock shows `at_ns`.
    pub async fn sleep_until(&self, at_ns: u64, now_ns: impl Fn() -> u64) {
        let mut timer = Timer { tasks: self, id: None };
        poll_fn(|context| {
            if now_ns() >= at_ns {
                return Poll::Ready(());
            }
            timer.register(at_ns, context.waker());
            Poll::Pending
        })
        .await;
    }
}

/// Takes its entry out of the list again when the story stops waiting early.
struct Timer<'a> {
    tasks: &'a Tasks,
    id: Option<u64>,
}

impl Timer<'_> {
    fn register(&mut self, at_ns: u64, waker: &Waker) {
        let mut timers = lock(&self.tasks.timers);
        if let Some(id) = self.id {
            timers.waiting.retain(|timer| timer.1 != id);
        }
        timers.next_id += 1;
        let id = timers.next_id;
        timers.waiting.push((at_ns.min(NEVER - 1), id, waker.clone()));
        self.id = Some(id);
        self.tasks.note_next(&timers);
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let mut timers = lock(&self.tasks.timers);
            timers.waiting.retain(|timer| timer.1 != id);
            self.tasks.note_next(&timers);
        }
    }
}

/// One story waits, anybody tells it to look again. A notice that comes before the wait is not lost.
#[derive(Default)]
pub struct Signal {
    state: Mutex<(bool, Option<Waker>)>,
}

impl Signal {
    /// Wakes the story, or lets its next wait pass.
    pub fn notify(&self) {
        let waker = {
            let mut state = lock(&self.state);
            state.0 = true;
            state.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for a notice.
    pub async fn notified(&self) {
        poll_fn(|context| self.poll(context)).await;
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if std::mem::take(&mut state.0) {
            return Poll::Ready(());
        }
        state.1 = Some(context.waker().clone());
        Poll::Pending
    }
}

/// A waker that calls a function.
pub struct WakeWith<F: Fn() + Send + Sync + 'static>(pub F);

impl<F: Fn() + Send + Sync + 'static> Wake for WakeWith<F> {
    fn wake(self: Arc<Self>) {
        (self.0)();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_that_still_wait_in_the_end_are_dropped_with_what_they_hold() {
        let tasks = Tasks::new();
        let held = Arc::new(());
        let kept = held.clone();
        tasks.spawn(async move {
            std::future::pending::<()>().await;
            drop(kept);
        });
        let mut driver = tasks.driver();
        let _ = driver.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert_eq!(Arc::strong_count(&held), 2);
        drop(driver);
        tasks.end();
        assert_eq!(Arc::strong_count(&held), 1);
        tasks.spawn(async {});
    }

    #[test]
    fn a_timer_that_is_given_up_is_forgotten() {
        let tasks = Tasks::new();
        {
            let mut sleep = Box::pin(tasks.sleep_until(500, || 100));
            let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(tasks.next_timer_ns(), Some(500));
        }
        assert_eq!(tasks.next_timer_ns(), None);
        tasks.fire_timers(1000);
    }
}

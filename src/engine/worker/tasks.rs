//! Tasks: whatever waits is an async fn on its worker's executor. It is polled only in a turn in which its waker fired.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use super::timers::Timers;
use crate::pool::lock;

/// The tasks of one worker. Any thread may begin one; only the worker polls them.
pub struct Tasks {
    /// None once the worker has left.
    executor: Mutex<Option<Arc<smol::Executor<'static>>>>,
    woken: AtomicBool,
    /// What tasks wait on for a while.
    pub timers: Timers,
}

/// What a worker polls to move its tasks on.
pub type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Tasks {
    /// None; the clock shows this now.
    pub fn new(now_ns: u64) -> Tasks {
        Tasks {
            executor: Mutex::new(Some(Arc::new(smol::Executor::new()))),
            woken: AtomicBool::new(true),
            timers: Timers::new(now_ns),
        }
    }

    /// Begins a task; it runs in a later turn of the worker, never inside this call.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let executor = lock(&self.executor).clone();
        if let Some(executor) = executor {
            executor.spawn(task).detach();
        }
    }

    /// The future that runs every task of this worker for ever.
    pub fn driver(&self) -> Driver {
        let executor = lock(&self.executor).clone();
        Box::pin(async move {
            while let Some(executor) = &executor {
                executor.tick().await;
            }
        })
    }

    /// Drops the tasks that still wait: they hold the engine, which could not be freed otherwise.
    pub fn end(&self) {
        let executor = lock(&self.executor).take();
        drop(executor);
    }

    /// Whether a task is under way, and how many timers wait.
    #[cfg(feature = "testing")]
    pub fn counts(&self) -> (bool, usize) {
        let has_tasks = lock(&self.executor).as_ref().is_some_and(|executor| !executor.is_empty());
        (has_tasks, self.timers.count())
    }

    /// Called by the waker; true when the worker must be told.
    pub fn wake(&self) -> bool {
        !self.woken.swap(true, Ordering::AcqRel)
    }

    /// Whether a task can go on; asking clears it.
    #[inline]
    pub fn take_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire) && self.woken.swap(false, Ordering::AcqRel)
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
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn tasks_that_still_wait_in_the_end_are_dropped_with_what_they_hold() {
        let tasks = Tasks::new(0);
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
}

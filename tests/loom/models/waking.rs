//! A worker that is asked for does not sleep on: `WorkerCall` (real code), as `Worker::run`, `Worker::wait`
//! (src/engine/worker.rs) and `Outside::ask` (src/engine/core.rs) use it.

use std::sync::Arc;

use loom::sync::Notify;
use loom::thread;

use wharf_models::explore;
use wharf_models::handshakes::WorkerCall;
use wharf_models::sync::atomic::{AtomicU32, Ordering::*};
use wharf_models::sync::weakened;

/// A worker and those who ask. loom reports a worker that waits for ever as a deadlock.
struct Scene {
    call: WorkerCall,
    /// What was noted for the worker before it was asked.
    work: AtomicU32,
    /// The port's bell: its edge stays until it is taken.
    bell: Notify,
}

impl Scene {
    fn new() -> Arc<Scene> {
        Arc::new(Scene { call: WorkerCall::new(), work: AtomicU32::new(0), bell: Notify::new() })
    }

    /// `Outside::ask`, with something noted before.
    fn give_work(&self) {
        self.work.fetch_add(1, Release);
        if self.call.ask() {
            self.bell.notify();
        }
    }

    /// `Worker::run` until so much work is seen. `careless` leaves out the look between falling asleep and the wait.
    fn run_until(&self, all: u32, careless: bool) {
        loop {
            if self.call.is_asked() && self.call.take() && self.work.load(Acquire) == all {
                return;
            }
            let must_not_wait = self.call.fall_asleep();
            if careless || !must_not_wait {
                self.bell.wait();
            }
            self.call.wake_up();
        }
    }
}

fn one_asks(careless: bool) {
    explore(None, move || {
        let scene = Scene::new();
        let asker = {
            let scene = scene.clone();
            thread::spawn(move || scene.give_work())
        };
        scene.run_until(1, careless);
        asker.join().unwrap();
    });
}

#[test]
fn a_worker_that_is_asked_looks_and_does_not_sleep_on() {
    one_asks(false);
}

#[test]
fn two_who_ask_at_once_are_both_seen() {
    explore(Some(3), || {
        let scene = Scene::new();
        let askers = [(); 2].map(|()| {
            let scene = scene.clone();
            thread::spawn(move || scene.give_work())
        });
        scene.run_until(2, false);
        askers.into_iter().for_each(|asker| asker.join().unwrap());
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_look_before_the_wait_a_wake_up_is_lost() {
    one_asks(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn with_weaker_orderings_a_wake_up_is_lost() {
    weakened(|| one_asks(false));
}

/// The end of an engine, told by another worker while this one is asked for something else: `Core::tell_workers_to_exit`
/// (src/engine/lifecycle.rs) and the loop of `Worker::run`.
fn the_end_is_told(looks_before_it_takes: bool) {
    explore(None, move || {
        let scene = Scene::new();
        let teller = {
            let scene = scene.clone();
            thread::spawn(move || scene.give_work())
        };
        let exiting = || scene.work.load(SeqCst) == 1;
        loop {
            if scene.call.is_asked() {
                if looks_before_it_takes && exiting() {
                    break;
                }
                scene.call.take();
                if !looks_before_it_takes && exiting() {
                    break;
                }
            }
            if !scene.call.fall_asleep() {
                scene.bell.wait();
            }
            scene.call.wake_up();
        }
        teller.join().unwrap();
    });
}

#[test]
fn a_worker_that_is_told_of_the_end_leaves() {
    the_end_is_told(false);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_look_before_the_call_is_taken_misses_the_end() {
    the_end_is_told(true);
}

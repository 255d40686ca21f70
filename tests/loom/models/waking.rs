//! A worker that has something to do does not sleep on: `WorkerWake` (real code), as `Worker::run`, `Worker::wait`
//! (src/engine/worker/event_loop.rs) and `WorkerLink::post` (src/engine/connection/worker_link.rs) use it.

use std::sync::Arc;

use loom::sync::Notify;
use loom::thread;

use wharf_models::explore;
use wharf_models::sync::atomic::{AtomicU32, Ordering::*};
use wharf_models::sync::weakened;
use wharf_models::wake::WorkerWake;

/// A worker and those who give it work. loom reports a worker that waits for ever as a deadlock.
struct Scene {
    wake: WorkerWake,
    /// What was noted for the worker before it was told.
    work: AtomicU32,
    /// The port's bell: its edge stays until it is taken.
    bell: Notify,
}

impl Scene {
    fn new() -> Arc<Scene> {
        Arc::new(Scene { wake: WorkerWake::new(), work: AtomicU32::new(0), bell: Notify::new() })
    }

    /// `WorkerLink::post`, with something noted before.
    fn give_work(&self) {
        self.work.fetch_add(1, Release);
        if self.wake.post() {
            self.bell.notify();
        }
    }

    /// `Worker::run` until so much work is seen. `careless` leaves out the look between falling asleep and the wait.
    fn run_until(&self, all: u32, careless: bool) {
        loop {
            if self.wake.has_work() && self.wake.take_work() && self.work.load(Acquire) == all {
                return;
            }
            let must_not_wait = self.wake.fall_asleep();
            if careless || !must_not_wait {
                self.bell.wait();
            }
            self.wake.wake_up();
        }
    }
}

fn one_posts(careless: bool) {
    explore(None, move || {
        let scene = Scene::new();
        let poster = {
            let scene = scene.clone();
            thread::spawn(move || scene.give_work())
        };
        scene.run_until(1, careless);
        poster.join().unwrap();
    });
}

#[test]
fn a_worker_that_has_work_looks_and_does_not_sleep_on() {
    one_posts(false);
}

#[test]
fn two_who_post_at_once_are_both_seen() {
    explore(Some(3), || {
        let scene = Scene::new();
        let posters = [(); 2].map(|()| {
            let scene = scene.clone();
            thread::spawn(move || scene.give_work())
        });
        scene.run_until(2, false);
        posters.into_iter().for_each(|poster| poster.join().unwrap());
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_look_before_the_wait_a_wake_up_is_lost() {
    one_posts(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn with_weaker_orderings_a_wake_up_is_lost() {
    weakened(|| one_posts(false));
}

/// The end of an engine, told by another worker while this one is given something else to do: `Workers::exit`
/// (src/engine/worker/workers.rs) and the loop of `Worker::run`.
fn the_end_is_told(looks_before_it_takes: bool) {
    explore(None, move || {
        let scene = Scene::new();
        let teller = {
            let scene = scene.clone();
            thread::spawn(move || scene.give_work())
        };
        let exiting = || scene.work.load(SeqCst) == 1;
        loop {
            if scene.wake.has_work() {
                if looks_before_it_takes && exiting() {
                    break;
                }
                scene.wake.take_work();
                if !looks_before_it_takes && exiting() {
                    break;
                }
            }
            if !scene.wake.fall_asleep() {
                scene.bell.wait();
            }
            scene.wake.wake_up();
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
fn a_look_before_the_work_is_taken_misses_the_end() {
    the_end_is_told(true);
}

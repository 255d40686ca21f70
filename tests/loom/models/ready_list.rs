//! What a thread asks of a connection is seen by its worker: `ReadyMark` and `WorkerWake` (real code), as
//! `Connections::post_ready` (src/engine/connection/connections.rs), `WorkerLink::post_ready` (.../worker_link.rs),
//! `Worker::look_at_ready` (src/engine/worker/event_loop.rs) and `Turn::look_at` (src/engine/connection/receive.rs) use
//! them.

use std::sync::Arc;

use loom::sync::Notify;
use loom::thread;

use wharf_models::explore;
use wharf_models::pool::lock;
use wharf_models::sync::Mutex;
use wharf_models::wake::{ReadyMark, WorkerWake};

struct Scene {
    wake: WorkerWake,
    ready: Mutex<Vec<u32>>,
    mark: ReadyMark,
    /// What was changed under the connection's lock.
    sender: Mutex<u32>,
    bell: Notify,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    ClearThenLook,
    LookThenClear,
}

impl Scene {
    /// `Locked::close` and the like: a change under the lock, and `Connections::post_ready`.
    fn change(&self) {
        let mut sender = lock(&self.sender);
        *sender += 1;
        if !self.mark.set() {
            return;
        }
        lock(&self.ready).push(0);
        if self.wake.post() {
            self.bell.notify();
        }
    }

    /// Turns of the worker (`Worker::run`) until it has seen all changes.
    fn run_until(&self, all: u32, order: Order) {
        loop {
            let mut seen = 0;
            if self.wake.has_work() && self.wake.take_work() {
                let ready = std::mem::take(&mut *lock(&self.ready));
                assert!(ready.len() <= 1, "the list has room for each connection once");
                for _ in ready {
                    if order == Order::ClearThenLook {
                        self.mark.clear();
                    }
                    seen = *lock(&self.sender);
                    if order == Order::LookThenClear {
                        self.mark.clear();
                    }
                }
            }
            if seen == all {
                return;
            }
            if !self.wake.fall_asleep() {
                self.bell.wait();
            }
            self.wake.wake_up();
        }
    }
}

fn two_changes(order: Order) {
    explore(Some(3), move || {
        let scene = Arc::new(Scene {
            wake: WorkerWake::new(),
            ready: Mutex::new(Vec::new()),
            mark: ReadyMark::new(),
            sender: Mutex::new(0),
            bell: Notify::new(),
        });
        let changers = [(); 2].map(|()| {
            let scene = scene.clone();
            thread::spawn(move || scene.change())
        });
        scene.run_until(2, order);
        changers.into_iter().for_each(|changer| changer.join().unwrap());
    });
}

#[test]
fn every_change_of_a_connection_is_seen_by_its_worker() {
    two_changes(Order::ClearThenLook);
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_mark_that_is_cleared_after_the_look_hides_a_change() {
    two_changes(Order::LookThenClear);
}

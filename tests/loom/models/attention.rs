//! What a thread asks of a connection is seen by its worker: `AttentionMark` and `WorkerCall` (real code), as
//! `Core::call_attention` (src/engine/core.rs), `Worker::attend_all` (src/engine/worker.rs) and `Desk::attend`
//! (src/engine/dispatch.rs) use them.

use std::sync::Arc;

use loom::sync::Notify;
use loom::thread;

use wharf_models::explore;
use wharf_models::handshakes::{AttentionMark, WorkerCall};
use wharf_models::pool::lock;
use wharf_models::sync::Mutex;

struct Scene {
    call: WorkerCall,
    list: Mutex<Vec<u32>>,
    mark: AttentionMark,
    /// What was changed under the connection's lock.
    side: Mutex<u32>,
    bell: Notify,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    ClearThenLook,
    LookThenClear,
}

impl Scene {
    /// `Core::close_locked` and the like: a change under the lock, and `Core::call_attention`.
    fn change(&self) {
        let mut side = lock(&self.side);
        *side += 1;
        if !self.mark.set() {
            return;
        }
        lock(&self.list).push(0);
        if self.call.ask() {
            self.bell.notify();
        }
    }

    /// Turns of the worker until it has seen all changes; gives the most entries that the list ever had.
    fn run_until(&self, all: u32, order: Order) {
        loop {
            let mut seen = 0;
            if self.call.is_asked() && self.call.take() {
                let list = std::mem::take(&mut *lock(&self.list));
                assert!(list.len() <= 1, "the list has room for each connection once");
                for _ in list {
                    if order == Order::ClearThenLook {
                        self.mark.clear();
                    }
                    seen = *lock(&self.side);
                    if order == Order::LookThenClear {
                        self.mark.clear();
                    }
                }
            }
            if seen == all {
                return;
            }
            if !self.call.fall_asleep() {
                self.bell.wait();
            }
            self.call.wake_up();
        }
    }
}

fn two_changes(order: Order) {
    explore(Some(3), move || {
        let scene = Arc::new(Scene {
            call: WorkerCall::new(),
            list: Mutex::new(Vec::new()),
            mark: AttentionMark::new(),
            side: Mutex::new(0),
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

//! A server that waits for a place gets one: `Permits`, `Slots` and `WaitingServers` (real code), as
//! `Core::pause_accepting`, `Core::resume_accepting`, `Core::place_is_free` (src/engine/accept.rs) and `Place`
//! (src/engine/adopt.rs) use them.

use std::sync::Arc;

use loom::thread;

use wharf_models::explore;
use wharf_models::handshakes::WaitingServers;
use wharf_models::pool::lock;
use wharf_models::pool::permits::{Permit, Permits};
use wharf_models::pool::slots::{Slot, Slots};
use wharf_models::sync::{Mutex, weakened};

struct Server {
    permits: Arc<Permits>,
    slots: Arc<Slots>,
    waiting: WaitingServers,
    /// Whether it rests for want of a place; otherwise its listener is watched.
    rests: Mutex<bool>,
}

impl Server {
    /// The only place is taken.
    fn full() -> (Arc<Server>, Permit, Slot) {
        let server = Server {
            permits: Permits::new(1),
            slots: Slots::new(1),
            waiting: WaitingServers::new(),
            rests: Mutex::new(false),
        };
        let (permit, slot) = (server.permits.try_take().unwrap(), server.slots.take().unwrap());
        (Arc::new(server), permit, slot)
    }

    fn has_place(&self) -> bool {
        self.permits.taken() < 1 && self.slots.free() > 0
    }

    /// `Desk::accept_ready` and `Core::pause_accepting`.
    fn accept(&self, looks_again: bool) {
        if self.permits.try_take().is_some_and(|_permit| self.slots.take().is_some()) {
            return;
        }
        {
            let mut rests = lock(&self.rests);
            self.waiting.enter();
            *rests = true;
        }
        if looks_again && self.waiting.last_look(|| self.has_place()) {
            self.resume();
        }
    }

    /// `Core::resume_accepting`.
    fn resume(&self) {
        let mut rests = lock(&self.rests);
        if std::mem::take(&mut *rests) {
            self.waiting.leave();
        }
    }

    /// `Core::place_is_free`.
    fn place_is_free(&self) {
        if self.waiting.must_be_told() && self.has_place() {
            self.resume();
        }
    }
}

fn a_place_comes_back(looks_again: bool, tells: bool) {
    explore(None, move || {
        let (server, permit, slot) = Server::full();
        let leaver = {
            let server = server.clone();
            thread::spawn(move || {
                drop(permit);
                drop(slot);
                if tells {
                    server.place_is_free();
                }
            })
        };
        server.accept(looks_again);
        leaver.join().unwrap();
        assert!(server.has_place(), "what was taken for the accept came back, too");
        assert!(!*lock(&server.rests), "there is a place, and the server waits for it");
    });
}

#[test]
fn a_server_that_waits_for_a_place_is_told_when_one_is_free() {
    a_place_comes_back(true, true);
}

#[test]
#[should_panic(expected = "the server waits for it")]
fn without_the_last_look_a_place_is_missed() {
    a_place_comes_back(false, true);
}

#[test]
#[should_panic(expected = "the server waits for it")]
fn without_being_told_a_place_is_missed() {
    a_place_comes_back(true, false);
}

/// The engine's fences alone: one thread frees and asks, the other enters and looks.
#[test]
#[should_panic(expected = "nobody saw the other")]
fn without_the_fences_a_place_is_missed() {
    weakened(freed_and_entered);
}

#[test]
fn whoever_frees_a_place_and_whoever_waits_for_it_see_each_other() {
    freed_and_entered();
}

fn freed_and_entered() {
    explore(None, || {
        let permits = Permits::new(1);
        let waiting = Arc::new(WaitingServers::new());
        let permit = permits.try_take().unwrap();
        let leaver = {
            let waiting = waiting.clone();
            thread::spawn(move || {
                drop(permit);
                waiting.must_be_told()
            })
        };
        waiting.enter();
        let saw_place = waiting.last_look(|| permits.taken() == 0);
        let was_told = leaver.join().unwrap();
        assert!(saw_place || was_told, "nobody saw the other");
    });
}

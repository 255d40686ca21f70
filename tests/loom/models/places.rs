//! A server that waits for a place gets one: `Permits`, `Slots`, `PlaceWaiterCount` and `PlaceWaiters` (real code), as
//! `Server::pause_accepting`, `Server::resume_accepting`, `Server::place_is_free` (src/engine/server/accept.rs) and
//! `Connections::give_back` and `Place` (src/engine/connection/place.rs) use them.

use std::sync::{Arc, Weak};

use loom::thread;

use wharf_models::explore;
use wharf_models::place_waiters::{PlaceWaiter, PlaceWaiters};
use wharf_models::pool::lock;
use wharf_models::pool::permits::{Permit, Permits};
use wharf_models::pool::slots::{Slot, Slots};
use wharf_models::sync::{Mutex, weakened};
use wharf_models::tell;
use wharf_models::wake::PlaceWaiterCount;

struct Server {
    permits: Arc<Permits>,
    slots: Arc<Slots>,
    waiters: PlaceWaiterCount,
    /// Whether it rests for want of a place; otherwise its listener is watched.
    rests: Mutex<bool>,
}

impl Server {
    /// The only place is taken.
    fn full() -> (Arc<Server>, Permit, Slot) {
        let server = Server {
            permits: Permits::new(1),
            slots: Slots::new(1).unwrap(),
            waiters: PlaceWaiterCount::new(),
            rests: Mutex::new(false),
        };
        let (permit, slot) = (server.permits.try_take().unwrap(), server.slots.take().unwrap());
        (Arc::new(server), permit, slot)
    }

    fn has_place(&self) -> bool {
        self.permits.taken() < 1 && self.slots.free() > 0
    }

    /// `Server::ready`, `Server::reserve` and `Server::pause_accepting`.
    fn accept(&self, looks_again: bool) {
        if self.permits.try_take().is_some_and(|_permit| self.slots.take().is_some()) {
            return;
        }
        {
            let mut rests = lock(&self.rests);
            self.waiters.enter();
            *rests = true;
        }
        if looks_again && self.waiters.last_look(|| self.has_place()) {
            self.resume();
        }
    }

    /// `Server::resume_accepting`.
    fn resume(&self) {
        let mut rests = lock(&self.rests);
        if std::mem::take(&mut *rests) {
            self.waiters.leave();
        }
    }

    /// `PlaceWaiters::tell` and `Server::place_is_free`.
    fn place_is_free(&self) {
        if self.waiters.must_be_told() && self.has_place() {
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
        let waiters = Arc::new(PlaceWaiterCount::new());
        let permit = permits.try_take().unwrap();
        let leaver = {
            let waiters = waiters.clone();
            thread::spawn(move || {
                drop(permit);
                waiters.must_be_told()
            })
        };
        waiters.enter();
        let saw_place = waiters.last_look(|| permits.taken() == 0);
        let was_told = leaver.join().unwrap();
        assert!(saw_place || was_told, "nobody saw the other");
    });
}

/// One of several that wait; when it is told it goes on, and leaves the list.
struct Waiter {
    waiters: Arc<List>,
    /// Itself, as it stands in the list.
    me: Weak<Waiter>,
    /// None: it waits no more. Otherwise, whether it was told.
    rests: Mutex<Option<bool>>,
}

/// The list: the real one, or a copy by hand whose walk goes from the first to the last.
enum List {
    Real(PlaceWaiters),
    Upward(Mutex<Vec<Arc<dyn PlaceWaiter>>>),
}

impl List {
    fn insert(&self, waiter: Arc<dyn PlaceWaiter>) {
        match self {
            List::Real(waiters) => waiters.insert(waiter),
            List::Upward(waiting) => lock(waiting).push(waiter),
        }
    }

    fn remove(&self, waiter: &Arc<dyn PlaceWaiter>) {
        match self {
            List::Real(waiters) => waiters.remove(waiter),
            List::Upward(waiting) => {
                let mut waiting = lock(waiting);
                let place = waiting.iter().position(|other| Arc::ptr_eq(other, waiter)).unwrap();
                waiting.swap_remove(place);
            }
        }
    }

    fn tell(&self) {
        match self {
            List::Real(waiters) => tell(waiters),
            List::Upward(waiting) => {
                let count = lock(waiting).len();
                for place in 0..count {
                    let waiter = lock(waiting).get(place).cloned();
                    if let Some(waiter) = waiter {
                        waiter.place_is_free();
                    }
                }
            }
        }
    }
}

impl Waiter {
    fn new(waiters: &Arc<List>) -> Arc<Waiter> {
        let waiter = Arc::new_cyclic(|me: &Weak<Waiter>| Waiter {
            waiters: waiters.clone(),
            me: me.clone(),
            rests: Mutex::new(Some(false)),
        });
        waiters.insert(waiter.clone());
        waiter
    }

    /// `Server::note_pause`: it waits no more, because it was told or because it was stopped.
    fn leave(&self, was_told: bool) {
        let mut rests = lock(&self.rests);
        if *rests == Some(false) {
            *rests = was_told.then_some(true);
            self.waiters.remove(&(self.me.upgrade().unwrap() as Arc<dyn PlaceWaiter>));
        }
    }
}

impl PlaceWaiter for Waiter {
    fn place_is_free(&self) {
        self.leave(true);
    }
}

/// Three wait; one of them is stopped while a place is given back, and those that are told leave the list.
fn a_walk_along_the_list(list: fn() -> List) {
    explore(Some(3), move || {
        let waiters = Arc::new(list());
        let waiting = [(); 3].map(|()| Waiter::new(&waiters));
        let teller = {
            let waiters = waiters.clone();
            thread::spawn(move || waiters.tell())
        };
        waiting[0].leave(false);
        teller.join().unwrap();
        for waiter in &waiting[1..] {
            assert_eq!(*lock(&waiter.rests), Some(true), "one that waits was passed over");
        }
    });
}

#[test]
fn nobody_who_waits_is_passed_over_while_others_leave() {
    a_walk_along_the_list(|| List::Real(PlaceWaiters::new()));
}

#[test]
#[should_panic(expected = "one that waits was passed over")]
fn a_walk_from_the_first_to_the_last_passes_one_over() {
    a_walk_along_the_list(|| List::Upward(Mutex::new(Vec::new())));
}

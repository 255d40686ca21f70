//! A stale handle never meets the next connection in its place: `Slots` and `Handle` are real code; the place of the table
//! is modelled. `Place::locked` stands for `Table::by_handle` (src/engine/connection/table.rs) and `Connections::locked`
//! (.../locked.rs), `begin` for `Connections::begin`, `vacate` and `give_back` for those of `Connections` (.../place.rs) as
//! `Turn::free` (.../ending.rs) calls them, `live_handle` for `Table::live_handle`.

use std::sync::Arc;

use loom::thread;

use wharf_models::explore;
use wharf_models::pool::handle::{Handle, Kind};
use wharf_models::pool::lock;
use wharf_models::pool::slots::{Slot, Slots};
use wharf_models::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use wharf_models::sync::{Mutex, MutexGuard};

/// One place of the connection table.
struct Place {
    generation: AtomicU32,
    /// `phase() != Phase::Free`.
    is_taken: AtomicBool,
    sender: Mutex<Sender>,
    slots: Arc<Slots>,
}

/// What is behind the connection's lock: whose connection it is, and what was sent to it.
struct Sender {
    owner: Option<&'static str>,
    sent: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Compare {
    UnderTheLock,
    BeforeTheLockOnly,
}

/// In which order a place is vacated and given back; the first is that of the engine.
#[derive(Clone, Copy, PartialEq)]
enum FreeOrder {
    PhaseFirst,
    GenerationFirst,
    SlotFirst,
}

impl Place {
    fn new() -> Arc<Place> {
        Arc::new(Place {
            generation: AtomicU32::new(7),
            is_taken: AtomicBool::new(false),
            sender: Mutex::new(Sender { owner: None, sent: 0 }),
            slots: Slots::new(1).unwrap(),
        })
    }

    fn handle(&self) -> Handle {
        Handle { kind: Kind::Connection, engine: 0, index: 0, generation: self.generation.load(Acquire) }
    }

    fn begin(&self, slot: Slot, owner: &'static str) -> u64 {
        let handle = {
            let mut sender = lock(&self.sender);
            let handle = self.handle();
            *sender = Sender { owner: Some(owner), sent: 0 };
            self.is_taken.store(true, Release);
            handle.to_bits()
        };
        slot.keep();
        handle
    }

    fn locked(&self, bits: u64, compare: Compare) -> Option<MutexGuard<'_, Sender>> {
        if self.generation.load(Acquire) != Handle::generation_of(bits) || !self.is_taken.load(Acquire) {
            return None;
        }
        let sender = lock(&self.sender);
        let is_other = compare == Compare::UnderTheLock && self.generation.load(Acquire) != Handle::generation_of(bits);
        if is_other || sender.owner.is_none() { None } else { Some(sender) }
    }

    fn free(&self, order: FreeOrder) {
        if order == FreeOrder::SlotFirst {
            self.give_back();
            self.vacate(FreeOrder::PhaseFirst);
        } else {
            self.vacate(order);
            self.give_back();
        }
    }

    fn vacate(&self, order: FreeOrder) {
        let mut sender = lock(&self.sender);
        if order == FreeOrder::GenerationFirst {
            self.next_generation();
        }
        self.is_taken.store(false, Release);
        if order != FreeOrder::GenerationFirst {
            self.next_generation();
        }
        sender.owner = None;
    }

    fn give_back(&self) {
        self.slots.give_back(0);
    }

    fn next_generation(&self) {
        self.generation.store(self.generation.load(Relaxed).wrapping_add(1), Release);
    }

    fn live_handle(&self) -> Option<Handle> {
        let handle = self.handle();
        let lives = self.is_taken.load(Acquire);
        (lives && self.handle() == handle).then_some(handle)
    }
}

/// One thread holds the handle of a connection whose worker frees the place, which the next connection gets.
fn a_stale_handle(compare: Compare, order: FreeOrder) {
    explore(Some(3), move || {
        let place = Place::new();
        let first = place.begin(place.slots.take().unwrap(), "first");
        let sender = {
            let place = place.clone();
            thread::spawn(move || {
                if let Some(mut sender) = place.locked(first, compare) {
                    assert_eq!(sender.owner, Some("first"), "a stale handle met another connection");
                    sender.sent += 1;
                }
            })
        };
        let worker = {
            let place = place.clone();
            thread::spawn(move || place.free(order))
        };
        // An accept, on a third thread.
        if let Some(slot) = place.slots.take() {
            let second = place.begin(slot, "second");
            assert_ne!(second, first, "a handle was given out twice");
            assert_eq!(lock(&place.sender).sent, 0);
        }
        sender.join().unwrap();
        worker.join().unwrap();
        assert!(place.locked(first, Compare::UnderTheLock).is_none());
    });
}

#[test]
fn a_stale_handle_never_meets_the_next_connection() {
    a_stale_handle(Compare::UnderTheLock, FreeOrder::PhaseFirst);
}

#[test]
#[should_panic(expected = "a stale handle met another connection")]
fn a_generation_that_is_compared_before_the_lock_only_is_not_enough() {
    a_stale_handle(Compare::BeforeTheLockOnly, FreeOrder::PhaseFirst);
}

#[test]
#[should_panic(expected = "a handle was given out twice")]
fn a_place_that_is_given_back_before_its_generation_goes_up_is_named_twice() {
    a_stale_handle(Compare::UnderTheLock, FreeOrder::SlotFirst);
}

/// A list of members (`Server::connections`, `Connections::close_members`) is made while the place is freed and used again.
fn a_list_of_members(order: FreeOrder) {
    explore(None, move || {
        let place = Place::new();
        let first = place.begin(place.slots.take().unwrap(), "first");
        let worker = {
            let place = place.clone();
            thread::spawn(move || {
                place.free(order);
                let second = place.slots.take().unwrap();
                place.begin(second, "second")
            })
        };
        let lister = thread::spawn(move || {
            if let Some(listed) = place.live_handle().map(Handle::to_bits) {
                let lives = place.locked(listed, Compare::UnderTheLock).is_some();
                assert!(listed == first || lives, "a list named a connection before it was there");
            }
        });
        lister.join().unwrap();
        worker.join().unwrap();
    });
}

#[test]
fn a_list_names_no_connection_before_it_is_there() {
    a_list_of_members(FreeOrder::PhaseFirst);
}

#[test]
#[should_panic(expected = "a list named a connection before it was there")]
fn a_generation_that_goes_up_before_the_place_is_free_is_named_too_early() {
    a_list_of_members(FreeOrder::GenerationFirst);
}

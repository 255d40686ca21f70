//! A stale handle never meets the next connection in its place: `Slots` and `Handle` are real code; the place of the table
//! is modelled. `Place::locked` stands for `Core::connection` and `Core::locked` (src/engine/core.rs), `fill` for
//! `Core::fill` (src/engine/adopt.rs), `free` for `Desk::free` (src/engine/closing.rs), `live_handle` for
//! `Core::live_handle`.

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
    side: Mutex<Side>,
}

/// What is behind the send lock: whose connection it is, and what was sent to it.
struct Side {
    owner: Option<&'static str>,
    slot: Option<Slot>,
    sent: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Compare {
    UnderTheLock,
    BeforeTheLockOnly,
}

/// In which order a place is given up; the first is that of the engine.
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
            side: Mutex::new(Side { owner: None, slot: None, sent: 0 }),
        })
    }

    fn handle(&self) -> Handle {
        Handle { kind: Kind::Connection, engine: 0, index: 0, generation: self.generation.load(Acquire) }
    }

    fn fill(&self, slot: Slot, owner: &'static str) -> u64 {
        let mut side = lock(&self.side);
        let handle = self.handle();
        side.owner = Some(owner);
        side.sent = 0;
        side.slot = Some(slot);
        self.is_taken.store(true, Release);
        handle.to_bits()
    }

    fn locked(&self, bits: u64, compare: Compare) -> Option<MutexGuard<'_, Side>> {
        if self.generation.load(Acquire) != Handle::generation_of(bits) || !self.is_taken.load(Acquire) {
            return None;
        }
        let side = lock(&self.side);
        let is_other = compare == Compare::UnderTheLock && self.generation.load(Acquire) != Handle::generation_of(bits);
        if is_other || side.owner.is_none() { None } else { Some(side) }
    }

    fn free(&self, order: FreeOrder) {
        let mut side = lock(&self.side);
        side.owner = None;
        let slot = side.slot.take();
        match order {
            FreeOrder::PhaseFirst => {
                self.is_taken.store(false, Release);
                self.next_generation();
            }
            FreeOrder::GenerationFirst => {
                self.next_generation();
                self.is_taken.store(false, Release);
            }
            FreeOrder::SlotFirst => {
                self.is_taken.store(false, Release);
                drop(side);
                drop(slot);
                self.next_generation();
                return;
            }
        }
        drop(side);
        drop(slot);
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
        let slots = Slots::new(1);
        let place = Place::new();
        let first = place.fill(slots.take().unwrap(), "first");
        let sender = {
            let place = place.clone();
            thread::spawn(move || {
                if let Some(mut side) = place.locked(first, compare) {
                    assert_eq!(side.owner, Some("first"), "a stale handle met another connection");
                    side.sent += 1;
                }
            })
        };
        let worker = {
            let place = place.clone();
            thread::spawn(move || place.free(order))
        };
        // An accept, on a third thread.
        if let Some(slot) = slots.take() {
            let second = place.fill(slot, "second");
            assert_ne!(second, first, "a handle was given out twice");
            assert_eq!(lock(&place.side).sent, 0);
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

/// A list of members (`wharf_server_connections`, `close_members`) is made while the place is freed and used again.
fn a_list_of_members(order: FreeOrder) {
    explore(None, move || {
        let slots = Slots::new(1);
        let place = Place::new();
        let first = place.fill(slots.take().unwrap(), "first");
        let worker = {
            let place = place.clone();
            thread::spawn(move || {
                place.free(order);
                let second = slots.take().unwrap();
                place.fill(second, "second")
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

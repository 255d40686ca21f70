//! Bounds hold whatever the order: `Permits`, `Slots`, `Blocks` and `Chain`, all of it real code.

use std::sync::Arc;

use loom::thread;

use wharf_models::explore;
use wharf_models::pool::blocks::{Blocks, Chain};
use wharf_models::pool::permits::Permits;
use wharf_models::pool::slots::Slots;

#[test]
fn permits_are_never_more_than_the_limit_and_all_come_back() {
    explore(None, || {
        let permits = Permits::new(1);
        let takers = [(); 2].map(|()| {
            let permits = permits.clone();
            thread::spawn(move || {
                let permit = permits.try_take();
                assert!(permits.taken() <= 1);
                permit.is_some()
            })
        });
        let taken = takers.map(|taker| taker.join().unwrap());
        assert!(taken.contains(&true), "one of them got it");
        assert_eq!(permits.taken(), 0);
    });
}

#[test]
fn a_place_has_one_holder_at_a_time() {
    explore(Some(3), || {
        let slots = Slots::new(2).unwrap();
        let takers = [(); 2].map(|()| {
            let slots = slots.clone();
            thread::spawn(move || slots.take())
        });
        let held = takers.map(|taker| taker.join().unwrap().unwrap());
        assert_ne!(held[0].index(), held[1].index());
        assert!(slots.take().is_none());
        drop(held);
        assert_eq!(slots.free(), 2);
    });
}

#[test]
fn blocks_are_reserved_before_they_are_taken_and_all_come_back() {
    explore(Some(3), || {
        let blocks = Arc::new(Blocks::new(2, 0, 8).unwrap());
        let senders = [1_u8, 2].map(|seed| {
            let blocks = blocks.clone();
            thread::spawn(move || {
                let mut chain = Chain::new(&blocks);
                let needed = chain.blocks_for(&blocks, 12);
                let fits = blocks.reserve(needed);
                if fits {
                    // Panics when there is no block in spite of the reservation.
                    chain.push_reserved(&blocks, &[seed; 12]);
                    let mut slices = [std::io::IoSlice::new(&[]); 4];
                    let count = chain.slices(&blocks, &mut slices);
                    assert!(slices[..count].iter().all(|slice| slice.iter().all(|byte| *byte == seed)));
                    chain.clear(&blocks);
                }
                fits
            })
        });
        let taken = senders.map(|sender| sender.join().unwrap());
        assert!(taken.contains(&true));
        assert_eq!((blocks.in_use(), blocks.available()), (0, 2));
    });
}

/// Two threads that look first and then take what they saw.
fn look_then_take(looks_and_takes: fn(&Arc<Permits>, &Arc<Slots>)) {
    explore(None, move || {
        let (permits, slots) = (Permits::new(1), Slots::new(1).unwrap());
        let other = {
            let (permits, slots) = (permits.clone(), slots.clone());
            thread::spawn(move || looks_and_takes(&permits, &slots))
        };
        looks_and_takes(&permits, &slots);
        other.join().unwrap();
    });
}

#[test]
#[should_panic(expected = "the permit was gone")]
fn a_look_at_the_count_is_no_permit() {
    look_then_take(|permits, _| {
        if permits.taken() == 0 {
            drop(permits.try_take().expect("the permit was gone"));
        }
    });
}

#[test]
#[should_panic(expected = "the place was gone")]
fn a_look_at_the_free_places_is_no_place() {
    look_then_take(|_, slots| {
        if slots.free() > 0 {
            drop(slots.take().expect("the place was gone"));
        }
    });
}

#[test]
#[should_panic(expected = "a block was taken that was not reserved")]
fn without_a_reservation_a_send_is_cut_in_two() {
    explore(Some(3), || {
        let blocks = Arc::new(Blocks::new(2, 0, 8).unwrap());
        let push = |blocks: &Blocks| {
            let mut chain = Chain::new(blocks);
            chain.push_reserved(blocks, &[1; 12]);
            chain.clear(blocks);
        };
        let other = {
            let blocks = blocks.clone();
            thread::spawn(move || push(&blocks))
        };
        push(&blocks);
        other.join().unwrap();
    });
}

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
        let slots = Slots::new(2);
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
        let blocks = Arc::new(Blocks::new(2, 0, 8));
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

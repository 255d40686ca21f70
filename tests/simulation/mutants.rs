//! Classic bugs, put back one at a time: each must be found, by the kind of failure that it is.

use std::time::{Duration, Instant};

use wharf::engine::mutant::Mutant;
use wharf::ffi::wharf_test_mutant;

use crate::{layers, runner};

/// Switches a bug on, for engines of this thread (0: none).
pub fn switch_on(mutant: u32) {
    wharf_test_mutant(mutant);
}

/// The same of the way through a layer (layers.rs).
const LAYER_MUTANTS: [(Mutant, u64); 2] = [(Mutant::RestForgotten, 100), (Mutant::HeldBlocksLost, 100)];

/// Each, and how many seeds may be run until it is found: about ten times what it took when this was written.
const MUTANTS: [(Mutant, u64); 10] = [
    (Mutant::PermitLost, 2_000),
    (Mutant::BlockInFlight, 2_000),
    (Mutant::StaleHandle, 2_000),
    (Mutant::LostWritable, 2_000),
    (Mutant::CloseTwice, 2_000),
    (Mutant::CorkLost, 2_000),
    (Mutant::EndlessDrain, 2_000),
    (Mutant::ReconnectStorm, 2_000),
    (Mutant::UnreadThrownAway, 2_000),
    (Mutant::ReconnectFlap, 2_000),
];

/// The bugs in a table: seeds and seconds until found, on one thread, and what was found.
#[test]
fn each_classic_bug_that_is_put_back_is_found_within_its_number_of_seeds() {
    runner::silence_panics();
    let mut missed = Vec::new();
    for (mutant, most) in MUTANTS {
        let begin = Instant::now();
        match runner::first_failure(1, most, Duration::from_secs(60), 1, mutant as u32) {
            (Some(seed), ran) => {
                let seconds = begin.elapsed().as_secs_f64();
                let found = runner::shrunk(seed, mutant as u32);
                println!("| {mutant:?} | {ran} | {seconds:.3} | {} | {} |", found.what, found.plan);
            }
            (None, ran) => missed.push(format!("{mutant:?} in {ran} seeds")),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn each_bug_of_a_layer_that_is_put_back_is_found_within_its_number_of_seeds() {
    for (mutant, most) in LAYER_MUTANTS {
        // A thread of its own: that of a run that failed is left as it is.
        let play = move || {
            switch_on(mutant as u32);
            layers::first_failure(1..most)
        };
        let found = std::thread::spawn(play).join().unwrap();
        let (seed, what) = found.unwrap_or_else(|| panic!("{mutant:?} was not found in {most} seeds"));
        println!("| {mutant:?} | {seed} | {what} |");
    }
}

//! Classic bugs, put back one at a time: each must be found, by the kind of failure that it is.

use std::time::{Duration, Instant};

use wharf::engine::mutant::Mutant;
use wharf::ffi::wharf_test_mutant;

use crate::runner;

/// Switches a bug on, for engines of this thread (0: none).
pub fn switch_on(mutant: u32) {
    wharf_test_mutant(mutant);
}

/// Each, and how many seeds may be played until it is found: about ten times what it took when this was written.
const MUTANTS: [(Mutant, u64); 8] = [
    (Mutant::PermitLost, 2_000),
    (Mutant::BlockInFlight, 2_000),
    (Mutant::StaleHandle, 2_000),
    (Mutant::LostWritable, 2_000),
    (Mutant::CloseTwice, 2_000),
    (Mutant::CorkLost, 2_000),
    (Mutant::EndlessDrain, 2_000),
    (Mutant::ReconnectStorm, 2_000),
];

/// The bugs in a table: seeds and seconds until found, on one thread, and what was found.
#[test]
fn each_classic_bug_that_is_put_back_is_found_within_its_number_of_seeds() {
    runner::silence_panics();
    let mut missed = Vec::new();
    for (mutant, most) in MUTANTS {
        let begin = Instant::now();
        match runner::first_failure(1, most, Duration::from_secs(60), 1, mutant as u32) {
            (Some(seed), played) => {
                let seconds = begin.elapsed().as_secs_f64();
                let found = runner::shrunk(seed, mutant as u32);
                println!("| {mutant:?} | {played} | {seconds:.3} | {} | {} |", found.what, found.plan);
            }
            (None, played) => missed.push(format!("{mutant:?} in {played} seeds")),
        }
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

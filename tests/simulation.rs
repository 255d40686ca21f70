//! The contract under faults that a test machine never shows by itself: engine, clients, servers and peers in a simulated
//! world, everything decided by a seed. docs/simulation.md tells how it works and how to run more of it.

#![cfg(feature = "simulation")]

mod common;

#[path = "simulation/callbacks.rs"]
mod callbacks;
#[path = "simulation/checks.rs"]
mod checks;
#[path = "simulation/host.rs"]
mod host;
#[path = "simulation/layer_scenarios.rs"]
mod layer_scenarios;
#[path = "simulation/layers.rs"]
mod layers;
#[path = "simulation/making.rs"]
mod making;
#[path = "simulation/model.rs"]
mod model;
#[path = "simulation/mutants.rs"]
mod mutants;
#[path = "simulation/peers.rs"]
mod peers;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/records.rs"]
mod records;
#[path = "simulation/run.rs"]
mod run;
#[path = "simulation/runner.rs"]
mod runner;
#[path = "simulation/scenarios.rs"]
mod scenarios;

use std::time::Instant;

use plan::{Plan, number};
use run::Keep;

/// Those that failed once: "seed" or "seed # what it found", one a line.
const SEEDS: &str = include_str!("simulation/seeds.txt");

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |threads| threads.get())
}

/// What `make sim` runs: one seed with its trace, or many.
#[test]
#[ignore = "run by make sim"]
fn explore() {
    runner::silence_panics();
    if let Some(seed) = number("SEED") {
        let plan = Plan::of(seed).with_environment();
        let outcome = runner::run_once(plan, Keep::Trace);
        for line in &outcome.trace {
            println!("{line}");
        }
        println!("{plan}: {}", outcome.failure.as_deref().unwrap_or("all is well"));
        assert!(outcome.failure.is_none(), "{plan}");
        return;
    }
    let (first, count) = (number("FIRST").unwrap_or(1), number("SEEDS").unwrap_or(10_000));
    let threads = number("THREADS").map_or(threads(), |threads| threads as usize);
    let begin = Instant::now();
    let ran = runner::explore(first, count, threads);
    let seconds = begin.elapsed().as_secs_f64();
    println!("{ran} seeds in {seconds:.1} s on {threads} threads: {:.0} a second", ran as f64 / seconds);
}

#[test]
fn a_seed_always_runs_the_same() {
    runner::silence_panics();
    for seed in 1..200 {
        let (first, second) =
            (runner::run_once(Plan::of(seed), Keep::Nothing), runner::run_once(Plan::of(seed), Keep::Nothing));
        assert_eq!(first.digest, second.digest, "seed {seed}");
    }
}

#[test]
fn the_contract_holds_in_every_seed_of_a_fixed_number() {
    runner::silence_panics();
    let failed_once = SEEDS.lines().filter_map(|line| line.split('#').next()?.trim().parse::<u64>().ok());
    for seed in failed_once {
        let outcome = runner::run_once(Plan::of(seed), Keep::Nothing);
        assert!(outcome.failure.is_none(), "make sim SEED={seed}: {:?}", outcome.failure);
    }
    runner::explore(1, 60_000, threads());
}

/// A simulation in which little happens proves little.
#[test]
fn everything_that_can_happen_does() {
    runner::silence_panics();
    let mut tally = std::collections::BTreeMap::new();
    for seed in 1..3_000 {
        for (what, count) in runner::run_once(Plan::of(seed), Keep::Tally).tally {
            *tally.entry(what).or_insert(0) += count;
        }
    }
    let must = [
        ("on_open", 5_000),
        ("on_receive", 10_000),
        ("on_sent", 5_000),
        ("on_writable", 500),
        ("on_end", 300),
        ("send: WHARF_OK", 10_000),
        ("send: WHARF_E_QUEUE_FULL", 500),
        ("send: WHARF_E_POOL_EXHAUSTED", 100),
        ("send: WHARF_E_NO_MEMORY", 10),
        ("broadcast: WHARF_OK", 1_000),
        ("destroy: WHARF_OK", 1_000),
        ("attempt ended: WHARF_E_REFUSED", 300),
        ("attempt ended: WHARF_E_UNREACHABLE", 100),
        ("attempt ended: WHARF_E_TIMEOUT", 50),
        ("attempt ended: WHARF_E_RESOLVE", 100),
        ("attempt ended: WHARF_E_TOO_MANY_FILES", 50),
        ("connection ended: WHARF_OK", 500),
        ("connection ended: WHARF_E_END_OF_STREAM", 100),
        ("connection ended: WHARF_E_RESET", 500),
        ("connection ended: WHARF_E_IDLE", 50),
        ("connection ended: WHARF_E_FIRST_BYTE", 100),
        ("connection ended: WHARF_E_SEND_STALLED", 20),
        ("connection ended: WHARF_E_TIMEOUT", 20),
        ("connection ended: WHARF_E_STOPPED", 1_000),
    ];
    for (what, least) in must {
        let count = tally.get(what).copied().unwrap_or(0);
        assert!(count >= least, "{what}: {count}; of all: {tally:#?}");
    }
}

//! Many seeds on several threads; a failing one is made smaller, and told in one line that runs it again.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::model::model;
use crate::mutants;
use crate::plan::Plan;
use crate::run::{Keep, Outcome, run};

thread_local! {
    /// Where the outcome of the run on this thread goes.
    static ANSWER: RefCell<Option<Sender<Outcome>>> = const { RefCell::new(None) };
}

/// The engine is stuck in a call that will not return: the failure is told, and the thread is given up.
fn stuck() {
    let failure = model(|model| {
        model.fail("the engine is stuck: it waits and waits");
        Outcome::of(model)
    });
    ANSWER.with(|answer| answer.borrow().as_ref().map(|answer| answer.send(failure)));
    loop {
        std::thread::park();
    }
}

/// A thread that runs seeds.
struct Runner {
    plans: Sender<(Plan, Keep, u32)>,
    outcomes: Receiver<Outcome>,
}

impl Runner {
    fn new() -> Runner {
        let (plans, orders) = channel::<(Plan, Keep, u32)>();
        let (answers, outcomes) = channel();
        std::thread::spawn(move || {
            ANSWER.with(|answer| answer.replace(Some(answers.clone())));
            for (plan, keep, mutant) in orders {
                mutants::switch_on(mutant);
                let outcome = std::panic::catch_unwind(|| run(plan, keep, stuck));
                let is_broken = outcome.is_err();
                let outcome = outcome.unwrap_or_else(|_| {
                    model(|model| {
                        model.fail("a panic outside of the engine");
                        Outcome::of(model)
                    })
                });
                if answers.send(outcome).is_err() || is_broken {
                    return;
                }
            }
        });
        Runner { plans, outcomes }
    }

    fn run(&mut self, plan: Plan, keep: Keep, mutant: u32) -> Outcome {
        if self.plans.send((plan, keep, mutant)).is_err() {
            *self = Runner::new();
            return self.run(plan, keep, mutant);
        }
        let outcome = self.outcomes.recv().expect("a runner answers");
        if outcome.failure.is_some() {
            // It may have ended with the run, or be stuck in it.
            *self = Runner::new();
        }
        outcome
    }
}

/// One run on a thread of its own.
pub fn run_once(plan: Plan, keep: Keep) -> Outcome {
    Runner::new().run(plan, keep, 0)
}

/// The smallest plan found that still fails, with its outcome.
fn shrink(runner: &mut Runner, mut plan: Plan, mutant: u32) -> Plan {
    let mut runs = 0;
    'smaller: while runs < 400 {
        for candidate in plan.smaller() {
            runs += 1;
            if runner.run(candidate, Keep::Nothing, mutant).failure.is_some() {
                plan = candidate;
                continue 'smaller;
            }
        }
        break;
    }
    plan
}

/// A failure, made small.
pub struct Found {
    pub plan: Plan,
    pub what: String,
}

/// Makes a failing seed small.
pub fn shrunk(seed: u64, mutant: u32) -> Found {
    let mut runner = Runner::new();
    let plan = shrink(&mut runner, Plan::of(seed), mutant);
    let what = runner.run(plan, Keep::Nothing, mutant).failure;
    Found { plan, what: what.unwrap_or_else(|| "it did not fail again".to_string()) }
}

/// Plays seeds from `first` on, at most `count` of them or for at most so long, until one fails. Gives that, and how many
/// were run.
pub fn first_failure(first: u64, count: u64, most: Duration, threads: usize, mutant: u32) -> (Option<u64>, u64) {
    let next = AtomicU64::new(0);
    let found = AtomicU64::new(u64::MAX);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut runner = Runner::new();
                while found.load(SeqCst) == u64::MAX && begin.elapsed() < most {
                    let place = next.fetch_add(1, SeqCst);
                    if place >= count {
                        return;
                    }
                    if runner.run(Plan::of(first + place), Keep::Nothing, mutant).failure.is_some() {
                        found.fetch_min(first + place, SeqCst);
                    }
                }
            });
        }
    });
    let seed = Some(found.load(SeqCst)).filter(|seed| *seed != u64::MAX);
    (seed, next.load(SeqCst).min(count))
}

/// The same, as a panic with the line that runs it again. Gives how many were run.
pub fn explore(first: u64, count: u64, threads: usize) -> u64 {
    let (seed, ran) = first_failure(first, count, Duration::MAX, threads, 0);
    if let Some(seed) = seed {
        let found = shrunk(seed, 0);
        panic!("seed {seed} fails: {}\nrun it again: {}", found.what, found.plan);
    }
    ran
}

/// Panics inside a run are the engine's: they are told as what they are, in the plan's failure.
pub fn silence_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let is_running = ANSWER.try_with(|answer| answer.try_borrow().is_ok_and(|answer| answer.is_some()));
        if !is_running.unwrap_or(false) {
            return before(info);
        }
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            model(|model| model.fail(format!("a panic: {info}")));
        }));
        if told.is_err() {
            eprintln!("{info}");
        }
    }));
}

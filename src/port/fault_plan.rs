//! What decides whether a fault happens: a plan, and streams of random numbers that a seed makes the same again.

use std::collections::HashMap;

/// How often each fault happens, in parts per million of the occasions that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// From which all random numbers come.
    pub seed: u64,
    /// A read that takes 1 to 16 bytes.
    pub short_reads_ppm: u32,
    /// A write that takes 1 to 16 bytes.
    pub short_writes_ppm: u32,
    /// A read that finds nothing for a while.
    pub read_stalls_ppm: u32,
    /// A write that finds no room for a while.
    pub write_stalls_ppm: u32,
    /// A read or write that finds the connection reset.
    pub resets_ppm: u32,
    /// An accept without a descriptor left.
    pub accept_exhaustions_ppm: u32,
    /// A connect without a descriptor left.
    pub connect_exhaustions_ppm: u32,
    /// A send for which the pool has no room.
    pub pool_exhaustions_ppm: u32,
    /// The longest stall in milliseconds.
    pub stall_ms: u32,
}

/// One stream of random numbers (splitmix64, which every version of the library makes the same).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FaultRandom(u64);

impl FaultRandom {
    /// Key of the stream for what no connection has its own for.
    pub(super) const OF_THE_PORT: u64 = 0;

    /// Another one for each number, the same for the same seed.
    fn new(seed: u64, number: u64) -> FaultRandom {
        FaultRandom(FaultRandom(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// What is done later than the system would have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deferred {
    Read,
    Write,
}

/// The plan, the random numbers of each registered socket, and what is deferred.
#[derive(Debug, Default)]
pub(super) struct FaultState {
    pub(super) plan: FaultPlan,
    random: HashMap<u64, FaultRandom>,
    /// How many sockets were registered since the plan began.
    registered: u64,
    deferred: Vec<(u64, u64, Deferred)>, // (time in ns, key, what)
}

impl FaultState {
    /// Another plan. What is deferred still comes, and sockets that are here go on with the random numbers that they have.
    pub(super) fn begin(&mut self, plan: FaultPlan) {
        self.plan = plan;
        self.registered = 0;
        self.random.insert(FaultRandom::OF_THE_PORT, FaultRandom::new(plan.seed, 0));
    }

    /// A socket is registered: it gets random numbers of its own.
    pub(super) fn register(&mut self, key: u64) {
        self.registered += 1;
        self.random.insert(key, FaultRandom::new(self.plan.seed, self.registered));
    }

    /// A socket is gone.
    pub(super) fn forget(&mut self, key: u64) {
        self.random.remove(&key);
        self.deferred.retain(|one| one.1 != key);
    }

    pub(super) fn random(&mut self, key: u64) -> &mut FaultRandom {
        self.random.entry(key).or_default()
    }

    /// Whether a fault happens now. One that never does takes no number.
    pub(super) fn happens(&mut self, key: u64, ppm: impl Fn(&FaultPlan) -> u32) -> bool {
        let ppm = ppm(&self.plan);
        ppm > 0 && self.random(key).below(1_000_000) < ppm.into()
    }

    pub(super) fn defer(&mut self, key: u64, what: Deferred, at_ns: u64) {
        if !self.is_deferred(key, what) {
            self.deferred.push((at_ns, key, what));
        }
    }

    pub(super) fn is_deferred(&self, key: u64, what: Deferred) -> bool {
        self.deferred.iter().any(|one| (one.1, one.2) == (key, what))
    }

    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.deferred.iter().map(|one| one.0).min()
    }

    /// What is due, in the order in which it was deferred.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Vec<(u64, Deferred)> {
        let is_due = |one: &(u64, u64, Deferred)| one.0 <= now_ns;
        let due = self.deferred.iter().filter(|one| is_due(one)).map(|one| (one.1, one.2)).collect();
        self.deferred.retain(|one| !is_due(one));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_as_often_as_the_plan_says_and_the_seed_tells_when() {
        let decisions = |seed: u64| {
            let mut state = FaultState::default();
            state.begin(FaultPlan { seed, resets_ppm: 250_000, ..FaultPlan::default() });
            state.register(7);
            (0..10_000).map(|_| state.happens(7, |plan| plan.resets_ppm)).collect::<Vec<_>>()
        };
        let often = decisions(1).iter().filter(|hit| **hit).count();
        assert!((2_300..2_700).contains(&often), "{often}");
        assert_eq!(decisions(1), decisions(1));
        assert_ne!(decisions(1), decisions(2));
    }

    #[test]
    fn what_is_deferred_comes_once_and_not_before_its_time() {
        let mut state = FaultState::default();
        state.defer(7, Deferred::Read, 100);
        state.defer(7, Deferred::Read, 50);
        state.defer(8, Deferred::Write, 200);
        assert_eq!(state.next_due_ns(), Some(100));
        assert!(state.take_due(99).is_empty());
        assert_eq!(state.take_due(100), [(7, Deferred::Read)]);
        state.forget(8);
        assert!(state.take_due(1000).is_empty());
    }
}

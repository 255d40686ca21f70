//! What decides whether a fault happens: a plan, and dice that a seed makes throw the same again.

use std::collections::HashMap;

use super::faults::Again;

/// How often each fault happens, in parts per million of the occasions that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// From which all dice are made.
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

/// One sequence of throws (splitmix64).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Dice(u64);

impl Dice {
    /// Key of the dice for what no connection has its own for.
    pub(super) const OF_THE_PORT: u64 = 0;

    /// Different ones for each number, the same for the same seed.
    fn new(seed: u64, number: u64) -> Dice {
        Dice(Dice(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).throw())
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.throw() % bound
    }
}

/// The plan, the dice of each registered socket, and what was put off.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) plan: FaultPlan,
    dice: HashMap<u64, Dice>,
    /// How many sockets were registered since the plan began.
    entered: u64,
    put_off: Vec<(u64, u64, Again)>, // (time in ns, key, what)
}

impl State {
    /// Another plan. What was put off still comes, and sockets that are here go on with the dice that they have.
    pub(super) fn begin(&mut self, plan: FaultPlan) {
        self.plan = plan;
        self.entered = 0;
        self.dice.insert(Dice::OF_THE_PORT, Dice::new(plan.seed, 0));
    }

    /// A socket is registered: it gets dice.
    pub(super) fn enter(&mut self, key: u64) {
        self.entered += 1;
        self.dice.insert(key, Dice::new(self.plan.seed, self.entered));
    }

    /// A socket is gone.
    pub(super) fn forget(&mut self, key: u64) {
        self.dice.remove(&key);
        self.put_off.retain(|one| one.1 != key);
    }

    pub(super) fn dice(&mut self, key: u64) -> &mut Dice {
        self.dice.entry(key).or_default()
    }

    /// Throws for a fault. One that never happens takes no throw.
    pub(super) fn happens(&mut self, key: u64, ppm: impl Fn(&FaultPlan) -> u32) -> bool {
        let ppm = ppm(&self.plan);
        ppm > 0 && self.dice(key).below(1_000_000) < ppm.into()
    }

    pub(super) fn put_off(&mut self, key: u64, what: Again, at_ns: u64) {
        if !self.is_put_off(key, what) {
            self.put_off.push((at_ns, key, what));
        }
    }

    pub(super) fn is_put_off(&self, key: u64, what: Again) -> bool {
        self.put_off.iter().any(|one| (one.1, one.2) == (key, what))
    }

    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.put_off.iter().map(|one| one.0).min()
    }

    /// What is due, in the order in which it was put off.
    pub(super) fn take_due(&mut self, now_ns: u64) -> Vec<(u64, Again)> {
        let is_due = |one: &(u64, u64, Again)| one.0 <= now_ns;
        let due = self.put_off.iter().filter(|one| is_due(one)).map(|one| (one.1, one.2)).collect();
        self.put_off.retain(|one| !is_due(one));
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_happens_as_often_as_the_plan_says_and_the_seed_tells_when() {
        let throws = |seed: u64| {
            let mut state = State::default();
            state.begin(FaultPlan { seed, resets_ppm: 250_000, ..FaultPlan::default() });
            state.enter(7);
            (0..10_000).map(|_| state.happens(7, |plan| plan.resets_ppm)).collect::<Vec<_>>()
        };
        let often = throws(1).iter().filter(|hit| **hit).count();
        assert!((2_300..2_700).contains(&often), "{often}");
        assert_eq!(throws(1), throws(1));
        assert_ne!(throws(1), throws(2));
    }

    #[test]
    fn what_is_put_off_comes_once_and_not_before_its_time() {
        let mut state = State::default();
        state.put_off(7, Again::Read, 100);
        state.put_off(7, Again::Read, 50);
        state.put_off(8, Again::Write, 200);
        assert_eq!(state.next_due_ns(), Some(100));
        assert!(state.take_due(99).is_empty());
        assert_eq!(state.take_due(100), [(7, Again::Read)]);
        state.forget(8);
        assert!(state.take_due(1000).is_empty());
    }
}

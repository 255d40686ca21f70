//! What a seed runs: how much of everything, with which faults. A plan can be made smaller while it still fails.

use std::fmt;

use fastrand::Rng;
use wharf::port::sim::faults::{self, CLASSES};

/// Kinds of things that the host does; a plan may leave some out.
pub const SENDS: u32 = 1 << 0;
pub const BROADCASTS: u32 = 1 << 1;
pub const CLOSES: u32 = 1 << 2;
pub const PAUSES: u32 = 1 << 3;
pub const TIMEOUTS: u32 = 1 << 4;
pub const SERVERS: u32 = 1 << 5;
pub const CLIENTS: u32 = 1 << 6;
/// Callbacks do things of their own.
pub const MOODS: u32 = 1 << 7;
/// The engine is destroyed in a callback.
pub const DESTROY: u32 = 1 << 8;
/// Time passes inside callbacks.
pub const SLOW: u32 = 1 << 9;
/// Peers end, reset and vanish.
pub const PARTINGS: u32 = 1 << 10;
pub const ACTIONS: u32 = (1 << 11) - 1;

/// One run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    pub seed: u64,
    pub steps: u32,
    pub peers: u32,
    /// Classes of faults that may occur.
    pub faults: u32,
    /// Kinds of actions that may be taken.
    pub actions: u32,
}

impl Plan {
    /// All that a seed means.
    pub fn of(seed: u64) -> Plan {
        let mut random = Rng::with_seed(seed ^ 0x706c_616e);
        let mut enabled = 0;
        if random.u8(0..8) > 0 {
            for class in 0..CLASSES {
                enabled |= u32::from(random.bool()) << class;
            }
        }
        let mut actions = ACTIONS;
        for kind in 0..11 {
            if random.u8(0..8) == 0 {
                actions &= !(1 << kind);
            }
        }
        if random.u8(0..8) > 0 {
            actions &= !DESTROY;
        }
        let steps = if random.u8(0..16) == 0 { random.u32(400..1_200) } else { random.u32(20..400) };
        Plan { seed, steps, peers: random.u32(0..=24), faults: enabled, actions }
    }

    /// How often each class of faults occurs, of 65,536 occasions.
    pub fn odds(&self) -> [u16; CLASSES] {
        let mut random = Rng::with_seed(self.seed ^ 0x6f64_6473);
        std::array::from_fn(|class| {
            let most = match 1 << class {
                faults::RESET | faults::VANISH | faults::EXHAUSTION => 1_500,
                faults::CLOCK => 1_000,
                faults::ACCEPT | faults::CONNECT | faults::RESOLVER => 20_000,
                _ => 30_000,
            };
            random.u16(100..most)
        })
    }

    /// Plans that are a little smaller.
    pub fn smaller(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        let steps = [self.steps / 2, self.steps * 3 / 4, self.steps.saturating_sub(5), self.steps.saturating_sub(1)];
        plans.extend(steps.into_iter().filter(|steps| *steps < self.steps).map(|steps| Plan { steps, ..*self }));
        if self.faults != 0 {
            plans.push(Plan { faults: 0, ..*self });
        }
        let bits = |mask: u32| (0..32).map(|bit| 1 << bit).filter(move |bit| mask & bit != 0);
        plans.extend(bits(self.faults).map(|bit| Plan { faults: self.faults & !bit, ..*self }));
        plans.extend(bits(self.actions).map(|bit| Plan { actions: self.actions & !bit, ..*self }));
        plans.extend([self.peers / 2, self.peers.saturating_sub(1)].map(|peers| Plan { peers, ..*self }));
        plans.retain(|plan| plan != self);
        plans
    }

    /// From the environment: what `make sim` was given beside SEED.
    pub fn with_environment(mut self) -> Plan {
        for (name, place) in [
            ("STEPS", &mut self.steps),
            ("PEERS", &mut self.peers),
            ("FAULTS", &mut self.faults),
            ("ACTIONS", &mut self.actions),
        ] {
            if let Some(value) = number(name) {
                *place = value as u32;
            }
        }
        self
    }
}

/// A number of the environment, decimal or with 0x.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

impl fmt::Display for Plan {
    /// The line that runs it again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = Plan::of(self.seed);
        write!(f, "make sim SEED={}", self.seed)?;
        if self.steps != whole.steps {
            write!(f, " STEPS={}", self.steps)?;
        }
        if self.peers != whole.peers {
            write!(f, " PEERS={}", self.peers)?;
        }
        if self.faults != whole.faults {
            write!(f, " FAULTS={:#x}", self.faults)?;
        }
        if self.actions != whole.actions {
            write!(f, " ACTIONS={:#x}", self.actions)?;
        }
        Ok(())
    }
}

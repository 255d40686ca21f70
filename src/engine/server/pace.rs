//! How fast a server accepts, and why it rests.

/// The most connections accepted for one event before others get their turn.
const MOST_ACCEPTS: u32 = 64;
/// Events in a row with as many connections as were asked for, after which more are asked for.
const FULL_EVENTS: u32 = 8;
/// How many accepts a worker makes for one event. One that finds nobody costs nearly as much as one that does: the system
/// makes the new descriptor first. So more than one is tried only while connections come in crowds.
#[derive(Debug)]
pub struct Pace {
    least: u32,
    pub(super) most: u32,
    full_events: u32,
}

impl Pace {
    /// A host that turns the engine itself may do so seldom: then as many as can be are accepted at once.
    pub fn new(is_caller_driven: bool) -> Pace {
        let least = if is_caller_driven { MOST_ACCEPTS } else { 1 };
        Pace { least, most: least, full_events: 0 }
    }

    /// An event ended with nobody left to accept.
    pub(super) fn ran_dry(&mut self) {
        *self = Pace { most: self.least, full_events: 0, ..*self };
    }

    /// An event had as many connections as were asked for.
    pub(super) fn was_full(&mut self) {
        self.full_events += 1;
        if self.full_events == FULL_EVENTS {
            *self = Pace { most: (self.most * 2).min(MOST_ACCEPTS), full_events: 0, ..*self };
        }
    }
}

/// Why a server does not accept for now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// Every place is taken.
    NoPlace,
    /// The accept rate is used up.
    NoToken,
    /// Descriptors or memory ran out.
    Exhausted,
}

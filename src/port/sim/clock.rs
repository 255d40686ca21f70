//! Simulated time, and what is to happen: events in the order in which they are due, those of one moment in the order in
//! which they were entered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000 * MS;

/// What the network does by itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Event {
    /// The dialler's SYN reaches the other side, for this time.
    Syn { link: u32, attempt: u8 },
    /// The answer reaches the dialler.
    Established { link: u32 },
    /// The dialler learns of a failure.
    ConnectFails { link: u32, code: i32 },
    /// Bytes (and at last the FIN) from this end reach the other.
    Deliver { link: u32, from: u8 },
    /// A reset reaches this end.
    Reset { link: u32, end: u8 },
    /// The kernel of this end gives up on a peer that does not answer.
    GiveUp { link: u32, end: u8 },
    /// A socket is looked at again.
    Edge { raw: u32, serial: u64 },
    /// A name is resolved.
    Resolved { number: u32 },
}

#[derive(Default)]
pub(super) struct Clock {
    now_ns: u64,
    entered: u64,
    agenda: BinaryHeap<Reverse<(u64, u64, Event)>>,
}

impl Clock {
    pub(super) fn new() -> Clock {
        Clock { now_ns: SECOND, ..Clock::default() }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub(super) fn enter(&mut self, in_ns: u64, event: Event) {
        self.entered += 1;
        self.agenda.push(Reverse((self.now_ns + in_ns, self.entered, event)));
    }

    /// When the next event is due.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.agenda.peek().map(|Reverse((at_ns, ..))| *at_ns)
    }

    /// The next event, if it is due.
    pub(super) fn due(&mut self) -> Option<Event> {
        if self.next_ns()? > self.now_ns {
            return None;
        }
        self.agenda.pop().map(|Reverse((.., event))| event)
    }

    /// Time never goes back.
    pub(super) fn go_to(&mut self, at_ns: u64) {
        self.now_ns = self.now_ns.max(at_ns);
    }
}

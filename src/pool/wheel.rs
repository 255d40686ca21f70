//! A hierarchical timing wheel: to set, move and stop a timer takes a fixed number of steps, however many there are, and
//! nothing is allocated. (G. Varghese and A. Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 7.)
//!
//! A timer is a number: the place of its [`Node`] in an array that the caller keeps, so that a wheel needs no memory of
//! its own for each timer. Time is counted in ticks. Level 0 has a slot for each of the next 64 ticks; a slot of each
//! further level is as long as all slots of the one before. What is far off is moved closer when its slot is reached.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

const LEVELS: usize = 6;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Ticks that the wheel spans, less the slot of the last level that is being passed; what is due later is looked at again
/// when they are over.
const SPAN: u64 = (SLOTS as u64 - 1) << (SLOT_BITS * (LEVELS as u32 - 1));

const NONE: u32 = u32::MAX;
/// `prev` of the first timer in a slot names the slot.
const SLOT_TAG: u32 = 1 << 31;

/// A timer's place in a wheel. Only the one who holds the wheel writes it.
#[derive(Debug)]
pub struct Node {
    /// The one before in the slot, or the slot itself; [`NONE`]: not set.
    prev: AtomicU32,
    next: AtomicU32,
    due: AtomicU64,
}

impl Default for Node {
    fn default() -> Node {
        Node { prev: AtomicU32::new(NONE), next: AtomicU32::new(NONE), due: AtomicU64::new(0) }
    }
}

impl Node {
    /// When it is due, if it is set.
    pub fn due(&self) -> Option<u64> {
        (self.prev.load(Relaxed) != NONE).then(|| self.due.load(Relaxed))
    }
}

/// The slots.
#[derive(Debug)]
pub struct Wheel {
    /// Every timer that was due before this tick has been handed out.
    now: u64,
    /// The first timer of each slot.
    heads: [[u32; SLOTS]; LEVELS],
    /// Which slots have timers, a bit each.
    occupied: [u64; LEVELS],
}

impl Wheel {
    /// An empty wheel that begins at this tick.
    pub fn new(now: u64) -> Wheel {
        Wheel { now, heads: [[NONE; SLOTS]; LEVELS], occupied: [0; LEVELS] }
    }

    /// Whether no timer is set.
    pub fn is_empty(&self) -> bool {
        self.occupied == [0; LEVELS]
    }

    /// Sets a timer, or moves it. One that is due by now is handed out at the next look.
    pub fn set(&mut self, nodes: &[Node], timer: u32, due: u64) {
        self.stop(nodes, timer);
        nodes[timer as usize].due.store(due, Relaxed);
        let (level, slot) = self.slot_for(due);
        let first = std::mem::replace(&mut self.heads[level][slot], timer);
        nodes[timer as usize].prev.store(SLOT_TAG | (level * SLOTS + slot) as u32, Relaxed);
        nodes[timer as usize].next.store(first, Relaxed);
        if first != NONE {
            nodes[first as usize].prev.store(timer, Relaxed);
        }
        self.occupied[level] |= 1 << slot;
    }

    /// Stops a timer; one that is not set stays so.
    pub fn stop(&mut self, nodes: &[Node], timer: u32) {
        let node = &nodes[timer as usize];
        let (prev, next) = (node.prev.load(Relaxed), node.next.load(Relaxed));
        if prev == NONE {
            return;
        }
        if next != NONE {
            nodes[next as usize].prev.store(prev, Relaxed);
        }
        if prev & SLOT_TAG == 0 {
            nodes[prev as usize].next.store(next, Relaxed);
        } else {
            let place = (prev & !SLOT_TAG) as usize;
            self.heads[place / SLOTS][place % SLOTS] = next;
            if next == NONE {
                self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
            }
        }
        node.prev.store(NONE, Relaxed);
    }

    /// The tick at which the wheel must be looked at: no timer is due before it.
    pub fn next_look(&self) -> Option<u64> {
        self.first_slot().map(|(.., at)| at)
    }

    /// Takes one timer out that is due at this tick or before; None: there is no other.
    pub fn take_due(&mut self, nodes: &[Node], now: u64) -> Option<u32> {
        while let Some((level, slot, at)) = self.first_slot().filter(|(.., at)| *at <= now) {
            self.now = at;
            let timer = self.heads[level][slot];
            if level == 0 {
                self.stop(nodes, timer);
                return Some(timer);
            }
            self.move_closer(nodes, level, slot);
        }
        self.now = self.now.max(now);
        None
    }

    /// A slot was reached: its timers go to the lower levels, all at once, as those are always looked at first.
    fn move_closer(&mut self, nodes: &[Node], level: usize, slot: usize) {
        while self.heads[level][slot] != NONE {
            let timer = self.heads[level][slot];
            self.set(nodes, timer, nodes[timer as usize].due.load(Relaxed));
        }
    }

    /// The level is that of the highest digit (of six bits) in which the time differs from now.
    fn slot_for(&self, due: u64) -> (usize, usize) {
        let at = due.clamp(self.now, self.now + SPAN);
        let differing = (at ^ self.now) | (SLOTS as u64 - 1);
        let level = ((u64::BITS - 1 - differing.leading_zeros()) / SLOT_BITS).min(LEVELS as u32 - 1);
        (level as usize, (at >> (level * SLOT_BITS)) as usize % SLOTS)
    }

    /// The slot that is reached first, and when. What is on a lower level always comes before what is on a higher one.
    fn first_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let shift = level as u32 * SLOT_BITS;
        let here = (self.now >> shift) as u32 % SLOTS as u32;
        let ahead = self.occupied[level].rotate_right(here).trailing_zeros();
        let at = ((self.now >> shift) + u64::from(ahead)) << shift;
        let slot = (here + ahead) as usize % SLOTS;
        Some((level, slot, at.max(self.now)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn nodes(count: usize) -> Vec<Node> {
        std::iter::repeat_with(Node::default).take(count).collect()
    }

    fn take_all(wheel: &mut Wheel, nodes: &[Node], now: u64) -> Vec<u32> {
        let mut due: Vec<u32> = std::iter::from_fn(|| wheel.take_due(nodes, now)).collect();
        due.sort_unstable();
        due
    }

    #[test]
    fn timers_come_at_their_tick_and_not_before() {
        let nodes = nodes(4);
        let mut wheel = Wheel::new(1_000);
        for (timer, after) in [(0, 0), (1, 1), (2, 64), (3, 100_000)] {
            wheel.set(&nodes, timer, 1_000 + after);
        }
        assert_eq!(take_all(&mut wheel, &nodes, 1_000), [0]);
        assert_eq!(take_all(&mut wheel, &nodes, 1_000), []);
        assert_eq!(take_all(&mut wheel, &nodes, 1_063), [1]);
        assert_eq!(take_all(&mut wheel, &nodes, 1_064), [2]);
        assert_eq!(take_all(&mut wheel, &nodes, 100_999), []);
        assert_eq!(nodes[3].due(), Some(101_000));
        assert_eq!(take_all(&mut wheel, &nodes, 101_000), [3]);
        assert!(wheel.is_empty() && nodes[3].due().is_none());
    }

    #[test]
    fn a_timer_that_was_stopped_or_moved_does_not_come_at_its_old_time() {
        let nodes = nodes(3);
        let mut wheel = Wheel::new(0);
        (0..3).for_each(|timer| wheel.set(&nodes, timer, 50));
        wheel.stop(&nodes, 1);
        wheel.stop(&nodes, 1);
        wheel.set(&nodes, 2, 5_000);
        assert_eq!(take_all(&mut wheel, &nodes, 4_999), [0]);
        wheel.set(&nodes, 2, 10);
        assert_eq!(take_all(&mut wheel, &nodes, 4_999), [2], "what is overdue when it is set comes at once");
    }

    #[test]
    fn what_is_due_after_the_span_of_the_wheel_comes_after_it() {
        let nodes = nodes(2);
        let mut wheel = Wheel::new(7);
        let due = 7 + 3 * SPAN + 12_345;
        wheel.set(&nodes, 0, due);
        wheel.set(&nodes, 1, u64::MAX);
        while let Some(look) = wheel.next_look().filter(|look| *look < due) {
            assert_eq!(take_all(&mut wheel, &nodes, look), []);
        }
        assert_eq!(take_all(&mut wheel, &nodes, due - 1), []);
        assert_eq!(take_all(&mut wheel, &nodes, due), [0]);
        wheel.stop(&nodes, 1);
        assert!(wheel.is_empty());
    }

    #[test]
    fn random_timers_agree_with_a_sorted_list() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let nodes = nodes(200);
            let mut now = random.u64(0..1 << 40);
            let mut wheel = Wheel::new(now);
            let mut model = BTreeSet::new();
            for _ in 0..20_000 {
                let timer = random.u32(0..200);
                let far = 1 << random.u32(0..34);
                model.retain(|(_, other)| *other != timer);
                if random.u8(0..4) == 0 {
                    wheel.stop(&nodes, timer);
                } else {
                    let due = now + random.u64(0..far);
                    wheel.set(&nodes, timer, due);
                    model.insert((due, timer));
                }
                let first = model.first().map(|(due, _)| *due);
                assert!(wheel.next_look().is_none_or(|look| first.is_some_and(|first| look <= first)));
                assert_eq!(wheel.next_look().is_none(), first.is_none());
                now += if random.bool() { 0 } else { random.u64(0..far) };
                let mut expected: Vec<u32> = model.iter().filter(|(due, _)| *due <= now).map(|timer| timer.1).collect();
                expected.sort_unstable();
                model.retain(|(due, _)| *due > now);
                assert_eq!(take_all(&mut wheel, &nodes, now), expected);
            }
        }
    }
}

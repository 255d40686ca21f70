//! Which places of the connection table are free. A place is used again late, so that its generation lasts long, but from
//! among few, so that connections that come and go find their memory in the processor's cache.

use std::collections::VecDeque;
use std::sync::Arc;

use super::lock;
use super::room::{self, NoMemory};
use crate::sync::Mutex;

/// Places that take turns while there are no more connections than these.
const TURNS: usize = 256;

/// The free places.
#[derive(Debug)]
pub struct Slots {
    free: Mutex<Free>,
}

#[derive(Debug)]
struct Free {
    /// Given out in the order in which they came back.
    turns: VecDeque<u32>,
    /// Used when those are all taken.
    others: Vec<u32>,
}

/// A taken place; given back when dropped, on whatever path.
#[derive(Debug)]
pub struct Slot {
    /// None: the place was [kept](Slot::keep).
    slots: Option<Arc<Slots>>,
    index: u32,
}

impl Slots {
    /// `count` free places.
    pub fn new(count: u32) -> Result<Arc<Slots>, NoMemory> {
        let turns = (TURNS as u32).min(count);
        let mut others = room::list(count as usize)?;
        others.extend((turns..count).rev());
        let mut first = room::queue(turns as usize)?;
        first.extend(0..turns);
        Ok(Arc::new(Slots { free: Mutex::new(Free { turns: first, others }) }))
    }

    /// Bytes of heap that `new` sets aside.
    pub fn heap_bytes(count: u32) -> u64 {
        u64::from(count + (TURNS as u32).min(count)) * size_of::<u32>() as u64
    }

    /// Takes a free place.
    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        let index = {
            let free = &mut *lock(&self.free);
            free.turns.pop_front().or_else(|| free.others.pop())?
        };
        Some(Slot { slots: Some(Arc::clone(self)), index })
    }

    /// Gives a place back that was taken and [kept](Slot::keep).
    pub fn give_back(&self, index: u32) {
        let free = &mut *lock(&self.free);
        if free.turns.len() < TURNS.min(free.turns.capacity()) {
            free.turns.push_back(index);
        } else {
            free.others.push(index);
        }
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        let free = lock(&self.free);
        free.turns.len() + free.others.len()
    }
}

impl Slot {
    /// The place.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The place stays taken: what is put there gives it back with [`Slots::give_back`].
    pub fn keep(mut self) {
        self.slots = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(slots) = &self.slots {
            slots.give_back(self.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_to_one_holder_and_used_again_last() {
        let slots = Slots::new(2).unwrap();
        let first = slots.take().unwrap();
        let index = first.index();
        drop(first);
        let second = slots.take().unwrap();
        assert_ne!(second.index(), index);
        let _third = slots.take().unwrap();
        assert!(slots.take().is_none());
    }

    #[test]
    fn all_places_are_given_once_whatever_comes_back_meanwhile() {
        let slots = Slots::new(1000).unwrap();
        let mut held: Vec<Slot> = (0..1000).map_while(|_| slots.take()).collect();
        for round in 0..10_000_usize {
            let place = (round * 7919) % held.len();
            drop(held.swap_remove(place));
            if round % 3 > 0 {
                held.push(slots.take().unwrap());
            }
            if held.len() < 100 {
                held.extend(std::iter::from_fn(|| slots.take()));
            }
        }
        held.extend(std::iter::from_fn(|| slots.take()));
        let mut indices: Vec<u32> = held.iter().map(Slot::index).collect();
        indices.sort_unstable();
        assert!(indices.into_iter().eq(0..1000));
        drop(held);
        assert_eq!(slots.free(), 1000);
    }
}

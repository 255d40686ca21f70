//! Which places of the connection table are free. A place is used again as late as possible, so that its generation
//! lasts longest.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::lock;

/// The free places.
#[derive(Debug)]
pub struct Slots {
    free: Mutex<VecDeque<u32>>,
}

/// A taken place; given back when dropped, on whatever path.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    index: u32,
}

impl Slots {
    /// `count` free places.
    pub fn new(count: u32) -> Arc<Slots> {
        Arc::new(Slots { free: Mutex::new((0..count).collect()) })
    }

    /// Takes the place that has been free for longest, if one is free.
    pub fn take(self: &Arc<Self>) -> Option<Slot> {
        let index = lock(&self.free).pop_front()?;
        Some(Slot { slots: Arc::clone(self), index })
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        lock(&self.free).len()
    }
}

impl Slot {
    /// The place.
    pub fn index(&self) -> u32 {
        self.index
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.slots.free).push_back(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_to_one_holder_and_used_again_last() {
        let slots = Slots::new(2);
        let first = slots.take().unwrap();
        let index = first.index();
        drop(first);
        let second = slots.take().unwrap();
        assert_ne!(second.index(), index);
        let _third = slots.take().unwrap();
        assert!(slots.take().is_none());
    }
}

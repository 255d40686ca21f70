//! Memory that is set aside in one piece: an error where the system has none, and never the end of the process.

use std::collections::{TryReserveError, VecDeque};

/// The system has no memory for what was to be set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl From<TryReserveError> for NoMemory {
    fn from(_: TryReserveError) -> NoMemory {
        NoMemory
    }
}

/// An empty list with room for so many.
pub fn list<T>(most: usize) -> Result<Vec<T>, NoMemory> {
    let mut list = Vec::new();
    list.try_reserve_exact(most)?;
    Ok(list)
}

/// An empty queue with room for so many.
pub fn queue<T>(most: usize) -> Result<VecDeque<T>, NoMemory> {
    let mut queue = VecDeque::new();
    queue.try_reserve_exact(most)?;
    Ok(queue)
}

/// So many of what is made for each number.
pub fn filled<T>(count: usize, make: impl FnMut(usize) -> T) -> Result<Box<[T]>, NoMemory> {
    let mut all = list(count)?;
    all.extend((0..count).map(make));
    // As large as it has room for, so nothing is moved.
    Ok(all.into_boxed_slice())
}

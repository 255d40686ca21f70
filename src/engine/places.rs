//! Where engines are found by the number in a handle. At most 255 live at a time; place 0 is the default engine's.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::api::Engine;
use super::connection::calls::ConnectionCalls;
use crate::pool::handle::{Handle, Kind};

/// How many places there are.
pub(super) const PLACES: usize = 256;

/// One place.
pub(super) struct Place {
    /// Taken by an engine that lives or is being made.
    is_taken: bool,
    /// Above every generation that was ever given out here.
    generation: u32,
    pub engine: Option<Registered>,
}

/// An engine that lives.
#[derive(Clone)]
pub(super) struct Registered {
    pub handle: Handle,
    pub engine: Arc<dyn Engine>,
    pub connections: Arc<dyn ConnectionCalls>,
}

static TABLE: [RwLock<Place>; PLACES] =
    [const { RwLock::new(Place { is_taken: false, generation: 1, engine: None }) }; PLACES];

#[inline]
pub(super) fn read(place: usize) -> RwLockReadGuard<'static, Place> {
    TABLE[place].read().unwrap_or_else(PoisonError::into_inner)
}

fn write(place: usize) -> RwLockWriteGuard<'static, Place> {
    TABLE[place].write().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a place, if it is free; gives the handle of the engine that is made for it.
pub(super) fn take(place: usize) -> Option<Handle> {
    let mut entry = write(place);
    if entry.is_taken {
        return None;
    }
    entry.is_taken = true;
    Some(Handle { kind: Kind::Engine, engine: place as u8, index: 0, generation: entry.generation })
}

/// The engine could not be made.
pub(super) fn give_back_unused(handle: Handle) {
    write(handle.engine.into()).is_taken = false;
}

/// Handles lead to it from now on.
pub(super) fn register(registered: Registered) {
    let place = registered.handle.engine.into();
    write(place).engine = Some(registered);
}

/// The engine is gone: its place is free, and whatever is made there next has later generations.
pub(super) fn give_back(handle: Handle, latest_generation: u32) {
    let mut place = write(handle.engine.into());
    let gone = place.engine.take();
    place.generation = latest_generation.wrapping_add(1);
    place.is_taken = false;
    drop(place);
    drop(gone);
}

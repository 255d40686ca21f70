//! What belongs to the worker that runs on this thread: which engine, and which connections hold corked bytes. It is
//! set while turns run, so a callback is told from any other caller by asking here.

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::api::Engine;
use super::cork::Cork;

/// The worker whose turn runs on this thread.
pub struct Local {
    /// Place of its engine in the registry.
    pub place: u8,
    /// Which worker of the engine.
    pub worker: u32,
    /// The engine, so that a call in a callback finds it without a lock.
    pub engine: Arc<dyn Engine>,
    /// What its callbacks sent and what is held back until they return.
    pub cork: RefCell<Cork>,
}

thread_local! {
    // Empty again whenever no turn runs, so nothing is lost by never dropping it; to be asked it needs no registration.
    static CURRENT: ManuallyDrop<RefCell<Option<Box<Local>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Makes this the thread's worker; gives the one before (an engine turned inside another's callback).
pub fn enter(local: Box<Local>) -> Option<Box<Local>> {
    CURRENT.with(|current| current.borrow_mut().replace(local))
}

/// Ends the turn: gives the worker's part back and restores the one before.
pub fn leave(before: Option<Box<Local>>) -> Option<Box<Local>> {
    CURRENT.with(|current| std::mem::replace(&mut *current.borrow_mut(), before))
}

/// Calls with the thread's worker, if a turn runs on this thread.
#[inline]
pub fn with<R>(call: impl FnOnce(Option<&Local>) -> R) -> R {
    CURRENT.with(|current| call(current.borrow().as_deref()))
}

/// A number that tells this thread from every other that lives. `std::thread::current` would do, but allocates on a
/// thread that Rust did not start.
pub fn thread_number() -> usize {
    thread_local! {
        static PLACE: u8 = const { 0 };
    }
    PLACE.try_with(|place| std::ptr::from_ref(place) as usize).unwrap_or(0)
}

/// Whether a turn runs on this thread: its callbacks must not block.
pub fn in_turn() -> bool {
    with(|local| local.is_some())
}

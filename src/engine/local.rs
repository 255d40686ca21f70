//! What belongs to the worker that runs on this thread: which engine, and which connections hold corked bytes. It is
//! set while turns run, so a callback is told from any other caller by asking here.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::Arc;

use super::api::Engine;
use super::cork::Cork;

/// The most turns of caller-driven engines inside each other's callbacks.
pub const NESTED_TURNS: usize = 8;

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

/// The workers of this thread: an engine may be turned inside another's callback.
struct Levels {
    depth: Cell<usize>,
    places: [RefCell<Option<Box<Local>>>; NESTED_TURNS],
}

thread_local! {
    // Empty again whenever no turn runs, so nothing is lost by never dropping it; to be asked it needs no registration.
    static LEVELS: ManuallyDrop<Levels> = const {
        ManuallyDrop::new(Levels { depth: Cell::new(0), places: [const { RefCell::new(None) }; NESTED_TURNS] })
    };
}

/// Ends the work of a worker on this thread, on whatever path.
struct Left<'a>(&'a Levels);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        self.0.depth.set(self.0.depth.get() - 1);
    }
}

/// Makes `local` the thread's worker while `work` runs, and puts it back. None: turns are nested too deeply already, and
/// nothing was done.
pub fn enter<R>(local: &mut Option<Box<Local>>, work: impl FnOnce(&Local) -> R) -> Option<R> {
    LEVELS.with(|levels| {
        let depth = levels.depth.get();
        let place = levels.places.get(depth)?;
        place.replace(local.take());
        levels.depth.set(depth + 1);
        let left = Left(levels);
        let result = place.borrow().as_deref().map(work);
        drop(left);
        *local = place.take();
        result
    })
}

/// Calls with the thread's worker, if a turn runs on this thread.
#[inline(always)]
pub fn with<R>(call: impl FnOnce(Option<&Local>) -> R) -> R {
    LEVELS.with(|levels| {
        let local = levels.places.get(levels.depth.get().wrapping_sub(1)).map(RefCell::borrow);
        call(local.as_ref().and_then(|local| local.as_deref()))
    })
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

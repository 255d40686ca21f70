//! In which worker's turn a call is made, if it is made in one: set while turns run on a thread, so a callback is told
//! from any other caller by asking here.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::sync::{Arc, Mutex};

use super::caller::Caller;
use super::calls::ConnectionCalls;
use crate::pool::lock;

/// The most turns of caller-driven engines inside each other's callbacks.
pub const NESTED_TURNS: usize = 8;

/// The worker whose turn runs on this thread.
pub struct TurnContext {
    pub caller: Caller,
    /// The engine's connections, so that a call in a callback finds them without a lock.
    pub calls: Arc<dyn ConnectionCalls>,
}

/// The workers of this thread: an engine may be turned inside another's callback.
struct Levels {
    depth: Cell<usize>,
    places: [RefCell<Option<Box<TurnContext>>>; NESTED_TURNS],
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

/// Makes `context` the thread's worker while `work` runs, and puts it back. None: turns are nested too deeply already,
/// and nothing was done.
pub fn enter<R>(context: &mut Option<Box<TurnContext>>, work: impl FnOnce(&TurnContext) -> R) -> Option<R> {
    LEVELS.with(|levels| {
        let depth = levels.depth.get();
        let place = levels.places.get(depth)?;
        place.replace(context.take());
        levels.depth.set(depth + 1);
        let left = Left(levels);
        let result = place.borrow().as_deref().map(work);
        drop(left);
        *context = place.take();
        result
    })
}

/// Calls with the thread's worker, if a turn runs on this thread.
#[inline(always)]
pub fn with<R>(call: impl FnOnce(Option<&TurnContext>) -> R) -> R {
    LEVELS.with(|levels| {
        let context = levels.places.get(levels.depth.get().wrapping_sub(1)).map(RefCell::borrow);
        call(context.as_ref().and_then(|context| context.as_deref()))
    })
}

/// A number that tells this thread from every other that lives. `std::thread::current` would do, but allocates on a
/// thread that Rust did not start.
fn thread_number() -> usize {
    thread_local! {
        static PLACE: u8 = const { 0 };
    }
    PLACE.try_with(|place| std::ptr::from_ref(place) as usize).unwrap_or(0)
}

/// Whether a turn runs on this thread: its callbacks must not block.
pub fn in_turn() -> bool {
    with(|context| context.is_some())
}

/// The thread that turned a caller-driven engine last: the engine's work waits for it.
#[derive(Default)]
pub struct Turner(Mutex<Option<usize>>);

impl Turner {
    /// This thread turns it now.
    pub fn set_this_thread(&self) {
        *lock(&self.0) = Some(thread_number());
    }

    /// Whether this thread did.
    pub fn is_this_thread(&self) -> bool {
        *lock(&self.0) == Some(thread_number())
    }
}

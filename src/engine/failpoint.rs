//! Faults that tests inject. Without the feature `testing` this is nothing.

/// Where a fault can be injected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Point {
    /// On a calling thread, before a send.
    Send = 1,
    /// On a worker, while a completion is dispatched.
    Dispatch = 2,
    /// On a worker, while a connection of the ready list is looked at.
    Ready = 3,
}

#[cfg(feature = "testing")]
static ARMED: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

/// The next pass of this point panics (0: none).
#[cfg(feature = "testing")]
pub fn arm(point: u32) {
    ARMED.store(point, std::sync::atomic::Ordering::SeqCst);
}

/// Panics when the point is armed, once.
#[cfg(feature = "testing")]
pub fn hit(point: Point) {
    use std::sync::atomic::Ordering::SeqCst;
    if ARMED.compare_exchange(point as u32, 0, SeqCst, SeqCst).is_ok() {
        panic!("injected at {point:?}");
    }
}

/// Nothing.
#[cfg(not(feature = "testing"))]
#[inline(always)]
pub fn hit(_point: Point) {}

//! What `crate::sync` is under loom.
//!
//! loom takes a SeqCst access for an AcqRel one, and would find faults that are none. Fences it takes seriously, so here a
//! SeqCst access has one on either side. And it lets a swap take its place before a store that is known to have come
//! earlier, which C11 forbids; so a SeqCst store is a swap. Both are a little stronger than the access itself; the twins
//! that must fail show that they do not make the models blind.

pub use loom::sync::{Mutex, MutexGuard};

thread_local! {
    static WEAKENED: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Explores a model of real code in which every SeqCst is AcqRel, and every fence is none.
pub fn weakened(explore: impl FnOnce()) {
    // loom runs all threads of a model on this one.
    WEAKENED.set(true);
    explore();
}

fn around<R>(order: std::sync::atomic::Ordering, access: impl FnOnce() -> R) -> R {
    let is_total = order == std::sync::atomic::Ordering::SeqCst;
    if is_total {
        atomic::fence(order);
    }
    let result = access();
    if is_total {
        atomic::fence(order);
    }
    result
}

pub mod atomic {
    pub use loom::sync::atomic::Ordering;

    use super::{WEAKENED, around};

    pub fn fence(order: Ordering) {
        if !WEAKENED.get() {
            loom::sync::atomic::fence(order);
        }
    }

    macro_rules! atomic {
        ($name:ident, $type:ty) => {
            #[derive(Debug)]
            pub struct $name(loom::sync::atomic::$name);

            impl $name {
                pub fn new(value: $type) -> $name {
                    $name(loom::sync::atomic::$name::new(value))
                }
                pub fn load(&self, order: Ordering) -> $type {
                    around(order, || self.0.load(order))
                }
                pub fn store(&self, value: $type, order: Ordering) {
                    around(order, || match order {
                        Ordering::SeqCst if !WEAKENED.get() => _ = self.0.swap(value, order),
                        _ => self.0.store(value, order),
                    })
                }
                pub fn swap(&self, value: $type, order: Ordering) -> $type {
                    around(order, || self.0.swap(value, order))
                }
            }
        };
    }
    atomic!(AtomicBool, bool);
    atomic!(AtomicU32, u32);

    impl AtomicU32 {
        pub fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
            around(order, || self.0.fetch_add(value, order))
        }
        pub fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
            around(order, || self.0.fetch_sub(value, order))
        }
        pub fn fetch_max(&self, value: u32, order: Ordering) -> u32 {
            around(order, || self.0.fetch_max(value, order))
        }
        pub fn fetch_update(
            &self,
            set: Ordering,
            fetch: Ordering,
            update: impl FnMut(u32) -> Option<u32>,
        ) -> Result<u32, u32> {
            around(set, || self.0.fetch_update(set, fetch, update))
        }
    }
}

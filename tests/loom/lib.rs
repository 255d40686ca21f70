//! The wake-up protocols between threads, explored: every order of the steps of the threads is tried (up to a bound that a model
//! names), under the memory model of C11. The files of the library are compiled here with the locks and atomics of loom in
//! place of those of the standard library, so what runs is the real code of the pool and of the wake-ups. What cannot be
//! taken out of the engine is modelled, and the model names the functions that it stands for.
//!
//! Each promise has a twin in which the step or the ordering that it hangs on is taken away; the twin must fail.
//!
//! `make loom`. A package of its own, so that loom is no dependency of the library.

pub mod sync;

#[path = "../../src/pool/mod.rs"]
pub mod pool;

/// What the send queue asks of a port; nothing is written here.
pub mod port {
    pub trait Port {
        type Socket;
        fn send(socket: &Self::Socket, pieces: &[std::io::IoSlice<'_>]) -> std::io::Result<usize>;
    }
}

#[path = "../../src/engine/connection/place_waiters.rs"]
pub mod place_waiters;
#[path = "../../src/engine/connection/send_queue.rs"]
pub mod send_queue;
#[path = "../../src/engine/wake.rs"]
pub mod wake;

/// Where the files of the library look for it.
pub mod engine {
    pub use crate::wake;
}

/// What `Connections::give_back` and `Place` do when a place was given back.
pub fn tell(waiters: &place_waiters::PlaceWaiters) {
    waiters.tell();
}

/// Explores a model in which a thread is interrupted so many times at the most where it need not be; None: in every order.
pub fn explore(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(model);
}

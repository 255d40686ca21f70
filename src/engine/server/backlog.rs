//! The listener, and the connections between its backlog and a place. A stop closes it: from then on no accept begins,
//! so that what waits in a backlog that others hold, too, is theirs; and what was taken out before is awaited.

use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use crate::engine::signal::Signal;
use crate::port::{AcceptError, Accepted, Port};

/// What a server accepts from, while it runs.
pub(super) struct Backlog<P: Port> {
    /// Held for reading during an accept, so that none is under way when it has been taken out.
    listener: RwLock<Option<P::Socket>>,
    /// How many connections were taken out of the backlog and have no place yet; with [`CLOSED`] in it.
    arriving: AtomicU32,
}

/// No connection is taken out of the backlog any more.
const CLOSED: u32 = 1 << 31;

/// A connection that was taken out of the backlog; dropped, it has its place, or was refused.
pub(super) struct Arrival<'a> {
    arriving: &'a AtomicU32,
    signal: &'a Signal,
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        if self.arriving.fetch_sub(1, SeqCst) == CLOSED | 1 {
            self.signal.notify();
        }
    }
}

impl<P: Port> Backlog<P> {
    /// Of a server that is stopped.
    pub fn new() -> Backlog<P> {
        Backlog { listener: RwLock::new(None), arriving: AtomicU32::new(CLOSED) }
    }

    /// Connections are taken out of this one from now on.
    pub fn open(&self, listener: P::Socket) {
        *self.listener.write().unwrap_or_else(PoisonError::into_inner) = Some(listener);
        self.arriving.fetch_and(!CLOSED, SeqCst);
    }

    /// No accept begins from now on, and none is under way.
    pub fn close(&self) -> Option<P::Socket> {
        let listener = self.listener.write().unwrap_or_else(PoisonError::into_inner).take();
        self.arriving.fetch_or(CLOSED, SeqCst);
        listener
    }

    /// The listener, if there is one; it stays while this is held.
    pub fn listener(&self) -> RwLockReadGuard<'_, Option<P::Socket>> {
        self.listener.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next connection out; None: it is closed. `signal` is told when the last has arrived after that.
    #[allow(clippy::type_complexity)]
    pub fn accept<'a>(
        &'a self,
        port: &P,
        signal: &'a Signal,
    ) -> Option<Result<(Accepted<P::Socket>, Arrival<'a>), AcceptError>> {
        let listener = self.listener();
        let accepted = port.accept(listener.as_ref()?);
        Some(accepted.map(|accepted| {
            // Before the listener is let go: whoever closes then finds this one counted.
            self.arriving.fetch_add(1, SeqCst);
            (accepted, Arrival { arriving: &self.arriving, signal })
        }))
    }

    /// Whether it is closed, and everybody who was taken out has a place or was refused.
    pub fn is_deserted(&self) -> bool {
        self.arriving.load(SeqCst) == CLOSED
    }
}

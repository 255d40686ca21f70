//! What the port reports goes to whom it belongs to: a connection, or whoever registered the key.

use super::sources::Sources;
use crate::engine::connection::close::Close;
use crate::engine::connection::turn::Turn;
use crate::engine::events::Level;
use crate::engine::log::Flood;
use crate::likely::unlikely;
use crate::pool::handle::{Handle, Kind};
use crate::port::{Completion, Interest, Port, Reading, Sink};
use crate::status::Status;

/// Takes the completions of a wait; beside the ring, which the port holds meanwhile.
pub struct Dispatcher<'a, P: Port> {
    pub(super) turn: Turn<'a, P>,
    pub(super) sources: &'a Sources<P>,
}

#[inline]
fn is_connection(key: u64) -> bool {
    Handle::kind_of(key) == Kind::Connection as u64
}

impl<P: Port> Sink<P::Raw> for Dispatcher<'_, P> {
    #[inline(always)]
    fn interest(&mut self, key: u64) -> Interest<P::Raw> {
        if unlikely(!is_connection(key)) {
            return Interest { read: Reading::Notify, room: true, place: 0 };
        }
        self.turn.interest(key)
    }

    #[inline(always)]
    fn received(&mut self, key: u64, place: u32, data: &[u8]) {
        self.wait_is_over();
        self.turn.state.serving = key;
        self.turn.received(key, place, data);
        self.turn.state.serving = 0;
    }

    #[inline(never)]
    fn complete(&mut self, key: u64, completion: Completion<'_>) {
        self.wait_is_over();
        self.turn.state.serving = key;
        if is_connection(key) {
            self.turn.complete(key, completion);
        } else if let Some(source) = self.sources.get(key) {
            source.ready(&mut self.turn);
        }
        self.turn.state.serving = 0;
    }
}

impl<P: Port> Dispatcher<'_, P> {
    /// The first completion of a wait.
    #[inline(always)]
    fn wait_is_over(&mut self) {
        if !self.turn.state.clock_is_fresh {
            self.turn.state.clock_is_fresh = true;
            // What is put on the ready list from here on is seen without waking anybody.
            self.turn.link.wake.wake_up();
            self.turn.read_clock();
        }
    }

    /// What was being served when a panic was caught. False: nothing was.
    #[cold]
    pub(super) fn contain_fault(&mut self) -> bool {
        let key = std::mem::replace(&mut self.turn.state.serving, 0);
        match self.turn.connections.table.by_key(key) {
            _ if key == 0 => {}
            Some((_, index)) if is_connection(key) => self.contain(index),
            _ => self.report_fault("an accept or connect"),
        }
        key != 0
    }

    /// A panic was caught while this connection was served: it ends, the others go on.
    #[cold]
    pub(super) fn contain(&mut self, index: u32) {
        self.report_fault("a connection");
        let connections = self.turn.connections;
        let generation = connections.table.handle_of(index).generation;
        connections.close_member(index, generation, Close::Now, Status::Panic);
    }

    #[cold]
    pub(super) fn report_fault(&self, what: &str) {
        let worker = self.turn.worker;
        self.turn.connections.log.limited(
            Flood::Fault,
            self.turn.link.port.now_ns(),
            Level::Error,
            format_args!("worker {worker}: a fault inside the library was contained while {what} was served"),
        );
    }
}

//! How a server stops: no new connections; flush and FIN; wait for the deadline; reset what has bytes unsent then, close the
//! rest; then say so; then, if it was destroyed, the last callback.

use std::sync::Arc;

use super::server::{Drain, Run, Server, Stop};
use crate::engine::connection::close::Close;
use crate::engine::events::Level;
use crate::pool::lock;
use crate::port::Port;

impl<P: Port> Server<P> {
    /// Stops accepting at once; a task does the rest.
    pub fn stop(&self, stop: Stop) {
        let mut state = lock(&self.state);
        let was_destroyed = state.destroyed;
        state.destroyed |= stop.destroys;
        let until_ns = self.workers.now_ns().saturating_add(u64::from(stop.drain_ms) * 1_000_000);
        match state.run {
            Run::Running => {
                state.run = Run::Draining;
                self.note_pause(&mut state, None);
                if let Some(listener) = self.gate.backlog.close() {
                    self.unwatch(&listener);
                }
                let before = self.owner.begin_to_end(!stop.is_abrupt);
                state.drain = Drain { until_ns, is_abrupt: stop.is_abrupt, before };
            }
            Run::Draining => {
                state.drain.until_ns = state.drain.until_ns.min(until_ns);
                self.owner.signal.notify();
            }
            Run::Stopped if !stop.destroys || was_destroyed => return,
            Run::Stopped => {}
        }
        if !state.has_task {
            state.has_task = true;
            if let Some(me) = self.me.upgrade() {
                self.workers.spawn(async move { me.end().await });
            }
        }
    }

    /// The task of a stop.
    async fn end(self: Arc<Self>) {
        self.see_members_out().await;
        self.log_stop();
        let destroyed = {
            let mut state = lock(&self.state);
            state.run = Run::Stopped;
            state.has_task = false;
            state.destroyed
        };
        if destroyed {
            self.owner.handler.on_drop();
            self.workers.connections.flush_own_corks();
            (self.retire)(self.owner.handle, &self.stats());
        }
        self.changed.notify_all();
    }

    /// Closes all connections, and at the deadline those that are left; waits until they are gone, and those that came
    /// meanwhile.
    async fn see_members_out(&self) {
        loop {
            let (until_ns, is_abrupt) = {
                let drain = &lock(&self.state).drain;
                (drain.until_ns, drain.is_abrupt)
            };
            let is_due = is_abrupt || self.workers.now_ns() >= until_ns;
            self.workers.connections.close_members(&self.owner, if is_due { Close::Due } else { Close::Flush });
            // In this order: who has arrived is a member.
            if self.gate.backlog.is_deserted() && self.owner.is_empty() {
                return;
            }
            if is_due {
                self.owner.signal.notified().await;
            } else {
                smol::future::or(self.owner.signal.notified(), self.workers.sleep_until(until_ns)).await;
            }
        }
    }

    fn log_stop(&self) {
        let state = lock(&self.state);
        if state.run != Run::Draining {
            return;
        }
        let (Drain { is_abrupt, before, .. }, address) = (state.drain, state.address.clone());
        drop(state);
        let totals = lock(&self.owner.members).totals;
        let log = &self.workers.connections.log;
        if is_abrupt {
            let closed = totals.closed - before.closed;
            log.line(Level::Info, format_args!("server: {address} stopped, {closed} closed"));
        } else {
            let (drained, cut_off) = (totals.drained - before.drained, totals.drain_resets - before.drain_resets);
            log.line(Level::Info, format_args!("server: {address} stopped, {drained} drained, {cut_off} reset"));
        }
    }
}

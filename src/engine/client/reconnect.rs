//! The task of a client: connect, wait for the end, connect again if asked to.

use std::sync::Arc;

use super::client::{Client, Run};
use super::dial::Route;
use crate::engine::config::ClientConfig;
use crate::engine::connection::peer::Peer;
use crate::engine::events::Level;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::log::Flood;
use crate::engine::mutant::{self, Mutant};
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// What came of the attempts in a row.
#[derive(Default)]
struct InARow {
    /// Those that gave no connection: after so many the client gives up.
    failed: u32,
    /// Those that gave none that lasted: the pause grows with them.
    unstable: u32,
}

impl<P: Port> Client<P> {
    /// Until it is stopped, or gives up.
    pub(super) async fn keep_connected(self: Arc<Self>) {
        let mut in_a_row = InARow::default();
        // Stopped before it began, the first attempt still has its outcome.
        loop {
            let failure = match self.attempt().await {
                Ok(lasted_ms) => {
                    let is_stable =
                        lasted_ms >= u64::from(self.config.reconnect_stable_ms) || mutant::is_on(Mutant::ReconnectFlap);
                    let unstable = if is_stable { 0 } else { in_a_row.unstable.saturating_add(1) };
                    in_a_row = InARow { failed: 0, unstable };
                    Failure::from(Status::Closed)
                }
                Err(failure) => {
                    in_a_row.failed = in_a_row.failed.saturating_add(1);
                    in_a_row.unstable = in_a_row.unstable.saturating_add(1);
                    self.tell_failed_attempt(&failure);
                    failure
                }
            };
            let ClientConfig { reconnect_max_ms, reconnect_attempts, .. } = self.config;
            if reconnect_max_ms == 0 || (reconnect_attempts > 0 && in_a_row.failed >= reconnect_attempts) {
                lock(&self.progress.state).failure = Some(failure);
                break;
            }
            self.back_off(in_a_row.unstable).await;
            if self.run() != Run::Running {
                break;
            }
        }
        self.end();
    }

    /// One attempt, and the life of the connection that came of it: gives for how many milliseconds it was there. An
    /// error tells that there was no `on_open`.
    async fn attempt(&self) -> Outcome<u64> {
        let connections = &self.workers.connections;
        let place = connections.take_place(None).ok_or_else(|| {
            Failure::new(Status::Limit, "the engine has max_connections connections already: close one or raise it")
        })?;
        let dialled = smol::future::or(async { Some(self.dial().await) }, async {
            self.stopped().await;
            None
        });
        let Some(dialled) = dialled.await else {
            return Err(Status::Stopped.into());
        };
        let Route { socket, peer } = dialled?;
        connections.begin(&self.owner, socket, Peer::new(&peer), place, connections.clock_ms());
        self.see_out().await
    }

    /// Waits until the connection is gone; asks it to go when the client is stopped. Gives how long it was
    /// there before it ended, or was asked to.
    async fn see_out(&self) -> Outcome<u64> {
        let mut asked = None;
        while !self.owner.is_empty() {
            if let Run::Stopping(how) = self.run() {
                if asked < Some(how) {
                    asked = Some(how);
                    self.workers.connections.close_members(&self.owner, how);
                }
            }
            self.owner.signal.notified().await;
        }
        let last = lock(&self.owner.members).last;
        if std::mem::take(&mut lock(&self.progress.state).connection) != 0 {
            return Ok(last.map_or(0, |last| last.lasted_ms));
        }
        // It broke before it was opened: an attempt that failed.
        Err(last.map_or(Status::Closed, |last| last.reason).into())
    }

    fn tell_failed_attempt(&self, failure: &Failure) {
        let connections = &self.workers.connections;
        let line = format_args!("client: {}", failure.message);
        connections.log.limited(Flood::ConnectFailed, self.workers.now_ns(), Level::Info, line);
        lock(&self.owner.members).totals.connect_failures += 1;
        lock(&self.progress.state).failure = Some(failure.clone());
        self.owner.handler.on_close(0, failure.status);
        connections.flush_own_corks();
    }

    /// Pauses before the next attempt: from the minimum, doubled with each attempt in a row that gave no connection that
    /// lasted, up to the maximum; half of it by chance, so that clients that lost one server do not come back in step.
    async fn back_off(&self, unstable_in_a_row: u32) {
        let ClientConfig { reconnect_min_ms, reconnect_max_ms, .. } = self.config;
        let doublings = unstable_in_a_row.saturating_sub(1).min(31);
        let most = (u64::from(reconnect_min_ms) << doublings).min(reconnect_max_ms.into()).max(1) * 1_000_000;
        let pause = match mutant::is_on(Mutant::ReconnectStorm) {
            true => 1_000_000,
            false => most / 2 + self.workers.port().random() % (most / 2 + 1),
        };
        let at_ns = self.workers.now_ns() + pause;
        smol::future::or(self.stopped(), self.workers.sleep_until(at_ns)).await;
    }
}

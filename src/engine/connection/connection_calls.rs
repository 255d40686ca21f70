//! The calls on connections, as the engine's connections take them.

use std::sync::atomic::Ordering::*;

use super::caller::Caller;
use super::calls::{ConnectionCalls, Patience};
use super::close::Close;
use super::connections::Connections;
use super::outgoing::Outgoing;
use super::send_steps::MAX_SLICES;
use super::state::{Connection, PAUSED, PULL, RESUMED};
use crate::engine::config::Timeouts;
use crate::engine::failpoint;
use crate::engine::failure::Outcome;
use crate::engine::stats::ConnectionStats;
use crate::likely::unlikely;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::{Port, status_of};
use crate::status::Status;

impl<P: Port> Connections<P> {
    /// Whether the worker whose callback runs on this thread owns the connection.
    #[inline]
    pub(in crate::engine) fn is_own(&self, caller: &Caller, connection: &Connection<P>) -> bool {
        caller.engine == self.table.engine && caller.worker as usize == connection.worker()
    }

    /// Refuses a send as if the pool had no room for it, when the fault plan says so; `on_writable` follows as always.
    fn refuse_by_plan(&self, conn: u64) -> Result<(), Status> {
        let mut locked = self.locked(conn)?;
        let link = self.link_of(locked.connection);
        if !locked.sender.takes_sends() || !link.port.finds_pool_exhausted() {
            return Ok(());
        }
        self.pool_exhausted.fetch_add(1, Relaxed);
        locked.sender.waits.set_owes_writable(true);
        locked.post_ready();
        Err(Status::PoolExhausted)
    }
}

impl<P: Port> ConnectionCalls for Connections<P> {
    fn answer(&self, conn: u64, data: &[u8], caller: &Caller) -> bool {
        failpoint::hit(failpoint::Point::Send);
        if P::INJECTS_FAULTS {
            return false;
        }
        let index = Handle::index_of(conn);
        let Some(connection) = self.table.places.get(index as usize) else { return false };
        let is_own = u32::from(connection.life.worker.load(Relaxed)) == caller.worker;
        if unlikely(Handle::kind_of(conn) != Kind::Connection as u64 || !is_own) {
            return false;
        }
        let mut sender = lock(&connection.sender);
        let is_live = connection.life.generation.load(Relaxed) == Handle::generation_of(conn);
        if unlikely(!is_live || !sender.takes_plain_sends) {
            return false;
        }
        let is_corked = sender.cork(&self.blocks, index, &[data], data.len(), &caller.cork);
        sender.messages += u64::from(is_corked);
        is_corked
    }

    fn send(&self, conn: u64, slices: &[&[u8]], token: u64, caller: Option<&Caller>) -> Result<(), Status> {
        failpoint::hit(failpoint::Point::Send);
        if P::INJECTS_FAULTS {
            self.refuse_by_plan(conn)?;
        }
        if slices.len() > MAX_SLICES {
            return Err(Status::InvalidArgument);
        }
        let mut locked = self.locked(conn)?;
        let own = caller.filter(|caller| self.is_own(caller, locked.connection));
        locked.send_any(&Outgoing::new(slices, token), own)
    }

    fn send_wait(&self, conn: u64, data: &[u8], patience: Patience, taken: &mut usize) -> Result<(), Status> {
        Connections::send_wait(self, conn, data, patience, taken)
    }

    fn receive_wait(&self, conn: u64, buffer: &mut [u8], patience: Patience) -> Result<usize, Status> {
        Connections::receive_wait(self, conn, buffer, patience)
    }

    fn pause(&self, conn: u64) -> Result<(), Status> {
        let locked = self.locked(conn)?;
        // What came before an end is told before it, whoever would rather not hear of it now.
        if locked.sender.ending.close != Some(Close::Drain) {
            locked.connection.set(PAUSED);
        }
        Ok(())
    }

    fn resume(&self, conn: u64) -> Result<(), Status> {
        let locked = self.locked(conn)?;
        let connection = locked.connection;
        if connection.has(PAUSED) {
            connection.unset(PAUSED);
            self.table.cold[locked.index as usize].rate.measure_anew();
            if !connection.has(PULL) {
                connection.set(RESUMED);
                locked.post_ready();
            }
        }
        Ok(())
    }

    fn close(&self, conn: u64, how: Close) -> Result<(), Status> {
        self.locked(conn)?.close(how, Status::Ok);
        Ok(())
    }

    fn set_data(&self, conn: u64, data: usize) -> Result<(), Status> {
        self.locked(conn)?.connection.user_data.store(data, Release);
        Ok(())
    }

    fn data(&self, conn: u64) -> Result<usize, Status> {
        let (connection, _) = self.table.by_handle(conn)?;
        let data = connection.user_data.load(Acquire);
        // Unchanged generation: the word was this connection's.
        if connection.generation() == Handle::generation_of(conn) { Ok(data) } else { Err(Status::Stale) }
    }

    fn peer_address(&self, conn: u64) -> Result<String, Status> {
        let peer = self.locked(conn)?.peer_address();
        Ok(peer.to_string())
    }

    fn local_address(&self, conn: u64) -> Result<String, Status> {
        let locked = self.locked(conn)?;
        let socket = locked.sender.socket.as_ref().ok_or(Status::Closed)?;
        P::local_address(socket).map(|address| address.to_string()).map_err(|error| status_of(&error))
    }

    fn set_timeouts(&self, conn: u64, timeouts: Timeouts) -> Outcome<()> {
        let timeouts = timeouts.validated()?;
        let locked = self.locked(conn)?;
        locked.connection.timeouts.set(timeouts);
        locked.post_ready();
        Ok(())
    }

    fn connection_stats(&self, conn: u64) -> Result<ConnectionStats, Status> {
        let locked = self.locked(conn)?;
        let (connection, traffic) = (locked.connection, locked.connection.traffic(&locked.sender));
        let now = self.clock_ms();
        let since = |at: u64| now.saturating_sub(at);
        let times = &connection.times;
        let idle_ms = since(times.received_ms.load(Relaxed)).min(since(times.sent_ms.load(Relaxed)));
        Ok(ConnectionStats {
            bytes_in: traffic.bytes_in,
            bytes_out: traffic.bytes_out,
            messages_in: traffic.messages_in,
            messages_out: traffic.messages_out,
            queued_bytes: locked.sender.waiting() as u64,
            age_ms: since(self.table.cold[locked.index as usize].opened_ms.load(Relaxed)),
            idle_ms,
            worker: connection.worker() as u32,
        })
    }
}

//! The engine's face: each call of [`Engine`] goes to the part that does it.

use std::sync::atomic::Ordering::*;

use super::api::{Broadcast, Close, Engine, Patience};
use super::config::{ClientConfig, ServerConfig, Timeouts};
use super::connection::{Connection, PAUSED, PULL, RESUMED};
use super::core::Core;
use super::events::Handler;
use super::failpoint;
use super::failure::{Failure, Outcome};
use super::local::Local;
use super::stats::{ConnectionStats, Stats};
use crate::pool::handle::Kind;
use crate::port::{FaultPlan, Port};
use crate::status::Status;

impl<P: Port> Engine for Core<P> {
    fn turn(&self, patience: Patience) -> Result<u32, Status> {
        self.turn_once(patience)
    }

    fn descriptor(&self) -> Outcome<i32> {
        if !self.config.caller_driven {
            return Err(Failure::new(Status::State, "only a caller-driven engine has a descriptor to wait on"));
        }
        self.workers[0].port.descriptor().map_err(|error| Failure::from_io("the engine's descriptor", &error))
    }

    fn wake(&self) -> Result<(), Status> {
        for worker in &self.workers {
            worker.port.wake();
        }
        Ok(())
    }

    fn stats(&self) -> Stats {
        self.sum_stats()
    }

    fn set_faults(&self, plan: FaultPlan) -> Outcome<()> {
        self.begin_faults(plan)
    }

    #[cfg(feature = "testing")]
    fn counts(&self) -> super::counts::Counts {
        Core::counts(self)
    }

    fn destroy(&self, drain_ms: u32) -> Result<(), Status> {
        self.end(drain_ms)
    }

    fn server_create(&self, config: ServerConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        Core::server_create(self, config, handler)
    }

    fn server_start(&self, server: u64) -> Outcome<()> {
        Core::server_start(self, server)
    }

    fn server_stop(&self, server: u64, drain_ms: u32) -> Result<(), Status> {
        Core::server_stop(self, server, drain_ms)
    }

    fn server_wait(&self, server: u64, patience: Patience) -> Result<(), Status> {
        Core::server_wait(self, server, patience)
    }

    fn server_destroy(&self, server: u64) -> Result<(), Status> {
        Core::server_destroy(self, server)
    }

    fn server_is_running(&self, server: u64) -> Result<bool, Status> {
        Core::server_is_running(self, server)
    }

    fn server_address(&self, server: u64) -> Result<String, Status> {
        Core::server_address(self, server)
    }

    fn server_connections(&self, server: u64, out: &mut dyn FnMut(u64)) -> Result<usize, Status> {
        Core::server_connections(self, server, out)
    }

    fn server_broadcast(&self, server: u64, data: &[u8], except: u64) -> Result<Broadcast, Status> {
        self.broadcast(server, data, except)
    }

    fn server_stats(&self, server: u64) -> Result<Stats, Status> {
        Ok(self.endpoint(server, Kind::Server)?.stats(&self.connections))
    }

    fn client_create(&self, config: ClientConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        Core::client_create(self, config, handler)
    }

    fn client_start(&self, client: u64) -> Outcome<()> {
        Core::client_start(self, client)
    }

    fn client_connection(&self, client: u64) -> Result<u64, Status> {
        Core::client_connection(self, client)
    }

    fn client_wait(&self, client: u64, patience: Patience) -> Outcome<()> {
        Core::client_wait(self, client, patience)
    }

    fn client_stop(&self, client: u64) -> Result<(), Status> {
        Core::client_stop(self, client)
    }

    fn client_destroy(&self, client: u64) -> Result<(), Status> {
        Core::client_destroy(self, client)
    }

    fn client_stats(&self, client: u64) -> Result<Stats, Status> {
        Ok(self.endpoint(client, Kind::Client)?.stats(&self.connections))
    }

    fn answer(&self, conn: u64, data: &[u8], caller: &Local) -> bool {
        failpoint::hit(failpoint::Point::Send);
        !P::INJECTS_FAULTS && Core::answer(self, conn, data, caller)
    }

    fn send(&self, conn: u64, slices: &[&[u8]], token: u64, caller: Option<&Local>) -> Result<(), Status> {
        failpoint::hit(failpoint::Point::Send);
        self.refuse_by_plan(conn)?;
        Core::send(self, conn, slices, token, caller)
    }

    fn send_wait(&self, conn: u64, data: &[u8], patience: Patience, taken: &mut usize) -> Result<(), Status> {
        Core::send_wait(self, conn, data, patience, taken)
    }

    fn receive_wait(&self, conn: u64, buffer: &mut [u8], patience: Patience) -> Result<usize, Status> {
        Core::receive_wait(self, conn, buffer, patience)
    }

    fn pause(&self, conn: u64) -> Result<(), Status> {
        let (connection, _, _side) = self.locked(conn)?;
        connection.set(PAUSED);
        Ok(())
    }

    fn resume(&self, conn: u64) -> Result<(), Status> {
        let (connection, handle, _side) = self.locked(conn)?;
        if connection.has(PAUSED) {
            connection.unset(PAUSED);
            connection.measure_anew();
            if !connection.has(PULL) {
                connection.set(RESUMED);
                self.call_attention(connection, handle.index);
            }
        }
        Ok(())
    }

    fn close(&self, conn: u64, how: Close) -> Result<(), Status> {
        Core::close(self, conn, how)
    }

    fn set_data(&self, conn: u64, data: usize) -> Result<(), Status> {
        let (connection, _, _side) = self.locked(conn)?;
        connection.user_data.store(data, Release);
        Ok(())
    }

    fn data(&self, conn: u64) -> Result<usize, Status> {
        let (connection, handle) = self.connection(conn)?;
        let data = connection.user_data.load(Acquire);
        // Unchanged generation: the word was this connection's.
        if connection.generation.load(Acquire) == handle.generation { Ok(data) } else { Err(Status::Stale) }
    }

    fn peer_address(&self, conn: u64) -> Result<String, Status> {
        let (_, _, side) = self.locked(conn)?;
        Ok(side.peer.to_string())
    }

    fn local_address(&self, conn: u64) -> Result<String, Status> {
        let (_, _, side) = self.locked(conn)?;
        let socket = side.socket.as_ref().ok_or(Status::Closed)?;
        P::local_address(socket).map(|address| address.to_string()).map_err(|error| super::failure::status_of(&error))
    }

    fn set_timeouts(&self, conn: u64, timeouts: Timeouts) -> Outcome<()> {
        let timeouts = timeouts.validated()?;
        let (connection, handle, _side) = self.locked(conn)?;
        connection.set_timeouts(timeouts);
        self.call_attention(connection, handle.index);
        Ok(())
    }

    fn connection_stats(&self, conn: u64) -> Result<ConnectionStats, Status> {
        let (connection, _, side) = self.locked(conn)?;
        let now = self.clock_ms();
        let since = |at: u32| (now.wrapping_sub(at) as i32).max(0) as u64;
        let last = since(connection.last_receive_ms.load(Relaxed)).min(since(connection.last_send_ms.load(Relaxed)));
        Ok(ConnectionStats {
            bytes_in: connection.bytes_in.load(Relaxed),
            bytes_out: side.queue.sent(),
            messages_in: connection.messages_in.load(Relaxed),
            messages_out: side.messages_out,
            queued_bytes: side.waiting() as u64,
            age_ms: since(connection.opened_ms.load(Relaxed)),
            idle_ms: last,
            worker: connection.worker.load(Relaxed).into(),
        })
    }
}

impl<P: Port> Connection<P> {
    pub(super) fn set_timeouts(&self, timeouts: Timeouts) {
        self.idle_ms.store(timeouts.idle_ms, Relaxed);
        self.first_byte_ms.store(timeouts.first_byte_ms, Relaxed);
        self.send_stall_ms.store(timeouts.send_stall_ms, Relaxed);
    }
}

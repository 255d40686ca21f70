//! One engine: its workers, its servers and clients, how far its end is. Each call of [`Engine`] goes to the part that
//! does it.

use std::sync::atomic::Ordering::*;
use std::sync::{Arc, Weak};

use super::api::{Broadcast, Close, Engine, Patience};
use super::config::{ClientConfig, EngineConfig, ServerConfig, validated_plan};
use super::connection::connections::Connections;
use super::connection::worker_link::WorkerLink;
use super::driven::Driven;
use super::events::Handler;
use super::failure::{Failure, Outcome};
use super::life::Life;
use super::owners::Owners;
use super::server::server::Stop;
use super::stats::Stats;
use super::worker::workers::Workers;
use crate::pool::handle::Handle;
use crate::port::{FaultPlan, OsHandle, Port, PortSetup};
use crate::status::Status;

/// One engine.
pub struct Core<P: Port> {
    /// Itself, for tasks that live on.
    pub(super) me: Weak<Core<P>>,
    /// Its own handle.
    pub(super) handle: Handle,
    pub(super) config: EngineConfig,
    pub(super) workers: Arc<Workers<P>>,
    pub(super) owners: Arc<Owners<P>>,
    pub(super) life: Life,
    pub(super) driven: Driven<P>,
}

/// How the port of each worker is made.
pub(super) fn port_setup(config: &EngineConfig) -> PortSetup {
    PortSetup {
        receive_buffer_bytes: config.receive_buffer_bytes as usize,
        max_connections: config.max_connections as usize,
        receives_per_turn: 16,
    }
}

/// Bytes of heap that an engine of this (validated) configuration sets aside.
pub(super) fn footprint<P: Port>(config: &EngineConfig) -> u64 {
    Connections::<P>::heap_bytes(config) + u64::from(config.workers) * P::heap_bytes(&port_setup(config))
}

impl<P: Port> Core<P> {
    /// The counters of the whole engine.
    pub(super) fn sum_stats(&self) -> Stats {
        let connections = &self.workers.connections;
        let mut stats = self.owners.stats();
        stats.pool_exhausted = connections.pool_exhausted.load(Relaxed);
        stats.pool_blocks = connections.blocks.count().into();
        stats.pool_blocks_in_use = connections.blocks.in_use().into();
        stats.pool_blocks_peak = connections.blocks.peak().into();
        let mut max_ns = 0;
        let mut total_ns = 0;
        for link in &connections.links {
            stats.slow_callbacks += link.callbacks.slow.load(Relaxed);
            max_ns = max_ns.max(link.callbacks.max_ns.load(Relaxed));
            total_ns += link.callbacks.total_ns.load(Relaxed);
        }
        stats.callback_max_us = max_ns / 1000;
        stats.callback_total_us = total_ns / 1000;
        stats.heap_bytes = footprint::<P>(&self.config);
        stats
    }
}

impl<P: Port> Engine for Core<P> {
    fn turn(&self, patience: Patience) -> Result<u32, Status> {
        self.turn_once(patience)
    }

    fn descriptor(&self) -> Outcome<OsHandle> {
        if !self.config.caller_driven {
            return Err(Failure::new(Status::State, "only a caller-driven engine has a descriptor to wait on"));
        }
        let link = &self.workers.connections.links[0];
        if link.parking.is_in_use() {
            return Err(Failure::new(Status::Os, "the engine's port is broken: its descriptors were closed"));
        }
        link.port.descriptor().map_err(|error| Failure::from_io("the engine's descriptor", &error))
    }

    fn wake(&self) -> Result<(), Status> {
        self.workers.connections.links.iter().for_each(WorkerLink::ring_for_the_host);
        Ok(())
    }

    fn stats(&self) -> Stats {
        self.sum_stats()
    }

    fn set_faults(&self, plan: FaultPlan) -> Outcome<()> {
        if !P::INJECTS_FAULTS {
            let message = "faults need an engine that was made for them: set WHARF_ENGINE_FAULTS in its flags";
            return Err(Failure::new(Status::State, message));
        }
        let plan = validated_plan(plan)?;
        self.workers.connections.links.iter().for_each(|link| link.port.set_faults(plan));
        Ok(())
    }

    #[cfg(feature = "testing")]
    fn counts(&self) -> super::counts::Counts {
        super::counts::of(&self.workers, &self.owners, &self.config)
    }

    fn destroy(&self, drain_ms: u32) -> Result<(), Status> {
        self.end(drain_ms)
    }

    fn server_create(&self, config: ServerConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        self.owners.create_server(config, handler, None)
    }

    #[cfg(feature = "testing")]
    fn server_create_length_prefixed(&self, config: ServerConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        let connections = &self.workers.connections;
        connections.can_layer()?;
        let layer =
            super::layers::length_prefix::LengthPrefix::new(&connections.blocks, connections.table.places.len())?;
        self.owners.create_server(config, handler, Some(Box::new(layer)))
    }

    fn server_start(&self, server: u64) -> Outcome<()> {
        self.owners.server(server)?.start()
    }

    fn server_stop(&self, server: u64, drain_ms: u32) -> Result<(), Status> {
        self.owners.server(server)?.stop(Stop { drain_ms, is_abrupt: false, destroys: false });
        Ok(())
    }

    fn server_wait(&self, server: u64, patience: Patience) -> Result<(), Status> {
        self.workers.connections.may_block()?;
        self.owners.server(server)?.wait(patience)
    }

    fn server_destroy(&self, server: u64) -> Result<(), Status> {
        self.owners.server(server)?.stop(Stop { drain_ms: 0, is_abrupt: true, destroys: true });
        Ok(())
    }

    fn server_is_running(&self, server: u64) -> Result<bool, Status> {
        Ok(self.owners.server(server)?.is_running())
    }

    fn server_address(&self, server: u64) -> Result<String, Status> {
        Ok(self.owners.server(server)?.address())
    }

    fn server_connections(&self, server: u64, out: &mut dyn FnMut(u64)) -> Result<usize, Status> {
        Ok(self.owners.server(server)?.connections(out))
    }

    fn server_broadcast(&self, server: u64, data: &[u8], except: u64) -> Result<Broadcast, Status> {
        Ok(self.owners.server(server)?.broadcast(data, except))
    }

    fn server_stats(&self, server: u64) -> Result<Stats, Status> {
        Ok(self.owners.server(server)?.stats())
    }

    fn client_create(&self, config: ClientConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        self.owners.create_client(config, handler)
    }

    fn client_start(&self, client: u64) -> Outcome<()> {
        self.owners.client(client)?.start()
    }

    fn client_connection(&self, client: u64) -> Result<u64, Status> {
        self.owners.client(client)?.connection()
    }

    fn client_wait(&self, client: u64, patience: Patience) -> Outcome<()> {
        self.workers.connections.may_block()?;
        self.owners.client(client)?.wait(patience)
    }

    fn client_stop(&self, client: u64) -> Result<(), Status> {
        self.owners.client(client)?.stop(Close::Flush, false);
        Ok(())
    }

    fn client_destroy(&self, client: u64) -> Result<(), Status> {
        self.owners.client(client)?.stop(Close::Due, true);
        Ok(())
    }

    fn client_stats(&self, client: u64) -> Result<Stats, Status> {
        Ok(self.owners.client(client)?.stats())
    }
}

//! Every knob: default, range, unit. Validated once, here; the rest of the engine trusts what it is given.

use std::sync::Arc;

use super::events::Log;
use super::failure::Failure;
use crate::pool::handle::MAX_INDEX;
use crate::port::{FaultPlan, ListenOptions, StreamOptions};
use crate::status::Status;

/// `workers`: one worker a core.
pub const WORKERS_ONE_A_CORE: u32 = u32::MAX;
/// The most workers of one engine.
pub const MAX_WORKERS: u32 = 256;
/// The most servers of one engine.
pub const MAX_SERVERS: u32 = 64;
/// The most threads that resolve names.
const MAX_RESOLVER_THREADS: u32 = 64;

/// Which port the engine runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PortChoice {
    /// The fastest that the system has.
    #[default]
    Auto,
    /// Linux epoll.
    Epoll,
    /// The `polling` crate.
    Polling,
    /// The simulated world of the calling thread.
    #[cfg(feature = "simulation")]
    Sim,
}

/// An engine's knobs; a zero means the default.
#[derive(Clone, Default)]
pub struct EngineConfig {
    /// Worker threads: 1..=256, or [`WORKERS_ONE_A_CORE`]; default 1. Ignored (one) when caller-driven.
    pub workers: u32,
    /// No threads: the caller turns the engine.
    pub caller_driven: bool,
    /// Connections of all servers and clients together: 1..=1_048_575; default 1024.
    pub max_connections: u32,
    /// One block of the pool: 256..=1 MiB, a multiple of 64; default 4096.
    pub buffer_bytes: u32,
    /// The whole pool: at least one block, at most 64 GiB; rounded down to whole blocks; default 16 MiB.
    pub pool_bytes: u64,
    /// Each worker's receive buffer: 1 KiB..=16 MiB; default 56 KiB.
    pub receive_buffer_bytes: u32,
    /// Which port.
    pub port: PortChoice,
    /// Faults can be injected.
    pub faults: bool,
    /// Callbacks that take longer are counted and logged: milliseconds; default 100.
    pub slow_callback_ms: u32,
    /// Where log lines go.
    pub log: Option<Arc<dyn Log>>,
    /// Threads that resolve names, once there is a client with one: 1..=64; default 2.
    pub resolver_threads: u32,
    /// The stack of each worker thread: 64 KiB..=1 GiB; 0: as large as the system makes it.
    pub worker_stack_bytes: u32,
}

/// Less than the largest segment that the system makes (64 KiB with its headers): 64 KiB that are sent on would leave as
/// such a segment and a tiny one behind it, which costs three times as much (docs/performance.md).
const RECEIVE_BUFFER_BYTES: u32 = 56 << 10;

fn within(name: &str, value: u64, least: u64, most: u64) -> Result<(), Failure> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Failure::new(
        Status::InvalidArgument,
        format!("{name} is {value}: choose {least} to {most}, or 0 for the default"),
    ))
}

/// A knob that means nothing without another.
fn needs((name, value): (&str, u32), (other, of_other): (&str, u32)) -> Result<(), Failure> {
    if value == 0 || of_other > 0 {
        return Ok(());
    }
    Err(Failure::new(Status::InvalidArgument, format!("{name} is {value} but {other} is 0: set both, or none")))
}

impl EngineConfig {
    /// The same with every default filled in, or what is wrong with it.
    pub fn validated(&self) -> Result<EngineConfig, Failure> {
        let mut config = self.clone();
        let or = |value: u32, default: u32| if value == 0 { default } else { value };
        config.workers = match self.workers {
            _ if self.caller_driven => 1,
            WORKERS_ONE_A_CORE => std::thread::available_parallelism().map_or(1, |n| n.get() as u32).min(MAX_WORKERS),
            workers => or(workers, 1),
        };
        config.max_connections = or(self.max_connections, 1024);
        config.buffer_bytes = or(self.buffer_bytes, 4096);
        config.pool_bytes = if self.pool_bytes == 0 { 16 << 20 } else { self.pool_bytes };
        config.receive_buffer_bytes = or(self.receive_buffer_bytes, RECEIVE_BUFFER_BYTES);
        config.slow_callback_ms = or(self.slow_callback_ms, 100);
        config.resolver_threads = or(self.resolver_threads, 2);
        within("workers", config.workers.into(), 1, MAX_WORKERS.into())?;
        within("max_connections", config.max_connections.into(), 1, MAX_INDEX.into())?;
        within("buffer_bytes", config.buffer_bytes.into(), 256, 1 << 20)?;
        within("pool_bytes", config.pool_bytes, config.buffer_bytes.into(), 64 << 30)?;
        within("receive_buffer_bytes", config.receive_buffer_bytes.into(), 1 << 10, 16 << 20)?;
        within("resolver_threads", config.resolver_threads.into(), 1, MAX_RESOLVER_THREADS.into())?;
        if config.worker_stack_bytes > 0 {
            within("worker_stack_bytes", config.worker_stack_bytes.into(), 64 << 10, 1 << 30)?;
        }
        if config.buffer_bytes % 64 != 0 {
            return Err(Failure::new(
                Status::InvalidArgument,
                format!("buffer_bytes is {}: choose a multiple of 64", config.buffer_bytes),
            ));
        }
        Ok(config)
    }

    /// Blocks of the pool.
    pub fn blocks(&self) -> u32 {
        (self.pool_bytes / u64::from(self.buffer_bytes)).min(u64::from(u32::MAX - 1)) as u32
    }
}

/// The knobs of each connection of a server or client; a zero means the default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionConfig {
    /// The most bytes that may wait in one connection's queue: 1..=1 GiB; default 256 KiB.
    pub send_queue_limit_bytes: u32,
    /// Deadlines.
    pub timeouts: Timeouts,
    /// How long a flushing close waits for its bytes to leave and for the peer's FIN: milliseconds; default 5,000.
    pub linger_ms: u32,
    /// Options of the socket.
    pub stream: StreamOptions,
    /// How fast the peer must send (servers).
    pub min_receive: MinReceive,
}

/// The least rate at which a peer must send while it sends.
#[derive(Clone, Copy, Debug, Default)]
pub struct MinReceive {
    /// Bytes a second: 0..=1 GiB; 0: no bound.
    pub bytes_per_s: u32,
    /// How long it may take longer than that: milliseconds; default 5,000.
    pub grace_ms: u32,
}

/// The deadlines that can be changed for each connection: milliseconds; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Close with `Idle` when nothing arrived and nothing left for this long.
    pub idle_ms: u32,
    /// Close with `FirstByte` when nothing arrived this long after the connection was made.
    pub first_byte_ms: u32,
    /// Close with `SendStalled` when bytes wait and the peer takes none for this long.
    pub send_stall_ms: u32,
}

/// The longest time that a knob takes: 24 days, so that the 32-bit clock of a connection never laps.
pub const MAX_TIMEOUT_MS: u32 = i32::MAX as u32;

impl Timeouts {
    /// Unchanged when every deadline is in range.
    pub fn validated(self) -> Result<Timeouts, Failure> {
        for (name, value) in [
            ("idle_timeout_ms", self.idle_ms),
            ("first_byte_timeout_ms", self.first_byte_ms),
            ("send_stall_timeout_ms", self.send_stall_ms),
        ] {
            within(name, value.into(), 0, MAX_TIMEOUT_MS.into())?;
        }
        Ok(self)
    }
}

impl MinReceive {
    fn validated(mut self) -> Result<MinReceive, Failure> {
        within("min_receive_bytes_per_s", self.bytes_per_s.into(), 0, 1 << 30)?;
        within("min_receive_grace_ms", self.grace_ms.into(), 0, MAX_TIMEOUT_MS.into())?;
        needs(("min_receive_grace_ms", self.grace_ms), ("min_receive_bytes_per_s", self.bytes_per_s))?;
        if self.grace_ms == 0 {
            self.grace_ms = 5_000;
        }
        Ok(self)
    }
}

impl ConnectionConfig {
    /// The same with every default filled in, or what is wrong with it.
    pub fn validated(mut self) -> Result<ConnectionConfig, Failure> {
        if self.send_queue_limit_bytes == 0 {
            self.send_queue_limit_bytes = 256 << 10;
        }
        if self.linger_ms == 0 {
            self.linger_ms = 5_000;
        }
        within("send_queue_limit_bytes", self.send_queue_limit_bytes.into(), 1, 1 << 30)?;
        within("linger_ms", self.linger_ms.into(), 1, MAX_TIMEOUT_MS.into())?;
        for (name, value, most) in [
            ("keepalive_s", self.stream.keepalive_s, 32_767),
            ("keepalive_interval_s", self.stream.keepalive_interval_s, 32_767),
            ("keepalive_probes", self.stream.keepalive_probes, 127),
            ("socket_send_buffer_bytes", self.stream.send_buffer_bytes, 1 << 30),
            ("socket_receive_buffer_bytes", self.stream.receive_buffer_bytes, 1 << 30),
        ] {
            within(name, value.into(), 0, most)?;
        }
        self.timeouts = self.timeouts.validated()?;
        self.min_receive = self.min_receive.validated()?;
        Ok(self)
    }
}

/// What a server does with a connection that is one too many.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AtLimit {
    /// Leave it in the backlog until a place is free.
    #[default]
    Wait,
    /// Accept and reset it, and count.
    Reject,
}

/// A server's knobs; a zero means the default.
#[derive(Clone, Debug, Default)]
pub struct ServerConfig {
    /// "0.0.0.0:8088", ":8088" (dual-mode), "[::1]:0", "unix:/run/x.sock".
    pub address: Option<String>,
    /// An inherited descriptor that listens, instead of an address.
    pub listen_fd: Option<i32>,
    /// Connections of this server; default: the engine's.
    pub max_connections: u32,
    /// At the limit.
    pub at_limit: AtLimit,
    /// Backlog (0: max_connections), V6ONLY, REUSEPORT.
    pub listen: ListenOptions,
    /// Connections from one address (IPv6: from one /64); 0: no bound.
    pub max_connections_per_ip: u32,
    /// Each connection.
    pub connection: ConnectionConfig,
    /// Address blocks that are let in; None or empty: all.
    pub allow: Option<String>,
    /// Address blocks that are not.
    pub deny: Option<String>,
    /// Connections let in a second: 0..=1,000,000; 0: no bound.
    pub accept_rate_per_s: u32,
    /// Connections let in at once after a rest; default: those of a second.
    pub accept_burst: u32,
}

/// The most connections a second that a bucket can count.
pub const MAX_ACCEPT_RATE: u32 = 1_000_000;

impl ServerConfig {
    /// The same with every default filled in that does not depend on the engine, or what is wrong with it.
    pub fn validated(mut self) -> Result<ServerConfig, Failure> {
        self.connection = self.connection.validated()?;
        within("accept_rate_per_s", self.accept_rate_per_s.into(), 0, MAX_ACCEPT_RATE.into())?;
        within("accept_burst", self.accept_burst.into(), 0, MAX_ACCEPT_RATE.into())?;
        needs(("accept_burst", self.accept_burst), ("accept_rate_per_s", self.accept_rate_per_s))?;
        if self.accept_burst == 0 {
            self.accept_burst = self.accept_rate_per_s;
        }
        Ok(self)
    }
}

/// A client's knobs; a zero means the default.
#[derive(Clone, Debug, Default)]
pub struct ClientConfig {
    /// "example.org:80", "[::1]:80", "unix:/run/x.sock".
    pub address: String,
    /// Where to connect from: "192.0.2.1:0"; None: the system chooses.
    pub local_address: Option<String>,
    /// Resolving and connecting together; default 10,000.
    pub connect_timeout_ms: u32,
    /// The first pause before another attempt; default 100 when `reconnect_max_ms` is set.
    pub reconnect_min_ms: u32,
    /// The longest pause; 0: never connect again.
    pub reconnect_max_ms: u32,
    /// Attempts in a row that may fail before giving up; 0: no bound.
    pub reconnect_attempts: u32,
    /// A connection that was open for less did not last: milliseconds; default 5,000.
    pub reconnect_stable_ms: u32,
    /// The connection.
    pub connection: ConnectionConfig,
}

impl ClientConfig {
    /// The same with every default filled in, or what is wrong with it. Addresses are judged where they are parsed.
    pub fn validated(mut self) -> Result<ClientConfig, Failure> {
        if self.connect_timeout_ms == 0 {
            self.connect_timeout_ms = 10_000;
        }
        if self.reconnect_max_ms > 0 && self.reconnect_min_ms == 0 {
            self.reconnect_min_ms = self.reconnect_max_ms.min(100);
        }
        if self.reconnect_stable_ms == 0 {
            self.reconnect_stable_ms = 5_000;
        }
        within("connect_timeout_ms", self.connect_timeout_ms.into(), 1, MAX_TIMEOUT_MS.into())?;
        within("reconnect_max_ms", self.reconnect_max_ms.into(), 0, MAX_TIMEOUT_MS.into())?;
        within("reconnect_stable_ms", self.reconnect_stable_ms.into(), 1, MAX_TIMEOUT_MS.into())?;
        if self.reconnect_min_ms > self.reconnect_max_ms {
            return Err(Failure::new(
                Status::InvalidArgument,
                format!(
                    "reconnect_min_ms is {} and reconnect_max_ms {}: set the maximum to at least the minimum",
                    self.reconnect_min_ms, self.reconnect_max_ms
                ),
            ));
        }
        self.connection = self.connection.validated()?;
        Ok(self)
    }
}

/// The same with every default filled in, or what is wrong with it.
pub fn validated_plan(mut plan: FaultPlan) -> Result<FaultPlan, Failure> {
    if plan.stall_ms == 0 {
        plan.stall_ms = 20;
    }
    for (name, ppm) in [
        ("short_reads_ppm", plan.short_reads_ppm),
        ("short_writes_ppm", plan.short_writes_ppm),
        ("read_stalls_ppm", plan.read_stalls_ppm),
        ("write_stalls_ppm", plan.write_stalls_ppm),
        ("resets_ppm", plan.resets_ppm),
        ("accept_exhaustions_ppm", plan.accept_exhaustions_ppm),
        ("connect_exhaustions_ppm", plan.connect_exhaustions_ppm),
        ("pool_exhaustions_ppm", plan.pool_exhaustions_ppm),
    ] {
        within(name, ppm.into(), 0, 1_000_000)?;
    }
    within("stall_ms", plan.stall_ms.into(), 1, 60_000)?;
    Ok(plan)
}

//! Counters. The hot ones live in each connection, written by one thread; the sums are made when somebody asks.

use crate::status::Status;

/// Why a connection was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// By the lists of address blocks.
    ByList,
    /// By the accept rate.
    ByRate,
    /// By the user, who was asked.
    ByHost,
    /// At the limit of connections.
    AtLimit,
    /// At the limit of one address.
    PerIp,
}

/// What a connection has moved so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
    /// Receives delivered.
    pub messages_in: u64,
    /// Sends taken.
    pub messages_out: u64,
    /// Bytes that wait in its queue now.
    pub queued_bytes: u64,
    /// Sends refused because the queue was full.
    pub queue_full: u64,
}

impl Traffic {
    /// Adds another's.
    pub fn add(&mut self, from: &Traffic) {
        self.bytes_in += from.bytes_in;
        self.bytes_out += from.bytes_out;
        self.messages_in += from.messages_in;
        self.messages_out += from.messages_out;
        self.queue_full += from.queue_full;
        self.queued_bytes += from.queued_bytes;
    }
}

/// Counters of an engine, a server or a client. Conservation: `accepted + connected = open + closed`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Connections accepted and given a place.
    pub accepted: u64,
    /// Connects that succeeded.
    pub connected: u64,
    /// Connects that failed.
    pub connect_failures: u64,
    /// Connections that live now.
    pub open: u64,
    /// Connections that are gone, for whatever reason.
    pub closed: u64,
    /// The same by reason.
    pub closed_by: Closed,
    /// Connections that were accepted and reset at the limit of connections.
    pub refused_at_limit: u64,
    /// Connections that were accepted and reset at the limit of one address.
    pub refused_per_ip: u64,
    /// What its connections, gone and here, have moved.
    pub traffic: Traffic,
    /// Sends refused because the pool was exhausted (engine only).
    pub pool_exhausted: u64,
    /// Blocks of the pool (engine only).
    pub pool_blocks: u64,
    /// Blocks in use now (engine only).
    pub pool_blocks_in_use: u64,
    /// The most that ever were (engine only).
    pub pool_blocks_peak: u64,
    /// How often accepting was paused at the limit.
    pub accept_pauses: u64,
    /// How often accepting backed off because descriptors or memory ran out.
    pub descriptor_exhaustions: u64,
    /// Connections that ended while their server was stopping, and whose bytes had all been handed to the kernel.
    pub drained: u64,
    /// Connections that a deadline reset while their server was stopping, with bytes unsent.
    pub drain_resets: u64,
    /// Callbacks that took longer than `slow_callback_ms` (engine only).
    pub slow_callbacks: u64,
    /// The longest callback in microseconds (engine only).
    pub callback_max_us: u64,
    /// Time in callbacks in microseconds (engine only).
    pub callback_total_us: u64,
    /// Bytes of heap set aside (engine only); equals the footprint.
    pub heap_bytes: u64,
    /// Connections that were accepted and reset by the lists of address blocks.
    pub refused_by_list: u64,
    /// Connections that were accepted and reset by the accept rate.
    pub refused_by_rate: u64,
    /// Connections that were accepted and reset because the user said so.
    pub refused_by_host: u64,
}

impl Stats {
    /// Adds those of a server or client to the engine's.
    pub fn add(&mut self, from: &Stats) {
        self.traffic.add(&from.traffic);
        self.accepted += from.accepted;
        self.connected += from.connected;
        self.connect_failures += from.connect_failures;
        self.open += from.open;
        self.closed += from.closed;
        self.closed_by.add(&from.closed_by);
        self.refused_at_limit += from.refused_at_limit;
        self.refused_per_ip += from.refused_per_ip;
        self.refused_by_list += from.refused_by_list;
        self.refused_by_rate += from.refused_by_rate;
        self.refused_by_host += from.refused_by_host;
        self.accept_pauses += from.accept_pauses;
        self.descriptor_exhaustions += from.descriptor_exhaustions;
        self.drained += from.drained;
        self.drain_resets += from.drain_resets;
    }

    /// Counts a connection that was not let in.
    pub fn count_refusal(&mut self, why: Refusal) {
        match why {
            Refusal::ByList => self.refused_by_list += 1,
            Refusal::ByRate => self.refused_by_rate += 1,
            Refusal::ByHost => self.refused_by_host += 1,
            Refusal::AtLimit => self.refused_at_limit += 1,
            Refusal::PerIp => self.refused_per_ip += 1,
        }
    }
}

/// Closes by reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct Closed {
    /// By us, as asked.
    pub by_us: u64,
    /// By the peer's FIN.
    pub by_peer: u64,
    /// By the peer's RST.
    pub by_reset: u64,
    /// By a deadline: idle, first byte, send stall, linger.
    pub by_timeout: u64,
    /// By a stop of the server, client or engine.
    pub by_stop: u64,
    /// By anything else.
    pub by_error: u64,
}

impl Closed {
    /// Counts one.
    pub fn count(&mut self, reason: Status) {
        let place = match reason {
            Status::Ok => &mut self.by_us,
            Status::EndOfStream => &mut self.by_peer,
            Status::Reset => &mut self.by_reset,
            Status::Idle | Status::FirstByte | Status::SendStalled | Status::TooSlow | Status::Timeout => {
                &mut self.by_timeout
            }
            Status::Stopped => &mut self.by_stop,
            _ => &mut self.by_error,
        };
        *place += 1;
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Closed) {
        self.by_us += other.by_us;
        self.by_peer += other.by_peer;
        self.by_reset += other.by_reset;
        self.by_timeout += other.by_timeout;
        self.by_stop += other.by_stop;
        self.by_error += other.by_error;
    }
}

/// Counters of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConnectionStats {
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes handed to the kernel.
    pub bytes_out: u64,
    /// Receives delivered.
    pub messages_in: u64,
    /// Sends taken.
    pub messages_out: u64,
    /// Bytes that wait in the queue.
    pub queued_bytes: u64,
    /// Milliseconds since it was made.
    pub age_ms: u64,
    /// Milliseconds since bytes last arrived or left.
    pub idle_ms: u64,
    /// Which worker it belongs to.
    pub worker: u32,
}

//! Who sends too slowly (rate_meter.rs has how that is measured).

use std::sync::atomic::Ordering::*;

use super::rate_meter::Seen;
use super::state::{Connection, PAUSED, PULL};
use super::turn::Turn;
use crate::engine::config::MinReceive;
use crate::port::Port;

impl<P: Port> Turn<'_, P> {
    /// The rate that is asked of a connection's peer, if one is.
    pub(super) fn least_rate_of(&self, connection: &Connection<P>) -> Option<MinReceive> {
        let owner = self.state.owners.get(connection.owner.load(Relaxed) as usize)?.as_ref()?;
        let least = owner.config.min_receive;
        (least.bytes_per_s > 0 && !connection.has(PULL)).then_some(least)
    }

    /// Whether a connection's peer sends too slowly.
    pub(super) fn is_too_slow(&self, index: u32, least: MinReceive) -> bool {
        let connection = &self.connections.table.places[index as usize];
        let seen = Seen {
            received_ms: connection.times.received_ms.load(Relaxed),
            sent_ms: connection.times.sent_ms.load(Relaxed),
            bytes: connection.received.bytes.load(Relaxed),
            is_paused: connection.has(PAUSED),
        };
        connection.is_open() && self.connections.table.cold[index as usize].rate.is_too_slow(least, seen)
    }
}

//! The same bytes to all connections of a server.

use super::server::Server;
use crate::engine::connection::outgoing::Outgoing;
use crate::engine::connection::state::Phase;
use crate::engine::connection::turn_context;
use crate::pool::lock;
use crate::port::Port;

/// How many connections a broadcast reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// Connections that took the bytes.
    pub taken: u32,
    /// Connections whose queue or the pool had no room, or that were closing.
    pub refused: u32,
}

impl<P: Port> Server<P> {
    /// Sends to all connections but `except` (0: to all).
    pub fn broadcast(&self, data: &[u8], except: u64) -> Broadcast {
        let connections = &*self.workers.connections;
        let blocks = &connections.blocks;
        // With those that are begun.
        let blocks_of_data = (data.len() / blocks.block_bytes() as usize) as u32 + 2;
        let mut reached = Broadcast::default();
        turn_context::with(|context| {
            let members = lock(&self.owner.members);
            for index in &members.places {
                let index = *index;
                let connection = &connections.table.places[index as usize];
                if connection.phase() != Phase::Open || connections.table.handle_of(index).to_bits() == except {
                    continue;
                }
                let own =
                    context.map(|context| &context.caller).filter(|caller| connections.is_own(caller, connection));
                if let Some(own) = own.filter(|_| blocks.available() <= blocks_of_data) {
                    // What is held back for all of them together is too much for the pool.
                    while connections.flush_corks(own, connections.clock_ms()) {}
                }
                match connections.lock(index).send_any(&Outgoing::new(&[data], 0), own) {
                    Ok(()) => reached.taken += 1,
                    Err(_) => reached.refused += 1,
                }
            }
        });
        reached
    }
}

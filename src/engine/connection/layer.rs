//! What stands between the stream of a connection and its handler: bytes that came go up through it, sends go down. A layer
//! sees a connection, as a place that it may keep something for, and blocks of the pool, and nothing above.

// The layers that there are so far are those of tests.
#![cfg_attr(not(feature = "testing"), allow(dead_code))]

use super::outgoing::Outgoing;
use crate::pool::blocks::{Blocks, Chain};
use crate::status::Status;

/// A layer of all connections of one server or client. What it keeps for a connection is in blocks of the pool, and only
/// for as long as it needs it. A connection is in one of its calls at a time, but for sends.
pub trait Layer: Send + Sync {
    /// Bytes came. It hands up what is complete, for as long as it is wanted, and keeps the rest, for which there are blocks.
    /// An error: what came cannot be, and the connection is closed for that reason.
    fn received(&self, held: &mut Held<'_>, index: u32, data: &[u8], up: &mut dyn Up) -> Result<(), Status>;
    /// The user wants more again: what was kept and is complete goes up.
    fn resumed(&self, blocks: &Blocks, index: u32, up: &mut dyn Up) -> Result<(), Status>;
    /// A send of the user: it becomes one of the connection, whole or not at all.
    fn send(&self, out: &Outgoing<'_>, down: &mut dyn Down) -> Result<(), Status>;
    /// The connection is gone: what was kept for it is given back.
    fn ended(&self, blocks: &Blocks, index: u32);
}

/// What is above a layer: another, or the handler.
pub trait Up {
    /// Takes bytes. False: no more is wanted for now.
    fn deliver(&mut self, data: &[u8]) -> bool;
}

/// What is below a layer: another, or the queue.
pub trait Down {
    /// Takes a send, whole or not at all.
    fn send(&mut self, out: &Outgoing<'_>) -> Result<(), Status>;
}

/// Blocks that were reserved before a receive: enough for all that it can bring.
pub struct Held<'a> {
    pub blocks: &'a Blocks,
    count: u32,
}

impl<'a> Held<'a> {
    /// So many are reserved.
    pub(super) fn new(blocks: &'a Blocks, count: u32) -> Held<'a> {
        Held { blocks, count }
    }

    /// Keeps bytes.
    pub fn push(&mut self, chain: &mut Chain, data: &[u8]) {
        self.count -= chain.blocks_for(self.blocks, data.len());
        chain.push_reserved(self.blocks, data);
    }

    /// How many are left.
    pub(super) fn left(self) -> u32 {
        self.count
    }
}

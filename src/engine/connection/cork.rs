//! What a callback sends is held back until it returns, and leaves in one system call.
//!
//! The first connection that a callback sends to has its bytes in the worker's own buffer, beside the queue, so the
//! usual case - an answer - touches no memory that another thread writes. Whatever else a callback sends waits in the
//! queues of its connections; when those are many they leave a few at a time, and what arrives meanwhile is looked at in
//! between: what it makes a callback send then leaves together with what waits still. Either way the pool has room for it:
//! nothing that was taken can fail for want of blocks.

use std::collections::VecDeque;

use crate::pool::blocks::Blocks;
use crate::pool::room::{self, NoMemory};

/// The most bytes that are held back in the worker's own buffer. A send of at least this many goes straight to the kernel
/// (behind what is held back): the copy would cost more than the system call that it saves.
pub const CORK_BYTES: usize = 16 << 10;

/// Queues that are flushed before the port is asked again.
pub const FLUSHES_AT_ONCE: usize = 64;

/// One worker's held-back bytes.
pub struct Cork {
    /// Those of one connection, all of them before what is in its queue.
    pub bytes: Vec<u8>,
    /// Which connection; its `corked_bytes` tell how many of `bytes` are its.
    pub index: u32,
    /// Connections with bytes in their queues; room for as many as there can be is set aside.
    pub queued: VecDeque<u32>,
    /// Blocks are reserved into which all of `bytes` would fit.
    is_backed: bool,
    backing: u32,
}

/// Blocks that back one worker's buffer. A pool sets that many aside for each worker, unless it is small.
pub fn backing_blocks(block_bytes: u32) -> u32 {
    CORK_BYTES.div_ceil(block_bytes as usize) as u32
}

/// Bytes of heap that a worker's cork sets aside for engines of this many connections.
pub fn heap_bytes(max_connections: u32) -> u64 {
    CORK_BYTES as u64 + u64::from(max_connections) * size_of::<u32>() as u64
}

impl Cork {
    /// Nothing is held back. So many blocks that the pool has set aside are the backing; none: the buffer is not used.
    pub fn new(max_connections: u32, backing: u32) -> Result<Cork, NoMemory> {
        Ok(Cork {
            bytes: room::list(CORK_BYTES)?,
            index: 0,
            queued: room::queue(max_connections as usize)?,
            is_backed: backing > 0,
            backing,
        })
    }

    /// Whether `len` more bytes of a connection that has `corked_bytes` in here can be appended; otherwise they must wait
    /// in its queue.
    #[inline(always)]
    pub fn has_room(&mut self, blocks: &Blocks, index: u32, corked_bytes: u32, len: usize) -> bool {
        if corked_bytes == 0 {
            if !self.bytes.is_empty() && self.index != index {
                return false;
            }
            // What may be in here still is of a connection that was closed before it left.
            self.bytes.clear();
            self.index = index;
        }
        len <= CORK_BYTES - self.bytes.len() && (self.is_backed || self.back(blocks))
    }

    #[cold]
    fn back(&mut self, blocks: &Blocks) -> bool {
        self.is_backed = self.backing > 0 && blocks.reserve(self.backing);
        self.is_backed
    }

    /// The backing was used for `len` bytes, to put them into a queue; others are reserved in its stead, now or later.
    #[cold]
    pub fn use_backing(&mut self, blocks: &Blocks, len: usize) {
        let used = len.div_ceil(blocks.block_bytes() as usize) as u32;
        if !blocks.reserve(used) {
            blocks.unreserve(self.backing - used);
            self.is_backed = false;
        }
    }
}

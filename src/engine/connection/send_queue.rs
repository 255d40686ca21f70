//! The bounded queue of one connection: bytes that wait for the kernel, and marks that say which send ends where.

use std::io::{self, IoSlice};

use crate::pool::blocks::{Blocks, Chain};
use crate::port::Port;

/// The most pieces of one write.
const PIECES: usize = 64;
/// A mark is the position of the send's end and its token.
const MARK_BYTES: usize = 16;

/// Bytes and marks of one connection, all of them in blocks of the pool.
#[derive(Debug)]
pub struct SendQueue {
    bytes: Chain,
    marks: Chain,
    /// Bytes taken from the user since the connection began.
    taken: u64,
    /// Of these, bytes handed to the kernel.
    sent: u64,
}

/// Blocks that a send needs at the most, reserved before anything is done.
#[must_use]
pub struct Reservation {
    bytes: u32,
    mark: u32,
}

impl Reservation {
    /// Gives it back unused: the send was not taken after all.
    pub fn release(self, blocks: &Blocks) {
        blocks.unreserve(self.bytes + self.mark);
    }
}

/// How a write to the kernel ended.
#[derive(Debug)]
pub enum Flushed {
    /// Everything left.
    All,
    /// The kernel has no more room.
    Blocked,
    /// The socket is broken.
    Failed(io::Error),
}

impl SendQueue {
    /// An empty queue.
    pub fn new(blocks: &Blocks) -> SendQueue {
        SendQueue { bytes: Chain::new(blocks), marks: Chain::new(blocks), taken: 0, sent: 0 }
    }

    /// Bytes that wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no byte waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes handed to the kernel since the connection began.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes taken that were not handed to the kernel, whether they wait or were thrown away.
    pub fn unsent(&self) -> u64 {
        self.taken - self.sent
    }

    /// Blocks that a send of `len` bytes needs at this moment.
    pub fn blocks_for(&self, blocks: &Blocks, len: usize, token: u64) -> u32 {
        let mark = if token == 0 { 0 } else { self.marks.blocks_for(blocks, MARK_BYTES) };
        self.bytes.blocks_for(blocks, len) + mark
    }

    /// Blocks that such a send needs when nothing else is queued: the most.
    pub fn blocks_when_empty(blocks: &Blocks, len: usize, token: u64) -> u32 {
        Chain::new(blocks).blocks_for(blocks, len) + u32::from(token != 0)
    }

    /// Reserves the blocks for `len` more bytes and, for a token, its mark; None when the pool has not enough.
    #[inline]
    pub fn reserve(&self, blocks: &Blocks, len: usize, token: u64) -> Option<Reservation> {
        let bytes = self.bytes.blocks_for(blocks, len);
        let mark = if token == 0 { 0 } else { self.marks.blocks_for(blocks, MARK_BYTES) };
        blocks.reserve(bytes + mark).then_some(Reservation { bytes, mark })
    }

    /// Queues all slices but the first `skip` bytes, which have gone to the kernel already; `len` is the length of all.
    pub fn push(&mut self, blocks: &Blocks, held: Reservation, slices: &[&[u8]], len: usize, skip: usize, token: u64) {
        debug_assert!(skip <= len);
        let used = self.bytes.blocks_for(blocks, len - skip);
        blocks.unreserve(held.bytes - used);
        let mut skip_here = skip;
        for slice in slices {
            let skipped = skip_here.min(slice.len());
            skip_here -= skipped;
            self.bytes.push_reserved(blocks, &slice[skipped..]);
        }
        self.taken += len as u64;
        self.sent += skip as u64;
        if token != 0 {
            let mut mark = [0; MARK_BYTES];
            mark[..8].copy_from_slice(&self.taken.to_le_bytes());
            mark[8..].copy_from_slice(&token.to_le_bytes());
            self.marks.push_reserved(blocks, &mark);
        } else {
            debug_assert_eq!(held.mark, 0);
        }
    }

    /// Writes what waits to the kernel until it is gone or the kernel has no room.
    pub fn flush<P: Port>(&mut self, blocks: &Blocks, socket: &P::Socket) -> Flushed {
        while !self.bytes.is_empty() {
            let sent = match self.bytes.only_slice(blocks) {
                Some(slice) => P::send(socket, &[slice]),
                None => {
                    let mut slices = [IoSlice::new(&[]); PIECES];
                    let count = self.bytes.slices(blocks, &mut slices);
                    P::send(socket, &slices[..count])
                }
            };
            match sent {
                Ok(len) => {
                    self.bytes.consume(blocks, len);
                    self.sent += len as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    #[cfg(feature = "simulation")]
                    if crate::engine::mutant::is_on(crate::engine::mutant::Mutant::BlockInFlight) {
                        self.bytes.give_head_early(blocks);
                    }
                    return Flushed::Blocked;
                }
                Err(error) => return Flushed::Failed(error),
            }
        }
        Flushed::All
    }

    /// Counts bytes that were taken from the user and are corked beside the queue.
    #[inline]
    pub fn count_corked(&mut self, len: usize) {
        self.taken += len as u64;
    }

    /// Bytes that were corked beside the queue leave: the first `sent` of them were handed to the kernel, the rest comes before
    /// all that is queued, in blocks that are reserved.
    #[inline]
    pub fn take_corked(&mut self, blocks: &Blocks, bytes: &[u8], sent: usize) {
        self.sent += sent as u64;
        if sent < bytes.len() {
            self.bytes.prepend_reserved(blocks, &bytes[sent..]);
        }
    }

    /// Whether a send with a token is complete and not yet told.
    pub fn has_complete_mark(&self, blocks: &Blocks) -> bool {
        self.first_mark(blocks).is_some_and(|(end, _)| end <= self.sent)
    }

    /// Takes the first mark: its token, and whether its bytes were all handed to the kernel.
    pub fn take_mark(&mut self, blocks: &Blocks, only_complete: bool) -> Option<(u64, bool)> {
        let (end, token) = self.first_mark(blocks)?;
        let complete = end <= self.sent;
        if only_complete && !complete {
            return None;
        }
        self.marks.consume(blocks, MARK_BYTES);
        Some((token, complete))
    }

    fn first_mark(&self, blocks: &Blocks) -> Option<(u64, u64)> {
        if self.marks.is_empty() {
            return None;
        }
        let mut slices = [IoSlice::new(&[])];
        self.marks.slices(blocks, &mut slices);
        let word = |from: usize| slices[0].get(from..from + 8)?.try_into().ok().map(u64::from_le_bytes);
        Some((word(0)?, word(8)?))
    }

    /// Throws the bytes away; marks stay, to be told.
    pub fn drop_bytes(&mut self, blocks: &Blocks) {
        self.bytes.clear(blocks);
    }

    /// Gives everything back and begins anew, for the next connection.
    pub fn reset(&mut self, blocks: &Blocks) {
        self.bytes.clear(blocks);
        self.marks.clear(blocks);
        self.taken = 0;
        self.sent = 0;
    }
}

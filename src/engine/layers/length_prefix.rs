//! The smallest layer that does all that a layer does: each message has its length before it, four bytes, most significant
//! first. For tests of the way through a layer; a message is at most a block long, so that it always lies in one piece.

use std::io::IoSlice;
use std::sync::Mutex;

use crate::engine::connection::layer::{Down, Held, Layer, Up};
use crate::engine::connection::outgoing::Outgoing;
use crate::engine::connection::send_steps::MAX_SLICES;
use crate::engine::mutant::{self, Mutant};
use crate::pool::blocks::{Blocks, Chain};
use crate::pool::lock;
use crate::pool::room::{self, NoMemory};
use crate::status::Status;

const HEADER_BYTES: usize = 4;
/// A message and its header are in so many blocks at the most.
const MOST_SLICES: usize = 3;

/// The layer.
pub struct LengthPrefix {
    /// What came of each connection and was not handed up: a part of a message, or more while the user wants no more.
    kept: Box<[Mutex<Chain>]>,
    most_bytes: usize,
}

/// What is kept for a connection, taken out while it is worked on: no lock is held while the user's code runs.
struct Kept<'a> {
    place: &'a Mutex<Chain>,
    chain: Chain,
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        std::mem::swap(&mut *lock(self.place), &mut self.chain);
    }
}

/// The length of the message that begins here, if that much is there.
fn length_at(data: &[u8]) -> Option<usize> {
    let header = data.get(..HEADER_BYTES)?.try_into().ok()?;
    Some(u32::from_be_bytes(header) as usize)
}

/// Copies the first bytes of what is kept; gives how many there were.
fn copy_front(blocks: &Blocks, chain: &Chain, to: &mut [u8]) -> usize {
    let mut slices = [IoSlice::new(&[]); MOST_SLICES];
    let count = chain.slices(blocks, &mut slices);
    let mut copied = 0;
    for slice in &slices[..count] {
        let length = slice.len().min(to.len() - copied);
        to[copied..copied + length].copy_from_slice(&slice[..length]);
        copied += length;
    }
    copied
}

/// Hands up the first bytes of what is kept, where they lie or, when they go from one block into the next, in one piece.
fn deliver_front(blocks: &Blocks, chain: &Chain, length: usize, up: &mut dyn Up) -> bool {
    let mut slices = [IoSlice::new(&[])];
    chain.slices(blocks, &mut slices);
    if let Some(message) = slices[0].get(..length) {
        return up.deliver(message);
    }
    let mut message = vec![0; length];
    copy_front(blocks, chain, &mut message);
    up.deliver(&message)
}

impl LengthPrefix {
    /// For so many connections.
    pub fn new(blocks: &Blocks, max_connections: usize) -> Result<LengthPrefix, NoMemory> {
        Ok(LengthPrefix {
            kept: room::filled(max_connections, |_| Mutex::new(Chain::new(blocks)))?,
            most_bytes: blocks.block_bytes() as usize - HEADER_BYTES,
        })
    }

    fn kept(&self, blocks: &Blocks, index: u32) -> Kept<'_> {
        let place = &self.kept[index as usize];
        Kept { place, chain: std::mem::replace(&mut *lock(place), Chain::new(blocks)) }
    }

    fn judge(&self, length: usize) -> Result<usize, Status> {
        if length <= self.most_bytes { Ok(length) } else { Err(Status::Limit) }
    }

    /// Bytes that the first message of what is kept lacks; 0: it is complete.
    fn lacks(&self, blocks: &Blocks, chain: &Chain) -> Result<usize, Status> {
        let mut header = [0; HEADER_BYTES];
        let there = copy_front(blocks, chain, &mut header);
        match length_at(&header[..there]) {
            None => Ok(HEADER_BYTES - there),
            Some(length) => Ok((HEADER_BYTES + self.judge(length)?).saturating_sub(chain.len())),
        }
    }

    /// Hands up what is complete of what is kept. True: more is wanted.
    fn hand_up(&self, blocks: &Blocks, kept: &mut Kept<'_>, up: &mut dyn Up) -> Result<bool, Status> {
        let mut header = [0_u8; HEADER_BYTES];
        while !kept.chain.is_empty() && self.lacks(blocks, &kept.chain)? == 0 {
            copy_front(blocks, &kept.chain, &mut header);
            let length = length_at(&header).unwrap_or_default();
            kept.chain.consume(blocks, HEADER_BYTES);
            let wants_more = deliver_front(blocks, &kept.chain, length, up);
            kept.chain.consume(blocks, length);
            if !wants_more {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Layer for LengthPrefix {
    fn received(&self, held: &mut Held<'_>, index: u32, mut data: &[u8], up: &mut dyn Up) -> Result<(), Status> {
        let blocks = held.blocks;
        let mut kept = self.kept(blocks, index);
        // The rest of a message that has begun.
        while !kept.chain.is_empty() && !data.is_empty() {
            let lacks = self.lacks(blocks, &kept.chain)?;
            let (rest, behind) = data.split_at(lacks.min(data.len()));
            held.push(&mut kept.chain, rest);
            data = behind;
            if self.lacks(blocks, &kept.chain)? == 0 && !self.hand_up(blocks, &mut kept, up)? {
                held.push(&mut kept.chain, data);
                return Ok(());
            }
        }
        // Whole messages are handed up where they lie.
        while let Some(length) = length_at(data) {
            let end = HEADER_BYTES + self.judge(length)?;
            let Some(message) = data.get(HEADER_BYTES..end) else { break };
            data = &data[end..];
            if !up.deliver(message) {
                if mutant::is_on(Mutant::RestForgotten) {
                    data = &[];
                }
                break;
            }
        }
        held.push(&mut kept.chain, data);
        Ok(())
    }

    fn resumed(&self, blocks: &Blocks, index: u32, up: &mut dyn Up) -> Result<(), Status> {
        let mut kept = self.kept(blocks, index);
        self.hand_up(blocks, &mut kept, up).map(|_| ())
    }

    fn send(&self, out: &Outgoing<'_>, down: &mut dyn Down) -> Result<(), Status> {
        if out.len > self.most_bytes || out.slices.len() == MAX_SLICES {
            return Err(Status::Limit);
        }
        let header = (out.len as u32).to_be_bytes();
        let mut slices: [&[u8]; MAX_SLICES] = [&[]; MAX_SLICES];
        slices[0] = &header;
        slices[1..=out.slices.len()].copy_from_slice(out.slices);
        down.send(&Outgoing::new(&slices[..=out.slices.len()], out.token))
    }

    fn ended(&self, blocks: &Blocks, index: u32) {
        self.kept(blocks, index).chain.clear(blocks);
    }
}

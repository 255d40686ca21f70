//! The buffer pool: one piece of memory, cut into blocks, and [`Chain`], a queue of bytes that is built of them.
//!
//! A block belongs to exactly one owner: the free list or one chain. Only that owner reads or writes it; this is what
//! makes the `unsafe` in this file sound. Before blocks are taken they are reserved, so that a send can be refused
//! whole before anything was done.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io::IoSlice;
use std::ptr::NonNull;

use super::lock;
use super::room::{self, NoMemory};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU32, Ordering};

const NONE: u32 = u32::MAX;
/// What `calloc` gives anyway: a larger alignment would make the allocator write zeros over the whole pool at the start.
const ALIGNMENT: usize = 16;

/// The pool.
#[derive(Debug)]
pub struct Blocks {
    memory: NonNull<u8>,
    block_bytes: u32,
    count: u32,
    /// Tells pools apart, so that a chain is never used with another pool's blocks.
    id: u32,
    /// For each block, the next of its chain or of the free list.
    links: Box<[AtomicU32]>,
    /// For each block that is not the last of its chain, where its bytes end.
    ends: Box<[AtomicU32]>,
    free: Mutex<u32>,
    /// Blocks that are neither taken nor reserved.
    available: AtomicU32,
    peak: AtomicU32,
}

// SAFETY: the memory behind `memory` is owned by this struct, and each block of it is touched only by its one owner (the
// rule at the head of this file), whose exclusive reference orders the accesses.
unsafe impl Send for Blocks {}
// SAFETY: as above; shared access to `Blocks` itself goes through atomics and a lock.
unsafe impl Sync for Blocks {}

impl Blocks {
    /// Sets aside `count` blocks (at least 1) of `block_bytes` each, zeroed, and `extra` ones beside them that count as
    /// reserved from the start: their holders may take them at any time, and reserve others in their stead.
    pub fn new(count: u32, extra: u32, block_bytes: u32) -> Result<Blocks, NoMemory> {
        static NEXT_ID: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let all = count.checked_add(extra).filter(|all| *all < NONE).expect("bounded by the configuration");
        assert!(count >= 1 && block_bytes >= 1, "an empty pool");
        let layout = Self::layout(all, block_bytes);
        let links = room::filled(all as usize, |index| {
            let next = index as u32 + 1;
            AtomicU32::new(if next == all { NONE } else { next })
        })?;
        let ends = room::filled(all as usize, |_| AtomicU32::new(0))?;
        // Last, so that nothing is left of it where there is no memory for the rest.
        // SAFETY: the layout has a size above zero, asserted above.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).ok_or(NoMemory)?;
        Ok(Blocks {
            memory,
            block_bytes,
            count,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            links,
            ends,
            free: Mutex::new(0),
            available: AtomicU32::new(count),
            peak: AtomicU32::new(0),
        })
    }

    /// Bytes of heap that [`Blocks::new`] sets aside for this many blocks in all.
    pub fn heap_bytes(all: u32, block_bytes: u32) -> u64 {
        u64::from(all) * (u64::from(block_bytes) + 2 * size_of::<AtomicU32>() as u64)
    }

    fn layout(count: u32, block_bytes: u32) -> Layout {
        Layout::from_size_align(count as usize * block_bytes as usize, ALIGNMENT).expect("bounded by the configuration")
    }

    /// How many blocks there are, without the extra ones.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of a block.
    #[inline]
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// How many can be reserved.
    #[inline]
    pub fn available(&self) -> u32 {
        self.available.load(Ordering::Acquire)
    }

    /// How many are taken or reserved.
    pub fn in_use(&self) -> u32 {
        // Extra blocks that came back before their holder reserved anew are above the count for a moment.
        self.count.saturating_sub(self.available())
    }

    /// The most that were ever in use.
    pub fn peak(&self) -> u32 {
        self.peak.load(Ordering::Relaxed)
    }

    /// Reserves `count` blocks, all or none.
    #[inline]
    pub fn reserve(&self, count: u32) -> bool {
        if count == 0 {
            return true;
        }
        let reserved =
            self.available.fetch_update(Ordering::AcqRel, Ordering::Acquire, |available| available.checked_sub(count));
        let Ok(before) = reserved else { return false };
        let in_use = (self.count + count).saturating_sub(before);
        if in_use > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(in_use, Ordering::Relaxed);
        }
        true
    }

    /// Gives back a reservation that was not used.
    #[inline]
    pub fn unreserve(&self, count: u32) {
        if count > 0 {
            self.available.fetch_add(count, Ordering::AcqRel);
        }
    }

    fn take_reserved(&self) -> u32 {
        let mut free = lock(&self.free);
        let index = *free;
        assert!(index != NONE, "a block was taken that was not reserved");
        *free = self.links[index as usize].load(Ordering::Relaxed);
        self.links[index as usize].store(NONE, Ordering::Relaxed);
        index
    }

    fn give(&self, index: u32) {
        let mut free = lock(&self.free);
        self.links[index as usize].store(*free, Ordering::Relaxed);
        *free = index;
        drop(free);
        self.available.fetch_add(1, Ordering::AcqRel);
    }

    fn start_of(&self, index: u32) -> *mut u8 {
        assert!((index as usize) < self.links.len(), "a block that is not of this pool");
        // SAFETY: the index is below the number of all blocks, so the offset is within the one allocation.
        unsafe { self.memory.as_ptr().add(index as usize * self.block_bytes as usize) }
    }

    fn next(&self, index: u32) -> u32 {
        self.links[index as usize].load(Ordering::Relaxed)
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout, and nobody holds a reference into it: those borrow `self`.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout(self.links.len() as u32, self.block_bytes)) };
    }
}

/// A queue of bytes in blocks of one pool. It does not hold the pool: hand the same one to each call, and call
/// [`Chain::clear`] before the chain is dropped, or its blocks are lost to the pool.
#[derive(Debug)]
pub struct Chain {
    head: u32,
    tail: u32,
    /// Bytes of the first block that are consumed.
    head_offset: u32,
    /// Bytes of the last block that are used.
    tail_used: u32,
    bytes: u32,
    pool: u32,
}

impl Chain {
    /// An empty queue for blocks of this pool.
    pub fn new(blocks: &Blocks) -> Chain {
        Chain { head: NONE, tail: NONE, head_offset: 0, tail_used: 0, bytes: 0, pool: blocks.id }
    }

    /// Bytes in the queue.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes as usize
    }

    /// Whether it holds nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// How many blocks must be reserved before `len` more bytes are pushed.
    #[inline]
    pub fn blocks_for(&self, blocks: &Blocks, len: usize) -> u32 {
        let room = if self.tail == NONE { 0 } else { (blocks.block_bytes - self.tail_used) as usize };
        len.saturating_sub(room).div_ceil(blocks.block_bytes as usize) as u32
    }

    /// Appends bytes, taking blocks of a reservation made with [`Chain::blocks_for`] and [`Blocks::reserve`].
    pub fn push_reserved(&mut self, blocks: &Blocks, mut data: &[u8]) {
        assert_eq!(self.pool, blocks.id, "a chain of another pool");
        while !data.is_empty() {
            if self.tail == NONE || self.tail_used == blocks.block_bytes {
                self.append_block(blocks);
            }
            let len = data.len().min((blocks.block_bytes - self.tail_used) as usize);
            // SAFETY: this chain owns the tail block (rule at the head of the file) and has `&mut self`; the range from
            // `tail_used` on is `len` bytes at most, checked above; `data` cannot overlap memory that we own alone.
            unsafe {
                let to = blocks.start_of(self.tail).add(self.tail_used as usize);
                std::ptr::copy_nonoverlapping(data.as_ptr(), to, len);
            }
            self.tail_used += len as u32;
            self.bytes += len as u32;
            data = &data[len..];
        }
    }

    fn append_block(&mut self, blocks: &Blocks) {
        let block = blocks.take_reserved();
        if self.tail == NONE {
            self.head = block;
            self.head_offset = 0;
        } else {
            self.follow_tail_with(blocks, block);
        }
        self.tail = block;
        self.tail_used = 0;
    }

    fn follow_tail_with(&self, blocks: &Blocks, block: u32) {
        blocks.ends[self.tail as usize].store(self.tail_used, Ordering::Relaxed);
        blocks.links[self.tail as usize].store(block, Ordering::Relaxed);
    }

    /// Puts bytes before all others, in reserved blocks of their own: `len` divided by the size of a block, rounded up.
    /// Nothing of the queue may be consumed yet.
    pub fn prepend_reserved(&mut self, blocks: &Blocks, data: &[u8]) {
        assert_eq!(self.head_offset, 0, "bytes before the front of a queue that moved on");
        if data.is_empty() {
            return;
        }
        let mut front = Chain::new(blocks);
        front.push_reserved(blocks, data);
        if self.tail == NONE {
            *self = front;
            return;
        }
        front.follow_tail_with(blocks, self.head);
        self.head = front.head;
        self.bytes += front.bytes;
    }

    /// Where the bytes of one of its blocks end.
    fn end_of(&self, blocks: &Blocks, block: u32) -> u32 {
        if block == self.tail { self.tail_used } else { blocks.ends[block as usize].load(Ordering::Relaxed) }
    }

    /// Fills `out` with the first pieces of the queue; gives how many.
    pub fn slices<'a>(&'a self, blocks: &'a Blocks, out: &mut [IoSlice<'a>]) -> usize {
        assert_eq!(self.pool, blocks.id, "a chain of another pool");
        let mut block = self.head;
        let mut from = self.head_offset;
        let mut filled = 0;
        while block != NONE && filled < out.len() {
            let to = self.end_of(blocks, block);
            // SAFETY: this chain owns the block and is borrowed for as long as the slice lives, so nobody writes it; the
            // range up to `to` was written by `push_reserved` (and the memory was zeroed at the start).
            out[filled] = IoSlice::new(unsafe {
                std::slice::from_raw_parts(blocks.start_of(block).add(from as usize), (to - from) as usize)
            });
            filled += 1;
            block = blocks.next(block);
            from = 0;
        }
        filled
    }

    /// The whole queue, when it lies in one block.
    #[inline]
    pub fn only_slice<'a>(&'a self, blocks: &'a Blocks) -> Option<IoSlice<'a>> {
        if self.head == NONE || self.head != self.tail {
            return None;
        }
        let mut slices = [IoSlice::new(&[])];
        self.slices(blocks, &mut slices);
        Some(slices[0])
    }

    /// Removes `len` bytes (at most [`Chain::len`]) from the front and gives their blocks back to the pool.
    pub fn consume(&mut self, blocks: &Blocks, mut len: usize) {
        assert_eq!(self.pool, blocks.id, "a chain of another pool");
        assert!(len <= self.len(), "more consumed than queued");
        self.bytes -= len as u32;
        while self.head != NONE {
            let here = (self.end_of(blocks, self.head) - self.head_offset) as usize;
            if len < here {
                self.head_offset += len as u32;
                return;
            }
            len -= here;
            let next = blocks.next(self.head);
            blocks.give(self.head);
            self.head = next;
            self.head_offset = 0;
        }
        self.tail = NONE;
        self.tail_used = 0;
    }

    /// A bug, on purpose: the first block is free although its bytes wait still.
    #[cfg(feature = "simulation")]
    pub fn give_head_early(&self, blocks: &Blocks) {
        blocks.give(self.head);
    }

    /// Gives every block back.
    pub fn clear(&mut self, blocks: &Blocks) {
        if self.head != NONE {
            self.consume(blocks, self.len());
        }
    }
}

#[cfg(test)]
#[path = "blocks_tests.rs"]
mod tests;

//! The sending side of a connection: what any thread may change, under the connection's lock. It is in one of five states:
//!
//! ```text
//!            a send in a callback              the callback has returned
//!          ┌────────────────────► CorkedInBuffer ────────────────────────┐
//!          │  ... of another       (what is queued is behind it)         │
//!          │  connection, or with                                        ▼
//!        Idle ──── a token ─────► CorkedInQueue ────── flush ─────► one write ──── all left ───► Idle
//!          │                                                         ▲   │
//!          ├─ sends of other threads, many ──► Queued ── the worker ─┘   └── no room ──► Blocked
//!          │                                                                              │  ▲
//!          └─ any other send: one write, as above                  the port tells of room ┘  └ more sends: queued
//! ```
//!
//! The steps are in send_steps.rs. Every step in which bytes have left, or were thrown away, ends in `Locked::tell_threads`,
//! by way of `Locked::settle` or by itself: who waits for room looks again.

use std::cell::RefCell;
use std::sync::Arc;

use super::close::Close;
use super::cork::Cork;
use super::owner::Owner;
use super::peer::Peer;
use super::send_queue::SendQueue;
use crate::engine::stats::Traffic;
use crate::likely::{likely, unlikely};
use crate::pool::blocks::Blocks;
use crate::pool::permits::Permit;
use crate::port::Port;
use crate::status::Status;

/// What happens to the bytes that wait, if any do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum SendState {
    /// Nothing waits.
    Idle,
    /// The worker's own buffer has the first bytes until the callback returns (see cork.rs); the queue is behind them.
    CorkedInBuffer,
    /// The queue waits until the callback returns; the connection is in the cork's list.
    CorkedInQueue,
    /// The queue waits for the worker, which was told.
    Queued,
    /// The kernel has no room; the port will say when it has.
    Blocked,
}

/// The sending side.
pub struct Sender<P: Port> {
    pub(super) socket: Option<P::Socket>,
    pub(super) queue: SendQueue,
    pub(super) state: SendState,
    /// Whether sends are taken, and go through no layer.
    pub(super) takes_plain_sends: bool,
    /// Bytes in the worker's buffer, before all that is queued.
    pub(super) corked_bytes: u32,
    pub(super) bounds: Bounds,
    pub(super) ending: Ending,
    pub(super) waits: Waits,
    /// Sends that were taken.
    pub(super) messages: u64,
    pub(super) peer: Peer,
    pub(super) owner: Option<Arc<Owner>>,
    /// Held for as long as the connection lives; dropping it gives it back.
    permit: Option<Permit>,
}

/// How much may wait, and how often that was too little.
#[derive(Default)]
pub struct Bounds {
    pub(super) limit: u32,
    pub(super) refused: u32,
}

/// The end that was asked for.
pub struct Ending {
    pub(super) close: Option<Close>,
    pub(super) reason: Status,
    pub(super) fin_sent: bool,
    /// It does not wait for the peer (see [`Close::Due`]).
    pub(super) is_due: bool,
    /// [`Close::Drain`]: in the end it is reset.
    pub(super) resets: bool,
    /// [`Close::Drain`]: it ends when nothing more is to be read, not with the stream.
    pub(super) until_empty: bool,
    /// When it began to wait for the peer's FIN, or to hand over what has come.
    pub(super) lingers_since_ms: u64,
}

impl Ending {
    /// None was asked for.
    const NONE: Ending = Ending {
        close: None,
        reason: Status::Ok,
        fin_sent: false,
        is_due: false,
        resets: false,
        until_empty: false,
        lingers_since_ms: 0,
    };
}

/// Who waits for what, in one number: hardly anybody does, which one look tells.
#[derive(Default)]
pub struct Waits(u32);

impl Waits {
    const THREADS: u32 = 0xffff;
    const OWES_WRITABLE: u32 = 1 << 16;
    const FOR_BLOCKS: u32 = 1 << 17;

    /// Threads wait, or `on_writable` is owed.
    #[inline(always)]
    pub(super) fn is_anybody_told(&self) -> bool {
        self.0 & (Self::THREADS | Self::OWES_WRITABLE) != 0
    }

    /// Threads are in `send_wait` or `receive_wait`.
    #[inline(always)]
    pub(super) fn has_threads(&self) -> bool {
        self.0 & Self::THREADS != 0
    }

    /// One more thread.
    pub(super) fn add_thread(&mut self) {
        self.0 += u32::from(self.0 & Self::THREADS < Self::THREADS);
    }

    /// One less.
    pub(super) fn remove_thread(&mut self) {
        self.0 -= u32::from(self.has_threads());
    }

    /// A send was refused: `on_writable` is owed.
    #[inline(always)]
    pub(super) fn owes_writable(&self) -> bool {
        self.0 & Self::OWES_WRITABLE != 0
    }

    /// Whether it is owed from now on; gives whether it was.
    pub(super) fn set_owes_writable(&mut self, owes: bool) -> bool {
        self.replace(Self::OWES_WRITABLE, owes)
    }

    /// Whether it stands in the engine's list of those that wait for blocks; gives whether it did.
    pub(super) fn set_for_blocks(&mut self, waits: bool) -> bool {
        self.replace(Self::FOR_BLOCKS, waits)
    }

    /// A place that is used again: the list of those that wait for blocks names places, and an entry of the connection
    /// before may be left in it.
    fn begin_anew(&mut self) {
        self.0 &= Self::FOR_BLOCKS;
    }

    fn replace(&mut self, bit: u32, value: bool) -> bool {
        let before = self.0 & bit != 0;
        self.0 = if value { self.0 | bit } else { self.0 & !bit };
        before
    }
}

/// What a connection held that has ended; dropped, it is given back.
pub(super) struct Vacated {
    pub ending: Ending,
    /// Every byte that was taken from the user was handed to the kernel.
    pub all_left: bool,
    pub peer: Peer,
    pub owner: Option<Arc<Owner>>,
    pub permit: Option<Permit>,
}

impl<P: Port> Sender<P> {
    /// Of a place that is free.
    pub fn vacant(blocks: &Blocks) -> Sender<P> {
        Sender {
            socket: None,
            queue: SendQueue::new(blocks),
            state: SendState::Idle,
            takes_plain_sends: false,
            corked_bytes: 0,
            bounds: Bounds::default(),
            ending: Ending::NONE,
            waits: Waits::default(),
            messages: 0,
            peer: Peer::default(),
            owner: None,
            permit: None,
        }
    }

    /// A new connection comes to this place, which is vacant.
    pub(super) fn occupy(&mut self, socket: P::Socket, peer: Peer, owner: Arc<Owner>, permit: Option<Permit>) {
        self.socket = Some(socket);
        self.ending = Ending::NONE;
        self.takes_plain_sends = owner.layer.is_none();
        self.bounds.limit = owner.config.send_queue_limit_bytes;
        self.peer = peer;
        self.owner = Some(owner);
        self.permit = permit;
    }

    /// Its connection has left: blocks are given back here, the rest when what this gives is dropped.
    pub(super) fn vacate(&mut self, blocks: &Blocks) -> Vacated {
        let all_left = self.queue.unsent() == 0;
        self.queue.reset(blocks);
        self.socket = None;
        self.state = SendState::Idle;
        self.takes_plain_sends = false;
        self.corked_bytes = 0;
        self.bounds = Bounds::default();
        // The reason stays, for threads that waited and wake up late.
        let nothing = Ending { reason: self.ending.reason, ..Ending::NONE };
        let ending = std::mem::replace(&mut self.ending, nothing);
        self.waits.begin_anew();
        self.messages = 0;
        Vacated { ending, all_left, peer: self.peer, owner: self.owner.take(), permit: self.permit.take() }
    }

    /// Whether sends are taken (still).
    #[inline]
    pub(super) fn takes_sends(&self) -> bool {
        self.ending.close.is_none() && self.socket.is_some()
    }

    /// How long a flushing close waits for the peer.
    pub(super) fn lingers_until_ms(&self) -> u64 {
        let linger_ms = self.owner.as_ref().map_or(0, |owner| owner.config.linger_ms);
        self.ending.lingers_since_ms + u64::from(linger_ms)
    }

    /// Bytes that wait to leave.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.queue.len() + self.corked_bytes as usize
    }

    /// What it has sent so far.
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            bytes_out: self.queue.sent(),
            messages_out: self.messages,
            queue_full: self.bounds.refused.into(),
            queued_bytes: self.waiting() as u64,
            ..Traffic::default()
        }
    }

    /// Step: a send in a callback of the connection's worker goes to the worker's buffer, if that can be.
    #[inline(always)]
    pub(super) fn cork(
        &mut self,
        blocks: &Blocks,
        index: u32,
        slices: &[&[u8]],
        len: usize,
        cork: &RefCell<Cork>,
    ) -> bool {
        let corked_bytes = self.corked_bytes;
        let is_behind = self.state > SendState::CorkedInBuffer || !self.queue.is_empty();
        // No bytes are none to cork; they wrap around to more than there is room for.
        if unlikely(is_behind || len.wrapping_sub(1) >= (self.bounds.limit - corked_bytes) as usize) {
            return false;
        }
        let cork = &mut *cork.borrow_mut();
        let has_room = cork.has_room(blocks, index, corked_bytes, len);
        if likely(has_room) {
            for slice in slices {
                cork.bytes.extend_from_slice(slice);
            }
            self.state = SendState::CorkedInBuffer;
            self.corked_bytes = corked_bytes + len as u32;
            self.queue.count_corked(len);
        }
        has_room
    }
}

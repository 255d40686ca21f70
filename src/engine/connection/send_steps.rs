//! The steps from one state of a connection's sending side to the next (sender.rs has the picture). Each is a method of
//! [`Locked`]: a connection whose lock is held.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering::*;

use super::caller::Caller;
use super::cork::{CORK_BYTES, Cork};
use super::locked::Locked;
use super::outgoing::Outgoing;
use super::send_queue::{Flushed, Reservation, SendQueue};
use super::sender::SendState;
use crate::likely::{likely, unlikely};
use crate::port::{Port, status_of};
use crate::status::Status;

/// The most slices of one send.
pub const MAX_SLICES: usize = 64;

impl<P: Port> Locked<'_, P> {
    /// The end of a write: this state comes next, and who waits for room is told.
    #[inline]
    fn settle(&mut self, state: SendState) {
        self.sender.state = state;
        if state == SendState::Idle {
            self.connection.unsettled.store(false, Release);
        }
        self.tell_threads();
    }

    /// Takes a send, on a connection that takes sends. `own` is given inside a callback of the connection's worker: there the send is corked.
    #[inline(always)]
    pub(super) fn send(&mut self, out: &Outgoing<'_>, own: Option<&Caller>) -> Result<(), Status> {
        let blocks = &self.connections.blocks;
        match own.filter(|_| out.token == 0) {
            Some(own) if self.sender.cork(blocks, self.index, out.slices, out.len, &own.cork) => {}
            _ if out.len == 0 && out.token == 0 => {}
            _ => self.send_uncorked(out, own)?,
        }
        self.sender.messages += 1;
        Ok(())
    }

    /// Takes a send into the queue, or hands it to the kernel.
    #[inline(never)]
    fn send_uncorked(&mut self, out: &Outgoing<'_>, own: Option<&Caller>) -> Result<(), Status> {
        let is_large = out.len >= CORK_BYTES;
        let is_in_the_way = out.token == 0 || is_large || out.len > self.room();
        let is_corked = self.sender.state == SendState::CorkedInBuffer;
        if let Some(own) = own.filter(|_| is_corked && is_in_the_way) {
            self.uncork(&mut own.cork.borrow_mut(), self.connections.clock_ms());
            if self.sender.ending.close.is_some() {
                return Err(Status::Closed);
            }
            let may_cork = out.token == 0 && !is_large;
            let blocks = &self.connections.blocks;
            if may_cork && self.sender.cork(blocks, self.index, out.slices, out.len, &own.cork) {
                return Ok(());
            }
        }
        let is_foreign = own.is_none();
        let own = own.filter(|_| !is_large);
        if own.is_none() && self.sender.state == SendState::CorkedInQueue {
            // What is corked leaves first; before the reservation, which counts on the queue as it is.
            self.flush();
        }
        let held = self.reserve(out)?;
        match own {
            Some(own) => self.cork_in_queue(out, held, own),
            None if is_foreign && !is_large && self.is_in_a_burst() => self.leave_to_worker(out, held),
            None => self.send_now(out, held)?,
        }
        if out.token != 0 {
            self.post_ready();
        }
        Ok(())
    }

    /// Bytes that may still be queued.
    fn room(&self) -> usize {
        (self.sender.bounds.limit as usize).saturating_sub(self.sender.waiting())
    }

    fn is_in_a_burst(&self) -> bool {
        let connections = self.connections;
        // Nobody knows when a host turns next.
        !connections.is_caller_driven && connections.link_of(self.connection).is_in_a_burst(connections.clock_ms())
    }

    #[inline]
    /// Reserves room in the queue and in the pool, or says which of them has none and remembers to tell when it has.
    fn reserve(&mut self, out: &Outgoing<'_>) -> Result<Reservation, Status> {
        if out.len > self.sender.bounds.limit as usize {
            return Err(Status::Limit);
        }
        if out.len > self.room() && self.sender.state == SendState::CorkedInQueue {
            // The cork only waits for the callback to end; the kernel may well have room.
            self.flush();
        }
        if self.sender.ending.close.is_some() {
            return Err(Status::Closed); // The flush found the socket broken.
        }
        if out.len > self.room() {
            self.sender.waits.set_owes_writable(true);
            self.sender.bounds.refused = self.sender.bounds.refused.saturating_add(1);
            return Err(Status::QueueFull);
        }
        let blocks = &self.connections.blocks;
        if let Some(held) = self.sender.queue.reserve(blocks, out.len, out.token) {
            return Ok(held);
        }
        if self.sender.state == SendState::CorkedInQueue {
            self.flush();
            if self.sender.ending.close.is_some() {
                return Err(Status::Closed);
            }
            if let Some(held) = self.sender.queue.reserve(blocks, out.len, out.token) {
                return Ok(held);
            }
        }
        if SendQueue::blocks_when_empty(blocks, out.len, out.token) > blocks.count() {
            return Err(Status::Limit); // No pause would ever help.
        }
        self.connections.pool_exhausted.fetch_add(1, Relaxed);
        self.sender.waits.set_owes_writable(true);
        self.wait_for_blocks(self.sender.queue.blocks_for(blocks, out.len, out.token));
        // Blocks may have come back between the refusal and our entry in the list.
        self.sender.queue.reserve(blocks, out.len, out.token).ok_or(Status::PoolExhausted)
    }

    /// Step: the bytes wait in the queue until the callback returns.
    fn cork_in_queue(&mut self, out: &Outgoing<'_>, held: Reservation, own: &Caller) {
        self.push(out, held, 0);
        if !matches!(self.sender.state, SendState::Idle | SendState::Queued) {
            return; // They leave with what waits already.
        }
        self.sender.state = SendState::CorkedInQueue;
        let queued = &mut own.cork.borrow_mut().queued;
        if queued.len() < queued.capacity() {
            queued.push_back(self.index);
        } else {
            self.flush();
        }
    }

    /// Step: the bytes wait for the worker, which sends all that has come meanwhile in one system call.
    fn leave_to_worker(&mut self, out: &Outgoing<'_>, held: Reservation) {
        self.push(out, held, 0);
        if self.sender.state == SendState::Idle {
            self.sender.state = SendState::Queued;
        }
        self.post_ready();
    }

    /// Step: the bytes go to the kernel if nothing is before them; what it does not take is queued.
    fn send_now(&mut self, out: &Outgoing<'_>, held: Reservation) -> Result<(), Status> {
        let mut sent = 0;
        if self.sender.state == SendState::Idle && out.len > 0 {
            self.connection.unsettled.store(true, SeqCst);
            match self.write(out.slices) {
                Ok(taken) => sent = taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    held.release(&self.connections.blocks);
                    let status = status_of(&error);
                    self.fail(status);
                    return Err(status);
                }
            }
            self.connection.times.sent_ms.store(self.connections.clock_ms(), Relaxed);
            if sent < out.len {
                self.block();
            } else {
                self.settle(SendState::Idle);
            }
        }
        self.push(out, held, sent);
        Ok(())
    }

    /// One write of all slices; a part is taken only when the kernel has no more room.
    fn write(&self, slices: &[&[u8]]) -> io::Result<usize> {
        let Some(socket) = &self.sender.socket else { return Ok(0) };
        if let [one] = slices {
            return P::send(socket, &[IoSlice::new(one)]);
        }
        let mut pieces = [IoSlice::new(&[]); MAX_SLICES];
        for (piece, slice) in pieces.iter_mut().zip(slices) {
            *piece = IoSlice::new(slice);
        }
        P::send(socket, &pieces[..slices.len()])
    }

    fn push(&mut self, out: &Outgoing<'_>, held: Reservation, sent: usize) {
        self.sender.queue.push(&self.connections.blocks, held, out.slices, out.len, sent, out.token);
    }

    /// Step: the kernel has no room.
    fn block(&mut self) {
        self.settle(SendState::Blocked);
        self.connection.times.sent_ms.store(self.connections.clock_ms(), Relaxed);
        if self.connection.timeouts.send_stall_ms.load(Relaxed) != 0 {
            // The worker must learn of the deadline.
            self.post_ready();
        }
    }

    /// Step: what is queued, and not behind the worker's buffer, leaves. Blocked stays blocked.
    pub(super) fn flush(&mut self) {
        if matches!(self.sender.state, SendState::CorkedInQueue | SendState::Queued) {
            self.write_queue();
        }
    }

    fn write_queue(&mut self) {
        if self.sender.queue.is_empty() {
            return self.settle(SendState::Idle);
        }
        let sender = &mut *self.sender;
        let Some(socket) = &sender.socket else { return };
        self.connection.unsettled.store(true, SeqCst);
        let before = sender.queue.sent();
        let flushed = sender.queue.flush::<P>(&self.connections.blocks, socket);
        if sender.queue.sent() != before {
            let now_ms = self.connections.link_of(self.connection).now_ms.load(Relaxed);
            self.connection.times.sent_ms.store(now_ms, Relaxed);
        }
        match flushed {
            Flushed::All => self.settle(SendState::Idle),
            Flushed::Blocked => self.block(),
            Flushed::Failed(error) => self.fail(status_of(&error)),
        }
        let is_told = self.sender.queue.has_complete_mark(&self.connections.blocks);
        if is_told || self.sender.ending.close.is_some() {
            self.post_ready();
        }
    }

    /// Step: the kernel has room again.
    pub(super) fn unblock(&mut self) {
        if self.sender.state == SendState::Blocked {
            self.sender.state = SendState::Queued;
        }
        self.flush();
        if self.sender.queue.is_empty() {
            self.connection.unsettled.store(false, Release);
        }
        self.tell_threads();
    }

    /// Step: what the worker's buffer has of this connection goes to the kernel, and what is queued behind it.
    #[inline(always)]
    pub(super) fn uncork(&mut self, cork: &mut Cork, now_ms: u64) {
        if likely(self.sender.state == SendState::CorkedInBuffer) {
            let sender = &mut *self.sender;
            if let Some(socket) = &sender.socket {
                // On the worker's own thread no edge can be lost in the middle of this.
                let sent = P::send(socket, &[IoSlice::new(&cork.bytes)]);
                self.connection.times.sent_ms.store(now_ms, Relaxed);
                sender.corked_bytes = 0;
                match sent {
                    Ok(len) if likely(len == cork.bytes.len()) => {
                        sender.queue.take_corked(&self.connections.blocks, &cork.bytes, len);
                        sender.state = SendState::Idle;
                        if unlikely(!sender.queue.is_empty()) {
                            sender.state = SendState::Queued;
                            self.flush();
                        }
                    }
                    other => self.keep_rest(cork, other),
                }
            }
            if unlikely(self.sender.waits.is_anybody_told()) {
                self.tell_after_uncork();
            }
        }
        cork.bytes.clear();
    }

    #[cold]
    fn tell_after_uncork(&self) {
        self.tell_threads();
        if self.sender.waits.owes_writable() {
            // Another thread was refused while this was in its way.
            self.post_ready();
        }
    }

    /// The kernel did not take all of the worker's buffer: the rest comes first in the queue.
    #[cold]
    fn keep_rest(&mut self, cork: &mut Cork, sent: io::Result<usize>) {
        let sent = match sent {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return self.fail(status_of(&error)),
        };
        self.connection.unsettled.store(true, SeqCst);
        let blocks = &self.connections.blocks;
        self.sender.queue.take_corked(blocks, &cork.bytes, sent);
        cork.use_backing(blocks, cork.bytes.len() - sent);
        self.block();
    }

    /// Step: what waits is thrown away; marks stay, to be told.
    pub(super) fn drop_bytes(&mut self) {
        self.sender.corked_bytes = 0;
        self.sender.queue.drop_bytes(&self.connections.blocks);
        let is_blocked = self.sender.state == SendState::Blocked;
        self.sender.state = if is_blocked { SendState::Blocked } else { SendState::Idle };
        self.tell_threads();
    }

    /// A bug, on purpose: what a callback had sent is forgotten.
    #[cold]
    pub(super) fn forget_corked(&mut self) {
        if self.sender.state == SendState::CorkedInBuffer {
            self.sender.corked_bytes = 0;
            self.sender.state = SendState::Queued;
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
#[path = "send_steps_tests.rs"]
mod tests;

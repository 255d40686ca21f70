//! Sends: straight to the kernel when nothing waits, corked inside callbacks, queued when the kernel has no room. A send
//! is taken whole or not at all.

use std::io::{self, IoSlice};
use std::sync::atomic::Ordering::*;
use std::time::Instant;

use super::api::{Broadcast, Patience};
use super::connection::{Connection, Phase, SendSide};
use super::core::Core;
use super::cork::{CORK_BYTES, Cork, FLUSHES_AT_ONCE};
use super::failure::status_of;
use super::local::{self, Local};
use super::send_queue::{Flushed, Reservation};
use crate::likely::{likely, unlikely};
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// Sends of other threads in one millisecond, to all connections of a worker, after which the worker sends for them.
const BURST_PER_MS: u32 = 32;
/// The most slices of one send.
pub const MAX_SLICES: usize = 64;

impl<P: Port> Core<P> {
    /// Takes the usual send, an answer in a callback of its connection's worker. False: [`Core::send`] must see to it.
    #[inline(always)]
    pub(super) fn answer(&self, conn: u64, data: &[u8], caller: &Local) -> bool {
        let index = Handle::index_of(conn);
        let Some(connection) = self.connections.get(index as usize) else { return false };
        if unlikely(
            Handle::kind_of(conn) != Kind::Connection as u64
                || u32::from(connection.worker.load(Relaxed)) != caller.worker,
        ) {
            return false;
        }
        let mut side = lock(&connection.send);
        if unlikely(connection.generation.load(Relaxed) != Handle::generation_of(conn) || !side.takes_sends()) {
            return false;
        }
        let held = self.hold_back(index, &mut side, &[data], data.len(), caller);
        side.messages_out += u64::from(held);
        held
    }

    /// Sends all of the slices, or nothing. `caller` is the worker of this engine whose callback runs on this thread.
    pub(super) fn send(&self, conn: u64, slices: &[&[u8]], token: u64, caller: Option<&Local>) -> Result<(), Status> {
        if slices.len() > MAX_SLICES {
            return Err(Status::InvalidArgument);
        }
        let (connection, handle, mut side) = self.locked(conn)?;
        let own = caller.filter(|local| self.is_its_worker(local, connection));
        self.send_locked(connection, handle.index, &mut side, slices, token, own)
    }

    /// Whether the worker whose callback runs on this thread owns the connection.
    #[inline]
    fn is_its_worker(&self, local: &Local, connection: &Connection<P>) -> bool {
        local.place == self.handle.engine && local.worker == u32::from(connection.worker.load(Relaxed))
    }

    /// Takes a send. `own` is given inside a callback of the connection's worker: there the send is held back.
    #[inline(never)]
    fn send_locked(
        &self,
        connection: &Connection<P>,
        index: u32,
        side: &mut SendSide<P>,
        slices: &[&[u8]],
        token: u64,
        own: Option<&Local>,
    ) -> Result<(), Status> {
        if !side.takes_sends() {
            return Err(Status::Closed);
        }
        let len = slices.iter().fold(0_usize, |sum, slice| sum.saturating_add(slice.len()));
        match own.filter(|_| token == 0) {
            Some(local) if self.hold_back(index, side, slices, len, local) => {}
            _ => self.send_otherwise(connection, index, side, slices, len, token, own)?,
        }
        side.messages_out += 1;
        Ok(())
    }

    /// Puts a send into the worker's own buffer, if it can.
    #[inline(always)]
    fn hold_back(&self, index: u32, side: &mut SendSide<P>, slices: &[&[u8]], len: usize, local: &Local) -> bool {
        let apart = side.apart;
        if unlikely(side.blocked || !side.queue.is_empty() || len > (side.limit - apart) as usize) {
            return false;
        }
        let cork = &mut *local.cork.borrow_mut();
        let has_room = cork.has_room(&self.blocks, index, apart, len);
        if likely(has_room) {
            for slice in slices {
                cork.bytes.extend_from_slice(slice);
            }
            side.apart = apart + len as u32;
            side.queue.count_apart(len);
        }
        has_room
    }

    /// Takes a send into the queue, or hands it to the kernel.
    #[allow(clippy::too_many_arguments)]
    fn send_otherwise(
        &self,
        connection: &Connection<P>,
        index: u32,
        side: &mut SendSide<P>,
        slices: &[&[u8]],
        len: usize,
        token: u64,
        own: Option<&Local>,
    ) -> Result<(), Status> {
        let is_large = len >= CORK_BYTES;
        let limit = side.limit as usize;
        let is_in_the_way = token == 0 || is_large || len > limit.saturating_sub(side.waiting());
        if let Some(local) = own.filter(|_| side.apart > 0 && is_in_the_way) {
            self.let_go(connection, index, side, &mut local.cork.borrow_mut(), self.clock_ms());
            if side.close.is_some() {
                return Err(Status::Closed);
            }
            if token == 0 && !is_large && self.hold_back(index, side, slices, len, local) {
                return Ok(());
            }
        }
        let is_foreign = own.is_none();
        let own = own.filter(|_| !is_large);
        if own.is_none() && side.corked {
            // What is corked leaves first; before the reservation, which counts on the queue as it is.
            self.flush_locked(connection, index, side);
        }
        let held = self.room_for(connection, index, side, len, token)?;
        if side.close.is_some() {
            // The flush found the socket broken.
            held.release(&self.blocks);
            return Err(Status::Closed);
        }
        if let Some(local) = own {
            side.queue.push(&self.blocks, held, slices, len, 0, token);
            if !side.corked && !side.blocked {
                let queued = &mut local.cork.borrow_mut().queued;
                if queued.len() < queued.capacity() {
                    side.corked = true;
                    queued.push_back(index);
                } else {
                    self.flush_locked(connection, index, side);
                }
            }
        } else if is_foreign && !is_large && self.is_in_a_burst(connection) {
            side.queue.push(&self.blocks, held, slices, len, 0, token);
            self.call_attention(connection, index);
        } else {
            self.send_direct(connection, index, side, held, slices, len, token)?;
        }
        if token != 0 {
            self.call_attention(connection, index);
        }
        Ok(())
    }

    /// Whether other threads send so much to connections of this one's worker that it should do it for them, all that has
    /// come meanwhile in one system call. It must be able to look at once: it waits on its port, or is quick.
    fn is_in_a_burst(&self, connection: &Connection<P>) -> bool {
        if self.config.caller_driven {
            return false; // Nobody knows when the host turns next.
        }
        let outside = &self.workers[connection.worker.load(Relaxed) as usize];
        let now_ms = self.clock_ms();
        let (at_ms, count) = (outside.foreign_sends_ms.load(Relaxed), outside.foreign_sends.load(Relaxed));
        // Threads that meet here may miscount, which only moves the border.
        if at_ms != now_ms {
            outside.foreign_sends_ms.store(now_ms, Relaxed);
            outside.foreign_sends.store(1, Relaxed);
            return false;
        }
        outside.foreign_sends.store(count.saturating_add(1), Relaxed);
        let is_quick = || now_ms.wrapping_sub(outside.now_ms.load(Relaxed)) <= 1;
        count >= BURST_PER_MS && (outside.call.sleeps() || is_quick())
    }

    /// Reserves room in the queue and in the pool, or says which of them has none and remembers to tell when it has.
    fn room_for(
        &self,
        connection: &Connection<P>,
        index: u32,
        side: &mut SendSide<P>,
        len: usize,
        token: u64,
    ) -> Result<Reservation, Status> {
        let limit = side.limit as usize;
        if len > limit {
            return Err(Status::Limit);
        }
        if len > limit.saturating_sub(side.waiting()) && side.corked {
            // The cork only waits for the callback to end; the kernel may well have room.
            self.flush_locked(connection, index, side);
        }
        if len > limit.saturating_sub(side.waiting()) {
            side.owes_writable = true;
            side.refused = side.refused.saturating_add(1);
            return Err(Status::QueueFull);
        }
        if let Some(held) = side.queue.reserve(&self.blocks, len, token) {
            return Ok(held);
        }
        if side.corked {
            self.flush_locked(connection, index, side);
            if let Some(held) = side.queue.reserve(&self.blocks, len, token) {
                return Ok(held);
            }
        }
        self.pool_exhausted.fetch_add(1, Relaxed);
        side.owes_writable = true;
        self.starve(index, side, side.queue.blocks_for(&self.blocks, len, token));
        // Blocks may have come back between the refusal and our entry in the list.
        match side.queue.reserve(&self.blocks, len, token) {
            Some(held) => Ok(held),
            None => Err(Status::PoolExhausted),
        }
    }

    /// Enters a connection that needs this many blocks in the list of those that wait for some.
    fn starve(&self, index: u32, side: &mut SendSide<P>, need: u32) {
        if std::mem::replace(&mut side.starving, true) {
            return;
        }
        let mut starving = lock(&self.starving);
        starving.push((index, need));
        self.least_need.fetch_min(need, SeqCst);
    }

    /// Hands the bytes to the kernel and queues what it does not take.
    #[allow(clippy::too_many_arguments)]
    fn send_direct(
        &self,
        connection: &Connection<P>,
        index: u32,
        side: &mut SendSide<P>,
        held: Reservation,
        slices: &[&[u8]],
        len: usize,
        token: u64,
    ) -> Result<(), Status> {
        let mut sent = 0;
        if side.waiting() == 0 && !side.blocked && len > 0 {
            connection.send_unsettled.store(true, SeqCst);
            match self.write_slices(side, slices) {
                Ok(taken) => sent = taken,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    held.release(&self.blocks);
                    let status = status_of(&error);
                    self.fail_locked(connection, index, side, status);
                    return Err(status);
                }
            }
            connection.last_send_ms.store(self.clock_ms(), Relaxed);
            if sent < len {
                self.note_blocked(connection, index, side);
            } else {
                connection.send_unsettled.store(false, Release);
            }
        }
        side.queue.push(&self.blocks, held, slices, len, sent, token);
        Ok(())
    }

    /// One write of all slices; a part is taken only when the kernel has no more room.
    fn write_slices(&self, side: &SendSide<P>, slices: &[&[u8]]) -> io::Result<usize> {
        let Some(socket) = &side.socket else { return Ok(0) };
        if let [one] = slices {
            return P::send(socket, &[IoSlice::new(one)]);
        }
        let mut pieces = [IoSlice::new(&[]); MAX_SLICES];
        for (piece, slice) in pieces.iter_mut().zip(slices) {
            *piece = IoSlice::new(slice);
        }
        P::send(socket, &pieces[..slices.len()])
    }

    fn note_blocked(&self, connection: &Connection<P>, index: u32, side: &mut SendSide<P>) {
        side.blocked = true;
        connection.last_send_ms.store(self.clock_ms(), Relaxed);
        if connection.send_stall_ms.load(Relaxed) != 0 {
            // The worker must learn of the deadline.
            self.call_attention(connection, index);
        }
    }

    /// Writes what waits. Leaves `blocked` and `send_unsettled` true when the kernel has no room.
    pub(super) fn flush_locked(&self, connection: &Connection<P>, index: u32, side: &mut SendSide<P>) {
        if side.apart > 0 {
            return; // The worker flushes both when its callback returns.
        }
        side.corked = false;
        if side.blocked || side.queue.is_empty() {
            return;
        }
        let Some(socket) = &side.socket else { return };
        connection.send_unsettled.store(true, SeqCst);
        let before = side.queue.sent();
        let flushed = side.queue.flush::<P>(&self.blocks, socket);
        if side.queue.sent() != before {
            connection.last_send_ms.store(self.now_ms(connection.worker.load(Relaxed) as usize), Relaxed);
        }
        match flushed {
            Flushed::All => connection.send_unsettled.store(false, Release),
            Flushed::Blocked => self.note_blocked(connection, index, side),
            Flushed::Failed(error) => self.fail_locked(connection, index, side, status_of(&error)),
        }
        if side.queue.has_complete_mark(&self.blocks) || side.close.is_some() {
            self.call_attention(connection, index);
        }
    }

    /// Lets go of what was held back in the callback that has just returned. True: some of it is left for the next turn.
    #[inline(always)]
    pub(super) fn flush_corks(&self, local: &Local, now_ms: u32) -> bool {
        let cork = &mut *local.cork.borrow_mut();
        if likely(!cork.bytes.is_empty()) {
            let connection = &self.connections[cork.index as usize];
            self.let_go(connection, cork.index, &mut lock(&connection.send), cork, now_ms);
        }
        if unlikely(!cork.queued.is_empty()) {
            self.flush_queued(cork, FLUSHES_AT_ONCE);
        }
        self.feed_starving();
        !cork.queued.is_empty()
    }

    /// The same for a story, which runs on its worker's thread.
    pub(super) fn flush_own_corks(&self) {
        local::with(|local| local.is_some_and(|local| self.flush_corks(local, self.clock_ms())));
    }

    #[inline(never)]
    fn flush_queued(&self, cork: &mut Cork, most: usize) {
        for _ in 0..most {
            let Some(index) = cork.queued.pop_front() else { return };
            let connection = &self.connections[index as usize];
            let mut side = lock(&connection.send);
            if side.corked {
                self.flush_locked(connection, index, &mut side);
            }
        }
    }

    /// Hands the bytes that the worker held back for a connection to the kernel, and what is queued behind them.
    #[inline(always)]
    fn let_go(&self, connection: &Connection<P>, index: u32, side: &mut SendSide<P>, cork: &mut Cork, now_ms: u32) {
        if likely(side.apart > 0) {
            if let Some(socket) = &side.socket {
                // On the worker's own thread no edge can be lost in the middle of this.
                let sent = P::send(socket, &[IoSlice::new(&cork.bytes)]);
                connection.last_send_ms.store(now_ms, Relaxed);
                side.apart = 0;
                match sent {
                    Ok(len) if likely(len == cork.bytes.len()) => side.queue.take_apart(&self.blocks, &cork.bytes, len),
                    other => self.keep_rest(connection, index, side, cork, other),
                }
            }
            if unlikely(!side.queue.is_empty()) {
                self.flush_locked(connection, index, side);
            }
            if unlikely(side.owes_writable) {
                // Another thread was refused while this was in its way.
                self.call_attention(connection, index);
            }
        }
        cork.bytes.clear();
    }

    /// The kernel did not take all that was held back: the rest comes first in the queue.
    #[cold]
    fn keep_rest(
        &self,
        connection: &Connection<P>,
        index: u32,
        side: &mut SendSide<P>,
        cork: &mut Cork,
        sent: io::Result<usize>,
    ) {
        let sent = match sent {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return self.fail_locked(connection, index, side, status_of(&error)),
        };
        connection.send_unsettled.store(true, SeqCst);
        side.queue.take_apart(&self.blocks, &cork.bytes, sent);
        cork.use_backing(&self.blocks, self.config.buffer_bytes, cork.bytes.len() - sent);
        self.note_blocked(connection, index, side);
    }

    /// When blocks are back, lets those connections look again whose refused send would fit now.
    #[inline]
    pub(super) fn feed_starving(&self) {
        if unlikely(self.least_need.load(Relaxed) != u32::MAX) {
            self.feed();
        }
    }

    /// A connection is not called for less than it needs, so this cannot go round in circles.
    #[cold]
    fn feed(&self) {
        if self.least_need.load(Relaxed) > self.blocks.available() {
            return;
        }
        loop {
            let fed = {
                let mut starving = lock(&self.starving);
                let available = self.blocks.available();
                let place = starving.iter().position(|(_, need)| *need <= available);
                let fed = place.map(|place| starving.swap_remove(place));
                self.least_need.store(starving.iter().map(|(_, need)| *need).min().unwrap_or(u32::MAX), SeqCst);
                fed
            };
            let Some((index, _)) = fed else { return };
            let connection = &self.connections[index as usize];
            lock(&connection.send).starving = false;
            self.call_attention(connection, index);
        }
    }

    /// The socket is broken: nothing more will leave, and the worker closes it for this reason.
    fn fail_locked(&self, connection: &Connection<P>, index: u32, side: &mut SendSide<P>, reason: Status) {
        self.close_locked(connection, index, side, super::api::Close::Now, reason);
    }

    /// Sends to all connections of a server but one.
    pub(super) fn broadcast(&self, server: u64, data: &[u8], except: u64) -> Result<Broadcast, Status> {
        let endpoint = self.endpoint(server, Kind::Server)?;
        let mut result = Broadcast::default();
        local::with(|local| {
            let book = lock(&endpoint.book);
            for index in &book.members {
                let connection = &self.connections[*index as usize];
                if connection.phase() != Phase::Open || self.handle_of(*index).to_bits() == except {
                    continue;
                }
                let own = local.filter(|local| self.is_its_worker(local, connection));
                if let Some(local) = own.filter(|_| self.blocks.available() <= self.blocks_of(data.len())) {
                    // What is held back for all of them together is too much for the pool.
                    while self.flush_corks(local, self.clock_ms()) {}
                }
                let sent = self.send_locked(connection, *index, &mut lock(&connection.send), &[data], 0, own);
                match sent {
                    Ok(()) => result.taken += 1,
                    Err(_) => result.refused += 1,
                }
            }
        });
        Ok(result)
    }

    /// Blocks that so many bytes need, with those that are begun.
    fn blocks_of(&self, len: usize) -> u32 {
        (len / self.config.buffer_bytes as usize) as u32 + 2
    }

    /// Sends, waiting for room.
    pub(super) fn send_wait(
        &self,
        conn: u64,
        data: &[u8],
        patience: Patience,
        taken: &mut usize,
    ) -> Result<(), Status> {
        *taken = 0;
        self.may_block()?;
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let (connection, handle, mut side) = self.locked(conn)?;
        loop {
            let rest = &data[*taken..];
            let room = (side.limit as usize).saturating_sub(side.waiting()).min(rest.len());
            let sent = match room {
                0 if !rest.is_empty() => Err(Status::QueueFull),
                _ => {
                    // The wait ends by itself; `on_writable` is for those who do not wait.
                    let owed = side.owes_writable;
                    let sent = self.send_piece(connection, handle.index, &mut side, &rest[..room]);
                    side.owes_writable = owed;
                    sent
                }
            };
            match sent {
                Ok(len) => *taken += len,
                Err(Status::QueueFull | Status::PoolExhausted) => {
                    side = self.wait_changed(connection, handle, side, deadline)?;
                }
                Err(status) => return Err(status),
            }
            if *taken == data.len() {
                return Ok(());
            }
        }
    }

    /// One piece of a waiting send; a smaller one when the pool is short.
    fn send_piece(
        &self,
        connection: &Connection<P>,
        index: u32,
        side: &mut SendSide<P>,
        piece: &[u8],
    ) -> Result<usize, Status> {
        let result = self.send_locked(connection, index, side, &[piece], 0, None);
        let block = self.config.buffer_bytes as usize;
        match result {
            Err(Status::PoolExhausted) if piece.len() > block => {
                self.send_locked(connection, index, side, &[&piece[..block]], 0, None).map(|()| block)
            }
            other => other.map(|()| piece.len()),
        }
    }

    /// Lets the lock go until somebody says that the connection changed, or the deadline passes.
    pub(super) fn wait_changed<'a>(
        &'a self,
        connection: &'a Connection<P>,
        handle: Handle,
        mut side: std::sync::MutexGuard<'a, SendSide<P>>,
        deadline: Option<Instant>,
    ) -> Result<std::sync::MutexGuard<'a, SendSide<P>>, Status> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Status::Timeout);
        }
        side.waiters = side.waiters.saturating_add(1);
        let mut side = match left {
            Some(left) => {
                connection.changed.wait_timeout(side, left).unwrap_or_else(std::sync::PoisonError::into_inner).0
            }
            None => connection.changed.wait(side).unwrap_or_else(std::sync::PoisonError::into_inner),
        };
        if connection.generation.load(Acquire) != handle.generation {
            return Err(Status::Closed);
        }
        side.waiters = side.waiters.saturating_sub(1);
        Ok(side)
    }

    /// Reads into the caller's buffer, waiting for bytes.
    pub(super) fn receive_wait(&self, conn: u64, buffer: &mut [u8], patience: Patience) -> Result<usize, Status> {
        use super::connection::{PEER_ENDED, PULL};
        self.may_block()?;
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        let (connection, handle, mut side) = self.locked(conn)?;
        if !connection.has(PULL) {
            return Err(Status::State);
        }
        if buffer.is_empty() {
            return Err(Status::InvalidArgument);
        }
        loop {
            if connection.has(PEER_ENDED) {
                return Err(Status::EndOfStream);
            }
            let ended = side.close.is_some_and(|how| how > super::api::Close::SendSide);
            let Some(socket) = side.socket.as_ref().filter(|_| !ended) else {
                // A broken connection says what broke it; a closed one, that it is closed.
                return Err(if side.reason == Status::Ok { Status::Closed } else { side.reason });
            };
            match P::receive(socket, buffer) {
                Ok(0) => {
                    connection.set(PEER_ENDED);
                    self.call_attention(connection, handle.index);
                    return Err(Status::EndOfStream);
                }
                Ok(len) => {
                    connection.count_received(len, self.clock_ms());
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    side = self.wait_changed(connection, handle, side, deadline)?;
                }
                Err(error) => {
                    let reason = status_of(&error);
                    self.fail_locked(connection, handle.index, &mut side, reason);
                    return Err(reason);
                }
            }
        }
    }

    /// A thread that must do the work cannot wait for it.
    pub(super) fn may_block(&self) -> Result<(), Status> {
        let turns = *lock(&self.turner) == Some(local::thread_number());
        if local::in_turn() || turns { Err(Status::WouldDeadlock) } else { Ok(()) }
    }
}

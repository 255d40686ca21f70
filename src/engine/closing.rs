//! The ways a connection ends. Any thread may ask; its worker does it, step by step, and tells the user once.

use std::sync::atomic::Ordering::*;

use super::api::Close;
use super::connection::{CLOSING, Connection, ENROLLED, OPENED, PAUSED, PEER_ENDED, Phase, RESUMED, SendSide};
use super::core::Core;
use super::events::Level;
use super::mutant::{self, Mutant};
use super::worker::Desk;
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

impl<P: Port> Core<P> {
    /// Asks for the end of a connection as its user.
    pub(super) fn close(&self, conn: u64, how: Close) -> Result<(), Status> {
        let (connection, handle, mut side) = self.locked(conn)?;
        self.close_locked(connection, handle.index, &mut side, how, Status::Ok);
        Ok(())
    }

    /// Asks for the end of the connection in this place, if it is still the one that the handle's generation means.
    pub(super) fn close_member(&self, index: u32, generation: u32, how: Close, reason: Status) {
        let connection = &self.connections[index as usize];
        let mut side = lock(&connection.send);
        if connection.generation.load(Acquire) == generation && side.endpoint.is_some() {
            self.close_locked(connection, index, &mut side, how, reason);
        }
    }

    /// Notes the strongest end that was asked for, and tells the worker. The reason is that of the first full one; but
    /// when what it would have let leave is thrown away, it is what cut that short.
    pub(super) fn close_locked(
        &self,
        connection: &Connection<P>,
        index: u32,
        side: &mut SendSide<P>,
        how: Close,
        reason: Status,
    ) {
        if self.note_close(connection, side, how, reason) {
            self.call_attention(connection, index);
        }
    }

    /// Notes it only; false when this end, or a stronger one, was asked for before.
    pub(super) fn note_close(
        &self,
        connection: &Connection<P>,
        side: &mut SendSide<P>,
        how: Close,
        reason: Status,
    ) -> bool {
        if side.socket.is_none() || side.close.is_some_and(|before| before >= how) {
            return false;
        }
        let is_cut_short = how >= Close::Now && reason != Status::Ok && side.queue.unsent() > 0;
        if is_cut_short && side.close == Some(Close::Flush) || side.close.is_none_or(|before| before == Close::SendSide)
        {
            side.reason = reason;
        }
        side.close = Some(how);
        side.owes_writable = false;
        if how > Close::SendSide {
            connection.set(CLOSING);
        }
        if how >= Close::Now {
            side.drop_bytes(&self.blocks);
        } else if mutant::is_on(Mutant::CorkLost) {
            side.apart = 0;
        }
        if side.waiters > 0 {
            connection.changed.notify_all();
        }
        true
    }
}

/// What is to be done next for a connection that closes.
enum Step {
    Wait,
    Finish(Status),
}

impl<P: Port> Desk<'_, P> {
    /// Takes a closing connection one step on.
    pub(super) fn progress(&mut self, index: u32) {
        let core = self.core;
        let connection = &core.connections[index as usize];
        let step = {
            let mut side = lock(&connection.send);
            match side.close {
                None => Step::Wait,
                Some(Close::Now | Close::Reset) => Step::Finish(side.reason),
                // Nobody was told of it, so nothing was sent: there is nothing to wait for, and no sweep knows of it yet.
                Some(_) if connection.phase() == Phase::Opening => Step::Finish(side.reason),
                Some(how) => self.flush_then_end(connection, &mut side, how),
            }
        };
        match step {
            Step::Wait => {}
            Step::Finish(reason) => self.finish(index, reason),
        }
    }

    fn flush_then_end(&mut self, connection: &Connection<P>, side: &mut SendSide<P>, how: Close) -> Step {
        if side.waiting() == 0 && !side.fin_sent {
            // Where the peer has ended, too, closing the socket says it as well.
            let closes_now = how == Close::Flush && connection.has(PEER_ENDED);
            if let Some(socket) = side.socket.as_ref().filter(|_| !closes_now) {
                // A socket that cannot be shut down is broken; the port will say so.
                let _ = P::shutdown_send(socket);
            }
            side.fin_sent = true;
        }
        if how == Close::Flush && connection.phase() == Phase::Open {
            connection.set_phase(Phase::Lingering);
            side.linger_until_ms =
                self.now_ms().wrapping_add(side.endpoint.as_ref().map_or(0, |endpoint| endpoint.connection.linger_ms));
            self.note_deadline(side.linger_until_ms);
            if !connection.has(PEER_ENDED) {
                // A paused or pulling connection was not read; now the peer's FIN is waited for.
                connection.unset(PAUSED);
                connection.set(RESUMED);
            }
        }
        if !(side.fin_sent && connection.has(PEER_ENDED)) {
            return Step::Wait;
        }
        Step::Finish(if how == Close::SendSide { Status::EndOfStream } else { side.reason })
    }

    /// Closes the socket, makes the last callbacks, and frees the place.
    pub(super) fn finish(&mut self, index: u32, reason: Status) {
        let core = self.core;
        let connection = &core.connections[index as usize];
        if matches!(connection.phase(), Phase::Free | Phase::Closed) {
            return;
        }
        connection.set_phase(Phase::Closed);
        let mut mark = self.close_socket(connection);
        if connection.has(OPENED) {
            let handle = core.handle_of(index).to_bits();
            let endpoint = self.endpoint_of(connection);
            while let Some((token, complete)) = mark {
                let status = match reason {
                    _ if complete => Status::Ok,
                    Status::Ok => Status::Closed, // As asked, but it did not leave.
                    reason => reason,
                };
                endpoint.handler.on_sent(handle, token, status);
                self.called();
                mark = lock(&connection.send).queue.take_mark(&core.blocks, false);
            }
            endpoint.handler.on_close(handle, reason);
            self.called();
            if reason == Status::Reset && mutant::is_on(Mutant::CloseTwice) {
                endpoint.handler.on_close(handle, reason);
            }
        }
        self.free(index, reason);
    }

    /// Gives the first send of which the user is still to be told (see [`super::send_queue::SendQueue::take_mark`]).
    fn close_socket(&mut self, connection: &Connection<P>) -> Option<(u64, bool)> {
        let mut side = lock(&connection.send);
        let reset = side.close == Some(Close::Reset);
        side.close = Some(Close::Reset); // Nothing is taken any more.
        side.drop_bytes(&self.core.blocks);
        side.blocked = false;
        side.corked = false;
        connection.send_unsettled.store(false, Release);
        if let Some(socket) = side.socket.take() {
            if reset {
                P::reset_on_close(&socket);
            }
            if P::DETACH_BEFORE_CLOSE {
                self.outside.port.detach(&socket);
            }
            drop(socket);
        }
        if side.waiters > 0 {
            connection.changed.notify_all();
        }
        side.queue.take_mark(&self.core.blocks, false)
    }

    /// Gives everything back: place, permit, blocks. The handle is stale from here on.
    fn free(&mut self, index: u32, reason: Status) {
        let core = self.core;
        let connection = &core.connections[index as usize];
        let (sums, endpoint, permit, slot, peer) = {
            let mut side = lock(&connection.send);
            let sums = connection.traffic(&side);
            side.queue.reset(&core.blocks);
            // In this order: whoever sees the new generation sees a free place (see `Core::live_handle`).
            connection.set_phase(Phase::Free);
            let step = u32::from(!mutant::is_on(Mutant::StaleHandle));
            connection.generation.store(connection.generation.load(Relaxed).wrapping_add(step), Release);
            (sums, side.endpoint.take(), side.permit.take(), side.slot.take(), side.peer)
        };
        if connection.has(ENROLLED) {
            self.strike(index);
        }
        self.outside.open.fetch_sub(1, AcqRel);
        let Some(endpoint) = endpoint else { return };
        let (left, open) = endpoint.part(&core.connections, index, &sums, reason);
        if core.logs(Level::Debug) {
            let kind = endpoint.kind_name();
            core.log(Level::Debug, format_args!("{kind}: {peer} disconnected ({}), {open} in all", reason.name()));
        }
        endpoint.forget_peer(peer);
        drop(permit);
        drop(slot);
        core.feed_starving();
        core.place_is_free();
        if left == 0 && !(endpoint.server().is_ok() && mutant::is_on(Mutant::EndlessDrain)) {
            endpoint.signal.notify();
        }
    }
}

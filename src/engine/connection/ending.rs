//! How a connection ends, step by step, on its worker; the user is told once.

use std::sync::atomic::Ordering::*;

use super::close::Close;
use super::locked::Locked;
use super::owner::Ended;
use super::sender::SendState;
use super::state::{OPENED, PAUSED, PEER_ENDED, PULL, Phase, RESUMED};
use super::turn::Turn;
use crate::engine::events::Level;
use crate::engine::mutant::{self, Mutant};
use crate::pool::handle::Kind;
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// After so many pieces that were thrown away, a peer still sends.
const MOST_READS_THROWN_AWAY: u32 = 2048;

/// What is to be done next for a connection that closes.
enum Step {
    Wait,
    Finish(Status),
}

impl<P: Port> Turn<'_, P> {
    /// Takes a closing connection one step on.
    pub(super) fn progress(&mut self, index: u32) {
        let step = {
            let mut locked = self.connections.lock(index);
            let reason = locked.sender.ending.reason;
            match locked.sender.ending.close {
                None => Step::Wait,
                // Nobody was told of it, so nothing was sent: there is nothing to wait for. A connect that is thrown away
                // gives its port back at once; but a peer that came to a server finds the end of its stream, and not a reset.
                Some(_) if locked.connection.phase() == Phase::Opening && !locked.is_a_servers() => {
                    locked.sender.ending.close = Some(Close::Reset);
                    Step::Finish(reason)
                }
                Some(Close::Now | Close::Reset) => Step::Finish(reason),
                Some(Close::Drain) => locked.drain_step(reason),
                Some(how) => self.flush_then_end(&mut locked, how),
            }
        };
        match step {
            Step::Wait => {}
            Step::Finish(reason) => self.finish(index, reason),
        }
    }

    fn flush_then_end(&mut self, locked: &mut Locked<'_, P>, how: Close) -> Step {
        let (connection, index) = (locked.connection, locked.index);
        let sender = &mut *locked.sender;
        if sender.waiting() == 0 && !sender.ending.fin_sent {
            // Where the peer has ended, too, closing the socket says it as well.
            let closes_now = how == Close::Flush && connection.has(PEER_ENDED);
            if let Some(socket) = sender.socket.as_ref().filter(|_| !closes_now) {
                // A socket that cannot be shut down is broken; the port will say so.
                let _ = P::shutdown_send(socket);
            }
            sender.ending.fin_sent = true;
        }
        if how == Close::Flush && sender.ending.is_due && sender.ending.fin_sent {
            locked.throw_away_received();
            return Step::Finish(locked.sender.ending.reason);
        }
        if how == Close::Flush && matches!(connection.phase(), Phase::Opening | Phase::Open) {
            connection.set_phase(Phase::Lingering);
            sender.ending.lingers_since_ms = self.now_ms();
            if !connection.has(PEER_ENDED) {
                // A paused or pulling connection was not read; now the peer's FIN is waited for.
                connection.unset(PAUSED);
                connection.set(RESUMED);
            }
        }
        if !(sender.ending.fin_sent && connection.has(PEER_ENDED)) {
            if connection.phase() == Phase::Lingering {
                self.set_deadline_at(index, sender.lingers_until_ms());
            }
            return Step::Wait;
        }
        Step::Finish(if how == Close::SendSide { Status::EndOfStream } else { sender.ending.reason })
    }

    /// Closes the socket, makes the last callbacks, and frees the place.
    pub(super) fn finish(&mut self, index: u32, reason: Status) {
        let connections = self.connections;
        let connection = &connections.table.places[index as usize];
        if matches!(connection.phase(), Phase::Free | Phase::Closed) {
            return;
        }
        let ended_ms = match connection.phase() {
            Phase::Lingering => lock(&connection.sender).ending.lingers_since_ms,
            _ => self.now_ms(), // What its last callbacks take is no part of its life.
        };
        connection.set_phase(Phase::Closed);
        let mut mark = connections.lock(index).close_socket(&self.link.port, reason);
        let owner = self.owner_of(connection).filter(|_| connection.has(OPENED));
        if let Some(owner) = owner {
            let handle = connections.table.handle_of(index).to_bits();
            while let Some((token, complete)) = mark {
                let status = match reason {
                    _ if complete => Status::Ok,
                    Status::Ok => Status::Closed, // As asked, but it did not leave.
                    reason => reason,
                };
                owner.handler.on_sent(handle, token, status);
                self.called();
                mark = connections.lock(index).sender.queue.take_mark(&connections.blocks, false);
            }
            owner.handler.on_close(handle, reason);
            self.called();
            if reason == Status::Reset && mutant::is_on(Mutant::CloseTwice) {
                owner.handler.on_close(handle, reason);
            }
        }
        self.free(index, reason, ended_ms);
    }

    /// Gives everything back: place, permit, blocks. The handle is stale from here on.
    fn free(&mut self, index: u32, reason: Status, ended_ms: u64) {
        let connections = self.connections;
        let connection = &connections.table.places[index as usize];
        self.stop_deadline(index);
        let was_opened = connection.has(OPENED);
        let peer = connections.log.wants(Level::Debug).then(|| connections.lock(index).peer_address());
        let (traffic, ended) = connections.vacate(index);
        self.link.open.fetch_sub(1, AcqRel);
        let Some(owner) = ended.owner else { return };
        if let Some(layer) = &owner.layer {
            layer.ended(&connections.blocks, index);
        }
        let opened_ms = connections.table.cold[index as usize].opened_ms.load(Relaxed);
        let (left, open) = owner.remove(
            &connections.table.member_places,
            &Ended {
                index,
                was_opened,
                traffic,
                reason,
                all_left: ended.all_left,
                at_deadline: ended.ending.is_due || reason == Status::Timeout,
                lasted_ms: ended_ms.saturating_sub(opened_ms),
            },
        );
        if let Some(peer) = peer {
            let (kind, name) = (owner.kind_name(), reason.name());
            connections.log.line(Level::Debug, format_args!("{kind}: {peer} disconnected ({name}), {open} in all"));
        }
        owner.events.left(ended.peer);
        // Before the place, so that a server that is told of it finds the permit, too.
        drop(ended.permit);
        connections.give_back(index);
        if left == 0 && !(owner.handle.kind == Kind::Server && mutant::is_on(Mutant::EndlessDrain)) {
            owner.signal.notify();
        }
    }
}

impl<P: Port> Locked<'_, P> {
    /// What has come is being read; in pull mode by whoever asks for it, until the linger deadline.
    fn drain_step(&self, reason: Status) -> Step {
        let is_read_out = || self.sender.socket.as_ref().is_none_or(|socket| !matches!(P::peek(socket), Ok(1..)));
        if self.connection.has(PULL) && is_read_out() { Step::Finish(reason) } else { Step::Wait }
    }

    fn is_a_servers(&self) -> bool {
        self.sender.owner.as_ref().is_some_and(|owner| owner.handle.kind == Kind::Server)
    }

    /// Reads what has arrived and throws it away: a socket that is closed with bytes unread sends RST, which can destroy
    /// what it sent before. A peer that goes on sending has it coming.
    #[cold]
    pub(super) fn throw_away_received(&self) {
        let Some(socket) = &self.sender.socket else { return };
        let mut buffer = [0; 4096];
        for _ in 0..MOST_READS_THROWN_AWAY {
            match P::receive(socket, &mut buffer) {
                Ok(length) if length > 0 => {}
                _ => return,
            }
        }
    }

    /// Nothing is taken any more. Gives the first send of which the user is still to be told (see
    /// [`super::send_queue::SendQueue::take_mark`]).
    fn close_socket(&mut self, port: &P, reason: Status) -> Option<(u64, bool)> {
        let ending = &mut self.sender.ending;
        let is_reset = ending.resets || ending.close == Some(Close::Reset);
        (ending.close, ending.reason) = (Some(Close::Reset), reason);
        self.sender.takes_plain_sends = false;
        self.drop_bytes();
        self.sender.state = SendState::Idle;
        self.connection.unsettled.store(false, Release);
        self.keep_peer_name();
        if let Some(socket) = self.sender.socket.take() {
            if is_reset {
                P::reset_on_close(&socket);
            }
            if P::DETACH_BEFORE_CLOSE {
                port.detach(&socket);
            }
            drop(socket);
        }
        self.tell_threads();
        self.sender.queue.take_mark(&self.connections.blocks, false)
    }
}

//! The calls that wait: a thread of the host's sleeps on a connection until there is room, or bytes, or the end.

use std::io;
use std::sync::PoisonError;
use std::time::Instant;

use super::calls::Patience;
use super::close::Close;
use super::connections::Connections;
use super::locked::Locked;
use super::outgoing::Outgoing;
use super::state::{PEER_ENDED, PULL};
use crate::pool::handle::Handle;
use crate::port::{Port, status_of};
use crate::status::Status;

fn deadline_of(patience: Patience) -> Option<Instant> {
    patience.and_then(|patience| Instant::now().checked_add(patience))
}

impl<P: Port> Connections<P> {
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
        let deadline = deadline_of(patience);
        let mut locked = self.locked(conn)?;
        loop {
            match locked.send_some(&data[*taken..]) {
                Ok(len) => *taken += len,
                Err(Status::QueueFull | Status::PoolExhausted) => {
                    locked = locked.wait(Handle::generation_of(conn), deadline)?;
                }
                Err(status) => return Err(status),
            }
            if *taken == data.len() {
                return Ok(());
            }
        }
    }

    /// Reads into the caller's buffer, waiting for bytes.
    pub(super) fn receive_wait(&self, conn: u64, buffer: &mut [u8], patience: Patience) -> Result<usize, Status> {
        self.may_block()?;
        let deadline = deadline_of(patience);
        let mut locked = self.locked(conn)?;
        if !locked.connection.has(PULL) {
            return Err(Status::State);
        }
        if buffer.is_empty() {
            return Err(Status::InvalidArgument);
        }
        loop {
            match locked.receive(buffer)? {
                Some(len) => return Ok(len),
                None => locked = locked.wait(Handle::generation_of(conn), deadline)?,
            }
        }
    }
}

impl<'a, P: Port> Locked<'a, P> {
    /// As much as there is room for now; a smaller piece when the pool is short.
    fn send_some(&mut self, rest: &[u8]) -> Result<usize, Status> {
        if !self.sender.takes_sends() {
            return Err(Status::Closed); // However full the queue still is.
        }
        let room = (self.sender.bounds.limit as usize).saturating_sub(self.sender.waiting()).min(rest.len());
        if room == 0 && !rest.is_empty() {
            return Err(Status::QueueFull);
        }
        // The wait ends by itself; `on_writable` is for those who do not wait.
        let owed = self.sender.waits.owes_writable();
        let piece = &rest[..room];
        let block = self.connections.blocks.block_bytes() as usize;
        let sent = match self.send_any(&Outgoing::new(&[piece], 0), None) {
            Err(Status::PoolExhausted | Status::Limit) if piece.len() > block => {
                self.send_any(&Outgoing::new(&[&piece[..block]], 0), None).map(|()| block)
            }
            other => other.map(|()| piece.len()),
        };
        self.sender.waits.set_owes_writable(owed);
        sent
    }

    /// Reads what is there; None: nothing yet.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Status> {
        let connection = self.connection;
        if connection.has(PEER_ENDED) {
            return Err(Status::EndOfStream);
        }
        let ending = &self.sender.ending;
        let has_ended = ending.close.is_some_and(|how| how > Close::SendSide && how != Close::Drain);
        let Some(socket) = self.sender.socket.as_ref().filter(|_| !has_ended) else {
            // A broken connection says what broke it; a closed one, that it is closed.
            return Err(if ending.reason == Status::Ok { Status::Closed } else { ending.reason });
        };
        let breaks_off = ending.close == Some(Close::Drain);
        match P::receive(socket, buffer) {
            Ok(len @ 1..) => {
                connection.count_received(len, self.connections.clock_ms());
                Ok(Some(len))
            }
            _ if breaks_off => {
                // That was the last byte; what is told is what ended it.
                self.post_ready();
                Err(ending.reason)
            }
            Ok(_) => {
                connection.set(PEER_ENDED);
                self.post_ready();
                Err(Status::EndOfStream)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                let reason = status_of(&error);
                self.fail(reason);
                Err(reason)
            }
        }
    }

    /// Lets the lock go until somebody says that the connection changed, or the deadline passes.
    fn wait(self, generation: u32, deadline: Option<Instant>) -> Result<Locked<'a, P>, Status> {
        let Locked { connections, connection, index, mut sender } = self;
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) {
            return Err(Status::Timeout);
        }
        sender.waits.add_thread();
        let mut sender = match left {
            Some(left) => connection.changed.wait_timeout(sender, left).unwrap_or_else(PoisonError::into_inner).0,
            None => connection.changed.wait(sender).unwrap_or_else(PoisonError::into_inner),
        };
        if connection.generation() != generation {
            // What ended it, unless the next connection is in its place already.
            let reason = sender.ending.reason;
            let is_known = sender.owner.is_none() && reason != Status::Ok;
            return Err(if is_known { reason } else { Status::Closed });
        }
        sender.waits.remove_thread();
        Ok(Locked { connections, connection, index, sender })
    }
}

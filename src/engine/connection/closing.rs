//! The ways in which a connection is asked to end. Any thread may ask; its worker does it (ending.rs).

use super::close::Close;
use super::connections::Connections;
use super::locked::Locked;
use super::owner::Owner;
use super::state::{CLOSING, PAUSED, Phase, READ_OUT, RESUMED};
use crate::engine::mutant::{self, Mutant};
use crate::pool::handle::Handle;
use crate::pool::lock;
use crate::pool::room::{self, NoMemory};
use crate::port::Port;
use crate::status::Status;

impl<P: Port> Connections<P> {
    /// Asks for the end of the connection in this place, if it is still the one that the generation means.
    pub(in crate::engine) fn close_member(&self, index: u32, generation: u32, how: Close, reason: Status) {
        let mut locked = self.lock(index);
        if locked.connection.generation() == generation && locked.sender.owner.is_some() {
            locked.close(how, reason);
        }
    }

    /// The same for every connection of a worker.
    #[cold]
    pub(super) fn close_all_of(&self, worker: usize, reason: Status) {
        self.close_all_whose(Close::Now, reason, |locked| locked.connection.worker() == worker);
    }

    /// The same for every connection of which this is so; needs no memory.
    #[cold]
    fn close_all_whose(&self, how: Close, reason: Status, is_so: impl Fn(&Locked<'_, P>) -> bool) {
        for index in 0..self.table.places.len() as u32 {
            let mut locked = self.lock(index);
            if locked.sender.owner.is_some() && is_so(&locked) {
                locked.close(how, reason);
            }
        }
    }

    /// The same for every connection of an owner, which was stopped.
    pub(in crate::engine) fn close_members(&self, owner: &Owner, how: Close) {
        let live = |index: &u32| self.table.live_handle(*index);
        let members: Result<Vec<Handle>, NoMemory> = {
            let members = lock(&owner.members);
            room::list(members.places.len()).map(|mut list| {
                list.extend(members.places.iter().filter_map(live));
                list
            })
        };
        match members {
            Ok(members) => {
                for handle in members {
                    self.close_member(handle.index, handle.generation, how, Status::Stopped);
                }
            }
            Err(NoMemory) => self.close_all_whose(how, Status::Stopped, |locked| {
                locked.sender.owner.as_ref().is_some_and(|other| std::ptr::eq(&**other, owner))
            }),
        }
    }
}

impl<P: Port> Locked<'_, P> {
    /// Notes the strongest end that was asked for, and tells the worker.
    pub(super) fn close(&mut self, how: Close, reason: Status) {
        let is_news = if how == Close::Due { self.note_due(reason) } else { self.note_close(how, reason) };
        if is_news {
            self.post_ready();
        }
    }

    /// The socket is broken: nothing more will leave, and the worker closes it for this reason.
    pub(super) fn fail(&mut self, reason: Status) {
        // A broken socket gives what has come, and then its end; one that lacks something may go on for ever.
        self.break_off(reason, false, reason != Status::Reset);
    }

    /// Ends it for a reason that is not the user's: what has come is handed over first. `resets`: in the end it is reset.
    /// `until_empty`: it ends when nothing more is to be read, and does not wait for the end of the stream.
    pub(super) fn break_off(&mut self, reason: Status, resets: bool, until_empty: bool) {
        let connection = self.connection;
        let is_unwanted = connection.has(CLOSING) || mutant::is_on(Mutant::UnreadThrownAway);
        if is_unwanted || connection.phase() == Phase::Opening {
            // Nobody wants what has come.
            return self.close(if resets { Close::Reset } else { Close::Now }, reason);
        }
        if !self.note_close(Close::Drain, reason) {
            return;
        }
        let now_ms = self.connections.clock_ms();
        let ending = &mut self.sender.ending;
        (ending.resets, ending.until_empty) = (resets, until_empty);
        ending.lingers_since_ms = now_ms;
        connection.unset(PAUSED);
        connection.set(READ_OUT | RESUMED);
        self.post_ready();
    }

    /// Notes that it has no time left; false when it had none before, or a stronger end was asked for.
    fn note_due(&mut self, reason: Status) -> bool {
        let sender = &mut *self.sender;
        let is_over = sender.ending.close.is_some_and(|before| before >= Close::Now);
        if sender.socket.is_none() || is_over || std::mem::replace(&mut sender.ending.is_due, true) {
            return false;
        }
        let how = if sender.queue.unsent() > 0 { Close::Reset } else { Close::Flush };
        self.note_close(how, reason);
        true
    }

    /// Notes it only; false when this end, or a stronger one, was asked for before. The reason is that of the first full
    /// one; but when what it would have let leave is thrown away, it is what cut that short.
    pub(super) fn note_close(&mut self, how: Close, reason: Status) -> bool {
        let sender = &mut *self.sender;
        let before = sender.ending.close;
        // Nothing can be flushed any more, and the user wants nothing more of what has come.
        let how = if before == Some(Close::Drain) && how == Close::Flush { Close::Now } else { how };
        if sender.socket.is_none() || before.is_some_and(|before| before >= how) {
            return false;
        }
        let is_cut_short = how >= Close::Drain && reason != Status::Ok && sender.queue.unsent() > 0;
        if is_cut_short && before == Some(Close::Flush) || before.is_none_or(|before| before == Close::SendSide) {
            sender.ending.reason = reason;
        }
        sender.ending.close = Some(how);
        sender.takes_plain_sends = false;
        sender.waits.set_owes_writable(false);
        if how > Close::SendSide && how != Close::Drain {
            self.connection.set(CLOSING);
        }
        if how >= Close::Drain {
            self.drop_bytes();
        } else if mutant::is_on(Mutant::CorkLost) {
            self.forget_corked();
        }
        self.tell_threads();
        true
    }
}

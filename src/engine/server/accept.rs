//! Accepting: as many as there are places for; otherwise it rests until there is one, or until descriptors are back. Who
//! is not let in is reset and counted, and never becomes a connection.

use std::io;
use std::sync::atomic::Ordering::*;

use super::judge::Reserved;
use super::pace::Pause;
use super::server::{Run, Server, State};
use crate::engine::config::AtLimit;
use crate::engine::connection::peer::Peer;
use crate::engine::connection::place::Place;
use crate::engine::connection::place_waiters::PlaceWaiter;
use crate::engine::connection::turn::Turn;
use crate::engine::events::Level;
use crate::engine::log::Flood;
use crate::engine::mutant::{self, Mutant};
use crate::engine::stats::Refusal;
use crate::engine::worker::sources::Source;
use crate::pool::lock;
use crate::port::{AcceptError, Accepted, Address, Port};

/// How long accepting rests when descriptors or memory ran out.
const EXHAUSTION_PAUSE_NS: u64 = 100_000_000;

impl<P: Port> PlaceWaiter for Server<P> {
    fn place_is_free(&self) {
        if self.has_place() {
            self.resume_accepting(Pause::NoPlace);
        }
    }
}

impl<P: Port> Source<P> for Server<P> {
    /// Its listener has connections to accept.
    fn ready(&self, turn: &mut Turn<'_, P>) {
        let pace = &self.gate.paces[turn.worker];
        let most = lock(pace).most;
        for _ in 0..most {
            let Some(reserved) = self.reserve() else { return };
            let Some(accepted) = self.gate.backlog.accept(&turn.link.port, &self.owner.signal) else { return };
            match accepted {
                Ok((Accepted { socket, peer }, _arrival)) => match self.judge(turn, &peer, reserved) {
                    Ok(place) => self.let_in(turn, socket, Peer::new(&peer), place),
                    Err(why) => self.refuse(turn, socket, &peer, why),
                },
                Err(AcceptError::NoneWaiting) => return lock(pace).ran_dry(),
                Err(AcceptError::Connection(_)) => {
                    if mutant::is_on(Mutant::PermitLost) {
                        std::mem::forget(reserved);
                    }
                }
                Err(AcceptError::Exhausted(error) | AcceptError::Listener(error)) => return self.back_off(&error),
            }
        }
        lock(pace).was_full();
        turn.state.accepts_left = true;
    }
}

impl<P: Port> Server<P> {
    fn has_place(&self) -> bool {
        self.gate.permits.taken() < self.config.max_connections && self.workers.connections.has_place()
    }

    /// Notes why accepting rests, or that it goes on.
    pub(super) fn note_pause(&self, state: &mut State, pause: Option<Pause>) {
        let before = std::mem::replace(&mut state.pause, pause);
        let waiters = &self.workers.connections.place_waiters;
        match (before == Some(Pause::NoPlace), pause == Some(Pause::NoPlace)) {
            (false, true) => self.as_waiter().into_iter().for_each(|me| waiters.insert(me)),
            (true, false) => self.as_waiter().iter().for_each(|me| waiters.remove(me)),
            _ => {}
        }
    }

    /// Ends a pause, if it is still the one for this reason.
    fn resume_accepting(&self, because: Pause) {
        let mut state = lock(&self.state);
        if state.pause != Some(because) {
            return;
        }
        self.note_pause(&mut state, None);
        let listener = self.gate.backlog.listener();
        let Some(listener) = &*listener else { return };
        if self.workers.watch(listener, self.key()).is_err() {
            // Not every worker could watch it, for want of memory.
            self.workers.unwatch(listener);
            self.note_pause(&mut state, Some(Pause::Exhausted));
            self.resume_at(self.workers.now_ns() + EXHAUSTION_PAUSE_NS, Pause::Exhausted);
        }
    }

    /// Takes the listener out of all ports until the reason is gone. False when it rests already.
    fn pause_accepting(&self, why: Pause) -> bool {
        let mut state = lock(&self.state);
        // A stop may have come since the event: a pause that it does not know of would be that of the next start.
        if state.run != Run::Running || state.pause.is_some() {
            return false;
        }
        self.note_pause(&mut state, Some(why));
        if let Some(listener) = &*self.gate.backlog.listener() {
            self.workers.unwatch(listener);
        }
        drop(state);
        if why != Pause::Exhausted {
            self.pauses.at_limit.fetch_add(1, Relaxed);
        }
        let waiters = &self.workers.connections.place_waiters;
        if why == Pause::NoPlace && waiters.last_look(|| self.has_place()) {
            self.resume_accepting(why);
        }
        true
    }

    /// Sets aside what the next connection needs, where those for which there is nothing wait in the backlog. None:
    /// accepting rests now.
    fn reserve(&self) -> Option<Reserved<'_, P>> {
        if self.config.at_limit == AtLimit::Reject {
            return Some(Reserved { place: None, token: None });
        }
        let place = self.workers.connections.take_place(Some(&self.gate.permits));
        if place.is_none() {
            self.pause_accepting(Pause::NoPlace);
            return None;
        }
        let token = self.gate.admission.as_ref().map(|admission| admission.token(|| self.workers.now_ns()));
        match token.transpose() {
            Ok(token) => Some(Reserved { place, token: token.flatten() }),
            Err(at_ns) => {
                if self.pause_accepting(Pause::NoToken) {
                    self.resume_at(at_ns, Pause::NoToken);
                }
                None
            }
        }
    }

    /// A task ends the pause then.
    fn resume_at(&self, at_ns: u64, because: Pause) {
        let Some(me) = self.me.upgrade() else { return };
        self.workers.spawn(async move {
            me.workers.sleep_until(at_ns).await;
            me.resume_accepting(because);
        });
    }

    fn let_in(&self, turn: &Turn<'_, P>, socket: P::Socket, peer: Peer, place: Place<'_, P>) {
        if !self.accepted_inherit_options {
            // Options that fail leave a connection that works all the same.
            let _ = P::set_options(&socket, &self.config.connection.stream);
        }
        self.workers.connections.begin(&self.owner, socket, peer, place, turn.now_ms());
    }

    /// Counts and resets a connection that is not let in.
    fn refuse(&self, turn: &Turn<'_, P>, socket: P::Socket, peer: &Address, why: Refusal) {
        lock(&self.owner.members).totals.count_refusal(why);
        P::reset_on_close(&socket);
        drop(socket);
        // Whoever is kept out must not be able to fill the log.
        let tell = |kind, level, text: std::fmt::Arguments<'_>| {
            let line = format_args!("server: {peer} refused{text}");
            self.workers.connections.log.limited(kind, turn.state.mark_ns, level, line);
        };
        match why {
            Refusal::PerIp => {
                let most = self.config.max_connections_per_ip;
                tell(Flood::RefusedPerIp, Level::Warning, format_args!(", it has {most} connections already"));
            }
            Refusal::AtLimit => {
                tell(Flood::RefusedAtLimit, Level::Warning, format_args!(", at the limit of connections"));
            }
            Refusal::ByList => {
                tell(Flood::RefusedByList, Level::Debug, format_args!(" by the lists of addresses"));
            }
            Refusal::ByRate => tell(Flood::RefusedByRate, Level::Debug, format_args!(" by the accept rate")),
            Refusal::ByHost => tell(Flood::RefusedByHost, Level::Debug, format_args!(" by on_admit")),
        }
    }

    /// Descriptors or memory ran out: rest, then go on.
    fn back_off(&self, error: &io::Error) {
        self.pauses.exhausted.fetch_add(1, Relaxed);
        let now_ns = self.workers.now_ns();
        let line = format_args!("server: accept failed, trying again in 100 ms: {error}");
        self.workers.connections.log.limited(Flood::AcceptFailed, now_ns, Level::Error, line);
        if self.pause_accepting(Pause::Exhausted) {
            self.resume_at(now_ns + EXHAUSTION_PAUSE_NS, Pause::Exhausted);
        }
    }
}

//! Accepting: as many as there are places for; otherwise it rests until there is one, or until descriptors are back.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::*;

use super::adopt::Place;
use super::config::AtLimit;
use super::connection::Peer;
use super::core::Core;
use super::endpoint::Endpoint;
use super::events::Level;
use super::server::{Server, State};
use super::worker::Desk;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::Port;

/// The most connections accepted for one event before others get their turn.
const MOST_ACCEPTS: u32 = 64;
/// Events in a row with as many connections as were asked for, after which more are asked for.
const FULL_EVENTS: u32 = 8;
/// How long accepting rests when descriptors or memory ran out.
const EXHAUSTION_PAUSE_NS: u64 = 100_000_000;

/// IPv6 peers are counted by their /64.
fn ip_key(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

/// How many accepts a worker makes for one event. One that finds nobody costs nearly as much as one that does: the system
/// makes the new descriptor first. So more than one is tried only while connections come in crowds.
#[derive(Debug)]
pub struct Pace {
    least: u32,
    most: u32,
    full_events: u32,
}

impl Pace {
    /// A host that turns the engine itself may do so seldom: then as many as can be are accepted at once.
    pub fn new(is_caller_driven: bool) -> Pace {
        let least = if is_caller_driven { MOST_ACCEPTS } else { 1 };
        Pace { least, most: least, full_events: 0 }
    }

    /// An event ended with nobody left to accept.
    fn ran_dry(&mut self) {
        *self = Pace { most: self.least, full_events: 0, ..*self };
    }

    /// An event had as many connections as were asked for.
    fn was_full(&mut self) {
        self.full_events += 1;
        if self.full_events == FULL_EVENTS {
            *self = Pace { most: (self.most * 2).min(MOST_ACCEPTS), full_events: 0, ..*self };
        }
    }
}

/// Why a server does not accept for now.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// Every place is taken.
    NoPlace,
    /// Descriptors or memory ran out.
    Exhausted,
}

impl<P: Port> Core<P> {
    /// A place was given back: servers that wait for one accept again.
    pub(super) fn place_is_free(&self) {
        // Otherwise a server that begins to wait sees the place in its last look (see `pause_accepting`).
        if !self.servers_without_place.must_be_told() {
            return;
        }
        let endpoints = lock(&self.endpoints);
        for endpoint in endpoints.places.iter().take(super::config::MAX_SERVERS as usize).flatten() {
            if let Ok(server) = endpoint.server() {
                if self.has_place(server) {
                    self.resume_accepting(endpoint, server, Pause::NoPlace);
                }
            }
        }
    }

    fn has_place(&self, server: &Server<P>) -> bool {
        server.permits.taken() < server.config.max_connections && self.slots.free() > 0
    }

    /// Notes why accepting rests, or that it goes on; gives what was noted before.
    pub(super) fn note_pause(&self, state: &mut State<P>, pause: Option<Pause>) -> Option<Pause> {
        let before = std::mem::replace(&mut state.pause, pause);
        match (before == Some(Pause::NoPlace), pause == Some(Pause::NoPlace)) {
            (false, true) => self.servers_without_place.enter(),
            (true, false) => self.servers_without_place.leave(),
            _ => {}
        }
        before
    }

    /// Ends a pause, if it is still the one for this reason.
    fn resume_accepting(&self, endpoint: &Arc<Endpoint<P>>, server: &Server<P>, because: Pause) {
        let mut state = lock(&server.state);
        if state.pause != Some(because) {
            return;
        }
        self.note_pause(&mut state, None);
        let Some(listener) = &state.listener else { return };
        if self.watch(endpoint, listener).is_err() {
            // Not every worker could watch it, for want of memory.
            self.unwatch(listener);
            self.note_pause(&mut state, Some(Pause::Exhausted));
            self.resume_later(endpoint);
        }
    }

    /// Takes the listener out of all ports until the reason is gone. False when it rests already.
    fn pause_accepting(&self, endpoint: &Arc<Endpoint<P>>, server: &Server<P>, why: Pause) -> bool {
        let mut state = lock(&server.state);
        if state.pause.is_some() {
            return false;
        }
        self.note_pause(&mut state, Some(why));
        if let Some(listener) = &state.listener {
            self.unwatch(listener);
        }
        drop(state);
        if why == Pause::NoPlace {
            endpoint.accept_pauses.fetch_add(1, Relaxed);
            if self.servers_without_place.last_look(|| self.has_place(server)) {
                self.resume_accepting(endpoint, server, why);
            }
        }
        true
    }

    /// A story ends the pause in a while.
    fn resume_later(&self, endpoint: &Arc<Endpoint<P>>) {
        let (Some(core), endpoint) = (self.me.upgrade(), endpoint.clone()) else { return };
        self.workers[0].tasks.spawn(async move {
            let outside = &core.workers[0];
            let at = outside.port.now_ns() + EXHAUSTION_PAUSE_NS;
            outside.tasks.sleep_until(at, || outside.port.now_ns()).await;
            if let Ok(server) = endpoint.server() {
                core.resume_accepting(&endpoint, server, Pause::Exhausted);
            }
        });
    }
}

impl<P: Port> Desk<'_, P> {
    /// A listener has connections to accept.
    pub(super) fn accept_ready(&mut self, handle: Handle) {
        let core = self.core;
        let Ok(endpoint) = core.endpoint(handle.to_bits(), Kind::Server) else { return };
        let Ok(server) = endpoint.server() else { return };
        let Some(listener) = lock(&server.state).listener.clone() else { return };
        for _ in 0..self.state.accept_pace.most {
            let place = core.take_place(Some(&server.permits));
            if place.is_none() && server.config.at_limit == AtLimit::Wait {
                core.pause_accepting(&endpoint, server, Pause::NoPlace);
                return;
            }
            match (self.outside.port.accept(&listener), place) {
                (Ok((socket, address)), Some(place)) => {
                    self.admit(&endpoint, server, socket, Peer::new(address), place)
                }
                (Ok((socket, address)), None) => self.reject(&endpoint, socket, Peer::new(address)),
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => {
                    return self.state.accept_pace.ran_dry();
                }
                (Err(error), _) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                (Err(error), _) => return self.back_off(&endpoint, server, &error),
            }
        }
        self.state.accept_pace.was_full();
    }

    fn admit(
        &mut self,
        endpoint: &Arc<Endpoint<P>>,
        server: &Server<P>,
        socket: P::Socket,
        peer: Peer,
        place: Place<'_, P>,
    ) {
        if server.admits(peer) {
            if !server.accepted_inherit_options {
                // Options that fail leave a connection that works all the same.
                let _ = P::set_options(&socket, &endpoint.connection.stream);
            }
            self.core.adopt(endpoint, socket, peer, place, self.now_ms());
            return;
        }
        lock(&endpoint.book).totals.refused_per_ip += 1;
        P::reset_on_close(&socket);
        drop(socket);
        let most = server.config.max_connections_per_ip;
        self.core.log(Level::Warning, format_args!("server: {peer} refused, it has {most} connections already"));
    }

    fn reject(&self, endpoint: &Endpoint<P>, socket: P::Socket, peer: Peer) {
        lock(&endpoint.book).totals.refused_at_limit += 1;
        P::reset_on_close(&socket);
        drop(socket);
        self.core.log(Level::Warning, format_args!("server: {peer} refused, at the limit of connections"));
    }

    /// Descriptors or memory ran out: rest, then go on.
    fn back_off(&mut self, endpoint: &Arc<Endpoint<P>>, server: &Server<P>, error: &io::Error) {
        endpoint.descriptor_exhaustions.fetch_add(1, Relaxed);
        self.core.log(Level::Error, format_args!("server: accept failed, trying again in 100 ms: {error}"));
        if self.core.pause_accepting(endpoint, server, Pause::Exhausted) {
            self.core.resume_later(endpoint);
        }
    }
}

impl<P: Port> Server<P> {
    /// Counts a peer in, unless it has its share already.
    fn admits(&self, peer: Peer) -> bool {
        let (most, Some(ip)) = (self.config.max_connections_per_ip, peer.ip()) else { return true };
        if most == 0 {
            return true;
        }
        let mut per_ip = lock(&self.per_ip);
        let count = per_ip.entry(ip_key(ip)).or_insert(0);
        let admits = *count < most;
        *count += u32::from(admits);
        admits
    }

    /// Counts a peer out.
    pub(super) fn forget_peer(&self, peer: Peer) {
        let Some(ip) = peer.ip().filter(|_| self.config.max_connections_per_ip > 0) else { return };
        let mut per_ip = lock(&self.per_ip);
        if let Some(count) = per_ip.get_mut(&ip_key(ip)) {
            *count -= 1;
            if *count == 0 {
                per_ip.remove(&ip_key(ip));
            }
        }
    }
}

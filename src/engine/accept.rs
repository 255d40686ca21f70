//! Accepting: as many as there are places for; otherwise it rests until there is one, or until descriptors are back. Who
//! is not let in is reset and counted, and never becomes a connection.

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
use super::mutant::{self, Mutant};
use super::server::{Server, State};
use super::worker::Desk;
use crate::pool::bucket::Token;
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
    /// The accept rate is used up.
    NoToken,
    /// Descriptors or memory ran out.
    Exhausted,
}

/// Why a connection was not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Refusal {
    /// By the lists of address blocks.
    ByList,
    /// By the accept rate.
    ByRate,
    /// By the user, who was asked.
    ByHost,
    /// At the limit of connections.
    AtLimit,
    /// At the limit of one address.
    PerIp,
    /// The server was stopped meanwhile.
    Stopped,
}

/// What is set aside before a connection is taken out of the backlog, when those for which there is nothing stay in it.
struct Reserved<'a, P: Port> {
    place: Option<Place<'a, P>>,
    token: Option<Token<'a>>,
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
            self.resume_at(endpoint, self.workers[0].port.now_ns() + EXHAUSTION_PAUSE_NS, Pause::Exhausted);
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
        if why != Pause::Exhausted {
            endpoint.accept_pauses.fetch_add(1, Relaxed);
        }
        if why == Pause::NoPlace && self.servers_without_place.last_look(|| self.has_place(server)) {
            self.resume_accepting(endpoint, server, why);
        }
        true
    }

    /// Sets aside what the next connection needs, where those for which there is nothing wait in the backlog. None:
    /// accepting rests now.
    fn reserve<'a>(&'a self, endpoint: &Arc<Endpoint<P>>, server: &'a Server<P>) -> Option<Reserved<'a, P>> {
        if server.config.at_limit == AtLimit::Reject {
            return Some(Reserved { place: None, token: None });
        }
        let place = self.take_place(Some(&server.permits));
        if place.is_none() {
            self.pause_accepting(endpoint, server, Pause::NoPlace);
            return None;
        }
        let token = server.admission.as_ref().map(|admission| admission.token(|| self.workers[0].port.now_ns()));
        match token.transpose() {
            Ok(token) => Some(Reserved { place, token: token.flatten() }),
            Err(at_ns) => {
                if self.pause_accepting(endpoint, server, Pause::NoToken) {
                    self.resume_at(endpoint, at_ns, Pause::NoToken);
                }
                None
            }
        }
    }

    /// A story ends the pause then.
    fn resume_at(&self, endpoint: &Arc<Endpoint<P>>, at_ns: u64, because: Pause) {
        let (Some(core), endpoint) = (self.me.upgrade(), endpoint.clone()) else { return };
        self.workers[0].tasks.spawn(async move {
            let outside = &core.workers[0];
            outside.tasks.sleep_until(at_ns, || outside.port.now_ns()).await;
            if let Ok(server) = endpoint.server() {
                core.resume_accepting(&endpoint, server, because);
            }
        });
    }
}

impl<'d, P: Port> Desk<'d, P> {
    /// A listener has connections to accept.
    pub(super) fn accept_ready(&mut self, handle: Handle) {
        let core = self.core;
        let Ok(endpoint) = core.endpoint(handle.to_bits(), Kind::Server) else { return };
        let Ok(server) = endpoint.server() else { return };
        let Some(listener) = lock(&server.state).listener.clone() else { return };
        for _ in 0..self.state.accept_pace.most {
            let Some(reserved) = core.reserve(&endpoint, server) else { return };
            match self.outside.port.accept(&listener) {
                Ok((socket, address)) => {
                    let peer = Peer::new(address);
                    match self.judge(&endpoint, server, peer, reserved) {
                        Ok(place) => self.let_in(&endpoint, server, socket, peer, place),
                        Err(why) => self.refuse(&endpoint, server, socket, peer, why),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.state.accept_pace.ran_dry(),
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                    if mutant::is_on(Mutant::PermitLost) {
                        std::mem::forget(reserved);
                    }
                }
                Err(error) => return self.back_off(&endpoint, server, &error),
            }
        }
        self.state.accept_pace.was_full();
    }

    /// Whether a peer is let in, and its place if it is. In this order: lists, rate, the user, limits.
    fn judge<'a>(
        &mut self,
        endpoint: &Endpoint<P>,
        server: &'a Server<P>,
        peer: Peer,
        reserved: Reserved<'a, P>,
    ) -> Result<Place<'a, P>, Refusal>
    where
        'd: 'a,
    {
        let core = self.core;
        if let Some(admission) = &server.admission {
            if !admission.lists_admit(peer.ip()) {
                return Err(Refusal::ByList);
            }
            let token = match reserved.token {
                None => admission.token(|| self.outside.port.now_ns()).map_err(|_| Refusal::ByRate)?,
                reserved => reserved,
            };
            if let Some(token) = token {
                token.spend();
            }
        }
        self.ask(endpoint, peer)?;
        let place = reserved.place.or_else(|| core.take_place(Some(&server.permits))).ok_or(Refusal::AtLimit)?;
        if server.admits(peer) { Ok(place) } else { Err(Refusal::PerIp) }
    }

    fn let_in(
        &self,
        endpoint: &Arc<Endpoint<P>>,
        server: &Server<P>,
        socket: P::Socket,
        peer: Peer,
        place: Place<'_, P>,
    ) {
        if !server.accepted_inherit_options {
            // Options that fail leave a connection that works all the same.
            let _ = P::set_options(&socket, &endpoint.connection.stream);
        }
        self.core.adopt(endpoint, socket, peer, place, self.now_ms());
    }

    /// Counts and resets a connection that is not let in.
    fn refuse(&self, endpoint: &Endpoint<P>, server: &Server<P>, socket: P::Socket, peer: Peer, why: Refusal) {
        lock(&endpoint.book).totals.count_refusal(why);
        P::reset_on_close(&socket);
        drop(socket);
        let core = self.core;
        match why {
            Refusal::PerIp => {
                let most = server.config.max_connections_per_ip;
                core.log(Level::Warning, format_args!("server: {peer} refused, it has {most} connections already"));
            }
            Refusal::AtLimit => {
                core.log(Level::Warning, format_args!("server: {peer} refused, at the limit of connections"));
            }
            // Whoever is kept out must not be able to fill the log.
            Refusal::ByList => core.log(Level::Debug, format_args!("server: {peer} refused by the lists of addresses")),
            Refusal::ByRate => core.log(Level::Debug, format_args!("server: {peer} refused by the accept rate")),
            Refusal::ByHost => core.log(Level::Debug, format_args!("server: {peer} refused by on_admit")),
            Refusal::Stopped => {}
        }
    }

    /// Descriptors or memory ran out: rest, then go on.
    fn back_off(&mut self, endpoint: &Arc<Endpoint<P>>, server: &Server<P>, error: &io::Error) {
        endpoint.descriptor_exhaustions.fetch_add(1, Relaxed);
        self.core.log(Level::Error, format_args!("server: accept failed, trying again in 100 ms: {error}"));
        if self.core.pause_accepting(endpoint, server, Pause::Exhausted) {
            let at_ns = self.outside.port.now_ns() + EXHAUSTION_PAUSE_NS;
            self.core.resume_at(endpoint, at_ns, Pause::Exhausted);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_peers_of_one_64_count_together_and_ipv4_peers_each_for_itself() {
        let key = |ip: &str| ip_key(ip.parse().unwrap());
        assert_eq!(key("2001:db8:0:7::1"), key("2001:db8:0:7:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:0:7::1"), key("2001:db8:0:8::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}

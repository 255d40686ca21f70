//! Servers: accept policy, permits, start, stop with drain.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::api::{Close, Patience};
use super::config::{AtLimit, ConnectionConfig, ServerConfig};
use super::connection::{Connection, PULL, Peer, Phase};
use super::core::Core;
use super::endpoint::{Book, Endpoint, Role};
use super::events::{Handler, Level};
use super::failure::{Failure, Outcome, status_of};
use super::tasks::Signal;
use super::worker::Desk;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::pool::permits::{Permit, Permits};
use crate::pool::slots::Slot;
use crate::port::{Address, Port};
use crate::status::Status;

/// Connections accepted for one event before others get their turn.
const ACCEPTS_PER_EVENT: u32 = 64;
/// How long accepting rests when descriptors or memory ran out.
const EXHAUSTION_PAUSE_NS: u64 = 100_000_000;

/// What only a server has.
pub struct Server<P: Port> {
    config: ServerConfig,
    permits: Arc<Permits>,
    state: Mutex<State<P>>,
    changed: Condvar,
    /// Accepting waits for a free place.
    paused: AtomicBool,
    /// Connections by peer, when they are bounded.
    per_ip: Mutex<HashMap<IpAddr, u32>>,
}

struct State<P: Port> {
    run: Run,
    listener: Option<Arc<P::Socket>>,
    /// Where it listens or last listened.
    address: String,
    /// The inherited descriptor, until it is taken over.
    listen_fd: Option<i32>,
    /// When the drain ends.
    drain_until_ns: u64,
    /// The first step of the drain drops queues.
    abrupt: bool,
    destroyed: bool,
    /// A story drains or retires it.
    story: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Stopped,
    Running,
    Draining,
}

/// IPv6 peers are counted by their /64.
fn ip_key(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

impl<P: Port> Core<P> {
    pub(super) fn server_create(&self, mut config: ServerConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        config.connection = config.connection.validated()?;
        let engine_most = self.config.max_connections;
        config.max_connections = match config.max_connections {
            0 => engine_most,
            most => most.min(engine_most),
        };
        if config.listen.backlog == 0 {
            config.listen.backlog = config.max_connections;
        }
        let address = match (&config.address, config.listen_fd) {
            (Some(text), None) => Address::parse_listen(text)
                .map_err(|error| Failure::new(Status::InvalidArgument, error.message))?
                .to_string(),
            (None, Some(_)) => String::new(),
            _ => {
                let message = "a server needs an address or an inherited descriptor, and not both";
                return Err(Failure::new(Status::InvalidArgument, message));
            }
        };
        let per_ip = if config.max_connections_per_ip > 0 { config.max_connections as usize } else { 0 };
        let connection = config.connection;
        let server = Server {
            permits: Permits::new(config.max_connections),
            state: Mutex::new(State {
                run: Run::Stopped,
                listener: None,
                address,
                listen_fd: config.listen_fd,
                drain_until_ns: 0,
                abrupt: false,
                destroyed: false,
                story: false,
            }),
            changed: Condvar::new(),
            paused: AtomicBool::new(false),
            per_ip: Mutex::new(HashMap::with_capacity(per_ip)),
            config,
        };
        let members = server.config.max_connections as usize;
        let entered = self.enter_endpoint(Kind::Server, |handle| {
            Endpoint::new(handle, handler, connection, members, Role::Server(server))
        });
        entered.map(|endpoint| endpoint.handle.to_bits()).map_err(|status| match status {
            Status::Limit => {
                Failure::new(status, "an engine has at most 64 servers: destroy one, or make another engine")
            }
            other => other.into(),
        })
    }

    pub(super) fn server_start(&self, server: u64) -> Outcome<()> {
        let endpoint = self.endpoint(server, Kind::Server)?;
        let server = endpoint.server()?;
        let mut state = lock(&server.state);
        if state.destroyed {
            return Err(Failure::new(Status::State, "the server is being destroyed"));
        }
        match state.run {
            Run::Running => return Ok(()),
            Run::Draining => {
                return Err(Failure::new(Status::State, "the server is draining: wait for it (wharf_server_wait)"));
            }
            Run::Stopped => {}
        }
        let port = &self.workers[0].port;
        let listener = match (&server.config.address, state.listen_fd) {
            (_, Some(fd)) => {
                let adopted = port
                    .adopt_listener(fd)
                    .map_err(|error| Failure::from_io(&format!("take over the listening descriptor {fd}"), &error))?;
                state.listen_fd = None;
                adopted
            }
            (Some(text), None) => {
                let address = Address::parse_listen(text)
                    .map_err(|error| Failure::new(Status::InvalidArgument, error.message))?;
                port.listen(&address, &server.config.listen)
                    .map_err(|error| Failure::from_io(&format!("bind {text}"), &error))?
            }
            (None, None) => {
                let message =
                    "the inherited descriptor was used up by the first start: make a new server with an address";
                return Err(Failure::new(Status::State, message));
            }
        };
        if let Ok(address) = P::local_address(&listener) {
            state.address = address.to_string();
        }
        let listener = Arc::new(listener);
        // Open before the first event can come.
        lock(&endpoint.book).shut = false;
        server.paused.store(false, SeqCst);
        state.run = Run::Running;
        state.listener = Some(listener.clone());
        if let Err(error) = self.watch(&endpoint, &listener) {
            state.run = Run::Stopped;
            lock(&endpoint.book).shut = true;
            state.listener = None;
            self.unwatch(&listener);
            return Err(Failure::from_io("watch the listening socket", &error));
        }
        let (me, address) = (self.me.clone(), state.address.clone());
        self.workers[0].tasks.spawn(async move {
            if let Some(core) = me.upgrade() {
                core.log(Level::Info, format_args!("server: listening on {address}"));
            }
        });
        Ok(())
    }

    fn watch(&self, endpoint: &Endpoint<P>, listener: &P::Socket) -> io::Result<()> {
        let key = endpoint.handle.to_bits();
        self.workers.iter().try_for_each(|worker| worker.port.attach_listener(listener, key))
    }

    fn unwatch(&self, listener: &P::Socket) {
        for worker in &self.workers {
            worker.port.detach(listener);
        }
    }

    pub(super) fn server_stop(&self, server: u64, drain_ms: u32) -> Result<(), Status> {
        let endpoint = self.endpoint(server, Kind::Server)?;
        self.stop_server(&endpoint, drain_ms, false, false)
    }

    pub(super) fn server_destroy(&self, server: u64) -> Result<(), Status> {
        let endpoint = self.endpoint(server, Kind::Server)?;
        self.stop_server(&endpoint, 0, true, true)
    }

    /// Stops accepting at once; a story on the first worker does the rest.
    pub(super) fn stop_server(
        &self,
        endpoint: &Arc<Endpoint<P>>,
        drain_ms: u32,
        abrupt: bool,
        destroy: bool,
    ) -> Result<(), Status> {
        let server = endpoint.server()?;
        let mut state = lock(&server.state);
        let was_destroyed = state.destroyed;
        state.destroyed |= destroy;
        let until = self.workers[0].port.now_ns().saturating_add(u64::from(drain_ms) * 1_000_000);
        match state.run {
            Run::Running => {
                state.run = Run::Draining;
                state.drain_until_ns = until;
                state.abrupt = abrupt;
                lock(&endpoint.book).shut = true;
                if let Some(listener) = state.listener.take() {
                    self.unwatch(&listener);
                    // Another worker may be in an accept; the last of us closes it.
                    drop(listener);
                }
            }
            Run::Draining => {
                state.drain_until_ns = state.drain_until_ns.min(until);
                endpoint.signal.notify();
            }
            Run::Stopped if !destroy || was_destroyed => return Ok(()),
            Run::Stopped => {}
        }
        if !state.story {
            state.story = true;
            if let Some(core) = self.me.upgrade() {
                let endpoint = endpoint.clone();
                self.workers[0].tasks.spawn(async move { core.end_server(endpoint).await });
            }
        }
        Ok(())
    }

    /// The story of a stop: flush and FIN, wait for the deadline, reset what is left; then say so; then, if the server
    /// was destroyed, the last callback.
    async fn end_server(self: Arc<Self>, endpoint: Arc<Endpoint<P>>) {
        let Ok(server) = endpoint.server() else { return };
        let abrupt = lock(&server.state).abrupt;
        let timeouts_before = lock(&endpoint.book).totals.closed_by.by_timeout;
        let before = self.close_members(&endpoint, if abrupt { Close::Now } else { Close::Flush });
        let mut resets = 0;
        while !lock(&endpoint.book).members.is_empty() {
            let until = lock(&server.state).drain_until_ns;
            let port = &self.workers[0].port;
            if !abrupt && port.now_ns() >= until && resets == 0 {
                resets = self.close_members(&endpoint, Close::Reset);
            }
            if resets > 0 || abrupt {
                endpoint.signal.notified().await;
            } else {
                let tasks = &self.workers[0].tasks;
                smol::future::or(endpoint.signal.notified(), tasks.sleep_until(until, || port.now_ns())).await;
            }
        }
        let (drained, resets) = {
            let mut book = lock(&endpoint.book);
            // A linger deadline inside of the drain cuts a connection off, too.
            let cut_off = resets as u64 + book.totals.closed_by.by_timeout - timeouts_before;
            let drained = (before as u64).saturating_sub(cut_off);
            if !abrupt {
                book.totals.drained += drained;
                book.totals.drain_resets += cut_off;
            }
            (drained, cut_off)
        };
        let destroyed = {
            let mut state = lock(&server.state);
            if state.run == Run::Draining {
                let address = &state.address;
                match abrupt {
                    true => self.log(Level::Info, format_args!("server: {address} stopped, {before} closed")),
                    false => self
                        .log(Level::Info, format_args!("server: {address} stopped, {drained} drained, {resets} reset")),
                }
            }
            state.run = Run::Stopped;
            state.story = false;
            state.destroyed
        };
        if destroyed {
            endpoint.handler.on_drop();
            self.flush_corks();
            self.strike_endpoint(&endpoint);
        }
        server.changed.notify_all();
    }

    /// Closes every connection of an endpoint; gives how many it asked.
    pub(super) fn close_members(&self, endpoint: &Endpoint<P>, how: Close) -> usize {
        let members: Vec<Handle> =
            lock(&endpoint.book).members.iter().filter_map(|index| self.live_handle(*index)).collect();
        for handle in &members {
            self.close_member(handle.index, handle.generation, how, Status::Stopped);
        }
        members.len()
    }

    pub(super) fn server_wait(&self, server: u64, patience: Patience) -> Result<(), Status> {
        self.may_block()?;
        let endpoint = self.endpoint(server, Kind::Server)?;
        let server = endpoint.server()?;
        let state = lock(&server.state);
        let stopped = |state: &mut State<P>| state.run != Run::Stopped || state.story;
        match patience {
            None => {
                drop(server.changed.wait_while(state, stopped).unwrap_or_else(PoisonError::into_inner));
            }
            Some(patience) => {
                let waited = server.changed.wait_timeout_while(state, patience, stopped);
                if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
                    return Err(Status::Timeout);
                }
            }
        }
        Ok(())
    }

    pub(super) fn server_is_running(&self, server: u64) -> Result<bool, Status> {
        let endpoint = self.endpoint(server, Kind::Server)?;
        Ok(lock(&endpoint.server()?.state).run == Run::Running)
    }

    pub(super) fn server_address(&self, server: u64) -> Result<String, Status> {
        let endpoint = self.endpoint(server, Kind::Server)?;
        Ok(lock(&endpoint.server()?.state).address.clone())
    }

    pub(super) fn server_connections(&self, server: u64, out: &mut dyn FnMut(u64)) -> Result<usize, Status> {
        let endpoint = self.endpoint(server, Kind::Server)?;
        let book = lock(&endpoint.book);
        let mut count = 0;
        for index in &book.members {
            let Some(handle) = self.live_handle(*index) else { continue };
            if self.connections[*index as usize].phase() == Phase::Open {
                out(handle.to_bits());
                count += 1;
            }
        }
        Ok(count)
    }

    /// A place became free: servers that wait for one accept again.
    pub(super) fn place_is_free(&self) {
        let endpoints = lock(&self.endpoints);
        for endpoint in endpoints.places.iter().take(super::config::MAX_SERVERS as usize).flatten() {
            if let Ok(server) = endpoint.server() {
                if server.paused.load(SeqCst) {
                    self.resume_accepting(endpoint, server);
                }
            }
        }
    }

    fn resume_accepting(&self, endpoint: &Endpoint<P>, server: &Server<P>) {
        let state = lock(&server.state);
        if !server.paused.swap(false, SeqCst) {
            return;
        }
        if let Some(listener) = &state.listener {
            if self.watch(endpoint, listener).is_err() {
                // It could not be watched by all; try when the next place is free.
                self.unwatch(listener);
                server.paused.store(true, SeqCst);
            }
        }
    }

    /// Takes the listener out of all ports until a place is free or the pause is over.
    fn pause_accepting(&self, endpoint: &Endpoint<P>, server: &Server<P>) {
        let state = lock(&server.state);
        if server.paused.swap(true, SeqCst) {
            return;
        }
        if let Some(listener) = &state.listener {
            self.unwatch(listener);
        }
        endpoint.accept_pauses.fetch_add(1, Relaxed);
        drop(state);
        // A place may have become free between the refusal and the flag.
        if server.permits.taken() < server.config.max_connections && self.slots.free() > 0 {
            self.resume_accepting(endpoint, server);
        }
    }

    /// Fills a place and registers it with the worker that has the fewest connections.
    pub(super) fn adopt(
        &self,
        endpoint: &Arc<Endpoint<P>>,
        socket: P::Socket,
        peer: Peer,
        slot: Slot,
        permit: Option<Permit>,
    ) -> Option<u64> {
        let index = slot.index();
        let connection = &self.connections[index as usize];
        let worker = self.worker_with_fewest();
        // Options that fail leave a connection that works all the same.
        let _ = P::set_options(&socket, &endpoint.connection.stream);
        let handle = self.fill(connection, endpoint, socket, peer, slot, permit, worker);
        self.workers[worker].open.fetch_add(1, AcqRel);
        if endpoint.join(connection, index).is_none() {
            self.empty(connection);
            self.workers[worker].open.fetch_sub(1, AcqRel);
            endpoint.forget_peer(peer);
            self.place_is_free();
            return None;
        }
        let side = lock(&connection.send);
        if connection.generation.load(Acquire) != handle.generation {
            return Some(handle.to_bits()); // Closed already.
        }
        let attached = side.socket.as_ref().map(|socket| self.workers[worker].port.attach(socket, handle.to_bits()));
        drop(side);
        if let Some(Err(error)) = attached {
            self.close_member(index, handle.generation, Close::Now, status_of(&error));
        }
        Some(handle.to_bits())
    }

    fn worker_with_fewest(&self) -> usize {
        let counts = self.workers.iter().map(|worker| worker.open.load(Relaxed));
        counts.enumerate().min_by_key(|(_, open)| *open).map_or(0, |(worker, _)| worker)
    }

    #[allow(clippy::too_many_arguments)]
    fn fill(
        &self,
        connection: &Connection<P>,
        endpoint: &Arc<Endpoint<P>>,
        socket: P::Socket,
        peer: Peer,
        slot: Slot,
        permit: Option<Permit>,
        worker: usize,
    ) -> Handle {
        let now = self.clock_ms();
        let ConnectionConfig { timeouts, send_queue_limit_bytes, .. } = endpoint.connection;
        let mut side = lock(&connection.send);
        let handle = self.handle_of(slot.index());
        connection.flags.store(if endpoint.wants.receive { 0 } else { PULL }, Release);
        connection.worker.store(worker as u16, Release);
        connection.endpoint.store(endpoint.handle.index, Relaxed);
        connection.raw.store(P::raw(&socket), Relaxed);
        for stamp in [&connection.last_receive_ms, &connection.last_send_ms, &connection.opened_ms] {
            stamp.store(now, Relaxed);
        }
        connection.bytes_in.store(0, Relaxed);
        connection.messages_in.store(0, Relaxed);
        connection.user_data.store(0, Relaxed);
        connection.send_unsettled.store(false, Relaxed);
        connection.set_timeouts(timeouts);
        side.socket = Some(socket);
        side.close = None;
        side.reason = Status::Ok;
        side.blocked = false;
        side.corked = false;
        side.owes_writable = false;
        side.fin_sent = false;
        side.waiters = 0;
        side.limit = send_queue_limit_bytes;
        side.messages_out = 0;
        side.refused = 0;
        side.peer = peer;
        side.endpoint = Some(endpoint.clone());
        side.permit = permit;
        side.slot = Some(slot);
        connection.set_phase(Phase::Opening);
        handle
    }

    /// Undoes [`Core::fill`] before anybody else knew of it.
    fn empty(&self, connection: &Connection<P>) {
        let mut side = lock(&connection.send);
        connection.set_phase(Phase::Free);
        connection.generation.store(connection.generation.load(Relaxed).wrapping_add(1), Release);
        let given_back = (side.socket.take(), side.endpoint.take(), side.permit.take(), side.slot.take());
        drop(side);
        drop(given_back);
    }
}

impl<P: Port> Desk<'_, P> {
    /// A listener has connections to accept.
    pub(super) fn accept_ready(&mut self, handle: Handle) {
        let core = self.core;
        let Ok(endpoint) = core.endpoint(handle.to_bits(), Kind::Server) else { return };
        let Ok(server) = endpoint.server() else { return };
        let Some(listener) = lock(&server.state).listener.clone() else { return };
        for _ in 0..ACCEPTS_PER_EVENT {
            let place = server.permits.try_take().and_then(|permit| Some((permit, core.slots.take()?)));
            if place.is_none() && server.config.at_limit == AtLimit::Wait {
                return core.pause_accepting(&endpoint, server);
            }
            match (core.workers[self.index].port.accept(&listener), place) {
                (Ok((socket, address)), Some((permit, slot))) => {
                    self.admit(&endpoint, server, socket, Peer::new(address), permit, slot);
                }
                (Ok((socket, address)), None) => {
                    lock(&endpoint.book).totals.refused_at_limit += 1;
                    P::reset_on_close(&socket);
                    drop(socket);
                    let peer = Peer::new(address);
                    core.log(Level::Warning, format_args!("server: {peer} refused, at the limit of connections"));
                }
                (Err(error), _) if error.kind() == io::ErrorKind::WouldBlock => return,
                (Err(error), _) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                (Err(error), _) => return self.back_off(&endpoint, server, &error),
            }
        }
    }

    fn admit(
        &mut self,
        endpoint: &Arc<Endpoint<P>>,
        server: &Server<P>,
        socket: P::Socket,
        peer: Peer,
        permit: Permit,
        slot: Slot,
    ) {
        if server.admits(peer) {
            self.core.adopt(endpoint, socket, peer, slot, Some(permit));
            return;
        }
        lock(&endpoint.book).totals.refused_per_ip += 1;
        P::reset_on_close(&socket);
        drop(socket);
        let most = server.config.max_connections_per_ip;
        self.core.log(Level::Warning, format_args!("server: {peer} refused, it has {most} connections already"));
    }

    /// Descriptors or memory ran out: rest, then go on.
    fn back_off(&mut self, endpoint: &Arc<Endpoint<P>>, server: &Server<P>, error: &io::Error) {
        endpoint.descriptor_exhaustions.fetch_add(1, Relaxed);
        self.core.log(Level::Error, format_args!("server: accept failed, trying again in 100 ms: {error}"));
        let state = lock(&server.state);
        if server.paused.swap(true, SeqCst) {
            return;
        }
        if let Some(listener) = &state.listener {
            self.core.unwatch(listener);
        }
        let (Some(core), endpoint, worker) = (self.core.me.upgrade(), endpoint.clone(), self.index) else { return };
        self.core.workers[worker].tasks.spawn(async move {
            let outside = &core.workers[worker];
            let at = outside.port.now_ns() + EXHAUSTION_PAUSE_NS;
            outside.tasks.sleep_until(at, || outside.port.now_ns()).await;
            if let Ok(server) = endpoint.server() {
                core.resume_accepting(&endpoint, server);
            }
        });
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

impl<P: Port> Endpoint<P> {
    /// A new endpoint; it takes no connection until it is started.
    pub(super) fn new(
        handle: Handle,
        handler: Box<dyn Handler>,
        connection: ConnectionConfig,
        members: usize,
        role: Role<P>,
    ) -> Endpoint<P> {
        Endpoint {
            handle,
            wants: handler.wants(),
            handler,
            connection,
            book: Mutex::new(Book { members: Vec::with_capacity(members), shut: true, ..Book::default() }),
            signal: Signal::default(),
            accept_pauses: 0.into(),
            descriptor_exhaustions: 0.into(),
            role,
        }
    }

    /// Counts a peer out of a server's share for each address.
    pub(super) fn forget_peer(&self, peer: Peer) {
        if let Role::Server(server) = &self.role {
            server.forget_peer(peer);
        }
    }
}

//! Servers: accept policy, permits, start, stop with drain.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::accept::Pause;
use super::admission::Admission;
use super::api::{Close, Patience};
use super::config::ServerConfig;
use super::connection::Phase;
use super::core::Core;
use super::endpoint::{Endpoint, Role};
use super::events::{Handler, Level};
use super::failure::{Failure, Outcome};
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::pool::permits::Permits;
use crate::port::{Address, ListenOptions, Port};
use crate::status::Status;

/// What only a server has.
pub struct Server<P: Port> {
    pub(super) config: ServerConfig,
    pub(super) permits: Arc<Permits>,
    pub(super) state: Mutex<State<P>>,
    changed: Condvar,
    /// Who may come in; None: everybody.
    pub(super) admission: Option<Box<Admission>>,
    /// Connections by peer, when they are bounded.
    pub(super) per_ip: Mutex<HashMap<IpAddr, u32>>,
    /// The options of its connections are those of its listener already.
    pub(super) accepted_inherit_options: bool,
}

pub(super) struct State<P: Port> {
    run: Run,
    pub(super) listener: Option<Arc<P::Socket>>,
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
    /// Why it does not accept for now.
    pub(super) pause: Option<Pause>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Stopped,
    Running,
    Draining,
}

impl<P: Port> Core<P> {
    pub(super) fn server_create(&self, mut config: ServerConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        config = config.validated()?;
        let engine_most = self.config.max_connections;
        config.max_connections = match config.max_connections {
            0 => engine_most,
            most => most.min(engine_most),
        };
        if config.listen.backlog == 0 {
            config.listen.backlog = config.max_connections;
        }
        let (address, accepted_inherit_options) = match (&config.address, config.listen_fd) {
            (Some(text), None) => {
                let address = Address::parse_listen(text)
                    .map_err(|error| Failure::new(Status::InvalidArgument, error.message))?;
                (address.to_string(), P::accepted_inherit_options(&address))
            }
            // Others may hold the descriptor, too: its options are theirs.
            (None, Some(_)) => (String::new(), false),
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
                pause: None,
            }),
            changed: Condvar::new(),
            admission: Admission::new(&config)?,
            per_ip: Mutex::new(HashMap::with_capacity(per_ip)),
            accepted_inherit_options,
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
                let options = ListenOptions { stream: endpoint.connection.stream, ..server.config.listen };
                port.listen(&address, &options).map_err(|error| Failure::from_io(&format!("bind {text}"), &error))?
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

    pub(super) fn watch(&self, endpoint: &Endpoint<P>, listener: &P::Socket) -> io::Result<()> {
        let key = endpoint.handle.to_bits();
        self.workers.iter().try_for_each(|worker| worker.port.attach_listener(listener, key))
    }

    pub(super) fn unwatch(&self, listener: &P::Socket) {
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
                self.note_pause(&mut state, None);
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
        while lock(&endpoint.book).asking > 0 {
            endpoint.signal.notified().await;
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
            self.flush_own_corks();
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
}

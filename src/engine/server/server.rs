//! A server: made stopped, started, stopped, waited for.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use super::admission::Admission;
use super::backlog::Backlog;
use super::pace::{Pace, Pause};
use super::per_ip::{PerIp, PerIpEvents};
use crate::engine::config::ServerConfig;
use crate::engine::connection::calls::Patience;
use crate::engine::connection::layer::Layer;
use crate::engine::connection::owner::{Owner, Retire};
use crate::engine::connection::place_waiters::PlaceWaiter;
use crate::engine::connection::state::Phase;
use crate::engine::events::{Handler, Level};
use crate::engine::failure::{Failure, Outcome};
use crate::engine::stats::Stats;
use crate::engine::worker::sources::Source;
use crate::engine::worker::workers::Workers;
use crate::pool::handle::Handle;
use crate::pool::lock;
use crate::pool::permits::Permits;
use crate::pool::room::{self, NoMemory};
use crate::port::{Address, ListenOptions, OsHandle, Port};
use crate::status::Status;

/// A server.
pub struct Server<P: Port> {
    /// Itself, for tasks and as it registers itself.
    pub(super) me: Weak<Server<P>>,
    pub(super) workers: Arc<Workers<P>>,
    pub(in crate::engine) owner: Arc<Owner>,
    pub(super) config: ServerConfig,
    pub(super) gate: Gate<P>,
    pub(super) state: Mutex<State>,
    pub(super) changed: Condvar,
    pub(super) pauses: Pauses,
    /// The options of its connections are those of its listener already.
    pub(super) accepted_inherit_options: bool,
    pub(super) retire: Retire,
}

/// What stands between the backlog and a place.
pub(super) struct Gate<P: Port> {
    pub backlog: Backlog<P>,
    pub permits: Arc<Permits>,
    /// Who may come in; None: everybody.
    pub admission: Option<Box<Admission>>,
    pub per_ip: Arc<PerIp>,
    /// How many accepts each worker makes for one event.
    pub paces: Box<[Mutex<Pace>]>,
}

/// How often accepting was paused at the limit, or backed off.
#[derive(Default)]
pub(super) struct Pauses {
    pub at_limit: AtomicU64,
    pub exhausted: AtomicU64,
}

pub(super) struct State {
    pub run: Run,
    /// Where it listens or last listened.
    pub address: String,
    /// The inherited descriptor, until it is taken over.
    listen_fd: Option<i32>,
    pub drain: Drain,
    pub destroyed: bool,
    /// A task drains or retires it.
    pub has_task: bool,
    /// Why it does not accept for now.
    pub pause: Option<Pause>,
}

/// How a stop is meant.
#[derive(Clone, Copy)]
pub struct Stop {
    /// Milliseconds that connections have to end by themselves.
    pub drain_ms: u32,
    /// There is no drain, and nothing is counted as drained.
    pub is_abrupt: bool,
    /// It is freed behind.
    pub destroys: bool,
}

/// The end that is under way.
#[derive(Clone, Copy, Default)]
pub(super) struct Drain {
    pub until_ns: u64,
    /// There is no drain.
    pub is_abrupt: bool,
    /// The sums when it began.
    pub before: Stats,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    Stopped,
    Running,
    Draining,
}

/// The same configuration with what depends on the engine filled in, and the address as it will be printed.
pub fn complete(config: ServerConfig, engine_most: u32) -> Outcome<ServerConfig> {
    let mut config = config.validated()?;
    config.max_connections = match config.max_connections {
        0 => engine_most,
        most => most.min(engine_most),
    };
    if config.listen.backlog == 0 {
        config.listen.backlog = config.max_connections;
    }
    Ok(config)
}

fn parse(text: &str) -> Outcome<Address> {
    Address::parse_listen(text).map_err(|error| Failure::new(Status::InvalidArgument, error.message))
}

/// What can fail of a server, before it has a handle.
pub struct Prepared {
    config: ServerConfig,
    address: Option<Address>,
    admission: Option<Box<Admission>>,
}

impl Prepared {
    /// Judges a configuration.
    pub fn new(config: ServerConfig, engine_most: u32) -> Outcome<Prepared> {
        let config = complete(config, engine_most)?;
        let address = match (&config.address, config.listen_fd) {
            (Some(text), None) => Some(parse(text)?),
            (None, Some(_)) => None,
            _ => {
                let message = "a server needs an address or an inherited descriptor, and not both";
                return Err(Failure::new(Status::InvalidArgument, message));
            }
        };
        Ok(Prepared { admission: Admission::new(&config)?, address, config })
    }
}

impl<P: Port> Server<P> {
    /// Makes it, stopped.
    pub fn new(
        prepared: Prepared,
        handle: Handle,
        handler: Box<dyn Handler>,
        layer: Option<Box<dyn Layer>>,
        workers: &Arc<Workers<P>>,
        retire: Retire,
    ) -> Result<Arc<Server<P>>, NoMemory> {
        let Prepared { config, address, admission } = prepared;
        let connections = &workers.connections;
        let per_ip = Arc::new(PerIp::new(config.max_connections_per_ip, config.max_connections)?);
        let most = config.max_connections as usize;
        let events = Box::new(PerIpEvents(per_ip.clone()));
        let gate = Gate {
            backlog: Backlog::new(),
            permits: Permits::new(config.max_connections),
            admission,
            per_ip,
            paces: room::filled(connections.links.len(), |_| Mutex::new(Pace::new(connections.is_caller_driven())))?,
        };
        let owner = Arc::new(Owner::new(handle, handler, config.connection, most, events, layer)?);
        Ok(Arc::new_cyclic(|me| Server {
            me: me.clone(),
            workers: workers.clone(),
            owner,
            gate,
            state: Mutex::new(State {
                run: Run::Stopped,
                address: address.as_ref().map_or_else(String::new, Address::to_string),
                listen_fd: config.listen_fd,
                drain: Drain::default(),
                destroyed: false,
                has_task: false,
                pause: None,
            }),
            changed: Condvar::new(),
            pauses: Pauses::default(),
            // Others may hold an inherited descriptor, too: its options are theirs.
            accepted_inherit_options: address.as_ref().is_some_and(P::accepted_inherit_options),
            retire,
            config,
        }))
    }

    /// Its key with the ports.
    pub(super) fn key(&self) -> u64 {
        self.owner.handle.to_bits()
    }

    /// Itself, as it waits for a place.
    pub(super) fn as_waiter(&self) -> Option<Arc<dyn PlaceWaiter>> {
        self.me.upgrade().map(|me| me as Arc<dyn PlaceWaiter>)
    }

    /// Binds and listens.
    pub fn start(&self) -> Outcome<()> {
        let mut state = lock(&self.state);
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
        let listener = self.listen(&mut state)?;
        if let Ok(address) = P::local_address(&listener) {
            state.address = address.to_string();
        }
        // Open before the first event can come.
        self.owner.set_shut(false);
        state.run = Run::Running;
        if let Some(me) = self.me.upgrade() {
            self.workers.sources.insert(self.key(), me as Arc<dyn Source<P>>);
        }
        self.gate.backlog.open(listener);
        let watched = self.gate.backlog.listener().as_ref().map(|listener| self.watch(listener));
        if let Some(Err(error)) = watched {
            self.gate.backlog.close().iter().for_each(|listener| self.unwatch(listener));
            self.owner.set_shut(true);
            let has_come = !self.gate.backlog.is_deserted() || !self.owner.is_empty();
            if !has_come {
                state.run = Run::Stopped;
            }
            drop(state);
            if has_come {
                // Some workers did watch it.
                self.stop(Stop { drain_ms: 0, is_abrupt: true, destroys: false });
            }
            return Err(Failure::from_io("watch the listening socket", &error));
        }
        let (connections, address) = (self.workers.connections.clone(), state.address.clone());
        self.workers.spawn(async move {
            connections.log.line(Level::Info, format_args!("server: listening on {address}"));
        });
        Ok(())
    }

    fn listen(&self, state: &mut State) -> Outcome<P::Socket> {
        let port = self.workers.port();
        match (&self.config.address, state.listen_fd) {
            (_, Some(fd)) => {
                let adopted = port
                    .adopt_listener(OsHandle::Descriptor(fd))
                    .map_err(|error| Failure::from_io(&format!("take over the listening descriptor {fd}"), &error))?;
                state.listen_fd = None;
                Ok(adopted)
            }
            (Some(text), None) => {
                let options = ListenOptions { stream: self.config.connection.stream, ..self.config.listen };
                port.listen(&parse(text)?, &options).map_err(|error| Failure::from_io(&format!("bind {text}"), &error))
            }
            (None, None) => {
                let message =
                    "the inherited descriptor was used up by the first start: make a new server with an address";
                Err(Failure::new(Status::State, message))
            }
        }
    }

    fn watch(&self, listener: &P::Socket) -> io::Result<()> {
        self.workers.watch(listener, self.key())
    }

    /// No worker is told of its listener any more.
    pub(super) fn unwatch(&self, listener: &P::Socket) {
        self.workers.unwatch(listener);
        self.workers.sources.remove(self.key());
    }

    /// Blocks until it is stopped.
    pub fn wait(&self, patience: Patience) -> Result<(), Status> {
        self.workers.connections.may_block()?;
        let state = lock(&self.state);
        let runs = |state: &mut State| state.run != Run::Stopped || state.has_task;
        match patience {
            None => drop(self.changed.wait_while(state, runs).unwrap_or_else(PoisonError::into_inner)),
            Some(patience) => {
                let waited = self.changed.wait_timeout_while(state, patience, runs);
                if waited.unwrap_or_else(PoisonError::into_inner).1.timed_out() {
                    return Err(Status::Timeout);
                }
            }
        }
        Ok(())
    }

    /// Whether it listens.
    pub fn is_running(&self) -> bool {
        lock(&self.state).run == Run::Running
    }

    /// Where it listens (the real port), or what it was configured with.
    pub fn address(&self) -> String {
        lock(&self.state).address.clone()
    }

    /// Writes the handles of its connections; gives how many there are.
    pub fn connections(&self, out: &mut dyn FnMut(u64)) -> usize {
        let table = &self.workers.connections.table;
        let mut count = 0;
        for index in &lock(&self.owner.members).places {
            let Some(handle) = table.live_handle(*index) else { continue };
            if table.places[*index as usize].phase() == Phase::Open {
                out(handle.to_bits());
                count += 1;
            }
        }
        count
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        Stats {
            accept_pauses: self.pauses.at_limit.load(Relaxed),
            descriptor_exhaustions: self.pauses.exhausted.load(Relaxed),
            ..self.owner.stats(|index| self.workers.connections.table.traffic_of(index))
        }
    }

    /// Permits that are taken.
    #[cfg(feature = "testing")]
    pub fn permits_taken(&self) -> u32 {
        self.gate.permits.taken()
    }
}

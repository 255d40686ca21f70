//! A client: made stopped, started, stopped, waited for.

use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};

use super::resolver::Resolver;
use crate::engine::config::ClientConfig;
use crate::engine::connection::calls::Patience;
use crate::engine::connection::close::Close;
use crate::engine::connection::owner::{Owner, OwnerEvents, Retire};
use crate::engine::connection::state::{CLOSING, OPENED};
use crate::engine::events::Handler;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::stats::Stats;
use crate::engine::worker::workers::Workers;
use crate::pool::handle::Handle;
use crate::pool::lock;
use crate::pool::room::NoMemory;
use crate::port::{Address, AddressError, Port, Target};
use crate::status::Status;

/// A client.
pub struct Client<P: Port> {
    /// Itself, for tasks.
    pub(super) me: Weak<Client<P>>,
    pub(super) workers: Arc<Workers<P>>,
    pub(in crate::engine) owner: Arc<Owner>,
    pub(super) config: ClientConfig,
    pub(super) target: Target,
    pub(super) local: Option<Address>,
    pub(super) progress: Arc<Progress>,
    pub(super) resolver: Arc<Resolver>,
    pub(super) retire: Retire,
}

/// How far it is; its connection tells it, too.
#[derive(Default)]
pub(super) struct Progress {
    pub state: Mutex<State>,
    pub changed: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    pub run: Run,
    /// The connection of now, once it is open.
    pub connection: u64,
    /// Whether one was open since the start.
    was_open: bool,
    pub failure: Option<Failure>,
    pub destroyed: bool,
    pub has_task: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Run {
    #[default]
    Stopped,
    /// The task runs.
    Running,
    /// It was asked to end: flush first, or at once.
    Stopping(Close),
}

/// Its connection tells it when it is open.
struct ClientEvents {
    progress: Arc<Progress>,
    unix_target: Option<Address>,
}

impl OwnerEvents for ClientEvents {
    fn opened(&self, conn: u64) {
        let mut state = lock(&self.progress.state);
        state.connection = conn;
        state.was_open = true;
        state.failure = None;
        drop(state);
        self.progress.changed.notify_all();
    }

    fn unix_target(&self) -> Option<&Address> {
        self.unix_target.as_ref()
    }
}

/// What can fail of a client, before it has a handle.
pub struct Prepared {
    config: ClientConfig,
    target: Target,
    local: Option<Address>,
}

impl Prepared {
    /// Judges a configuration.
    pub fn new(config: ClientConfig) -> Outcome<Prepared> {
        let config = config.validated()?;
        let bad = |error: AddressError| Failure::new(Status::InvalidArgument, error.message);
        let target = Target::parse(&config.address).map_err(bad)?;
        let local = config.local_address.as_deref().map(Address::parse_local).transpose().map_err(bad)?;
        Ok(Prepared { config, target, local })
    }

    /// Whether its address is a name, which must be resolved.
    pub fn has_name(&self) -> bool {
        matches!(self.target, Target::Host { .. })
    }
}

impl<P: Port> Client<P> {
    /// Makes it, stopped.
    pub fn new(
        prepared: Prepared,
        handle: Handle,
        handler: Box<dyn Handler>,
        workers: &Arc<Workers<P>>,
        resolver: &Arc<Resolver>,
        retire: Retire,
    ) -> Result<Arc<Client<P>>, NoMemory> {
        let Prepared { config, target, local } = prepared;
        let resolver = resolver.clone();
        let progress = Arc::new(Progress::default());
        let unix_target = match &target {
            Target::Address(address) if address.is_unix() => Some(address.clone()),
            _ => None,
        };
        let events = Box::new(ClientEvents { progress: progress.clone(), unix_target });
        let owner = Arc::new(Owner::new(handle, handler, config.connection, 1, events, None)?);
        let workers = workers.clone();
        Ok(Arc::new_cyclic(|me| Client {
            me: me.clone(),
            workers,
            owner,
            config,
            target,
            local,
            progress,
            resolver,
            retire,
        }))
    }

    pub(super) fn run(&self) -> Run {
        lock(&self.progress.state).run
    }

    /// Waits until it is asked to stop.
    pub(super) async fn stopped(&self) {
        while self.run() == Run::Running {
            self.owner.signal.notified().await;
        }
    }

    /// Begins to connect.
    pub fn start(&self) -> Outcome<()> {
        let mut state = lock(&self.progress.state);
        if state.destroyed {
            return Err(Failure::new(Status::State, "the client is being destroyed"));
        }
        match state.run {
            Run::Running => return Ok(()),
            Run::Stopping(_) => {
                return Err(Failure::new(Status::State, "the client is stopping: wait for its on_close"));
            }
            Run::Stopped => {}
        }
        *state = State { run: Run::Running, has_task: true, ..State::default() };
        self.owner.set_shut(false);
        if let Some(me) = self.me.upgrade() {
            self.workers.spawn(async move { me.keep_connected().await });
        }
        Ok(())
    }

    /// Asks the task to end, and begins one that makes the last callback if none runs.
    pub fn stop(&self, how: Close, destroys: bool) {
        let mut state = lock(&self.progress.state);
        let was_destroyed = state.destroyed;
        state.destroyed |= destroys;
        state.run = match state.run {
            Run::Stopped => Run::Stopped,
            Run::Running => Run::Stopping(how),
            Run::Stopping(before) => Run::Stopping(before.max(how)),
        };
        if state.has_task {
            drop(state);
            self.owner.signal.notify();
        } else if destroys && !was_destroyed {
            state.has_task = true;
            if let Some(me) = self.me.upgrade() {
                self.workers.spawn(async move { me.end() });
            }
        }
    }

    /// The last step of its task.
    pub(super) fn end(&self) {
        self.owner.set_shut(true);
        let destroyed = {
            let mut state = lock(&self.progress.state);
            if state.run != Run::Running {
                state.failure = Some(Failure::new(Status::Stopped, "the client was stopped"));
            }
            state.run = Run::Stopped;
            state.has_task = false;
            state.destroyed
        };
        if destroyed {
            self.owner.handler.on_drop();
            self.workers.connections.flush_own_corks();
            (self.retire)(self.owner.handle, &self.stats());
        }
        self.progress.changed.notify_all();
    }

    /// The connection of now; none when it is on its way out.
    pub fn connection(&self) -> Result<u64, Status> {
        let connection = lock(&self.progress.state).connection;
        match self.workers.connections.table.by_handle(connection) {
            Ok((place, _)) if place.is_open() && place.has(OPENED) && !place.has(CLOSING) => Ok(connection),
            _ => Err(Status::State),
        }
    }

    /// Waits until a connection was open since the start, or there will be none.
    pub fn wait(&self, patience: Patience) -> Outcome<()> {
        self.workers.connections.may_block()?;
        let state = lock(&self.progress.state);
        if state.run == Run::Stopped && !state.was_open && state.failure.is_none() {
            return Err(Failure::new(Status::State, "the client was not started"));
        }
        let undecided = |state: &mut State| !state.was_open && state.run != Run::Stopped;
        let changed = &self.progress.changed;
        let state = match patience {
            None => changed.wait_while(state, undecided).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = changed.wait_timeout_while(state, patience, undecided);
                let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                if timeout.timed_out() {
                    let message = match &state.failure {
                        Some(failure) => format!("not connected in time; the latest attempt: {}", failure.message),
                        None => "not connected in time".to_string(),
                    };
                    return Err(Failure::new(Status::Timeout, message));
                }
                state
            }
        };
        if state.was_open {
            return Ok(());
        }
        Err(state.failure.clone().unwrap_or_else(|| Status::Stopped.into()))
    }

    /// Its counters.
    pub fn stats(&self) -> Stats {
        self.owner.stats(|index| self.workers.connections.table.traffic_of(index))
    }
}

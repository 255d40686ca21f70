//! Clients: one story each - connect, wait for the end, connect again if asked to.

use std::sync::atomic::Ordering::*;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::api::{Close, Patience};
use super::config::ClientConfig;
use super::connection::{OPENED, Peer};
use super::core::Core;
use super::dial::Route;
use super::endpoint::{Endpoint, Role};
use super::events::{Handler, Level};
use super::failure::{Failure, Outcome};
use super::mutant::{self, Mutant};
use crate::pool::handle::Kind;
use crate::pool::lock;
use crate::port::{Address, Port, Target};
use crate::status::Status;

/// What only a client has.
pub struct Client {
    pub(super) config: ClientConfig,
    pub(super) target: Target,
    pub(super) local: Option<Address>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    run: Run,
    /// The connection of now, once it is open.
    connection: u64,
    /// Whether one was open since the start.
    was_open: bool,
    failure: Option<Failure>,
    destroyed: bool,
    story: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Run {
    #[default]
    Stopped,
    /// The story runs.
    Running,
    /// It was asked to end: flush first, or at once.
    Stopping(Close),
}

impl Client {
    /// The worker tells that `on_open` has returned.
    pub(super) fn connected(&self, connection: u64) {
        let mut state = lock(&self.state);
        state.connection = connection;
        state.was_open = true;
        state.failure = None;
        drop(state);
        self.changed.notify_all();
    }

    fn run(&self) -> Run {
        lock(&self.state).run
    }
}

impl<P: Port> Core<P> {
    pub(super) fn client_create(&self, config: ClientConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        let config = config.validated()?;
        let bad = |error: crate::port::AddressError| Failure::new(Status::InvalidArgument, error.message);
        let target = Target::parse(&config.address).map_err(bad)?;
        let local = config.local_address.as_deref().map(Address::parse_local).transpose().map_err(bad)?;
        let connection = config.connection;
        let client = Client { config, target, local, state: Mutex::new(State::default()), changed: Condvar::new() };
        let entered = self
            .enter_endpoint(Kind::Client, |handle| Endpoint::new(handle, handler, connection, 1, Role::Client(client)));
        entered.map(|endpoint| endpoint.handle.to_bits()).map_err(|status| match status {
            Status::Limit => Failure::new(
                status,
                "an engine has at most max_connections clients: destroy one or raise max_connections",
            ),
            other => other.into(),
        })
    }

    pub(super) fn client_start(&self, client: u64) -> Outcome<()> {
        let endpoint = self.endpoint(client, Kind::Client)?;
        let client = endpoint.client()?;
        let mut state = lock(&client.state);
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
        *state = State { run: Run::Running, story: true, ..State::default() };
        lock(&endpoint.book).shut = false;
        if let Some(core) = self.me.upgrade() {
            let endpoint = endpoint.clone();
            self.workers[0].tasks.spawn(async move { core.run_client(endpoint).await });
        }
        Ok(())
    }

    pub(super) fn client_stop(&self, client: u64) -> Result<(), Status> {
        let endpoint = self.endpoint(client, Kind::Client)?;
        self.stop_client(&endpoint, Close::Flush, false)
    }

    pub(super) fn client_destroy(&self, client: u64) -> Result<(), Status> {
        let endpoint = self.endpoint(client, Kind::Client)?;
        self.stop_client(&endpoint, Close::Now, true)
    }

    /// Asks the story to end, and begins one that makes the last callback if none runs.
    pub(super) fn stop_client(&self, endpoint: &Arc<Endpoint<P>>, how: Close, destroy: bool) -> Result<(), Status> {
        let client = endpoint.client()?;
        let mut state = lock(&client.state);
        let was_destroyed = state.destroyed;
        state.destroyed |= destroy;
        state.run = match state.run {
            Run::Stopped => Run::Stopped,
            Run::Running => Run::Stopping(how),
            Run::Stopping(before) => Run::Stopping(before.max(how)),
        };
        if state.story {
            drop(state);
            endpoint.signal.notify();
        } else if destroy && !was_destroyed {
            state.story = true;
            if let Some(core) = self.me.upgrade() {
                let endpoint = endpoint.clone();
                self.workers[0].tasks.spawn(async move { core.end_client(&endpoint) });
            }
        }
        Ok(())
    }

    async fn run_client(self: Arc<Self>, endpoint: Arc<Endpoint<P>>) {
        let Ok(client) = endpoint.client() else { return };
        let mut failed_in_a_row = 0;
        // Stopped before it began, the first attempt still has its outcome.
        loop {
            let failure = match self.attempt(&endpoint, client).await {
                Ok(()) => {
                    failed_in_a_row = 0;
                    Failure::from(Status::Closed)
                }
                Err(failure) => {
                    failed_in_a_row += 1;
                    self.tell_failed_attempt(&endpoint, client, &failure);
                    failure
                }
            };
            let ClientConfig { reconnect_max_ms, reconnect_attempts, .. } = client.config;
            if reconnect_max_ms == 0 || (reconnect_attempts > 0 && failed_in_a_row >= reconnect_attempts) {
                lock(&client.state).failure = Some(failure);
                break;
            }
            self.back_off(&endpoint, client, failed_in_a_row).await;
            if client.run() != Run::Running {
                break;
            }
        }
        self.end_client(&endpoint);
    }

    /// One attempt, and the life of the connection that came of it. An error tells that there was no `on_open`.
    async fn attempt(self: &Arc<Self>, endpoint: &Arc<Endpoint<P>>, client: &Client) -> Outcome<()> {
        let place = self.take_place(None).ok_or_else(|| {
            Failure::new(Status::Limit, "the engine has max_connections connections already: close one or raise it")
        })?;
        let dialled = smol::future::or(async { Some(self.dial(client).await) }, async {
            while client.run() == Run::Running {
                endpoint.signal.notified().await;
            }
            None
        });
        let Some(dialled) = dialled.await else {
            return Err(Status::Stopped.into());
        };
        let Route { socket, peer } = dialled?;
        if self.adopt(endpoint, socket, Peer::new(peer), place, self.clock_ms()).is_none() {
            return Err(Status::Stopped.into());
        }
        self.see_out(endpoint, client).await
    }

    /// Waits until the connection is gone; asks it to go when the client is stopped.
    async fn see_out(&self, endpoint: &Arc<Endpoint<P>>, client: &Client) -> Outcome<()> {
        let mut asked = None;
        while !lock(&endpoint.book).members.is_empty() {
            if let Run::Stopping(how) = client.run() {
                if asked < Some(how) {
                    asked = Some(how);
                    self.close_members(endpoint, how);
                }
            }
            endpoint.signal.notified().await;
        }
        let mut state = lock(&client.state);
        if std::mem::take(&mut state.connection) != 0 {
            return Ok(());
        }
        drop(state);
        // It broke before it was opened: an attempt that failed.
        let reason = lock(&endpoint.book).last_reason.unwrap_or(Status::Closed);
        Err(reason.into())
    }

    fn tell_failed_attempt(&self, endpoint: &Endpoint<P>, client: &Client, failure: &Failure) {
        self.log(Level::Info, format_args!("client: {}", failure.message));
        lock(&endpoint.book).totals.connect_failures += 1;
        lock(&client.state).failure = Some(failure.clone());
        endpoint.handler.on_close(0, failure.status);
        self.flush_own_corks();
    }

    /// Pauses before the next attempt: from the minimum, doubled with each failure up to the maximum, half of it by
    /// chance, so that clients that lost one server do not come back in step.
    async fn back_off(&self, endpoint: &Endpoint<P>, client: &Client, failed_in_a_row: u32) {
        let ClientConfig { reconnect_min_ms, reconnect_max_ms, .. } = client.config;
        let doublings = failed_in_a_row.saturating_sub(1).min(20);
        let most = (u64::from(reconnect_min_ms) << doublings).min(reconnect_max_ms.into()).max(1) * 1_000_000;
        let outside = &self.workers[0];
        let pause = match mutant::is_on(Mutant::ReconnectStorm) {
            true => 0,
            false => most / 2 + outside.port.random() % (most / 2 + 1),
        };
        let at = outside.port.now_ns() + pause;
        let stopped = async {
            while client.run() == Run::Running {
                endpoint.signal.notified().await;
            }
        };
        smol::future::or(stopped, outside.tasks.sleep_until(at, || outside.port.now_ns())).await;
    }

    fn end_client(&self, endpoint: &Arc<Endpoint<P>>) {
        let Ok(client) = endpoint.client() else { return };
        lock(&endpoint.book).shut = true;
        let destroyed = {
            let mut state = lock(&client.state);
            if state.run != Run::Running {
                state.failure = Some(Failure::new(Status::Stopped, "the client was stopped"));
            }
            state.run = Run::Stopped;
            state.story = false;
            state.destroyed
        };
        if destroyed {
            endpoint.handler.on_drop();
            self.flush_own_corks();
            self.strike_endpoint(endpoint);
        }
        client.changed.notify_all();
    }

    pub(super) fn client_connection(&self, client: u64) -> Result<u64, Status> {
        let endpoint = self.endpoint(client, Kind::Client)?;
        let connection = lock(&endpoint.client()?.state).connection;
        match self.connection(connection) {
            Ok((place, _)) if place.has(OPENED) => Ok(connection),
            _ => Err(Status::State),
        }
    }

    /// Waits until a connection was open since the start, or there will be none.
    pub(super) fn client_wait(&self, client: u64, patience: Patience) -> Outcome<()> {
        self.may_block()?;
        let endpoint = self.endpoint(client, Kind::Client)?;
        let client = endpoint.client()?;
        let state = lock(&client.state);
        if state.run == Run::Stopped && !state.was_open && state.failure.is_none() {
            return Err(Failure::new(Status::State, "the client was not started"));
        }
        let undecided = |state: &mut State| !state.was_open && state.run != Run::Stopped;
        let state = match patience {
            None => client.changed.wait_while(state, undecided).unwrap_or_else(PoisonError::into_inner),
            Some(patience) => {
                let waited = client.changed.wait_timeout_while(state, patience, undecided);
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

    /// A connect has ended, well or not: its story goes on.
    pub(super) fn dial_ended(&self, key: u64) {
        let waker = {
            let mut dials = lock(&self.dials);
            let Some(dial) = dials.get_mut(&key) else { return };
            dial.ended = true;
            dial.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The number of the next connect.
    pub(super) fn next_dial_number(&self) -> u32 {
        self.next_dial.fetch_add(1, Relaxed)
    }
}

//! Attempts to connect that race each other (RFC 8305, section 5).

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use crate::engine::connection::turn::Turn;
use crate::engine::failure::{Failure, Outcome};
use crate::engine::worker::sources::Source;
use crate::engine::worker::workers::Workers;
use crate::pool::lock;
use crate::port::{Address, Port, StreamOptions};
use crate::status::Status;

/// "Connection Attempt Delay" of RFC 8305, section 5.
const STAGGER_NS: u64 = 250_000_000;

/// Pauses between looks at a Unix listener whose backlog is full, before chance: they double from one to the other.
const LEAST_PAUSE_NS: u64 = 1_000_000;
const MOST_PAUSE_NS: u64 = 50_000_000;

/// A connection that was made.
pub struct Route<P: Port> {
    pub socket: P::Socket,
    pub peer: Address,
}

/// Attempts under way.
pub(super) struct Race<'a, P: Port> {
    workers: &'a Workers<P>,
    local: Option<&'a Address>,
    stream: &'a StreamOptions,
    running: Vec<Attempt<'a, P>>,
    latest_failure: Option<Failure>,
}

/// One attempt; dropped, it leaves the port, and nothing stays of its connection: no local port is kept in TIME_WAIT by one
/// that lost the race, came too late, or met itself.
struct Attempt<'a, P: Port> {
    workers: &'a Workers<P>,
    key: u64,
    address: Address,
    end: Arc<AttemptEnd>,
    socket: Option<P::Socket>,
}

/// Whether it has ended, and who waits for that.
#[derive(Default)]
struct AttemptEnd(Mutex<(bool, Option<Waker>)>);

impl<P: Port> Source<P> for AttemptEnd {
    /// The connect has ended, well or not: its task goes on.
    fn ready(&self, _turn: &mut Turn<'_, P>) {
        let waker = {
            let mut end = lock(&self.0);
            end.0 = true;
            end.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl AttemptEnd {
    fn has_come(&self) -> bool {
        lock(&self.0).0
    }
}

impl<'a, P: Port> Attempt<'a, P> {
    fn begin(race: &Race<'a, P>, address: Address, local: Option<&Address>) -> io::Result<Attempt<'a, P>> {
        let workers = race.workers;
        let mut attempt =
            Attempt { workers, key: workers.sources.new_dial_key(), address, end: Arc::default(), socket: None };
        workers.sources.insert(attempt.key, attempt.end.clone());
        let socket = workers.port().connect(&attempt.address, local, race.stream)?;
        workers.port().attach(attempt.socket.insert(socket), attempt.key)?;
        Ok(attempt)
    }

    /// How it ended.
    fn outcome(mut self) -> Outcome<Route<P>> {
        let connected = self.socket.as_ref().map(P::connect_result).transpose();
        connected.map_err(|error| Failure::of_connect(&self.address, &error))?;
        let socket = self.socket.take().ok_or(Status::Closed)?;
        // From here on the socket is watched as a connection, by the worker that gets it.
        self.workers.port().detach(&socket);
        Ok(Route { socket, peer: self.address.clone() })
    }
}

impl<P: Port> Drop for Attempt<'_, P> {
    fn drop(&mut self) {
        self.workers.sources.remove(self.key);
        if let Some(socket) = &self.socket {
            self.workers.port().detach(socket);
            P::reset_on_close(socket);
        }
    }
}

impl<'a, P: Port> Race<'a, P> {
    /// From this address, if one is given, with these options.
    pub(super) fn new(workers: &'a Workers<P>, local: Option<&'a Address>, stream: &'a StreamOptions) -> Race<'a, P> {
        Race { workers, local, stream, running: Vec::new(), latest_failure: None }
    }

    /// Tries the addresses in this order; gives the first connection that was made, or the latest failure.
    pub(super) async fn run(&mut self, addresses: Vec<Address>) -> Outcome<Route<P>> {
        let mut waiting = addresses.into_iter().peekable();
        loop {
            // Begin one; those that fail at once are followed by the next at once.
            for address in waiting.by_ref() {
                if self.begin(address).await {
                    break;
                }
            }
            if self.running.is_empty() {
                let none = || Failure::new(Status::Resolve, "the name has no address");
                return Err(self.latest_failure.take().unwrap_or_else(none));
            }
            if waiting.peek().is_some() {
                let pause = self.workers.sleep_until(self.workers.now_ns() + STAGGER_NS);
                smol::future::or(self.any_ended(), pause).await;
            } else {
                self.any_ended().await;
            }
            if let Some(route) = self.take_winner() {
                return Ok(route);
            }
        }
    }

    /// Begins one attempt; false when it failed at once.
    async fn begin(&mut self, address: Address) -> bool {
        let local = self.local.filter(|local| local.is_same_family(&address));
        let begun = match (self.local, local) {
            (Some(_), None) => {
                let message = format!("connect {address}: the local address is of another family");
                Err(Failure::new(Status::AddressNotAvailable, message))
            }
            _ => match self.begin_when_there_is_room(&address, local).await {
                Ok(attempt) => Ok(attempt),
                Err(error) => Err(Failure::of_connect(&address, &error)),
            },
        };
        match begun {
            Ok(attempt) => self.running.push(attempt),
            Err(failure) => {
                self.latest_failure = Some(failure);
                return false;
            }
        }
        true
    }

    /// A Unix listener whose backlog is full takes nobody now, and nothing tells when it does: try again after a pause, for
    /// as long as the deadline of the connect lets it. A Unix socket is the only address of its race, so no other waits.
    async fn begin_when_there_is_room(&self, address: &Address, local: Option<&Address>) -> io::Result<Attempt<'a, P>> {
        let mut most_ns = LEAST_PAUSE_NS;
        loop {
            match Attempt::begin(self, address.clone(), local) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && address.is_unix() => {}
                begun => return begun,
            }
            // Half of it by chance: many may wait for the same listener.
            let pause_ns = most_ns / 2 + self.workers.port().random() % (most_ns / 2 + 1);
            self.workers.sleep_until(self.workers.now_ns() + pause_ns).await;
            most_ns = (most_ns * 2).min(MOST_PAUSE_NS);
        }
    }

    /// Waits until an attempt has ended, well or not.
    async fn any_ended(&self) {
        poll_fn(|context| {
            let mut has_ended = self.running.is_empty();
            for attempt in &self.running {
                let mut end = lock(&attempt.end.0);
                has_ended |= end.0;
                end.1 = Some(context.waker().clone());
            }
            if has_ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Takes the attempts that have ended out; gives the first that succeeded.
    fn take_winner(&mut self) -> Option<Route<P>> {
        while let Some(place) = self.running.iter().position(|attempt| attempt.end.has_come()) {
            match self.running.swap_remove(place).outcome() {
                Ok(route) => return Some(route),
                Err(failure) => self.latest_failure = Some(failure),
            }
        }
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
#[path = "race_tests.rs"]
mod tests;

//! What a server and a client have in common: the handler, the connections, the counters.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::client::Client;
use super::config::ConnectionConfig;
use super::connection::{Connection, OPENED, Peer, Phase, SendSide};
use super::events::{Handler, Wants};
use super::server::Server;
use super::stats::{Stats, Traffic};
use super::tasks::Signal;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::Port;
use crate::status::Status;

/// A server or a client.
pub struct Endpoint<P: Port> {
    /// Its handle.
    pub handle: Handle,
    /// The user's callbacks.
    pub handler: Box<dyn Handler>,
    /// Which of them exist.
    pub wants: Wants,
    /// The knobs of its connections.
    pub connection: ConnectionConfig,
    /// Its connections, each with its place in this list, and the sums of those that are gone.
    pub book: Mutex<Book>,
    /// Told when the last connection is gone, and when its story must look again.
    pub signal: Signal,
    /// How often its sends were refused, and accepting was paused or backed off.
    pub accept_pauses: AtomicU64,
    pub descriptor_exhaustions: AtomicU64,
    /// What only one of the two has.
    pub role: Role<P>,
}

/// What only a server or only a client has.
pub enum Role<P: Port> {
    /// Listens.
    Server(Server<P>),
    /// Dials.
    Client(Client),
}

/// Who is here, and who was.
#[derive(Default)]
pub struct Book {
    /// Places of the connections in the engine's table.
    pub members: Vec<u32>,
    /// Sums of what is gone, and counts of what was refused.
    pub totals: Stats,
    /// How many of them were told of (`on_open`).
    pub opened: u32,
    /// No connection may join any more.
    pub shut: bool,
    /// How many workers ask the user about a peer now.
    pub asking: u32,
    /// Why the latest connection ended.
    pub last_reason: Option<Status>,
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

    /// The server part.
    pub fn server(&self) -> Result<&Server<P>, Status> {
        match &self.role {
            Role::Server(server) => Ok(server),
            Role::Client(_) => Err(Status::WrongKind),
        }
    }

    /// The client part.
    pub fn client(&self) -> Result<&Client, Status> {
        match &self.role {
            Role::Client(client) => Ok(client),
            Role::Server(_) => Err(Status::WrongKind),
        }
    }

    /// "server" or "client", for log lines.
    pub fn kind_name(&self) -> &'static str {
        if self.handle.kind == Kind::Server { "server" } else { "client" }
    }

    /// Enters a connection, unless the endpoint was shut in the meantime; gives how many there are now.
    pub fn join(&self, connection: &Connection<P>, index: u32) -> Option<usize> {
        let mut book = lock(&self.book);
        if book.shut {
            return None;
        }
        connection.endpoint_place.store(book.members.len() as u32, Relaxed);
        book.members.push(index);
        match self.role {
            Role::Server(_) => book.totals.accepted += 1,
            Role::Client(_) => book.totals.connected += 1,
        }
        Some(book.members.len())
    }

    /// Counts a connection whose `on_open` is about to be called; gives how many there are of that kind.
    pub fn count_open(&self) -> u32 {
        let mut book = lock(&self.book);
        book.opened += 1;
        book.opened
    }

    /// Strikes a connection out and keeps its sums; gives how many members are left, and how many of them are open.
    pub fn part(&self, connections: &[Connection<P>], index: u32, sums: &Traffic, reason: Status) -> (usize, u32) {
        let mut book = lock(&self.book);
        book.opened -= u32::from(connections[index as usize].has(OPENED));
        let place = connections[index as usize].endpoint_place.load(Relaxed) as usize;
        book.members.swap_remove(place);
        if let Some(moved) = book.members.get(place) {
            connections[*moved as usize].endpoint_place.store(place as u32, Relaxed);
        }
        book.totals.traffic.add(sums);
        book.totals.closed += 1;
        book.totals.closed_by.count(reason);
        book.last_reason = Some(reason);
        (book.members.len(), book.opened)
    }

    /// The sums of all its connections, gone and here.
    pub fn stats(&self, connections: &[Connection<P>]) -> Stats {
        let book = lock(&self.book);
        let mut stats = book.totals;
        stats.open = book.members.len() as u64;
        for index in &book.members {
            let connection = &connections[*index as usize];
            stats.traffic.add(&connection.traffic(&lock(&connection.send)));
        }
        stats.accept_pauses = self.accept_pauses.load(Relaxed);
        stats.descriptor_exhaustions = self.descriptor_exhaustions.load(Relaxed);
        stats
    }
}

impl<P: Port> Connection<P> {
    /// What it has moved so far.
    pub(super) fn traffic(&self, side: &SendSide<P>) -> Traffic {
        Traffic {
            bytes_in: self.bytes_in.load(Relaxed),
            messages_in: self.messages_in.load(Relaxed),
            bytes_out: side.queue.sent(),
            messages_out: side.messages_out,
            queue_full: side.refused.into(),
            queued_bytes: if self.phase() == Phase::Closed { 0 } else { side.waiting() as u64 },
        }
    }
}

/// Adds an endpoint's counters to the engine's.
pub fn add_stats(to: &mut Stats, from: &Stats) {
    to.traffic.add(&from.traffic);
    to.accepted += from.accepted;
    to.connected += from.connected;
    to.connect_failures += from.connect_failures;
    to.open += from.open;
    to.closed += from.closed;
    to.closed_by.add(&from.closed_by);
    to.refused_at_limit += from.refused_at_limit;
    to.refused_per_ip += from.refused_per_ip;
    to.refused_by_list += from.refused_by_list;
    to.refused_by_rate += from.refused_by_rate;
    to.refused_by_host += from.refused_by_host;
    to.accept_pauses += from.accept_pauses;
    to.descriptor_exhaustions += from.descriptor_exhaustions;
    to.drained += from.drained;
    to.drain_resets += from.drain_resets;
}

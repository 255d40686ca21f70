//! What a connection knows of the server or client that owns it: the handler, the knobs, the list of members and the
//! sums of those that are gone. What only a server or only a client wants to be told is behind [`OwnerEvents`].

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::layer::Layer;
use super::peer::Peer;
use crate::engine::config::ConnectionConfig;
use crate::engine::events::{Handler, Wants};
use crate::engine::signal::Signal;
use crate::engine::stats::{Stats, Traffic};
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::pool::room::{self, NoMemory};
use crate::port::Address;
use crate::status::Status;

/// What an owner is told of its connections, on their workers and without any lock of the connection.
pub trait OwnerEvents: Send + Sync {
    /// `on_open` has returned.
    fn opened(&self, _conn: u64) {}
    /// The Unix socket that it connects to, if it does: what the peer of its connections is called.
    fn unix_target(&self) -> Option<&Address> {
        None
    }
    /// A connection from this peer is gone, or was not to be after all.
    fn left(&self, _peer: Peer) {}
}

/// Told when a server or client has had its last callback: its handle leads nowhere from then on.
pub type Retire = Box<dyn Fn(Handle, &Stats) + Send + Sync>;

/// A server or a client, as its connections see it.
pub struct Owner {
    /// Its handle.
    pub handle: Handle,
    /// The user's callbacks.
    pub handler: Box<dyn Handler>,
    /// Which of them exist.
    pub wants: Wants,
    /// The knobs of its connections.
    pub config: ConnectionConfig,
    /// Its connections, and the sums of those that are gone.
    pub members: Mutex<Members>,
    /// Told when the last connection is gone, and when its task must look again.
    pub signal: Signal,
    /// What it wants to be told.
    pub events: Box<dyn OwnerEvents>,
    /// What stands between the stream and the handler; None: nothing.
    pub layer: Option<Box<dyn Layer>>,
}

/// Who is here, and who was.
#[derive(Default)]
pub struct Members {
    /// Places of the connections in the engine's table; each knows its place in this list.
    pub places: Vec<u32>,
    /// Sums of what is gone, and counts of what was refused.
    pub totals: Stats,
    /// How many of them were told of (`on_open`).
    pub opened: u32,
    /// It is stopped, or about to be: a connection that joins is one that must end.
    pub shut: bool,
    /// What ends now is counted as drained, or as cut off.
    pub drains: bool,
    /// How the latest connection ended.
    pub last: Option<LastEnd>,
}

/// How a connection ended.
#[derive(Clone, Copy)]
pub struct LastEnd {
    /// Why.
    pub reason: Status,
    /// For how many milliseconds it had been there when it ended, or began to wait for the peer's FIN.
    pub lasted_ms: u64,
}

impl Owner {
    /// It takes no connection until it is started. Room for `most` members is set aside.
    pub fn new(
        handle: Handle,
        handler: Box<dyn Handler>,
        config: ConnectionConfig,
        most: usize,
        events: Box<dyn OwnerEvents>,
        layer: Option<Box<dyn Layer>>,
    ) -> Result<Owner, NoMemory> {
        Ok(Owner {
            handle,
            wants: handler.wants(),
            handler,
            config,
            members: Mutex::new(Members { places: room::list(most)?, shut: true, ..Members::default() }),
            signal: Signal::default(),
            events,
            layer,
        })
    }

    /// "server" or "client", for log lines.
    pub fn kind_name(&self) -> &'static str {
        if self.handle.kind == Kind::Server { "server" } else { "client" }
    }

    /// Lets connections join from now on, or no more.
    pub fn set_shut(&self, shut: bool) {
        let mut members = lock(&self.members);
        members.shut = shut;
        members.drains = false;
    }

    /// The same as it stops; what ends from now on is counted as drained or cut off, if it drains. Gives the sums so far.
    pub fn begin_to_end(&self, drains: bool) -> Stats {
        let mut members = lock(&self.members);
        members.shut = true;
        members.drains = drains;
        members.totals
    }

    /// Whether it is stopped, or about to be.
    pub fn is_shut(&self) -> bool {
        lock(&self.members).shut
    }

    /// Whether no connection is left.
    pub fn is_empty(&self) -> bool {
        lock(&self.members).places.is_empty()
    }

    /// Inserts the connection in this place of the table. False: the owner was shut in the meantime, and the connection must
    /// end, as all others do. `place_of`: where each place of the table stands in the list.
    pub(super) fn insert(&self, place_of: &[AtomicU32], index: u32) -> bool {
        let mut members = lock(&self.members);
        place_of[index as usize].store(members.places.len() as u32, Relaxed);
        members.places.push(index);
        match self.handle.kind {
            Kind::Server => members.totals.accepted += 1,
            _ => members.totals.connected += 1,
        }
        !members.shut
    }

    /// Counts a connection whose `on_open` is about to be called; gives how many there are of that kind.
    pub(super) fn count_open(&self) -> u32 {
        let mut members = lock(&self.members);
        members.opened += 1;
        members.opened
    }

    /// Removes a connection and keeps its sums; gives how many members are left, and how many of them are open.
    pub(super) fn remove(&self, place_of: &[AtomicU32], ended: &Ended) -> (usize, u32) {
        let mut members = lock(&self.members);
        members.opened -= u32::from(ended.was_opened);
        let place = place_of[ended.index as usize].load(Relaxed) as usize;
        members.places.swap_remove(place);
        if let Some(moved) = members.places.get(place) {
            place_of[*moved as usize].store(place as u32, Relaxed);
        }
        members.totals.traffic.add(&ended.traffic);
        members.totals.closed += 1;
        members.totals.closed_by.count(ended.reason);
        members.last = Some(LastEnd { reason: ended.reason, lasted_ms: ended.lasted_ms });
        if members.drains {
            members.totals.drained += u64::from(ended.all_left);
            members.totals.drain_resets += u64::from(!ended.all_left && ended.at_deadline);
        }
        (members.places.len(), members.opened)
    }

    /// The sums of all its connections, gone and here; `traffic_of` tells that of a place of the table.
    pub fn stats(&self, traffic_of: impl Fn(u32) -> Traffic) -> Stats {
        let members = lock(&self.members);
        let mut stats = members.totals;
        stats.open = members.places.len() as u64;
        members.places.iter().for_each(|index| stats.traffic.add(&traffic_of(*index)));
        stats
    }
}

/// A connection that is gone.
pub(super) struct Ended {
    pub index: u32,
    pub was_opened: bool,
    pub traffic: Traffic,
    pub reason: Status,
    /// Every byte that was taken from the user was handed to the kernel.
    pub all_left: bool,
    /// A deadline ended it: of a drain, or of the wait for the peer's FIN.
    pub at_deadline: bool,
    /// For how many milliseconds it had been there when it ended, or began to wait for the peer's FIN.
    pub lasted_ms: u64,
}

//! The table of connections: where handles lead. A place belongs to one connection after the other; the generation of the
//! handle tells which.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

use super::rate_meter::RateMeter;
use super::state::{Connection, Phase};
use crate::engine::stats::Traffic;
use crate::likely::likely;
use crate::pool::blocks::Blocks;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::pool::room::{self, NoMemory};
use crate::pool::slots::Slots;
use crate::pool::wheel::Node;
use crate::port::Port;
use crate::status::Status;

/// Every place of an engine's connections.
pub struct Table<P: Port> {
    /// The place of the engine in the registry.
    pub(super) engine: u8,
    pub(in crate::engine) places: Box<[Connection<P>]>,
    /// Which of them are free.
    pub(in crate::engine) slots: Arc<Slots>,
    /// Where each stands in its owner's list of members.
    pub(super) member_places: Box<[AtomicU32]>,
    /// What is looked at seldom of each.
    pub(super) cold: Box<[Cold]>,
    /// The deadline of each, in the timing wheel of its worker.
    pub(super) deadlines: Box<[Node]>,
}

/// What is looked at seldom of a connection.
#[derive(Default)]
pub struct Cold {
    /// When it began: milliseconds of the engine's clock.
    pub(super) opened_ms: AtomicU64,
    /// Bytes that the peer had acknowledged when this was last looked at.
    pub(super) acknowledged: AtomicU64,
    /// How fast the peer sends.
    pub(super) rate: RateMeter,
}

impl Cold {
    /// Of a new connection.
    pub(super) fn begin(&self, now_ms: u64) {
        self.opened_ms.store(now_ms, Relaxed);
        self.acknowledged.store(0, Relaxed);
        self.rate.measure_from_the_beginning();
    }
}

/// Why a number is not the handle of a connection that lives.
#[cold]
pub fn names_no_connection(bits: u64) -> Status {
    match Handle::from_bits(bits) {
        Some(handle) if handle.kind != Kind::Connection => Status::WrongKind,
        _ => Status::Stale,
    }
}

impl<P: Port> Table<P> {
    /// `most` free places.
    pub fn new(engine: u8, most: u32, blocks: &Blocks, first_generation: u32) -> Result<Table<P>, NoMemory> {
        let count = most as usize;
        Ok(Table {
            engine,
            places: room::filled(count, |_| Connection::new(blocks, first_generation))?,
            slots: Slots::new(most)?,
            member_places: room::filled(count, |_| AtomicU32::new(0))?,
            cold: room::filled(count, |_| Cold::default())?,
            deadlines: room::filled(count, |_| Node::default())?,
        })
    }

    /// Bytes of heap that `new` sets aside.
    pub fn heap_bytes(most: u32) -> u64 {
        let place = size_of::<Connection<P>>() + size_of::<AtomicU32>() + size_of::<Cold>() + size_of::<Node>();
        u64::from(most) * place as u64 + Slots::heap_bytes(most)
    }

    /// The place that a key of the port means, if its generation is still the one. Keys are our own: their kind is asked
    /// for elsewhere.
    #[inline]
    pub(in crate::engine) fn by_key(&self, key: u64) -> Option<(&Connection<P>, u32)> {
        let index = Handle::index_of(key);
        let connection = self.places.get(index as usize)?;
        likely(connection.life.generation.load(Relaxed) == Handle::generation_of(key)).then_some((connection, index))
    }

    /// The place of a connection, if the handle's generation is its. It can be gone a moment later: who changes it asks
    /// again under its lock.
    #[inline]
    pub(in crate::engine) fn by_handle(&self, bits: u64) -> Result<(&Connection<P>, u32), Status> {
        if Handle::kind_of(bits) != Kind::Connection as u64 {
            return Err(names_no_connection(bits));
        }
        let index = Handle::index_of(bits);
        let connection = self.places.get(index as usize).ok_or(Status::Stale)?;
        if connection.generation() != Handle::generation_of(bits) || connection.phase() == Phase::Free {
            return Err(Status::Stale);
        }
        Ok((connection, index))
    }

    /// The handle that names the connection in this place now.
    #[inline]
    pub(in crate::engine) fn handle_of(&self, index: u32) -> Handle {
        let generation = self.places[index as usize].generation();
        Handle { kind: Kind::Connection, engine: self.engine, index, generation }
    }

    /// The handle of the connection in this place, if one lives there. A place that is being freed must not be named by
    /// the generation of the connection that will have it next.
    pub(in crate::engine) fn live_handle(&self, index: u32) -> Option<Handle> {
        let handle = self.handle_of(index);
        let lives = self.places[index as usize].phase() != Phase::Free;
        (lives && self.handle_of(index) == handle).then_some(handle)
    }

    /// What the connection in this place has moved so far.
    pub(in crate::engine) fn traffic_of(&self, index: u32) -> Traffic {
        let connection = &self.places[index as usize];
        connection.traffic(&lock(&connection.sender))
    }

    /// No handle of this table has a generation above this.
    pub(in crate::engine) fn latest_generation(&self) -> u32 {
        self.places.iter().map(Connection::generation).max().unwrap_or(0)
    }
}

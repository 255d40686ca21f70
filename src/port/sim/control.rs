//! How a play steers its world, and what it may know of it.

use std::net::SocketAddr;

use super::faults::CLASSES;
use super::link::Holder;
use super::{clock, world};

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Decides everything that is chance.
    pub seed: u64,
    /// The most descriptors that engines may have open.
    pub descriptor_limit: u32,
    /// The most that the kernel's buffers of a socket hold, sending and receiving: at least 1 byte.
    pub rooms: (usize, usize),
    /// What the resolver knows; port 0 means the port that the user named.
    pub names: Vec<(String, Vec<SocketAddr>)>,
}

/// Begins a world on this thread, without faults. Engines of the one before must be gone.
pub fn begin(setup: &Setup) {
    world::begin(setup.seed);
    world::with(|world| {
        world.descriptors.limit = setup.descriptor_limit;
        world.rooms = setup.rooms;
        world.resolver.names = setup.names.iter().cloned().collect();
    });
}

/// Which faults occur from now on, and how often: of 65,536 occasions, for each class.
pub fn set_faults(enabled: u32, odds: [u16; CLASSES]) {
    world::with(|world| world.faults.set(enabled, odds));
}

/// How many descriptors the engines may have from now on.
pub fn set_descriptor_limit(limit: u32) {
    world::with(|world| world.descriptors.limit = limit);
}

/// Milliseconds that have passed in this world.
pub fn now_ms() -> u64 {
    world::with(|world| world.clock.now_ns() / clock::MS)
}

/// Lets time pass: what is due meanwhile happens in the next wait, late.
pub fn advance_ms(ms: u64) {
    world::with(|world| world.clock.go_to(world.clock.now_ns() + ms * clock::MS));
}

/// Lets so much time pass, and the network work meanwhile.
pub fn run_ms(ms: u64) {
    world::with(|world| {
        let until_ns = world.clock.now_ns() + ms * clock::MS;
        while let Some(at_ns) = world.clock.next_ns().filter(|at_ns| *at_ns <= until_ns) {
            world.clock.go_to(at_ns);
            world.run_due();
        }
        world.clock.go_to(until_ns);
    });
    world::wake_all();
}

/// Descriptors that engines have open.
pub fn engine_sockets() -> u32 {
    world::with(|world| world.descriptors.open)
}

/// Bytes that have arrived anywhere, read or not.
pub fn bytes_moved() -> u64 {
    world::with(|world| world.bytes_moved)
}

/// After so many more waits an engine counts as stuck, and this is called inside the next one.
pub fn set_patience(waits: u64, when_stuck: fn()) {
    world::with(|world| world.patience = world::Patience { waits_left: waits, when_stuck: Some(when_stuck) });
}

/// Whether nothing gets through a link any more.
pub fn is_cut(link: u32) -> bool {
    world::with(|world| world.links[link as usize].cut)
}

/// Whether a socket is open at this end of a link.
pub fn is_open(link: u32, end: usize) -> bool {
    world::with(|world| matches!(world.links[link as usize].ends[end].holder, Holder::Socket(_)))
}

/// Bytes that had arrived at this end of a link and were not read when its socket was closed.
pub fn unread_at_close(link: u32, end: usize) -> usize {
    world::with(|world| world.links[link as usize].ends[end].unread)
}

/// Whether a FIN arrived at this end of a link.
pub fn saw_end(link: u32, end: usize) -> bool {
    world::with(|world| world.links[link as usize].pipes[1 - end].fin_arrived)
}

/// Bytes of a link that left this end (0: who connected, 1: who accepted) and were not read at the other.
pub fn bytes_between(link: u32, from: usize) -> usize {
    world::with(|world| {
        let pipe = &world.links[link as usize].pipes[from];
        pipe.outgoing.len() + pipe.arrived.len()
    })
}

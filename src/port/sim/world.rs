//! One simulated world for each thread: engines that are made on that thread live in it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use fastrand::Rng;

use super::clock::{Clock, Event, MS, SECOND};
use super::faults::{self, Faults};
use super::network::{Link, error};
use super::readiness::Poll;
use super::sockets::Socket;

pub(super) struct World {
    pub clock: Clock,
    pub faults: Faults,
    /// For what is chance, and no fault.
    pub dice: Rng,
    pub sockets: Vec<Option<Socket>>,
    pub links: Vec<Link>,
    pub polls: Vec<Poll>,
    pub serials: u64,
    pub next_listen_port: u16,
    /// Open descriptors of engines, and how many there may be.
    pub engine_sockets: u32,
    pub descriptor_limit: u32,
    /// The most that the kernel's send and receive buffers hold.
    pub rooms: (usize, usize),
    /// Bytes that arrived anywhere.
    pub bytes_moved: u64,
    pub names: BTreeMap<String, Vec<SocketAddr>>,
    resolutions: BTreeMap<u32, Resolution>,
    next_resolution: u32,
    to_wake: Vec<Waker>,
    /// How many more waits there may be before [`World::when_stuck`].
    pub waits_left: u64,
    pub when_stuck: Option<fn()>,
}

struct Resolution {
    answer: io::Result<Vec<SocketAddr>>,
    is_there: bool,
    waker: Option<Waker>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// A new world on this thread, in place of the one before.
pub(super) fn begin(seed: u64) {
    let world = World {
        clock: Clock::new(),
        faults: Faults::new(seed),
        dice: Rng::with_seed(seed),
        sockets: Vec::new(),
        links: Vec::new(),
        polls: Vec::new(),
        serials: 0,
        next_listen_port: 1,
        engine_sockets: 0,
        descriptor_limit: u32::MAX,
        rooms: (4096, 4096),
        bytes_moved: 0,
        names: BTreeMap::new(),
        resolutions: BTreeMap::new(),
        next_resolution: 0,
        to_wake: Vec::new(),
        waits_left: u64::MAX,
        when_stuck: None,
    };
    WORLD.with(|place| place.replace(Some(world)));
}

/// Calls with this thread's world.
#[inline]
pub(super) fn with<R>(call: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with(|world| call(world.borrow_mut().as_mut().expect("no simulated world on this thread")))
}

/// The same for what may outlive the world.
pub(super) fn with_any(call: impl FnOnce(&mut World)) {
    let _ = WORLD.try_with(|world| world.borrow_mut().as_mut().map(call));
}

/// Whether this thread has a world.
pub(super) fn is_there() -> bool {
    WORLD.with(|world| world.borrow().is_some())
}

/// Wakes who waits for what happened; nothing is borrowed meanwhile.
pub(super) fn wake_all() {
    for waker in with(|world| std::mem::take(&mut world.to_wake)) {
        waker.wake();
    }
}

impl World {
    pub(super) fn resolve(&mut self, host: &str, port: u16) -> u32 {
        let found = self.names.get(host).cloned();
        let mut answer = found.ok_or_else(|| io::Error::other("no such name"));
        let mut in_ns = self.dice.u64(0..50 * MS);
        if self.faults.hits(faults::RESOLVER) {
            match self.faults.dice(faults::RESOLVER).u8(0..4) {
                0 => answer = Err(error(libc::EIO)),
                1 => answer = Ok(Vec::new()),
                2 => answer = Err(io::Error::other("temporary failure in name resolution")),
                _ => in_ns = self.faults.dice(faults::RESOLVER).u64(0..40 * SECOND),
            }
        }
        let with_port = |mut address: SocketAddr| {
            if address.port() == 0 {
                address.set_port(port);
            }
            address
        };
        let answer = answer.map(|found| found.into_iter().map(with_port).collect());
        self.next_resolution += 1;
        let number = self.next_resolution;
        self.resolutions.insert(number, Resolution { answer, is_there: false, waker: None });
        self.clock.enter(in_ns, Event::Resolved { number });
        number
    }

    pub(super) fn resolved(&mut self, number: u32) {
        if let Some(resolution) = self.resolutions.get_mut(&number) {
            resolution.is_there = true;
            self.to_wake.extend(resolution.waker.take());
        }
    }

    /// The answer, or who is to be woken when it is there.
    pub(super) fn answer(&mut self, number: u32, waker: &Waker) -> Option<io::Result<Vec<SocketAddr>>> {
        let resolution = self.resolutions.get_mut(&number)?;
        if !resolution.is_there {
            resolution.waker = Some(waker.clone());
            return None;
        }
        self.resolutions.remove(&number).map(|resolution| resolution.answer)
    }

    pub(super) fn forget_resolution(&mut self, number: u32) -> Option<Waker> {
        self.resolutions.remove(&number)?.waker
    }
}

//! One simulated world for each thread: engines that are made on that thread live in it. Here is what it consists of; what
//! happens in it is in the files above: readiness, network, sockets.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use fastrand::Rng;

use super::clock::Clock;
use super::faults::{Faults, error};
use super::link::Link;
use super::resolver::Resolver;

/// One open descriptor.
pub(super) struct Socket {
    /// Tells it from others that had the same number.
    pub serial: u64,
    /// The engine's; faults are for those, and they are counted.
    pub is_engines: bool,
    pub kind: Kind,
    pub watch: Option<Watch>,
    pub reset_on_close: bool,
}

pub(super) enum Kind {
    Listener { address: SocketAddr, backlog: usize, waiting: VecDeque<u32> },
    Stream { link: u32, end: usize },
}

/// A socket's entry in an epoll.
pub(super) struct Watch {
    pub poll: u32,
    pub key: u64,
    pub is_level: bool,
    pub is_ready: bool,
}

/// An epoll: the sockets that something happened to.
#[derive(Default)]
pub(super) struct Poll {
    pub ready: Vec<u32>,
    pub is_woken: bool,
}

pub(super) struct World {
    pub clock: Clock,
    pub faults: Faults,
    /// For what is chance, and no fault.
    pub random: Rng,
    pub sockets: Vec<Option<Socket>>,
    pub links: Vec<Link>,
    pub polls: Vec<Poll>,
    pub numbers: Numbers,
    pub descriptors: Descriptors,
    /// The most that the kernel's send and receive buffers hold.
    pub rooms: (usize, usize),
    /// Bytes that arrived anywhere.
    pub bytes_moved: u64,
    pub resolver: Resolver,
    pub patience: Patience,
}

/// What was given out last.
pub(super) struct Numbers {
    pub serial: u64,
    pub listen_port: u16,
}

/// Open descriptors of engines, and how many there may be.
pub(super) struct Descriptors {
    pub open: u32,
    pub limit: u32,
}

/// How many more waits there may be, and what is called when there were more.
pub(super) struct Patience {
    pub waits_left: u64,
    pub when_stuck: Option<fn()>,
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// A new world on this thread, in place of the one before.
pub(super) fn begin(seed: u64) {
    let world = World {
        clock: Clock::new(),
        faults: Faults::new(seed),
        random: Rng::with_seed(seed),
        sockets: Vec::new(),
        links: Vec::new(),
        polls: Vec::new(),
        numbers: Numbers { serial: 0, listen_port: 1 },
        descriptors: Descriptors { open: 0, limit: u32::MAX },
        rooms: (4096, 4096),
        bytes_moved: 0,
        resolver: Resolver::default(),
        patience: Patience { waits_left: u64::MAX, when_stuck: None },
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
    for waker in with(|world| world.resolver.take_wakers()) {
        waker.wake();
    }
}

impl World {
    pub(super) fn socket(&self, raw: u32) -> io::Result<&Socket> {
        self.sockets.get(raw as usize).and_then(Option::as_ref).ok_or_else(|| error(libc::EBADF))
    }

    pub(super) fn socket_mut(&mut self, raw: u32) -> io::Result<&mut Socket> {
        self.sockets.get_mut(raw as usize).and_then(Option::as_mut).ok_or_else(|| error(libc::EBADF))
    }

    pub(super) fn stream(&self, raw: u32) -> io::Result<(u32, usize)> {
        match self.socket(raw)?.kind {
            Kind::Stream { link, end } => Ok((link, end)),
            Kind::Listener { .. } => Err(error(libc::ENOTCONN)),
        }
    }

    pub(super) fn is_engines(&self, raw: u32) -> bool {
        self.socket(raw).is_ok_and(|socket| socket.is_engines)
    }

    /// Who listens at an address.
    pub(super) fn listener_at(&self, wanted: SocketAddr) -> Option<u32> {
        let listens = |socket: &Socket| match &socket.kind {
            Kind::Listener { address, .. } => {
                address.port() == wanted.port() && (address.ip() == wanted.ip() || address.ip().is_unspecified())
            }
            Kind::Stream { .. } => false,
        };
        self.sockets.iter().position(|socket| socket.as_ref().is_some_and(listens)).map(|place| place as u32)
    }

    pub(super) fn listener(&mut self, raw: u32) -> Option<(usize, &mut VecDeque<u32>)> {
        match &mut self.socket_mut(raw).ok()?.kind {
            Kind::Listener { backlog, waiting, .. } => Some((*backlog, waiting)),
            Kind::Stream { .. } => None,
        }
    }
}

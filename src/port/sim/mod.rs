//! A simulated network, clock and kernel, driven by one seed: the port on which everything that can go wrong does. Only
//! with the feature `simulation`, and never in a library that is installed.
//!
//! Each thread has a world of its own. A caller-driven engine that is made on a thread lives in that thread's world, and
//! so do the [`Peer`]s that talk to it; everything in it happens on that one thread, so a seed always plays the same.
//! `tests/simulation.rs` does the playing.

mod clock;
mod control;
pub mod faults;
mod network;
mod peer;
mod readiness;
mod sockets;
mod world;

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

pub use control::*;
pub use peer::Peer;

use super::receive::{Hint, Receiver};
use super::{Address, Completion, ListenOptions, Port, PortSetup, RawSocket, Sink, StreamOptions};

/// Numbers of simulated sockets begin here, beyond every descriptor that a kernel gives out.
const FIRST_RAW: RawSocket = 1 << 30;
/// The port from which the first connect of a world comes; each has another one.
pub const FIRST_PORT: u16 = 10_000;
/// From where the engine connects.
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// A host that refuses every connect.
pub const REFUSES: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
/// A host to which no route leads.
pub const UNREACHABLE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
/// A host that never answers.
pub const SILENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));

/// Whether this is the number of a simulated socket.
#[inline]
pub(super) fn is_simulated(raw: RawSocket) -> bool {
    raw >= FIRST_RAW
}

/// What `recv` does with a simulated socket.
pub(super) fn receive(raw: RawSocket, buffer: &mut [u8]) -> io::Result<usize> {
    world::with(|world| world.receive((raw - FIRST_RAW) as u32, buffer))
}

/// SO_ERROR of a simulated socket.
pub(super) fn take_error(raw: RawSocket) -> Option<io::Error> {
    world::with(|world| world.take_error((raw - FIRST_RAW) as u32))
}

/// A socket of the world; closed when dropped.
#[derive(Debug)]
pub struct SimSocket(u32);

impl Drop for SimSocket {
    fn drop(&mut self) {
        world::with_any(|world| world.close(self.0));
    }
}

/// One worker's epoll in the world of its thread.
pub struct SimPort(u32);

/// The events of a wait, and what all readiness ports share.
pub struct SimRing {
    events: Vec<(u32, u64)>,
    next: usize,
    receiver: Receiver,
}

/// The address of an IP socket.
fn ip(address: &Address) -> io::Result<SocketAddr> {
    match address {
        Address::Ip(address) => Ok(*address),
        Address::EveryIp(port) => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port)),
        _ => Err(network::error(libc::EAFNOSUPPORT)),
    }
}

/// A name on its way through the simulated resolver.
struct Resolving(u32);

impl Future for Resolving {
    type Output = io::Result<Vec<SocketAddr>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match world::with(|world| world.answer(self.0, context.waker())) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        // The waker goes when the world is not borrowed any more: dropping it may drop sockets.
        let mut waker = None;
        world::with_any(|world| waker = world.forget_resolution(self.0));
        drop(waker);
    }
}

impl SimPort {
    /// Waits for events, for a wake-up, or until the time is up, which costs no time outside of the world.
    fn fetch(&self, ring: &mut SimRing, timeout_ns: Option<u64>) {
        ring.events.clear();
        ring.next = 0;
        let stuck = world::with(|world| {
            world.waits_left = world.waits_left.saturating_sub(1);
            world.when_stuck.filter(|_| world.waits_left == 0)
        });
        if let Some(stuck) = stuck {
            stuck();
        }
        let until_ns = world::with(|world| {
            world.pass_time();
            timeout_ns.map(|timeout_ns| world.clock.now_ns().saturating_add(timeout_ns))
        });
        loop {
            world::with(|world| world.run_due());
            world::wake_all();
            let goes_on = world::with(|world| {
                world.collect(self.0, &mut ring.events);
                if std::mem::take(&mut world.polls[self.0 as usize].is_woken) || !ring.events.is_empty() {
                    return false;
                }
                match (world.clock.next_ns(), until_ns) {
                    (Some(at_ns), until_ns) if until_ns.is_none_or(|until_ns| at_ns <= until_ns) => {
                        world.clock.go_to(at_ns);
                        true
                    }
                    (_, Some(until_ns)) => {
                        world.clock.go_to(until_ns);
                        false
                    }
                    // Nothing will ever happen here: as if a signal ended the wait.
                    (_, None) => false,
                }
            });
            if !goes_on {
                return;
            }
        }
    }
}

impl Port for SimPort {
    type Socket = SimSocket;
    type Ring = SimRing;

    const DETACH_BEFORE_CLOSE: bool = false;

    fn open(setup: &PortSetup) -> io::Result<(SimPort, SimRing)> {
        if !world::is_there() {
            return Err(io::Error::other("this thread has no simulated world"));
        }
        let number = world::with(|world| {
            world.polls.push(readiness::Poll::default());
            world.polls.len() as u32 - 1
        });
        Ok((SimPort(number), SimRing { events: Vec::new(), next: 0, receiver: Receiver::new(setup) }))
    }

    fn heap_bytes(setup: &PortSetup) -> u64 {
        Receiver::heap_bytes(setup)
    }

    fn attach(&self, socket: &SimSocket, key: u64) -> io::Result<()> {
        world::with(|world| world.attach(self.0, socket.0, key, false))
    }

    fn attach_listener(&self, socket: &SimSocket, key: u64) -> io::Result<()> {
        world::with(|world| world.attach(self.0, socket.0, key, true))
    }

    fn detach(&self, socket: &SimSocket) {
        world::with(|world| world.detach(socket.0));
    }

    fn wake(&self) {
        world::with_any(|world| world.polls[self.0 as usize].is_woken = true);
    }

    fn descriptor(&self) -> io::Result<RawSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_alarm(&self, _at_ns: Option<u64>) -> io::Result<()> {
        Ok(())
    }

    /// As the port on epoll.
    fn wait(&self, ring: &mut SimRing, timeout_ns: Option<u64>, sink: &mut impl Sink) -> io::Result<u32> {
        use readiness::{ERROR, HANG_UP, IN, OUT, PEER_ENDED};
        let ready_before = ring.receiver.ready();
        if ring.next == ring.events.len() {
            self.fetch(ring, if ready_before > 0 { Some(0) } else { timeout_ns });
        }
        let mut completions = 0;
        while let Some(&(flags, key)) = ring.events.get(ring.next) {
            ring.next += 1;
            let mut interest = sink.interest(key);
            if flags & (OUT | ERROR | HANG_UP) != 0 && interest.room {
                sink.complete(key, Completion::Writable);
                completions += 1;
                interest = sink.interest(key);
            }
            if flags & (IN | PEER_ENDED | ERROR | HANG_UP) != 0 {
                let hint = Hint { read_on: flags & (PEER_ENDED | ERROR | HANG_UP) != 0, error: flags & ERROR != 0 };
                completions += ring.receiver.readable(key, interest, hint, sink);
            }
        }
        Ok(completions + ring.receiver.take_turns(ready_before, sink))
    }

    fn receive_again(ring: &mut SimRing, key: u64) {
        ring.receiver.look_again(key);
    }

    fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<SimSocket> {
        let address = ip(address)?;
        world::with(|world| world.listen(true, address, options.backlog)).map(SimSocket)
    }

    fn adopt_listener(&self, _raw: RawSocket) -> io::Result<SimSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn accept(&self, listener: &SimSocket) -> io::Result<(SimSocket, Option<SocketAddr>)> {
        world::with(|world| world.accept(listener.0)).map(|(raw, peer)| (SimSocket(raw), Some(peer)))
    }

    fn connect(&self, to: &Address, from: Option<&Address>, options: &StreamOptions) -> io::Result<SimSocket> {
        let (to, from) = (ip(to)?, from.map(ip).transpose()?);
        world::with(|world| world.connect(true, from, to, options)).map(SimSocket)
    }

    fn connect_result(socket: &SimSocket) -> io::Result<()> {
        world::with(|world| match world.take_error(socket.0) {
            Some(error) => Err(error),
            None => world.peer_address(socket.0).map(drop),
        })
    }

    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        Resolving(world::with(|world| world.resolve(host, port)))
    }

    fn send(socket: &SimSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        world::with(|world| world.send(socket.0, slices))
    }

    fn receive(socket: &SimSocket, buffer: &mut [u8]) -> io::Result<usize> {
        world::with(|world| world.receive(socket.0, buffer))
    }

    fn shutdown_send(socket: &SimSocket) -> io::Result<()> {
        world::with(|world| world.shutdown_send(socket.0))
    }

    fn reset_on_close(socket: &SimSocket) {
        world::with(|world| world.reset_on_close(socket.0));
    }

    fn set_options(socket: &SimSocket, options: &StreamOptions) -> io::Result<()> {
        world::with(|world| world.set_options(socket.0, options))
    }

    fn local_address(socket: &SimSocket) -> io::Result<Address> {
        world::with(|world| world.local_address(socket.0)).map(Address::from)
    }

    fn peer_address(socket: &SimSocket) -> io::Result<Address> {
        world::with(|world| world.peer_address(socket.0)).map(Address::from)
    }

    fn raw(socket: &SimSocket) -> RawSocket {
        FIRST_RAW + socket.0 as RawSocket
    }

    fn now_ns(&self) -> u64 {
        world::with(|world| world.clock.now_ns())
    }

    fn random(&self) -> u64 {
        world::with(|world| world.dice.u64(..))
    }
}

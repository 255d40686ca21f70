//! The port of a simulated world: what epoll would be, were the kernel this one.

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::faults::error;
use super::readiness::{ERROR, HANG_UP, IN, OUT, PEER_ENDED};
use super::sockets::SimSocket;
use super::world;
use crate::port::receive::{Hint, Receiver};
use crate::port::system::errors::accept_error;
use crate::port::{
    AcceptError, Accepted, Address, Completion, ListenOptions, OsHandle, Port, PortSetup, Sink, StreamOptions,
};

/// One worker's epoll in the world of its thread.
pub struct SimPort(u32);

/// The events of a wait, and what all readiness ports share.
pub struct SimRing {
    events: Vec<(u32, u64)>,
    next: usize,
    receiver: Receiver<SimPort>,
}

/// The address of an IP socket.
fn ip(address: &Address) -> io::Result<SocketAddr> {
    match address {
        Address::Ip(address) => Ok(*address),
        Address::EveryIp(port) => Ok(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port)),
        _ => Err(error(libc::EAFNOSUPPORT)),
    }
}

/// A name on its way through the simulated resolver.
struct Resolving(u32);

impl Future for Resolving {
    type Output = io::Result<Vec<SocketAddr>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match world::with(|world| world.resolver.answer(self.0, context.waker())) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        // The waker goes when the world is not borrowed any more: dropping it may drop sockets.
        let mut waker = None;
        world::with_any(|world| waker = world.resolver.forget(self.0));
        drop(waker);
    }
}

impl SimPort {
    /// Waits for events, for a wake-up, or until the time is up, which costs no time outside of the world.
    fn fetch(&self, ring: &mut SimRing, timeout_ns: Option<u64>) {
        ring.events.clear();
        ring.next = 0;
        let stuck = world::with(|world| {
            world.patience.waits_left = world.patience.waits_left.saturating_sub(1);
            world.patience.when_stuck.filter(|_| world.patience.waits_left == 0)
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
    type Raw = u32;
    type Ring = SimRing;

    const DETACH_BEFORE_CLOSE: bool = false;
    const LOOK_UP_BLOCKS: bool = false;

    fn open(setup: &PortSetup) -> io::Result<(SimPort, SimRing)> {
        if !world::is_there() {
            return Err(io::Error::other("this thread has no simulated world"));
        }
        let number = world::with(|world| world.open_poll());
        Ok((SimPort(number), SimRing { events: Vec::new(), next: 0, receiver: Receiver::new(setup)? }))
    }

    fn heap_bytes(setup: &PortSetup) -> u64 {
        Receiver::<SimPort>::heap_bytes(setup)
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

    fn descriptor(&self) -> io::Result<OsHandle> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_alarm(&self, _at_ns: Option<u64>) -> io::Result<()> {
        Ok(())
    }

    /// As the port on epoll.
    fn wait(&self, ring: &mut SimRing, timeout_ns: Option<u64>, sink: &mut impl Sink<u32>) -> io::Result<u32> {
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

    fn may_have_more(_ring: &SimRing) -> bool {
        false
    }

    fn receive_again(ring: &mut SimRing, key: u64) {
        ring.receiver.look_again(key);
    }

    fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<SimSocket> {
        let address = ip(address)?;
        world::with(|world| world.listen(true, address, options.backlog)).map(SimSocket)
    }

    fn adopt_listener(&self, _listener: OsHandle) -> io::Result<SimSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn accept(&self, listener: &SimSocket) -> Result<Accepted<SimSocket>, AcceptError> {
        let (raw, peer) = world::with(|world| world.accept(listener.0)).map_err(accept_error)?;
        Ok(Accepted { socket: SimSocket(raw), peer: Address::from(peer) })
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

    fn look_up(_host: &str) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn resolve(&self, host: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        Resolving(world::with(|world| world.resolve(host)))
    }

    fn send(socket: &SimSocket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        world::with(|world| world.send(socket.0, slices))
    }

    fn shutdown_send(socket: &SimSocket) -> io::Result<()> {
        world::with(|world| world.shutdown_send(socket.0))
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

    fn raw(socket: &SimSocket) -> u32 {
        socket.0
    }

    fn receive_raw(raw: u32, buffer: &mut [u8]) -> io::Result<usize> {
        world::with(|world| world.receive(raw, buffer))
    }

    fn reset_raw(raw: u32) {
        world::with(|world| world.reset_on_close(raw));
    }

    fn take_error(raw: u32) -> Option<io::Error> {
        world::with(|world| world.take_error(raw))
    }

    fn peek(socket: &SimSocket) -> io::Result<usize> {
        world::with(|world| world.peek(socket.0))
    }

    fn is_broken(socket: &SimSocket) -> bool {
        world::with(|world| world.is_broken(socket.0))
    }

    fn unacknowledged(socket: &SimSocket) -> Option<u64> {
        world::with(|world| world.unacknowledged(socket.0))
    }

    fn now_ns(&self) -> u64 {
        world::with(|world| world.clock.now_ns())
    }

    fn random(&self) -> u64 {
        world::with(|world| world.random.u64(..))
    }
}

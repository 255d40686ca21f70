//! Another port with faults: what an application meets seldom or never on a test machine, by chance of a seed. An engine
//! is made on it when its owner asks for faults, and on no other port is there anything of this in its way.
//!
//! The port below tells of readiness; reads are made here, so that one can be short, deferred or reset. What is deferred
//! is handed over by a later wait, as a kernel would that had no room or no data until then.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fault_plan::{Deferred, FaultPlan, FaultRandom, FaultState};
use super::receive::filled;
use super::system::{connection_reset, out_of_descriptors};
use super::{
    AcceptError, Accepted, Address, Completion, Interest, ListenOptions, OsHandle, Port, PortSetup, Reading, Sink,
    StreamOptions,
};

/// A port with faults, whose sockets are those of the port below.
pub struct FaultyPort<P>(Arc<Shared<P>>);

struct Shared<P> {
    port: P,
    state: Mutex<FaultState>,
}

impl<P> Shared<P> {
    fn state(&self) -> MutexGuard<'_, FaultState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Port> Shared<P> {
    /// Looks at a key again, at this time; the wait that is under way may have planned to sleep longer.
    fn defer(&self, key: u64, what: Deferred, at_ns: u64) {
        self.state().defer(key, what, at_ns);
        self.port.wake();
    }

    /// When a stall that begins now ends, if one begins.
    fn stall(&self, key: u64, ppm: impl Fn(&FaultPlan) -> u32) -> Option<u64> {
        let mut state = self.state();
        let (is_stalled, ms) = (state.happens(key, &ppm), state.plan.stall_ms.max(1));
        is_stalled.then(|| self.port.now_ns() + 1_000_000 * (1 + state.random(key).below(ms.into())))
    }

    fn is_reset(&self, key: u64) -> bool {
        self.state().happens(key, |plan| plan.resets_ppm)
    }

    /// How many of so many bytes a read or write takes.
    fn shorten(&self, key: u64, len: usize, ppm: impl Fn(&FaultPlan) -> u32) -> usize {
        let mut state = self.state();
        if len > 1 && state.happens(key, &ppm) {
            1 + state.random(key).below((len as u64 - 1).min(16)) as usize
        } else {
            len
        }
    }

    /// Reads as the system does, but for faults.
    fn receive(&self, key: u64, raw: P::Raw, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_reset(key) {
            P::reset_raw(raw);
            return Err(connection_reset());
        }
        if let Some(at_ns) = self.stall(key, |plan| plan.read_stalls_ppm) {
            self.defer(key, Deferred::Read, at_ns);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = self.shorten(key, buffer.len(), |plan| plan.short_reads_ppm);
        P::receive_raw(raw, &mut buffer[..len])
    }

    fn send(&self, key: u64, socket: &P::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_reset(key) {
            P::reset_on_close(socket);
            return Err(connection_reset());
        }
        if let Some(at_ns) = self.stall(key, |plan| plan.write_stalls_ppm) {
            self.defer(key, Deferred::Write, at_ns);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let whole = slices.iter().map(|slice| slice.len()).sum();
        let len = self.shorten(key, whole, |plan| plan.short_writes_ppm);
        if len == whole {
            return P::send(socket, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        let sent = P::send(socket, &[IoSlice::new(&first[..len.min(first.len())])]);
        // The engine waits for room now, and no edge of the system will tell of it.
        self.defer(key, Deferred::Write, self.port.now_ns());
        sent
    }
}

/// A socket that knows under which key, and with which port, it is registered.
pub struct FaultySocket<P: Port> {
    socket: P::Socket,
    home: Mutex<Option<(Arc<Shared<P>>, u64)>>,
}

impl<P: Port> FaultySocket<P> {
    fn new(socket: P::Socket) -> FaultySocket<P> {
        FaultySocket { socket, home: Mutex::new(None) }
    }

    fn home(&self) -> MutexGuard<'_, Option<(Arc<Shared<P>>, u64)>> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moves(&self, home: Option<(Arc<Shared<P>>, u64)>) {
        let before = std::mem::replace(&mut *self.home(), home);
        if let Some((shared, key)) = before {
            shared.state().forget(key);
        }
    }
}

impl<P: Port> Drop for FaultySocket<P> {
    fn drop(&mut self) {
        self.moves(None);
    }
}

/// The ring of the port below, and the buffer for what is read here.
pub struct FaultyRing<P: Port> {
    ring: P::Ring,
    buffer: Box<[u8]>,
    receives_per_turn: u32,
}

/// Stands between the port below and the engine's sink.
struct FaultInjector<'a, P, S> {
    shared: &'a Shared<P>,
    sink: &'a mut S,
    buffer: &'a mut [u8],
    receives_per_turn: u32,
    completions: u32,
}

impl<P: Port, S: Sink<P::Raw>> Sink<P::Raw> for FaultInjector<'_, P, S> {
    fn interest(&mut self, key: u64) -> Interest<P::Raw> {
        let interest = self.sink.interest(key);
        match interest.read {
            Reading::Receive(_) | Reading::Drain(_) => Interest { read: Reading::Notify, ..interest },
            _ => interest,
        }
    }

    fn complete(&mut self, key: u64, completion: Completion<'_>) {
        match completion {
            Completion::Readable => self.read(key),
            other => self.tell(key, other),
        }
    }
}

impl<P: Port, S: Sink<P::Raw>> FaultInjector<'_, P, S> {
    fn tell(&mut self, key: u64, completion: Completion<'_>) {
        self.completions += 1;
        self.sink.complete(key, completion);
    }

    /// Reads until nothing is left, unless a fault comes first.
    fn read(&mut self, key: u64) {
        if self.shared.state().is_deferred(key, Deferred::Read) {
            return;
        }
        for _ in 0..self.receives_per_turn {
            let read = self.sink.interest(key).read;
            let raw = match read {
                Reading::Receive(raw) | Reading::Drain(raw) => raw,
                Reading::Notify => return self.tell(key, Completion::Readable),
                Reading::Nothing(_) | Reading::Gone => return,
            };
            match self.shared.receive(key, raw, self.buffer) {
                Ok(0) => return self.end(key),
                Ok(len) => {
                    self.completions += 1;
                    self.sink.complete(key, Completion::Received(&self.buffer[..len]));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let is_empty = !self.shared.state().is_deferred(key, Deferred::Read);
                    if is_empty && matches!(read, Reading::Drain(_)) {
                        self.tell(key, Completion::Drained);
                    }
                    return;
                }
                Err(error) => return self.tell(key, Completion::Failed(error)),
            }
        }
        self.shared.defer(key, Deferred::Read, self.shared.port.now_ns());
    }

    /// The end of the stream, and the reset that may be behind it.
    fn end(&mut self, key: u64) {
        self.tell(key, Completion::EndOfStream);
        if let Reading::Receive(raw) | Reading::Drain(raw) | Reading::Nothing(raw) = self.sink.interest(key).read {
            if let Some(error) = P::take_error(raw) {
                self.tell(key, Completion::Failed(error));
            }
        }
    }

    /// What was deferred until now.
    fn go_on(&mut self) {
        let due = self.shared.state().take_due(self.shared.port.now_ns());
        for (key, what) in due {
            match what {
                Deferred::Read => self.read(key),
                Deferred::Write if self.sink.interest(key).room => self.tell(key, Completion::Writable),
                Deferred::Write => {}
            }
        }
    }
}

impl<P: Port> Port for FaultyPort<P> {
    type Socket = FaultySocket<P>;
    type Raw = P::Raw;
    type Ring = FaultyRing<P>;

    const DETACH_BEFORE_CLOSE: bool = P::DETACH_BEFORE_CLOSE;
    const LOOK_UP_BLOCKS: bool = P::LOOK_UP_BLOCKS;
    const INJECTS_FAULTS: bool = true;

    fn open(setup: &PortSetup) -> io::Result<(Self, FaultyRing<P>)> {
        let (port, ring) = P::open(setup)?;
        let buffer = filled(setup.receive_buffer_bytes.max(1), 0)?;
        let ring = FaultyRing { ring, buffer, receives_per_turn: setup.receives_per_turn.max(1) };
        Ok((FaultyPort(Arc::new(Shared { port, state: Mutex::default() })), ring))
    }

    fn heap_bytes(setup: &PortSetup) -> u64 {
        P::heap_bytes(setup) + setup.receive_buffer_bytes.max(1) as u64
    }

    fn set_faults(&self, plan: FaultPlan) {
        self.0.state().begin(plan);
    }

    fn finds_pool_exhausted(&self) -> bool {
        self.0.state().happens(FaultRandom::OF_THE_PORT, |plan| plan.pool_exhaustions_ppm)
    }

    fn attach(&self, socket: &Self::Socket, key: u64) -> io::Result<()> {
        self.0.state().register(key);
        socket.moves(Some((self.0.clone(), key)));
        self.0.port.attach(&socket.socket, key)
    }

    fn attach_listener(&self, socket: &Self::Socket, key: u64) -> io::Result<()> {
        self.0.port.attach_listener(&socket.socket, key)
    }

    fn detach(&self, socket: &Self::Socket) {
        self.0.port.detach(&socket.socket);
    }

    fn wake(&self) {
        self.0.port.wake();
    }

    fn descriptor(&self) -> io::Result<OsHandle> {
        self.0.port.descriptor()
    }

    fn set_alarm(&self, at_ns: Option<u64>) -> io::Result<()> {
        let due_ns = self.0.state().next_due_ns();
        self.0.port.set_alarm(at_ns.into_iter().chain(due_ns).min())
    }

    fn wait(&self, ring: &mut FaultyRing<P>, timeout_ns: Option<u64>, sink: &mut impl Sink<P::Raw>) -> io::Result<u32> {
        let shared = &*self.0;
        let due_ns = shared.state().next_due_ns().map(|due_ns| due_ns.saturating_sub(shared.port.now_ns()));
        let timeout_ns = timeout_ns.into_iter().chain(due_ns).min();
        let FaultyRing { ring, buffer, receives_per_turn } = ring;
        let mut injector =
            FaultInjector { shared, sink, buffer, receives_per_turn: *receives_per_turn, completions: 0 };
        shared.port.wait(ring, timeout_ns, &mut injector)?;
        injector.go_on();
        Ok(injector.completions)
    }

    fn may_have_more(ring: &FaultyRing<P>) -> bool {
        P::may_have_more(&ring.ring)
    }

    fn receive_again(ring: &mut FaultyRing<P>, key: u64) {
        P::receive_again(&mut ring.ring, key);
    }

    fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<Self::Socket> {
        self.0.port.listen(address, options).map(FaultySocket::new)
    }

    fn adopt_listener(&self, listener: OsHandle) -> io::Result<Self::Socket> {
        self.0.port.adopt_listener(listener).map(FaultySocket::new)
    }

    fn accept(&self, listener: &Self::Socket) -> Result<Accepted<Self::Socket>, AcceptError> {
        if self.0.state().happens(FaultRandom::OF_THE_PORT, |plan| plan.accept_exhaustions_ppm) {
            return Err(AcceptError::Exhausted(out_of_descriptors()));
        }
        let Accepted { socket, peer } = self.0.port.accept(&listener.socket)?;
        Ok(Accepted { socket: FaultySocket::new(socket), peer })
    }

    fn connect(&self, to: &Address, from: Option<&Address>, options: &StreamOptions) -> io::Result<Self::Socket> {
        if self.0.state().happens(FaultRandom::OF_THE_PORT, |plan| plan.connect_exhaustions_ppm) {
            return Err(out_of_descriptors());
        }
        self.0.port.connect(to, from, options).map(FaultySocket::new)
    }

    fn connect_result(socket: &Self::Socket) -> io::Result<()> {
        P::connect_result(&socket.socket)
    }

    fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
        P::look_up(host)
    }

    fn resolve(&self, host: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        self.0.port.resolve(host)
    }

    fn send(socket: &Self::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let home = socket.home().clone();
        match home {
            Some((shared, key)) => shared.send(key, &socket.socket, slices),
            None => P::send(&socket.socket, slices),
        }
    }

    fn receive(socket: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize> {
        let home = socket.home().clone();
        match home {
            Some((shared, key)) => shared.receive(key, P::raw(&socket.socket), buffer),
            None => P::receive(&socket.socket, buffer),
        }
    }

    fn shutdown_send(socket: &Self::Socket) -> io::Result<()> {
        P::shutdown_send(&socket.socket)
    }

    fn set_options(socket: &Self::Socket, options: &StreamOptions) -> io::Result<()> {
        P::set_options(&socket.socket, options)
    }

    fn local_address(socket: &Self::Socket) -> io::Result<Address> {
        P::local_address(&socket.socket)
    }

    fn peer_address(socket: &Self::Socket) -> io::Result<Address> {
        P::peer_address(&socket.socket)
    }

    fn raw(socket: &Self::Socket) -> P::Raw {
        P::raw(&socket.socket)
    }

    /// Without faults: a number does not tell whose they would be.
    fn receive_raw(raw: P::Raw, buffer: &mut [u8]) -> io::Result<usize> {
        P::receive_raw(raw, buffer)
    }

    fn reset_raw(raw: P::Raw) {
        P::reset_raw(raw);
    }

    fn take_error(raw: P::Raw) -> Option<io::Error> {
        P::take_error(raw)
    }

    fn peek(socket: &Self::Socket) -> io::Result<usize> {
        P::peek(&socket.socket)
    }

    fn is_broken(socket: &Self::Socket) -> bool {
        P::is_broken(&socket.socket)
    }

    fn unacknowledged(socket: &Self::Socket) -> Option<u64> {
        P::unacknowledged(&socket.socket)
    }

    fn now_ns(&self) -> u64 {
        self.0.port.now_ns()
    }

    fn random(&self) -> u64 {
        self.0.port.random()
    }
}

#[cfg(all(test, feature = "simulation"))]
mod tests;

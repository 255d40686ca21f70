//! Another port with faults: what an application meets seldom or never on a test machine, by chance of a seed. An engine
//! is made on it when its owner asks for faults, and on no other port is there anything of this in its way.
//!
//! The port below tells of readiness; reads are made here, so that one can be short, put off or reset. What was put off
//! is handed over by a later wait, as a kernel would that had no room or no data until then.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dice::{Dice, FaultPlan, State};
use super::socket::{self, Socket};
use super::{Address, Completion, Interest, ListenOptions, Port, PortSetup, RawSocket, Reading, Sink, StreamOptions};

/// What is handed over when its time has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Again {
    Read,
    Write,
}

/// A port whose sockets are those of the system, with faults.
pub struct FaultyPort<P>(Arc<Shared<P>>);

struct Shared<P> {
    port: P,
    state: Mutex<State>,
}

impl<P> Shared<P> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Port> Shared<P> {
    /// Looks at a key again, at this time; the wait that is under way may have planned to sleep longer.
    fn put_off(&self, key: u64, what: Again, at_ns: u64) {
        self.state().put_off(key, what, at_ns);
        self.port.wake();
    }

    /// When a stall that begins now ends, if one begins.
    fn stall(&self, key: u64, ppm: impl Fn(&FaultPlan) -> u32) -> Option<u64> {
        let mut state = self.state();
        let (is_stalled, ms) = (state.happens(key, &ppm), state.plan.stall_ms.max(1));
        is_stalled.then(|| self.port.now_ns() + 1_000_000 * (1 + state.dice(key).below(ms.into())))
    }

    fn is_reset(&self, key: u64) -> bool {
        self.state().happens(key, |plan| plan.resets_ppm)
    }

    /// How many of so many bytes a read or write takes.
    fn shorten(&self, key: u64, len: usize, ppm: impl Fn(&FaultPlan) -> u32) -> usize {
        let mut state = self.state();
        if len > 1 && state.happens(key, &ppm) {
            1 + state.dice(key).below((len as u64 - 1).min(16)) as usize
        } else {
            len
        }
    }

    /// Reads as the system does, but for faults.
    fn receive(&self, key: u64, raw: RawSocket, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_reset(key) {
            socket::reset_on_close(raw);
            return Err(reset());
        }
        if let Some(at_ns) = self.stall(key, |plan| plan.read_stalls_ppm) {
            self.put_off(key, Again::Read, at_ns);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = self.shorten(key, buffer.len(), |plan| plan.short_reads_ppm);
        socket::receive(raw, &mut buffer[..len])
    }

    fn send(&self, key: u64, socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.is_reset(key) {
            socket::reset_on_close(socket.raw());
            return Err(reset());
        }
        if let Some(at_ns) = self.stall(key, |plan| plan.write_stalls_ppm) {
            self.put_off(key, Again::Write, at_ns);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let whole = slices.iter().map(|slice| slice.len()).sum();
        let len = self.shorten(key, whole, |plan| plan.short_writes_ppm);
        if len == whole {
            return socket::send(socket, slices);
        }
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        let sent = socket::send(socket, &[IoSlice::new(&first[..len.min(first.len())])]);
        // The engine waits for room now, and no edge of the system will tell of it.
        self.put_off(key, Again::Write, self.port.now_ns());
        sent
    }
}

fn reset() -> io::Error {
    io::Error::from_raw_os_error(libc::ECONNRESET)
}

fn exhausted() -> io::Error {
    io::Error::from_raw_os_error(libc::EMFILE)
}

/// A socket that knows under which key, and with which port, it is registered.
pub struct FaultySocket<P: Port> {
    socket: Socket,
    home: Mutex<Option<(Arc<Shared<P>>, u64)>>,
}

impl<P: Port> FaultySocket<P> {
    fn new(socket: Socket) -> FaultySocket<P> {
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

/// Stands between the port below and the engine.
struct Meddler<'a, P, S> {
    shared: &'a Shared<P>,
    sink: &'a mut S,
    buffer: &'a mut [u8],
    receives_per_turn: u32,
    completions: u32,
}

impl<P: Port, S: Sink> Sink for Meddler<'_, P, S> {
    fn interest(&mut self, key: u64) -> Interest {
        let interest = self.sink.interest(key);
        match interest.read {
            Reading::Receive(raw) => Interest { read: Reading::Notify(raw), ..interest },
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

impl<P: Port, S: Sink> Meddler<'_, P, S> {
    fn tell(&mut self, key: u64, completion: Completion<'_>) {
        self.completions += 1;
        self.sink.complete(key, completion);
    }

    /// Reads until nothing is left, unless a fault comes first.
    fn read(&mut self, key: u64) {
        if self.shared.state().is_put_off(key, Again::Read) {
            return;
        }
        for _ in 0..self.receives_per_turn {
            let raw = match self.sink.interest(key).read {
                Reading::Receive(raw) => raw,
                Reading::Notify(_) => return self.tell(key, Completion::Readable),
                Reading::Nothing(_) | Reading::Gone => return,
            };
            match self.shared.receive(key, raw, self.buffer) {
                Ok(0) => return self.end(key),
                Ok(len) => {
                    self.completions += 1;
                    self.sink.complete(key, Completion::Received(&self.buffer[..len]));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.tell(key, Completion::Failed(error)),
            }
        }
        self.shared.put_off(key, Again::Read, self.shared.port.now_ns());
    }

    /// The end of the stream, and the reset that may be behind it.
    fn end(&mut self, key: u64) {
        self.tell(key, Completion::EndOfStream);
        if let Reading::Receive(raw) | Reading::Nothing(raw) = self.sink.interest(key).read {
            if let Some(error) = socket::take_error(raw) {
                self.tell(key, Completion::Failed(error));
            }
        }
    }

    /// What was put off until now.
    fn go_on(&mut self) {
        let due = self.shared.state().take_due(self.shared.port.now_ns());
        for (key, what) in due {
            match what {
                Again::Read => self.read(key),
                Again::Write if self.sink.interest(key).room => self.tell(key, Completion::Writable),
                Again::Write => {}
            }
        }
    }
}

impl<P: Port<Socket = Socket>> Port for FaultyPort<P> {
    type Socket = FaultySocket<P>;
    type Ring = FaultyRing<P>;

    const DETACH_BEFORE_CLOSE: bool = P::DETACH_BEFORE_CLOSE;
    const INJECTS_FAULTS: bool = true;

    fn open(setup: &PortSetup) -> io::Result<(Self, FaultyRing<P>)> {
        let (port, ring) = P::open(setup)?;
        let buffer = vec![0; setup.receive_buffer_bytes.max(1)].into_boxed_slice();
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
        self.0.state().happens(Dice::OF_THE_PORT, |plan| plan.pool_exhaustions_ppm)
    }

    fn attach(&self, socket: &Self::Socket, key: u64) -> io::Result<()> {
        self.0.state().enter(key);
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

    fn descriptor(&self) -> io::Result<RawSocket> {
        self.0.port.descriptor()
    }

    fn set_alarm(&self, at_ns: Option<u64>) -> io::Result<()> {
        let due_ns = self.0.state().next_due_ns();
        self.0.port.set_alarm(at_ns.into_iter().chain(due_ns).min())
    }

    fn wait(&self, ring: &mut FaultyRing<P>, timeout_ns: Option<u64>, sink: &mut impl Sink) -> io::Result<u32> {
        let shared = &*self.0;
        let due_ns = shared.state().next_due_ns().map(|due_ns| due_ns.saturating_sub(shared.port.now_ns()));
        let timeout_ns = timeout_ns.into_iter().chain(due_ns).min();
        let FaultyRing { ring, buffer, receives_per_turn } = ring;
        let mut meddler = Meddler { shared, sink, buffer, receives_per_turn: *receives_per_turn, completions: 0 };
        shared.port.wait(ring, timeout_ns, &mut meddler)?;
        meddler.go_on();
        Ok(meddler.completions)
    }

    fn receive_again(ring: &mut FaultyRing<P>, key: u64) {
        P::receive_again(&mut ring.ring, key);
    }

    fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<Self::Socket> {
        self.0.port.listen(address, options).map(FaultySocket::new)
    }

    fn adopt_listener(&self, raw: RawSocket) -> io::Result<Self::Socket> {
        self.0.port.adopt_listener(raw).map(FaultySocket::new)
    }

    fn accept(&self, listener: &Self::Socket) -> io::Result<(Self::Socket, Option<SocketAddr>)> {
        if self.0.state().happens(Dice::OF_THE_PORT, |plan| plan.accept_exhaustions_ppm) {
            return Err(exhausted());
        }
        self.0.port.accept(&listener.socket).map(|(socket, address)| (FaultySocket::new(socket), address))
    }

    fn connect(&self, to: &Address, from: Option<&Address>, options: &StreamOptions) -> io::Result<Self::Socket> {
        if self.0.state().happens(Dice::OF_THE_PORT, |plan| plan.connect_exhaustions_ppm) {
            return Err(exhausted());
        }
        self.0.port.connect(to, from, options).map(FaultySocket::new)
    }

    fn connect_result(socket: &Self::Socket) -> io::Result<()> {
        P::connect_result(&socket.socket)
    }

    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        self.0.port.resolve(host, port)
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
            Some((shared, key)) => shared.receive(key, socket.socket.raw(), buffer),
            None => P::receive(&socket.socket, buffer),
        }
    }

    fn shutdown_send(socket: &Self::Socket) -> io::Result<()> {
        P::shutdown_send(&socket.socket)
    }

    fn reset_on_close(socket: &Self::Socket) {
        P::reset_on_close(&socket.socket);
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

    fn raw(socket: &Self::Socket) -> RawSocket {
        P::raw(&socket.socket)
    }

    fn now_ns(&self) -> u64 {
        self.0.port.now_ns()
    }

    fn random(&self) -> u64 {
        self.0.port.random()
    }
}

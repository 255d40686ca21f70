//! The completion port: all system calls, and nothing else. The engine speaks to the kernel only through [`Port`], so the
//! same engine runs on epoll, on the `polling` crate, and later on io_uring or on a simulated network.
//!
//! A port belongs to one worker, which alone waits on it with the port's [`Port::Ring`]; everything else may be called
//! from any thread. Readiness is turned into completions in here: a readable socket becomes [`Completion::Received`].

pub mod address;
mod bound_path;
mod dice;
#[cfg(target_os = "linux")]
pub mod epoll;
pub mod faults;
pub mod fork;
mod hot;
mod listen;
mod options;
pub mod polling;
mod receive;
#[cfg(feature = "simulation")]
pub mod sim;
mod sockaddr;
pub mod socket;
#[cfg(test)]
mod tests;
pub mod thread;

use std::io::{self, IoSlice};
use std::net::SocketAddr;

pub use address::{Address, AddressError, Target};
pub use dice::FaultPlan;

/// A socket's number as the operating system (or a simulation) knows it.
pub type RawSocket = i32;

/// What the port is made for.
#[derive(Clone, Copy, Debug)]
pub struct PortSetup {
    /// Bytes of the receive buffer that all connections of the worker share.
    pub receive_buffer_bytes: usize,
    /// The most connections that can be registered; bounds the ready list.
    pub max_connections: usize,
    /// Receive calls for one connection in one turn before the others get theirs.
    pub receives_per_turn: u32,
}

/// What happened to a key.
#[derive(Debug)]
pub enum Completion<'a> {
    /// Bytes arrived; they live for the call.
    Received(&'a [u8]),
    /// The peer will send no more.
    EndOfStream,
    /// The kernel has room for more bytes to send, or a connect has ended (see [`Port::connect_result`]).
    Writable,
    /// A listener has connections to accept, or a connection in [`Reading::Notify`] has something to read.
    Readable,
    /// The socket broke.
    Failed(io::Error),
}

/// What the engine wants to know of a key at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest {
    /// What to do when it is readable.
    pub read: Reading,
    /// Whether to tell [`Completion::Writable`]. Edge-triggered readiness tells of room with every message, and hardly
    /// anybody waits for it.
    pub room: bool,
    /// The engine's own place of the key, for [`Sink::received`].
    pub place: u32,
}

/// What to do with a key that is readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading {
    /// The key lives no more: drop the event.
    Gone,
    /// Read from this socket and hand over what came. It stays open until the sink is called again.
    Receive(RawSocket),
    /// Say [`Completion::Readable`] and read nothing.
    Notify(RawSocket),
    /// Read nothing and say nothing of what can be read (paused); errors are told all the same.
    Nothing(RawSocket),
}

/// Who takes the completions of a wait.
pub trait Sink {
    /// Asked before each event and each receive, so that a connection that was closed or paused a moment ago is left
    /// alone.
    fn interest(&mut self, key: u64) -> Interest;
    /// Told of each completion. May call everything on the port but [`Port::wait`]. May panic: the wait is unwound then,
    /// and the next one hands over the events that were left.
    fn complete(&mut self, key: u64, completion: Completion<'_>);
    /// The same for [`Completion::Received`], right after [`Sink::interest`] gave this place for the key: the usual case.
    fn received(&mut self, key: u64, _place: u32, data: &[u8]) {
        self.complete(key, Completion::Received(data));
    }
}

/// Options of a listening socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListenOptions {
    /// Length of the queue of connections that wait to be accepted.
    pub backlog: u32,
    /// An IPv6 listener takes IPv6 only.
    pub v6_only: bool,
    /// Several sockets may listen on the same port (SO_REUSEPORT).
    pub reuse_port: bool,
    /// Options of the connections that it accepts, where they inherit them (see [`Port::accepted_inherit_options`]).
    pub stream: StreamOptions,
}

/// Options of a connected (or connecting) socket; a zero leaves what the system does.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {
    /// Leave Nagle's algorithm on.
    pub delay: bool,
    /// Seconds of silence before the first keepalive probe; 0: no keepalive.
    pub keepalive_s: u32,
    /// Seconds between probes.
    pub keepalive_interval_s: u32,
    /// Probes without an answer before the connection counts as dead.
    pub keepalive_probes: u32,
    /// SO_SNDBUF.
    pub send_buffer_bytes: u32,
    /// SO_RCVBUF.
    pub receive_buffer_bytes: u32,
}

/// One worker's completion port.
pub trait Port: Send + Sync + Sized + 'static {
    /// A socket; closed when dropped.
    type Socket: Send + Sync + 'static;
    /// What only the waiting worker touches: event list, receive buffer, ready list.
    type Ring: Send + 'static;

    /// Whether a stream must be detached before it is dropped. Where it is false, closing takes it out by itself, and the
    /// call can be saved. Listeners are always detached first: other ports may watch them, or another process hold them.
    const DETACH_BEFORE_CLOSE: bool;

    /// Whether it brings about faults (see [`Port::set_faults`]). Where it is false, nothing of them is compiled in.
    const INJECTS_FAULTS: bool = false;

    /// From now on faults happen as this plan says. For ports that inject them.
    fn set_faults(&self, _plan: FaultPlan) {}
    /// Whether a send shall find the engine's pool exhausted this time.
    fn finds_pool_exhausted(&self) -> bool {
        false
    }

    /// Opens a port and its ring; everything that the ring ever needs is set aside here.
    fn open(setup: &PortSetup) -> io::Result<(Self, Self::Ring)>;
    /// Bytes of heap that [`Port::open`] sets aside.
    fn heap_bytes(setup: &PortSetup) -> u64;

    /// Registers a stream once, for both directions, edge-triggered. The first wait after it reports Writable (for a
    /// connect: when it has ended).
    fn attach(&self, socket: &Self::Socket, key: u64) -> io::Result<()>;
    /// Registers a listener, level-triggered; several ports may watch the same listener.
    fn attach_listener(&self, socket: &Self::Socket, key: u64) -> io::Result<()>;
    /// Takes a listener or stream out again; unknown sockets are ignored. See [`Port::DETACH_BEFORE_CLOSE`].
    fn detach(&self, socket: &Self::Socket);

    /// Ends the current or the next wait; from any thread.
    fn wake(&self);
    /// A descriptor that is readable when a wait would not block, for a host's own loop.
    fn descriptor(&self) -> io::Result<RawSocket>;
    /// Makes [`Port::descriptor`] readable at this time (of [`Port::now_ns`]); None: no alarm.
    fn set_alarm(&self, at_ns: Option<u64>) -> io::Result<()>;

    /// Waits until something happens or `timeout_ns` has passed (None: for ever), and hands what happened to the sink.
    /// Gives the number of completions.
    fn wait(&self, ring: &mut Self::Ring, timeout_ns: Option<u64>, sink: &mut impl Sink) -> io::Result<u32>;
    /// Look at this key again in the next wait although no event tells of it: its owner resumed receiving.
    fn receive_again(ring: &mut Self::Ring, key: u64);

    /// Makes a listening socket.
    fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<Self::Socket>;
    /// Whether what is accepted at this address has the stream options that [`Port::listen`] was given, so that they need
    /// not be set for each connection.
    fn accepted_inherit_options(_address: &Address) -> bool {
        false
    }
    /// Takes over a descriptor that already listens (socket activation). On an error it stays with its owner, untouched.
    fn adopt_listener(&self, raw: RawSocket) -> io::Result<Self::Socket>;
    /// Takes one connection; `WouldBlock` when none waits, `ConnectionAborted` when one broke while it waited (try the
    /// next). The address is None where the peer has none (Unix sockets).
    fn accept(&self, listener: &Self::Socket) -> io::Result<(Self::Socket, Option<SocketAddr>)>;
    /// Begins to connect, optionally from a local address. Unix addresses connect at once.
    fn connect(&self, to: &Address, from: Option<&Address>, options: &StreamOptions) -> io::Result<Self::Socket>;
    /// How a connect ended, asked after Writable.
    fn connect_result(socket: &Self::Socket) -> io::Result<()>;
    /// Resolves a host name. Where the system's resolver blocks, it does so off the workers.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Sends as much as the kernel takes; never raises SIGPIPE, never blocks.
    fn send(socket: &Self::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Reads what is there into a caller's buffer; 0 is the end of the stream; never blocks.
    fn receive(socket: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize>;
    /// Sends FIN.
    fn shutdown_send(socket: &Self::Socket) -> io::Result<()>;
    /// Makes the drop of this socket send RST instead of FIN.
    fn reset_on_close(socket: &Self::Socket);
    /// Sets the options of a connected socket.
    fn set_options(socket: &Self::Socket, options: &StreamOptions) -> io::Result<()>;
    /// The local address, as text that [`Address`] parses back.
    fn local_address(socket: &Self::Socket) -> io::Result<Address>;
    /// The peer's address.
    fn peer_address(socket: &Self::Socket) -> io::Result<Address>;
    /// The socket's number, for [`Reading`].
    fn raw(socket: &Self::Socket) -> RawSocket;

    /// Monotonic time in nanoseconds from an arbitrary start.
    fn now_ns(&self) -> u64;
    /// A random number, for jitter.
    fn random(&self) -> u64;
}

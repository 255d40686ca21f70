//! The completion port: all system calls, and nothing else. The engine speaks to the kernel only through [`Port`], so the
//! same engine runs on epoll, on the `polling` crate, on a simulated network, and later on io_uring or on Windows.
//!
//! A port belongs to one worker, which alone waits on it with the port's [`Port::Ring`]; everything else may be called
//! from any thread. Readiness is turned into completions in here: a readable socket becomes [`Completion::Received`].
//!
//! This file names nothing of any system. What the ports of one system share is in a folder of its own (`unix/`), which
//! goes by the name of `system` in the rest of this room.

pub mod address;
#[cfg(target_os = "linux")]
pub mod epoll;
mod errors;
mod fault_plan;
pub mod faults;
pub mod polling;
mod receive;
#[cfg(feature = "simulation")]
pub mod sim;
#[cfg(test)]
mod tests;
#[cfg(unix)]
mod unix;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::Relaxed};

pub use address::{Address, AddressError, Target};
pub use errors::status_of;
pub use fault_plan::FaultPlan;
pub use system::{fork, thread};
#[cfg(unix)]
use unix as system;

/// A socket's number as its port knows it: small, and of no use by itself.
pub trait RawSocket: Copy + PartialEq + Debug + Send + 'static {
    /// A place for a number that several threads read. What is in it before the first [`RawSocket::store`] means nothing.
    type Cell: Default + Send + Sync + 'static;
    /// Puts it into a cell; orders nothing else.
    fn store(self, cell: &Self::Cell);
    /// What was put into a cell last.
    fn load(cell: &Self::Cell) -> Self;
}

macro_rules! raw_socket {
    ($($number:ty, $cell:ty: $who:literal;)*) => {
        $(
            #[doc = $who]
            impl RawSocket for $number {
                type Cell = $cell;
                #[inline(always)]
                fn store(self, cell: &$cell) {
                    cell.store(self, Relaxed);
                }
                #[inline(always)]
                fn load(cell: &$cell) -> $number {
                    cell.load(Relaxed)
                }
            }
        )*
    };
}

raw_socket! {
    i32, AtomicI32: "A descriptor of Unix.";
    u32, AtomicU32: "A socket of the simulation.";
    usize, AtomicUsize: "A SOCKET of Windows.";
}

/// Something of the operating system that a host holds or waits on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OsHandle {
    /// A descriptor of Unix.
    Descriptor(i32),
    /// A HANDLE or SOCKET of Windows.
    Handle(usize),
}

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
    /// A socket in [`Reading::Drain`] has nothing more to read for now.
    Drained,
    /// The socket broke.
    Failed(io::Error),
}

/// What the engine wants to know of a key at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interest<R> {
    /// What to do when it is readable.
    pub read: Reading<R>,
    /// Whether to tell [`Completion::Writable`]. Edge-triggered readiness tells of room with every message, and hardly
    /// anybody waits for it.
    pub room: bool,
    /// The engine's own place of the key, for [`Sink::received`].
    pub place: u32,
}

/// What to do with a key that is readable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reading<R> {
    /// The key lives no more: drop the event.
    Gone,
    /// Read from this socket and hand over what came. It stays open until the sink is called again.
    Receive(R),
    /// The same until the system has no more, whatever a short read may mean; then say [`Completion::Drained`].
    Drain(R),
    /// Say [`Completion::Readable`] and read nothing.
    Notify,
    /// Read nothing and say nothing of what can be read (paused); errors are told all the same.
    Nothing(R),
}

/// Who takes the completions of a wait.
pub trait Sink<R: RawSocket> {
    /// Asked before each event and each receive, so that a connection that was closed or paused a moment ago is left
    /// alone.
    fn interest(&mut self, key: u64) -> Interest<R>;
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

/// A connection that was accepted. It belongs to no port yet, and may be attached to the port of any worker.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The connection.
    pub socket: S,
    /// Who connected; [`Address::UnixUnnamed`] for a Unix peer without a name, as most are. An IP address costs no
    /// allocation.
    pub peer: Address,
}

/// Why an accept gave no connection.
#[derive(Debug)]
pub enum AcceptError {
    /// Nobody waits.
    NoneWaiting,
    /// One that waited broke, or may not be had: try the next.
    Connection(io::Error),
    /// Descriptors or memory ran out; who waits goes on waiting. Try again in a while.
    Exhausted(io::Error),
    /// The listener itself is of no use.
    Listener(io::Error),
}

/// One worker's completion port.
pub trait Port: Send + Sync + Sized + 'static {
    /// A socket; closed when dropped.
    type Socket: Send + Sync + 'static;
    /// Its number.
    type Raw: RawSocket;
    /// What only the waiting worker touches: event list, receive buffer, ready list.
    type Ring: Send + 'static;

    /// Whether a stream must be detached before it is dropped. Where it is false, closing takes it out by itself, and the
    /// call can be saved. Listeners are always detached first: other ports may watch them, or another process hold them.
    const DETACH_BEFORE_CLOSE: bool;

    /// Whether names are resolved by a call that blocks, [`Port::look_up`], and so need threads of their own. Where it is
    /// false, [`Port::resolve`] is asked.
    const LOOK_UP_BLOCKS: bool = true;

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
    /// What is readable (signalled) when a wait would not block, for a host's own loop. An error of the kind `Unsupported`
    /// where there is no such thing.
    fn descriptor(&self) -> io::Result<OsHandle>;
    /// Makes [`Port::descriptor`] readable at this time (of [`Port::now_ns`]); None: no alarm.
    fn set_alarm(&self, at_ns: Option<u64>) -> io::Result<()>;

    /// Waits until something happens or `timeout_ns` has passed (None: for ever), and hands what happened to the sink.
    /// Gives the number of completions; none when it ended early, as it may at any time (a signal, a wake-up). An error means
    /// that the port is broken for good, and no wait on it will do better.
    fn wait(&self, ring: &mut Self::Ring, timeout_ns: Option<u64>, sink: &mut impl Sink<Self::Raw>) -> io::Result<u32>;
    /// Whether the system may have had more to tell than the last wait took. Of that [`Port::descriptor`] makes no new edge
    /// by itself.
    fn may_have_more(ring: &Self::Ring) -> bool;
    /// Look at this key again in the next wait although no event tells of it: its owner resumed receiving.
    fn receive_again(ring: &mut Self::Ring, key: u64);

    /// Makes a listening socket.
    fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<Self::Socket>;
    /// Whether what is accepted at this address has the stream options that [`Port::listen`] was given, so that they need
    /// not be set for each connection.
    fn accepted_inherit_options(_address: &Address) -> bool {
        false
    }
    /// Takes over what already listens (socket activation). On an error it stays with its owner, untouched.
    fn adopt_listener(&self, listener: OsHandle) -> io::Result<Self::Socket>;
    /// Takes one connection.
    fn accept(&self, listener: &Self::Socket) -> Result<Accepted<Self::Socket>, AcceptError>;
    /// Begins to connect, optionally from a local address. Unix addresses connect at once, or fail with WouldBlock for as
    /// long as the listener's backlog is full, where the system tells that apart.
    fn connect(&self, to: &Address, from: Option<&Address>, options: &StreamOptions) -> io::Result<Self::Socket>;
    /// How a connect ended, asked after Writable.
    fn connect_result(socket: &Self::Socket) -> io::Result<()>;
    /// Resolves a host name, and blocks meanwhile: not on a worker. An address with port 0 means the port that the user named.
    fn look_up(host: &str) -> io::Result<Vec<SocketAddr>>;
    /// Resolves a host name without blocking, where there is no [`Port::LOOK_UP_BLOCKS`].
    fn resolve(&self, host: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send {
        std::future::ready(Self::look_up(host))
    }

    /// Sends as much as the kernel takes; never raises SIGPIPE, never blocks.
    fn send(socket: &Self::Socket, slices: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Reads what is there into a caller's buffer; 0 is the end of the stream; never blocks.
    #[inline]
    fn receive(socket: &Self::Socket, buffer: &mut [u8]) -> io::Result<usize> {
        Self::receive_raw(Self::raw(socket), buffer)
    }
    /// Sends FIN.
    fn shutdown_send(socket: &Self::Socket) -> io::Result<()>;
    /// Makes the drop of this socket send RST instead of FIN; what waits to be sent is thrown away.
    fn reset_on_close(socket: &Self::Socket) {
        Self::reset_raw(Self::raw(socket));
    }
    /// Sets the options of a connected socket.
    fn set_options(socket: &Self::Socket, options: &StreamOptions) -> io::Result<()>;
    /// The local address, as text that [`Address`] parses back.
    fn local_address(socket: &Self::Socket) -> io::Result<Address>;
    /// The peer's address.
    fn peer_address(socket: &Self::Socket) -> io::Result<Address>;
    /// The socket's number, for [`Reading`] and for the calls below.
    fn raw(socket: &Self::Socket) -> Self::Raw;
    /// [`Port::receive`] by the number of a socket that is open.
    fn receive_raw(raw: Self::Raw, buffer: &mut [u8]) -> io::Result<usize>;
    /// [`Port::reset_on_close`] by the number of a socket that is open.
    fn reset_raw(raw: Self::Raw);
    /// Takes the error that waits on a socket, if one does.
    fn take_error(raw: Self::Raw) -> Option<io::Error>;
    /// What a receive would find, which stays where it is: how many bytes at least, 0 for the end of the stream.
    fn peek(socket: &Self::Socket) -> io::Result<usize>;
    /// Whether the socket is broken; an error that waits stays where it is.
    fn is_broken(socket: &Self::Socket) -> bool;
    /// Bytes that were sent and that the peer's system has not acknowledged (on Unix sockets: not read); None where the
    /// system does not tell.
    fn unacknowledged(socket: &Self::Socket) -> Option<u64>;

    /// Monotonic time in nanoseconds from an arbitrary start.
    fn now_ns(&self) -> u64;
    /// A random number, for jitter.
    fn random(&self) -> u64;
}

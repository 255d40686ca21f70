//! A port on Unix: what it does of its own, and with the calls on sockets that all of them share it is a [`Port`].

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use super::socket::Socket;
use super::{clock, connect, listen, options, sockaddr, stream};
use crate::port::{AcceptError, Accepted, Address, ListenOptions, OsHandle, Port, PortSetup, Sink, StreamOptions};

/// How a port learns what is ready. Each name means what it means in [`Port`].
pub trait ReadinessPort: Send + Sync + Sized + 'static {
    type Ring: Send + 'static;

    const DETACH_BEFORE_CLOSE: bool;

    fn open(setup: &PortSetup) -> io::Result<(Self, Self::Ring)>;
    fn heap_bytes(setup: &PortSetup) -> u64;
    fn attach(&self, socket: &Socket, key: u64) -> io::Result<()>;
    fn attach_listener(&self, socket: &Socket, key: u64) -> io::Result<()>;
    fn detach(&self, socket: &Socket);
    fn wake(&self);
    /// The descriptor's number.
    fn descriptor(&self) -> io::Result<i32>;
    fn set_alarm(&self, at_ns: Option<u64>) -> io::Result<()>;
    fn wait(&self, ring: &mut Self::Ring, timeout_ns: Option<u64>, sink: &mut impl Sink<i32>) -> io::Result<u32>;
    fn may_have_more(ring: &Self::Ring) -> bool;
    fn receive_again(ring: &mut Self::Ring, key: u64);
}

impl<P: ReadinessPort> Port for P {
    type Socket = Socket;
    type Raw = i32;
    type Ring = P::Ring;

    const DETACH_BEFORE_CLOSE: bool = P::DETACH_BEFORE_CLOSE;

    fn open(setup: &PortSetup) -> io::Result<(P, P::Ring)> {
        P::open(setup)
    }
    fn heap_bytes(setup: &PortSetup) -> u64 {
        P::heap_bytes(setup)
    }
    #[inline]
    fn attach(&self, socket: &Socket, key: u64) -> io::Result<()> {
        ReadinessPort::attach(self, socket, key)
    }
    fn attach_listener(&self, socket: &Socket, key: u64) -> io::Result<()> {
        ReadinessPort::attach_listener(self, socket, key)
    }
    fn detach(&self, socket: &Socket) {
        ReadinessPort::detach(self, socket);
    }
    fn wake(&self) {
        ReadinessPort::wake(self);
    }
    fn descriptor(&self) -> io::Result<OsHandle> {
        ReadinessPort::descriptor(self).map(OsHandle::Descriptor)
    }
    fn set_alarm(&self, at_ns: Option<u64>) -> io::Result<()> {
        ReadinessPort::set_alarm(self, at_ns)
    }
    #[inline(always)]
    fn wait(&self, ring: &mut P::Ring, timeout_ns: Option<u64>, sink: &mut impl Sink<i32>) -> io::Result<u32> {
        ReadinessPort::wait(self, ring, timeout_ns, sink)
    }
    fn may_have_more(ring: &P::Ring) -> bool {
        P::may_have_more(ring)
    }
    fn receive_again(ring: &mut P::Ring, key: u64) {
        P::receive_again(ring, key);
    }

    fn listen(&self, address: &Address, options: &ListenOptions) -> io::Result<Socket> {
        listen::listen(address, options)
    }
    fn accepted_inherit_options(address: &Address) -> bool {
        // Linux copies the listener (tcp(7)); elsewhere it differs by option and system.
        cfg!(target_os = "linux") && !address.is_unix()
    }
    fn adopt_listener(&self, listener: OsHandle) -> io::Result<Socket> {
        match listener {
            OsHandle::Descriptor(raw) => listen::adopt_listener(raw),
            OsHandle::Handle(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
    fn accept(&self, listener: &Socket) -> Result<Accepted<Socket>, AcceptError> {
        listen::accept(listener)
    }
    fn connect(&self, to: &Address, from: Option<&Address>, options: &StreamOptions) -> io::Result<Socket> {
        connect::connect(to, from, options)
    }
    fn connect_result(socket: &Socket) -> io::Result<()> {
        connect::connect_result(socket)
    }
    fn look_up(host: &str) -> io::Result<Vec<SocketAddr>> {
        connect::look_up(host)
    }

    #[inline(always)]
    fn send(socket: &Socket, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        stream::send(socket, slices)
    }
    fn shutdown_send(socket: &Socket) -> io::Result<()> {
        stream::shutdown_send(socket)
    }
    fn set_options(socket: &Socket, options: &StreamOptions) -> io::Result<()> {
        options::set_stream_options(socket.raw(), options)
    }
    fn local_address(socket: &Socket) -> io::Result<Address> {
        sockaddr::local_address(socket.raw())
    }
    fn peer_address(socket: &Socket) -> io::Result<Address> {
        sockaddr::peer_address(socket.raw())
    }

    #[inline]
    fn raw(socket: &Socket) -> i32 {
        socket.raw()
    }
    #[inline(always)]
    fn receive_raw(raw: i32, buffer: &mut [u8]) -> io::Result<usize> {
        stream::receive(raw, buffer)
    }
    fn reset_raw(raw: i32) {
        options::reset_on_close(raw);
    }
    fn take_error(raw: i32) -> Option<io::Error> {
        options::take_error(raw)
    }
    fn peek(socket: &Socket) -> io::Result<usize> {
        stream::peek(socket)
    }
    fn is_broken(socket: &Socket) -> bool {
        stream::is_broken(socket)
    }
    fn unacknowledged(socket: &Socket) -> Option<u64> {
        stream::unacknowledged(socket)
    }

    #[inline]
    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }
    fn random(&self) -> u64 {
        fastrand::u64(..)
    }
}

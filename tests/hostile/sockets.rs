//! Plain sockets, with what the standard library does not offer: another source address, a connect that does not wait, a
//! close by reset, another network namespace.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd};
use std::time::Duration;

/// Where a socket is made.
#[derive(Clone, Default)]
pub struct Place {
    /// The network namespace; the process's own, if there is no name.
    pub namespace: Option<String>,
}

impl Place {
    /// Connects, with timeouts that only a broken promise reaches.
    pub fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        self.enter(|| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(crate::common::PATIENCE))?;
            stream.set_write_timeout(Some(crate::common::PATIENCE))?;
            Ok(stream)
        })
    }

    /// Runs something on a thread whose sockets are made in the namespace.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let Some(name) = &self.namespace else { return act() };
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                let space = std::fs::File::open(format!("/run/netns/{name}")).unwrap();
                // SAFETY: setns takes a descriptor that is open, and changes this thread alone, which ends below.
                assert_eq!(unsafe { libc::setns(space.as_raw_fd(), libc::CLONE_NEWNET) }, 0);
                act()
            });
            inside.join().unwrap()
        })
    }
}

fn raw(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

/// Connects from 127.0.0.`source`, so that ports do not run out. Without waiting the connect may still be under way, or
/// never succeed.
pub fn connect_from(source: u8, address: SocketAddr, waits: bool) -> io::Result<TcpStream> {
    let SocketAddr::V4(address) = address else { panic!("IPv4 only") };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | if waits { 0 } else { libc::SOCK_NONBLOCK };
    let (own, peer) = (raw(SocketAddrV4::new([127, 0, 0, source].into(), 0)), raw(address));
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let failed = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: the new descriptor is owned by the stream alone; the addresses live for the calls, and their length is
    // their size; the option is an int.
    unsafe {
        let fd = libc::socket(libc::AF_INET, kind, 0);
        failed(fd)?;
        let stream = TcpStream::from_raw_fd(fd);
        let (on, size) = (1 as libc::c_int, size_of::<libc::c_int>() as libc::socklen_t);
        failed(libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, (&raw const on).cast(), size))?;
        failed(libc::bind(fd, (&raw const own).cast(), length))?;
        match failed(libc::connect(fd, (&raw const peer).cast(), length)) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    }
}

/// The drop of the stream will be a reset.
pub fn reset_on_drop(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    // SAFETY: pointer and length are those of `linger`, which lives for the call.
    let result = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), length)
    };
    assert_eq!(result, 0);
}

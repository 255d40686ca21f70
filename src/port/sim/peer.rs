//! Whoever talks to an engine from outside: the same kernel, without faults.

use std::io::{self, IoSlice};
use std::net::SocketAddr;

use super::faults::error;
use super::hosts::link_of;
use super::sockets::SimSocket;
use super::world;
use crate::port::StreamOptions;

/// A socket outside of every engine.
#[derive(Debug)]
pub struct Peer {
    socket: SimSocket,
    link: u32,
}

impl Peer {
    /// Begins to connect from this IP address (its port is chosen).
    pub fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<Peer> {
        world::with(|world| {
            let raw = world.connect(false, Some(from), to, &StreamOptions::default())?;
            Ok(Peer { socket: SimSocket(raw), link: world.links.len() as u32 - 1 })
        })
    }

    /// Listens.
    pub fn listen(address: SocketAddr, backlog: u32) -> io::Result<Peer> {
        world::with(|world| {
            let raw = world.listen(false, address, backlog)?;
            Ok(Peer { socket: SimSocket(raw), link: u32::MAX })
        })
    }

    /// Takes a connection that waits.
    pub fn accept(&self) -> io::Result<Peer> {
        world::with(|world| {
            let (raw, from) = world.accept(self.socket.0)?;
            let link = link_of(from.port()).ok_or_else(|| error(libc::EINVAL))?;
            Ok(Peer { socket: SimSocket(raw), link })
        })
    }

    /// The number of its link.
    pub fn link(&self) -> u32 {
        self.link
    }

    /// Whether its connect has succeeded; an error when it failed.
    pub fn is_connected(&self) -> io::Result<bool> {
        world::with(|world| {
            let end = &mut world.links[self.link as usize].ends[0];
            if end.connecting {
                return Ok(false);
            }
            end.error.map_or(Ok(true), |code| Err(error(code)))
        })
    }

    /// Sends what fits.
    pub fn send(&self, data: &[u8]) -> io::Result<usize> {
        world::with(|world| world.send(self.socket.0, &[IoSlice::new(data)]))
    }

    /// Reads what is there; 0 is the end of the stream.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        world::with(|world| world.receive(self.socket.0, buffer))
    }

    /// Sends FIN.
    pub fn end(&self) -> io::Result<()> {
        world::with(|world| world.shutdown_send(self.socket.0))
    }

    /// Its drop is a reset.
    pub fn will_reset(&self) {
        world::with(|world| world.reset_on_close(self.socket.0));
    }

    /// Vanishes: nothing gets through from now on, either way, and nobody is told.
    pub fn vanish(&self) {
        world::with(|world| world.cut(self.link));
    }
}

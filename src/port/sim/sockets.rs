//! The calls on sockets, with the meaning that Linux gives them.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;

use super::clock::{Event, MS, SECOND};
use super::faults::{self, error};
use super::hosts::{FIRST_PORT, HERE};
use super::link::{Holder, Link};
use super::world::{self, Kind, Socket, World};
use crate::port::StreamOptions;

/// A socket of the world; closed when dropped.
#[derive(Debug)]
pub struct SimSocket(pub(super) u32);

impl Drop for SimSocket {
    fn drop(&mut self) {
        world::with_any(|world| world.close(self.0));
    }
}

impl World {
    fn open(&mut self, is_engines: bool, kind: Kind) -> u32 {
        self.numbers.serial += 1;
        self.descriptors.open += u32::from(is_engines);
        let socket = Socket { serial: self.numbers.serial, is_engines, kind, watch: None, reset_on_close: false };
        // The lowest free number, as Unix does: what still uses a closed one meets somebody else.
        match self.sockets.iter().position(Option::is_none) {
            Some(place) => {
                self.sockets[place] = Some(socket);
                place as u32
            }
            None => {
                self.sockets.push(Some(socket));
                self.sockets.len() as u32 - 1
            }
        }
    }

    /// Whether the engine may open one more descriptor.
    fn may_open(&mut self, is_engines: bool, class: u32) -> io::Result<()> {
        if is_engines && self.descriptors.open >= self.descriptors.limit {
            return Err(error(libc::EMFILE));
        }
        if is_engines && self.faults.hits(class) {
            let codes = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
            return Err(error(codes[self.faults.random(class).usize(0..codes.len())]));
        }
        Ok(())
    }

    pub(super) fn listen(&mut self, is_engines: bool, mut address: SocketAddr, backlog: u32) -> io::Result<u32> {
        self.may_open(is_engines, faults::EXHAUSTION)?;
        if address.port() == 0 {
            self.numbers.listen_port += 1;
            address.set_port(self.numbers.listen_port);
        }
        if self.listener_at(address).is_some() {
            return Err(error(libc::EADDRINUSE));
        }
        Ok(self
            .open(is_engines, Kind::Listener { address, backlog: backlog.max(1) as usize, waiting: VecDeque::new() }))
    }

    pub(super) fn accept(&mut self, raw: u32) -> io::Result<(u32, SocketAddr)> {
        let is_engines = self.is_engines(raw);
        let (_, waiting) = self.listener(raw).ok_or_else(|| error(libc::EINVAL))?;
        let Some(link) = waiting.front().copied() else { return Err(error(libc::EAGAIN)) };
        // Out of descriptors, the connection stays where it is.
        self.may_open(is_engines, faults::ACCEPT)?;
        if let Some((_, waiting)) = self.listener(raw) {
            waiting.pop_front();
        }
        let accepted = self.open(is_engines, Kind::Stream { link, end: 1 });
        self.links[link as usize].ends[1].holder = Holder::Socket(accepted);
        if is_engines && self.faults.hits(faults::ACCEPT) {
            self.links[link as usize].pipes[0].arrived.clear();
            self.close_with_reset(accepted);
            return Err(error(libc::ECONNABORTED));
        }
        Ok((accepted, self.links[link as usize].ends[0].address))
    }

    pub(super) fn connect(
        &mut self,
        is_engines: bool,
        from: Option<SocketAddr>,
        to: SocketAddr,
        options: &StreamOptions,
    ) -> io::Result<u32> {
        self.may_open(is_engines, faults::EXHAUSTION)?;
        if is_engines && self.faults.hits(faults::CONNECT) {
            let codes = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EADDRNOTAVAIL, libc::ECONNREFUSED];
            return Err(error(codes[self.faults.random(faults::CONNECT).usize(0..codes.len())]));
        }
        let link = self.links.len() as u32;
        let local = from.map_or(HERE, |from| from.ip());
        let port = FIRST_PORT + u16::try_from(link).map_err(|_| error(libc::EADDRNOTAVAIL))?;
        let mut made = Link::new(SocketAddr::new(local, port), to);
        made.latency_ns = self.random.u64(MS / 100..2 * MS);
        let room = |random: &mut fastrand::Rng, most: usize| random.usize(most.min(16)..=most);
        made.send_room = room(&mut self.random, self.rooms.0);
        made.receive_room = room(&mut self.random, self.rooms.1);
        made.ends[0].connecting = true;
        self.links.push(made);
        let raw = self.open(is_engines, Kind::Stream { link, end: 0 });
        self.links[link as usize].ends[0].holder = Holder::Socket(raw);
        let _ = self.set_options(raw, options);
        self.send_syn(link);
        Ok(raw)
    }

    pub(super) fn set_options(&mut self, raw: u32, options: &StreamOptions) -> io::Result<()> {
        let (link, end) = self.stream(raw)?;
        if self.is_engines(raw) && self.faults.hits(faults::EXHAUSTION) {
            return Err(error(libc::ENOBUFS));
        }
        if options.keepalive_s > 0 {
            let (interval_s, probes) = (options.keepalive_interval_s.max(1), options.keepalive_probes.max(1));
            let silence_s = u64::from(options.keepalive_s) + u64::from(interval_s) * u64::from(probes);
            self.links[link as usize].ends[end].keepalive_ns = silence_s * SECOND;
        }
        Ok(())
    }

    pub(super) fn take_error(&mut self, raw: u32) -> Option<io::Error> {
        match self.stream(raw) {
            Ok((link, end)) => self.links[link as usize].ends[end].error.take().map(error),
            Err(error) => Some(error),
        }
    }

    /// A socket is looked at again in a while.
    fn edge_later(&mut self, raw: u32, class: u32) {
        let Ok(serial) = self.socket(raw).map(|socket| socket.serial) else { return };
        let in_ns = self.faults.random(class).u64(0..20 * MS);
        self.clock.enter(in_ns, Event::Edge { raw, serial });
    }

    pub(super) fn peek(&self, raw: u32) -> io::Result<usize> {
        let (link, end) = self.stream(raw)?;
        let l = &self.links[link as usize];
        match (&l.pipes[1 - end], &l.ends[end]) {
            (pipe, _) if !pipe.arrived.is_empty() => Ok(1),
            (pipe, _) if pipe.fin_arrived => Ok(0),
            (_, here) => match here.error {
                Some(code) => Err(error(code)),
                None if here.dead => Ok(0),
                None => Err(error(libc::EAGAIN)),
            },
        }
    }

    pub(super) fn is_broken(&self, raw: u32) -> bool {
        self.stream(raw).map_or(true, |(link, end)| self.links[link as usize].ends[end].dead)
    }

    /// What the kernel holds; what has arrived is acknowledged, read or not.
    pub(super) fn unacknowledged(&self, raw: u32) -> Option<u64> {
        let (link, end) = self.stream(raw).ok()?;
        Some(self.links[link as usize].pipes[end].outgoing.len() as u64)
    }

    pub(super) fn receive(&mut self, raw: u32, buffer: &mut [u8]) -> io::Result<usize> {
        let (link, end) = self.stream(raw)?;
        let is_engines = self.is_engines(raw);
        if is_engines && self.faults.hits(faults::WOULD_BLOCK) {
            // As if what is there came a moment later.
            self.edge_later(raw, faults::WOULD_BLOCK);
            return Err(error(libc::EAGAIN));
        }
        let waiting = self.links[link as usize].pipes[1 - end].arrived.len();
        let mut len = waiting.min(buffer.len());
        if is_engines && len > 1 && self.faults.hits(faults::SHORT_READ) {
            len = self.faults.random(faults::SHORT_READ).usize(1..=len);
            self.edge_later(raw, faults::SHORT_READ);
        }
        let l = &mut self.links[link as usize];
        let (pipe, here) = (&mut l.pipes[1 - end], &mut l.ends[end]);
        if waiting > 0 {
            for (to, from) in buffer.iter_mut().zip(pipe.arrived.drain(..len)) {
                *to = from;
            }
            self.schedule(link, 1 - end);
            return Ok(len);
        }
        // In the order of tcp_recvmsg: an end that was seen, an error, a dead connection.
        if pipe.fin_arrived {
            return Ok(0);
        }
        match here.error.take() {
            Some(code) => Err(error(code)),
            None if here.dead => Ok(0),
            None if here.connecting => Err(error(libc::EAGAIN)),
            None => Err(error(libc::EAGAIN)),
        }
    }

    pub(super) fn send(&mut self, raw: u32, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let (link, end) = self.stream(raw)?;
        let is_engines = self.is_engines(raw);
        let l = &mut self.links[link as usize];
        if let Some(code) = l.ends[end].error.take() {
            return Err(error(code));
        }
        if l.ends[end].dead || l.ends[end].fin {
            return Err(error(libc::EPIPE));
        }
        if is_engines && self.faults.hits(faults::EXHAUSTION) {
            return Err(error(libc::ENOBUFS));
        }
        let room = self.links[link as usize].send_room - self.links[link as usize].pipes[end].outgoing.len();
        let len: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut taken = len.min(room);
        if self.links[link as usize].ends[end].connecting || taken == 0 && len > 0 {
            self.links[link as usize].ends[end].no_space = true;
            return Err(error(libc::EAGAIN));
        }
        if is_engines && self.faults.hits(faults::WOULD_BLOCK) {
            self.edge_later(raw, faults::WOULD_BLOCK);
            return Err(error(libc::EAGAIN));
        }
        if is_engines && taken > 1 && self.faults.hits(faults::SHORT_WRITE) {
            taken = self.faults.random(faults::SHORT_WRITE).usize(1..=taken);
            self.edge_later(raw, faults::SHORT_WRITE);
        }
        let l = &mut self.links[link as usize];
        l.ends[end].no_space |= taken < len;
        let mut left = taken;
        for slice in slices {
            let here = left.min(slice.len());
            l.pipes[end].outgoing.extend(&slice[..here]);
            left -= here;
        }
        self.schedule(link, end);
        Ok(taken)
    }

    pub(super) fn shutdown_send(&mut self, raw: u32) -> io::Result<()> {
        let (link, end) = self.stream(raw)?;
        let here = &mut self.links[link as usize].ends[end];
        if here.dead || here.connecting {
            return Err(error(libc::ENOTCONN));
        }
        if !std::mem::replace(&mut here.fin, true) {
            self.schedule(link, end);
        }
        Ok(())
    }

    pub(super) fn reset_on_close(&mut self, raw: u32) {
        if let Ok(socket) = self.socket_mut(raw) {
            socket.reset_on_close = true;
        }
    }

    fn close_with_reset(&mut self, raw: u32) {
        self.reset_on_close(raw);
        self.close(raw);
    }

    pub(super) fn close(&mut self, raw: u32) {
        let Some(socket) = self.sockets.get_mut(raw as usize).and_then(Option::take) else { return };
        self.descriptors.open -= u32::from(socket.is_engines);
        self.forget_ready(raw, &socket);
        match socket.kind {
            Kind::Listener { waiting, .. } => {
                for link in waiting {
                    self.links[link as usize].ends[1].holder = Holder::Gone;
                    self.send_reset(link, 0);
                }
            }
            Kind::Stream { link, end } => self.close_end(link, end, socket.reset_on_close),
        }
    }

    fn close_end(&mut self, link: u32, end: usize, with_reset: bool) {
        let l = &mut self.links[link as usize];
        l.ends[end].holder = Holder::Gone;
        l.ends[end].unread = l.pipes[1 - end].arrived.len();
        if l.ends[end].dead {
            return;
        }
        let unread = !l.pipes[1 - end].arrived.is_empty();
        l.pipes[1 - end].arrived.clear();
        if with_reset || unread || l.ends[end].connecting {
            // Unread bytes make a close a reset, too (RFC 2525, section 2.17).
            l.pipes[end].throw_away();
            return self.send_reset(link, 1 - end);
        }
        l.ends[end].fin = true;
        self.schedule(link, end);
        // What is on its way to the closed end is answered with a reset when it gets there.
        self.schedule(link, 1 - end);
    }

    pub(super) fn local_address(&self, raw: u32) -> io::Result<SocketAddr> {
        match &self.socket(raw)?.kind {
            Kind::Listener { address, .. } => Ok(*address),
            Kind::Stream { link, end } => Ok(self.links[*link as usize].ends[*end].address),
        }
    }

    pub(super) fn peer_address(&self, raw: u32) -> io::Result<SocketAddr> {
        let (link, end) = self.stream(raw)?;
        let l = &self.links[link as usize];
        match l.ends[end].dead || l.ends[end].connecting {
            true => Err(error(libc::ENOTCONN)),
            false => Ok(l.ends[1 - end].address),
        }
    }
}

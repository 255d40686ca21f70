//! What epoll tells of the sockets: edges for streams, levels for listeners; and the wait in which time passes.

use std::io;

use super::clock::{Event, MS, SECOND};
use super::faults::{self, error};
use super::link::Holder;
use super::world::{Kind, Poll, Socket, Watch, World};

pub(super) const IN: u32 = 1;
pub(super) const OUT: u32 = 2;
pub(super) const ERROR: u32 = 4;
pub(super) const HANG_UP: u32 = 8;
pub(super) const PEER_ENDED: u32 = 16;

impl World {
    /// A new epoll; gives its number.
    pub(super) fn open_poll(&mut self) -> u32 {
        self.polls.push(Poll::default());
        self.polls.len() as u32 - 1
    }

    pub(super) fn attach(&mut self, poll: u32, raw: u32, key: u64, is_level: bool) -> io::Result<()> {
        if self.faults.hits(faults::EXHAUSTION) {
            return Err(error(libc::ENOMEM));
        }
        let socket = self.sockets.get_mut(raw as usize).and_then(Option::as_mut);
        let socket = socket.ok_or_else(|| error(libc::EBADF))?;
        if socket.watch.is_some() {
            return Err(error(libc::EEXIST));
        }
        socket.watch = Some(Watch { poll, key, is_level, is_ready: false });
        // What is true already is told in the first wait.
        self.edge(raw);
        Ok(())
    }

    pub(super) fn detach(&mut self, raw: u32) {
        let Some(socket) = self.sockets.get_mut(raw as usize).and_then(Option::as_mut) else { return };
        if let Some(watch) = socket.watch.take() {
            self.polls[watch.poll as usize].ready.retain(|ready| *ready != raw);
        }
    }

    /// A closed socket leaves its epoll.
    pub(super) fn forget_ready(&mut self, raw: u32, socket: &Socket) {
        if let Some(watch) = &socket.watch {
            self.polls[watch.poll as usize].ready.retain(|ready| *ready != raw);
        }
    }

    /// Something happened to a socket.
    pub(super) fn edge(&mut self, raw: u32) {
        let Some(socket) = self.sockets.get_mut(raw as usize).and_then(Option::as_mut) else { return };
        if let Some(watch) = socket.watch.as_mut().filter(|watch| !watch.is_ready) {
            watch.is_ready = true;
            self.polls[watch.poll as usize].ready.push(raw);
        }
    }

    /// The same, unless the number belongs to another socket by now.
    pub(super) fn edge_if(&mut self, raw: u32, serial: u64) {
        if self.socket(raw).is_ok_and(|socket| socket.serial == serial) {
            self.edge(raw);
        }
    }

    /// What is true of a socket now (tcp_poll of Linux).
    fn mask(&mut self, raw: u32) -> u32 {
        let (link, end) = match self.socket(raw).map(|socket| &socket.kind) {
            Ok(Kind::Stream { link, end }) => (*link as usize, *end),
            Ok(Kind::Listener { waiting, .. }) => return if waiting.is_empty() { 0 } else { IN },
            Err(_) => return 0,
        };
        let l = &mut self.links[link];
        let (sends, receives) = (l.send_room - l.pipes[end].outgoing.len(), &l.pipes[1 - end]);
        let has_bytes = !receives.arrived.is_empty();
        let here = &mut l.ends[end];
        if here.connecting {
            return 0;
        }
        let (receives_no_more, sends_no_more) = (receives.fin_arrived || here.dead, here.fin || here.dead);
        let mut mask = 0;
        if here.error.is_some() {
            mask |= ERROR;
        }
        if receives_no_more && sends_no_more {
            mask |= HANG_UP;
        }
        if receives_no_more {
            mask |= IN | PEER_ENDED;
        }
        if has_bytes {
            mask |= IN;
        }
        if sends_no_more || sends * 3 >= l.send_room {
            mask |= OUT;
        } else {
            here.no_space = true;
        }
        mask
    }

    /// Takes the events that are to be told: their flags and keys.
    pub(super) fn collect(&mut self, poll: u32, events: &mut Vec<(u32, u64)>) {
        let mut ready = std::mem::take(&mut self.polls[poll as usize].ready);
        self.random.shuffle(&mut ready);
        for raw in ready {
            let late = self.faults.hits(faults::LATE);
            let mask = self.mask(raw);
            let Some(socket) = self.sockets.get_mut(raw as usize).and_then(Option::as_mut) else { continue };
            let serial = socket.serial;
            let Some(watch) = &mut socket.watch else { continue };
            watch.is_ready = false;
            if late {
                let in_ns = self.faults.random(faults::LATE).u64(0..30 * MS);
                self.clock.enter(in_ns, Event::Edge { raw, serial });
            } else if mask != 0 {
                events.push((mask, watch.key));
                if watch.is_level {
                    watch.is_ready = true;
                    self.polls[poll as usize].ready.push(raw);
                }
            }
        }
        if self.faults.hits(faults::SPURIOUS) {
            self.tell_for_nothing(poll, events);
        }
    }

    /// An event behind which there is nothing. Never for a connect: its one event says that it has ended.
    fn tell_for_nothing(&mut self, poll: u32, events: &mut Vec<(u32, u64)>) {
        let place = self.faults.random(faults::SPURIOUS).usize(0..self.sockets.len().max(1));
        let flags = self.faults.random(faults::SPURIOUS).u32(1..=3);
        let Some(Some(socket)) = self.sockets.get(place) else { return };
        let Some(watch) = socket.watch.as_ref().filter(|watch| watch.poll == poll) else { return };
        match socket.kind {
            Kind::Listener { .. } => events.push((IN, watch.key)),
            Kind::Stream { link, end } => {
                let l = &self.links[link as usize];
                if !l.ends[end].connecting && l.ends[end].holder == Holder::Socket(place as u32) {
                    events.push((flags, watch.key));
                }
            }
        }
    }

    /// Time passes by chance: a wait takes a moment, and now and then the machine was away.
    pub(super) fn pass_time(&mut self) {
        let moment_ns = self.random.u64(1_000..50_000);
        self.clock.go_to(self.clock.now_ns() + moment_ns);
        if self.faults.hits(faults::CLOCK) {
            let random = self.faults.random(faults::CLOCK);
            let jump_ns = match random.u8(..) {
                0..128 => random.u64(0..SECOND),
                128..224 => random.u64(0..60 * SECOND),
                224..252 => random.u64(0..86_400 * SECOND),
                _ => random.u64(0..20 * 86_400 * SECOND),
            };
            self.clock.go_to(self.clock.now_ns() + jump_ns);
        }
    }
}

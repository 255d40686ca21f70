//! The network between the sockets: handshakes, bytes on their way, FIN, RST, peers that are no longer there.

use super::clock::{Event, MS, SECOND};
use super::faults;
use super::hosts::{REFUSES, SILENT, UNREACHABLE};
use super::link::{Holder, Link};
use super::world::World;

/// How long a kernel tries to reach a peer that does not answer (tcp(7), tcp_retries2, about).
const GIVE_UP_NS: u64 = 900 * SECOND;
/// How often a SYN is repeated (tcp(7), tcp_syn_retries).
const SYN_RETRIES: u8 = 6;

impl World {
    /// What is due happens.
    pub(super) fn run_due(&mut self) {
        while let Some(event) = self.clock.due() {
            match event {
                Event::Syn { link, attempt } => self.syn_arrives(link, attempt),
                Event::Established { link } => self.established(link),
                Event::ConnectFails { link, code } => self.connect_fails(link, code),
                Event::Deliver { link, from } => self.deliver(link, from.into()),
                Event::Reset { link, end } => self.reset_arrives(link, end.into(), libc::ECONNRESET),
                Event::GiveUp { link, end } => self.reset_arrives(link, end.into(), libc::ETIMEDOUT),
                Event::Edge { raw, serial } => self.edge_if(raw, serial),
                Event::Resolved { number } => self.resolver.resolved(number),
            }
        }
    }

    /// Begins to resolve a name; gives the number of the resolution.
    pub(super) fn resolve(&mut self, host: &str) -> u32 {
        let (number, in_ns) = self.resolver.begin(host, &mut self.random, &mut self.faults);
        self.clock.enter(in_ns, Event::Resolved { number });
        number
    }

    fn latency(&mut self, link: u32) -> u64 {
        let latency_ns = self.links[link as usize].latency_ns;
        match self.faults.hits(faults::SEGMENTS) {
            true => latency_ns + self.faults.random(faults::SEGMENTS).u64(0..400 * MS),
            false => latency_ns + self.random.u64(0..=latency_ns / 4),
        }
    }

    /// What becomes of a connect, as it begins.
    pub(super) fn send_syn(&mut self, link: u32) {
        let code = match self.links[link as usize].ends[1].address.ip() {
            ip if ip == REFUSES => libc::ECONNREFUSED,
            ip if ip == UNREACHABLE => libc::EHOSTUNREACH,
            ip if ip == SILENT => libc::ETIMEDOUT,
            _ if self.faults.hits(faults::CONNECT) => {
                let codes = [libc::ECONNREFUSED, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ETIMEDOUT];
                codes[self.faults.random(faults::CONNECT).usize(0..codes.len())]
            }
            _ => 0,
        };
        let latency_ns = self.latency(link);
        match code {
            0 => self.clock.enter(latency_ns, Event::Syn { link, attempt: 0 }),
            libc::ETIMEDOUT => self.clock.enter(127 * SECOND, Event::ConnectFails { link, code }),
            _ => self.clock.enter(2 * latency_ns, Event::ConnectFails { link, code }),
        }
    }

    fn syn_arrives(&mut self, link: u32, attempt: u8) {
        let Link { ends, cut, .. } = &self.links[link as usize];
        if *cut || ends[0].holder == Holder::Gone {
            return;
        }
        let latency_ns = self.links[link as usize].latency_ns;
        let Some(raw) = self.listener_at(self.links[link as usize].ends[1].address) else {
            return self.clock.enter(latency_ns, Event::ConnectFails { link, code: libc::ECONNREFUSED });
        };
        let Some((backlog, waiting)) = self.listener(raw) else { return };
        if waiting.len() >= backlog {
            // The SYN is dropped, and repeated after a while that doubles.
            if attempt < SYN_RETRIES {
                self.clock.enter(SECOND << attempt, Event::Syn { link, attempt: attempt + 1 });
            } else {
                self.clock.enter(SECOND << attempt, Event::ConnectFails { link, code: libc::ETIMEDOUT });
            }
            return;
        }
        waiting.push_back(link);
        self.links[link as usize].ends[1].holder = Holder::Backlog(raw);
        self.edge(raw);
        self.clock.enter(latency_ns, Event::Established { link });
    }

    fn established(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        let Holder::Socket(raw) = l.ends[0].holder else { return };
        if l.cut || l.ends[0].dead || !l.ends[0].connecting {
            return;
        }
        l.ends[0].connecting = false;
        self.edge(raw);
    }

    fn connect_fails(&mut self, link: u32, code: i32) {
        let end = &mut self.links[link as usize].ends[0];
        let Holder::Socket(raw) = end.holder else { return };
        if !end.connecting {
            return;
        }
        end.connecting = false;
        end.dead = true;
        end.error = Some(code);
        self.edge(raw);
    }

    /// Whether there is something to deliver, and a delivery is not on its way yet: it begins.
    pub(super) fn schedule(&mut self, link: u32, from: usize) {
        let l = &mut self.links[link as usize];
        let (pipe, to) = (&mut l.pipes[from], 1 - from);
        let has_bytes =
            !pipe.outgoing.is_empty() && (pipe.arrived.len() < l.receive_room || l.ends[to].holder == Holder::Gone);
        let has_fin = pipe.outgoing.is_empty() && l.ends[from].fin && !pipe.fin_arrived;
        if pipe.scheduled || pipe.is_broken || l.cut || !(has_bytes || has_fin) {
            if l.cut && !l.ends[from].gives_up {
                l.ends[from].gives_up = true;
                // With keepalive, bytes under way have the same time as probes (TCP_USER_TIMEOUT).
                let in_ns = if l.ends[from].keepalive_ns > 0 { l.ends[from].keepalive_ns } else { GIVE_UP_NS };
                self.clock.enter(in_ns, Event::GiveUp { link, end: from as u8 });
            }
            return;
        }
        pipe.scheduled = true;
        let latency_ns = self.latency(link);
        self.clock.enter(latency_ns, Event::Deliver { link, from: from as u8 });
    }

    fn deliver(&mut self, link: u32, from: usize) {
        let to = 1 - from;
        self.links[link as usize].pipes[from].scheduled = false;
        if self.links[link as usize].cut || self.links[link as usize].pipes[from].is_broken {
            return;
        }
        if self.faults.hits(faults::RESET) {
            self.reset_arrives(link, 0, libc::ECONNRESET);
            self.reset_arrives(link, 1, libc::ECONNRESET);
            return;
        }
        if self.faults.hits(faults::VANISH) {
            return self.cut(link);
        }
        let l = &mut self.links[link as usize];
        if l.is_gone(to) {
            let had_bytes = !l.pipes[from].outgoing.is_empty();
            if had_bytes {
                // Bytes for a socket that is closed: it answers with a reset, and forgets what it had to send.
                l.pipes[from].throw_away();
                l.pipes[to].throw_away();
                self.send_reset(link, from);
            } else {
                l.pipes[from].fin_arrived = true;
            }
            return;
        }
        let most = l.pipes[from].outgoing.len().min(l.receive_room - l.pipes[from].arrived.len().min(l.receive_room));
        let count = match most > 1 && self.faults.hits(faults::SEGMENTS) {
            true => self.faults.random(faults::SEGMENTS).usize(1..=most),
            false => most,
        };
        let l = &mut self.links[link as usize];
        let pipe = &mut l.pipes[from];
        pipe.arrived.extend(pipe.outgoing.drain(..count));
        self.bytes_moved += count as u64;
        let ends = pipe.outgoing.is_empty() && l.ends[from].fin && !pipe.fin_arrived;
        pipe.fin_arrived |= ends;
        let has_room = (l.send_room - pipe.outgoing.len()) * 3 >= l.send_room;
        let tells_sender = l.ends[from].no_space && has_room;
        if tells_sender {
            l.ends[from].no_space = false;
        }
        let (receiver, sender) = (l.ends[to].holder, l.ends[from].holder);
        if let (Holder::Socket(raw), true) = (receiver, count > 0 || ends) {
            self.edge(raw);
        }
        if let (Holder::Socket(raw), true) = (sender, tells_sender) {
            self.edge(raw);
        }
        self.schedule(link, from);
    }

    /// A reset leaves for this end.
    pub(super) fn send_reset(&mut self, link: u32, end: usize) {
        let l = &self.links[link as usize];
        if !l.cut && !l.is_gone(end) {
            let latency_ns = l.latency_ns;
            self.clock.enter(latency_ns, Event::Reset { link, end: end as u8 });
        }
    }

    fn reset_arrives(&mut self, link: u32, end: usize, code: i32) {
        let l = &mut self.links[link as usize];
        l.pipes[end].throw_away();
        l.pipes[1 - end].throw_away();
        let fin_arrived = l.pipes[1 - end].fin_arrived;
        let here = &mut l.ends[end];
        if here.dead || matches!(here.holder, Holder::Gone | Holder::Nobody) {
            return;
        }
        here.dead = true;
        // As tcp_reset of Linux: a connect was refused, one whose peer had ended is a broken pipe.
        here.error = Some(match code {
            libc::ECONNRESET if here.connecting => libc::ECONNREFUSED,
            libc::ECONNRESET if fin_arrived => libc::EPIPE,
            code => code,
        });
        here.connecting = false;
        if let Holder::Socket(raw) = here.holder {
            self.edge(raw);
        }
    }

    /// From now on nothing gets through, and nobody is told.
    pub(super) fn cut(&mut self, link: u32) {
        let l = &mut self.links[link as usize];
        if std::mem::replace(&mut l.cut, true) {
            return;
        }
        for end in 0..2 {
            let keepalive_ns = self.links[link as usize].ends[end].keepalive_ns;
            if keepalive_ns > 0 {
                self.clock.enter(keepalive_ns, Event::GiveUp { link, end: end as u8 });
            }
            let l = &self.links[link as usize];
            if !l.pipes[end].outgoing.is_empty() || l.ends[end].fin {
                self.schedule(link, end);
            }
            if self.links[link as usize].ends[end].connecting {
                self.clock.enter(127 * SECOND, Event::ConnectFails { link, code: libc::ETIMEDOUT });
            }
        }
    }
}

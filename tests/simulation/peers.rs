//! Whoever is at the other end and is not the engine's: they talk, listen, stall, end, reset and vanish.

use std::io;
use std::net::SocketAddr;

use fastrand::Rng;
use wharf::port::sim::{self, Peer};

use crate::model::{model, note};
use crate::plan::PARTINGS;

/// Ports at which peers listen for the engine's clients.
pub const LISTENERS: [&str; 3] = ["10.1.0.1:700", "10.1.0.1:701", "10.1.0.1:702"];

struct Scripted {
    peer: Peer,
    /// 0: it dialled, 1: it accepted.
    end: usize,
    is_connected: bool,
    has_ended: bool,
    saw_end: bool,
    /// Bytes that it will send.
    to_send: usize,
    /// One in so many chances it reads.
    reads_one_in: u8,
}

/// All of them.
pub struct Peers {
    random: Rng,
    peers: Vec<Scripted>,
    listeners: Vec<Peer>,
    /// How many more may dial.
    left: u32,
    parts: bool,
}

impl Peers {
    pub fn new(seed: u64, count: u32, actions: u32) -> Peers {
        let listeners = LISTENERS.iter().filter_map(|address| Peer::listen(address.parse().unwrap(), 4).ok()).collect();
        let random = Rng::with_seed(seed ^ 0x7065_6572);
        Peers { random, peers: Vec::new(), listeners, left: count, parts: actions & PARTINGS != 0 }
    }

    fn enter(&mut self, peer: Peer, end: usize) {
        let to_send = match self.random.u8(0..4) {
            0 => 0,
            1 | 2 => self.random.usize(1..2_000),
            _ => self.random.usize(1..40_000),
        };
        let reads_one_in = [1, 2, 4, 12, 60][self.random.usize(0..5)];
        let is_connected = end == 1;
        self.peers.push(Scripted { peer, end, is_connected, has_ended: false, saw_end: false, to_send, reads_one_in });
    }

    /// Another one dials one of these addresses.
    pub fn dial(&mut self, addresses: &[String]) {
        if self.left == 0 || addresses.is_empty() {
            return;
        }
        self.left -= 1;
        let to: SocketAddr = addresses[self.random.usize(0..addresses.len())].parse().unwrap();
        let from = SocketAddr::from(([10, 0, 0, self.random.u8(1..4)], 0));
        if let Ok(peer) = Peer::connect(from, to) {
            note!("peer dials {to}: link {}", peer.link());
            self.enter(peer, 0);
        }
    }

    fn accept_all(&mut self) {
        for place in 0..self.listeners.len() {
            while let Ok(peer) = self.listeners[place].accept() {
                note!("peer accepts link {}", peer.link());
                self.enter(peer, 1);
            }
        }
    }

    /// Somebody does something.
    pub fn act(&mut self) {
        self.accept_all();
        if self.peers.is_empty() {
            return;
        }
        let place = self.random.usize(0..self.peers.len());
        let reads = self.random.u8(0..self.peers[place].reads_one_in) == 0;
        if !self.act_as(place, reads) {
            self.peers.swap_remove(place);
        }
    }

    /// False: it is gone.
    fn act_as(&mut self, place: usize, reads: bool) -> bool {
        let Peers { random, peers, parts, .. } = self;
        let one = &mut peers[place];
        if !one.is_connected {
            match one.peer.is_connected() {
                Ok(true) => one.is_connected = true,
                Ok(false) => return !(*parts && random.u8(..) == 0),
                Err(_) => return false,
            }
        }
        if reads && !one.read(random.usize(1..6_000)) {
            return false;
        }
        if one.to_send > 0 && random.bool() && !one.has_ended {
            let len = random.usize(1..=one.to_send.min(3_000));
            let mut data = vec![0; len];
            random.fill(&mut data);
            if !one.send(&data) {
                return false;
            }
        }
        if !*parts {
            return true;
        }
        match random.u8(..) {
            0..3 if !one.has_ended => {
                note!("peer of link {} ends", one.peer.link());
                one.has_ended = one.peer.end().is_ok();
                true
            }
            3..5 => {
                note!("peer of link {} closes", one.peer.link());
                false
            }
            5 => {
                note!("peer of link {} resets", one.peer.link());
                one.peer.will_reset();
                false
            }
            6 => {
                note!("peer of link {} vanishes", one.peer.link());
                one.peer.vanish();
                false
            }
            _ => true,
        }
    }

    /// Every peer reads all there is, and is done when the other side is. Nothing new is sent.
    pub fn finish(&mut self) {
        self.accept_all();
        let mut place = 0;
        while place < self.peers.len() {
            let one = &mut self.peers[place];
            one.is_connected |= matches!(one.peer.is_connected(), Ok(true));
            let goes_on =
                !one.is_connected && one.peer.is_connected().is_ok() || one.is_connected && one.read(usize::MAX);
            if goes_on && !one.saw_end {
                place += 1;
            } else {
                self.peers.swap_remove(place);
            }
        }
    }
}

impl Scripted {
    /// Reads at most so much; false when the connection broke.
    fn read(&mut self, most: usize) -> bool {
        let mut left = most;
        let mut buffer = [0; 2048];
        while left > 0 && !self.saw_end {
            let room = left.min(buffer.len());
            match self.peer.receive(&mut buffer[..room]) {
                Ok(0) => {
                    self.saw_end = true;
                    // A dead connection reads as ended, too.
                    if self.is_whole() {
                        model(|model| model.ended(self.peer.link(), 1 - self.end));
                    }
                }
                Ok(len) => {
                    left -= len;
                    model(|model| model.arrived(self.peer.link(), 1 - self.end, &buffer[..len]));
                }
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    fn is_whole(&self) -> bool {
        sim::saw_end(self.peer.link(), self.end)
    }

    fn send(&mut self, data: &[u8]) -> bool {
        match self.peer.send(data) {
            Ok(len) => {
                model(|model| model.left(self.peer.link(), self.end, &data[..len]));
                self.to_send -= len;
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

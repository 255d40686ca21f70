//! What lies between two sockets: a link with two ends, 0 the dialler and 1 the listener, and a pipe from each to the
//! other: what the sender's kernel holds, and what has arrived and was not read yet.

use std::collections::VecDeque;
use std::net::SocketAddr;

/// What is at an end of a link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Holder {
    /// The listening side, before the SYN arrived.
    Nobody,
    /// It waits in the backlog of this listener.
    Backlog(u32),
    /// A socket.
    Socket(u32),
    /// It was a socket, and is closed.
    Gone,
}

pub(super) struct End {
    pub holder: Holder,
    pub address: SocketAddr,
    /// The dialler has no answer yet.
    pub connecting: bool,
    /// SO_ERROR.
    pub error: Option<i32>,
    /// A reset was received, or the kernel gave up: nothing goes either way any more.
    pub dead: bool,
    /// Sending was shut down.
    pub fin: bool,
    /// A send found no room: the sender is owed an edge (SOCK_NOSPACE).
    pub no_space: bool,
    pub gives_up: bool,
    pub keepalive_ns: u64,
    /// Bytes that had arrived and were thrown away by the close.
    pub unread: usize,
}

#[derive(Default)]
pub(super) struct Pipe {
    pub outgoing: VecDeque<u8>,
    pub arrived: VecDeque<u8>,
    pub fin_arrived: bool,
    /// A delivery is on the agenda.
    pub scheduled: bool,
    /// Bytes of it were thrown away: no end of it will ever arrive.
    pub is_broken: bool,
}

impl Pipe {
    pub(super) fn throw_away(&mut self) {
        self.outgoing.clear();
        self.is_broken = true;
    }
}

pub(super) struct Link {
    pub ends: [End; 2],
    /// The pipe from each end to the other.
    pub pipes: [Pipe; 2],
    pub send_room: usize,
    pub receive_room: usize,
    pub latency_ns: u64,
    /// Nothing gets through any more.
    pub cut: bool,
}

impl Link {
    pub(super) fn new(from: SocketAddr, to: SocketAddr) -> Link {
        let end = |address| End {
            holder: Holder::Nobody,
            address,
            connecting: false,
            error: None,
            dead: false,
            fin: false,
            no_space: false,
            gives_up: false,
            keepalive_ns: 0,
            unread: 0,
        };
        Link {
            ends: [end(from), end(to)],
            pipes: [Pipe::default(), Pipe::default()],
            send_room: 4096,
            receive_room: 4096,
            latency_ns: 0,
            cut: false,
        }
    }

    pub(super) fn is_gone(&self, end: usize) -> bool {
        self.ends[end].holder == Holder::Gone
    }
}

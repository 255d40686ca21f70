//! What the Rust servers of the benchmark have in common.

use std::net::TcpListener;

pub const MESSAGE: usize = 64;
pub const PIECE: usize = 64 << 10;
pub const THREADS: usize = 4;
pub const MOST_UNSENT: usize = 256;
/// Each connection has a buffer of its own, as its task does.
pub const BUFFER: usize = 16 << 10;

/// The command line.
#[derive(Clone, Copy)]
pub struct Options {
    pub workers: usize,
    pub connections: usize,
    pub count: usize,
    pub bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Echo,
    Block,
    Each,
    Broadcast,
    Sink,
    Push,
    Produce,
}

/// Mode and keys; ends the program where they make no sense.
pub fn arguments() -> (Mode, Options) {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let key = |name: &str, otherwise: usize| {
        let values = words.iter().filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok());
        values.last().unwrap_or(otherwise)
    };
    let mode = match words.first().map(String::as_str) {
        Some("echo") => Mode::Echo,
        Some("block") => Mode::Block,
        Some("each") => Mode::Each,
        Some("broadcast") => Mode::Broadcast,
        Some("sink") => Mode::Sink,
        Some("push") => Mode::Push,
        Some("produce") => Mode::Produce,
        _ => unsupported("no such mode"),
    };
    let bytes = if mode == Mode::Each { MESSAGE } else { key("bytes", 1024) };
    let options =
        Options { workers: key("workers", 1), connections: key("connections", 64), count: key("count", 1000), bytes };
    (mode, options)
}

pub fn unsupported(why: &str) -> ! {
    println!("unsupported: {why}");
    std::process::exit(3)
}

/// A listening socket whose port was told.
pub fn listen() -> TcpListener {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(4096).unwrap();
    let listener: TcpListener = socket.into();
    listener.set_nonblocking(true).unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    listener
}

/// Message number k of the push.
pub fn message(k: usize) -> [u8; MESSAGE] {
    std::array::from_fn(|i| ((k + i) % 251) as u8)
}

/// Cuts a stream into messages of one size.
pub struct Cutter {
    rest: Vec<u8>,
    size: usize,
}

impl Cutter {
    pub fn new(size: usize) -> Cutter {
        Cutter { rest: Vec::with_capacity(size + BUFFER), size }
    }

    /// The whole messages that are there now, as one slice; `done` takes them out again.
    pub fn push(&mut self, data: &[u8]) -> &[u8] {
        self.rest.extend_from_slice(data);
        let whole = self.rest.len() / self.size * self.size;
        &self.rest[..whole]
    }

    pub fn done(&mut self) {
        let whole = self.rest.len() / self.size * self.size;
        self.rest.drain(..whole);
    }
}

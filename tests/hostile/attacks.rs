//! What hostile peers do. Each attack runs until it is told to stop, and tells how many attempts it made; what it opened is
//! closed when it returns. Failures of its own sockets are no failures of the server: they end one attempt.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};

use super::echo::ECHO;
use super::sockets::{connect_from, reset_on_drop};

/// What an attacker knows.
pub struct Attack<'a> {
    pub address: SocketAddr,
    pub stop: &'a AtomicBool,
    /// How many connections it may hold at a time.
    pub size: usize,
}

impl Attack<'_> {
    fn is_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    /// The next of many source addresses, so that ports do not run out.
    fn connect(&self, number: u64) -> Option<TcpStream> {
        connect_from(2 + (number % 250) as u8, self.address, true).ok()
    }
}

fn rest(time: Duration) {
    std::thread::park_timeout(time);
}

/// Half of them say nothing at all, and come again when they are thrown out; the other half say a byte now and then.
pub fn slow_loris(attack: &Attack) -> u64 {
    let mut attempts = 0;
    let mut peers: Vec<Option<TcpStream>> = (0..attack.size).map(|_| None).collect();
    while attack.is_on() {
        for (number, place) in peers.iter_mut().enumerate() {
            let drips = number % 2 == 0;
            let is_there = match place {
                Some(peer) if drips => peer.write_all(&[ECHO]).is_ok(),
                Some(peer) => !is_ended(peer),
                None => false,
            };
            if !is_there {
                *place = attack.connect(number as u64);
            }
            attempts += u64::from(drips || !is_there);
        }
        rest(Duration::from_millis(20));
    }
    attempts
}

/// Whether the server has ended or reset the connection; asks without waiting.
fn is_ended(peer: &mut TcpStream) -> bool {
    peer.set_nonblocking(true).unwrap();
    let result = peer.read(&mut [0; 1]);
    peer.set_nonblocking(false).unwrap();
    match result {
        Ok(length) => length == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Sends as much as the server takes, and never reads an answer.
pub fn never_reads(attack: &Attack) -> u64 {
    let mut bytes = 0;
    let mut peers: Vec<Option<TcpStream>> = (0..attack.size).map(|_| None).collect();
    while attack.is_on() {
        for (number, place) in peers.iter_mut().enumerate() {
            let Some(peer) = place else {
                *place = attack.connect(number as u64);
                place.iter().for_each(|peer| peer.set_nonblocking(true).unwrap());
                continue;
            };
            match peer.write(&[ECHO; 16 << 10]) {
                Ok(length) => bytes += length as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => *place = None,
            }
        }
        rest(Duration::from_millis(1));
    }
    bytes
}

/// Writes and reads a byte at a time, and expects every one of them back in order.
pub fn one_byte_at_a_time(attack: &Attack) -> u64 {
    let mut bytes = 0;
    let mut peers: Vec<TcpStream> = (0..attack.size).map(|number| attack.connect(number as u64).unwrap()).collect();
    peers.iter().for_each(|peer| peer.set_nodelay(true).unwrap());
    let mut place = 0u64;
    while attack.is_on() {
        let byte = if place == 0 { ECHO } else { (place % 251) as u8 };
        peers.iter_mut().for_each(|peer| peer.write_all(&[byte]).unwrap());
        for peer in &mut peers {
            let mut back = [0; 1];
            peer.read_exact(&mut back).unwrap();
            assert_eq!(back[0], byte, "byte {place}");
            bytes += 1;
        }
        place += 1;
    }
    bytes
}

/// Connects, sends something, and resets.
pub fn reset_flood(attack: &Attack) -> u64 {
    let mut attempts = 0;
    while attack.is_on() {
        let Some(mut peer) = attack.connect(attempts) else { continue };
        // Some before the server can have accepted, some in the middle of an answer.
        if attempts % 2 == 0 {
            let _ = peer.write_all(&[ECHO; 4096]);
        }
        if attempts % 4 == 0 {
            let _ = peer.read(&mut [0; 1]);
        }
        reset_on_drop(&peer);
        attempts += 1;
    }
    attempts
}

/// Connects far more than the server takes, and holds on to what it gets.
pub fn connect_flood(attack: &Attack) -> u64 {
    let mut attempts = 0;
    let mut peers: std::collections::VecDeque<TcpStream> = Default::default();
    while attack.is_on() {
        match connect_from(2 + (attempts % 250) as u8, attack.address, false) {
            Ok(peer) => peers.push_back(peer),
            Err(_) => rest(Duration::from_millis(1)),
        }
        attempts += 1;
        if peers.len() > attack.size {
            // The oldest that were let in stay, so that the server remains full; the newest go.
            peers.truncate(attack.size / 2);
            rest(Duration::from_millis(2));
        }
    }
    attempts
}

/// Ends its side and stays.
pub fn half_close(attack: &Attack) -> u64 {
    let mut attempts = 0;
    let mut peers = std::collections::VecDeque::new();
    while attack.is_on() {
        let Some(mut peer) = attack.connect(attempts) else { continue };
        let _ = peer.write_all(&[ECHO; 100]);
        let _ = peer.shutdown(Shutdown::Write);
        peers.push_back(peer);
        attempts += 1;
        if peers.len() > attack.size {
            peers.pop_front();
        }
    }
    attempts
}

/// Connects and closes.
pub fn connect_and_close(attack: &Attack) -> u64 {
    let mut attempts = 0;
    while attack.is_on() {
        drop(attack.connect(attempts));
        attempts += 1;
    }
    attempts
}

/// Speaks another protocol: bytes of chance, a TLS greeting, an HTTP request.
pub fn garbage(attack: &Attack) -> u64 {
    let mut random = fastrand::Rng::with_seed(11);
    let mut attempts = 0;
    while attack.is_on() {
        let Some(mut peer) = attack.connect(attempts) else { continue };
        let mut bytes = vec![0; random.usize(1..60_000)];
        random.fill(&mut bytes);
        bytes[0] &= 0x3F; // No greeting that the server's user knows.
        let start: &[u8] = [&b"\x16\x03\x01\x02\x00\x01"[..], b"GET / HTTP/1.1\r\n\r\n", b""][random.usize(0..3)];
        let length = start.len().min(bytes.len());
        bytes[..length].copy_from_slice(&start[..length]);
        let _ = peer.write_all(&bytes);
        // Until the server throws it out.
        while matches!(peer.read(&mut [0; 64]), Ok(1..)) {}
        attempts += 1;
    }
    attempts
}

/// As many connections at once as it may hold; each sends a byte, and gets it back, and stays until the end.
pub fn crowd(attack: &Attack) -> u64 {
    let begin = Instant::now();
    let mut peers: Vec<TcpStream> = Vec::with_capacity(attack.size);
    while peers.len() < attack.size {
        match attack.connect(peers.len() as u64) {
            Some(mut peer) => {
                peer.write_all(&[ECHO]).unwrap();
                peers.push(peer);
            }
            None => assert!(begin.elapsed() < Duration::from_secs(60), "{} connections are there", peers.len()),
        }
    }
    for peer in &mut peers {
        let mut back = [0; 1];
        peer.read_exact(&mut back).unwrap();
        assert_eq!(back[0], ECHO);
    }
    while attack.is_on() {
        rest(Duration::from_millis(20));
    }
    peers.len() as u64
}

//! Clients that keep to the rules. Each sends a message, reads the answer, compares every byte, and goes on: what is lost,
//! doubled or out of order ends the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::echo::ECHO;
use super::sockets::Place;

const MESSAGE: usize = 64;

/// What honest clients saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// How long each answer took, in microseconds.
    pub latencies_us: Vec<u32>,
    /// How long they went on.
    pub took: Duration,
}

impl Seen {
    pub fn messages(&self) -> u64 {
        self.latencies_us.len() as u64
    }

    pub fn per_second(&self) -> f64 {
        self.messages() as f64 / self.took.as_secs_f64()
    }

    /// The latency that so many of a thousand answers did not exceed.
    pub fn per_mille_us(&self, per_mille: usize) -> u32 {
        let mut sorted = self.latencies_us.clone();
        sorted.sort_unstable();
        sorted.get((sorted.len() * per_mille / 1000).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

/// Clients at work.
pub struct Honest {
    threads: Vec<JoinHandle<Vec<u32>>>,
    stop: Arc<AtomicBool>,
    begin: Instant,
}

impl Honest {
    /// Connects so many clients, which then exchange messages with a pause in between; all are served when this returns.
    pub fn start(place: &Place, address: SocketAddr, clients: usize, pause: Duration) -> Honest {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients).map(|number| {
            let mut stream = place.connect(address).unwrap();
            exchange(&mut stream, number as u64, 0);
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut latencies = Vec::new();
                let mut round = 1;
                while !stop.load(Relaxed) {
                    latencies.push(exchange(&mut stream, number as u64, round));
                    round += 1;
                    if !pause.is_zero() {
                        std::thread::park_timeout(pause);
                    }
                }
                latencies
            })
        });
        Honest { threads: threads.collect(), stop, begin: Instant::now() }
    }

    /// Clients that come, exchange one message and go, again and again.
    pub fn start_newcomers(place: &Place, address: SocketAddr, pause: Duration) -> Honest {
        let stop = Arc::new(AtomicBool::new(false));
        let (place, stops) = (place.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut latencies = Vec::new();
            let mut round = 0;
            while !stops.load(Relaxed) {
                let begin = Instant::now();
                let mut stream = place.connect(address).unwrap();
                exchange(&mut stream, u64::MAX, round);
                drop(stream);
                latencies.push(begin.elapsed().as_micros() as u32);
                round += 1;
                std::thread::park_timeout(pause);
            }
            latencies
        });
        Honest { threads: vec![thread], stop, begin: Instant::now() }
    }

    /// Ends them when the answers that they wait for are there.
    pub fn end(self) -> Seen {
        self.stop.store(true, Relaxed);
        let latencies = self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        Seen { latencies_us: latencies, took: self.begin.elapsed() }
    }
}

/// One message and its answer; how long it took in microseconds.
pub fn exchange(stream: &mut TcpStream, client: u64, round: u64) -> u32 {
    try_exchange(stream, client, round).unwrap_or_else(|error| panic!("client {client}, message {round}: {error}"))
}

/// The same, where the connection may be refused. A wrong answer is never right.
pub fn try_exchange(stream: &mut TcpStream, client: u64, round: u64) -> std::io::Result<u32> {
    let mut message = [ECHO; MESSAGE];
    message[8..16].copy_from_slice(&client.to_le_bytes());
    message[16..24].copy_from_slice(&round.to_le_bytes());
    let begin = Instant::now();
    stream.write_all(&message)?;
    let mut answer = [0; MESSAGE];
    stream.read_exact(&mut answer)?;
    assert!(answer == message, "client {client}: the answer to message {round} is {answer:?}");
    Ok(begin.elapsed().as_micros() as u32)
}

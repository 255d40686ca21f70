//! Peers on plain sockets that do not behave, at a steady pace: some come and go, some reset, some end their side, some
//! never read.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::hostile::echo::ECHO;
use crate::hostile::sockets::{connect_from, reset_on_drop};

/// The pause between two peers that come.
const PAUSE: Duration = Duration::from_millis(8);
/// Readers that stall, at a time.
const STALLED: usize = 4;
const WAIT: Duration = Duration::from_millis(200);

pub struct Misbehaving {
    stop: Arc<AtomicBool>,
    counts: Arc<[AtomicU64; 4]>,
    threads: Vec<JoinHandle<()>>,
}

impl Misbehaving {
    pub fn start(addresses: Vec<String>) -> Misbehaving {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicU64::new(0) }; 4]));
        let threads = [visit as fn(&[SocketAddr], &AtomicBool, &[AtomicU64; 4]), stall].map(|behave| {
            let (addresses, stop, counts) = (addresses.clone(), stop.clone(), counts.clone());
            std::thread::spawn(move || behave(&addresses, &stop, &counts))
        });
        Misbehaving { stop, counts, threads: threads.into() }
    }

    /// How many peers came and went, reset, ended their side, stalled.
    pub fn end(self) -> [u64; 4] {
        self.stop.store(true, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        [0, 1, 2, 3].map(|kind: usize| self.counts[kind].load(SeqCst))
    }
}

fn visit(addresses: &[SocketAddr], stop: &AtomicBool, counts: &[AtomicU64; 4]) {
    for number in 0u64.. {
        if stop.load(SeqCst) {
            return;
        }
        std::thread::sleep(PAUSE);
        let address = addresses[number as usize % addresses.len()];
        // A server that is stopped, full or without descriptors refuses or lets wait: that is no fault.
        let Ok(mut peer) = connect_from(2 + (number % 250) as u8, address, true) else { continue };
        let _ = peer.set_read_timeout(Some(WAIT));
        let asks = peer.write_all(&[ECHO; 1000]).is_ok();
        let kind = match number / 2 % 8 {
            0 | 4 => {
                reset_on_drop(&peer);
                1
            }
            2 => {
                let _ = peer.shutdown(Shutdown::Write);
                let _ = peer.read(&mut [0; 2000]);
                2
            }
            _ => {
                let _ = asks && peer.read_exact(&mut [0; 1000]).is_ok();
                0
            }
        };
        counts[kind].fetch_add(1, SeqCst);
    }
}

fn stall(addresses: &[SocketAddr], stop: &AtomicBool, counts: &[AtomicU64; 4]) {
    let mut peers: [Option<TcpStream>; STALLED] = Default::default();
    while !stop.load(SeqCst) {
        for (number, place) in peers.iter_mut().enumerate() {
            match place {
                None => {
                    *place = connect_from(2, addresses[number % addresses.len()], true).ok();
                    place.iter().for_each(|peer| _ = peer.set_nonblocking(true));
                }
                // Until the server has lost its patience.
                Some(peer) => {
                    if let Err(error) = peer.write(&[ECHO; 32 << 10]) {
                        if error.kind() != std::io::ErrorKind::WouldBlock {
                            *place = None;
                            counts[3].fetch_add(1, SeqCst);
                        }
                    }
                }
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

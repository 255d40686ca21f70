use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::*;
use crate::engine::config::EngineConfig;
use crate::engine::worker::event_loop::Worker;
use crate::port::epoll::EpollPort;
use crate::port::{ListenOptions, PortSetup};

/// A worker on a thread of its own; dropped, it ends.
struct Running {
    workers: Arc<Workers<EpollPort>>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn new() -> Running {
        let setup = PortSetup { receive_buffer_bytes: 1024, max_connections: 1, receives_per_turn: 1 };
        let (port, ring) = EpollPort::open(&setup).unwrap();
        let config = EngineConfig { max_connections: 1, ..EngineConfig::default() }.validated().unwrap();
        let workers = Arc::new(Workers::new(&config, 0, 1, vec![port]).unwrap());
        let mut worker = Worker::new(&workers, 0, 0, 0, ring).unwrap();
        Running { workers, thread: Some(thread::spawn(move || worker.run())) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.workers.exit();
        self.thread.take().unwrap().join().unwrap();
        self.workers.tasks[0].end();
    }
}

/// Races to these addresses; gives the winner and the time that it took.
fn race(addresses: Vec<SocketAddr>) -> (Outcome<Option<SocketAddr>>, Duration) {
    let running = Running::new();
    let workers = running.workers.clone();
    let (tell, told) = mpsc::channel();
    running.workers.spawn(async move {
        let begin = Instant::now();
        let stream = StreamOptions::default();
        let addresses = addresses.into_iter().map(Address::from).collect();
        let route = Race::new(&workers, None, &stream).run(addresses).await;
        tell.send((route.map(|route| route.peer.socket_address()), begin.elapsed())).unwrap();
    });
    let result = told.recv_timeout(Duration::from_secs(30)).unwrap();
    // Nothing of the race is left: neither a key nor a socket that is watched.
    #[cfg(feature = "testing")]
    assert_eq!(running.workers.sources.count(crate::pool::handle::Kind::Dial), 0);
    result
}

/// A listener whose backlog is full, so that connects to it get no answer.
fn silent(port: &EpollPort) -> (impl Sized + use<>, Vec<TcpStream>, SocketAddr) {
    let any = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listener = port.listen(&any, &ListenOptions { backlog: 1, ..Default::default() }).unwrap();
    let address = EpollPort::local_address(&listener).unwrap().socket_address().unwrap();
    let mut fill = Vec::new();
    while let Ok(peer) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        fill.push(peer);
    }
    (listener, fill, address)
}

#[test]
fn a_first_address_that_does_not_answer_is_overtaken_after_the_stagger() {
    let helper = Running::new();
    let (_listener, _fill, dead) = silent(helper.workers.port());
    let live = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = live.local_addr().unwrap();
    let (winner, took) = race(vec![dead, dead, address]);
    assert_eq!(winner.unwrap(), Some(address));
    assert!(took >= Duration::from_millis(490), "{took:?}: two staggers come before the third attempt");
}

#[test]
fn a_first_address_that_refuses_is_followed_at_once_and_the_last_failure_is_told() {
    let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let live = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = live.local_addr().unwrap();
    let (winner, _) = race(vec![refuses, address]);
    assert_eq!(winner.unwrap(), Some(address));
    let (none, _) = race(vec![refuses, refuses]);
    assert_eq!(none.unwrap_err().status, Status::Refused);
}

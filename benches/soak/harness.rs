//! The two servers and their clients. One server goes on while the other stops, starts, or is destroyed and comes back with
//! another configuration; now and then the first stops and starts, too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use crate::common::*;
use crate::echo_peer::{EchoPeer, write_next};
use crate::hostile::echo::Echo;

const CLIENTS_OF_EACH: usize = 4;

/// A handler is held back from the count, to show that the count is looked at.
pub static KEEPS_ONE_HANDLER: AtomicBool = AtomicBool::new(false);

struct Target {
    server: Server,
    address: String,
}

struct Writer {
    client: Client,
    peer: Arc<EchoPeer>,
    target: usize,
}

pub struct Harness {
    echo: Arc<Echo>,
    targets: [Target; 2],
    writers: Vec<Writer>,
    /// Handlers of servers and of clients that were given away.
    server_handlers: u64,
    client_handlers: u64,
    /// Clients that were destroyed and whose last call is still to come; what the others had seen.
    old_peers: Vec<(usize, Arc<EchoPeer>)>,
    old_answers: [u64; 2],
    old: [u64; 3],
    pub restarts: u64,
    pub changes: u64,
}

/// The configurations that take turns.
fn configure(config: &mut wharf_server_config, number: u64) {
    config.backlog = 256;
    config.send_stall_timeout_ms = 1000;
    config.first_byte_timeout_ms = 2000;
    config.socket_send_buffer_bytes = 16 << 10;
    match number % 4 {
        0 => {}
        // Two readers that stall exhaust the pool.
        1 => config.send_queue_limit_bytes = 1 << 20,
        2 => (config.max_connections, config.at_limit) = (7, WHARF_AT_LIMIT_REJECT),
        _ => (config.send_queue_limit_bytes, config.idle_timeout_ms) = (64 << 10, 1500),
    }
}

impl Harness {
    pub fn open(engine: &Engine) -> Harness {
        let echo = Arc::new(Echo::default());
        let targets = [0, 1].map(|_| {
            let address = free_address();
            Target { server: create(engine, &echo, &address, 0), address }
        });
        let writers = [0, 1].iter().flat_map(|target| [*target; CLIENTS_OF_EACH]);
        let writers: Vec<Writer> = writers.map(|target| writer(engine, target, &targets[target].address)).collect();
        let client_handlers = writers.len() as u64;
        Harness {
            echo,
            targets,
            writers,
            server_handlers: 2,
            client_handlers,
            old_peers: Vec::new(),
            old_answers: [0; 2],
            old: [0; 3],
            restarts: 0,
            changes: 0,
        }
    }

    pub fn addresses(&self) -> Vec<String> {
        self.targets.iter().map(|target| target.address.clone()).collect()
    }

    /// Messages to each server that were answered so far.
    pub fn answers(&self) -> [u64; 2] {
        let mut sums = self.old_answers;
        self.peers().for_each(|(target, peer)| sums[target] += peer.answers.load(SeqCst));
        sums
    }

    /// What happens in this second.
    pub fn step(&mut self, second: usize, engine: &Engine) {
        for _ in 0..10 {
            self.writers.iter().for_each(|writer| write_next(writer.client.0, &writer.peer));
            std::thread::sleep(Duration::from_millis(20));
        }
        match second % 40 {
            5 => self.restart(1),
            15 => self.change(engine),
            23 => self.replace_a_client(second, engine),
            35 if second % 120 > 80 => self.restart(0),
            _ => {}
        }
        self.forget_dropped();
    }

    fn restart(&mut self, target: usize) {
        let target = &self.targets[target];
        target.server.stop(500);
        target.server.wait();
        start(target.server.0);
        self.restarts += 1;
    }

    /// There is no call that changes a configuration: the server is destroyed, and another one takes its address.
    fn change(&mut self, engine: &Engine) {
        self.changes += 1;
        self.server_handlers += 1;
        let target = &mut self.targets[1];
        target.server.stop(500);
        target.server.wait();
        ok(target.server.destroy());
        target.server = create(engine, &self.echo, &target.address, self.changes);
    }

    fn replace_a_client(&mut self, second: usize, engine: &Engine) {
        let place = second % self.writers.len();
        let target = self.writers[place].target;
        let new = writer(engine, target, &self.targets[target].address);
        let old = std::mem::replace(&mut self.writers[place], new);
        ok(old.client.destroy());
        self.old_peers.push((target, old.peer));
        self.client_handlers += 1;
    }

    /// Sums up the clients whose last call has come, so that the soak itself does not grow.
    fn forget_dropped(&mut self) {
        let (gone, still): (Vec<_>, Vec<_>) =
            self.old_peers.drain(..).partition(|(_, peer)| peer.drops.load(SeqCst) == 1);
        self.old_peers = still;
        for (target, peer) in gone {
            self.old_answers[target] += peer.answers.load(SeqCst);
            for (sum, counter) in self.old.iter_mut().zip([&peer.opens, &peer.closes, &peer.drops]) {
                *sum += counter.load(SeqCst);
            }
        }
    }

    /// The end: clients first, then servers, with a drain.
    pub fn close(&mut self, engine: &Engine) {
        self.writers.iter().for_each(|writer| writer.client.stop());
        until("the clients have ended", || engine.stats().connected == self.client_closes());
        self.writers.iter().for_each(|writer| ok(writer.client.destroy()));
        for target in &self.targets {
            target.server.stop(2000);
            target.server.wait();
            ok(target.server.destroy());
        }
        until("the last calls of all have come", || self.drops() == self.server_handlers + self.client_handlers);
    }

    fn peers(&self) -> impl Iterator<Item = (usize, &Arc<EchoPeer>)> {
        let old = self.old_peers.iter().map(|(target, peer)| (*target, peer));
        self.writers.iter().map(|writer| (writer.target, &writer.peer)).chain(old)
    }

    fn client_closes(&self) -> u64 {
        self.old[1] + self.peers().map(|(_, peer)| peer.closes.load(SeqCst)).sum::<u64>()
    }

    fn drops(&self) -> u64 {
        let clients = self.peers().map(|(_, peer)| peer.drops.load(SeqCst)).sum::<u64>();
        self.echo.drops.load(SeqCst) + self.old[2] + clients
    }

    /// What does not balance, at the end.
    pub fn faults(&self, sums: &wharf_stats) -> Vec<String> {
        let number = |counter: &AtomicU64| counter.load(SeqCst);
        let client_opens = self.old[0] + self.peers().map(|(_, peer)| number(&peer.opens)).sum::<u64>();
        let kept = u64::from(KEEPS_ONE_HANDLER.load(SeqCst));
        let equal = [
            ("on_open of the servers and connections accepted", number(&self.echo.opens), sums.accepted),
            ("on_close and on_open of the servers", number(&self.echo.closes), number(&self.echo.opens)),
            ("on_open of the clients and connects", client_opens, sums.connected),
            ("on_close and on_open of the clients", self.client_closes(), client_opens),
            ("on_drop and handlers", self.drops() - kept, self.server_handlers + self.client_handlers),
            ("closed, and accepted or connected", sums.closed, sums.accepted + sums.connected),
            ("open connections", sums.open, 0),
            ("blocks in use", sums.pool_blocks_in_use, 0),
            ("queued bytes", sums.queued_bytes, 0),
            ("bytes that the handler keeps", number(&self.echo.kept), 0),
            ("connections that nobody knows", number(&self.echo.strangers), 0),
        ];
        let unequal = equal.iter().filter(|(_, one, other)| one != other);
        unequal.map(|(what, one, other)| format!("{what}: {one} and {other}")).collect()
    }
}

fn writer(engine: &Engine, target: usize, address: &str) -> Writer {
    let peer = Arc::new(EchoPeer::default());
    let client = engine.client_with(peer.handler(), address, |config| {
        config.reconnect_min_ms = 20;
        config.reconnect_max_ms = 500;
        config.linger_ms = 500;
    });
    Writer { client, peer, target }
}

/// An address that a server can have again and again: port 0 would be another port at each start.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A started server with the configuration of this number.
fn create(engine: &Engine, echo: &Arc<Echo>, address: &str, number: u64) -> Server {
    let address = std::ffi::CString::new(address).unwrap();
    let mut config = server_config();
    config.address = address.as_ptr();
    configure(&mut config, number);
    let (handler, mut server) = (echo.handler(), 0);
    ok(unsafe { wharf_server_create(engine.0, &config, &handler, &mut server, std::ptr::null_mut()) });
    start(server);
    Server(server)
}

/// Starts a server again. A socket of somebody's may have its port for a moment, and descriptors may be short.
fn start(server: wharf_server) {
    let begin = Instant::now();
    loop {
        match unsafe { wharf_server_start(server, std::ptr::null_mut()) } {
            WHARF_OK => return,
            WHARF_E_ADDRESS_IN_USE | WHARF_E_TOO_MANY_FILES if begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            other => panic!("{}", name(other)),
        }
    }
}

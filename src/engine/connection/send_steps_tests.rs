//! Every arrow of the picture in sender.rs, on real sockets: the state before and after it, what arrives, and that nothing
//! is held in the end. The test is the worker: it decides when a callback has returned.

use std::cell::RefCell;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::SendState::*;
use super::*;
use crate::engine::config::{ConnectionConfig, EngineConfig};
use crate::engine::connection::close::Close;
use crate::engine::connection::connections::{Connections, backing_blocks};
use crate::engine::connection::owner::{Owner, OwnerEvents};
use crate::engine::connection::peer::Peer;
use crate::engine::events::{Handler, Wants};
use crate::pool::handle::{Handle, Kind};
use crate::port::epoll::EpollPort;
use crate::port::polling::PollingPort;
use crate::port::{Accepted, Address, ListenOptions, PortSetup};

const PATIENCE: Duration = Duration::from_secs(10);

struct Nobody;

impl Handler for Nobody {
    fn wants(&self) -> Wants {
        Wants::default()
    }
}

impl OwnerEvents for Nobody {}

/// The byte that follows on these, which must count up from the first.
fn after(data: &[u8], first: u8) -> u8 {
    data.iter().fold(first, |expected, byte| {
        assert_eq!(*byte, expected, "in order");
        expected.wrapping_add(1)
    })
}

/// Two connections of one worker, and their peers.
struct Scene<P: Port> {
    connections: Arc<Connections<P>>,
    caller: Caller,
    conns: [u64; 2],
    peers: [TcpStream; 2],
    /// The byte that is sent next, and the one that must arrive next.
    next: u8,
    sent: usize,
    expected: u8,
}

impl<P: Port> Scene<P> {
    fn new(limit: u32) -> Scene<P> {
        let setup = PortSetup { receive_buffer_bytes: 1024, max_connections: 2, receives_per_turn: 1 };
        let (port, _ring) = P::open(&setup).unwrap();
        let config = EngineConfig { max_connections: 2, ..EngineConfig::default() }.validated().unwrap();
        let any = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let listener = port.listen(&any, &ListenOptions::default()).unwrap();
        let address = P::local_address(&listener).unwrap().socket_address().unwrap();
        let backing = backing_blocks(&config);
        let connections = Arc::new(Connections::new(&config, 0, 1, vec![port]).unwrap());
        let config = ConnectionConfig { send_queue_limit_bytes: limit, ..ConnectionConfig::default() };
        let handle = Handle { kind: Kind::Server, engine: 0, index: 0, generation: 1 };
        let owner =
            Owner::new(handle, Box::new(Nobody), config.validated().unwrap(), 2, Box::new(Nobody), None).unwrap();
        owner.set_shut(false);
        let owner = Arc::new(owner);
        let pairs = [(); 2].map(|()| {
            let peer = TcpStream::connect(address).unwrap();
            peer.set_read_timeout(Some(PATIENCE)).unwrap();
            let Accepted { socket, peer: from } = loop {
                match connections.links[0].port.accept(&listener) {
                    Ok(accepted) => break accepted,
                    Err(_) => thread::yield_now(),
                }
            };
            let place = connections.take_place(None).unwrap();
            connections.begin(&owner, socket, Peer::new(&from), place, 0);
            let index = *crate::pool::lock(&owner.members).places.last().unwrap();
            (connections.table.live_handle(index).unwrap().to_bits(), peer)
        });
        let [(first, one), (second, other)] = pairs;
        let caller = Caller { engine: 0, worker: 0, cork: RefCell::new(connections.new_cork(backing).unwrap()) };
        Scene { connections, caller, conns: [first, second], peers: [one, other], next: 0, sent: 0, expected: 0 }
    }

    fn locked(&self) -> Locked<'_, P> {
        self.connections.locked(self.conns[0]).unwrap()
    }

    fn state(&self) -> SendState {
        self.locked().sender.state
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let first = self.next;
        self.next = first.wrapping_add((len % 256) as u8);
        self.sent += len;
        (0..len).map(|place| first.wrapping_add(place as u8)).collect()
    }

    /// A send in a callback.
    fn own(&mut self, len: usize, token: u64) {
        let bytes = self.bytes(len);
        self.locked().send_any(&Outgoing::new(&[&bytes], token), Some(&self.caller)).unwrap();
    }

    /// A send of another thread.
    fn foreign(&mut self, len: usize) {
        let bytes = self.bytes(len);
        self.locked().send_any(&Outgoing::new(&[&bytes], 0), None).unwrap();
    }

    fn callback_returns(&self) {
        self.connections.flush_corks(&self.caller, 0);
        assert!(self.caller.cork.borrow().bytes.is_empty());
    }

    /// The kernel takes no more, although nothing waits here.
    fn fill_kernel(&mut self) {
        loop {
            let bytes = self.bytes(1 << 16);
            let sent = P::send(self.locked().sender.socket.as_ref().unwrap(), &[IoSlice::new(&bytes)]);
            let taken = sent.unwrap_or(0);
            self.sent -= bytes.len() - taken;
            self.next = self.next.wrapping_sub(((bytes.len() - taken) % 256) as u8);
            if taken == 0 {
                return;
            }
        }
    }

    /// The other threads send so much that the rest is left to the worker.
    fn burst(&mut self) {
        for _ in 0..100_000 {
            let link = &self.connections.links[0];
            link.wake.fall_asleep();
            link.now_ms.store(self.connections.clock_ms(), Relaxed);
            self.foreign(1);
            if self.state() == Queued {
                return;
            }
            assert_eq!(self.state(), Idle);
        }
        panic!("there was no burst");
    }

    /// The peer reads, in order, all that was sent; meanwhile the port tells of room, until nothing waits.
    fn all_arrives(&mut self) {
        let peer = self.peers[0].try_clone().unwrap();
        let (total, first) = (self.sent, self.expected);
        let reader = thread::spawn(move || {
            let mut data = vec![0; total];
            (&peer).read_exact(&mut data).unwrap();
            after(&data, first)
        });
        let until = Instant::now() + PATIENCE;
        while self.state() != Idle {
            assert!(Instant::now() < until, "room came, and what waits does not leave: {:?}", self.state());
            self.locked().unblock();
            thread::yield_now();
        }
        self.expected = reader.join().unwrap();
        self.sent = 0;
        self.nothing_waits();
    }

    fn nothing_waits(&self) {
        let locked = self.locked();
        assert_eq!((locked.sender.state, locked.sender.waiting(), locked.sender.corked_bytes), (Idle, 0, 0));
        assert!(!locked.connection.unsettled.load(Acquire));
        drop(locked);
        while self.locked().sender.queue.take_mark(&self.connections.blocks, true).is_some() {}
        assert_eq!(self.connections.blocks.available(), self.connections.blocks.count());
    }

    /// The queue is full: a thread waits in send_wait until `way_out`; gives how its call ended.
    fn a_thread_waits(&mut self, way_out: impl FnOnce(&mut Self)) -> Result<(), Status> {
        assert_eq!(self.locked().room(), 0);
        let bytes = self.bytes(1);
        let (tell, told) = mpsc::channel();
        let (connections, conn) = (self.connections.clone(), self.conns[0]);
        let waits = thread::spawn(move || tell.send(connections.send_wait(conn, &bytes, None, &mut 0)).unwrap());
        while !self.locked().sender.waits.has_threads() {
            thread::yield_now();
        }
        way_out(self);
        let ended = told.recv_timeout(PATIENCE).expect("the thread that waits is woken");
        waits.join().unwrap();
        assert!(!self.locked().sender.waits.has_threads());
        ended
    }
}

/// The same steps on each port.
macro_rules! on_each_port {
    ($(fn $name:ident<P>() $body:block)*) => {$(
        mod $name {
            use super::*;
            fn walk<P: Port>() $body
            #[test]
            fn epoll() {
                walk::<EpollPort>();
            }
            #[test]
            fn polling() {
                walk::<PollingPort>();
            }
        }
    )*};
}

const LIMIT: u32 = 4 << 20;

on_each_port! {
    fn a_send_in_a_callback_leaves_when_it_has_returned<P>() {
        let mut scene = Scene::<P>::new(LIMIT);
        assert_eq!(scene.state(), Idle);
        scene.own(100, 0);
        scene.own(50, 0);
        assert_eq!((scene.state(), scene.locked().sender.corked_bytes), (CorkedInBuffer, 150));
        // One with a token, and one of another thread, are queued behind the buffer.
        scene.own(10, 1);
        scene.foreign(20);
        assert_eq!((scene.state(), scene.locked().sender.queue.len()), (CorkedInBuffer, 30));
        scene.callback_returns();
        scene.nothing_waits();
        // What comes behind a queue does not go into the buffer before it.
        scene.own(100, 0);
        scene.own(10, 1);
        scene.own(30, 0);
        assert_eq!((scene.state(), scene.locked().sender.corked_bytes), (CorkedInBuffer, 30));
        scene.callback_returns();
        scene.nothing_waits();
        scene.all_arrives();
    }

    fn a_large_send_in_a_callback_leaves_at_once_behind_what_is_held_back<P>() {
        let mut scene = Scene::<P>::new(LIMIT);
        scene.own(100, 0);
        scene.own(CORK_BYTES, 0);
        scene.nothing_waits();
        scene.all_arrives();
    }

    fn a_send_with_a_token_is_corked_in_the_queue<P>() {
        let mut scene = Scene::<P>::new(LIMIT);
        scene.own(100, 1);
        assert_eq!((scene.state(), scene.locked().sender.corked_bytes), (CorkedInQueue, 0));
        scene.own(100, 0);
        assert_eq!((scene.state(), scene.locked().sender.queue.len()), (CorkedInQueue, 200));
        scene.callback_returns();
        scene.nothing_waits();
        scene.all_arrives();
    }

    fn a_send_to_a_second_connection_is_corked_in_its_queue<P>() {
        let mut scene = Scene::<P>::new(LIMIT);
        let mut other = scene.connections.locked(scene.conns[1]).unwrap();
        other.send_any(&Outgoing::new(&[b"first"], 0), Some(&scene.caller)).unwrap();
        assert_eq!(other.sender.state, CorkedInBuffer);
        drop(other);
        scene.own(100, 0);
        assert_eq!((scene.state(), scene.locked().sender.queue.len()), (CorkedInQueue, 100));
        scene.callback_returns();
        scene.nothing_waits();
        scene.all_arrives();
        let mut first = [0; 5];
        scene.peers[1].read_exact(&mut first).unwrap();
        assert_eq!(&first, b"first");
    }

    fn a_send_of_another_thread_is_one_write_behind_what_is_corked_in_the_queue<P>() {
        let mut scene = Scene::<P>::new(LIMIT);
        scene.foreign(100);
        scene.nothing_waits();
        scene.own(100, 1);
        scene.foreign(100);
        scene.nothing_waits();
        // It stands in the list of the cork still, which must not disturb it.
        scene.callback_returns();
        scene.nothing_waits();
        scene.all_arrives();
    }

    fn what_many_threads_send_waits_for_the_worker<P>() {
        let mut scene = Scene::<P>::new(LIMIT);
        scene.burst();
        assert_eq!(scene.locked().sender.queue.len(), 1);
        scene.locked().flush();
        scene.nothing_waits();
        // A callback finds the queue and corks it with what it sends.
        scene.burst();
        scene.own(10, 0);
        assert_eq!(scene.state(), CorkedInQueue);
        scene.callback_returns();
        scene.nothing_waits();
        scene.all_arrives();
    }

    fn without_room_it_is_blocked_until_the_port_tells_of_room<P>() {
        let mut scene = Scene::<P>::new(LIMIT);
        scene.fill_kernel();
        scene.foreign(100);
        assert_eq!(scene.state(), Blocked);
        scene.foreign(100);
        scene.own(100, 0);
        scene.locked().flush();
        scene.callback_returns();
        scene.locked().unblock();
        assert_eq!((scene.state(), scene.locked().sender.queue.len()), (Blocked, 300));
        assert!(scene.locked().connection.unsettled.load(Acquire));
        scene.all_arrives();
    }

    fn what_was_corked_or_left_to_the_worker_is_blocked_without_room<P>() {
        let mut scene = Scene::<P>::new(LIMIT);
        scene.fill_kernel();
        scene.own(100, 0);
        scene.own(10, 1);
        assert_eq!(scene.state(), CorkedInBuffer);
        scene.callback_returns();
        assert_eq!((scene.state(), scene.locked().sender.queue.len()), (Blocked, 110));
        assert_eq!(scene.locked().sender.corked_bytes, 0);
        scene.all_arrives();
        scene.fill_kernel();
        scene.own(100, 1);
        assert_eq!(scene.state(), CorkedInQueue);
        scene.callback_returns();
        assert_eq!(scene.state(), Blocked);
        scene.all_arrives();
        // What is in the kernel overtakes the queue here, so what arrives is not looked at.
        scene.burst();
        scene.fill_kernel();
        scene.locked().flush();
        assert_eq!(scene.state(), Blocked);
    }

    fn a_close_now_throws_away_what_waits_in_every_state<P>() {
        for state in [Idle, CorkedInBuffer, CorkedInQueue, Queued, Blocked] {
            let mut scene = Scene::<P>::new(LIMIT);
            match state {
                Idle => {}
                CorkedInBuffer => scene.own(100, 0),
                CorkedInQueue => scene.own(100, 1),
                Queued => scene.burst(),
                Blocked => {
                    scene.fill_kernel();
                    scene.foreign(100);
                }
            }
            assert_eq!(scene.state(), state);
            scene.locked().close(Close::Now, Status::Ok);
            let after = if state == Blocked { Blocked } else { Idle };
            assert_eq!((scene.state(), scene.locked().sender.waiting()), (after, 0));
            let refused = scene.locked().send_any(&Outgoing::new(&[b"x"], 0), Some(&scene.caller));
            assert_eq!(refused, Err(Status::Closed));
            scene.callback_returns();
            scene.locked().flush();
            assert_eq!(scene.locked().sender.waiting(), 0);
            while scene.locked().sender.queue.take_mark(&scene.connections.blocks, false).is_some() {}
            assert_eq!(scene.connections.blocks.available(), scene.connections.blocks.count());
        }
    }

    fn a_thread_that_waits_is_woken_by_each_way_out<P>() {
        // What is corked in the queue is flushed.
        let mut scene = Scene::<P>::new(1000);
        scene.own(1000, 1);
        assert_eq!(scene.a_thread_waits(|scene| scene.locked().flush()), Ok(()));
        // The buffer is uncorked.
        let mut scene = Scene::<P>::new(1000);
        scene.own(1000, 0);
        assert_eq!(scene.state(), CorkedInBuffer);
        assert_eq!(scene.a_thread_waits(|scene| scene.callback_returns()), Ok(()));
        scene.all_arrives();
        // The kernel has room again.
        let mut scene = Scene::<P>::new(1000);
        scene.fill_kernel();
        scene.foreign(1000);
        assert_eq!(scene.state(), Blocked);
        assert_eq!(scene.a_thread_waits(|scene| { scene.sent -= 1; scene.all_arrives(); scene.sent = 1; }), Ok(()));
        scene.all_arrives();
        // What waits is thrown away.
        let mut scene = Scene::<P>::new(1000);
        scene.own(1000, 1);
        assert_eq!(scene.a_thread_waits(|scene| scene.locked().drop_bytes()), Ok(()));
        // It is closed.
        for how in [Close::Now, Close::Reset, Close::Flush, Close::SendSide] {
            let mut scene = Scene::<P>::new(1000);
            scene.own(1000, 0);
            let way_out = |scene: &mut Scene<P>| scene.locked().close(how, Status::Ok);
            assert_eq!(scene.a_thread_waits(way_out), Err(Status::Closed), "{how:?}");
        }
    }
}

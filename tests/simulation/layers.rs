//! The way through a layer, in the simulated world: messages with their length before them, cut anywhere, in a pool that
//! has too few blocks for all; echoed, paused, resumed, closed and reset. Whatever was kept comes back.

use std::collections::VecDeque;
use std::ffi::CString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use fastrand::Rng;
use wharf::port::sim::{self, Peer, faults};

use crate::common::*;

const BLOCK: usize = 256;
/// The longest message that the layer takes.
pub const MOST: usize = BLOCK - 4;
/// What a receive may have to keep: the receive buffer, and a block that is begun.
pub const RECEIVE_BLOCKS: u64 = 1024 / BLOCK as u64 + 1;
const FAULTS: u32 =
    faults::SHORT_READ | faults::SHORT_WRITE | faults::WOULD_BLOCK | faults::SPURIOUS | faults::LATE | faults::SEGMENTS;

/// One peer, what it says, and what the host knows of its connection.
struct Talk {
    peer: Option<Peer>,
    link: u32,
    messages: Vec<Vec<u8>>,
    stream: Vec<u8>,
    /// The stream ends in the middle of a message.
    has_tail: bool,
    sent: usize,
    read: Vec<u8>,
    conn: wharf_conn,
    /// Messages that came.
    came: usize,
    /// Answers that were taken, as they must arrive; and those that were refused.
    answered: Vec<u8>,
    pending: VecDeque<Vec<u8>>,
    is_paused: bool,
    /// A message came although it was paused: only the end may follow.
    must_end: bool,
    /// Something ended it early: not everything arrives.
    is_cut_short: bool,
    reason: Option<wharf_status>,
}

struct Play {
    random: Rng,
    talks: Vec<Talk>,
    /// No more pauses, closes and resets.
    is_calm: bool,
    failure: Option<String>,
}

pub fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes(), message].concat()
}

fn pause(conn: wharf_conn) {
    ok(unsafe { wharf_conn_pause(conn) });
}

fn resume(conn: wharf_conn) {
    ok(unsafe { wharf_conn_resume(conn) });
}

impl Talk {
    fn new(random: &mut Rng, number: usize) -> Talk {
        let messages: Vec<Vec<u8>> = (0..random.usize(1..24))
            .map(|_| {
                let length = match random.u8(0..8) {
                    0 => 0,
                    1 => MOST - random.usize(0..3),
                    2..5 => random.usize(0..40),
                    _ => random.usize(0..=MOST),
                };
                pattern(random.u64(..), length)
            })
            .collect();
        let mut stream = messages.iter().flat_map(|message| framed(message)).collect::<Vec<u8>>();
        let has_tail = random.u8(0..4) == 0;
        if has_tail {
            let tail = framed(&[7; MOST]);
            stream.extend(&tail[..random.usize(1..tail.len())]);
        }
        let from = SocketAddr::from(([10, 0, 0, number as u8 + 1], 0));
        let peer = Peer::connect(from, SocketAddr::from(([127, 0, 0, 1], 500))).unwrap();
        Talk {
            link: peer.link(),
            peer: Some(peer),
            messages,
            stream,
            has_tail,
            sent: 0,
            read: Vec::new(),
            conn: 0,
            came: 0,
            answered: Vec::new(),
            pending: VecDeque::new(),
            is_paused: false,
            must_end: false,
            is_cut_short: false,
            reason: None,
        }
    }

    fn lives(&self) -> bool {
        self.conn != 0 && self.reason.is_none()
    }

    /// Everything was said, came, and came back.
    fn is_done(&self) -> bool {
        let has_all = self.came == self.messages.len() && self.read.len() == self.answered.len();
        self.sent == self.stream.len() && self.pending.is_empty() && has_all
    }

    /// Sends the answers that were not taken yet.
    fn answer(&mut self) {
        while let Some(message) = self.pending.front() {
            match send(self.conn, message) {
                WHARF_OK => self.answered.extend(framed(message)),
                WHARF_E_QUEUE_FULL | WHARF_E_POOL_EXHAUSTED => return,
                _ => self.is_cut_short = true,
            }
            self.pending.pop_front();
        }
    }

    /// The peer says some of it, and reads what is there.
    fn speak(&mut self, most: usize) -> Result<(), String> {
        let Some(peer) = &self.peer else { return Ok(()) };
        let until = (self.sent + most).min(self.stream.len());
        match peer.send(&self.stream[self.sent..until]) {
            _ if until == self.sent => {}
            Ok(sent) => self.sent += sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock || error.kind() == ErrorKind::NotConnected => {}
            Err(_) => self.is_cut_short = true,
        }
        let mut buffer = [0; 300];
        while let Ok(length @ 1..) = peer.receive(&mut buffer) {
            self.read.extend(&buffer[..length]);
        }
        let is_true = self.answered.starts_with(&self.read);
        if is_true { Ok(()) } else { Err(format!("other bytes came back on link {}", self.link)) }
    }
}

impl Play {
    fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn one_in(&mut self, count: u32) -> bool {
        !self.is_calm && self.random.u32(0..count) == 0
    }

    fn told(&mut self, event: &Event) {
        let place = match event {
            Event::Drop => return,
            Event::Open(conn) => {
                let peer = text(|buffer, len, needed| unsafe { wharf_conn_peer_address(*conn, buffer, len, needed) });
                let port = peer.rsplit_once(':').unwrap().1.parse().unwrap();
                self.talks.iter().position(|talk| sim::link_of(port) == Some(talk.link))
            }
            event => self.talks.iter().position(|talk| talk.conn == event.conn()),
        };
        let Some(place) = place else { return self.fail(format!("{event:?} of nobody")) };
        let talk = &mut self.talks[place];
        match event {
            Event::Open(conn) => talk.conn = *conn,
            Event::Receive(conn, data) => {
                let expected = talk.messages.get(talk.came);
                // What came before the end is told before it, paused or not.
                talk.must_end |= talk.is_paused;
                if expected != Some(data) {
                    let what = format!("message {} of link {}: not this one", talk.came, talk.link);
                    return self.fail(what);
                }
                talk.came += 1;
                talk.pending.push_back(data.clone());
                talk.answer();
                self.react(place, *conn);
            }
            Event::Writable(_) => talk.answer(),
            Event::Close(_, reason) => {
                talk.reason = Some(*reason);
                if talk.must_end && [WHARF_OK, WHARF_E_END_OF_STREAM].contains(reason) {
                    return self.fail(format!("a message came in a pause, and no failure: {reason}"));
                }
                let has_all = talk.came == talk.messages.len();
                let is_due = *reason == WHARF_E_END_OF_STREAM && has_all;
                if !(talk.is_cut_short || is_due) {
                    let what = format!("{} of {} messages", talk.came, talk.messages.len());
                    self.fail(format!("link {} ended with {reason} after {what}", self.talks[place].link));
                }
            }
            _ => {}
        }
    }

    /// What the host does in a callback.
    fn react(&mut self, place: usize, conn: wharf_conn) {
        if self.one_in(5) {
            pause(conn);
            self.talks[place].is_paused = self.random.u8(0..4) > 0;
            if !self.talks[place].is_paused {
                resume(conn);
            }
        }
        if self.one_in(5) {
            let other = self.random.usize(0..self.talks.len());
            self.set_paused(other, false);
        }
        if self.one_in(300) {
            self.close(place);
        }
    }

    fn set_paused(&mut self, place: usize, is_paused: bool) {
        let talk = &mut self.talks[place];
        if talk.lives() && talk.is_paused != is_paused {
            talk.is_paused = is_paused;
            if is_paused { pause(talk.conn) } else { resume(talk.conn) }
        }
    }

    fn close(&mut self, place: usize) {
        let how = [WHARF_CLOSE_FLUSH, WHARF_CLOSE_NOW, WHARF_CLOSE_RESET][self.random.usize(0..3)];
        let talk = &mut self.talks[place];
        if talk.lives() {
            talk.is_cut_short = true;
            ok(close(talk.conn, how));
        }
    }

    /// Something happens from outside.
    fn step(&mut self) -> Result<(), String> {
        let place = self.random.usize(0..self.talks.len());
        match self.random.u8(0..20) {
            0..10 => {
                let most = if self.random.bool() { self.random.usize(1..8) } else { self.random.usize(1..1500) };
                self.talks[place].speak(most)?;
            }
            10..13 => self.set_paused(place, true),
            13..17 => self.set_paused(place, false),
            17 if self.one_in(40) => self.close(place),
            18 if self.one_in(40) => {
                let talk = &mut self.talks[place];
                if let Some(peer) = talk.peer.take() {
                    talk.is_cut_short = true;
                    peer.will_reset();
                }
            }
            19 if self.talks[place].sent == self.talks[place].stream.len() => {
                // All was said: the peer ends, while some of it is on its way, or kept.
                self.talks[place].peer.as_ref().map(Peer::end);
            }
            _ => {}
        }
        for talk in self.talks.iter_mut().filter(|talk| talk.lives()) {
            talk.answer();
        }
        Ok(())
    }
}

/// Makes a server whose connections have the layer, and starts it.
pub fn layered(engine: &Engine, handler: wharf_handler, change: impl FnOnce(&mut wharf_server_config)) -> Server {
    let address = CString::new("127.0.0.1:500").unwrap();
    let mut config = server_config();
    config.address = address.as_ptr();
    change(&mut config);
    let mut server = 0;
    ok(unsafe { wharf_test_server_create_length_prefixed(engine.0, &config, &handler, &mut server) });
    let server = Server(server);
    server.start();
    server
}

pub fn engine(pool_blocks: u64) -> Engine {
    Engine::with(WHARF_TEST_PORT_SIM, |config| {
        config.flags = WHARF_ENGINE_CALLER_DRIVEN;
        config.max_connections = 4;
        config.buffer_bytes = BLOCK as u32;
        config.receive_buffer_bytes = 1024;
        config.pool_bytes = pool_blocks * BLOCK as u64;
    })
}

pub fn begin(seed: u64, rooms: (usize, usize)) {
    sim::begin(&sim::Setup { seed, descriptor_limit: u32::MAX, rooms, names: Vec::new() });
}

pub fn turn(engine: &Engine) {
    ok(unsafe { wharf_engine_turn(engine.0, 10, std::ptr::null_mut()) });
}

pub fn counts(engine: &Engine) -> wharf_test_counts {
    let mut counts = wharf_test_counts::default();
    ok(unsafe { wharf_test_engine_counts(engine.0, &mut counts) });
    counts
}

/// Everything is back.
fn is_whole(engine: &Engine) -> Result<(), String> {
    let counts = counts(engine);
    let held = [counts.places, counts.permits, counts.members, counts.timers, counts.tasks, counts.dials];
    let is_whole = held == [0; 6] && counts.blocks_available + counts.extra_blocks == counts.blocks;
    if is_whole { Ok(()) } else { Err(format!("not all is back: {counts:?}")) }
}

fn lock(play: &Mutex<Play>) -> std::sync::MutexGuard<'_, Play> {
    play.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn failure(play: &Mutex<Play>) -> Result<(), String> {
    lock(play).failure.take().map_or(Ok(()), Err)
}

/// One run. Gives how often a connection was read no further for want of blocks.
pub fn run(seed: u64) -> Result<u64, String> {
    let mut random = Rng::with_seed(seed ^ 0x6c61_7965);
    begin(seed, (random.usize(64..4096), random.usize(64..4096)));
    // All that can be kept of messages that have begun (two blocks each), and one receive.
    let engine = engine(2 * 4 + RECEIVE_BLOCKS + random.u64(0..4));
    let limit = random.u32(300..3000);
    let talks = Vec::new();
    let play = Arc::new(Mutex::new(Play { random, talks, is_calm: false, failure: None }));
    let hears = play.clone();
    let recorder = Recorder::forgetful(move |event| lock(&hears).told(event));
    let handler = recorder.handler_without(Without { end: true, ..Without::default() });
    let server = layered(&engine, handler, |config| config.send_queue_limit_bytes = limit);
    {
        let Play { random, talks, .. } = &mut *lock(&play);
        *talks = (0..random.usize(1..7)).map(|number| Talk::new(random, number)).collect();
        let odds = std::array::from_fn(|_| random.u16(100..30_000));
        sim::set_faults(FAULTS & random.u32(..), odds);
    }
    let mut waits = 0;
    let steps = lock(&play).random.usize(50..300);
    for _ in 0..steps {
        lock(&play).step()?;
        turn(&engine);
        failure(&play)?;
        waits += counts(&engine).block_waiters;
    }
    rest(&engine, &play)?;
    server.stop(0);
    (0..20).for_each(|_| turn(&engine));
    failure(&play)?;
    is_whole(&engine)?;
    Ok(waits)
}

/// Without faults and without moods, all that was begun comes to its end.
fn rest(engine: &Engine, play: &Mutex<Play>) -> Result<(), String> {
    sim::set_faults(0, [0; faults::CLASSES]);
    lock(play).is_calm = true;
    for _ in 0..4_000 {
        {
            let play = &mut *lock(play);
            (0..play.talks.len()).for_each(|place| play.set_paused(place, false));
            for talk in &mut play.talks {
                talk.speak(1500)?;
                if talk.lives() {
                    talk.answer();
                }
            }
        }
        turn(engine);
        failure(play)?;
        let play = &mut *lock(play);
        if play.talks.iter().all(|talk| talk.reason.is_some() || talk.conn == 0 && talk.is_cut_short) {
            return Ok(());
        }
        let is_busy = |talk: &Talk| talk.lives() && !talk.is_done() || talk.is_cut_short && talk.peer.is_some();
        if play.talks.iter().any(is_busy) {
            play.talks.iter_mut().filter(|talk| talk.is_cut_short).for_each(|talk| drop(talk.peer.take()));
            continue;
        }
        let has_tail = play.talks.iter().any(|talk| talk.lives() && talk.has_tail);
        let counts = counts(engine);
        if !has_tail && counts.blocks_available + counts.extra_blocks != counts.blocks {
            return Err(format!("idle connections hold blocks: {counts:?}"));
        }
        for talk in play.talks.iter_mut().filter(|talk| talk.lives()) {
            talk.peer.as_ref().map(Peer::end);
        }
    }
    let left = lock(play);
    let of = |talk: &Talk| (talk.came, talk.messages.len(), talk.read.len(), talk.answered.len(), talk.reason);
    Err(format!("nothing moves: {:?}, {:?}", left.talks.iter().map(of).collect::<Vec<_>>(), counts(engine)))
}

/// The first of these seeds that fails, with what failed.
pub fn first_failure(seeds: std::ops::Range<u64>) -> Option<(u64, String)> {
    seeds.into_iter().find_map(|seed| run(seed).err().map(|what| (seed, what)))
}

#[test]
fn messages_that_are_cut_anywhere_come_whole_and_in_order_whatever_else_happens() {
    let mut waits = 0;
    for seed in 1..4_000 {
        waits += run(seed).unwrap_or_else(|what| panic!("seed {seed}: {what}"));
    }
    assert!(waits > 1_000, "connections hardly ever ran out of blocks: {waits}");
}

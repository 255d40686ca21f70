//! One run: a world and an engine of a seed, steps with a check after each, and an end in which everything must drain.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use fastrand::Rng;
use wharf::ffi::*;
use wharf::port::sim::{self, faults::CLASSES};
use wharf::status::*;

use crate::model::{self, Model, call, fail, model, note};
use crate::peers::Peers;
use crate::plan::Plan;
use crate::{callbacks, checks, common, host, making};

/// Turns in which no byte arrives anywhere, after which everything must have come to rest when there are no faults any
/// more; and turns within which all that was stopped must have ended.
const TURNS_TO_REST: u32 = 400;
/// Waits of one step (the end of the engine included) after which it counts as stuck.
const WAITS: u64 = 50_000;

/// Counts turns in which no byte arrived anywhere.
#[derive(Default)]
struct Patience {
    idle_turns: u32,
    bytes: u64,
}

impl Patience {
    fn is_left(&mut self) -> bool {
        let bytes = sim::bytes_moved();
        let has_moved = std::mem::replace(&mut self.bytes, bytes) != bytes;
        self.idle_turns = if has_moved { 0 } else { self.idle_turns + 1 };
        self.idle_turns < TURNS_TO_REST
    }
}

/// What is kept of a run beside its outcome.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// Line by line.
    Trace,
    /// How often each thing happened.
    Tally,
}

/// How a run ended.
pub struct Outcome {
    pub failure: Option<String>,
    pub digest: u64,
    pub trace: Vec<String>,
    pub tally: BTreeMap<String, u64>,
}

/// Runs; what the engine is stuck in is told to `when_stuck`, which does not return.
pub fn run(plan: Plan, keep: Keep, when_stuck: fn()) -> Outcome {
    begin_world(&plan);
    begin_model(plan, keep);
    sim::set_patience(WAITS, when_stuck);
    let mut peers = Peers::new(plan.seed, plan.peers, plan.actions);
    if make_engine() {
        sim::set_faults(plan.faults, plan.odds());
        making::make_server();
        for _ in 0..plan.steps {
            sim::set_patience(WAITS, when_stuck);
            step(&mut peers);
            checks::all();
            if has_failed() {
                break;
            }
        }
        sim::set_patience(WAITS, when_stuck);
        finish(&mut peers);
    }
    drop(peers);
    model(Outcome::of)
}

impl Outcome {
    pub fn of(model: &mut Model) -> Outcome {
        Outcome {
            failure: model.failure.take(),
            digest: model.digest,
            trace: model.trace.take().unwrap_or_default(),
            tally: model.tally.take().unwrap_or_default(),
        }
    }
}

fn has_failed() -> bool {
    model(|model| model.failure.is_some())
}

fn begin_world(plan: &Plan) {
    let mut random = Rng::with_seed(plan.seed ^ 0x776f_726c);
    let room = |random: &mut Rng| match random.u8(0..4) {
        0 => random.usize(16..64),
        1 | 2 => random.usize(64..4_096),
        _ => random.usize(4_096..30_000),
    };
    let rooms = (room(&mut random), room(&mut random));
    let descriptor_limit = if random.u8(0..4) == 0 { random.u32(2..12) } else { u32::MAX };
    let of = |text: &str| text.parse::<SocketAddr>().unwrap();
    let many = ["10.9.0.1:0", "10.9.0.3:0", "[2001:db8::1]:0", "10.1.0.1:0"].map(of).to_vec();
    let names = vec![("many.test".to_string(), many), ("late.test".to_string(), vec![of("10.1.0.1:0")])];
    sim::begin(&sim::Setup { seed: plan.seed, descriptor_limit, rooms, names });
}

fn begin_model(plan: Plan, keep: Keep) {
    model::begin(Model {
        plan,
        random: Rng::with_seed(plan.seed ^ 0x686f_7374),
        callback_random: Rng::with_seed(plan.seed ^ 0x6d6f_6f64),
        engine: 0,
        is_destroyed: false,
        receive_buffer_bytes: 0,
        max_connections: 0,
        pool_bytes: 0,
        buffer_bytes: 0,
        in_call: false,
        depth: 0,
        is_polite: false,
        endpoints: Vec::new(),
        conns: Vec::new(),
        by_handle: Default::default(),
        streams: Vec::new(),
        next_token: 0,
        failure: None,
        digest: plan.seed,
        trace: (keep == Keep::Trace).then(Vec::new),
        tally: (keep == Keep::Tally).then(BTreeMap::new),
    });
}

fn make_engine() -> bool {
    let mut random = Rng::with_seed(model(|model| model.plan.seed) ^ 0x656e_6769);
    let mut config = common::engine_config();
    config.port = WHARF_TEST_PORT_SIM;
    config.flags = WHARF_ENGINE_CALLER_DRIVEN;
    config.max_connections = if random.bool() { random.u32(1..=8) } else { random.u32(8..=24) };
    config.buffer_bytes = [256, 320, 512, 1024][random.usize(0..4)];
    let blocks = [random.u64(1..=12), random.u64(1..=100), random.u64(100..=600)][random.usize(0..3)];
    config.pool_bytes = u64::from(config.buffer_bytes) * blocks;
    config.receive_buffer_bytes = [1024, 2048, 8192][random.usize(0..3)];
    config.log_level = if model(|model| model.trace.is_some()) { WHARF_LOG_DEBUG } else { WHARF_LOG_ERROR };
    config.on_log = Some(callbacks::on_log);
    let mut engine = 0;
    let mut error = common::error();
    let status = unsafe { wharf_engine_create(&config, &mut engine, &mut error) };
    if status != WHARF_OK {
        fail(format!("no engine: {}", common::message(&error)));
        return false;
    }
    model(|model| {
        model.engine = engine;
        model.max_connections = config.max_connections.into();
        model.pool_bytes = config.pool_bytes;
        model.buffer_bytes = config.buffer_bytes as usize;
        model.receive_buffer_bytes = config.receive_buffer_bytes as usize;
    });
    true
}

/// One turn; it must not fail.
fn turn(timeout_ms: i32) {
    let engine = model(|model| model.engine);
    let mut completions = 0;
    let status = unsafe { wharf_engine_turn(engine, timeout_ms, &mut completions) };
    model(|model| model.fold(completions.into()));
    let is_over = status == WHARF_E_STALE && model(|model| model.is_destroyed);
    if status != WHARF_OK && !is_over {
        fail(format!("a turn gave {}", common::name(status)));
    }
}

fn step(peers: &mut Peers) {
    let choice = model(|model| model.random.u8(0..32));
    match choice {
        0..10 => peers.act(),
        10..13 => {
            for _ in 0..6 {
                peers.act();
            }
        }
        13..15 => {
            let addresses: Vec<String> = model(|model| {
                let servers = model.endpoints.iter().filter(|endpoint| endpoint.is_server);
                servers.map(|endpoint| endpoint.address.clone()).collect()
            });
            peers.dial(&addresses);
        }
        15..22 => turn(0),
        22..25 => turn(model(|model| model.random.i32(1..50))),
        25 => turn(model(|model| model.random.i32(50..3_000))),
        26 => sim::run_ms(model(|model| model.random.u64(1..300))),
        _ => host::act(None),
    }
}

/// Without faults everything comes to rest; then all is stopped, and nothing is left.
fn finish(peers: &mut Peers) {
    model(|model| model.is_polite = true);
    sim::set_faults(0, [0; CLASSES]);
    sim::set_descriptor_limit(u32::MAX);
    if !has_failed() && !model(|model| model.is_destroyed) {
        resume_all();
        come_to_rest(peers);
    }
    if !has_failed() && !model(|model| model.is_destroyed) {
        stop_all();
        see_the_end(peers);
    }
    end_engine();
}

fn resume_all() {
    let paused: Vec<usize> =
        model(|model| (0..model.conns.len()).filter(|place| !model.conns[*place].is_closed).collect());
    for place in paused {
        if model(|model| model.conns[place].is_paused) {
            host::pause(place, false);
        }
    }
}

fn come_to_rest(peers: &mut Peers) {
    note!("-- no faults any more: everything comes to rest");
    let mut patience = Patience::default();
    let mut unrest = None;
    while patience.is_left() {
        peers.finish();
        turn(20);
        resume_all();
        checks::all();
        unrest = checks::unrest();
        if unrest.is_none() || has_failed() {
            return;
        }
    }
    fail(format!("after {TURNS_TO_REST} turns without faults {}", unrest.unwrap_or_default()));
}

fn stop_all() {
    note!("-- all is stopped");
    let count = model(|model| model.endpoints.len());
    for number in 0..count {
        if model(|model| !model.endpoints[number].is_destroyed) {
            match model(|model| model.random.u8(0..3)) {
                0 => making::destroy(number),
                _ => making::stop(number),
            }
        }
    }
}

fn see_the_end(peers: &mut Peers) {
    let mut patience = Patience::default();
    let mut held = None;
    while patience.is_left() {
        peers.finish();
        turn(50);
        checks::all();
        held = checks::nothing_is_held();
        if held.is_none() || has_failed() {
            return;
        }
    }
    fail(format!("{TURNS_TO_REST} turns after the stop {}", held.unwrap_or_default()));
}

/// The engine ends; every handler has had its last call.
fn end_engine() {
    note!("-- the engine ends");
    let (engine, drain_ms) = model(|model| (model.engine, model.random.u32(0..2_000)));
    let was_destroyed = model(|model| std::mem::replace(&mut model.is_destroyed, true));
    // This call does run callbacks.
    let status = unsafe { wharf_engine_destroy(engine, drain_ms) };
    if status != WHARF_OK && !(was_destroyed && status == WHARF_E_STALE) {
        fail(format!("the end of the engine gave {}", common::name(status)));
    }
    model(|model| {
        if model.conns.iter().any(|conn| !conn.is_closed) {
            model.fail("the engine is gone, and a connection had no on_close");
        }
        if model.endpoints.iter().any(|endpoint| !endpoint.is_dropped) {
            model.fail("the engine is gone, and a handler had no on_drop");
        }
    });
    if sim::engine_sockets() > 0 {
        fail(format!("the engine is gone, and {} descriptors are open", sim::engine_sockets()));
    }
    if call(|| unsafe { wharf_engine_wake(engine) }) != WHARF_E_STALE {
        fail("the handle of an engine that is gone does not give WHARF_E_STALE");
    }
}

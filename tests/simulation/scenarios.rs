//! Single scenarios in the simulated world: what a test on real sockets would wait weeks for, or meet once in a thousand runs.

use std::net::SocketAddr;

use wharf::port::sim::{self, Peer};

use crate::common::*;

const DAY_MS: u64 = 86_400_000;

/// A world without faults.
fn world() -> Engine {
    let setup = sim::Setup { seed: 7, descriptor_limit: u32::MAX, rooms: (4096, 4096), names: Vec::new() };
    sim::begin(&setup);
    Engine::with(WHARF_TEST_PORT_SIM, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN)
}

fn turn(engine: &Engine, timeout_ms: i32) {
    ok(unsafe { wharf_engine_turn(engine.0, timeout_ms, std::ptr::null_mut()) });
}

fn turns(engine: &Engine, count: u32) {
    (0..count).for_each(|_| turn(engine, 10));
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

#[test]
fn an_idle_deadline_holds_after_weeks_in_which_only_one_side_spoke() {
    let engine = world();
    let recorder = Recorder::new();
    engine.server_with(recorder.handler(), "127.0.0.1:500", |config| config.idle_timeout_ms = 10 * DAY_MS as u32);
    let peer = Peer::connect(at("10.0.0.1:0"), at("127.0.0.1:500")).unwrap();
    turns(&engine, 5);
    for _ in 0..3 {
        sim::advance_ms(9 * DAY_MS);
        assert_eq!(peer.send(b"here").unwrap(), 4);
        sim::run_ms(10);
        turns(&engine, 2);
    }
    assert_eq!(received(&recorder.events()).len(), 12);
    sim::advance_ms(9 * DAY_MS);
    turns(&engine, 2);
    assert_eq!(closes(&recorder.events()), []);
    sim::advance_ms(2 * DAY_MS);
    turns(&engine, 2);
    assert_eq!(recorder.wait_close(), WHARF_E_IDLE);
}

#[test]
fn a_client_that_is_stopped_before_on_open_ends_although_its_peer_never_does() {
    let engine = world();
    let listener = Peer::listen(at("10.1.0.1:700"), 1).unwrap();
    let recorder = Recorder::new();
    let client = engine.client_with(recorder.handler(), "10.1.0.1:700", |config| config.linger_ms = 100);
    // The turn that ends the connect enters the connection; its first event comes in the next one.
    while client.stats().connected == 0 {
        turn(&engine, 10);
    }
    let silent = listener.accept().unwrap();
    assert_eq!(opens(&recorder.events()), []);
    client.stop();
    turns(&engine, 50);
    assert_eq!(closes(&recorder.events()), [(0, WHARF_E_STOPPED)]);
    assert_eq!((client.stats().open, sim::engine_sockets()), (0, 0));
    // Thrown away with a reset, so that its local port is free at once.
    assert_eq!(silent.receive(&mut [0; 8]).unwrap_err().raw_os_error(), Some(libc::ECONNRESET));
}

#[test]
fn a_send_that_a_close_threw_away_is_not_told_as_sent() {
    let engine = world();
    let recorder = Recorder::new();
    engine.server_with(recorder.handler(), "127.0.0.1:500", |_| {});
    let _peer = Peer::connect(at("10.0.0.1:0"), at("127.0.0.1:500")).unwrap();
    turns(&engine, 5);
    let conn = recorder.wait_open();
    ok(send_token(conn, &[1; 20_000], 1));
    ok(close(conn, WHARF_CLOSE_NOW));
    turns(&engine, 2);
    let told = recorder.events().into_iter().filter(|event| matches!(event, Event::Sent(..) | Event::Close(..)));
    assert_eq!(told.collect::<Vec<_>>(), [Event::Sent(conn, 1, WHARF_E_CLOSED), Event::Close(conn, WHARF_OK)]);
}

#[test]
fn a_flushing_close_that_is_cut_short_tells_by_what() {
    let engine = world();
    let recorder = Recorder::new();
    let server = engine.server_with(recorder.handler(), "127.0.0.1:500", |_| {});
    let _peer = Peer::connect(at("10.0.0.1:0"), at("127.0.0.1:500")).unwrap();
    turns(&engine, 5);
    let conn = recorder.wait_open();
    ok(send(conn, &[1; 20_000]));
    ok(close(conn, WHARF_CLOSE_FLUSH));
    turns(&engine, 2);
    server.stop(0);
    turns(&engine, 2);
    assert_eq!(recorder.wait_close(), WHARF_E_STOPPED);
}

#[test]
fn a_send_that_no_pool_of_this_size_can_hold_is_told_so_and_not_to_wait() {
    let engine = {
        world();
        Engine::with(WHARF_TEST_PORT_SIM, |config| {
            config.flags = WHARF_ENGINE_CALLER_DRIVEN;
            config.buffer_bytes = 256;
            config.pool_bytes = 4 * 256;
        })
    };
    let recorder = Recorder::new();
    engine.server_with(recorder.handler(), "127.0.0.1:500", |_| {});
    let _peer = Peer::connect(at("10.0.0.1:0"), at("127.0.0.1:500")).unwrap();
    turns(&engine, 5);
    let conn = recorder.wait_open();
    assert_eq!(send(conn, &[1; 4 * 256 + 1]), WHARF_E_LIMIT);
    assert_eq!(send_token(conn, &[1; 4 * 256], 1), WHARF_E_LIMIT, "its token needs a block, too");
    ok(send(conn, &[1; 4 * 256]));
}

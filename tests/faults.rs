//! Faults on purpose: each is met, what the library promises holds all the same, and a seed does the same again.

mod common;

use std::io::{ErrorKind, Read};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

use common::*;

fn faulty(port: u32) -> Engine {
    Engine::with(port, |config| config.flags = WHARF_ENGINE_FAULTS)
}

fn plan(change: impl FnOnce(&mut wharf_fault_plan)) -> wharf_fault_plan {
    let mut plan = fault_plan();
    plan.seed = 1;
    change(&mut plan);
    plan
}

/// Begins a plan.
#[track_caller]
fn begin(engine: &Engine, change: impl FnOnce(&mut wharf_fault_plan)) {
    ok(unsafe { wharf_engine_set_faults(engine.0, &plan(change), null_mut()) });
}

/// All is well again.
#[track_caller]
fn end_faults(engine: &Engine) {
    ok(unsafe { wharf_engine_set_faults(engine.0, null(), null_mut()) });
}

/// Sizes of the pieces that a handler got.
fn pieces(recorder: &Recorder) -> Vec<usize> {
    let size = |event: &Event| if let Event::Receive(_, data) = event { Some(data.len()) } else { None };
    recorder.events().iter().filter_map(size).collect()
}

/// A server that sends back what it gets, keeping what is refused until there is room.
fn patient_echo() -> Arc<Recorder> {
    let kept = std::sync::Mutex::new(std::collections::HashMap::<u64, Vec<u8>>::new());
    Recorder::forgetful(move |event| {
        let mut kept = kept.lock().unwrap();
        let rest = kept.entry(event.conn()).or_default();
        match event {
            Event::Receive(_, data) => rest.extend_from_slice(data),
            Event::Writable(_) => {}
            // By then all has gone back: the other side ends only after that.
            Event::End(conn) => return ok(close(*conn, WHARF_CLOSE_FLUSH)),
            _ => return,
        }
        match send(event.conn(), rest) {
            WHARF_OK => rest.clear(),
            WHARF_E_QUEUE_FULL | WHARF_E_POOL_EXHAUSTED => {}
            other => assert!(matches!(other, WHARF_E_CLOSED | WHARF_E_RESET), "{}", name(other)),
        }
    })
}

/// Sends through a client of the same engine and gets all of it back, in order.
fn goes_and_comes_back_whole(engine: &Engine, server: &Server, len: usize) {
    let data = pattern(len as u64, len);
    let recorder = Recorder::new();
    engine.client(&recorder, &server.address());
    let conn = recorder.wait_open();
    for part in data.chunks(10_000) {
        let mut taken = 0;
        ok(unsafe { wharf_send_wait(conn, part.as_ptr().cast(), part.len(), 30_000, &mut taken) });
        assert_eq!(taken, part.len());
    }
    assert!(recorder.wait_received(len) == data, "the stream is not what was sent");
    ok(close(conn, WHARF_CLOSE_FLUSH));
    assert_eq!(recorder.wait_close(), WHARF_OK);
}

on_every_port! {
    fn an_engine_that_was_not_made_for_faults_has_none(port) {
        let engine = Engine::new(port);
        let mut error = error();
        let status = unsafe { wharf_engine_set_faults(engine.0, &plan(|plan| plan.resets_ppm = 1_000_000), &mut error) };
        assert_eq!(status, WHARF_E_STATE);
        assert!(message(&error).contains("WHARF_ENGINE_FAULTS"), "{}", message(&error));
        let server = engine.server(&patient_echo());
        goes_and_comes_back_whole(&engine, &server, 10_000);
    }

    fn nonsense_in_a_plan_is_refused_with_a_sentence_that_names_it(port) {
        let engine = faulty(port);
        type Change = fn(&mut wharf_fault_plan);
        let changes: [(&str, Change); 11] = [
            ("short_reads_ppm", |plan| plan.short_reads_ppm = 1_000_001),
            ("short_writes_ppm", |plan| plan.short_writes_ppm = 1_000_001),
            ("read_stalls_ppm", |plan| plan.read_stalls_ppm = 1_000_001),
            ("write_stalls_ppm", |plan| plan.write_stalls_ppm = 1_000_001),
            ("resets_ppm", |plan| plan.resets_ppm = 1_000_001),
            ("accept_exhaustions_ppm", |plan| plan.accept_exhaustions_ppm = 1_000_001),
            ("connect_exhaustions_ppm", |plan| plan.connect_exhaustions_ppm = 1_000_001),
            ("pool_exhaustions_ppm", |plan| plan.pool_exhaustions_ppm = u32::MAX),
            ("stall_ms", |plan| plan.stall_ms = 60_001),
            ("reserved", |plan| plan.reserved = 1),
            ("struct_size", |plan| plan.struct_size = 0),
        ];
        for (field, change) in changes {
            let mut error = error();
            let status = unsafe { wharf_engine_set_faults(engine.0, &plan(change), &mut error) };
            assert!(status == WHARF_E_INVALID_ARGUMENT && message(&error).contains(field), "{}", message(&error));
        }
    }

    fn without_a_plan_an_engine_with_the_flag_is_like_any_other(port) {
        let engine = faulty(port);
        let server = engine.server(&patient_echo());
        goes_and_comes_back_whole(&engine, &server, 1 << 20);
        let stats = engine.stats();
        assert_eq!((stats.closed_by_reset, stats.pool_exhausted, stats.descriptor_exhaustions), (0, 0, 0));
    }

    fn streams_stay_whole_in_pieces_of_sixteen_bytes(port) {
        let engine = faulty(port);
        begin(&engine, |plan| {
            plan.short_reads_ppm = 1_000_000;
            plan.short_writes_ppm = 1_000_000;
        });
        let kept = Recorder::new();
        let server = engine.server(&patient_echo());
        let other = engine.server(&kept);
        goes_and_comes_back_whole(&engine, &server, 8_000);
        let mut peer = other.connect();
        write_all(&mut peer, &pattern(3, 2_000));
        assert_eq!(kept.wait_received(2_000), pattern(3, 2_000));
        let sizes = pieces(&kept);
        assert!(sizes.iter().all(|size| (1..=16).contains(size)), "{sizes:?}");
        assert!(sizes.iter().any(|size| *size > 1) && sizes.len() > 2_000 / 16, "{sizes:?}");
    }

    fn streams_stay_whole_under_all_faults_but_resets(port) {
        for seed in 1..=20 {
            let engine = Engine::with(port, |config| {
                config.flags = WHARF_ENGINE_FAULTS;
                config.workers = 2;
            });
            begin(&engine, |plan| {
                plan.seed = seed;
                plan.short_reads_ppm = 300_000;
                plan.short_writes_ppm = 300_000;
                plan.read_stalls_ppm = 50_000;
                plan.write_stalls_ppm = 50_000;
                plan.stall_ms = 3;
                plan.pool_exhaustions_ppm = 100_000;
                plan.accept_exhaustions_ppm = 100_000;
            });
            let server = engine.server(&patient_echo());
            std::thread::scope(|threads| {
                for len in [1, 1_000, 50_000, 30_001] {
                    let (engine, server) = (&engine, &server);
                    threads.spawn(move || goes_and_comes_back_whole(engine, server, len));
                }
            });
            assert_eq!(engine.stats().pool_blocks_in_use, 0);
        }
    }

    fn the_descriptor_of_a_driven_engine_tells_of_what_was_put_off(port) {
        let engine = Engine::with(port, |config| config.flags = WHARF_ENGINE_FAULTS | WHARF_ENGINE_CALLER_DRIVEN);
        begin(&engine, |plan| {
            plan.short_reads_ppm = 500_000;
            plan.short_writes_ppm = 500_000;
            plan.read_stalls_ppm = 300_000;
            plan.write_stalls_ppm = 300_000;
            plan.stall_ms = 2;
        });
        let server = engine.server(&patient_echo());
        let mut fd = -1;
        ok(unsafe { wharf_engine_fd(engine.0, &mut fd) });
        let address = server.address();
        let talk = std::thread::spawn(move || {
            let mut peer = connect(&address);
            write_all(&mut peer, &pattern(5, 30_000));
            assert!(read_exact(&mut peer, 30_000) == pattern(5, 30_000));
        });
        let begin = Instant::now();
        while !talk.is_finished() {
            ok(unsafe { wharf_engine_turn(engine.0, 0, null_mut()) });
            let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // A stall takes 2 ms; who is not told of its end would wait all of this each time.
            let told = unsafe { libc::poll(&mut poll, 1, 3_000) };
            assert!(told == 1 || talk.is_finished(), "the descriptor was not readable when a turn was due");
            assert!(begin.elapsed() < PATIENCE);
        }
        talk.join().unwrap();
    }

    fn a_reset_ends_the_connection_on_both_sides(port) {
        let engine = faulty(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let (mut reads, mut writes) = (server.connect(), server.connect());
        let conns = recorder.wait_opens(2);
        begin(&engine, |plan| plan.resets_ppm = 1_000_000);
        // At a read of this side ...
        write_all(&mut reads, b"x");
        assert_eq!(reads.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        recorder.wait_closes(1);
        // ... and at a write.
        let left = *conns.iter().find(|conn| closes(&recorder.events())[0].0 != **conn).unwrap();
        assert_eq!(send(left, b"y"), WHARF_E_RESET);
        assert_eq!(writes.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert!(recorder.wait_closes(2).iter().all(|(_, reason)| *reason == WHARF_E_RESET));
        until("both are counted", || server.stats().closed_by_reset == 2);
        assert!(received(&recorder.events()).is_empty());
    }

    fn a_reset_at_a_read_that_finds_nothing_is_one_for_the_peer_as_well(port) {
        let engine = faulty(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peers: Vec<_> = (0..40).map(|_| server.connect()).collect();
        let conns = recorder.wait_opens(40);
        begin(&engine, |plan| plan.resets_ppm = 500_000);
        // A read takes the byte, and one looks for more: each may meet the reset.
        peers.iter_mut().for_each(|peer| write_all(peer, b"x"));
        let is_told = |events: &[Event], conn: &u64| events.iter().any(|event| event.conn() == *conn && !matches!(event, Event::Open(_)));
        recorder.wait("each to be read or reset", |events| conns.iter().all(|conn| is_told(events, conn)));
        end_faults(&engine);
        for conn in &conns {
            let _ = send(*conn, b"y");
        }
        let mut resets = 0;
        for mut peer in peers {
            match peer.read(&mut [0; 1]) {
                Ok(1) => {}
                Ok(_) => panic!("ended instead of reset"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    resets += 1;
                }
            }
        }
        assert!((10..40).contains(&resets), "{resets}");
    }

    fn resets_now_and_then_lose_nothing_but_connections(port) {
        let engine = faulty(port);
        let recorder = patient_echo();
        let server = engine.server(&recorder);
        begin(&engine, |plan| {
            plan.resets_ppm = 50_000;
            plan.short_reads_ppm = 200_000;
            plan.short_writes_ppm = 200_000;
        });
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let recorder = Recorder::forgetful(|event| {
                    if let Event::Open(conn) | Event::Receive(conn, _) = event {
                        let _ = send(*conn, &[7; 500]);
                    }
                });
                (engine.client(&recorder, &server.address()), recorder)
            })
            .collect();
        for (_, client) in &clients {
            client.wait_close();
            assert_eq!(closes(&client.events()).len(), 1);
        }
        until("all are gone", || engine.stats().open == 0);
        let stats = engine.stats();
        assert_eq!(stats.accepted + stats.connected, stats.closed);
        assert_eq!(stats.pool_blocks_in_use, 0);
        assert_eq!(opens(&recorder.events()).len(), closes(&recorder.events()).len());
    }

    fn without_descriptors_accepting_rests_and_goes_on(port) {
        let engine = faulty(port);
        let recorder = patient_echo();
        let server = engine.server(&recorder);
        begin(&engine, |plan| plan.accept_exhaustions_ppm = 1_000_000);
        let mut peer = server.connect();
        until("it has backed off twice", || server.stats().descriptor_exhaustions >= 2);
        assert_eq!(server.stats().accepted, 0);
        end_faults(&engine);
        write_all(&mut peer, b"at last");
        assert_eq!(read_exact(&mut peer, 7), b"at last");
    }

    fn without_descriptors_a_connect_fails_and_a_later_one_succeeds(port) {
        let engine = faulty(port);
        let server = engine.server(&patient_echo());
        begin(&engine, |plan| plan.connect_exhaustions_ppm = 1_000_000);
        let recorder = Recorder::new();
        engine.client(&recorder, &server.address());
        assert_eq!(recorder.wait_closes(1), [(0, WHARF_E_TOO_MANY_FILES)]);
        let stubborn = Recorder::new();
        engine.client_with(stubborn.handler(), &server.address(), |config| {
            config.reconnect_min_ms = 1;
            config.reconnect_max_ms = 2;
        });
        stubborn.wait_closes(3);
        end_faults(&engine);
        stubborn.wait_open();
    }

    fn without_room_in_the_pool_nothing_is_taken_and_on_writable_follows(port) {
        let engine = faulty(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        begin(&engine, |plan| plan.pool_exhaustions_ppm = 1_000_000);
        assert_eq!(send(conn, b"refused"), WHARF_E_POOL_EXHAUSTED);
        recorder.wait("on_writable", |events| events.contains(&Event::Writable(conn)));
        assert_eq!(send_token(conn, b"refused", 9), WHARF_E_POOL_EXHAUSTED);
        recorder.wait("on_writable", |events| events.iter().filter(|event| **event == Event::Writable(conn)).count() == 2);
        end_faults(&engine);
        ok(send_token(conn, b"taken", 10));
        assert_eq!(read_exact(&mut peer, 5), b"taken");
        let events = recorder.wait("on_sent", |events| events.iter().any(|event| matches!(event, Event::Sent(..))));
        assert!(!events.iter().any(|event| matches!(event, Event::Sent(_, 9, _))), "{events:?}");
        assert_eq!(engine.stats().pool_exhausted, 2);
    }

    fn a_stalled_write_waits_in_the_queue_until_the_stall_is_over(port) {
        let engine = faulty(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.send_queue_limit_bytes = 1_000);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        begin(&engine, |plan| {
            plan.write_stalls_ppm = 1_000_000;
            plan.stall_ms = 5;
        });
        let mut taken = Vec::new();
        while send(conn, &pattern(taken.len() as u64, 100)) == WHARF_OK {
            taken.extend(pattern(taken.len() as u64, 100));
            assert!(taken.len() <= 1_000, "the queue is bounded");
        }
        assert_eq!((taken.len(), server.stats().queued_bytes), (1_000, 1_000));
        end_faults(&engine);
        assert!(read_exact(&mut peer, 1_000) == taken);
        recorder.wait("on_writable", |events| events.contains(&Event::Writable(conn)));
    }

    fn a_stalled_read_comes_when_the_stall_is_over(port) {
        let engine = faulty(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        recorder.wait_open();
        begin(&engine, |plan| {
            plan.read_stalls_ppm = 1_000_000;
            plan.stall_ms = 2;
        });
        write_all(&mut peer, b"later");
        end(&peer);
        // A stall after the other, for as long as the plan holds.
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(recorder.events().len(), 1, "{:?}", recorder.events());
        end_faults(&engine);
        assert_eq!(recorder.wait_received(5), b"later");
        recorder.wait("on_end", |events| events.iter().any(|event| matches!(event, Event::End(_))));
    }

    fn pull_mode_has_the_same_faults(port) {
        let engine = faulty(port);
        let recorder = Recorder::new();
        let handler = recorder.handler_without(Without { receive: true, ..Without::default() });
        let server = engine.server_with(handler, "127.0.0.1:0", |_| {});
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        begin(&engine, |plan| {
            plan.short_reads_ppm = 1_000_000;
            plan.read_stalls_ppm = 100_000;
            plan.stall_ms = 2;
        });
        write_all(&mut peer, &pattern(8, 2_000));
        let mut data = Vec::new();
        while data.len() < 2_000 {
            let (mut buffer, mut got) = ([0; 4096], 0);
            ok(unsafe { wharf_receive_wait(conn, buffer.as_mut_ptr().cast(), buffer.len(), 30_000, &mut got) });
            assert!((1..=16).contains(&got), "{got}");
            data.extend_from_slice(&buffer[..got]);
        }
        assert!(data == pattern(8, 2_000));
    }

    fn the_same_seed_does_the_same_again(port) {
        let cut = |seed: u64| {
            let engine = faulty(port);
            let recorder = Recorder::with_hook(|event| {
                if let Event::Open(conn) = event {
                    ok(unsafe { wharf_conn_pause(*conn) });
                }
            });
            let server = engine.server(&recorder);
            begin(&engine, |plan| {
                plan.seed = seed;
                plan.short_reads_ppm = 1_000_000;
            });
            let mut peer = server.connect();
            let conn = recorder.wait_open();
            write_all(&mut peer, &[1; 1_000]);
            ok(unsafe { wharf_conn_resume(conn) });
            recorder.wait_received(1_000);
            let mut sizes = pieces(&recorder);
            // The last piece is what is left.
            sizes.pop();
            sizes
        };
        let first = cut(42);
        assert_eq!(first, cut(42));
        assert_ne!(first, cut(43));
    }
}

#[test]
fn footprint_counts_what_faults_need() {
    for port in [WHARF_PORT_EPOLL, WHARF_PORT_POLLING] {
        let bytes = AtomicU64::new(0);
        let engine = Engine::with(port, |config| {
            config.flags = WHARF_ENGINE_FAULTS;
            let mut told = 0;
            ok(unsafe { wharf_engine_footprint(config, &mut told) });
            bytes.store(told, SeqCst);
        });
        assert_eq!(engine.stats().heap_bytes, bytes.load(SeqCst));
    }
}

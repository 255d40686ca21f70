//! Connections, queues and the pool never go past what they were given, and nothing is lost on the way.

mod common;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use common::*;

/// A peer whose receive buffer is small, so that a stalled reader shows soon.
fn slow_config(config: &mut wharf_server_config) {
    config.socket_send_buffer_bytes = 4096;
}

on_every_port! {
    fn permits_are_never_exceeded_and_never_lost_under_ten_thousand_connects(port) {
        const LIMIT: u32 = 8;
        const CONNECTS: u64 = 10_000;
        let engine = Engine::with(port, |config| {
            config.workers = 2;
            config.max_connections = 64;
        });
        let open = Arc::new(AtomicU64::new(0));
        let most = Arc::new(AtomicU64::new(0));
        let (now, peak) = (open.clone(), most.clone());
        let recorder = Recorder::forgetful(move |event| match event {
            Event::Open(conn) => {
                peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                if conn & 1 == 0 {
                    close(*conn, if conn & 2 == 0 { WHARF_CLOSE_NOW } else { WHARF_CLOSE_RESET });
                }
            }
            Event::Close(..) => {
                now.fetch_sub(1, SeqCst);
            }
            Event::End(conn) => {
                close(*conn, WHARF_CLOSE_FLUSH);
            }
            _ => {}
        });
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.max_connections = LIMIT;
            // A full backlog would drop connects, to be tried again by the kernel a second later.
            config.backlog = 4096;
        });
        let address = server.address();
        let threads: Vec<_> = (0..8u64)
            .map(|thread| {
                let address = address.clone();
                std::thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(thread);
                    for _ in 0..CONNECTS / 8 {
                        // A connect may meet a full backlog or a reset; it counts all the same.
                        if let Ok(peer) = TcpStream::connect(&address) {
                            if random.u8(0..4) == 0 {
                                let _ = peer.shutdown(std::net::Shutdown::Write);
                                let _ = std::io::Read::read(&mut &peer, &mut [0; 1]);
                            }
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        until("all are closed", || {
            let stats = server.stats();
            stats.open == 0 && stats.accepted > 0
        });
        assert!(most.load(SeqCst) <= LIMIT.into(), "{} were open at once", most.load(SeqCst));
        // Not one permit was lost: the limit can be reached again, and not exceeded.
        let peers: Vec<_> = (0..LIMIT).map(|_| server.connect()).collect();
        until("the limit is reached again or all were closed by the handler", || server.stats().accepted >= u64::from(LIMIT));
        let stats = server.stats();
        assert_eq!(stats.accepted, stats.open + stats.closed);
        drop(peers);
        until("all are closed", || server.stats().open == 0);
        assert_eq!(engine.stats().pool_blocks_in_use, 0);
    }

    fn the_last_places_are_filled_although_workers_race_for_them(port) {
        // Both workers wake for each connection. One takes a permit and finds that the other was faster; meanwhile that
        // one finds no permit and stops accepting. It must go on when the permit is back.
        let engine = Engine::with(port, |config| config.workers = 2);
        for most in [1, 2, 3].repeat(100) {
            let recorder = Recorder::new();
            let server =
                engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.max_connections = most);
            let peers: Vec<_> = (0..most).map(|_| server.connect()).collect();
            recorder.wait_opens(most as usize);
            drop(peers);
            server.destroy();
            recorder.wait_drop();
        }
    }

    fn at_the_limit_wait_leaves_connections_in_the_backlog(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.max_connections = 2);
        let first = server.connect();
        let _second = server.connect();
        let mut third = server.connect();
        write_all(&mut third, b"patient");
        recorder.wait_opens(2);
        until("accepting is paused", || server.stats().accept_pauses >= 1);
        assert_eq!(server.stats().open, 2);
        drop(first);
        let conn = recorder.wait("the end of the first", |events| events.iter().any(|event| matches!(event, Event::End(_))));
        let ended = conn.iter().find_map(|event| if let Event::End(conn) = event { Some(*conn) } else { None }).unwrap();
        ok(close(ended, WHARF_CLOSE_FLUSH));
        recorder.wait_opens(3);
        assert_eq!(recorder.wait_received(7), b"patient");
    }

    fn at_the_limit_reject_resets_and_counts(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.max_connections = 1;
            config.at_limit = WHARF_AT_LIMIT_REJECT;
        });
        let _first = server.connect();
        recorder.wait_open();
        let mut second = server.connect();
        let error = std::io::Read::read(&mut second, &mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        assert_eq!(server.stats().refused_at_limit, 1);
        assert_eq!(server.stats().open, 1);
    }

    fn one_address_gets_only_its_share(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.max_connections_per_ip = 2);
        let first = server.connect();
        let _second = server.connect();
        recorder.wait_opens(2);
        let mut third = server.connect();
        assert!(std::io::Read::read(&mut third, &mut [0; 1]).is_err());
        assert_eq!(server.stats().refused_per_ip, 1);
        for conn in recorder.wait_opens(2) {
            ok(close(conn, WHARF_CLOSE_NOW));
        }
        recorder.wait_closes(2);
        drop(first);
        until("a place is free", || server.stats().open == 0);
        let _fourth = server.connect();
        recorder.wait_opens(3);
    }

    fn servers_and_clients_together_stay_within_the_engine(port) {
        let engine = Engine::with(port, |config| config.max_connections = 3);
        let served = Recorder::new();
        let server = engine.server(&served);
        let peers = [server.connect(), server.connect()];
        served.wait_opens(2);
        let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = elsewhere.local_addr().unwrap().to_string();
        let dialled = Recorder::new();
        let _first = engine.client(&dialled, &address);
        dialled.wait_open();
        let refused = Recorder::new();
        let second = engine.client(&refused, &address);
        assert_eq!(refused.wait_close(), WHARF_E_LIMIT);
        assert_eq!(second.wait(60_000).0, WHARF_E_LIMIT);
        assert_eq!(engine.stats().open, 3);
        drop(peers);
    }

    fn a_slow_reader_costs_no_more_than_the_queue_limit_and_is_told_when_there_is_room(port) {
        const LIMIT: u32 = 64 << 10;
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            slow_config(config);
            config.send_queue_limit_bytes = LIMIT;
        });
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let piece = pattern(9, 4000);
        let mut taken = 0;
        let refusal = loop {
            match send(conn, &piece) {
                WHARF_OK => taken += 1,
                status => break status,
            }
            assert!(server.stats().queued_bytes <= LIMIT.into());
        };
        assert_eq!(refusal, WHARF_E_QUEUE_FULL);
        let stats = engine.stats();
        assert!(stats.queued_bytes <= LIMIT.into() && stats.queued_bytes > u64::from(LIMIT) - 4000, "{}", stats.queued_bytes);
        assert!(stats.pool_blocks_in_use <= u64::from(LIMIT) / 4096 + 1);
        assert!(stats.queue_full >= 1);
        // A hundred more refusals take nothing.
        for _ in 0..100 {
            assert_eq!(send(conn, &piece), WHARF_E_QUEUE_FULL);
        }
        assert_eq!(engine.stats().queued_bytes, stats.queued_bytes);
        let data = read_exact(&mut peer, taken * piece.len());
        assert!(data.chunks(4000).all(|chunk| chunk == piece), "what arrived is what was taken");
        recorder.wait("on_writable", |events| events.contains(&Event::Writable(conn)));
        ok(send(conn, &piece));
        assert_eq!(read_exact(&mut peer, 4000), piece);
        assert_eq!(recorder.events().iter().filter(|event| **event == Event::Writable(conn)).count(), 1);
    }

    fn an_exhausted_pool_refuses_whole_sends_and_tells_when_there_is_room(port) {
        let engine = Engine::with(port, |config| {
            config.buffer_bytes = 1024;
            config.pool_bytes = 64 << 10;
        });
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", slow_config);
        let mut stuck = server.connect();
        let first = recorder.wait_open();
        let mut other = server.connect();
        let second = recorder.wait_opens(2)[1];
        let mut taken = 0;
        while send(first, &[5; 3000]) == WHARF_OK {
            taken += 3000;
        }
        assert_eq!(send(first, &[5; 3000]), WHARF_E_POOL_EXHAUSTED);
        // The other connection shares the pool: what it cannot be given it is refused whole, and told about later.
        let status = send(second, &[6; 8000]);
        assert_eq!(status, WHARF_E_POOL_EXHAUSTED);
        assert_eq!(engine.stats().pool_blocks, 64);
        assert!(engine.stats().pool_blocks_in_use <= 64);
        assert_eq!(read_exact(&mut stuck, taken), vec![5; taken]);
        recorder.wait("on_writable of both", |events| {
            events.contains(&Event::Writable(first)) && events.contains(&Event::Writable(second))
        });
        ok(send(second, &[6; 8000]));
        assert_eq!(read_exact(&mut other, 8000), [6; 8000]);
        until("the pool is whole again", || engine.stats().pool_blocks_in_use == 0);
        assert!(engine.stats().pool_exhausted >= 2 && engine.stats().pool_blocks_peak <= 64);
    }

    fn a_send_is_taken_whole_or_not_at_all(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            slow_config(config);
            config.send_queue_limit_bytes = 50_000;
        });
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        assert_eq!(send(conn, &vec![0; 50_001]), WHARF_E_LIMIT);
        let mut random = fastrand::Rng::with_seed(4);
        let mut expected = Vec::new();
        let reader = {
            let mut peer = peer.try_clone().unwrap();
            let go = Arc::new(AtomicBool::new(false));
            let start = go.clone();
            (std::thread::spawn(move || {
                while !start.load(SeqCst) {
                    std::thread::yield_now();
                }
                let mut all: Vec<u8> = Vec::new();
                let mut buffer = vec![0; 777];
                loop {
                    match std::io::Read::read(&mut peer, &mut buffer).unwrap() {
                        0 => return all,
                        len => all.extend(&buffer[..len]),
                    }
                }
            }), go)
        };
        let mut refused = 0;
        for round in 0..3000u32 {
            let message = vec![round as u8; random.usize(1..20_000)];
            match send(conn, &message) {
                WHARF_OK => expected.extend(message),
                WHARF_E_QUEUE_FULL => refused += 1,
                other => panic!("{}", name(other)),
            }
            if refused == 10 {
                reader.1.store(true, SeqCst);
            }
        }
        assert!(refused >= 10, "the reader was never slow");
        ok(close(conn, WHARF_CLOSE_FLUSH));
        assert!(reader.0.join().unwrap() == expected, "what arrived is not what was taken");
        end(&peer);
        let _ = std::io::Read::read(&mut peer, &mut [0; 1]);
    }

    fn what_an_engine_sets_aside_is_told_before_and_true_after(port) {
        for connections in [1, 1000] {
            let mut config = engine_config();
            config.port = port;
            config.max_connections = connections;
            config.pool_bytes = 1 << 20;
            let mut bytes = 0;
            ok(unsafe { wharf_engine_footprint(&config, &mut bytes) });
            let engine = Engine::with(port, |real| {
                real.max_connections = connections;
                real.pool_bytes = 1 << 20;
            });
            assert_eq!(engine.stats().heap_bytes, bytes);
            assert!(bytes > 1 << 20 && bytes < (1 << 20) + (128 << 10) + u64::from(connections) * 512, "{bytes}");
        }
    }
}

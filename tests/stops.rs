//! Stops: what is accepted meanwhile, what whoever is connected finds, and that the counters add up at every moment.

mod common;

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::fd::IntoRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use common::*;

/// What a peer finds: the end of the stream (after so many bytes), or a reset.
fn outcome(peer: &mut TcpStream) -> Result<usize, ErrorKind> {
    let mut bytes = Vec::new();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.read_to_end(&mut bytes).map_err(|error| error.kind())
}

/// A server whose descriptor this test holds, too; not yet started.
fn inheriting(engine: &Engine, handler: wharf_handler, listener: &TcpListener) -> Server {
    let mut config = server_config();
    config.listen_fd_plus_one = listener.try_clone().unwrap().into_raw_fd() + 1;
    let mut server = 0;
    ok(unsafe { wharf_server_create(engine.0, &config, &handler, &mut server, std::ptr::null_mut()) });
    Server(server)
}

on_every_port! {
    fn who_has_nothing_queued_finds_the_end_of_the_stream_however_a_server_ends(port) {
        // The peer of the last stays and sends nothing: nobody waits for it.
        let ends: [fn(&Engine, Server); 4] = [
            |_, server| server.stop(0),
            |_, server| server.stop(1),
            |_, server| ok(server.destroy()),
            |engine, _| ok(engine.destroy(0)),
        ];
        for end in ends {
            let engine = Engine::new(port);
            let recorder = Recorder::with_hook(|event| {
                if let Event::Open(conn) = event {
                    ok(unsafe { wharf_conn_pause(*conn) });
                }
            });
            let server = engine.server(&recorder);
            let (mut idle, mut unread) = (server.connect(), server.connect());
            write_all(&mut unread, &pattern(1, 200_000)); // Waits in the kernel: a close alone would be a reset.
            recorder.wait_opens(2);
            end(&engine, server);
            assert_eq!((outcome(&mut idle), outcome(&mut unread)), (Ok(0), Ok(0)));
            let closes = recorder.wait_closes(2);
            assert!(closes.iter().all(|close| close.1 == WHARF_E_STOPPED));
        }
    }

    fn who_has_bytes_queued_is_reset_by_a_stop_without_a_drain(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.send_queue_limit_bytes = 8 << 20;
            config.socket_send_buffer_bytes = 4096;
        });
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        ok(send(conn, &vec![1; 8 << 20]));
        server.stop(0);
        server.wait();
        assert_eq!(outcome(&mut peer), Err(ErrorKind::ConnectionReset));
        let stats = server.stats();
        assert_eq!((stats.drained, stats.drain_resets), (0, 1));
    }

    fn a_download_that_its_peer_cuts_in_a_drain_is_not_counted_as_drained(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.send_queue_limit_bytes = 8 << 20;
            config.socket_send_buffer_bytes = 4096;
        });
        let (cut, idle) = (server.connect(), server.connect());
        let conns = recorder.wait_opens(2);
        let own = cut.local_addr().unwrap().to_string();
        let peer_of = |conn| text(|buffer, len, needed| unsafe { wharf_conn_peer_address(conn, buffer, len, needed) });
        let conn = conns.into_iter().find(|conn| peer_of(*conn) == own).unwrap();
        ok(send(conn, &vec![1; 8 << 20]));
        server.stop(60_000);
        drop((cut, idle)); // The first has bytes unread: its close is a reset.
        server.wait();
        let stats = server.stats();
        assert_eq!((stats.drained, stats.drain_resets), (1, 0));
        assert_eq!((stats.accepted, stats.closed), (2, 2));
    }

    fn a_stop_in_the_middle_of_a_batch_leaves_the_rest_to_those_who_share_the_backlog(port) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peers: Vec<_> = (0..8).map(|_| connect(&listener.local_addr().unwrap().to_string())).collect();
        peers.iter_mut().for_each(|peer| write_all(peer, b"hello"));
        let engine = Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN);
        let own: Arc<OnceLock<Server>> = Arc::default();
        let (asked, to_stop) = (AtomicU32::new(0), own.clone());
        let recorder = Recorder::new();
        let handler = recorder.handler_asking(move |_| {
            if asked.fetch_add(1, SeqCst) == 2 {
                to_stop.get().unwrap().stop(60_000);
            }
            WHARF_ADMIT_ACCEPT
        });
        let server = inheriting(&engine, handler, &listener);
        own.set(server).ok().unwrap();
        server.start();
        let turn = || ok(unsafe { wharf_engine_turn(engine.0, 1, std::ptr::null_mut()) });
        until("three are told of the end", || {
            turn();
            peers.iter().filter(|peer| peek(peer) == Some(0)).count() == 3
        });
        assert_eq!(peers.iter().filter(|peer| peek(peer).is_none()).count(), 5);
        listener.set_nonblocking(true).unwrap();
        let left: Vec<_> = std::iter::from_fn(|| listener.accept().ok()).collect();
        assert_eq!(left.len(), 5, "the others wait in the backlog");
        drop((peers, left));
        until("it is stopped", || {
            turn();
            let stats = server.stats();
            (stats.accepted, stats.closed, stats.open) == (3, 3, 0)
        });
    }

    fn the_counters_add_up_at_every_moment_of_a_stop(port) {
        let engine = Engine::with(port, |config| config.workers = 4);
        let recorder = Recorder::forgetful(|_| {});
        let server = engine.server(&recorder);
        let is_over = AtomicBool::new(false);
        let is_right = |stats: &wharf_stats, of: &str| {
            assert_eq!(stats.accepted, stats.open + stats.closed, "{of}");
            let by_reason = stats.closed_by_us + stats.closed_by_peer + stats.closed_by_reset;
            let by_reason = by_reason + stats.closed_by_timeout + stats.closed_by_stop + stats.closed_by_error;
            assert_eq!(stats.closed, by_reason, "{of}");
            assert!(stats.drained + stats.drain_resets <= stats.closed, "{of}");
        };
        let address = server.address();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(SeqCst) {
                        let Ok(mut peer) = TcpStream::connect(&address) else { continue };
                        peer.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
                        let _ = peer.read(&mut [0; 8]);
                    }
                });
            }
            scope.spawn(|| {
                while !is_over.load(SeqCst) {
                    is_right(&server.stats(), "the server's");
                    is_right(&engine.stats(), "the engine's");
                }
            });
            for round in 0..30_u64 {
                let before = server.stats().accepted;
                until("somebody comes", || server.stats().accepted > before);
                server.stop(if round % 2 == 0 { 0 } else { 1000 });
                server.wait();
                let stats = server.stats();
                assert_eq!((stats.open, stats.accepted), (0, stats.closed));
                // Its port may be a peer's own by now, which is let go soon.
                until("it listens again", || unsafe { wharf_server_start(server.0, std::ptr::null_mut()) } == WHARF_OK);
                if server.address() != address {
                    break;
                }
            }
            is_over.store(true, SeqCst);
        });
    }

    fn many_that_are_accepted_at_once_are_shared_evenly_by_the_workers(port) {
        const PEERS: usize = 96;
        let engine = Engine::with(port, |config| config.workers = 4);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let address = server.address();
        let peers: Vec<TcpStream> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| (0..PEERS / 8).map(|_| connect(&address)).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let mut of_worker = [0; 4];
        for conn in recorder.wait_opens(PEERS) {
            let mut stats = conn_stats();
            ok(unsafe { wharf_conn_stats(conn, &mut stats) });
            of_worker[stats.worker as usize] += 1;
        }
        assert_eq!(of_worker, [PEERS / 4; 4]);
        drop(peers);
    }
}

/// What a read would give now: None: it would wait.
fn peek(peer: &TcpStream) -> Option<usize> {
    peer.set_nonblocking(true).unwrap();
    match peer.peek(&mut [0; 8]) {
        Ok(length) => Some(length),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) => panic!("a peer was reset: {error}"),
    }
}

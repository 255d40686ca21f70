//! Deadlines: idle, first byte, send stall; changed for one connection; the active are left alone.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};

use common::*;

on_every_port! {
    fn an_idle_connection_is_closed_and_an_active_one_is_not(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.idle_timeout_ms = 300);
        let _idle = server.connect();
        let idle = recorder.wait_open();
        let mut active = server.connect();
        let active_conn = recorder.wait_opens(2)[1];
        let begin = Instant::now();
        while closes(&recorder.lock()).is_empty() {
            write_all(&mut active, b"x");
            assert!(begin.elapsed() < PATIENCE);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert!(begin.elapsed() >= Duration::from_millis(250), "{:?}", begin.elapsed());
        assert_eq!(closes(&recorder.lock())[0], (idle, WHARF_E_IDLE));
        ok(send(active_conn, b"y"));
    }

    fn a_peer_that_never_speaks_is_closed_at_the_first_byte_deadline(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.first_byte_timeout_ms = 200);
        let mut speaks = server.connect();
        write_all(&mut speaks, b"x");
        recorder.wait_received(1);
        let first = recorder.wait_open();
        let _silent = server.connect();
        let (conn, reason) = recorder.wait_closes(1)[0];
        assert_eq!(reason, WHARF_E_FIRST_BYTE);
        assert_ne!(conn, first);
        ok(send(first, b"still here"));
    }

    fn a_peer_that_takes_nothing_is_closed_as_stalled(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.send_stall_timeout_ms = 200;
            config.socket_send_buffer_bytes = 4096;
            config.send_queue_limit_bytes = 8 << 20;
        });
        let _peer = server.connect();
        let conn = recorder.wait_open();
        ok(send(conn, &vec![0; 8 << 20]));
        assert_eq!(recorder.wait_close(), WHARF_E_SEND_STALLED);
        assert_eq!(engine.stats().pool_blocks_in_use, 0);
    }

    fn deadlines_of_one_connection_can_be_changed(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.idle_timeout_ms = 3_600_000);
        let _first = server.connect();
        let _second = server.connect();
        let conns = recorder.wait_opens(2);
        let mut change = timeouts();
        change.idle_timeout_ms = 100;
        ok(unsafe { wharf_conn_set_timeouts(conns[1], &change) });
        assert_eq!(recorder.wait_closes(1), [(conns[1], WHARF_E_IDLE)]);
        until("it is counted", || server.stats().closed_by_timeout == 1);
    }

    fn what_has_arrived_is_served_before_deadlines_are_judged(port) {
        const IDLE: Duration = Duration::from_millis(1500);
        let engine = Engine::new(port);
        let (tells, blocks) = std::sync::mpsc::sync_channel(1);
        let recorder = Recorder::with_hook(move |event| match event {
            // A callback that blocks for longer than the idle timeout: all deadlines have passed when it returns.
            Event::Receive(conn, data) if data == b"block" => {
                tells.send(()).unwrap();
                let begin = Instant::now();
                while begin.elapsed() < IDLE + Duration::from_millis(100) {
                    std::thread::park_timeout(IDLE / 10);
                }
                ok(send(*conn, b"done"));
            }
            Event::Receive(conn, data) => ok(send(*conn, data)),
            _ => {}
        });
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.idle_timeout_ms = IDLE.as_millis() as u32;
        });
        let mut peers: Vec<_> = (0..400).map(|_| server.connect()).collect();
        let mut blocker = server.connect();
        let mut silent = server.connect();
        let conns = recorder.wait_opens(402);
        write_all(&mut blocker, b"block");
        blocks.recv_timeout(PATIENCE).unwrap();
        // More than the port tells at one go.
        peers.iter_mut().for_each(|peer| write_all(peer, b"in time"));
        for peer in &mut peers {
            assert_eq!(read_exact(peer, 7), b"in time");
        }
        assert_eq!(read_exact(&mut blocker, 4), b"done");
        assert_eq!(read_to_end(&mut silent), b"");
        let (conn, reason) = recorder.wait_closes(1)[0];
        assert!(reason == WHARF_E_IDLE && conns.contains(&conn));
    }

    fn deadlines_are_judged_although_the_worker_is_never_done(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::forgetful(|event| {
            if let Event::Receive(conn, data) = event {
                // So long that a deadline that has passed is seen late; meanwhile the other peers ask.
                std::thread::park_timeout(Duration::from_millis(6));
                ok(send(*conn, data));
            }
        });
        let server = engine.server(&recorder);
        let mut silent = server.connect();
        let conn = recorder.wait_open();
        let stop = Arc::new(AtomicBool::new(false));
        let askers = [(); 6].map(|()| {
            let (mut peer, stop) = (server.connect(), stop.clone());
            std::thread::spawn(move || {
                while !stop.load(SeqCst) {
                    write_all(&mut peer, b"x");
                    read_exact(&mut peer, 1);
                }
            })
        });
        let mut change = timeouts();
        change.idle_timeout_ms = 100;
        ok(unsafe { wharf_conn_set_timeouts(conn, &change) });
        assert_eq!(recorder.wait_closes(1), [(conn, WHARF_E_IDLE)]);
        assert_eq!(read_to_end(&mut silent), b"");
        stop.store(true, SeqCst);
        askers.into_iter().for_each(|asker| asker.join().unwrap());
    }
}

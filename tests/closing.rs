//! The ways of closing, half-close, and what the peer sees of each.

mod common;

use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::sync::Arc;

use common::*;

/// A server whose connections are closed as asked, right behind a send, when they receive.
fn closer(how: u32, payload: &'static [u8]) -> Arc<Recorder> {
    Recorder::with_hook(move |event| {
        if let Event::Receive(conn, _) = event {
            if !payload.is_empty() {
                ok(send(*conn, payload));
            }
            ok(close(*conn, how));
        }
    })
}

on_every_port! {
    fn flush_lets_queued_bytes_leave_and_then_says_fin(port) {
        let engine = Engine::new(port);
        let recorder = closer(WHARF_CLOSE_FLUSH, b"last words");
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        write_all(&mut peer, b"?");
        assert_eq!(read_to_end(&mut peer), b"last words");
        drop(peer);
        assert_eq!(recorder.wait_close(), WHARF_OK);
    }

    fn a_flushing_close_loses_no_byte_although_the_peer_has_unsent_data(port) {
        let engine = Engine::new(port);
        const LEN: usize = 200 << 10;
        let recorder = Recorder::forgetful(|event| {
            if let Event::Receive(conn, _) = event {
                if send(*conn, &pattern(3, LEN)) == WHARF_OK {
                    ok(close(*conn, WHARF_CLOSE_FLUSH));
                }
            }
        });
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        // Without a lingering close these bytes, unread by the server, would turn its close into a reset.
        write_all(&mut peer, &[7; 64 << 10]);
        recorder.wait_open();
        until("the server has shut its side", || server.stats().queued_bytes == 0 && server.stats().bytes_out == LEN as u64);
        write_all(&mut peer, &[8; 64 << 10]);
        assert_eq!(read_to_end(&mut peer), pattern(3, LEN));
        drop(peer);
        assert_eq!(recorder.wait_close(), WHARF_OK);
    }

    fn now_drops_the_queue_and_closes(port) {
        let engine = Engine::new(port);
        let recorder = closer(WHARF_CLOSE_NOW, b"");
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        write_all(&mut peer, b"?");
        assert_eq!(read_to_end(&mut peer), b"");
        assert_eq!(recorder.wait_close(), WHARF_OK);
        until("the queue is empty", || engine.stats().pool_blocks_in_use == 0);
    }

    fn reset_is_seen_as_a_reset(port) {
        let engine = Engine::new(port);
        let recorder = closer(WHARF_CLOSE_RESET, b"");
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        write_all(&mut peer, b"?");
        assert_eq!(peer.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(recorder.wait_close(), WHARF_OK);
    }

    fn a_peer_that_resets_is_told_as_reset(port) {
        let engine = Engine::new(port);
        // The peer is a connection of ours that resets.
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let peer = Recorder::with_hook(|event| {
            if let Event::Receive(conn, _) = event {
                ok(close(*conn, WHARF_CLOSE_RESET));
            }
        });
        engine.client(&peer, &server.address());
        let conn = recorder.wait_open();
        ok(send(conn, b"?"));
        assert_eq!(recorder.wait_close(), WHARF_E_RESET);
        assert_eq!(peer.wait_close(), WHARF_OK);
    }

    fn without_on_end_the_connection_closes_when_the_peer_ends(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Receive(conn, data) = event {
                ok(send(*conn, data));
            }
        });
        let server =
            engine.server_with(recorder.handler_without(Without { end: true, ..Without::default() }), "127.0.0.1:0", |_| {});
        let mut peer = server.connect();
        write_all(&mut peer, b"to the end");
        end(&peer);
        assert_eq!(read_to_end(&mut peer), b"to the end");
        assert_eq!(recorder.wait_close(), WHARF_E_END_OF_STREAM);
    }

    fn the_peer_may_end_first_and_still_receive(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        end(&peer);
        recorder.wait("on_end", |events| events.iter().any(|event| matches!(event, Event::End(_))));
        let conn = recorder.wait_open();
        ok(send(conn, b"still here"));
        assert_eq!(read_exact(&mut peer, 10), b"still here");
        ok(close(conn, WHARF_CLOSE_FLUSH));
        assert_eq!(read_to_end(&mut peer), b"");
        assert_eq!(recorder.wait_close(), WHARF_OK);
    }

    fn we_may_end_first_and_still_receive(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        ok(send(conn, b"question"));
        ok(close(conn, WHARF_CLOSE_SEND_SIDE));
        assert_eq!(send(conn, b"too late"), WHARF_E_CLOSED);
        assert_eq!(read_to_end(&mut peer), b"question");
        write_all(&mut peer, b"answer");
        assert_eq!(recorder.wait_received(6), b"answer");
        drop(peer);
        assert_eq!(recorder.wait_close(), WHARF_E_END_OF_STREAM);
    }

    fn a_peer_that_takes_nothing_is_given_up_at_the_linger_deadline(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.linger_ms = 200;
            config.socket_send_buffer_bytes = 4096;
            config.send_queue_limit_bytes = 8 << 20;
        });
        let peer = server.connect();
        let conn = recorder.wait_open();
        ok(send(conn, &vec![1; 8 << 20]));
        ok(close(conn, WHARF_CLOSE_FLUSH));
        assert_eq!(recorder.wait_close(), WHARF_E_TIMEOUT);
        assert_eq!(engine.stats().pool_blocks_in_use, 0);
        drop(peer);
    }

    fn a_closed_handle_is_stale_and_closing_twice_is_harmless(port) {
        // One place, so that the next connection gets the same.
        let engine = Engine::with(port, |config| config.max_connections = 1);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let peer = server.connect();
        let conn = recorder.wait_open();
        ok(close(conn, WHARF_CLOSE_FLUSH));
        assert!(matches!(close(conn, WHARF_CLOSE_FLUSH), WHARF_OK | WHARF_E_STALE));
        assert!(matches!(send(conn, b"x"), WHARF_E_CLOSED | WHARF_E_STALE));
        drop(peer);
        recorder.wait_close();
        until("the place is free", || send(conn, b"x") == WHARF_E_STALE);
        assert_eq!(close(conn, WHARF_CLOSE_NOW), WHARF_E_STALE);
        let _next = server.connect();
        let next = recorder.wait_opens(2)[1];
        assert_ne!(next, conn);
        assert_eq!(next >> 32, conn >> 32, "the same place");
        assert_eq!(send(conn, b"x"), WHARF_E_STALE);
    }

    fn stop_drains_flush_then_fin_then_resets_at_the_deadline(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.send_queue_limit_bytes = 8 << 20;
            config.linger_ms = 60_000;
            config.socket_send_buffer_bytes = 4096;
        });
        let mut good = server.connect();
        let stuck = server.connect();
        let conns = recorder.wait_opens(2);
        let port_of = |conn| text(|buffer, len, needed| unsafe { wharf_conn_peer_address(conn, buffer, len, needed) });
        let good_address = good.local_addr().unwrap().to_string();
        for conn in conns {
            if port_of(conn) == good_address {
                ok(send(conn, b"bye"));
            } else {
                ok(send(conn, &vec![1; 8 << 20]));
            }
        }
        server.stop(500);
        assert_eq!(read_to_end(&mut good), b"bye");
        drop(good);
        server.wait();
        assert!(!server.is_running());
        let stats = server.stats();
        assert_eq!((stats.drained, stats.drain_resets), (1, 1));
        let mut reasons: Vec<_> = recorder.wait_closes(2).iter().map(|close| close.1).collect();
        reasons.dedup();
        assert_eq!(reasons, [WHARF_E_STOPPED]);
        drop(stuck);
    }

    fn a_stopped_server_can_be_started_again_and_stop_is_idempotent(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        for round in 1..=5 {
            let peer = server.connect();
            recorder.wait_opens(round);
            server.stop(0);
            server.stop(0);
            server.wait();
            server.wait();
            assert!(!server.is_running());
            assert!(std::net::TcpStream::connect(server.address()).is_err());
            server.start();
            server.start();
            assert!(server.is_running());
            drop(peer);
        }
        assert_eq!(server.destroy(), WHARF_OK);
        recorder.wait_drop();
        until("the handle is stale", || server.destroy() == WHARF_E_STALE);
    }

    fn a_client_that_stops_flushes_first(port) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Open(conn) = event {
                ok(send(*conn, &pattern(5, 100_000)));
            }
        });
        let client = engine.client(&recorder, &listener.local_addr().unwrap().to_string());
        let (mut peer, _) = listener.accept().unwrap();
        recorder.wait_open();
        client.stop();
        assert_eq!(read_to_end(&mut peer), pattern(5, 100_000));
        drop(peer);
        assert_eq!(recorder.wait_close(), WHARF_E_STOPPED);
    }
}

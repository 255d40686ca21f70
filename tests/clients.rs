//! Clients: names and addresses, exactly one outcome an attempt, happy eyeballs, reconnecting, stopping.

mod common;

use std::ffi::CString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use common::*;

/// An address of the loopback on which nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A listener whose backlog is full: connects to it get no answer.
fn silent() -> (TcpListener, Vec<std::net::TcpStream>, SocketAddr) {
    use std::os::fd::FromRawFd;
    let listener = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as _;
        address.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
        assert_eq!(libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as _), 0);
        assert_eq!(libc::listen(fd, 0), 0);
        TcpListener::from_raw_fd(fd)
    };
    let address = listener.local_addr().unwrap();
    let mut fill = Vec::new();
    while let Ok(peer) = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(100)) {
        fill.push(peer);
    }
    (listener, fill, address)
}

on_every_port! {
    fn a_client_connects_talks_and_closes(port) {
        let engine = Engine::new(port);
        let echo = echo();
        let server = engine.server(&echo);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Open(conn) = event {
                ok(send(*conn, b"over and back"));
            }
        });
        let client = engine.client(&recorder, &server.address());
        assert_eq!(client.wait(60_000).0, WHARF_OK);
        assert_eq!(recorder.wait_received(13), b"over and back");
        let conn = client.conn();
        assert_eq!(recorder.wait_open(), conn);
        let peer = text(|buffer, len, needed| unsafe { wharf_conn_peer_address(conn, buffer, len, needed) });
        assert_eq!(peer, server.address());
        ok(close(conn, WHARF_CLOSE_NOW));
        assert_eq!(recorder.wait_close(), WHARF_OK);
        let mut none = 1;
        until("the client has no connection", || unsafe { wharf_client_conn(client.0, &mut none) } == WHARF_E_STATE);
        assert_eq!(none, 0);
        client.destroy();
        recorder.wait_drop();
        let stats = engine.stats();
        assert_eq!((stats.connected, stats.accepted), (1, 1));
    }

    fn a_refused_connect_has_one_outcome(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client(&recorder, &nobody());
        let (status, message) = client.wait(60_000);
        assert_eq!(status, WHARF_E_REFUSED);
        assert!(message.starts_with("connect 127.0.0.1:") && message.contains("refused"), "{message}");
        client.destroy();
        recorder.wait_drop();
        assert_eq!(recorder.events(), [Event::Close(0, WHARF_E_REFUSED), Event::Drop]);
    }

    fn a_connect_without_an_answer_times_out(port) {
        let (_listener, _fill, address) = silent();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client_with(recorder.handler(), &address.to_string(), |config| config.connect_timeout_ms = 150);
        assert_eq!(client.wait(60_000).0, WHARF_E_TIMEOUT);
        client.destroy();
        recorder.wait_drop();
        assert_eq!(recorder.events(), [Event::Close(0, WHARF_E_TIMEOUT), Event::Drop]);
        assert_eq!(engine.stats().open, 0);
    }

    fn a_connect_to_where_no_route_leads_is_unreachable(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        // A local address on the loopback cannot reach a documentation network (RFC 5737): the kernel says so at once.
        let local = CString::new("127.0.0.1:0").unwrap();
        engine.client_with(recorder.handler(), "192.0.2.1:9", |config| config.local_address = local.as_ptr());
        let reason = recorder.wait_close();
        assert!(matches!(reason, WHARF_E_UNREACHABLE | WHARF_E_INVALID_ARGUMENT), "{}", name(reason));
    }

    fn a_name_that_does_not_resolve_says_so(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client(&recorder, "no-such-name.invalid:80");
        let (status, message) = client.wait(60_000);
        assert_eq!(status, WHARF_E_RESOLVE, "{message}");
        assert!(message.contains("no-such-name.invalid"), "{message}");
        client.destroy();
        recorder.wait_drop();
        assert_eq!(recorder.events().len(), 2);
    }

    fn a_name_is_resolved_and_a_dead_first_address_does_not_stop_it(port) {
        // "localhost" has two addresses on most machines, and nobody listens on the IPv6 one: the attempt on IPv4 wins.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let client = engine.client(&recorder, &address);
        assert_eq!(client.wait(60_000).0, WHARF_OK);
        listener.accept().unwrap();
    }

    fn the_local_address_is_used(port) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let local = CString::new("127.0.0.2:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        engine.client_with(recorder.handler(), &address, |config| config.local_address = local.as_ptr());
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.2");
        let conn = recorder.wait_open();
        let own = text(|buffer, len, needed| unsafe { wharf_conn_local_address(conn, buffer, len, needed) });
        assert_eq!(own, peer.to_string());
    }

    fn a_lost_connection_is_dialled_again(port) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::End(conn) = event {
                ok(close(*conn, WHARF_CLOSE_FLUSH));
            }
        });
        let address = listener.local_addr().unwrap().to_string();
        let client = engine.client_with(recorder.handler(), &address, |config| {
            config.reconnect_min_ms = 1;
            config.reconnect_max_ms = 20;
        });
        for _ in 0..5 {
            let (peer, _) = listener.accept().unwrap();
            drop(peer);
        }
        let _last = listener.accept().unwrap();
        recorder.wait_opens(6);
        client.destroy();
        recorder.wait_drop();
        let events = recorder.events();
        assert_eq!((opens(&events).len(), closes(&events).len()), (6, 6));
    }

    fn a_client_gives_up_after_the_attempts_it_was_given(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client_with(recorder.handler(), &nobody(), |config| {
            config.reconnect_min_ms = 1;
            config.reconnect_max_ms = 5;
            config.reconnect_attempts = 4;
        });
        assert_eq!(client.wait(60_000).0, WHARF_E_REFUSED);
        client.destroy();
        recorder.wait_drop();
        let closes = closes(&recorder.events());
        assert_eq!(closes, [(0, WHARF_E_REFUSED); 4]);
        until("the handle is stale", || client.destroy() == WHARF_E_STALE);
    }

    fn a_stopped_client_dials_no_more_and_can_be_started_again(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client_with(recorder.handler(), &nobody(), |config| {
            config.reconnect_min_ms = 60_000;
            config.reconnect_max_ms = 60_000;
        });
        recorder.wait_close();
        client.stop();
        let (status, _) = client.wait(60_000);
        assert_eq!(status, WHARF_E_STOPPED);
        assert_eq!(closes(&recorder.events()).len(), 1);
        let mut error = error();
        ok(unsafe { wharf_client_start(client.0, &mut error) });
        recorder.wait_closes(2);
        client.destroy();
        recorder.wait_drop();
    }

    fn a_stop_in_the_middle_of_a_connect_is_one_outcome(port) {
        let (_listener, _fill, address) = silent();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client(&recorder, &address.to_string());
        client.stop();
        recorder.wait_close();
        client.destroy();
        recorder.wait_drop();
        assert_eq!(recorder.events(), [Event::Close(0, WHARF_E_STOPPED), Event::Drop]);
    }

    fn blocking_clients_need_no_callbacks(port) {
        let engine = Engine::new(port);
        let server = engine.server(&echo());
        let mut handler: wharf_handler = unsafe { std::mem::zeroed() };
        handler.struct_size = size_of::<wharf_handler>();
        let client = engine.client_with(handler, &server.address(), |_| {});
        assert_eq!(client.wait(60_000).0, WHARF_OK);
        let conn = client.conn();
        let mut taken = 0;
        let data = pattern(1, 500_000);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                ok(unsafe { wharf_send_wait(conn, data.as_ptr().cast(), data.len(), 60_000, &mut taken) });
            });
            let mut back: Vec<u8> = Vec::new();
            let mut buffer = vec![0; 10_000];
            while back.len() < data.len() {
                let mut got = 0;
                ok(unsafe { wharf_receive_wait(conn, buffer.as_mut_ptr().cast(), buffer.len(), 60_000, &mut got) });
                back.extend(&buffer[..got]);
            }
            assert!(back == data);
        });
    }

    fn unix_sockets_work_both_ways(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Receive(conn, data) = event {
                ok(send(*conn, data));
            }
        });
        let path = unix_path();
        let address = format!("unix:{}", path.display());
        let server = engine.server_with(recorder.handler(), &address, |_| {});
        assert_eq!(server.address(), address);
        let peer = Recorder::with_hook(|event| {
            if let Event::Open(conn) = event {
                ok(send(*conn, b"by file"));
            }
        });
        let client = engine.client(&peer, &address);
        assert_eq!(peer.wait_received(7), b"by file");
        let conn = recorder.wait_open();
        assert_eq!(text(|buffer, len, needed| unsafe { wharf_conn_peer_address(conn, buffer, len, needed) }), "unix:");
        client.destroy();
        server.destroy();
        recorder.wait_drop();
        assert!(!path.exists(), "the socket file is gone with the server");
    }
}

//! Clients: names and addresses, exactly one outcome an attempt, happy eyeballs, reconnecting, stopping.

mod common;

use std::ffi::CString;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::*;

/// An address of the loopback on which nobody listens.
fn nobody() -> String {
    nobody_at("127.0.0.1")
}

fn nobody_at(ip: &str) -> String {
    let listener = TcpListener::bind((ip, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A loopback address that no other process or test connects from: its ports are in use by whoever asks, and nobody else.
fn own_ip() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{high}.{low}", 1 + NEXT.fetch_add(1, SeqCst) % 200)
}

/// A listener whose backlog is full: connects to it get no answer.
fn silent() -> (TcpListener, Vec<std::net::TcpStream>, SocketAddr) {
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

/// A Unix listener whose backlog is full: connects to it are to come again.
fn full_unix_listener() -> (UnixListener, Vec<OwnedFd>, String) {
    let path = unix_path();
    let listener = UnixListener::bind(&path).unwrap();
    let mut fill = Vec::new();
    unsafe {
        assert_eq!(libc::listen(listener.as_raw_fd(), 0), 0);
        let mut address: libc::sockaddr_un = std::mem::zeroed();
        address.sun_family = libc::AF_UNIX as _;
        let bytes = path.as_os_str().as_encoded_bytes();
        address.sun_path.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte as _);
        loop {
            let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0);
            fill.push(OwnedFd::from_raw_fd(fd));
            if libc::connect(fd, (&raw const address).cast(), size_of_val(&address) as _) != 0 {
                assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN));
                break;
            }
        }
    }
    let address = format!("unix:{}", path.display());
    (listener, fill, address)
}

fn driven(port: u32) -> Engine {
    Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN)
}

#[track_caller]
fn turn_until(engine: &Engine, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        ok(unsafe { wharf_engine_turn(engine.0, 50, std::ptr::null_mut()) });
        assert!(Instant::now() < deadline);
    }
}

/// Whether a plain socket, without SO_REUSEADDR, can have this address at once.
fn is_free(address: SocketAddr) -> bool {
    let SocketAddr::V4(v4) = address else { unreachable!() };
    unsafe {
        let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0));
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as _;
        address.sin_port = v4.port().to_be();
        address.sin_addr.s_addr = u32::from(*v4.ip()).to_be();
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as _) == 0
    }
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

    fn the_pause_grows_while_connections_do_not_last(port) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client_with(recorder.handler_without(Without { end: true, ..Without::default() }), &listener.local_addr().unwrap().to_string(), |config| {
            config.reconnect_min_ms = 20;
            config.reconnect_max_ms = 60_000;
            config.reconnect_attempts = 1; // Counts those that fail only.
        });
        drop(listener.accept().unwrap());
        for unstable in 0..5 {
            let begin = Instant::now();
            drop(listener.accept().unwrap());
            let least = Duration::from_millis((20 << unstable) / 2);
            // What comes from the accept to here is no pause.
            assert!(begin.elapsed() + Duration::from_millis(5) >= least, "{unstable}: {:?}", begin.elapsed());
        }
        client.destroy();
        recorder.wait_drop();
    }

    fn a_connection_that_lasted_ends_the_growth_of_the_pauses(port) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client_with(recorder.handler_without(Without { end: true, ..Without::default() }), &listener.local_addr().unwrap().to_string(), |config| {
            config.reconnect_min_ms = 1;
            config.reconnect_max_ms = 2_000_000_000;
            config.reconnect_stable_ms = 1;
        });
        // Were they all too short, the last pause would be days.
        for count in 1..=40 {
            let (peer, _) = listener.accept().unwrap();
            let conn = recorder.wait_opens(count)[count - 1];
            until("it lasted", || {
                let mut stats = conn_stats();
                ok(unsafe { wharf_conn_stats(conn, &mut stats) });
                stats.age_ms >= 3
            });
            drop(peer);
        }
        client.destroy();
        recorder.wait_drop();
    }

    fn a_connection_that_is_on_its_way_out_is_not_the_clients_any_more(port) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client(&recorder, &listener.local_addr().unwrap().to_string());
        let (peer, _) = listener.accept().unwrap();
        assert_eq!(client.wait(60_000).0, WHARF_OK);
        let conn = client.conn();
        ok(close(conn, WHARF_CLOSE_SEND_SIDE));
        assert_eq!(client.conn(), conn, "it still receives");
        ok(close(conn, WHARF_CLOSE_FLUSH));
        let mut none = 1;
        // It waits for its peer's FIN.
        assert_eq!(unsafe { wharf_client_conn(client.0, &mut none) }, WHARF_E_STATE);
        assert_eq!(none, 0);
        drop(peer);
        recorder.wait_close();
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

    fn a_unix_listener_whose_backlog_is_full_is_tried_again_until_it_has_room(port) {
        let (listener, fill, address) = full_unix_listener();
        let engine = driven(port);
        let recorder = Recorder::new();
        let client = engine.client(&recorder, &address);
        // More than one look: none of them is the end.
        (0..5).for_each(|_| ok(unsafe { wharf_engine_turn(engine.0, 10, std::ptr::null_mut()) }));
        assert_eq!(recorder.events(), []);
        (1..fill.len()).for_each(|_| drop(listener.accept().unwrap()));
        turn_until(&engine, || !recorder.events().is_empty());
        assert_eq!(recorder.events(), [Event::Open(client.conn())]);
        std::fs::remove_file(address.strip_prefix("unix:").unwrap()).unwrap();
    }

    fn a_unix_listener_whose_backlog_stays_full_is_a_timeout_and_one_that_goes_a_refusal(port) {
        let (listener, _fill, address) = full_unix_listener();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client = engine.client_with(recorder.handler(), &address, |config| config.connect_timeout_ms = 100);
        let (status, message) = client.wait(60_000);
        assert_eq!(status, WHARF_E_TIMEOUT);
        assert_eq!(message, format!("connect {address}: its backlog was full for 100 ms"));
        assert_eq!(recorder.wait_close(), WHARF_E_TIMEOUT);

        let stopped = Recorder::new();
        let client = engine.client(&stopped, &address);
        client.stop();
        assert_eq!(stopped.wait_close(), WHARF_E_STOPPED);

        let refused = Recorder::new();
        engine.client(&refused, &address);
        drop(listener);
        assert_eq!(refused.wait_close(), WHARF_E_REFUSED);
        std::fs::remove_file(address.strip_prefix("unix:").unwrap()).unwrap();
        assert_eq!((opens(&refused.events()), refused.events().len()), (vec![], 1));
    }

    fn a_client_that_meets_itself_is_refused_and_leaves_the_port_free(port) {
        let engine = Engine::new(port);
        for _ in 0..5 {
            let recorder = Recorder::new();
            let address = nobody_at(&own_ip());
            let local = CString::new(address.clone()).unwrap();
            let client = engine.client_with(recorder.handler(), &address, |config| config.local_address = local.as_ptr());
            assert_eq!(recorder.wait_close(), WHARF_E_REFUSED);
            client.destroy();
            recorder.wait_drop();
            assert!(is_free(address.parse().unwrap()), "{address} is in use");
            assert_eq!(opens(&recorder.events()), []);
        }
    }

    fn a_connect_that_is_thrown_away_leaves_its_port_free(port) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Stopped after so many turns: while it connects, before the connection is told of, and as it is.
        for turns in 1..4 {
            let engine = driven(port);
            let recorder = Recorder::new();
            let local = CString::new(format!("{}:0", own_ip())).unwrap();
            let client =
                engine.client_with(recorder.handler(), &address, |config| config.local_address = local.as_ptr());
            (0..turns).for_each(|_| ok(unsafe { wharf_engine_turn(engine.0, 50, std::ptr::null_mut()) }));
            let (mut peer, from) = listener.accept().unwrap();
            if recorder.events().is_empty() {
                client.stop();
                turn_until(&engine, || !recorder.events().is_empty());
                assert_eq!(recorder.events(), [Event::Close(0, WHARF_E_STOPPED)]);
                assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
                assert!(is_free(from), "{from} is in use");
            }
        }
    }

    fn a_client_without_a_local_port_says_so(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        // No address of this machine (RFC 5737).
        let local = CString::new("192.0.2.1:0").unwrap();
        let client = engine.client_with(recorder.handler(), &nobody(), |config| config.local_address = local.as_ptr());
        let (status, message) = client.wait(60_000);
        assert_eq!(status, WHARF_E_ADDRESS_NOT_AVAILABLE);
        assert!(message.contains("no local port is left to connect from, or local_address is none of this machine"), "{message}");
    }
}

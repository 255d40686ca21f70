//! Who is let in, and how fast: lists of address blocks, the accept rate, the user's own word, the least receive rate.
//! Whoever is not let in is reset and counted, and never becomes a connection.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use common::*;

/// A configuration text that lives as long as the test.
fn text_of(text: &str) -> *const std::ffi::c_char {
    std::ffi::CString::new(text).unwrap().into_raw()
}

/// A client from a loopback address of its own, so that lists can tell it from others.
fn from(engine: &Engine, local: &str, server: &Server) -> Arc<Recorder> {
    let recorder = Recorder::new();
    engine.client_with(recorder.handler(), &server.address(), |config| {
        config.local_address = text_of(&format!("{local}:0"))
    });
    recorder
}

/// Whether bytes come back, or else a reset.
fn is_served(mut peer: TcpStream) -> bool {
    // A reset may come before the write or behind it.
    let written = peer.write_all(b"?");
    match written.and_then(|()| peer.read(&mut [0; 1])) {
        Ok(1) => true,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
            false
        }
        Ok(_) => panic!("closed instead of reset"),
    }
}

fn create_fails(engine: &Engine, change: impl FnOnce(&mut wharf_server_config)) -> String {
    let mut config = server_config();
    config.address = text_of("127.0.0.1:0");
    change(&mut config);
    let recorder = Recorder::new();
    let (mut server, mut error) = (7, error());
    let status = unsafe { wharf_server_create(engine.0, &config, &recorder.handler(), &mut server, &mut error) };
    assert_eq!((status, server), (WHARF_E_INVALID_ARGUMENT, 0), "{}", message(&error));
    assert!(recorder.events().is_empty(), "the handler was not taken");
    message(&error)
}

on_every_port! {
    fn a_denied_peer_is_reset_and_counted_and_costs_no_buffer(port) {
        let engine = Engine::new(port);
        let recorder = echo();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.deny = text_of("10.0.0.0/8, 127.0.0.0/8"));
        for _ in 0..20 {
            assert!(!is_served(server.connect()));
        }
        let (stats, all) = (server.stats(), engine.stats());
        assert_eq!((stats.refused_by_list, stats.accepted, stats.open, stats.closed), (20, 0, 0, 0));
        assert_eq!((all.refused_by_list, all.pool_blocks_peak), (20, 0));
        assert!(recorder.events().is_empty(), "no callback tells of it");
    }

    fn a_flood_of_refused_peers_does_not_flood_the_log(port) {
        const PEERS: usize = 200;
        unsafe extern "C" fn on_log(context: *mut std::ffi::c_void, _level: i32, text: *const std::ffi::c_char) {
            let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_str().unwrap().to_string();
            unsafe { &*context.cast::<std::sync::Mutex<Vec<String>>>() }.lock().unwrap().push(text);
        }
        let lines = std::sync::Mutex::new(Vec::<String>::new());
        let engine = Engine::with(port, |config| {
            config.log_level = WHARF_LOG_DEBUG;
            config.on_log = Some(on_log);
            config.log_context = std::ptr::from_ref(&lines) as *mut _;
        });
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.deny = text_of("127.0.0.0/8"));
        let begin = std::time::Instant::now();
        // A peer may be told of it before its connect has returned.
        let dial = || drop(TcpStream::connect(server.address()));
        (0..PEERS).for_each(|_| dial());
        until("all are refused", || server.stats().refused_by_list == PEERS as u64);
        let refused = || lines.lock().unwrap().iter().filter(|line| line.contains("refused")).cloned().collect::<Vec<_>>();
        let most = 10 * (begin.elapsed().as_secs() as usize + 2);
        assert!((10..=most).contains(&refused().len()), "{} lines", refused().len());
        // The next line of the kind accounts for those that were left out.
        let told = refused().len();
        until("there is another line", || {
            dial();
            refused().len() > told
        });
        let left_out = |line: &String| {
            let count = line.split_once(" (").map_or("0", |(_, rest)| rest.split(' ').next().unwrap());
            count.parse::<usize>().unwrap()
        };
        let lines = refused();
        assert!(lines.iter().map(left_out).sum::<usize>() + lines.len() >= PEERS, "{lines:?}");
        engine.destroy(0);
    }

    fn only_the_allowed_are_let_in_and_deny_is_stronger(port) {
        let engine = Engine::new(port);
        let recorder = echo();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.allow = text_of("127.0.0.0/30\n192.0.2.0/24");
            config.deny = text_of("127.0.0.2");
        });
        assert!(is_served(server.connect()));
        assert_eq!(from(&engine, "127.0.0.2", &server).wait_close(), WHARF_E_RESET);
        from(&engine, "127.0.0.3", &server).wait_open();
        assert_eq!(from(&engine, "127.0.0.4", &server).wait_close(), WHARF_E_RESET);
        recorder.wait_opens(2);
        let stats = server.stats();
        assert_eq!((stats.refused_by_list, stats.accepted), (2, 2));
    }

    fn an_empty_list_lets_everybody_in(port) {
        let engine = Engine::new(port);
        let server = engine.server_with(echo().handler(), "127.0.0.1:0", |config| {
            config.allow = text_of(" ,\n");
            config.deny = text_of("");
        });
        assert!(is_served(server.connect()));
    }

    fn ipv4_peers_of_a_server_for_both_families_are_in_ipv4_blocks(port) {
        let engine = Engine::new(port);
        let server = engine.server_with(echo().handler(), ":0", |config| {
            config.allow = text_of("::1, 127.0.0.0/8");
            config.deny = text_of("127.0.0.1, ::2/128");
        });
        let number: u16 = server.address().rsplit(':').next().unwrap().parse().unwrap();
        assert!(!is_served(TcpStream::connect(("127.0.0.1", number)).unwrap()));
        assert!(is_served(TcpStream::connect(("::1", number)).unwrap()));
        // All of IPv6 is not IPv4.
        let server = engine.server_with(echo().handler(), ":0", |config| config.allow = text_of("::/0"));
        let number: u16 = server.address().rsplit(':').next().unwrap().parse().unwrap();
        assert!(!is_served(TcpStream::connect(("127.0.0.1", number)).unwrap()));
        assert!(is_served(TcpStream::connect(("::1", number)).unwrap()));
    }

    fn peers_of_a_unix_socket_are_in_no_list_and_asked_about_as_unix(port) {
        let engine = Engine::new(port);
        let path = unix_path();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = asked.clone();
        let handler = echo().handler_asking(move |peer| {
            told.lock().unwrap().push(peer.to_string());
            WHARF_ADMIT_ACCEPT
        });
        let _server = engine.server_with(handler, &format!("unix:{}", path.display()), |config| {
            config.allow = text_of("192.0.2.0/24");
            config.deny = text_of("0.0.0.0/0, ::/0");
            config.max_connections_per_ip = 1;
        });
        for _ in 0..2 {
            let mut peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
            peer.write_all(b"x").unwrap();
            peer.read_exact(&mut [0; 1]).unwrap();
        }
        assert_eq!(*asked.lock().unwrap(), ["unix:", "unix:"]);
    }

    fn a_list_with_a_wrong_entry_is_refused_with_a_sentence_that_names_it(port) {
        let engine = Engine::new(port);
        let told = create_fails(&engine, |config| config.allow = text_of("10.0.0.0/8, 10.0.0.300/8"));
        assert!(told.starts_with("allow: entry 2, \"10.0.0.300/8\""), "{told}");
        let told = create_fails(&engine, |config| config.deny = text_of("2001:db8::1/32"));
        assert!(told.starts_with("deny: entry 1, \"2001:db8::1/32\"") && told.ends_with("write 2001:db8::/32"), "{told}");
        let told = create_fails(&engine, |config| config.deny = text_of("\u{e4}"));
        assert!(told.starts_with("deny: entry 1"), "{told}");
        let told = create_fails(&engine, |config| config.allow = text_of(&"1".repeat(1 << 20)));
        assert!(told.contains("allow has more than 1048575 bytes"), "{told}");
        for (name, change) in [
            ("accept_rate_per_s", (|config| config.accept_rate_per_s = 1_000_001) as fn(&mut wharf_server_config)),
            ("accept_burst", |config| config.accept_burst = 5),
            ("min_receive_bytes_per_s", |config| config.min_receive_bytes_per_s = u32::MAX),
            ("min_receive_grace_ms", |config| config.min_receive_grace_ms = 5),
        ] {
            let told = create_fails(&engine, change);
            assert!(told.contains(name), "{name}: {told}");
        }
        // A list may be longer than other texts.
        let many: Vec<String> = (0..5_000_u32).map(|number| format!("10.{}.{}.0/24", number / 256, number % 256)).collect();
        let server = engine.server_with(echo().handler(), "127.0.0.1:0", |config| config.deny = text_of(&many.join(",")));
        assert!(is_served(server.connect()));
    }

    fn beyond_the_rate_connections_are_reset_and_counted(port) {
        let engine = Engine::new(port);
        let server = engine.server_with(echo().handler(), "127.0.0.1:0", |config| {
            config.at_limit = WHARF_AT_LIMIT_REJECT;
            config.accept_rate_per_s = 1;
            config.accept_burst = 3;
        });
        let begin = Instant::now();
        let peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
        let served = peers.into_iter().filter(|peer| is_served(peer.try_clone().unwrap())).count() as u64;
        let most = 3 + begin.elapsed().as_secs() + 1;
        let stats = server.stats();
        assert!((3..=most).contains(&served), "{served}");
        assert_eq!((stats.accepted, stats.refused_by_rate), (served, 20 - served));
        assert_eq!(engine.stats().refused_by_rate, 20 - served);
    }

    fn beyond_the_rate_connections_wait_their_turn_in_the_backlog(port) {
        let engine = Engine::new(port);
        let recorder = echo();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.accept_rate_per_s = 20;
            config.accept_burst = 2;
        });
        let begin = Instant::now();
        let peers: Vec<_> = (0..10).map(|_| server.connect()).collect();
        for peer in peers {
            assert!(is_served(peer));
        }
        // Two at once, then one each 50 ms; in whatever way the clock is cut, no earlier.
        assert!(begin.elapsed() >= Duration::from_millis(8 * 50 - 2), "{:?}", begin.elapsed());
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.refused_by_rate), (10, 0));
        assert!(stats.accept_pauses > 0);
    }

    fn those_that_the_lists_keep_out_use_up_no_rate(port) {
        for at_limit in [WHARF_AT_LIMIT_WAIT, WHARF_AT_LIMIT_REJECT] {
            let engine = Engine::new(port);
            let server = engine.server_with(echo().handler(), "127.0.0.1:0", |config| {
                config.at_limit = at_limit;
                config.deny = text_of("127.0.0.2");
                config.accept_rate_per_s = 1;
                // Enough for the one that is let in, and for the worker's look at an empty backlog.
                config.accept_burst = 2;
            });
            let begin = Instant::now();
            for _ in 0..10 {
                assert_eq!(from(&engine, "127.0.0.2", &server).wait_close(), WHARF_E_RESET);
            }
            assert!(is_served(server.connect()));
            // Had each cost a token, this would have taken eight seconds.
            assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
            assert_eq!((server.stats().refused_by_list, server.stats().refused_by_rate), (10, 0));
        }
    }

    fn a_stopped_server_that_waits_for_its_rate_can_be_started_again(port) {
        let engine = Engine::new(port);
        let recorder = echo();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.accept_rate_per_s = 10;
            config.accept_burst = 1;
        });
        let _first = server.connect();
        recorder.wait_open();
        let _waits = server.connect();
        until("accepting rests", || server.stats().accept_pauses > 0);
        server.stop(0);
        server.wait();
        server.start();
        assert!(is_served(server.connect()));
    }

    fn the_host_is_asked_with_the_address_and_its_word_counts(port) {
        let engine = Engine::new(port);
        let recorder = echo();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = asked.clone();
        let handler = recorder.handler_asking(move |peer| {
            told.lock().unwrap().push(peer.to_string());
            if peer.starts_with("127.0.0.3:") { 7 } else if peer.starts_with("127.0.0.2:") { WHARF_ADMIT_REFUSE } else { WHARF_ADMIT_ACCEPT }
        });
        let server = engine.server_with(handler, "127.0.0.1:0", |config| config.deny = text_of("127.0.0.4"));
        let peer = server.connect();
        let conn = recorder.wait_open();
        let address = text(|buffer, len, needed| unsafe { wharf_conn_peer_address(conn, buffer, len, needed) });
        assert_eq!(*asked.lock().unwrap(), [address]);
        assert!(is_served(peer));
        for refused in ["127.0.0.2", "127.0.0.3", "127.0.0.4"] {
            assert_eq!(from(&engine, refused, &server).wait_close(), WHARF_E_RESET);
        }
        assert_eq!(asked.lock().unwrap().len(), 3, "not about those that a list keeps out");
        let stats = server.stats();
        assert_eq!((stats.refused_by_host, stats.refused_by_list, stats.accepted), (2, 1, 1));
        assert_eq!((engine.stats().refused_by_host, opens(&recorder.events()).len()), (2, 1));
    }

    fn the_host_is_asked_before_a_place_is_taken(port) {
        for at_limit in [WHARF_AT_LIMIT_REJECT, WHARF_AT_LIMIT_WAIT] {
            let engine = Engine::with(port, |config| config.max_connections = 1);
            let recorder = echo();
            let (asked, seen, number) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
            let (count, most, own) = (asked.clone(), seen.clone(), number.clone());
            let handler = recorder.handler_asking(move |_| {
                let server = Server(own.load(SeqCst));
                most.fetch_max(server.stats().accepted + server.stats().open, SeqCst);
                // What would wait for this worker is refused here as in every callback.
                assert_eq!(unsafe { wharf_server_wait(server.0, 1000) }, WHARF_E_WOULD_DEADLOCK);
                if count.fetch_add(1, SeqCst) < 3 { WHARF_ADMIT_REFUSE } else { WHARF_ADMIT_ACCEPT }
            });
            let server = engine.server_with(handler, "127.0.0.1:0", |config| config.at_limit = at_limit);
            number.store(server.0, SeqCst);
            for _ in 0..3 {
                assert!(!is_served(server.connect()));
            }
            assert_eq!(seen.load(SeqCst), 0);
            let mut first = server.connect();
            let conn = recorder.wait_open();
            write_all(&mut first, b"1");
            assert_eq!(read_exact(&mut first, 1), b"1", "refusals used up no place");
            if at_limit == WHARF_AT_LIMIT_REJECT {
                // Asked about although every place is taken; there is none for it then.
                assert!(!is_served(server.connect()));
                assert_eq!((asked.load(SeqCst), server.stats().refused_at_limit), (5, 1));
            } else {
                let second = server.connect();
                until("accepting rests", || server.stats().accept_pauses > 0);
                assert_eq!(asked.load(SeqCst), 4, "one that waits in the backlog is not asked about");
                ok(close(conn, WHARF_CLOSE_NOW));
                assert!(is_served(second));
            }
            assert_eq!((server.stats().refused_by_host, engine.stats().pool_blocks_in_use), (3, 0));
        }
    }

    fn a_server_may_be_stopped_and_destroyed_while_it_asks(port) {
        for end in [|server| unsafe { wharf_server_stop(server, 0) }, |server| unsafe { wharf_server_destroy(server) }] as [fn(u64) -> wharf_status; 2] {
            let engine = Engine::new(port);
            let recorder = Recorder::new();
            let own = Arc::new(AtomicU64::new(0));
            let number = own.clone();
            let handler = recorder.handler_asking(move |_| {
                ok(end(number.load(SeqCst)));
                WHARF_ADMIT_ACCEPT
            });
            let server = engine.server_with(handler, "127.0.0.1:0", |_| {});
            own.store(server.0, SeqCst);
            let mut peer = server.connect();
            assert!(!peer.read(&mut [0; 1]).is_ok_and(|len| len > 0), "it was let in");
            until("it is stopped", || unsafe { wharf_server_wait(server.0, 0) } != WHARF_E_TIMEOUT);
            engine.destroy(0);
            assert_eq!(recorder.events(), [Event::Drop]);
        }
    }

    fn on_drop_comes_after_the_last_question_on_any_worker(port) {
        let engine = Engine::with(port, |config| config.workers = 3);
        let recorder = Recorder::new();
        let gate = Arc::new((Mutex::new((false, false)), Condvar::new()));
        let inside = gate.clone();
        let handler = recorder.handler_asking(move |_| {
            let (state, changed) = &*inside;
            let mut state = state.lock().unwrap();
            // The end of a server is told by the first worker: only the others could be overtaken. So it leaves the next
            // peer to them.
            if std::thread::current().name() == Some("wharf-0") {
                drop(changed.wait_timeout_while(state, PATIENCE, |state| !state.0).unwrap());
            } else {
                state.0 = true;
                changed.notify_all();
                drop(changed.wait_timeout_while(state, PATIENCE, |state| !state.1).unwrap());
            }
            WHARF_ADMIT_ACCEPT
        });
        let server = engine.server_with(handler, "127.0.0.1:0", |_| {});
        let (state, changed) = &*gate;
        let _peers = [server.connect(), server.connect()];
        let waited = changed.wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| !state.0).unwrap();
        assert!(!waited.1.timed_out(), "nobody was asked on another worker");
        drop(waited);
        ok(server.destroy());
        let waited = unsafe { wharf_server_wait(server.0, 300) };
        let early = recorder.events().contains(&Event::Drop);
        state.lock().unwrap().1 = true;
        changed.notify_all();
        assert_eq!((waited, early), (WHARF_E_TIMEOUT, false), "somebody is asked still");
        recorder.wait_drop();
    }

    fn clients_are_not_asked(port) {
        let engine = Engine::new(port);
        let server = engine.server(&echo());
        let recorder = Recorder::new();
        let handler = recorder.handler_asking(|_| WHARF_ADMIT_REFUSE);
        engine.client_with(handler, &server.address(), |_| {});
        ok(send(recorder.wait_open(), b"x"));
        recorder.wait_received(1);
    }

    fn a_peer_that_dribbles_is_closed_and_one_that_waits_for_an_answer_is_not(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.min_receive_bytes_per_s = 1000;
            config.min_receive_grace_ms = 200;
        });
        let mut waits = server.connect();
        let waiting = recorder.wait_open();
        let mut fast = server.connect();
        let fast_conn = recorder.wait_opens(2)[1];
        let _silent = server.connect();
        let silent = recorder.wait_opens(3)[2];
        let mut dribbles = server.connect();
        let slow = recorder.wait_opens(4)[3];
        // In another millisecond than that of the accept, so that it is the beginning of a measurement.
        std::thread::sleep(Duration::from_millis(5));
        write_all(&mut waits, &[b'w'; 100]);
        let begin = Instant::now();
        while closes(&recorder.lock()).is_empty() {
            // It may be closed at any of these writes.
            let _ = dribbles.write(b"x");
            write_all(&mut fast, &[b'f'; 4096]);
            assert!(begin.elapsed() < PATIENCE);
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert_eq!(closes(&recorder.lock()), [(slow, WHARF_E_TOO_SLOW)]);
        assert!(begin.elapsed() >= Duration::from_millis(200), "{:?}", begin.elapsed());
        for conn in [waiting, fast_conn, silent] {
            ok(send(conn, b"here you are"));
        }
        assert_eq!(read_exact(&mut waits, 12), b"here you are");
        let stats = server.stats();
        assert_eq!((stats.closed_by_timeout, stats.open), (1, 3));
    }

    fn a_paused_peer_is_not_called_slow_for_it(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.min_receive_bytes_per_s = 1_000_000;
            config.min_receive_grace_ms = 100;
        });
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let mut expected = 0;
        for _ in 0..5 {
            write_all(&mut peer, b"one piece");
            expected += 9;
            recorder.wait_received(expected);
            ok(unsafe { wharf_conn_pause(conn) });
            // Time passes that is this side's own; nothing tells of it.
            std::thread::sleep(Duration::from_millis(150));
            ok(unsafe { wharf_conn_resume(conn) });
        }
        // Nor for short pauses, which no look at it happens to meet.
        for _ in 0..30 {
            write_all(&mut peer, b"one piece");
            expected += 9;
            recorder.wait_received(expected);
            ok(unsafe { wharf_conn_pause(conn) });
            ok(unsafe { wharf_conn_resume(conn) });
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(closes(&recorder.events()).is_empty());
        // Without the pauses the same is slow.
        let begin = Instant::now();
        while closes(&recorder.lock()).is_empty() {
            let _ = peer.write(b"one piece");
            std::thread::park_timeout(Duration::from_millis(50));
            assert!(begin.elapsed() < PATIENCE);
        }
        assert_eq!(recorder.wait_close(), WHARF_E_TOO_SLOW);
    }

    fn a_connection_in_pull_mode_is_not_measured(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let handler = recorder.handler_without(Without { receive: true, ..Without::default() });
        let server = engine.server_with(handler, "127.0.0.1:0", |config| {
            config.min_receive_bytes_per_s = 1_000_000;
            config.min_receive_grace_ms = 50;
        });
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        for _ in 0..10 {
            write_all(&mut peer, b"x");
            let mut got = 0;
            ok(unsafe { wharf_receive_wait(conn, [0u8; 8].as_mut_ptr().cast(), 8, 30_000, &mut got) });
            std::thread::sleep(Duration::from_millis(30));
        }
        assert!(closes(&recorder.events()).is_empty());
    }
}

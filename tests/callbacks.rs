//! Callbacks come in order, once, never at the same time for one connection, and never inside a call of the user's.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::*};
use std::sync::{Arc, Mutex};

use common::*;

on_every_port! {
    fn a_connection_opens_receives_and_closes_in_that_order(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::End(conn) = event {
                ok(close(*conn, WHARF_CLOSE_FLUSH));
            }
        });
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        write_all(&mut peer, b"hello");
        recorder.wait_received(5);
        drop(peer);
        recorder.wait_close();
        server.destroy();
        recorder.wait_drop();
        let events = recorder.events();
        let conn = events[0].conn();
        assert_eq!(events.first(), Some(&Event::Open(conn)));
        assert_eq!(received(&events), b"hello");
        assert_eq!(events[events.len() - 3], Event::End(conn));
        assert!(matches!(events[events.len() - 2], Event::Close(closed, _) if closed == conn), "{events:?}");
        assert_eq!(events.last(), Some(&Event::Drop));
    }

    fn on_close_comes_once_and_on_drop_last_over_random_schedules(port) {
        let engine = Engine::with(port, |config| config.workers = 2);
        for seed in 0..20 {
            let random = Mutex::new(fastrand::Rng::with_seed(seed));
            let recorder = Recorder::with_hook(move |event| {
                let choice = random.lock().unwrap().u32(0..8);
                match (event, choice) {
                    (Event::Open(conn), 0) => ok(close(*conn, WHARF_CLOSE_NOW)),
                    (Event::Open(conn), 1) => ok(close(*conn, WHARF_CLOSE_RESET)),
                    (Event::Receive(conn, _), 2) => ok(close(*conn, WHARF_CLOSE_FLUSH)),
                    (Event::Receive(conn, data), _) => {
                        send_token(*conn, data, 7);
                    }
                    (Event::End(conn), _) => ok(close(*conn, WHARF_CLOSE_FLUSH)),
                    _ => {}
                }
            });
            let server = engine.server(&recorder);
            let address = server.address();
            let peers: Vec<_> = (0..4)
                .map(|thread| {
                    let address = address.clone();
                    std::thread::spawn(move || {
                        let mut random = fastrand::Rng::with_seed(seed * 100 + thread);
                        for _ in 0..25 {
                            let Ok(mut peer) = std::net::TcpStream::connect(&address) else { continue };
                            if random.bool() {
                                let _ = std::io::Write::write_all(&mut peer, b"some bytes");
                                // What was written is answered, or the connection closed.
                                if random.bool() {
                                    let _ = std::io::Read::read(&mut peer, &mut [0; 4]);
                                }
                            }
                        }
                    })
                })
                .collect();
            if seed % 2 == 0 {
                for peer in peers {
                    peer.join().unwrap();
                }
                server.destroy();
            } else {
                recorder.wait_opens(5);
                server.destroy();
                for peer in peers {
                    peer.join().unwrap();
                }
            }
            recorder.wait_drop();
            check_order(&recorder.events());
        }
    }

    fn callbacks_of_one_connection_never_run_at_the_same_time(port) {
        let engine = Engine::with(port, |config| config.workers = 2);
        let busy = Arc::new((0..64).map(|_| AtomicBool::new(false)).collect::<Vec<_>>());
        let overlaps = Arc::new(AtomicU32::new(0));
        let (flags, seen) = (busy.clone(), overlaps.clone());
        let recorder = Recorder::forgetful(move |event| {
            let place = &flags[(event.conn() >> 32) as usize % 64];
            if place.swap(true, SeqCst) {
                seen.fetch_add(1, SeqCst);
            }
            if let Event::Receive(conn, data) = event {
                ok(send_token(*conn, data, 1));
            }
            std::hint::spin_loop();
            place.store(false, SeqCst);
        });
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.max_connections = 16);
        let mut peers: Vec<_> = (0..16).map(|_| server.connect()).collect();
        let conns = recorder.wait_opens(16);
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let conns = conns.clone();
                std::thread::spawn(move || {
                    for _ in 0..200 {
                        for conn in &conns {
                            ok(send_token(*conn, b"x", 2));
                        }
                    }
                })
            })
            .collect();
        for peer in &mut peers {
            write_all(peer, &[1; 400]);
        }
        for sender in senders {
            sender.join().unwrap();
        }
        for peer in &mut peers {
            read_exact(peer, 800);
        }
        assert_eq!(overlaps.load(SeqCst), 0);
    }

    fn no_callback_runs_inside_a_call_of_the_user(port) {
        thread_local! {
            static CALLING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
        }
        let inside = Arc::new(AtomicU32::new(0));
        let seen = inside.clone();
        let recorder = Recorder::with_hook(move |event| {
            if CALLING.get() {
                seen.fetch_add(1, SeqCst);
            }
            CALLING.set(true);
            match event {
                Event::Open(conn) => ok(send_token(*conn, b"first", 1)),
                Event::Sent(conn, 1, WHARF_OK) => {
                    send_token(*conn, b"second", 2);
                }
                Event::Sent(conn, 2, WHARF_OK) => {
                    close(*conn, WHARF_CLOSE_FLUSH);
                }
                _ => {}
            }
            CALLING.set(false);
        });
        let engine = Engine::new(port);
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        assert_eq!(read_to_end(&mut peer), b"firstsecond");
        drop(peer);
        recorder.wait_close();
        CALLING.set(true);
        let _second = server.connect();
        let conn = recorder.wait_opens(2)[1];
        send_token(conn, b"x", 5);
        close(conn, WHARF_CLOSE_NOW);
        server.destroy();
        recorder.wait_drop();
        assert_eq!(inside.load(SeqCst), 0);
    }

    fn everything_may_be_called_from_every_callback(port) {
        // Each callback in turn stops, destroys, closes, sends, pauses; the engine goes on and ends.
        for action in 0..8 {
            for at in 0..5 {
                let engine = Engine::new(port);
                let handle = engine.0;
                let server_handle = Arc::new(AtomicU64::new(0));
                let server_in_hook = server_handle.clone();
                let recorder = Recorder::with_hook(move |event| {
                    let is_the_one = match event {
                        Event::Open(_) => at == 0,
                        Event::Receive(..) => at == 1,
                        Event::Sent(..) => at == 2,
                        Event::End(_) => at == 3,
                        Event::Close(..) => at == 4,
                        _ => false,
                    };
                    let conn = event.conn();
                    if let Event::Receive(conn, data) = event {
                        send_token(*conn, data, 9);
                    }
                    if is_the_one {
                        act(action, handle, server_in_hook.load(SeqCst), conn);
                    } else if let Event::End(conn) = event {
                        close(*conn, WHARF_CLOSE_FLUSH);
                    }
                });
                let mut config = server_config();
                let address = std::ffi::CString::new("127.0.0.1:0").unwrap();
                config.address = address.as_ptr();
                let handler = recorder.handler();
                let mut server = 0;
                ok(unsafe { wharf_server_create(engine.0, &config, &handler, &mut server, std::ptr::null_mut()) });
                server_handle.store(server, SeqCst);
                let server = Server(server);
                server.start();
                let mut peer = server.connect();
                let _ = std::io::Write::write_all(&mut peer, b"go");
                let _ = std::io::Read::read(&mut peer, &mut [0; 2]);
                let _ = peer.shutdown(std::net::Shutdown::Both);
                drop(peer);
                engine.destroy(0);
                recorder.wait_drop();
                check_order(&recorder.events());
            }
        }
    }

    fn no_lock_is_held_while_a_callback_or_a_log_line_runs(port) {
        for flags in [0, WHARF_ENGINE_CALLER_DRIVEN] {
            calls_in_every_callback(port, flags);
        }
    }

    fn a_blocking_call_in_a_callback_says_would_deadlock(port) {
        let answers = Arc::new(Mutex::new(Vec::new()));
        let list = answers.clone();
        let engine = Engine::new(port);
        let client_handle = Arc::new(AtomicU64::new(0));
        let client_in_hook = client_handle.clone();
        let recorder = Recorder::with_hook(move |event| {
            if let Event::Receive(conn, _) = event {
                let mut taken = 0;
                let mut buffer = [0u8; 4];
                let mut got = 0;
                let mut error = error();
                list.lock().unwrap().extend(unsafe {
                    [
                        wharf_send_wait(*conn, b"x".as_ptr().cast(), 1, 1000, &mut taken),
                        wharf_receive_wait(*conn, buffer.as_mut_ptr().cast(), 4, 1000, &mut got),
                        wharf_client_wait(client_in_hook.load(SeqCst), 1000, &mut error),
                    ]
                });
            }
        });
        let server = engine.server(&recorder);
        let client = engine.client(&Recorder::new(), &server.address());
        client_handle.store(client.0, SeqCst);
        let mut peer = server.connect();
        write_all(&mut peer, b"?");
        until("the callback has asked", || answers.lock().unwrap().len() == 3);
        assert_eq!(*answers.lock().unwrap(), [WHARF_E_WOULD_DEADLOCK; 3]);
    }

    fn a_failed_create_takes_nothing(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let handler = recorder.handler();
        let config = server_config();
        let mut server = 1;
        let mut error = error();
        let status = unsafe { wharf_server_create(engine.0, &config, &handler, &mut server, &mut error) };
        assert_eq!((status, server), (WHARF_E_INVALID_ARGUMENT, 0), "{}", message(&error));
        engine.destroy(0);
        assert_eq!(recorder.events(), []);
        // The reference that `on_drop` would have given back.
        drop(unsafe { Arc::from_raw(handler.context as *const Recorder) });
    }
}

fn act(action: u32, engine: u64, server: u64, conn: u64) {
    match action {
        0 => ok(unsafe { wharf_server_stop(server, 0) }),
        1 => ok(unsafe { wharf_server_stop(server, 200) }),
        2 => ok(unsafe { wharf_server_destroy(server) }),
        3 => ok(unsafe { wharf_engine_destroy(engine, 0) }),
        4 => {
            close(conn, WHARF_CLOSE_NOW);
        }
        5 => {
            close(conn, WHARF_CLOSE_RESET);
        }
        6 => {
            send(conn, b"more");
            close(conn, WHARF_CLOSE_FLUSH);
        }
        _ => {
            unsafe { wharf_conn_pause(conn) };
            unsafe { wharf_conn_resume(conn) };
            close(conn, WHARF_CLOSE_SEND_SIDE);
        }
    }
}

/// For each connection: on_open first, on_close once and last; on_drop once and last of all.
#[track_caller]
fn check_order(events: &[Event]) {
    let mut living = std::collections::HashSet::new();
    let mut seen = std::collections::HashSet::new();
    for (place, event) in events.iter().enumerate() {
        match event {
            Event::Open(conn) => assert!(living.insert(*conn) && seen.insert(*conn), "opened twice: {conn:#x}"),
            Event::Close(conn, _) => assert!(living.remove(conn), "closed twice or never opened: {conn:#x}"),
            Event::Drop => assert_eq!(place, events.len() - 1, "a call after on_drop"),
            other => assert!(living.contains(&other.conn()), "a call outside of open and close: {other:?}"),
        }
    }
    assert_eq!(events.last(), Some(&Event::Drop));
    assert!(living.is_empty(), "never closed: {living:x?}");
}

/// What the callbacks call upon, and where they have done it.
#[derive(Default)]
struct Crowd {
    engine: AtomicU64,
    server: AtomicU64,
    client: AtomicU64,
    conn: AtomicU64,
    port: AtomicU64,
    /// Each kind of callback or line that has called everything.
    called: Mutex<Vec<String>>,
    /// Those in which another thread did not come back.
    hung: Mutex<Vec<String>>,
}

impl Crowd {
    /// The first time for each kind: from this thread, then from another one that is waited for.
    fn call_in(self: &Arc<Self>, kind: &str) {
        {
            let mut called = self.called.lock().unwrap();
            if called.iter().any(|one| one == kind) {
                return;
            }
            called.push(kind.to_string());
        }
        self.call_everything();
        let (crowd, (done, is_done)) = (self.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            crowd.call_everything();
            // Who waits may have given up.
            let _ = done.send(());
        });
        if is_done.recv_timeout(std::time::Duration::from_secs(10)).is_err() {
            self.hung.lock().unwrap().push(kind.to_string());
        }
    }

    /// What takes locks of all kinds. Some of it is refused, depending on where it is called.
    fn call_everything(&self) {
        let [engine, server, client, conn] =
            [&self.engine, &self.server, &self.client, &self.conn].map(|handle| handle.load(SeqCst));
        let (mut running, mut count, mut found) = (0, 0, 0);
        let mut handles = [0; 8];
        let mut text = [0; 64];
        unsafe {
            wharf_engine_wake(engine);
            wharf_engine_stats(engine, &mut stats());
            wharf_server_start(server, std::ptr::null_mut());
            wharf_server_is_running(server, &mut running);
            wharf_server_address(server, text.as_mut_ptr(), text.len(), std::ptr::null_mut());
            wharf_server_connections(server, handles.as_mut_ptr(), handles.len(), &mut count);
            wharf_server_stats(server, &mut stats());
            wharf_server_broadcast(server, b"b".as_ptr().cast(), 1, 0, std::ptr::null_mut());
            wharf_client_start(client, std::ptr::null_mut());
            wharf_client_conn(client, &mut found);
            wharf_client_stats(client, &mut stats());
            wharf_conn_stats(conn, &mut conn_stats());
            wharf_conn_peer_address(conn, text.as_mut_ptr(), text.len(), std::ptr::null_mut());
            wharf_conn_pause(conn);
            wharf_conn_resume(conn);
            wharf_send(conn, b"s".as_ptr().cast(), 1);
        }
        // Others come and go meanwhile.
        let address = std::ffi::CString::new("127.0.0.1:0").unwrap();
        let (mut config, mut other) = (server_config(), 0);
        config.address = address.as_ptr();
        let handler = Recorder::new().handler();
        unsafe {
            if wharf_server_create(engine, &config, &handler, &mut other, std::ptr::null_mut()) == WHARF_OK {
                wharf_server_start(other, std::ptr::null_mut());
                wharf_server_stop(other, 10);
                wharf_server_destroy(other);
            } else {
                take_back(&handler);
            }
            let address = std::ffi::CString::new("127.0.0.1:1").unwrap();
            let (mut config, handler) = (client_config(), Recorder::new().handler());
            config.address = address.as_ptr();
            if wharf_client_create(engine, &config, &handler, &mut other, std::ptr::null_mut()) == WHARF_OK {
                wharf_client_start(other, std::ptr::null_mut());
                wharf_client_stop(other);
                wharf_client_destroy(other);
            } else {
                take_back(&handler);
            }
        }
        let mut config = engine_config();
        config.port = self.port.load(SeqCst) as u32;
        config.pool_bytes = 1 << 20;
        if unsafe { wharf_engine_create(&config, &mut other, std::ptr::null_mut()) } == WHARF_OK {
            unsafe { wharf_engine_destroy(other, 0) };
        }
    }

    fn has_called_in(&self, kind: &str) -> bool {
        self.called.lock().unwrap().iter().any(|one| one == kind)
    }
}

unsafe extern "C" fn crowd_log(context: *mut std::ffi::c_void, _level: i32, text: *const std::ffi::c_char) {
    let text = unsafe { std::ffi::CStr::from_ptr(text) }.to_str().unwrap();
    let kinds =
        ["ended;", "listening", "disconnected", "connected", "refused", "client:", "stopped", "a callback took"];
    if let Some(kind) = kinds.into_iter().find(|kind| text.contains(kind)) {
        let crowd = std::mem::ManuallyDrop::new(unsafe { Arc::from_raw(context.cast::<Crowd>()) });
        crowd.call_in(kind);
    }
}

fn calls_in_every_callback(port: u32, flags: u32) {
    let crowd = Arc::new(Crowd::default());
    crowd.port.store(port.into(), SeqCst);
    let engine = Engine::with(port, |config| {
        config.flags = flags;
        config.workers = 2;
        config.log_level = WHARF_LOG_DEBUG;
        config.on_log = Some(crowd_log);
        config.log_context = Arc::as_ptr(&crowd) as *mut _;
    });
    crowd.engine.store(engine.0, SeqCst);
    let turn = || flags == 0 || unsafe { wharf_engine_turn(engine.0, 1, std::ptr::null_mut()) } == WHARF_OK;
    let (in_callback, in_admit) = (crowd.clone(), crowd.clone());
    let recorder = Recorder::with_hook(move |event| {
        let kind = format!("{event:?}");
        if !matches!(event, Event::Close(..) | Event::Drop) {
            in_callback.conn.store(event.conn(), SeqCst);
        }
        in_callback.call_in(kind.split('(').next().unwrap());
        match event {
            // More than it may queue: it is told when there is room.
            Event::Receive(conn, _) => {
                send_token(*conn, b"t", 1);
                while send(*conn, &[7; 60_000]) == WHARF_OK {}
            }
            Event::End(conn) => {
                close(*conn, WHARF_CLOSE_FLUSH);
            }
            _ => {}
        }
    });
    let handler = recorder.handler_asking(move |_| {
        in_admit.call_in("Admit");
        WHARF_ADMIT_ACCEPT
    });
    let server = engine.server_with(handler, "127.0.0.1:0", |config| {
        config.max_connections_per_ip = 2;
        config.send_queue_limit_bytes = 100_000;
    });
    crowd.server.store(server.0, SeqCst);
    let client = engine.client(&Recorder::new(), &server.address());
    crowd.client.store(client.0, SeqCst);
    until("the client is there", || turn() && opens(&recorder.events()).len() == 1);
    let mut peer = server.connect();
    until("a peer is there", || turn() && opens(&recorder.events()).len() == 2);
    let _one_too_many = server.connect();
    until("one is refused", || turn() && crowd.has_called_in("refused"));
    write_all(&mut peer, b"x");
    until("it has spoken", || turn() && crowd.has_called_in("Receive"));
    peer.set_nonblocking(true).unwrap();
    let mut buffer = vec![0; 1 << 16];
    until("there is room", || {
        let _ = std::io::Read::read(&mut peer, &mut buffer);
        turn() && crowd.has_called_in("Writable")
    });
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    until("it has closed", || {
        let _ = std::io::Read::read(&mut peer, &mut buffer);
        turn() && crowd.has_called_in("Close")
    });
    server.stop(50);
    until("it has stopped", || turn() && crowd.has_called_in("stopped"));
    server.destroy();
    until("it is dropped", || turn() && crowd.has_called_in("Drop"));
    engine.destroy(0);
    let hung = crowd.hung.lock().unwrap().clone();
    assert!(hung.is_empty(), "another thread hangs while these run: {hung:?}");
    for kind in
        ["Admit", "Open", "Receive", "Sent", "Writable", "End", "Close", "Drop", "listening", "connected", "ended;"]
    {
        assert!(crowd.has_called_in(kind), "{kind} never came: {:?}", crowd.called.lock().unwrap());
    }
}

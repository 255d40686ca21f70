//! A caller-driven engine has no threads: every callback runs inside a turn, and its descriptor tells when one is due.

mod common;

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use common::*;

fn driven(port: u32) -> Engine {
    Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN)
}

fn turn(engine: &Engine, timeout_ms: i32) -> u32 {
    let mut completions = 0;
    ok(unsafe { wharf_engine_turn(engine.0, timeout_ms, &mut completions) });
    completions
}

fn turn_until(engine: &Engine, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !is_so() {
        turn(engine, 50);
        assert!(std::time::Instant::now() < deadline);
    }
}

fn is_readable(fd: i32, timeout_ms: i32) -> bool {
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 }
}

fn descriptor(engine: &Engine) -> i32 {
    let mut fd = -1;
    ok(unsafe { wharf_engine_fd(engine.0, &mut fd) });
    fd
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter(|task| {
            let comm = task.as_ref().unwrap().path().join("comm");
            std::fs::read_to_string(comm).is_ok_and(|name| name.starts_with("wharf-"))
        })
        .count()
}

on_every_port! {
    fn every_callback_runs_inside_a_turn_on_the_turning_thread(port) {
        let turning = Arc::new(AtomicBool::new(false));
        let outside = Arc::new(AtomicU32::new(0));
        let here: ThreadId = std::thread::current().id();
        let (inside, wrong) = (turning.clone(), outside.clone());
        let recorder = Recorder::with_hook(move |event| {
            if !inside.load(SeqCst) || std::thread::current().id() != here {
                wrong.fetch_add(1, SeqCst);
            }
            if let Event::Receive(conn, data) = event {
                ok(send_token(*conn, data, 3));
            }
        });
        let engine = driven(port);
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        write_all(&mut peer, b"round");
        // Nothing happens by itself.
        assert_eq!(recorder.events(), []);
        let go = |enough: &dyn Fn() -> bool| {
            turn_until(&engine, || {
                turning.store(true, SeqCst);
                let mut completions = 0;
                ok(unsafe { wharf_engine_turn(engine.0, 0, &mut completions) });
                turning.store(false, SeqCst);
                enough()
            });
        };
        turning.store(true, SeqCst);
        turn_until(&engine, || recorder.events().iter().any(|event| matches!(event, Event::Sent(..))));
        assert_eq!(read_exact(&mut peer, 5), b"round");
        let conn = recorder.wait_open();
        turning.store(false, SeqCst);
        ok(send_token(conn, b"x", 4));
        ok(close(conn, WHARF_CLOSE_NOW));
        server.destroy();
        let _ = go;
        turning.store(true, SeqCst);
        turn_until(&engine, || recorder.events().contains(&Event::Drop));
        assert_eq!(outside.load(SeqCst), 0);
        assert_eq!(engine.destroy(0), WHARF_OK);
    }

    fn the_descriptor_is_readable_when_a_turn_is_due_and_not_otherwise(port) {
        let engine = driven(port);
        let fd = descriptor(&engine);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Receive(conn, data) = event {
                ok(send_token(*conn, data, 1));
            }
        });
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| config.idle_timeout_ms = 400);
        let settle = || {
            for _ in 0..100 {
                if !is_readable(fd, 0) {
                    return;
                }
                turn(&engine, 0);
            }
            panic!("the descriptor stays readable although every turn was taken");
        };
        settle();
        let mut peer = server.connect();
        assert!(is_readable(fd, 60_000), "a connection waits");
        turn_until(&engine, || !opens(&recorder.events()).is_empty());
        settle();
        write_all(&mut peer, b"x");
        assert!(is_readable(fd, 60_000), "bytes wait");
        turn_until(&engine, || !sent_any(&recorder));
        settle();
        ok(unsafe { wharf_engine_wake(engine.0) });
        assert!(is_readable(fd, 60_000), "woken");
        turn(&engine, 0);
        settle();
        // From another thread too.
        let conn = recorder.wait_open();
        std::thread::spawn(move || ok(send_token(conn, b"y", 2))).join().unwrap();
        assert!(is_readable(fd, 60_000), "a token is to be told");
        settle();
        // The idle deadline makes it readable by itself.
        assert!(is_readable(fd, 60_000), "the deadline");
        turn_until(&engine, || !closes(&recorder.events()).is_empty());
        assert_eq!(closes(&recorder.events())[0].1, WHARF_E_IDLE);
        let _ = unsafe { BorrowedFd::borrow_raw(fd) }.as_raw_fd();
    }

    fn a_turn_waits_no_longer_than_it_was_told(port) {
        let engine = driven(port);
        let begin = std::time::Instant::now();
        assert_eq!(turn(&engine, 0), 0);
        turn(&engine, 50);
        assert!(begin.elapsed().as_millis() < 30_000);
        assert_eq!(threads_of_this_engine(), 0);
    }

    fn a_host_that_watches_edge_triggered_is_told_of_all_that_a_turn_leaves(port) {
        const PEERS: usize = 300;
        // Reads of one KiB: a share of 16 of them is used up by less than is sent.
        let engine = Engine::with(port, |config| {
            config.flags = WHARF_ENGINE_CALLER_DRIVEN;
            config.receive_buffer_bytes = 1024;
        });
        let recorder = Recorder::new();
        // Without deadlines, whose alarm would make an edge, too.
        let server = engine.server(&recorder);
        let host = EdgeTriggered::of(&engine);
        turn(&engine, 0);
        // More than a turn accepts.
        let mut peers: Vec<_> = (0..PEERS).map(|_| server.connect()).collect();
        host.turn_until("all are open", &engine, || opens(&recorder.events()).len() == PEERS);
        for round in 1..=3 {
            // More events than a turn takes, then more bytes than it reads of one connection.
            peers.iter_mut().for_each(|peer| write_all(peer, b"x"));
            host.turn_until("all have spoken", &engine, || received(&recorder.events()).len() == round * PEERS);
        }
        write_all(&mut peers[0], &[7; 60_000]);
        host.turn_until("all is read", &engine, || received(&recorder.events()).len() == 3 * PEERS + 60_000);
        let idle = Recorder::new();
        let server = engine.server_with(idle.handler(), "127.0.0.1:0", |config| config.idle_timeout_ms = 50);
        let _idle_peers: Vec<_> = (0..3).map(|_| server.connect()).collect();
        host.turn_until("all are idle", &engine, || closes(&idle.events()).len() == 3);
    }

    fn a_turn_that_was_refused_makes_another_edge(port) {
        let engine = driven(port);
        let handle = engine.0;
        let (inside, may_return) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (told, let_go) = (inside.clone(), may_return.clone());
        let recorder = Recorder::with_hook(move |event| {
            if let Event::Open(_) = event {
                told.store(true, SeqCst);
                until("the other thread was refused", || let_go.load(SeqCst));
            }
        });
        let server = engine.server(&recorder);
        turn(&engine, 0);
        let mut peer = server.connect();
        let begun = inside.clone();
        let turning = std::thread::spawn(move || {
            while !begun.load(SeqCst) {
                ok(unsafe { wharf_engine_turn(handle, 10_000, std::ptr::null_mut()) });
            }
        });
        until("the callback runs", || inside.load(SeqCst));
        let host = EdgeTriggered::of(&engine);
        write_all(&mut peer, b"x");
        host.wait_for_an_edge("bytes came");
        assert_eq!(unsafe { wharf_engine_turn(engine.0, 0, std::ptr::null_mut()) }, WHARF_E_STATE);
        may_return.store(true, SeqCst);
        turning.join().unwrap();
        host.turn_until("they are read", &engine, || received(&recorder.events()) == b"x");
    }

    fn a_signal_does_not_cut_a_turn_short(port) {
        static SIGNALS: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn count(_: libc::c_int) {
            SIGNALS.fetch_add(1, SeqCst);
        }
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = count as extern "C" fn(libc::c_int) as usize;
        assert_eq!(unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) }, 0);
        let engine = driven(port);
        turn(&engine, 0);
        let (here, before) = (unsafe { libc::pthread_self() } as usize, SIGNALS.load(SeqCst));
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let sender = std::thread::spawn(move || {
            while !over.load(SeqCst) {
                unsafe { libc::pthread_kill(here as libc::pthread_t, libc::SIGUSR1) };
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let begin = std::time::Instant::now();
        assert_eq!(turn(&engine, 300), 0);
        assert!(begin.elapsed().as_millis() >= 300, "{:?}", begin.elapsed());
        assert!(SIGNALS.load(SeqCst) > before + 1);
        // What ends a turn is the host's own word, signals or not.
        let handle = engine.0;
        let waker = std::thread::spawn(move || ok(unsafe { wharf_engine_wake(handle) }));
        assert_eq!(turn(&engine, -1), 0);
        waker.join().unwrap();
        is_over.store(true, SeqCst);
        sender.join().unwrap();
    }

    fn a_turn_inside_a_turn_would_deadlock_and_a_threaded_engine_has_no_turns(port) {
        let answer = Arc::new(AtomicU32::new(1));
        let told = answer.clone();
        let engine = driven(port);
        let handle = engine.0;
        let recorder = Recorder::with_hook(move |event| {
            if let Event::Open(_) = event {
                let mut completions = 0;
                told.store(unsafe { wharf_engine_turn(handle, 0, &mut completions) } as u32, SeqCst);
            }
        });
        let server = engine.server(&recorder);
        let _peer = server.connect();
        turn_until(&engine, || !opens(&recorder.events()).is_empty());
        assert_eq!(answer.load(SeqCst) as i32, WHARF_E_WOULD_DEADLOCK);
        assert_eq!(unsafe { wharf_server_wait(server.0, 10) }, WHARF_E_WOULD_DEADLOCK);
        let threaded = Engine::new(port);
        let mut completions = 0;
        assert_eq!(unsafe { wharf_engine_turn(threaded.0, 0, &mut completions) }, WHARF_E_STATE);
        let mut fd = 0;
        assert_eq!(unsafe { wharf_engine_fd(threaded.0, &mut fd) }, WHARF_E_STATE);
    }

    fn a_send_on_an_idle_connection_goes_to_the_kernel_without_a_turn(port) {
        let engine = driven(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        turn_until(&engine, || !opens(&recorder.events()).is_empty());
        let conn = recorder.wait_open();
        // Nobody turns the engine from here on: the sending threads themselves hand the bytes over.
        ok(send(conn, b"straight "));
        std::thread::spawn(move || ok(send(conn, b"there"))).join().unwrap();
        assert_eq!(read_exact(&mut peer, 14), b"straight there");
    }

    fn a_client_works_without_threads(port) {
        let engine = driven(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Open(conn) = event {
                ok(send(*conn, b"ping"));
            }
        });
        let server = engine.server(&echo());
        let client = engine.client(&recorder, &server.address());
        turn_until(&engine, || received(&recorder.events()) == b"ping");
        client.stop();
        turn_until(&engine, || !closes(&recorder.events()).is_empty());
    }

    fn engines_turn_inside_each_others_callbacks_as_deep_as_is_said_and_no_deeper(port) {
        const DEEPEST: usize = 8;
        let engines: Arc<Vec<Engine>> = Arc::new((0..=DEEPEST).map(|_| driven(port)).collect());
        let statuses = Arc::new(Mutex::new(Vec::new()));
        let depth = Arc::new(AtomicUsize::new(0));
        let mut scenes = Vec::new();
        for (level, engine) in engines.iter().enumerate() {
            let (inner, statuses, depth) = (engines.get(level + 1).map(|engine| engine.0), statuses.clone(), depth.clone());
            let recorder = Recorder::with_hook(move |event| {
                let (Event::Receive(..), Some(inner)) = (event, inner) else { return };
                depth.store(level + 1, SeqCst);
                let mut status = WHARF_OK;
                // Turns of the next one until its message nests the one after it.
                while status == WHARF_OK && depth.load(SeqCst) == level + 1 {
                    status = unsafe { wharf_engine_turn(inner, 1000, std::ptr::null_mut()) };
                    if level + 1 == DEEPEST {
                        break;
                    }
                }
                statuses.lock().unwrap().push((level + 1, status));
            });
            let server = std::mem::ManuallyDrop::new(engine.server(&recorder));
            let mut peer = server.connect();
            turn_until(engine, || !opens(&recorder.events()).is_empty());
            write_all(&mut peer, b"x");
            scenes.push((recorder, peer));
        }
        turn_until(&engines[0], || received(&scenes[0].0.events()) == b"x");
        let mut expected = vec![(DEEPEST, WHARF_E_LIMIT)];
        expected.extend((1..DEEPEST).rev().map(|level| (level, WHARF_OK)));
        assert_eq!(*statuses.lock().unwrap(), expected);
        // The one that was refused lost nothing.
        turn_until(&engines[DEEPEST], || received(&scenes[DEEPEST].0.events()) == b"x");
    }

    fn destroy_in_a_callback_ends_within_the_next_turns(port) {
        let engine = driven(port);
        let handle = engine.0;
        let recorder = Recorder::with_hook(move |event| {
            if let Event::Receive(..) = event {
                ok(unsafe { wharf_engine_destroy(handle, 0) });
            }
        });
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        write_all(&mut peer, b"end");
        let mut completions = 0;
        until("the engine is gone", || unsafe { wharf_engine_turn(engine.0, 50, &mut completions) } == WHARF_E_STALE);
        assert_eq!(recorder.events().last(), Some(&Event::Drop));
    }
}

/// A host that watches the descriptor edge-triggered, and takes one turn for each edge.
struct EdgeTriggered(std::os::fd::OwnedFd);

impl EdgeTriggered {
    fn of(engine: &Engine) -> EdgeTriggered {
        use std::os::fd::FromRawFd;
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
        assert_eq!(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, descriptor(engine), &mut event) }, 0);
        EdgeTriggered(unsafe { std::os::fd::OwnedFd::from_raw_fd(epoll) })
    }

    fn wait_for_an_edge(&self, what: &str) {
        let mut event = libc::epoll_event { events: 0, u64: 0 };
        let patience = PATIENCE.as_millis() as i32;
        let edges = unsafe { libc::epoll_wait(self.0.as_raw_fd(), &mut event, 1, patience) };
        assert_eq!(edges, 1, "no edge, in vain waited until {what}");
    }

    fn turn_until(&self, what: &str, engine: &Engine, mut is_so: impl FnMut() -> bool) {
        while !is_so() {
            self.wait_for_an_edge(what);
            turn(engine, 0);
        }
    }
}

fn sent_any(recorder: &Recorder) -> bool {
    !recorder.events().iter().any(|event| matches!(event, Event::Sent(..)))
}

/// Tests of this file that run beside this one use no threads either, but for the one that compares.
fn threads_of_this_engine() -> usize {
    threads().saturating_sub(1)
}

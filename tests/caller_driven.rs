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

fn sent_any(recorder: &Recorder) -> bool {
    !recorder.events().iter().any(|event| matches!(event, Event::Sent(..)))
}

/// Tests of this file that run beside this one use no threads either, but for the one that compares.
fn threads_of_this_engine() -> usize {
    threads().saturating_sub(1)
}

//! A process that forks: in the child every call is refused at once, whatever the parent's other threads were doing, and
//! the parent goes on.

mod common;

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::*};
use std::time::{Duration, Instant};

use common::calls::calls;
use common::*;

/// A child that still runs after this many seconds waits for a lock that nobody will ever give back.
const CHILD_SECONDS: u32 = 20;

/// Forks; the child ends with what `check` gives. Gives how the child ended.
fn in_a_child(check: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child calls the C ABI and what signal-safety(7) allows, and ends with _exit.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0, "{}", std::io::Error::last_os_error());
        if pid == 0 {
            libc::alarm(CHILD_SECONDS);
            libc::_exit(check());
        }
        let mut how = 0;
        assert_eq!(libc::waitpid(pid, &mut how, 0), pid);
        how
    }
}

#[track_caller]
fn all_was_well(how: i32) {
    assert!(libc::WIFEXITED(how), "the child was ended by signal {}: it hung or crashed", libc::WTERMSIG(how));
    assert_eq!(libc::WEXITSTATUS(how), 0, "what did not hold in the child, by its number");
}

/// In a child: every function refuses every handle, those that name nothing included. The number of what does not hold.
fn everything_is_refused(living: [u64; 4]) -> i32 {
    let mut number = 0;
    for (_, kind, call) in calls() {
        number += 1;
        if call(living[kind as usize - 1]) != WHARF_E_FORKED || call(u64::MAX) != WHARF_E_FORKED {
            return number;
        }
    }
    let mut engine = 7;
    // SAFETY: as the header says.
    unsafe {
        let mut error = error();
        if wharf_engine_create(&engine_config(), &mut engine, &mut error) != WHARF_E_FORKED {
            return 100;
        }
        let text = CStr::from_ptr(error.message.as_ptr());
        if error.status != WHARF_E_FORKED || text != CStr::from_ptr(wharf_status_text(WHARF_E_FORKED)) {
            return 101;
        }
        let mut bytes = 0;
        if wharf_engine_footprint(&engine_config(), &mut bytes) != WHARF_OK || bytes == 0 {
            return 102;
        }
        if CStr::from_ptr(wharf_status_name(WHARF_E_FORKED)) != c"WHARF_E_FORKED" || wharf_version() == 0 {
            return 103;
        }
        if wharf_engine_stats(WHARF_DEFAULT_ENGINE, &mut stats()) != WHARF_E_FORKED {
            return 104;
        }
    }
    0
}

/// Bytes go to the server and back.
fn exchange(peer: &mut std::net::TcpStream) {
    write_all(peer, b"there and back");
    assert_eq!(read_exact(peer, 14), b"there and back");
}

on_every_port! {
    fn every_call_in_a_child_is_refused_and_the_parent_goes_on(port) {
        let engine = Engine::new(port);
        let recorder = echo();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let client = engine.client(&Recorder::new(), &server.address());
        assert_eq!(client.wait(30_000).0, WHARF_OK);
        exchange(&mut peer);
        let living = [engine.0, server.0, client.0, conn];
        all_was_well(in_a_child(|| everything_is_refused(living)));
        exchange(&mut peer);
        exchange(&mut server.connect());
        let stats = engine.stats();
        assert_eq!((stats.accepted, stats.connected), (3, 1));
        assert_eq!(engine.destroy(1000), WHARF_OK);
        assert_eq!(read_to_end(&mut peer), b"");
    }

    fn no_child_waits_for_a_lock_of_a_thread_that_it_does_not_have(port) {
        let engine = Engine::with(port, |config| config.workers = 2);
        let recorder = echo();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let _reader = server.connect();
        let conns = recorder.wait_opens(2);
        let client = engine.client(&Recorder::new(), &server.address());
        assert_eq!(client.wait(30_000).0, WHARF_OK);
        let living = [engine.0, server.0, client.0, conns[1]];
        let stop = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..3 {
                // They hold the registry's, the engine's and the connection's locks most of the time.
                threads.spawn(|| {
                    while !stop.load(SeqCst) {
                        ok(unsafe { wharf_conn_set_data(conns[1], null_mut()) });
                        ok(unsafe { wharf_server_broadcast(server.0, null_mut(), 0, 0, null_mut()) });
                        server.stats();
                        drop(Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN));
                    }
                });
            }
            for _ in 0..100 {
                let how = in_a_child(|| everything_is_refused(living));
                if how != 0 {
                    stop.store(true, SeqCst);
                }
                all_was_well(how);
            }
            stop.store(true, SeqCst);
        });
        exchange(&mut peer);
    }

    fn a_child_ends_its_objects_as_a_destructor_would_and_the_parent_keeps_them(port) {
        let engine = Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN);
        let recorder = echo();
        let server = engine.server(&recorder);
        let mut fd = -1;
        ok(unsafe { wharf_engine_fd(engine.0, &mut fd) });
        let how = in_a_child(|| unsafe {
            let refused = [
                wharf_server_destroy(server.0),
                wharf_engine_turn(engine.0, -1, null_mut()),
                wharf_engine_wake(engine.0),
                wharf_engine_destroy(engine.0, 1000),
            ];
            refused.iter().filter(|status| **status != WHARF_E_FORKED).count() as i32
        });
        all_was_well(how);
        assert!(server.is_running());
        let address = server.address();
        let talk = std::thread::spawn(move || exchange(&mut connect(&address)));
        let begin = Instant::now();
        while !talk.is_finished() {
            ok(unsafe { wharf_engine_turn(engine.0, 20, null_mut()) });
            assert!(begin.elapsed() < PATIENCE);
        }
        talk.join().unwrap();
    }

    fn a_child_forked_in_a_callback_is_refused_as_well(port) {
        let how = Arc::new(AtomicI32::new(-1));
        let seen = how.clone();
        let recorder = Recorder::with_hook(move |event| {
            if let Event::Receive(conn, data) = event {
                seen.store(in_a_child(|| i32::from(send(*conn, b"from the child") != WHARF_E_FORKED)), SeqCst);
                ok(send(*conn, data));
            }
        });
        let engine = Engine::new(port);
        let server = engine.server(&recorder);
        exchange(&mut server.connect());
        all_was_well(how.load(SeqCst));
    }

    fn descriptors_are_closed_when_a_child_execs(port) {
        let engine = Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN);
        let recorder = echo();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let begin = Instant::now();
        while recorder.events().is_empty() {
            ok(unsafe { wharf_engine_turn(engine.0, 20, null_mut()) });
            assert!(begin.elapsed() < PATIENCE);
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // As long as anybody held the socket, the peer would see no end.
        assert_eq!(engine.destroy(0), WHARF_OK);
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let end = std::io::Read::read(&mut peer, &mut [0; 8]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(end.unwrap(), 0);
    }
}

/// Alone in its process: other tests of this binary have used the library already.
#[test]
fn children_of_a_process_that_has_not_used_the_library_may_use_it() {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_forks_before_it_makes_an_engine", "--ignored", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&child.stderr));
}

#[test]
#[ignore = "run by the test above, alone in its process"]
fn child_forks_before_it_makes_an_engine() {
    unsafe extern "C" fn nothing(_: *mut c_void) {}
    let serve = || {
        let engine = Engine::new(WHARF_PORT_AUTO);
        let recorder = echo();
        let mut handler = recorder.handler();
        handler.on_drop = Some(nothing);
        exchange(&mut engine.server_with(handler, "127.0.0.1:0", |_| {}).connect());
        engine.destroy(0)
    };
    all_was_well(in_a_child(serve));
    assert_eq!(serve(), WHARF_OK);
    all_was_well(in_a_child(|| {
        i32::from(unsafe { wharf_engine_create(std::ptr::null(), &mut 0, null_mut()) } != WHARF_E_FORKED)
    }));
}

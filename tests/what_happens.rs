//! What docs/what-happens-when.md says of callbacks that block, signals, clocks and processes that stand still; and that the
//! page names tests that there are.

#![cfg(target_os = "linux")]

mod common;
mod hostile;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use hostile::echo::Echo;
use hostile::honest::exchange;
use hostile::server_process::ServerProcess;
use hostile::sockets::Place;

#[test]
#[ignore = "the server of a test below, in a process of its own"]
fn the_process_of_the_server() {
    hostile::server::run();
}

type Lines = Mutex<Vec<(i32, String)>>;

unsafe extern "C" fn on_log(context: *mut c_void, level: i32, text: *const c_char) {
    let lines = unsafe { &*(context as *const Lines) };
    let text = unsafe { CStr::from_ptr(text) }.to_str().unwrap().to_string();
    lines.lock().unwrap().push((level, text));
}

on_every_port! {
    fn a_callback_that_blocks_delays_only_its_own_worker_and_is_counted_and_logged(port) {
        let lines: Arc<Lines> = Arc::default();
        let engine = Engine::with(port, |config| {
            config.workers = 2;
            config.slow_callback_ms = 10;
            config.on_log = Some(on_log);
            config.log_context = Arc::as_ptr(&lines) as *mut _;
        });
        let (blocks, is_blocked) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (until_then, tells) = (blocks.clone(), is_blocked.clone());
        let recorder = Recorder::forgetful(move |event| {
            let Event::Receive(conn, data) = event else { return };
            if data[0] == b'B' {
                tells.store(true, SeqCst);
                // As a disk that stalls would; the log of slow callbacks wants more than 10 ms.
                until("the other was served", || {
                    std::thread::park_timeout(Duration::from_millis(20));
                    !until_then.load(SeqCst)
                });
            }
            ok(send(*conn, data));
        });
        let server = engine.server(&recorder);
        let mut blocked = server.connect();
        recorder.wait_opens(1);
        let mut other = server.connect();
        recorder.wait_opens(2);
        write_all(&mut blocked, b"B");
        until("a callback blocks", || is_blocked.load(SeqCst));
        for round in 0..100u8 {
            write_all(&mut other, &[b'o', round]);
            assert_eq!(read_exact(&mut other, 2), [b'o', round]);
        }
        blocks.store(false, SeqCst);
        assert_eq!(read_exact(&mut blocked, 1), b"B");
        until("it is counted", || engine.stats().slow_callbacks >= 1);
        until("it is logged", || {
            lines.lock().unwrap().iter().any(|(level, line)| *level == WHARF_LOG_WARNING && line.contains("callback"))
        });
    }

    fn a_server_that_stood_still_goes_on_where_it_was(port) {
        let plan = format!("address=127.0.0.1:0 port={port} engine_connections=64 idle_timeout_ms=500");
        let process = ServerProcess::start(&plan, None);
        let mut talks = Place::default().connect(process.address).unwrap();
        let mut idle = Place::default().connect(process.address).unwrap();
        exchange(&mut idle, 1, 0);
        exchange(&mut talks, 0, 0);
        process.signal(libc::SIGSTOP);
        let mut asked = Place::default().connect(process.address).unwrap();
        let waiting = std::thread::spawn(move || exchange(&mut asked, 2, 0));
        talks.write_all(b"E and more").unwrap();
        // For the clock, no time is special: longer than the idle timeout.
        std::thread::park_timeout(Duration::from_millis(700));
        process.signal(libc::SIGCONT);
        assert_eq!(read_exact(&mut talks, 10), b"E and more");
        waiting.join().unwrap();
        assert_eq!(read_to_end(&mut idle), b"");
        drop((talks, idle));
        let end = process.stop();
        assert_eq!((end.get("opens"), end.get("closes"), end.get("drops")), (3, 3, 1), "{end:?}");
    }
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn on_signal(_: c_int) {
    SIGNALS.fetch_add(1, Relaxed);
}

#[test]
fn signals_disturb_no_traffic_and_a_broken_pipe_kills_nobody() {
    // In a process of its own, because the signals are for all of it.
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_gets_signals", "--ignored", "--nocapture", "--test-threads=1"]);
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{} {text}{errors}", output.status);
}

#[test]
#[ignore = "run by the test above, alone in its process"]
fn child_gets_signals() {
    // SAFETY: the action is all zeros but for a handler that only counts, without SA_RESTART, so that system calls are
    // interrupted. Rust ignores SIGPIPE; a C program does not, and would be killed by it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_signal as extern "C" fn(c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()), 0);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    for port in [WHARF_PORT_EPOLL, WHARF_PORT_POLLING] {
        // One engine with threads, and one that this thread turns and that gets the signals in its waits.
        let lines: Arc<Lines> = Arc::default();
        let [threaded, driven] = [0, WHARF_ENGINE_CALLER_DRIVEN].map(|flags| {
            Engine::with(port, |config| {
                config.flags = flags;
                config.log_level = WHARF_LOG_ERROR;
                config.on_log = Some(on_log);
                config.log_context = Arc::as_ptr(&lines) as *mut _;
            })
        });
        let counts = Arc::new(Echo::default());
        break_a_pipe(&driven, &counts);
        let servers = [&threaded, &driven].map(|engine| engine.server_with(counts.handler(), "127.0.0.1:0", |_| {}));
        let stop = Arc::new(AtomicBool::new(false));
        let talkers: Vec<_> = servers
            .iter()
            .map(|server| {
                let (address, stop) = (server.address(), stop.clone());
                std::thread::spawn(move || {
                    let mut rounds = 0;
                    while !stop.load(SeqCst) || rounds < 500 {
                        let mut peer = connect(&address);
                        exchange(&mut peer, 0, rounds);
                        // Bytes whose answer nobody will read, and a close: what the server sends meets a broken pipe.
                        write_all(&mut peer, &[1; 60_000]);
                        rounds += 1;
                    }
                })
            })
            .collect();
        // SAFETY: this thread's own number; the threads that send signals end before this one does.
        let me = unsafe { libc::pthread_self() };
        let (begin, ended) = (SIGNALS.load(SeqCst), stop.clone());
        let sender = std::thread::spawn(move || {
            while !ended.load(SeqCst) {
                // SAFETY: the thread lives until this one was joined.
                unsafe { libc::pthread_kill(me, libc::SIGUSR1) };
                std::thread::park_timeout(Duration::from_micros(200));
            }
        });
        while SIGNALS.load(SeqCst) < begin + 500 {
            ok(unsafe { wharf_engine_turn(driven.0, 50, std::ptr::null_mut()) });
        }
        stop.store(true, SeqCst);
        sender.join().unwrap();
        while talkers.iter().any(|talker| !talker.is_finished()) {
            ok(unsafe { wharf_engine_turn(driven.0, 5, std::ptr::null_mut()) });
        }
        talkers.into_iter().for_each(|talker| talker.join().unwrap());
        assert!(lines.lock().unwrap().is_empty(), "a signal is no error: {:?}", lines.lock().unwrap());
    }
}

/// A Unix socket whose peer is gone gives EPIPE, and SIGPIPE to those who did not say that they want none.
fn break_a_pipe(driven: &Engine, counts: &Arc<Echo>) {
    let path = unix_path();
    let server = driven.server_with(counts.handler(), &format!("unix:{}", path.display()), |_| {});
    let before = counts.closes.load(SeqCst);
    for _ in 0..10 {
        let mut peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
        peer.write_all(b"E").unwrap();
        drop(peer);
    }
    until("all are answered and gone", || {
        ok(unsafe { wharf_engine_turn(driven.0, 50, std::ptr::null_mut()) });
        counts.closes.load(SeqCst) == before + 10
    });
    ok(server.destroy());
}

fn source_files(folder: &std::path::Path, all: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { source_files(&path, all) } else { all.push(path) }
    }
}

#[test]
fn no_clock_is_read_that_can_jump() {
    let mut files = Vec::new();
    source_files(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut monotonic = 0;
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let text = std::fs::read_to_string(path).unwrap();
        for clock in ["SystemTime", "CLOCK_REALTIME", "gettimeofday", "libc::time("] {
            assert!(!text.contains(clock), "{} reads {clock}", path.display());
        }
        monotonic += text.matches("CLOCK_MONOTONIC").count();
    }
    assert!(monotonic > 0, "the one clock that there should be was not found");
}

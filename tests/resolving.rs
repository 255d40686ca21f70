//! Host names: a fixed number of threads resolves them, whatever the names do; everybody is told in time, and threads that
//! hang hold nothing up. The system's resolver is this file's own: what a name does stands in it.

mod common;

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, c_char};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::*;

/// What was asked for, and which of the names that are held may be answered.
#[derive(Default)]
struct Names {
    asked: HashMap<String, usize>,
    released: HashSet<String>,
    /// The test is over.
    all_released: bool,
}

static NAMES: LazyLock<(Mutex<Names>, Condvar)> = LazyLock::new(Default::default);

fn names() -> MutexGuard<'static, Names> {
    NAMES.0.lock().unwrap_or_else(PoisonError::into_inner)
}

fn asked(name: &str) -> usize {
    names().asked.get(name).copied().unwrap_or(0)
}

fn release(name: &str) {
    names().released.insert(name.to_string());
    NAMES.1.notify_all();
}

/// In place of the C library's. Names that begin with "held" have no answer until they are released; "none" has none ever.
#[unsafe(no_mangle)]
unsafe extern "C" fn getaddrinfo(
    node: *const c_char,
    _service: *const c_char,
    _hints: *const libc::addrinfo,
    out: *mut *mut libc::addrinfo,
) -> i32 {
    let name = unsafe { CStr::from_ptr(node) }.to_str().unwrap().to_string();
    let mut names = names();
    *names.asked.entry(name.clone()).or_default() += 1;
    if name.starts_with("held") {
        names = NAMES.1.wait_while(names, |names| !names.all_released && !names.released.contains(&name)).unwrap();
    }
    drop(names);
    if name.starts_with("none") {
        return libc::EAI_NONAME;
    }
    unsafe {
        let mut address: libc::sockaddr_in = std::mem::zeroed();
        address.sin_family = libc::AF_INET as _;
        address.sin_addr.s_addr = u32::from(Ipv4Addr::LOCALHOST).to_be();
        let mut info: libc::addrinfo = std::mem::zeroed();
        info.ai_family = libc::AF_INET;
        info.ai_socktype = libc::SOCK_STREAM;
        info.ai_addrlen = size_of_val(&address) as _;
        info.ai_addr = Box::into_raw(Box::new(address)).cast();
        *out = Box::into_raw(Box::new(info));
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn freeaddrinfo(info: *mut libc::addrinfo) {
    unsafe {
        let info = Box::from_raw(info);
        drop(Box::from_raw(info.ai_addr.cast::<libc::sockaddr_in>()));
    }
}

/// Threads are counted, and sometimes there are none to be had: one test at a time. What is still held in its end is
/// released.
struct Alone(#[allow(dead_code)] MutexGuard<'static, ()>);

fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    until("the threads of the test before are gone", || resolvers().is_empty());
    names().all_released = false;
    Alone(alone)
}

impl Drop for Alone {
    fn drop(&mut self) {
        names().all_released = true;
        NAMES.1.notify_all();
    }
}

/// Name and blocked signals of each thread whose name begins so.
fn threads(beginning: &str) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let thread = |task: std::fs::DirEntry| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
        let is_one = name.starts_with(beginning);
        is_one.then(|| (name.trim().to_string(), u64::from_str_radix(mask.trim(), 16).unwrap()))
    };
    tasks.filter_map(|task| thread(task.ok()?)).collect()
}

fn resolvers() -> Vec<(String, u64)> {
    threads("wharf-dns-")
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A client that is made and not started.
fn stopped_client(engine: &Engine, address: &str) -> Arc<Recorder> {
    let recorder = Recorder::new();
    let (address, handler) = (std::ffi::CString::new(address).unwrap(), recorder.handler());
    let mut config = client_config();
    config.address = address.as_ptr();
    let mut client = 0;
    ok(unsafe { wharf_client_create(engine.0, &config, &handler, &mut client, std::ptr::null_mut()) });
    recorder
}

on_every_port! {
    fn names_have_few_threads_and_engines_without_names_have_none(port) {
        let _alone = alone();
        let (_listener, at) = listen();
        for (asked, expected) in [(0, 2), (5, 5)] {
            let engine = Engine::with(port, |config| config.resolver_threads = asked);
            let recorder = Recorder::new();
            engine.client(&recorder, &format!("127.0.0.1:{at}"));
            recorder.wait_open();
            assert_eq!(resolvers(), []);
            for number in 0..9 {
                stopped_client(&engine, &format!("quick{number}.test:{at}"));
            }
            until("the threads have their names", || resolvers().len() == expected);
            ok(engine.destroy(0));
            assert_eq!(resolvers(), [], "they end with the engine");
        }
    }

    fn equal_names_are_asked_once_and_all_who_asked_are_told(port) {
        let _alone = alone();
        let (_listener, at) = listen();
        let name = format!("held-equal-{port}.test");
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        for _ in 0..100 {
            engine.client(&recorder, &format!("{name}:{at}"));
        }
        until("it is asked", || asked(&name) == 1);
        let quick = Recorder::new();
        engine.client(&quick, &format!("quick.test:{at}"));
        quick.wait_open();
        assert_eq!(recorder.events(), []);
        release(&name);
        recorder.wait_opens(100);
        assert_eq!(asked(&name), 1);
    }

    fn a_quick_name_does_not_wait_for_hundreds_of_slow_ones(port) {
        let _alone = alone();
        let (_listener, at) = listen();
        let name = |number: u32| format!("held-{number}-{port}.test");
        let engine = Engine::new(port);
        let slow = Recorder::new();
        let begin = Instant::now();
        for number in 0..500 {
            engine.client(&slow, &format!("{}:{at}", name(number)));
        }
        until("both threads are stuck", || asked(&name(0)) + asked(&name(1)) == 2);
        // The others have waited for long by then.
        until("a while has passed", || begin.elapsed() > Duration::from_millis(1500));
        let quick = Recorder::new();
        engine.client(&quick, &format!("quick.test:{at}"));
        // Begun after it and connected: the quick name waits by now.
        let other = Recorder::new();
        engine.client(&other, &format!("127.0.0.1:{at}"));
        other.wait_open();
        assert_eq!(resolvers().len(), 2);
        // The first thread that comes back takes it, before 498 others.
        release(&name(0));
        quick.wait_open();
        assert!((2..500).all(|number| asked(&name(number)) <= 1));
        assert!((2..500).map(|number| asked(&name(number))).sum::<usize>() <= 2);
    }

    fn a_name_that_was_slow_stands_behind_those_that_were_not(port) {
        let _alone = alone();
        let (_listener, at) = listen();
        let held = [1, 2].map(|number| format!("held-again-{number}-{port}.test"));
        let engine = Engine::with(port, |config| config.resolver_threads = 2);
        let client = |name: &str| {
            let recorder = Recorder::new();
            (engine.client(&recorder, &format!("{name}:{at}")), recorder)
        };
        let begin = Instant::now();
        let first = held.each_ref().map(|name| client(name));
        until("both are asked", || held.iter().all(|name| asked(name) == 1));
        until("both are slow", || begin.elapsed() > Duration::from_millis(700));
        for (name, (client, recorder)) in held.iter().zip(first) {
            release(name);
            recorder.wait_open();
            client.destroy();
            names().released.remove(name);
        }
        // One of them is looked up; the other thread is left to names that were not slow.
        let again = held.each_ref().map(|name| client(name));
        until("one is asked again", || held.iter().any(|name| asked(name) == 2));
        for number in 0..20 {
            client(&format!("quick{number}.test")).1.wait_open();
        }
        assert_eq!(held.iter().map(|name| asked(name)).sum::<usize>(), 3);
        held.iter().for_each(|name| release(name));
        again.iter().for_each(|(_, recorder)| _ = recorder.wait_open());
    }

    fn a_destroy_does_not_wait_for_a_resolver_that_hangs(port) {
        let _alone = alone();
        let (_listener, at) = listen();
        let name = format!("held-hangs-{port}.test");
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        engine.client(&recorder, &format!("{name}:{at}"));
        until("it is asked", || asked(&name) == 1);
        ok(engine.destroy(0));
        assert_eq!(recorder.events(), [Event::Close(0, WHARF_E_STOPPED), Event::Drop]);
        assert_eq!(resolvers().len(), 1, "the one that hangs; the other has ended");
        release(&name);
        until("it ends by itself", || resolvers().is_empty());
        assert_eq!(recorder.events().len(), 2);
    }

    fn a_name_has_its_deadline_and_says_that_it_was_the_resolver(port) {
        let _alone = alone();
        let name = format!("held-late-{port}.test");
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let client =
            engine.client_with(recorder.handler(), &format!("{name}:80"), |config| config.connect_timeout_ms = 150);
        let (status, message) = client.wait(60_000);
        assert_eq!(status, WHARF_E_TIMEOUT);
        assert_eq!(message, format!("resolve {name}: the resolver gave no answer within 150 ms"));
        let none = engine.client(&Recorder::new(), "none.test:80");
        assert_eq!(none.wait(60_000).0, WHARF_E_RESOLVE);
        release(&name);
    }

    fn an_answer_makes_the_descriptor_of_a_caller_driven_engine_readable(port) {
        let _alone = alone();
        let (_listener, at) = listen();
        let name = format!("held-driven-{port}.test");
        let engine = Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN);
        let recorder = Recorder::new();
        engine.client(&recorder, &format!("{name}:{at}"));
        let mut fd = -1;
        ok(unsafe { wharf_engine_fd(engine.0, &mut fd) });
        let turn = || ok(unsafe { wharf_engine_turn(engine.0, 0, std::ptr::null_mut()) });
        let is_readable = |timeout_ms: i32| {
            let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            unsafe { libc::poll(&mut poll, 1, timeout_ms) == 1 }
        };
        until("it is asked", || {
            turn();
            asked(&name) == 1
        });
        while is_readable(0) {
            turn();
        }
        release(&name);
        assert!(is_readable(PATIENCE.as_millis() as i32));
        until("it is connected", || {
            turn();
            !opens(&recorder.events()).is_empty()
        });
    }

    fn helper_threads_leave_signals_to_the_host_but_not_faults(port) {
        let _alone = alone();
        let engine = Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN);
        let name = format!("held-signals-{port}.test");
        engine.client(&Recorder::new(), &format!("{name}:80"));
        // The alarm of the portable port has a thread from the first deadline on.
        ok(unsafe { wharf_engine_turn(engine.0, 0, std::ptr::null_mut()) });
        until("the threads have their names", || resolvers().len() == 2);
        if port == WHARF_PORT_POLLING {
            until("the alarm has its thread", || threads("async-io").len() == 1);
        }
        let all = threads("wharf-").into_iter().chain(threads("async-io"));
        let bit = |signal: i32| 1u64 << (signal - 1);
        for (thread, mask) in all {
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGUSR1, libc::SIGALRM, libc::SIGCHLD] {
                assert!(mask & bit(signal) != 0, "{thread} has signal {signal} open");
            }
            use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
            for signal in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS] {
                assert!(mask & bit(signal) == 0, "{thread} has signal {signal} blocked");
            }
        }
        release(&name);
    }
}

/// Not where ThreadSanitizer starts the threads.
#[cfg(not(wharf_libc_calls))]
mod without_threads {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicBool, Ordering::*};

    use super::*;

    static NONE_LEFT: AtomicBool = AtomicBool::new(false);

    type Create =
        unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, *const c_void, *mut c_void) -> i32;

    /// In place of the C library's: at times there is none left.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        run: *const c_void,
        argument: *mut c_void,
    ) -> i32 {
        if NONE_LEFT.load(SeqCst) {
            return libc::EAGAIN;
        }
        unsafe {
            let real = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr());
            std::mem::transmute::<*mut c_void, Create>(real)(thread, attributes, run, argument)
        }
    }

    on_every_port! {
        fn where_no_thread_can_be_started_a_name_fails_at_once_and_says_why(port) {
            let _alone = alone();
            let (_listener, at) = listen();
            let engine = Engine::new(port);
            let recorder = Recorder::new();
            NONE_LEFT.store(true, SeqCst);
            let client = engine.client(&recorder, &format!("quick.test:{at}"));
            let (status, message) = client.wait(60_000);
            assert_eq!(closes(&recorder.events()), [(0, WHARF_E_OS)]);
            assert_eq!(status, WHARF_E_OS);
            assert!(message.starts_with("start a thread that resolves names: "), "{message}");
            assert!(message.ends_with("raise the limit of threads (ulimit -u, pids.max of the cgroup)"), "{message}");
            // What needs no resolver works, and later so does this.
            let other = Recorder::new();
            engine.client(&other, &format!("127.0.0.1:{at}"));
            other.wait_open();
            NONE_LEFT.store(false, SeqCst);
            ok(unsafe { wharf_client_start(client.0, std::ptr::null_mut()) });
            recorder.wait_open();
        }
    }
}

//! Descriptors, threads and memory: nothing grows, nothing is lost when they run out, engines do not know each other.

mod common;

use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};

use common::*;

fn count(folder: &str) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Runs one test of this binary alone, in a process of its own with a limit of descriptors.
fn alone(name: &str, most_files: u64) {
    use std::os::unix::process::CommandExt;
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    // SAFETY: setrlimit is safe to call between fork and exec (signal-safety(7) lists what may be called; it is a plain
    // system call that takes no lock).
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: most_files, rlim_max: most_files };
            match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_thousand_engines_leave_nothing_behind() {
    alone("child_makes_a_thousand_engines", 1024);
}

#[test]
#[ignore = "run by the test above, alone in its process"]
fn child_makes_a_thousand_engines() {
    let round = |number: u32| {
        let port = if number % 2 == 0 { WHARF_PORT_EPOLL } else { WHARF_PORT_POLLING };
        let engine = Engine::with(port, |config| {
            config.workers = 2;
            config.pool_bytes = 1 << 20;
        });
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let peer = server.connect();
        recorder.wait_open();
        assert_eq!(engine.destroy(0), WHARF_OK);
        assert_eq!(engine.destroy(0), WHARF_E_STALE);
        assert_eq!(recorder.events().last(), Some(&Event::Drop));
        drop(peer);
    };
    for number in 0..50 {
        round(number);
    }
    let before = (count("/proc/self/fd"), count("/proc/self/task"), resident_kib());
    for number in 0..1000 {
        round(number);
    }
    let after = (count("/proc/self/fd"), count("/proc/self/task"), resident_kib());
    assert_eq!(before.0, after.0, "descriptors");
    assert_eq!(before.1, after.1, "threads");
    assert!(after.2 < before.2 + 4096, "memory grew from {} to {} KiB", before.2, after.2);
}

#[test]
fn running_out_of_descriptors_is_survived_and_counted() {
    alone("child_runs_out_of_descriptors", 64);
}

#[test]
#[ignore = "run by the test above, alone in its process"]
fn child_runs_out_of_descriptors() {
    for port in [WHARF_PORT_EPOLL, WHARF_PORT_POLLING] {
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::End(conn) = event {
                close(*conn, WHARF_CLOSE_FLUSH);
            }
        });
        let server = engine.server(&recorder);
        // Both ends are in this process. Whether the limit is met while the backlog holds a connection is chance; three
        // sockets that are made before and connected after make it so.
        let mut late = [(); 3].map(|()| unconnected());
        let mut peers = Vec::new();
        while let Ok(peer) = std::net::TcpStream::connect(server.address()) {
            peers.push(peer);
        }
        for socket in &late {
            connect_to(socket, &server.address());
        }
        until("accepting has backed off", || server.stats().descriptor_exhaustions > 0);
        let cpu_before = cpu_ms();
        let backed_off = server.stats().descriptor_exhaustions;
        until("it has tried again", || {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
            server.stats().descriptor_exhaustions >= backed_off + 3
        });
        assert!(cpu_ms() - cpu_before < 250, "it spins: {} ms of CPU in three pauses", cpu_ms() - cpu_before);
        let open = server.stats().open as usize;
        assert!(open < peers.len() + late.len());
        // With descriptors back, those that waited in the backlog are served.
        drop(peers);
        for conn in recorder.wait_opens(open).into_iter().take(open) {
            close(conn, WHARF_CLOSE_NOW);
        }
        write_all(&mut late[2], b"at last");
        until("the last is served", || received(&recorder.lock()).ends_with(b"at last"));
        let stats = server.stats();
        assert_eq!(stats.accepted, stats.open + stats.closed);
    }
}

fn unconnected() -> TcpStream {
    // SAFETY: the new descriptor is the stream's alone.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        TcpStream::from_raw_fd(fd)
    }
}

fn connect_to(socket: &TcpStream, address: &str) {
    let address: std::net::SocketAddrV4 = address.parse().unwrap();
    // SAFETY: of all zeros an address is made; it lives for the call, and the length is its own.
    unsafe {
        let mut raw: libc::sockaddr_in = std::mem::zeroed();
        raw.sin_family = libc::AF_INET as libc::sa_family_t;
        raw.sin_port = address.port().to_be();
        raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
        let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let result = libc::connect(socket.as_raw_fd(), (&raw const raw).cast(), length);
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

fn cpu_ms() -> u64 {
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let ms = |time: libc::timeval| time.tv_sec as u64 * 1000 + time.tv_usec as u64 / 1000;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}

#[test]
fn an_idle_connection_costs_less_than_a_kibibyte() {
    alone("child_holds_idle_connections", 20_000);
}

#[test]
#[ignore = "run by the test above, alone in its process"]
fn child_holds_idle_connections() {
    // Both ends are in this process, and its limit of descriptors is 20,000.
    const COUNT: usize = 9_900;
    for port in [WHARF_PORT_EPOLL, WHARF_PORT_POLLING] {
        // The places of the connections are set aside with the engine: they count.
        let before = resident_kib();
        let engine = Engine::with(port, |config| config.max_connections = COUNT as u32);
        let recorder = Recorder::forgetful(|_| {});
        let server = engine.server(&recorder);
        let address: std::net::SocketAddr = server.address().parse().unwrap();
        let mut peers = Vec::with_capacity(COUNT);
        while peers.len() < COUNT {
            peers.push(std::net::TcpStream::connect(address).unwrap());
        }
        until("all are open", || server.stats().open == COUNT as u64);
        let each = (resident_kib() - before) * 1024 / COUNT as u64;
        println!("{each} bytes for each idle connection");
        assert!(each <= 1024, "{each} bytes");
    }
}

#[test]
fn an_engine_whose_descriptors_the_host_closed_ends_its_connections_and_does_not_spin() {
    alone("child_closes_all_descriptors", 1024);
}

#[test]
#[ignore = "run by the test above, alone in its process"]
fn child_closes_all_descriptors() {
    for port in [WHARF_PORT_EPOLL, WHARF_PORT_POLLING] {
        for flags in [0, WHARF_ENGINE_CALLER_DRIVEN] {
            close_all_descriptors(port, flags);
        }
    }
}

/// As a host that closes what it does not know and opens something else: each number names another file from here on. (If they
/// stayed closed, the standard library would end a program with debug assertions that closes them once more.)
fn take_all_descriptors() {
    use std::os::fd::IntoRawFd;
    let other = std::fs::File::open("/dev/null").unwrap().into_raw_fd();
    let names = std::fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().file_name());
    let numbers: Vec<i32> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2 && *number != other) {
        // The folder's own is closed by now.
        if unsafe { libc::fcntl(number, libc::F_GETFD) } >= 0 {
            assert_eq!(unsafe { libc::dup2(other, number) }, number);
        }
    }
}

fn close_all_descriptors(port: u32, flags: u32) {
    unsafe extern "C" fn on_log(context: *mut std::ffi::c_void, level: i32, _text: *const std::ffi::c_char) {
        if level == WHARF_LOG_ERROR {
            unsafe { &*context.cast::<AtomicU64>() }.fetch_add(1, SeqCst);
        }
    }
    let errors = AtomicU64::new(0);
    let engine = Engine::with(port, |config| {
        config.flags = flags;
        config.on_log = Some(on_log);
        config.log_context = std::ptr::from_ref(&errors) as *mut _;
    });
    let is_driven = flags != 0;
    let turn = |timeout_ms| match is_driven {
        true => unsafe { wharf_engine_turn(engine.0, timeout_ms, std::ptr::null_mut()) },
        false => WHARF_OK,
    };
    let recorder = Recorder::new();
    let server = engine.server(&recorder);
    let _peers: Vec<_> = (0..3).map(|_| std::mem::ManuallyDrop::new(server.connect())).collect();
    until("all are open", || turn(10) == WHARF_OK && opens(&recorder.events()).len() == 3);
    let (client_recorder, client) = (Recorder::new(), engine.client(&Recorder::new(), &server.address()));
    until("the client's connection is open", || turn(10) == WHARF_OK && opens(&recorder.events()).len() == 4);
    take_all_descriptors();
    until("all are closed", || {
        let status = turn(10);
        assert!(!is_driven || status == WHARF_E_OS, "{status}");
        closes(&recorder.events()).len() == 4
    });
    assert!(closes(&recorder.events()).iter().all(|close| close.1 == WHARF_E_OS), "{:?}", closes(&recorder.events()));
    let cpu_before = cpu_ms();
    let begin = std::time::Instant::now();
    match is_driven {
        true => assert_eq!(turn(300), WHARF_E_OS),
        false => std::thread::sleep(std::time::Duration::from_millis(300)),
    }
    assert!(begin.elapsed().as_millis() >= 300);
    assert!(cpu_ms() - cpu_before < 200, "it spins");
    assert_eq!(errors.load(SeqCst), 1, "one line tells of it");
    // What is begun now fails, and what is there ends.
    let late = engine.client(&client_recorder, &server.address());
    until("the late client has failed", || {
        turn(10);
        !closes(&client_recorder.events()).is_empty()
    });
    client.destroy();
    late.destroy();
    server.destroy();
    until("the server is gone", || {
        turn(10);
        recorder.events().contains(&Event::Drop)
    });
    ok(engine.destroy(100));
    std::mem::forget(engine);
}

on_every_port! {
    fn engines_do_not_know_each_other(port) {
        let first = Engine::new(port);
        let second = Engine::new(port);
        let (one, two) = (Recorder::new(), Recorder::new());
        let server = first.server(&one);
        let other = second.server(&two);
        let mut peer = server.connect();
        let mut another = other.connect();
        let conn = two.wait_open();
        one.wait_open();
        first.destroy(0);
        assert_eq!(read_to_end(&mut peer), b"");
        ok(send(conn, b"unmoved"));
        assert_eq!(read_exact(&mut another, 7), b"unmoved");
        assert_eq!(unsafe { wharf_server_start(server.0, std::ptr::null_mut()) }, WHARF_E_STALE);
    }

    fn an_engine_that_is_destroyed_as_soon_as_it_is_made_ends(port) {
        // One in some ten thousand did not, when a worker looked for the end before it took the call.
        const ENGINES: usize = 20_000;
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for _ in 0..ENGINES {
                let engine = Engine::with(port, |config| {
                    config.workers = 2;
                    config.max_connections = 8;
                    config.pool_bytes = 1 << 16;
                });
                assert_eq!(engine.destroy(0), WHARF_OK);
                tell.send(()).unwrap();
            }
        });
        for number in 0..ENGINES {
            told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("engine {number} did not end"));
        }
    }

    fn an_engine_may_be_destroyed_while_a_hundred_threads_send(port) {
        let engine = Engine::with(port, |config| config.workers = 2);
        let recorder = Recorder::forgetful(|_| {});
        let server = engine.server(&recorder);
        let peers: Vec<_> = (0..10).map(|_| server.connect()).collect();
        let conns = recorder.wait_opens(10);
        let sent = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..100)
            .map(|thread| {
                let (conn, sent, stop) = (conns[thread % 10], sent.clone(), stop.clone());
                std::thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        match send(conn, b"again and again") {
                            WHARF_OK => drop(sent.fetch_add(1, SeqCst)),
                            WHARF_E_QUEUE_FULL | WHARF_E_POOL_EXHAUSTED => std::thread::yield_now(),
                            WHARF_E_CLOSED | WHARF_E_STALE | WHARF_E_RESET => return,
                            other => panic!("{}", name(other)),
                        }
                    }
                })
            })
            .collect();
        until("all threads send", || sent.load(SeqCst) > 5_000);
        assert_eq!(engine.destroy(0), WHARF_OK);
        assert_eq!(recorder.events().last(), Some(&Event::Drop));
        stop.store(true, SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
        drop(peers);
    }

    fn what_is_accepted_is_open_or_closed_and_the_pool_is_whole_in_the_end(port) {
        let lines = Arc::new(std::sync::Mutex::new(Vec::<String>::new()));
        unsafe extern "C" fn on_log(context: *mut std::ffi::c_void, _level: i32, text: *const std::ffi::c_char) {
            let lines = unsafe { &*(context as *const std::sync::Mutex<Vec<String>>) };
            let text = unsafe { std::ffi::CStr::from_ptr(text) };
            lines.lock().unwrap().push(text.to_str().unwrap().to_string());
        }
        let engine = Engine::with(port, |config| {
            config.on_log = Some(on_log);
            config.log_context = Arc::as_ptr(&lines) as *mut _;
            config.log_level = WHARF_LOG_DEBUG;
        });
        let recorder = echo();
        let server = engine.server(&recorder);
        let mut peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
        recorder.wait_opens(20);
        for peer in &mut peers {
            write_all(peer, &[1; 1000]);
        }
        let half = peers.split_off(10);
        drop(peers);
        until("all were accepted", || engine.stats().accepted == 20);
        let stats = engine.stats();
        assert_eq!(stats.accepted + stats.connected, stats.open + stats.closed);
        engine.destroy(0);
        drop(half);
        let lines = lines.lock().unwrap();
        let last = lines.last().unwrap();
        assert!(last.contains("20 accepted") && last.contains("20 closed") && last.contains("0 blocks in use"), "{last}");
        assert!(lines.iter().any(|line| line.contains("connected, 1 in all")), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains("disconnected")), "{lines:?}");
    }

    fn a_slow_callback_is_counted_and_logged(port) {
        let engine = Engine::with(port, |config| config.slow_callback_ms = 20);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Open(_) = event {
                let end = std::time::Instant::now() + std::time::Duration::from_millis(60);
                while std::time::Instant::now() < end {
                    std::hint::spin_loop();
                }
            }
        });
        let server = engine.server(&recorder);
        let _peer = server.connect();
        recorder.wait_open();
        until("it is counted", || engine.stats().slow_callbacks == 1);
        assert!(engine.stats().callback_max_us >= 60_000);
        assert!(engine.stats().callback_total_us >= 60_000);
    }

    fn worker_threads_are_named_and_leave_signals_to_the_host(port) {
        let _engine = Engine::with(port, |config| config.workers = 2);
        let blocked = || -> Vec<u64> {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let worker = |task: std::fs::DirEntry| {
                let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
                let status = std::fs::read_to_string(task.path().join("status")).ok()?;
                let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"))?;
                name.starts_with("wharf-").then(|| u64::from_str_radix(mask.trim(), 16).unwrap())
            };
            tasks.filter_map(|task| worker(task.ok()?)).collect()
        };
        until("both have their names", || blocked().len() >= 2);
        let terminate = 1 << (libc::SIGTERM - 1) | 1 << (libc::SIGINT - 1) | 1 << (libc::SIGUSR1 - 1);
        assert!(blocked().iter().all(|mask| mask & terminate == terminate), "{:x?}", blocked());
        // A fault of the thread itself is for the host's crash handler, on that thread.
        use libc::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
        for signal in [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS] {
            assert!(blocked().iter().all(|mask| mask & (1 << (signal - 1)) == 0), "{signal}: {:x?}", blocked());
        }
    }

    fn callbacks_have_the_stack_of_a_thread_of_the_system_or_the_one_that_was_asked_for(port) {
        let of_system = unsafe {
            let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
            let mut bytes = 0;
            assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
            assert_eq!(libc::pthread_attr_getstacksize(&attributes, &mut bytes), 0);
            bytes
        };
        for (asked, least) in [(0, of_system), (4 * of_system as u32 + 1, 4 * of_system + 1)] {
            let found = Arc::new(AtomicUsize::new(0));
            let seen = found.clone();
            let recorder = Recorder::with_hook(move |event| {
                if let Event::Receive(..) = event {
                    let mut bytes = 0;
                    unsafe {
                        let (mut attributes, mut begin): (libc::pthread_attr_t, _) =
                            (std::mem::zeroed(), std::ptr::null_mut());
                        libc::pthread_getattr_np(libc::pthread_self(), &mut attributes);
                        libc::pthread_attr_getstack(&attributes, &mut begin, &mut bytes);
                        libc::pthread_attr_destroy(&mut attributes);
                    }
                    seen.store(bytes, SeqCst);
                }
            });
            let engine = Engine::with(port, |config| config.worker_stack_bytes = asked);
            let server = engine.server(&recorder);
            write_all(&mut server.connect(), b"x");
            recorder.wait_received(1);
            assert!(found.load(SeqCst) >= least, "{} of {least}", found.load(SeqCst));
        }
    }

    fn an_inherited_listener_is_taken_over(port) {
        use std::os::fd::IntoRawFd;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let handler = recorder.handler();
        let mut config = server_config();
        config.listen_fd_plus_one = listener.into_raw_fd() + 1;
        let mut server = 0;
        ok(unsafe { wharf_server_create(engine.0, &config, &handler, &mut server, std::ptr::null_mut()) });
        let server = Server(server);
        server.start();
        assert_eq!(server.address(), address);
        let _peer = server.connect();
        recorder.wait_open();
    }

    fn a_dual_mode_server_takes_both_families_and_shows_ipv4_peers_as_ipv4(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), ":0", |_| {});
        let number: u16 = server.address().rsplit(':').next().unwrap().parse().unwrap();
        let _v4 = std::net::TcpStream::connect(("127.0.0.1", number)).unwrap();
        let first = recorder.wait_open();
        let peer = text(|buffer, len, needed| unsafe { wharf_conn_peer_address(first, buffer, len, needed) });
        assert!(peer.starts_with("127.0.0.1:"), "{peer}");
        if let Ok(_v6) = std::net::TcpStream::connect(("::1", number)) {
            let second = recorder.wait_opens(2)[1];
            let peer = text(|buffer, len, needed| unsafe { wharf_conn_peer_address(second, buffer, len, needed) });
            assert!(peer.starts_with("[::1]:"), "{peer}");
        }
    }

    fn connections_go_to_the_worker_with_the_fewest(port) {
        let engine = Engine::with(port, |config| config.workers = 2);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let _peers: Vec<_> = (0..20).map(|_| server.connect()).collect();
        let mut each = [0u32; 2];
        for conn in recorder.wait_opens(20) {
            let mut stats = conn_stats();
            ok(unsafe { wharf_conn_stats(conn, &mut stats) });
            each[stats.worker as usize] += 1;
        }
        assert!(each[0].abs_diff(each[1]) <= 1, "{each:?}");
    }
}

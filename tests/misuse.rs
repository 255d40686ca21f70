//! Handles that name nothing, NULL and nonsense: an error code, a sentence that says what to do, and nothing lost.

mod common;

use std::ffi::{CString, c_char, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;

use common::calls::*;
use common::*;

#[test]
fn the_table_of_calls_has_every_exported_function() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for part in text.split("extern \"C\" fn ").skip(1) {
            let name = part.split('(').next().unwrap();
            // What only tests call is nothing that a host could misuse.
            if name.starts_with("wharf_") && !name.starts_with("wharf_test_") {
                let is_there = calls().any(|(listed, ..)| listed == name) || WITHOUT_HANDLE.contains(&name);
                assert!(is_there, "{name} is not in the table");
                count += 1;
            }
        }
    }
    assert!(count > 40, "{count}");
}

on_every_port! {
    fn a_handle_that_names_nothing_is_stale_or_of_the_wrong_kind_for_every_function(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let client = engine.client(&Recorder::new(), &server.address());
        recorder.wait_opens(2);
        assert_eq!(client.wait(30_000).0, WHARF_OK);
        let living = [engine.0, server.0, client.0, conn];

        // Dead ones of each kind.
        let dead_engine = Engine::new(port);
        let dead = Recorder::new();
        let dead_server = dead_engine.server(&dead);
        let dead_client = dead_engine.client(&Recorder::new(), &dead_server.address());
        let dead_conn = dead.wait_open();
        dead_engine.destroy(0);
        let gone = [dead_engine.0, dead_server.0, dead_client.0, dead_conn];
        // Its place is used again.
        let _next = Engine::new(port);

        let mut random = fastrand::Rng::with_seed(9);
        for (name, kind, call) in calls() {
            for handle in living.iter().chain(&gone) {
                if handle >> 60 != kind {
                    assert_eq!(call(*handle), WHARF_E_WRONG_KIND, "{name} with {handle:#x}");
                }
            }
            let own = living[kind as usize - 1];
            let mut forged = vec![u64::MAX, 1, own & !0xffff_ffff, own ^ (0xff << 52), own ^ (0xf_ffff << 32), gone[kind as usize - 1]];
            forged.extend((0..32).map(|bit| own ^ (1 << bit)));
            forged.extend((0..50).map(|_| kind << 60 | random.u64(..) >> 4));
            if kind != 1 {
                // For an engine, 0 is the default one.
                forged.push(0);
            }
            for handle in forged {
                // A forgery may hit by chance what lives elsewhere in this process: other tests run beside this one.
                let is_of_ours = handle >> 52 == own >> 52 || handle >> 60 != kind;
                if is_of_ours || handle == gone[kind as usize - 1] {
                    let status = call(handle);
                    assert!(matches!(status, WHARF_E_STALE | WHARF_E_WRONG_KIND), "{name} with {handle:#x}: {}", crate::name(status));
                }
            }
        }
        // None of it touched what lives.
        ok(send(conn, b"unharmed"));
        assert_eq!(read_exact(&mut peer, 8), b"unharmed");
        assert!(server.is_running());
    }

    fn null_is_refused_wherever_something_must_be_told_or_given(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let client = engine.client(&Recorder::new(), &server.address());
        let handler = no_handler();
        let mut made = 7;
        let data = b"x".as_ptr().cast::<c_void>();
        let refusals = unsafe {
            [
                wharf_engine_footprint(null(), null_mut()),
                wharf_engine_create(null(), null_mut(), null_mut()),
                wharf_engine_fd(engine.0, null_mut()),
                wharf_engine_stats(engine.0, null_mut()),
                wharf_server_create(engine.0, null(), &handler, &mut made, null_mut()),
                wharf_server_create(engine.0, &server_config(), null(), &mut made, null_mut()),
                wharf_server_create(engine.0, &server_config(), &handler, null_mut(), null_mut()),
                wharf_server_is_running(server.0, null_mut()),
                wharf_server_address(server.0, null_mut(), 10, null_mut()),
                wharf_server_connections(server.0, null_mut(), 5, null_mut()),
                wharf_server_broadcast(server.0, null(), 5, 0, null_mut()),
                wharf_server_stats(server.0, null_mut()),
                wharf_client_create(engine.0, null(), &handler, &mut made, null_mut()),
                wharf_client_create(engine.0, &client_config(), &handler, &mut made, null_mut()),
                wharf_client_conn(client.0, null_mut()),
                wharf_client_stats(client.0, null_mut()),
                wharf_send(conn, null(), 5),
                wharf_send(conn, data, usize::MAX),
                wharf_sendv(conn, null(), 1, 0, 0),
                wharf_sendv(conn, &wharf_slice { data: null(), len: 5 }, 1, 0, 0),
                wharf_sendv(conn, &wharf_slice { data, len: 1 }, 65, 0, 0),
                wharf_sendv(conn, &wharf_slice { data, len: 1 }, 1, 0, 0xffff),
                wharf_send_wait(conn, null(), 5, 0, &mut 0),
                wharf_receive_wait(conn, null_mut(), 5, 0, &mut 0),
                wharf_conn_data(conn, null_mut()),
                wharf_conn_peer_address(conn, null_mut(), 10, null_mut()),
                wharf_conn_local_address(conn, null_mut(), 10, null_mut()),
                wharf_conn_set_timeouts(conn, null()),
                wharf_conn_stats(conn, null_mut()),
                wharf_conn_close(conn, 77),
            ]
        };
        for (place, status) in refusals.iter().enumerate() {
            assert_eq!(*status, WHARF_E_INVALID_ARGUMENT, "call {place}: {}", name(*status));
        }
        assert_eq!(made, 0, "an out-parameter of a failed call is none");
        assert_eq!(unsafe { wharf_receive_wait(conn, [0u8; 1].as_mut_ptr().cast(), 1, 0, &mut 0) }, WHARF_E_STATE);
        ok(send(conn, b"fine"));
        assert_eq!(read_exact(&mut peer, 4), b"fine");
        assert_eq!(engine.stats().pool_blocks_in_use, 0);
    }

    fn nonsense_in_a_config_is_refused_with_a_sentence_that_names_it(port) {
        type Change = fn(&mut wharf_engine_config);
        let engines: [(&str, Change); 15] = [
            ("workers", |config| config.workers = 100_000),
            ("max_connections", |config| config.max_connections = u32::MAX),
            ("buffer_bytes", |config| config.buffer_bytes = 1),
            ("buffer_bytes", |config| config.buffer_bytes = 4097),
            ("pool_bytes", |config| config.pool_bytes = 1),
            ("pool_bytes", |config| config.pool_bytes = u64::MAX),
            ("receive_buffer_bytes", |config| config.receive_buffer_bytes = 1),
            ("port", |config| config.port = 99),
            ("resolver_threads", |config| config.resolver_threads = 65),
            ("worker_stack_bytes", |config| config.worker_stack_bytes = (64 << 10) - 1),
            ("worker_stack_bytes", |config| config.worker_stack_bytes = (1 << 30) + 1),
            ("flags", |config| config.flags = 0x8000_0000),
            ("log_level", |config| config.log_level = 1000),
            ("struct_size", |config| config.struct_size = 0),
            ("struct_size", |config| config.struct_size = 7),
        ];
        for (field, change) in engines {
            let mut config = engine_config();
            config.port = port;
            change(&mut config);
            let (mut engine, mut error) = (7, error());
            let status = unsafe { wharf_engine_create(&config, &mut engine, &mut error) };
            assert_eq!((status, engine), (WHARF_E_INVALID_ARGUMENT, 0), "{field}");
            assert_eq!(error.status, status);
            assert!(message(&error).contains(field), "{field}: {}", message(&error));
        }
        let engine = Engine::new(port);
        let too_long = "x".repeat(5000);
        let addresses = [
            "", "x", "1.2.3.4", ":99999", ":x", "[::1", "[::1]", "unix:", "1.2.3.4:5:6", "example.org:80", "300.1.1.1:80", &too_long,
        ];
        for address in addresses {
            let (status, message) = create_server(engine.0, address.as_bytes(), |_| {});
            assert_eq!(status, WHARF_E_INVALID_ARGUMENT, "{address:.20}");
            assert!(message.len() > 10, "{address:.20}: {message}");
        }
        assert_eq!(create_server(engine.0, b"\xff\xfe:80", |_| {}).0, WHARF_E_INVALID_ARGUMENT);
        let (status, text) = create_server(engine.0, b":0", |config| config.at_limit = 9);
        assert!(status == WHARF_E_INVALID_ARGUMENT && text.contains("at_limit"), "{text}");
        let (status, text) = create_server(engine.0, b":0", |config| config.flags = 1 << 31);
        assert!(status == WHARF_E_INVALID_ARGUMENT && text.contains("flags"), "{text}");
        let (status, text) = create_server(engine.0, b":0", |config| config.idle_timeout_ms = u32::MAX);
        assert!(status == WHARF_E_INVALID_ARGUMENT && text.contains("idle_timeout_ms"), "{text}");
        for address in ["", "x", "example.org", "example.org:0", "a b:80", ":80:", &too_long] {
            let (status, message) = create_client(engine.0, address, |_| {});
            assert_eq!(status, WHARF_E_INVALID_ARGUMENT, "{address:.20}: {message}");
            assert!(message.len() > 10);
        }
        let (status, text) = create_client(engine.0, "127.0.0.1:1", |config| {
            config.reconnect_min_ms = 10;
            config.reconnect_max_ms = 5;
        });
        assert!(status == WHARF_E_INVALID_ARGUMENT && text.contains("reconnect_min_ms"), "{text}");
        let stats = engine.stats();
        assert_eq!((stats.open, stats.accepted, stats.pool_blocks_in_use), (0, 0, 0));
    }

    fn bind_errors_say_what_to_do(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let (status, text) = start_server(engine.0, &server.address());
        assert_eq!(status, WHARF_E_ADDRESS_IN_USE);
        assert!(text.starts_with(&format!("bind {}: ", server.address())) && text.contains("choose another port"), "{text}");
        let (status, text) = start_server(engine.0, "192.0.2.1:0");
        assert_eq!(status, WHARF_E_ADDRESS_NOT_AVAILABLE, "{text}");
        let (status, text) = start_server(engine.0, "unix:/no/such/folder/x.sock");
        assert!(status != WHARF_OK && text.contains("/no/such/folder"), "{text}");
    }

    fn an_inherited_descriptor_that_does_not_listen_is_refused_and_left_alone(port) {
        use std::os::fd::AsRawFd;
        let engine = Engine::new(port);
        let file = std::fs::File::open("/dev/null").unwrap();
        let unbound = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for fd in [file.as_raw_fd(), unbound.as_raw_fd(), 1_000_000] {
            let mut config = server_config();
            config.listen_fd_plus_one = fd + 1;
            let mut server = 0;
            let mut error = error();
            ok(unsafe { wharf_server_create(engine.0, &config, &no_handler(), &mut server, &mut error) });
            let status = unsafe { wharf_server_start(server, &mut error) };
            assert!(status < 0 && message(&error).contains(&fd.to_string()), "{}", message(&error));
        }
        file.metadata().unwrap();
        unbound.local_addr().unwrap();
    }

    fn text_is_cut_at_the_buffer_and_the_need_is_told(port) {
        let engine = Engine::new(port);
        let server = engine.server(&Recorder::new());
        let whole = server.address();
        let mut needed = 0;
        ok(unsafe { wharf_server_address(server.0, null_mut(), 0, &mut needed) });
        assert_eq!(needed, whole.len() + 1);
        let mut exact = vec![1 as c_char; needed];
        ok(unsafe { wharf_server_address(server.0, exact.as_mut_ptr(), needed, null_mut()) });
        assert_eq!(exact[needed - 1], 0);
        let mut short = vec![1 as c_char; needed];
        let status = unsafe { wharf_server_address(server.0, short.as_mut_ptr(), needed - 1, &mut needed) };
        assert_eq!(status, WHARF_E_LIMIT);
        assert_eq!((short[needed - 2], short[needed - 1], needed), (0, 1, whole.len() + 1), "terminated, and nothing behind");
    }

    fn structs_of_older_and_newer_headers_are_understood(port) {
        let engine = Engine::new(port);
        // Older: the struct ends behind the address. Newer: a tail that is zero, then one that is not.
        #[repr(C)]
        struct Newer {
            config: wharf_server_config,
            tail: [u64; 2],
        }
        let address = CString::new("127.0.0.1:0").unwrap();
        let mut newer = Newer { config: server_config(), tail: [0; 2] };
        newer.config.address = address.as_ptr();
        let mut create = |size: usize, tail: u64| {
            newer.config.struct_size = size;
            newer.tail[1] = tail;
            let (mut server, mut error) = (0, error());
            let config = (&raw const newer).cast::<wharf_server_config>();
            let status = unsafe { wharf_server_create(engine.0, config, &no_handler(), &mut server, &mut error) };
            (status, message(&error))
        };
        assert_eq!(create(2 * size_of::<usize>(), 0).0, WHARF_OK);
        assert_eq!(create(size_of::<Newer>(), 0).0, WHARF_OK);
        let (status, text) = create(size_of::<Newer>(), 1);
        assert!(status == WHARF_E_INVALID_ARGUMENT && text.contains("newer"), "{text}");
    }

    fn random_calls_from_four_threads_do_no_harm(port) {
        let engine = Engine::with(port, |config| config.workers = 2);
        let recorder = Recorder::forgetful(|event| {
            if let Event::Receive(conn, data) = event {
                send(*conn, data);
            }
        });
        let servers: Vec<_> = (0..3).map(|_| engine.server(&recorder)).collect();
        let address = servers[0].address();
        let clients: Vec<_> = (0..4).map(|_| engine.client(&echo_forgiving(), &address)).collect();
        let mut handles: Vec<u64> = servers.iter().map(|server| server.0).chain(clients.iter().map(|client| client.0)).collect();
        handles.extend(recorder.wait_opens(4));
        let handles = Arc::new(handles);
        let threads: Vec<_> = (0..4)
            .map(|seed| {
                let handles = handles.clone();
                std::thread::spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let table: Vec<_> = calls().filter(|(_, kind, _)| *kind != 1).collect();
                    for _ in 0..3000 {
                        let (_, kind, call) = table[random.usize(..table.len())];
                        let mut handle = handles[random.usize(..handles.len())];
                        if random.u8(0..10) == 0 {
                            handle = kind << 60 | handle << 4 >> 4;
                        }
                        call(handle);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(engine.destroy(0), WHARF_OK);
        assert_eq!(recorder.events().iter().filter(|event| **event == Event::Drop).count(), 3);
        assert_eq!(opens(&recorder.events()).len(), closes(&recorder.events()).len());
    }
}

fn echo_forgiving() -> Arc<Recorder> {
    Recorder::forgetful(|_| {})
}

fn create_server(engine: u64, address: &[u8], change: fn(&mut wharf_server_config)) -> (wharf_status, String) {
    let address = CString::new(address).unwrap();
    let mut config = server_config();
    config.address = address.as_ptr();
    change(&mut config);
    let (mut server, mut error) = (7, error());
    let status = unsafe { wharf_server_create(engine, &config, &no_handler(), &mut server, &mut error) };
    assert_eq!(status == WHARF_OK, server != 0);
    (status, message(&error))
}

fn create_client(engine: u64, address: &str, change: fn(&mut wharf_client_config)) -> (wharf_status, String) {
    let address = CString::new(address).unwrap();
    let mut config = client_config();
    config.address = address.as_ptr();
    change(&mut config);
    let (mut client, mut error) = (7, error());
    let status = unsafe { wharf_client_create(engine, &config, &no_handler(), &mut client, &mut error) };
    assert_eq!(status == WHARF_OK, client != 0);
    (status, message(&error))
}

fn start_server(engine: u64, address: &str) -> (wharf_status, String) {
    let address = CString::new(address).unwrap();
    let mut config = server_config();
    config.address = address.as_ptr();
    let (mut server, mut error) = (0, error());
    ok(unsafe { wharf_server_create(engine, &config, &no_handler(), &mut server, &mut error) });
    let status = unsafe { wharf_server_start(server, &mut error) };
    (status, message(&error))
}

//! Sends: order, tokens, corking, vectored and blocking forms, broadcast, and bulk that is compared byte for byte.

mod common;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use common::*;

on_every_port! {
    fn eight_threads_on_one_connection_keep_each_threads_order(port) {
        const MESSAGES: u32 = 2_000;
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let senders: Vec<_> = (0..8u8)
            .map(|thread| {
                std::thread::spawn(move || {
                    for number in 0..MESSAGES {
                        let mut message = [thread; 16];
                        message[1..5].copy_from_slice(&number.to_le_bytes());
                        loop {
                            match send(conn, &message) {
                                WHARF_OK => break,
                                WHARF_E_QUEUE_FULL => std::thread::yield_now(),
                                other => panic!("{}", name(other)),
                            }
                        }
                    }
                })
            })
            .collect();
        let data = read_exact(&mut peer, 8 * 16 * MESSAGES as usize);
        for sender in senders {
            sender.join().unwrap();
        }
        let mut next = [0u32; 8];
        for message in data.chunks(16) {
            let thread = message[0] as usize;
            assert_eq!(message[5..], [message[0]; 11], "messages are not torn");
            assert_eq!(u32::from_le_bytes(message[1..5].try_into().unwrap()), next[thread]);
            next[thread] += 1;
        }
        assert_eq!(next, [MESSAGES; 8]);
    }

    fn each_token_is_told_once_and_in_order(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        for token in 1..=500 {
            ok(send_token(conn, &[token as u8; 100], token));
        }
        read_exact(&mut peer, 50_000);
        let events = recorder.wait("500 tokens", |events| sent(events).len() >= 500);
        assert_eq!(sent(&events), (1..=500).map(|token| (token, WHARF_OK)).collect::<Vec<_>>());
        ok(close(conn, WHARF_CLOSE_NOW));
        recorder.wait_close();
        assert_eq!(sent(&recorder.events()).len(), 500);
    }

    fn tokens_of_bytes_that_never_left_are_told_with_the_reason(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.socket_send_buffer_bytes = 4096;
            config.send_queue_limit_bytes = 16 << 20;
        });
        let _peer = server.connect();
        let conn = recorder.wait_open();
        let mut tokens = 0;
        while engine.stats().queued_bytes < 200_000 {
            tokens += 1;
            ok(send_token(conn, &[1; 50_000], tokens));
        }
        ok(close(conn, WHARF_CLOSE_RESET));
        recorder.wait_close();
        let told = sent(&recorder.events());
        assert_eq!(told.iter().map(|(token, _)| *token).collect::<Vec<_>>(), (1..=tokens).collect::<Vec<_>>());
        // Those that left come first; the close threw the others away.
        let left = told.iter().take_while(|(_, status)| *status == WHARF_OK).count();
        assert!(left < told.len());
        assert!(told[left..].iter().all(|(_, status)| *status == WHARF_E_CLOSED), "{told:?}");
        let events = recorder.events();
        let close_at = events.iter().position(|event| matches!(event, Event::Close(..))).unwrap();
        assert!(events[close_at..].iter().all(|event| !matches!(event, Event::Sent(..))), "told after on_close");
    }

    fn sends_of_one_callback_leave_as_one_segment(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Receive(conn, _) = event {
                for number in 0..10u8 {
                    ok(send(*conn, &[number; 10]));
                }
            }
        });
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        for _ in 0..20 {
            write_all(&mut peer, b"?");
            let mut buffer = [0; 1000];
            // One segment is delivered whole to one read.
            assert_eq!(peer.read(&mut buffer).unwrap(), 100);
        }
    }

    fn a_large_send_behind_corked_bytes_is_taken_whole_and_gives_its_blocks_back(port) {
        // A Unix socket whose room is used up by what was corked, so that the large send goes to the queue whole. The
        // room behind the corked bytes, which have left by then, must not count.
        let (small, large) = (3000, 16_884);
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(move |event| {
            if let Event::Receive(conn, _) = event {
                ok(send(*conn, &vec![1; small]));
                ok(send(*conn, &vec![2; large]));
            }
        });
        let path = unix_path();
        let address = format!("unix:{}", path.display());
        let _server = engine.server_with(recorder.handler(), &address, |config| config.socket_send_buffer_bytes = 1);
        let mut peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
        for _ in 0..20 {
            peer.write_all(b"?").unwrap();
            let mut answer = vec![0; small + large];
            peer.read_exact(&mut answer).unwrap();
            assert!(answer == [vec![1; small], vec![2; large]].concat());
        }
        until("the pool is whole", || engine.stats().pool_blocks_in_use == 0);
    }

    fn what_a_callback_sent_leaves_before_what_other_threads_send_after_it(port) {
        // With little room in the kernel, most of what was held back goes to the queue, in which the others wait already.
        for send_buffer_bytes in [0, 1] {
            let engine = Engine::new(port);
            let recorder = Recorder::with_hook(|event| {
                if let Event::Receive(conn, _) = *event {
                    ok(send(conn, &[1; 9000]));
                    std::thread::spawn(move || ok(send(conn, &[2; 9000]))).join().unwrap();
                    ok(send(conn, &[3; 9000]));
                    std::thread::spawn(move || ok(send_token(conn, &[4; 9000], 4))).join().unwrap();
                    ok(send_token(conn, &[5; 9000], 5));
                    ok(send(conn, &[6; 20_000]));
                    ok(send(conn, &[7; 100]));
                }
            });
            let path = unix_path();
            let address = format!("unix:{}", path.display());
            let server = engine.server_with(recorder.handler(), &address, |config| {
                config.socket_send_buffer_bytes = send_buffer_bytes;
            });
            let mut peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
            peer.write_all(b"?").unwrap();
            let lengths = [9000, 9000, 9000, 9000, 9000, 20_000, 100];
            let expected: Vec<u8> = (1..).zip(lengths).flat_map(|(byte, len)| vec![byte; len]).collect();
            let mut answer = vec![0; expected.len()];
            peer.read_exact(&mut answer).unwrap();
            assert!(answer == expected, "{:?}", answer.chunk_by(|a, b| a == b).map(|c| (c[0], c.len())).collect::<Vec<_>>());
            let told = recorder.wait("on_sent", |events| events.iter().filter(|e| matches!(e, Event::Sent(..))).count() == 2);
            let tokens: Vec<u64> =
                told.iter().filter_map(|e| if let Event::Sent(_, token, WHARF_OK) = e { Some(*token) } else { None }).collect();
            assert_eq!(tokens, [4, 5]);
            until("the pool is whole", || engine.stats().pool_blocks_in_use == 0);
            server.destroy();
            recorder.wait_drop();
        }
    }

    fn a_broadcast_in_a_callback_reaches_all_although_the_pool_is_small(port) {
        const PEERS: usize = 200;
        for blocks in [32, 1024] {
            let engine = Engine::with(port, |config| {
                config.buffer_bytes = 1024;
                config.pool_bytes = blocks << 10;
            });
            let server = Arc::new(AtomicU64::new(0));
            let (to, result) = (server.clone(), Arc::new(AtomicU64::new(0)));
            let told = result.clone();
            let recorder = Recorder::with_hook(move |event| {
                if let Event::Receive(_, data) = event {
                    let mut taken = broadcast_result();
                    for byte in data {
                        let message = [*byte; 500];
                        ok(unsafe {
                            wharf_server_broadcast(to.load(SeqCst), message.as_ptr().cast(), 500, 0, &mut taken)
                        });
                        told.fetch_add(taken.taken.into(), SeqCst);
                    }
                }
            });
            let made = engine.server(&recorder);
            server.store(made.0, SeqCst);
            let mut peers: Vec<_> = (0..PEERS).map(|_| made.connect()).collect();
            recorder.wait_opens(PEERS);
            write_all(&mut peers[0], &[1, 2, 3]);
            for peer in &mut peers {
                let expected = [[1; 500], [2; 500], [3; 500]].concat();
                assert!(read_exact(peer, 1500) == expected);
            }
            assert_eq!(result.load(SeqCst), 3 * PEERS as u64);
            assert!(engine.stats().pool_blocks_peak <= blocks);
            until("the pool is whole", || engine.stats().pool_blocks_in_use == 0);
        }
    }

    fn a_send_with_a_token_on_a_broken_socket_costs_no_block(port) {
        let engine = Engine::with(port, |config| config.flags = WHARF_ENGINE_CALLER_DRIVEN);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let peer = server.connect();
        let mut completions = 0;
        until("the connection is open", || {
            ok(unsafe { wharf_engine_turn(engine.0, 10, &mut completions) });
            !opens(&recorder.events()).is_empty()
        });
        let conn = recorder.wait_open();
        // Unread bytes make the peer's close a reset; no turn is taken, so the sending thread itself meets it.
        ok(send(conn, b"unread"));
        drop(peer);
        until("the reset has arrived", || send_token(conn, b"x", 1) != WHARF_OK);
        until("it is closed", || {
            ok(unsafe { wharf_engine_turn(engine.0, 10, &mut completions) });
            server.stats().open == 0
        });
        assert_eq!(engine.stats().pool_blocks_in_use, 0);
    }

    fn slices_leave_as_one_message(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let parts: Vec<Vec<u8>> = (0..64u8).map(|part| vec![part; part as usize * 7]).collect();
        let slices: Vec<_> =
            parts.iter().map(|part| wharf_slice { data: part.as_ptr().cast(), len: part.len() }).collect();
        ok(unsafe { wharf_sendv(conn, slices.as_ptr(), slices.len(), 1, 0) });
        let expected = parts.concat();
        assert_eq!(read_exact(&mut peer, expected.len()), expected);
        assert_eq!(server.stats().messages_out, 1);
    }

    fn a_blocking_send_waits_for_room_and_says_how_much_was_taken(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.socket_send_buffer_bytes = 4096;
            config.send_queue_limit_bytes = 10_000;
        });
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let data = pattern(11, 3_000_000);
        let copy = data.clone();
        let reader = std::thread::spawn(move || read_exact(&mut peer, copy.len()) == copy);
        let mut taken = 0;
        ok(unsafe { wharf_send_wait(conn, data.as_ptr().cast(), data.len(), 60_000, &mut taken) });
        assert_eq!(taken, data.len());
        assert!(reader.join().unwrap());
        // A peer that does not read: the deadline passes, and what was taken is known.
        let _stuck = server.connect();
        let conn = recorder.wait_opens(2)[1];
        let status = unsafe { wharf_send_wait(conn, data.as_ptr().cast(), data.len(), 100, &mut taken) };
        assert_eq!(status, WHARF_E_TIMEOUT);
        assert!(taken > 0 && taken < data.len());
    }

    fn pull_connections_read_when_they_like(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let without = Without { receive: true, end: true };
        let server = engine.server_with(recorder.handler_without(without), "127.0.0.1:0", |_| {});
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        let receive = |timeout: u32, buffer: &mut [u8]| {
            let mut got = 0;
            let status =
                unsafe { wharf_receive_wait(conn, buffer.as_mut_ptr().cast(), buffer.len(), timeout, &mut got) };
            (status, got)
        };
        let mut buffer = [0; 100];
        assert_eq!(receive(20, &mut buffer), (WHARF_E_TIMEOUT, 0));
        let writer = std::thread::spawn(move || {
            write_all(&mut peer, b"pulled");
            end(&peer);
            peer
        });
        assert_eq!(receive(60_000, &mut buffer[..3]), (WHARF_OK, 3));
        assert_eq!(receive(60_000, &mut buffer[3..6]), (WHARF_OK, 3));
        assert_eq!(&buffer[..6], b"pulled");
        assert_eq!(receive(60_000, &mut buffer), (WHARF_E_END_OF_STREAM, 0));
        assert_eq!(receive(60_000, &mut buffer), (WHARF_E_END_OF_STREAM, 0));
        let peer = writer.join().unwrap();
        ok(close(conn, WHARF_CLOSE_FLUSH));
        drop(peer);
        recorder.wait_close();
    }

    fn a_broadcast_reaches_all_but_one_and_counts_the_refused(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.send_queue_limit_bytes = 100_000;
            config.socket_send_buffer_bytes = 4096;
        });
        let mut peers: Vec<_> = (0..5).map(|_| server.connect()).collect();
        let conns = recorder.wait_opens(5);
        let address = text(|buffer, len, needed| unsafe { wharf_conn_peer_address(conns[0], buffer, len, needed) });
        let mut result = broadcast_result();
        ok(unsafe { wharf_server_broadcast(server.0, b"news".as_ptr().cast(), 4, conns[0], &mut result) });
        assert_eq!((result.taken, result.refused), (4, 0));
        for peer in &mut peers {
            if peer.local_addr().unwrap().to_string() != address {
                assert_eq!(read_exact(peer, 4), b"news");
            }
        }
        // One that does not read is refused when its queue is full; the others go on.
        // Filled until the kernel has taken all that it ever will, so that nothing drains meanwhile.
        let (much, mut taken) = (vec![0; 64 << 20], 0);
        let status = unsafe { wharf_send_wait(conns[0], much.as_ptr().cast(), much.len(), 500, &mut taken) };
        assert_eq!(status, WHARF_E_TIMEOUT);
        ok(unsafe { wharf_server_broadcast(server.0, [1u8; 60_000].as_ptr().cast(), 60_000, 0, &mut result) });
        assert_eq!((result.taken, result.refused), (4, 1));
        assert_eq!(server.connections().len(), 5);
    }

    fn a_paused_connection_delivers_nothing_until_it_is_resumed(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::with_hook(|event| {
            if let Event::Open(conn) = event {
                ok(unsafe { wharf_conn_pause(*conn) });
            }
        });
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        write_all(&mut peer, b"held");
        end(&peer);
        // A round trip through the same worker, after which the bytes would have been told.
        let mut other = server.connect();
        recorder.wait_opens(2);
        write_all(&mut other, b"x");
        let second = recorder.wait_opens(2)[1];
        ok(unsafe { wharf_conn_resume(second) });
        recorder.wait("the other's bytes", |events| events.contains(&Event::Receive(second, b"x".to_vec())));
        assert!(!recorder.events().contains(&Event::Receive(conn, b"held".to_vec())));
        ok(unsafe { wharf_conn_resume(conn) });
        recorder.wait("what was held back", |events| {
            events.contains(&Event::Receive(conn, b"held".to_vec())) && events.contains(&Event::End(conn))
        });
    }
}

mod bulk {
    use super::*;

    /// Each client sends one MiB in random pieces and compares the echo; the server is `echo` with backpressure.
    fn scenario(port: u32, clients: usize) {
        const LEN: usize = 1 << 20;
        let engine = Engine::with(port, |config| {
            config.workers = 2;
            config.max_connections = 1024;
            config.pool_bytes = 64 << 20;
        });
        let refused = Arc::new(AtomicU64::new(0));
        let count = refused.clone();
        // What is refused is kept by the handler in order; the connection is paused until there is room.
        let kept: Arc<Vec<std::sync::Mutex<Vec<u8>>>> = Arc::new((0..1024).map(|_| Default::default()).collect());
        let recorder = Recorder::forgetful(move |event| {
            let place = &kept[(event.conn() >> 32) as usize & 1023];
            let mut kept = place.lock().unwrap();
            match event {
                Event::Open(_) => kept.clear(),
                Event::Receive(conn, data) => {
                    assert!(kept.is_empty(), "received while paused");
                    let taken = send_pieces(*conn, data);
                    if taken < data.len() {
                        kept.extend(&data[taken..]);
                        count.fetch_add(1, SeqCst);
                        ok(unsafe { wharf_conn_pause(*conn) });
                    }
                }
                Event::Writable(conn) => {
                    let taken = send_pieces(*conn, &kept);
                    kept.drain(..taken);
                    if kept.is_empty() {
                        ok(unsafe { wharf_conn_resume(*conn) });
                    }
                }
                Event::End(conn) => ok(close(*conn, WHARF_CLOSE_FLUSH)),
                _ => {}
            }
        });
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.send_queue_limit_bytes = 48 << 10;
        });
        let address = server.address();
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let address = address.clone();
                std::thread::spawn(move || {
                    let mut peers: Vec<_> = (0..clients / 8).map(|_| connect(&address)).collect();
                    for (number, peer) in peers.iter_mut().enumerate() {
                        exchange(peer, (thread * 10_000 + number) as u64, LEN);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        until("all are closed", || server.stats().open == 0);
        let stats = server.stats();
        assert_eq!(stats.bytes_in, (clients * LEN) as u64);
        assert_eq!(stats.bytes_out, (clients * LEN) as u64);
        assert_eq!(stats.accepted, clients as u64);
        assert_eq!(engine.stats().pool_blocks_in_use, 0);
    }

    /// Sends in pieces that fit the queue; gives how much was taken.
    fn send_pieces(conn: wharf_conn, data: &[u8]) -> usize {
        let mut taken = 0;
        for piece in data.chunks(16_384) {
            match send(conn, piece) {
                WHARF_OK => taken += piece.len(),
                WHARF_E_QUEUE_FULL => break,
                other => panic!("{}", name(other)),
            }
        }
        taken
    }

    fn exchange(peer: &mut std::net::TcpStream, seed: u64, len: usize) {
        let data = pattern(seed, len);
        let mut writer = peer.try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut rest = &data[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(random.usize(1..=rest.len().min(60_000)));
                    writer.write_all(now).unwrap();
                    rest = later;
                }
                end(&writer);
            });
            let mut random = fastrand::Rng::with_seed(seed + 1);
            let mut buffer = vec![0; 70_000];
            let mut at = 0;
            loop {
                let most = random.usize(1..buffer.len());
                match peer.read(&mut buffer[..most]).unwrap() {
                    0 => break,
                    got => {
                        assert!(buffer[..got] == data[at..at + got], "bytes differ behind {at}");
                        at += got;
                    }
                }
            }
            assert_eq!(at, len);
        });
    }

    #[test]
    fn a_thousand_clients_get_their_mebibyte_back_byte_for_byte_on_epoll() {
        scenario(WHARF_PORT_EPOLL, 1000);
    }

    #[test]
    fn a_thousand_clients_get_their_mebibyte_back_byte_for_byte_on_polling() {
        scenario(WHARF_PORT_POLLING, 1000);
    }
}

fn sent(events: &[Event]) -> Vec<(u64, wharf_status)> {
    events
        .iter()
        .filter_map(|event| if let Event::Sent(_, token, status) = event { Some((*token, *status)) } else { None })
        .collect()
}

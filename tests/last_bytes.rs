//! Nothing that arrived is lost: what the peer sent before the end is told before `on_close`, whatever ends first, and a peer
//! whose bytes wait in the system is neither silent nor idle.

mod common;

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use common::*;

/// Closes with a reset.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    let option = (&raw const linger).cast();
    assert_eq!(unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, option, length) }, 0);
}

/// A recorder whose first `on_open` lasts until the test says so.
fn opens_when_told(then: impl Fn(wharf_conn) + Send + Sync + 'static) -> (Arc<Recorder>, mpsc::Sender<()>) {
    let (tell, told) = mpsc::channel();
    let told = Mutex::new(told);
    let recorder = Recorder::with_hook(move |event| {
        if let Event::Open(conn) = event {
            told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            then(*conn);
        }
    });
    (recorder, tell)
}

fn receive(conn: wharf_conn, timeout_ms: u32) -> (wharf_status, usize) {
    let (mut buffer, mut got) = ([0_u8; 64], 0);
    let status = unsafe { wharf_receive_wait(conn, buffer.as_mut_ptr().cast(), buffer.len(), timeout_ms, &mut got) };
    (status, got)
}

fn pulling(recorder: &Arc<Recorder>) -> wharf_handler {
    recorder.handler_without(Without { receive: true, end: true })
}

/// Sends one byte with a descriptor behind it.
fn pass_descriptor(stream: &UnixStream) {
    let mut byte = *b"f";
    let mut slice = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut space = [0_u64; 8];
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut slice, 1);
        message.msg_control = space.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<i32>() as u32) as _;
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(size_of::<i32>() as u32) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(stream.as_raw_fd());
        assert_eq!(libc::sendmsg(stream.as_raw_fd(), &raw const message, 0), 1);
    }
}

/// A peer has spoken and is not read, paused or in pull mode; a deadline of the server closes the other one only.
#[track_caller]
fn only_the_silent_one_is_closed(port: u32, expected: wharf_status, set_deadline: fn(&mut wharf_server_config)) {
    let engine = Engine::new(port);
    for pulls in [false, true] {
        let recorder = Recorder::with_hook(|event| {
            if let Event::Open(conn) = event {
                ok(unsafe { wharf_conn_pause(*conn) });
            }
        });
        let handler = if pulls { pulling(&recorder) } else { recorder.handler() };
        let server = engine.server_with(handler, "127.0.0.1:0", set_deadline);
        let mut speaks = server.connect();
        write_all(&mut speaks, b"hello");
        let first = recorder.wait_open();
        // Whoever comes later and is silent is thrown out: by then the first one's deadline has passed, too.
        let _silent = server.connect();
        let (thrown_out, reason) = recorder.wait_closes(1)[0];
        assert_eq!(reason, expected);
        assert_ne!(thrown_out, first);
        ok(send(first, b"still here"));
    }
}

on_every_port! {
    fn what_came_before_a_reset_is_told_before_on_close(port) {
        let engine = Engine::new(port);
        for _ in 0..20 {
            let (recorder, tell) = opens_when_told(|_| {});
            let server = engine.server(&recorder);
            let mut peer = server.connect();
            write_all(&mut peer, b"an answer");
            reset(peer);
            tell.send(()).unwrap();
            assert_eq!(recorder.wait_close(), WHARF_E_RESET);
            assert_eq!(received(&recorder.events()), b"an answer");
        }
    }

    fn what_came_before_a_send_failed_is_told_before_on_close(port) {
        let engine = Engine::new(port);
        for _ in 0..20 {
            // Large, so that it goes straight to the system, which finds the connection reset.
            let (recorder, tell) = opens_when_told(|conn| _ = send(conn, &[7; 100_000]));
            let server = engine.server(&recorder);
            let mut peer = server.connect();
            write_all(&mut peer, b"an answer");
            reset(peer);
            tell.send(()).unwrap();
            assert_eq!(recorder.wait_close(), WHARF_E_RESET);
            assert_eq!(received(&recorder.events()), b"an answer");
        }
    }

    fn a_pause_keeps_back_nothing_that_came_before_a_reset(port) {
        let engine = Engine::new(port);
        let (recorder, tell) = opens_when_told(|conn| ok(unsafe { wharf_conn_pause(conn) }));
        let server = engine.server(&recorder);
        let mut peer = server.connect();
        write_all(&mut peer, b"an answer");
        tell.send(()).unwrap();
        recorder.wait_open();
        assert!(received(&recorder.events()).is_empty(), "it is paused");
        reset(peer);
        assert_eq!(recorder.wait_close(), WHARF_E_RESET);
        assert_eq!(received(&recorder.events()), b"an answer");
    }

    fn what_came_before_a_stalled_send_was_given_up_is_told(port) {
        let engine = Engine::new(port);
        let (recorder, tell) = opens_when_told(|conn| {
            ok(unsafe { wharf_conn_pause(conn) });
            ok(send(conn, &vec![0; 8 << 20]));
        });
        let server = engine.server_with(recorder.handler(), "127.0.0.1:0", |config| {
            config.send_stall_timeout_ms = 200;
            config.socket_send_buffer_bytes = 4096;
            config.send_queue_limit_bytes = 8 << 20;
        });
        let mut peer = server.connect();
        write_all(&mut peer, b"an answer");
        tell.send(()).unwrap();
        assert_eq!(recorder.wait_close(), WHARF_E_SEND_STALLED);
        assert_eq!(received(&recorder.events()), b"an answer");
    }

    fn in_pull_mode_what_came_before_a_reset_can_be_pulled_and_then_the_reset_is_told(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(pulling(&recorder), "127.0.0.1:0", |_| {});
        let mut peer = server.connect();
        let conn = recorder.wait_open();
        write_all(&mut peer, b"an answer");
        reset(peer);
        assert_eq!(receive(conn, 30_000), (WHARF_OK, 9));
        assert_eq!(receive(conn, 30_000), (WHARF_E_RESET, 0));
        assert_eq!(recorder.wait_close(), WHARF_E_RESET);
    }

    fn in_pull_mode_a_reset_is_told_although_nobody_asks(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(pulling(&recorder), "127.0.0.1:0", |config| config.linger_ms = 200);
        let peer = server.connect();
        recorder.wait_open();
        reset(peer);
        assert_eq!(recorder.wait_close(), WHARF_E_RESET);
        let mut peer = server.connect();
        recorder.wait_opens(2);
        write_all(&mut peer, b"nobody asks for this");
        reset(peer);
        assert_eq!(recorder.wait_closes(2)[1].1, WHARF_E_RESET);
    }

    fn a_pull_that_waits_is_told_what_ended_the_connection(port) {
        let engine = Engine::new(port);
        let recorder = Recorder::new();
        let server = engine.server_with(pulling(&recorder), "127.0.0.1:0", |config| config.idle_timeout_ms = 200);
        let _peer = server.connect();
        let conn = recorder.wait_open();
        assert_eq!(receive(conn, 30_000), (WHARF_E_IDLE, 0));
        assert_eq!(recorder.wait_close(), WHARF_E_IDLE);
        let recorder = Recorder::new();
        let server = engine.server_with(pulling(&recorder), "127.0.0.1:0", |_| {});
        let _peer = server.connect();
        let conn = recorder.wait_open();
        let (tell, told) = mpsc::channel();
        let waits = std::thread::spawn(move || {
            tell.send(()).unwrap();
            receive(conn, 30_000)
        });
        told.recv().unwrap();
        server.destroy();
        let (status, _) = waits.join().unwrap();
        assert!([WHARF_E_STOPPED, WHARF_E_STALE].contains(&status), "{}", name(status));
        assert_eq!(recorder.wait_close(), WHARF_E_STOPPED);
    }

    fn a_peer_whose_first_bytes_wait_in_the_system_has_spoken(port) {
        only_the_silent_one_is_closed(port, WHARF_E_FIRST_BYTE, |config| config.first_byte_timeout_ms = 150);
    }

    fn a_peer_whose_bytes_wait_in_the_system_is_not_idle(port) {
        only_the_silent_one_is_closed(port, WHARF_E_IDLE, |config| config.idle_timeout_ms = 150);
    }

    fn bytes_behind_a_passed_descriptor_are_told_and_descriptors_do_not_pile_up(port) {
        let engine = Engine::new(port);
        let (recorder, tell) = opens_when_told(|_| {});
        let path = unix_path();
        let _server = engine.server_with(recorder.handler(), &format!("unix:{}", path.display()), |_| {});
        let files = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let mut peer = UnixStream::connect(&path).unwrap();
        let before = files();
        let mut speak = |times: usize| {
            for _ in 0..times {
                peer.write_all(b"hello").unwrap();
                pass_descriptor(&peer);
                peer.write_all(b"world").unwrap();
            }
        };
        // All of it lies there before the first read, and nothing tells of it again.
        speak(20);
        tell.send(()).unwrap();
        recorder.wait_received(20 * 11);
        speak(180);
        assert_eq!(recorder.wait_received(200 * 11), b"hellofworld".repeat(200));
        // Other tests of this program open files, too, but not two hundred.
        assert!(files() < before + 100, "{before} files became {}", files());
    }
}

//! Sockets of every port: listening, connecting, sending, options.

use super::*;

fn the_dropped_socket_resets_when_it_was_told_to<P: Port>() {
    let mut scene = Scene::<P>::new();
    P::reset_on_close(&scene.socket);
    scene.port.detach(&scene.socket);
    drop(scene.socket);
    settle();
    assert_eq!(scene.peer.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn a_listener_tells_again_until_all_is_accepted<P: Port>() {
    let (port, mut ring) = P::open(&SETUP).unwrap();
    let (other_port, mut other_ring) = P::open(&SETUP).unwrap();
    let listener = port.listen(&Address::parse_listen(":0").unwrap(), &ListenOptions::default()).unwrap();
    let place = P::local_address(&listener).unwrap().socket_address().unwrap();
    port.attach_listener(&listener, LISTENER_KEY).unwrap();
    other_port.attach_listener(&listener, LISTENER_KEY).unwrap();
    // The dual-mode listener takes IPv4 as well, and calls it so.
    let peer = TcpStream::connect(("127.0.0.1", place.port())).unwrap();
    let mut sink = Recorder::default();
    sink.interests.insert(LISTENER_KEY, Reading::Notify);
    for _ in 0..2 {
        port.wait(&mut ring, Some(1_000_000_000), &mut sink).unwrap();
        assert_eq!(sink.told.pop(), Some((LISTENER_KEY, Told::Readable)));
    }
    other_port.wait(&mut other_ring, Some(1_000_000_000), &mut sink).unwrap();
    assert_eq!(sink.told.pop(), Some((LISTENER_KEY, Told::Readable)));
    let Accepted { socket, peer: address } = port.accept(&listener).unwrap();
    assert_eq!(address, Address::Ip(peer.local_addr().unwrap()));
    assert_eq!(P::peer_address(&socket).unwrap().to_string(), peer.local_addr().unwrap().to_string());
    assert!(matches!(port.accept(&listener), Err(AcceptError::NoneWaiting)));
    assert_eq!(port.wait(&mut ring, Some(0), &mut sink).unwrap(), 0);
    port.detach(&listener);
    other_port.detach(&listener);
    let _second = TcpStream::connect(("127.0.0.1", place.port())).unwrap();
    assert_eq!(port.wait(&mut ring, Some(20_000_000), &mut sink).unwrap(), 0);
}

fn connect_to<P: Port>(address: SocketAddr, from: Option<&str>) -> io::Result<P::Socket> {
    let (port, mut ring) = P::open(&SETUP)?;
    let from = from.map(|text| Address::parse_local(text).unwrap());
    let socket = port.connect(&Address::from(address), from.as_ref(), &StreamOptions::default())?;
    let mut sink = Recorder::default();
    sink.interests.insert(KEY, Reading::Notify);
    port.attach(&socket, KEY)?;
    port.wait(&mut ring, Some(5_000_000_000), &mut sink)?;
    assert!(sink.told.contains(&(KEY, Told::Writable)), "{:?}", sink.told);
    port.detach(&socket);
    P::connect_result(&socket).map(|()| socket)
}

fn a_connect_ends_with_writable_and_its_result<P: Port>() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for from in [None, Some("127.0.0.1:0"), Some(":0")] {
        let socket = connect_to::<P>(address, from).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(P::local_address(&socket).unwrap(), Address::from(peer));
    }
    drop(listener);
    let refused = connect_to::<P>(address, None).map(drop).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

fn many_slices_leave_in_one_call_and_a_full_socket_would_block<P: Port>() {
    let mut scene = Scene::<P>::new();
    let slices = [IoSlice::new(b"one "), IoSlice::new(b"two "), IoSlice::new(b"three")];
    assert_eq!(P::send(&scene.socket, &slices).unwrap(), 13);
    let mut buffer = [0; 13];
    scene.peer.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"one two three");
    let block = vec![0; 1 << 16];
    while P::send(&scene.socket, &[IoSlice::new(&block)]).is_ok() {}
    let error = P::send(&scene.socket, &[IoSlice::new(&block)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    // Reading at the other end makes it writable, though it was registered once only.
    scene.peer.set_nonblocking(true).unwrap();
    let mut sink = vec![0; 1 << 20];
    let deadline = Instant::now() + Duration::from_secs(5);
    while !scene.told_within(10).contains(&Told::Writable) {
        assert!(Instant::now() < deadline, "no Writable");
        while scene.peer.read(&mut sink).is_ok() {}
    }
    drop(scene.peer);
    settle();
    let error = loop {
        if let Err(error) = P::send(&scene.socket, &[IoSlice::new(b"x")]) {
            break error;
        }
    };
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
}

fn unix_sockets_work_and_leave_no_file_behind<P: Port>() {
    let path = std::env::temp_dir().join(format!("wharf-{}-{}.sock", std::process::id(), fastrand::u32(..)));
    let address = Address::parse_listen(&format!("unix:{}", path.display())).unwrap();
    let (port, _ring) = P::open(&SETUP).unwrap();
    let options = ListenOptions::default();
    // Left over by a process that died.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = port.listen(&address, &options).unwrap();
    assert_eq!(P::local_address(&listener).unwrap(), address);
    assert_eq!(port.listen(&address, &options).err().unwrap().kind(), ErrorKind::AddrInUse);
    let stream = StreamOptions { keepalive_s: 60, keepalive_probes: 3, send_buffer_bytes: 8192, ..Default::default() };
    let client = port.connect(&address, None, &stream).unwrap();
    P::connect_result(&client).unwrap();
    // The probe of the second listen waits before it.
    let _probe = port.accept(&listener).unwrap();
    let Accepted { socket: server, peer } = port.accept(&listener).unwrap();
    assert_eq!(peer, Address::UnixUnnamed);
    assert_eq!(P::peer_address(&server).unwrap(), Address::UnixUnnamed);
    assert_eq!(P::peer_address(&client).unwrap(), address);
    P::send(&client, &[IoSlice::new(b"hello")]).unwrap();
    assert_eq!(P::receive(&server, &mut [0; 8]).unwrap(), 5);
    drop(listener);
    assert!(!path.exists());
    std::fs::write(&path, "a file").unwrap();
    assert_eq!(port.listen(&address, &options).err().unwrap().kind(), ErrorKind::AddrInUse);
    assert!(path.exists(), "only sockets are removed");
    std::fs::remove_file(&path).unwrap();
}

fn a_unix_peer_with_a_name_is_told_by_it<P: Port>() {
    let name =
        |end: &str| std::env::temp_dir().join(format!("wharf-{end}-{}-{}.sock", std::process::id(), fastrand::u32(..)));
    let (here, there) = (Address::Unix(name("server")), Address::Unix(name("client")));
    let (port, _ring) = P::open(&SETUP).unwrap();
    let listener = port.listen(&here, &ListenOptions::default()).unwrap();
    let client = port.connect(&here, Some(&there), &StreamOptions::default()).unwrap();
    let accepted = port.accept(&listener).unwrap();
    assert_eq!(accepted.peer, there);
    assert_eq!(P::peer_address(&accepted.socket).unwrap(), there);
    drop(client);
    let Address::Unix(path) = there else { unreachable!() };
    std::fs::remove_file(path).unwrap();
}

fn what_is_no_listener_accepts_nobody<P: Port>() {
    let scene = Scene::<P>::new();
    assert!(matches!(scene.port.accept(&scene.socket), Err(AcceptError::Listener(_))));
}

fn a_socket_can_be_used_by_its_number<P: Port>() {
    let mut scene = Scene::<P>::new();
    let cell = <P::Raw as RawSocket>::Cell::default();
    P::raw(&scene.socket).store(&cell);
    let raw = P::Raw::load(&cell);
    assert_eq!(raw, P::raw(&scene.socket));
    scene.peer.write_all(b"hello").unwrap();
    settle();
    assert_eq!(P::receive_raw(raw, &mut [0; 8]).unwrap(), 5);
    assert!(P::take_error(raw).is_none());
    P::reset_raw(raw);
    scene.port.detach(&scene.socket);
    drop(scene.socket);
    settle();
    assert_eq!(scene.peer.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

fn only_a_listening_descriptor_is_adopted<P: Port>() {
    use std::os::fd::{AsRawFd, IntoRawFd};
    let (port, _ring) = P::open(&SETUP).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let adopted = port.adopt_listener(OsHandle::Descriptor(listener.into_raw_fd())).unwrap();
    assert_eq!(P::local_address(&adopted).unwrap(), Address::from(address));
    assert!(matches!(port.accept(&adopted), Err(AcceptError::NoneWaiting)), "it was made non-blocking");
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let stream = idle_stream();
    let file = std::fs::File::open("/dev/null").unwrap();
    for raw in [-1, i32::MAX, udp.as_raw_fd(), stream.as_raw_fd(), file.as_raw_fd()] {
        let refused = port.adopt_listener(OsHandle::Descriptor(raw)).err().unwrap();
        assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{raw}");
    }
    assert_eq!(port.adopt_listener(OsHandle::Handle(3)).err().unwrap().kind(), ErrorKind::Unsupported);
    file.metadata().unwrap();
    udp.local_addr().unwrap();
}

fn the_options_of_a_stream_reach_the_socket<P: Port<Raw = i32>>() {
    let scene = Scene::<P>::new();
    let options =
        StreamOptions { keepalive_s: 60, keepalive_interval_s: 10, keepalive_probes: 3, ..Default::default() };
    P::set_options(&scene.socket, &options).unwrap();
    assert_options(P::raw(&scene.socket));
}

/// Those of a keepalive with probes every 10 seconds, 3 times, and no Nagle.
fn assert_options(raw: i32) {
    let get = |level, name| crate::port::unix::options::get(raw, level, name).unwrap();
    assert_ne!(get(libc::IPPROTO_TCP, libc::TCP_NODELAY), 0);
    assert_ne!(get(libc::SOL_SOCKET, libc::SO_KEEPALIVE), 0);
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL), 10);
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_KEEPCNT), 3);
    // For bytes under way, for which no probes are sent: 60 s of silence and 3 probes.
    #[cfg(target_os = "linux")]
    assert_eq!(get(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT), 90_000);
}

fn accepted_sockets_inherit_the_options_where_the_port_says_so<P: Port<Raw = i32>>() {
    let (port, _ring) = P::open(&SETUP).unwrap();
    let stream = StreamOptions {
        keepalive_s: 60,
        keepalive_interval_s: 10,
        keepalive_probes: 3,
        send_buffer_bytes: 20_000,
        receive_buffer_bytes: 30_000,
        ..Default::default()
    };
    for text in ["127.0.0.1:0", "[::1]:0", ":0"] {
        let address = Address::parse_listen(text).unwrap();
        let listener = port.listen(&address, &ListenOptions { stream, ..Default::default() }).unwrap();
        let at = P::local_address(&listener).unwrap();
        let to = Address::parse_listen(&at.to_string().replace("[::]", "127.0.0.1").replace("0.0.0.0", "127.0.0.1"));
        let _client = port.connect(&to.unwrap(), None, &StreamOptions::default()).unwrap();
        let accepted = loop {
            match port.accept(&listener) {
                Ok(accepted) => break accepted.socket,
                Err(error) => assert!(matches!(error, AcceptError::NoneWaiting), "{error:?}"),
            }
        };
        let inherits = P::accepted_inherit_options(&address);
        assert_eq!(inherits, cfg!(target_os = "linux"), "{text}");
        if inherits {
            let raw = P::raw(&accepted);
            assert_options(raw);
            let get = |name| crate::port::unix::options::get(raw, libc::SOL_SOCKET, name).unwrap();
            // Linux doubles what is asked for (socket(7)).
            assert_eq!((get(libc::SO_SNDBUF), get(libc::SO_RCVBUF)), (40_000, 60_000), "{text}");
        }
    }
    assert!(!P::accepted_inherit_options(&Address::parse_listen("unix:/tmp/x").unwrap()));
}

fn a_socket_is_small<P: Port>() {
    assert!(size_of::<Option<P::Socket>>() <= 8);
}

on_every_port! {
    the_dropped_socket_resets_when_it_was_told_to,
    a_listener_tells_again_until_all_is_accepted,
    a_connect_ends_with_writable_and_its_result,
    many_slices_leave_in_one_call_and_a_full_socket_would_block,
    unix_sockets_work_and_leave_no_file_behind,
    a_unix_peer_with_a_name_is_told_by_it,
    what_is_no_listener_accepts_nobody,
    a_socket_can_be_used_by_its_number,
    only_a_listening_descriptor_is_adopted,
    the_options_of_a_stream_reach_the_socket,
    accepted_sockets_inherit_the_options_where_the_port_says_so,
    a_socket_is_small,
}

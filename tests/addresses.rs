//! Addresses that are told can be dialled: each peer and each local end is told in a form that is read back, with the zone
//! of a link-local address and the name of a Unix socket, the same wherever it is told.

mod common;

use std::ffi::{CStr, OsStr, c_char, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};

use common::*;

type Told = Arc<Mutex<Vec<String>>>;

fn peer_of(conn: wharf_conn) -> String {
    told_by(wharf_conn_peer_address, conn)
}

fn local_of(conn: wharf_conn) -> String {
    told_by(wharf_conn_local_address, conn)
}

type Tell = unsafe extern "C" fn(wharf_conn, *mut c_char, usize, *mut usize) -> wharf_status;

/// Names of Unix sockets can be long.
fn told_by(tell: Tell, conn: wharf_conn) -> String {
    let mut buffer = [0u8; 512];
    ok(unsafe { tell(conn, buffer.as_mut_ptr().cast(), buffer.len(), std::ptr::null_mut()) });
    CStr::from_bytes_until_nul(&buffer).unwrap().to_str().unwrap().to_string()
}

/// A server's recorder that notes whom it is told of in on_admit, on_open and on_close.
fn noting() -> (Told, Arc<Recorder>, wharf_handler) {
    let told = Told::default();
    let (asked, noted) = (told.clone(), told.clone());
    let recorder = Recorder::with_hook(move |event| {
        if let Event::Open(conn) | Event::Close(conn @ 1.., _) = event {
            noted.lock().unwrap().push(peer_of(*conn));
        }
    });
    let handler = recorder.handler_asking(move |peer| {
        asked.lock().unwrap().push(peer.to_string());
        WHARF_ADMIT_ACCEPT
    });
    // The end of the peer is the end.
    (told, recorder, wharf_handler { on_end: None, ..handler })
}

unsafe extern "C" fn on_log(context: *mut c_void, _level: i32, message: *const c_char) {
    let (lines, line) = unsafe { (&*(context as *const Mutex<Vec<String>>), CStr::from_ptr(message)) };
    lines.lock().unwrap().push(line.to_str().unwrap().to_string());
}

/// An engine whose lines are kept.
fn logging(port: u32, lines: &Told) -> Engine {
    Engine::with(port, |config| {
        config.log_level = WHARF_LOG_DEBUG;
        config.on_log = Some(on_log);
        config.log_context = Arc::as_ptr(lines) as *mut _;
    })
}

#[track_caller]
fn wait_for_line(lines: &Told, line: &str) {
    until(line, || lines.lock().unwrap().iter().any(|said| said.starts_with(line)));
}

/// A socket of this name that is connected; an abstract name begins with a zero byte.
fn connect_as(name: &[u8], server: &[u8]) -> UnixStream {
    let address = |name: &[u8]| {
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as _;
        address.sun_path.iter_mut().zip(name).for_each(|(place, byte)| *place = *byte as c_char);
        (address, (std::mem::offset_of!(libc::sockaddr_un, sun_path) + name.len()) as libc::socklen_t)
    };
    let ((own, own_len), (there, there_len)) = (address(name), address(server));
    unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0);
        let stream = UnixStream::from(OwnedFd::from_raw_fd(fd));
        if !name.is_empty() {
            assert_eq!(libc::bind(fd, (&raw const own).cast(), own_len), 0, "{}", std::io::Error::last_os_error());
        }
        assert_eq!(libc::connect(fd, (&raw const there).cast(), there_len), 0, "{}", std::io::Error::last_os_error());
        stream
    }
}

/// This thread and those that it starts get a network of their own, whose loopback has a link-local address. False: that
/// takes more rights than we have.
fn enter_a_network_with_a_link_local_address() -> bool {
    #[repr(C)]
    struct In6Ifreq {
        address: [u8; 16],
        prefix: u32,
        index: i32,
    }
    // SAFETY: plain system calls, with structs of the kernel that live for the calls.
    unsafe {
        if libc::unshare(libc::CLONE_NEWNET) != 0 {
            return false;
        }
        let socket = OwnedFd::from_raw_fd(libc::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0));
        let mut lo: libc::ifreq = std::mem::zeroed();
        lo.ifr_name[..2].copy_from_slice(&[b'l' as c_char, b'o' as c_char]);
        lo.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
        assert_eq!(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const lo), 0);
        let mut address = [0; 16];
        (address[0], address[1], address[15]) = (0xfe, 0x80, 0xa1);
        let of_lo = In6Ifreq { address, prefix: 64, index: 1 };
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR as _, &raw const of_lo) != 0 {
            return false;
        }
    }
    // For as long as it is tentative (0x40), connects come from another address.
    until("the address may be used", || {
        let addresses = std::fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap();
        addresses.lines().any(|line| line.starts_with("fe80") && line.split_whitespace().nth(4) == Some("80"))
    });
    true
}

on_every_port! {
    fn a_link_local_peer_is_told_with_its_zone_and_can_be_dialled(port) {
        if !enter_a_network_with_a_link_local_address() {
            return eprintln!("not tested: no right to make a network");
        }
        let lines = Told::default();
        let engine = logging(port, &lines);
        let (told, recorder, handler) = noting();
        let server = engine.server_with(handler, "[::]:0", |_| {});
        let number = server.address().rsplit(':').next().unwrap().to_string();
        let side = Recorder::new();
        engine.client(&side, &format!("[fe80::a1%lo]:{number}"));
        let (accepted, dialled) = (recorder.wait_open(), side.wait_open());
        let there = format!("[fe80::a1%1]:{number}");
        assert_eq!((peer_of(dialled), local_of(accepted)), (there.clone(), there.clone()));
        let here = local_of(dialled);
        assert!(here.starts_with("[fe80::a1%1]:"), "{here}");
        assert_eq!(peer_of(accepted), here);
        ok(close(dialled, WHARF_CLOSE_NOW));
        recorder.wait_close();
        assert_eq!(*told.lock().unwrap(), [here.clone(), here.clone(), here.clone()]);
        wait_for_line(&lines, &format!("server: {here} connected"));
        wait_for_line(&lines, &format!("server: {here} disconnected"));
        wait_for_line(&lines, &format!("client: {there} connected"));
        // What was told can be dialled.
        let again = Recorder::new();
        engine.client(&again, &there);
        assert_eq!(peer_of(again.wait_open()), there);
    }

    fn a_unix_peer_is_told_by_its_name_until_on_close_has_returned(port) {
        let lines = Told::default();
        let engine = logging(port, &lines);
        let path = unix_path();
        let there = path.as_os_str().as_bytes();
        let own_path = unix_path();
        let own = own_path.as_os_str().as_bytes();
        let odd = [own, b"\xff\n\\x41"].concat();
        let text = |name: &[u8]| format!("unix:{}", String::from_utf8_lossy(name));
        let mut names = vec![
            (Vec::new(), "unix:".to_string()),
            (own.to_vec(), text(own)),
            (odd, format!("{}\\xff\\x0a\\x5cx41", text(own))),
        ];
        if cfg!(target_os = "linux") {
            let name = format!("wharf-{}-{port}", std::process::id());
            names.push((format!("\0{name}").into_bytes(), format!("unix:@{name}")));
            // As those bind who give the size of the whole field.
            let mut padded = format!("\0{name}").into_bytes();
            padded.resize(108, 0);
            names.push((padded, format!("unix:@{name}{}", "\\x00".repeat(107 - name.len()))));
        }
        let (told, recorder, handler) = noting();
        engine.server_with(handler, &text(there), |_| {});
        for (round, (name, printed)) in names.iter().enumerate() {
            let peer = connect_as(name, there);
            let conn = recorder.wait_opens(round + 1)[round];
            assert_eq!((&peer_of(conn), local_of(conn)), (printed, text(there)));
            drop(peer);
            recorder.wait_closes(round + 1);
            assert_eq!(std::mem::take(&mut *told.lock().unwrap()), [(); 3].map(|()| printed.clone()));
            wait_for_line(&lines, &format!("server: {printed} connected"));
            wait_for_line(&lines, &format!("server: {printed} disconnected"));
            if name.first().is_some_and(|first| *first != 0) {
                std::fs::remove_file(OsStr::from_bytes(name)).unwrap();
            }
        }
    }

    fn several_unix_peers_that_end_together_keep_each_its_own_name(port) {
        let engine = Engine::with(port, |config| config.workers = 2);
        let path = unix_path();
        let there = path.as_os_str().as_bytes();
        let (told, recorder, handler) = noting();
        let server = engine.server_with(handler, &format!("unix:{}", path.display()), |_| {});
        let names: Vec<_> = (0..16).map(|_| unix_path()).collect();
        let _peers: Vec<_> = names.iter().map(|name| connect_as(name.as_os_str().as_bytes(), there)).collect();
        recorder.wait_opens(16);
        let mut before = std::mem::take(&mut *told.lock().unwrap());
        before.sort();
        before.dedup();
        server.stop(0);
        recorder.wait_closes(16);
        let mut after = told.lock().unwrap().clone();
        after.sort();
        assert_eq!((before.len(), after), (16, before));
        names.iter().for_each(|name| std::fs::remove_file(name).unwrap());
    }

    fn the_peer_of_a_unix_client_is_where_it_connected_to_and_can_be_dialled(port) {
        let engine = Engine::new(port);
        let path = unix_path();
        let odd = path.with_file_name(OsStr::from_bytes(&[path.file_name().unwrap().as_bytes(), b"\xe4"].concat()));
        let printed = format!("unix:{}\\xe4", path.display());
        let mut addresses = vec![format!("unix:{}", path.display()), printed];
        if cfg!(target_os = "linux") {
            addresses.push(format!("unix:@wharf-{}-{port}\\xff", std::process::id()));
        }
        for address in &addresses {
            let served = Recorder::new();
            let server = engine.server_with(served.handler(), address, |_| {});
            assert_eq!(&server.address(), address);
            let (told, side, handler) = noting();
            engine.client_with(handler, address, |_| {});
            let conn = side.wait_open();
            assert_eq!((&peer_of(conn), local_of(conn)), (address, "unix:".to_string()));
            assert_eq!(local_of(served.wait_open()), *address);
            if address.contains("\\xe4") {
                assert!(odd.exists(), "the escape stands for the byte");
            }
            server.destroy();
            side.wait_close();
            assert_eq!(*told.lock().unwrap(), [address.clone(), address.clone()]);
            served.wait_drop();
        }
    }
}

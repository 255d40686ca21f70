//! What every port promises, run on each of them over the loopback interface.

use std::collections::HashMap;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{
    AcceptError, Accepted, Address, Completion, Interest, ListenOptions, OsHandle, Port, PortSetup, RawSocket, Reading,
    Sink, StreamOptions,
};

const SETUP: PortSetup = PortSetup { receive_buffer_bytes: 1024, max_connections: 8, receives_per_turn: 4 };
const KEY: u64 = 4 << 60 | 7;
const LISTENER_KEY: u64 = 2 << 60 | 1;

/// Makes a test on each port of each function.
macro_rules! on_every_port {
    ($($name:ident,)*) => {
        #[cfg(target_os = "linux")]
        mod epoll {
            $(#[test] fn $name() { super::$name::<crate::port::epoll::EpollPort>(); })*
        }
        mod polling {
            $(#[test] fn $name() { super::$name::<crate::port::polling::PollingPort>(); })*
        }
    };
}

mod sockets;

#[derive(Debug, PartialEq)]
enum Told {
    Received(Vec<u8>),
    End,
    Writable,
    Readable,
    Drained,
    Failed(ErrorKind),
}

/// Writes down what it is told.
struct Recorder<R> {
    interests: HashMap<u64, Reading<R>>,
    told: Vec<(u64, Told)>,
    /// What the interest of a key becomes once it has received something.
    after_receive: Option<Reading<R>>,
    /// How many completions panic.
    panics: u32,
}

impl<R> Default for Recorder<R> {
    fn default() -> Recorder<R> {
        Recorder { interests: HashMap::new(), told: Vec::new(), after_receive: None, panics: 0 }
    }
}

impl<R: RawSocket> Sink<R> for Recorder<R> {
    fn interest(&mut self, key: u64) -> Interest<R> {
        Interest { read: self.interests.get(&key).copied().unwrap_or(Reading::Gone), room: true, place: 0 }
    }

    fn complete(&mut self, key: u64, completion: Completion<'_>) {
        if self.panics > 0 {
            self.panics -= 1;
            std::panic::resume_unwind(Box::new(key));
        }
        let told = match completion {
            Completion::Received(data) => {
                if let Some(interest) = self.after_receive {
                    self.interests.insert(key, interest);
                }
                Told::Received(data.to_vec())
            }
            Completion::EndOfStream => Told::End,
            Completion::Writable => Told::Writable,
            Completion::Readable => Told::Readable,
            Completion::Drained => Told::Drained,
            Completion::Failed(error) => Told::Failed(error.kind()),
        };
        self.told.push((key, told));
    }
}

/// A port with one connection on it, whose other end is a socket of the standard library.
struct Scene<P: Port> {
    port: P,
    ring: P::Ring,
    sink: Recorder<P::Raw>,
    socket: P::Socket,
    peer: TcpStream,
}

impl<P: Port> Scene<P> {
    fn new() -> Scene<P> {
        let (port, ring) = P::open(&SETUP).unwrap();
        let (socket, peer) = pair(&port);
        let mut scene = Scene { port, ring, sink: Recorder::default(), socket, peer };
        scene.set(Reading::Receive(P::raw(&scene.socket)));
        scene.port.attach(&scene.socket, KEY).unwrap();
        assert_eq!(scene.told_within(1000), [Told::Writable]);
        scene
    }

    fn set(&mut self, interest: Reading<P::Raw>) {
        self.sink.interests.insert(KEY, interest);
    }

    fn resume(&mut self) {
        self.set(Reading::Receive(P::raw(&self.socket)));
        P::receive_again(&mut self.ring, KEY);
    }

    fn wait(&mut self, milliseconds: u64) -> u32 {
        self.port.wait(&mut self.ring, Some(milliseconds * 1_000_000), &mut self.sink).unwrap()
    }

    /// What one wait tells of the connection.
    fn told_within(&mut self, milliseconds: u64) -> Vec<Told> {
        self.wait(milliseconds);
        self.sink.told.drain(..).map(|(_, told)| told).collect()
    }

    /// The same without what a port may add as it likes.
    fn read_within(&mut self, milliseconds: u64) -> Vec<Told> {
        self.told_within(milliseconds).into_iter().filter(|told| *told != Told::Writable).collect()
    }

    fn is_readable(&self) -> bool {
        is_readable(self.port.descriptor().unwrap(), 0)
    }
}

fn is_readable(handle: OsHandle, milliseconds: i32) -> bool {
    let OsHandle::Descriptor(raw) = handle else { panic!("{handle:?} is not of Unix") };
    let mut item = libc::pollfd { fd: raw, events: libc::POLLIN, revents: 0 };
    // SAFETY: poll writes to the one item that it is given, which lives for the call.
    unsafe { libc::poll(&raw mut item, 1, milliseconds) == 1 }
}

fn pair<P: Port>(port: &P) -> (P::Socket, TcpStream) {
    let listener = port.listen(&Address::parse_listen("127.0.0.1:0").unwrap(), &ListenOptions::default()).unwrap();
    let peer = TcpStream::connect(P::local_address(&listener).unwrap().to_string()).unwrap();
    peer.set_nodelay(true).unwrap();
    let accepted = port.accept(&listener).unwrap();
    assert_eq!(accepted.peer, Address::Ip(peer.local_addr().unwrap()));
    (accepted.socket, peer)
}

/// Loopback delivers at once, though in another context of the kernel.
fn settle() {
    std::thread::sleep(Duration::from_millis(20));
}

fn received(bytes: &[u8]) -> Told {
    Told::Received(bytes.to_vec())
}

fn reset_of_the_peer(peer: TcpStream) {
    use std::os::fd::AsRawFd;
    super::unix::options::reset_on_close(peer.as_raw_fd());
    drop(peer);
    settle();
}

fn data_and_the_end_behind_it_come_in_one_wait<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.peer.write_all(b"hello").unwrap();
    scene.peer.shutdown(Shutdown::Write).unwrap();
    settle();
    assert_eq!(scene.read_within(1000), [received(b"hello"), Told::End]);
}

fn the_end_is_told_after_data_that_came_before_it<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.peer.write_all(b"hello").unwrap();
    assert_eq!(scene.read_within(1000), [received(b"hello")]);
    scene.peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(scene.read_within(1000), [Told::End]);
    assert_eq!(scene.read_within(0), []);
}

fn what_is_behind_urgent_data_is_read_too<P: Port>() {
    use std::os::fd::AsRawFd;
    let mut scene = Scene::<P>::new();
    scene.peer.write_all(b"before").unwrap();
    // SAFETY: one byte is read from a static.
    assert_eq!(unsafe { libc::send(scene.peer.as_raw_fd(), c"!".as_ptr().cast(), 1, libc::MSG_OOB) }, 1);
    scene.peer.write_all(b"after").unwrap();
    settle();
    assert_eq!(scene.read_within(1000), [received(b"before"), received(b"after")]);
}

fn a_share_that_is_used_up_leaves_the_rest_to_the_next_wait<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.peer.write_all(&[1; 6 * 1024]).unwrap();
    settle();
    assert_eq!(scene.read_within(1000).len(), 4);
    assert!(scene.is_readable(), "the ready list makes the descriptor readable");
    let begin = Instant::now();
    assert_eq!(scene.read_within(5000), [received(&[1; 1024]), received(&[1; 1024])]);
    assert!(begin.elapsed() < Duration::from_secs(1), "a wait does not block while the ready list has a key");
    assert_eq!(scene.read_within(0), []);
    assert!(!scene.is_readable());
}

fn a_paused_connection_is_left_alone_until_it_is_resumed<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.set(Reading::Nothing(P::raw(&scene.socket)));
    scene.peer.write_all(b"hello").unwrap();
    assert_eq!(scene.read_within(50), []);
    scene.resume();
    assert_eq!(scene.read_within(1000), [received(b"hello")]);
    // The end came while it was paused.
    scene.set(Reading::Nothing(P::raw(&scene.socket)));
    scene.peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(scene.read_within(50), []);
    scene.resume();
    assert_eq!(scene.read_within(1000), [Told::End]);
}

fn a_pause_in_the_callback_stops_the_reading<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.sink.after_receive = Some(Reading::Nothing(P::raw(&scene.socket)));
    scene.peer.write_all(&[1; 1500]).unwrap();
    settle();
    assert_eq!(scene.read_within(1000), [received(&[1; 1024])]);
    assert_eq!(scene.read_within(20), []);
    scene.resume();
    assert_eq!(scene.read_within(1000), [received(&[1; 476])]);
}

fn resuming_makes_the_descriptor_readable<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.port.descriptor().unwrap();
    scene.wait(0);
    assert!(!scene.is_readable());
    scene.resume();
    assert!(scene.is_readable());
    scene.wait(0);
    assert!(!scene.is_readable());
}

fn a_key_that_is_gone_is_never_read<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.set(Reading::Gone);
    scene.peer.write_all(b"hello").unwrap();
    assert_eq!(scene.read_within(50), []);
    let mut buffer = [0; 8];
    assert_eq!(P::receive(&scene.socket, &mut buffer).unwrap(), 5, "the bytes are still in the socket");
}

fn a_notified_connection_is_told_and_not_read<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.set(Reading::Notify);
    scene.peer.write_all(b"hello").unwrap();
    assert_eq!(scene.read_within(1000), [Told::Readable]);
    let mut buffer = [0; 8];
    assert_eq!(P::receive(&scene.socket, &mut buffer).unwrap(), 5);
    assert_eq!(P::receive(&scene.socket, &mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
}

fn a_reset_is_told_as_a_failure<P: Port>() {
    let mut scene = Scene::<P>::new();
    reset_of_the_peer(std::mem::replace(&mut scene.peer, idle_stream()));
    assert_eq!(scene.read_within(1000), [Told::Failed(ErrorKind::ConnectionReset)]);
}

fn a_reset_is_told_to_a_paused_connection_too<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.set(Reading::Nothing(P::raw(&scene.socket)));
    scene.peer.write_all(b"hello").unwrap();
    assert_eq!(scene.read_within(50), []);
    reset_of_the_peer(std::mem::replace(&mut scene.peer, idle_stream()));
    assert_eq!(scene.read_within(1000), [Told::Failed(ErrorKind::ConnectionReset)]);
}

fn a_reset_behind_the_end_is_told<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(scene.read_within(1000), [Told::End]);
    scene.set(Reading::Nothing(P::raw(&scene.socket)));
    reset_of_the_peer(std::mem::replace(&mut scene.peer, idle_stream()));
    assert!(matches!(scene.read_within(1000)[..], [Told::Failed(_)]));
}

fn idle_stream() -> TcpStream {
    TcpStream::connect(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()).unwrap()
}

fn a_wake_ends_a_wait<P: Port>() {
    let mut scene = Scene::<P>::new();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let port = &scene.port;
        scope.spawn(move || {
            settle();
            port.wake();
        });
        assert_eq!(port.wait(&mut scene.ring, Some(10_000_000_000), &mut scene.sink).unwrap(), 0);
    });
    assert!(begin.elapsed() < Duration::from_secs(5));
    for _ in 0..3 {
        scene.port.wake();
        assert!(scene.is_readable());
        assert_eq!(scene.wait(10_000), 0);
        assert!(!scene.is_readable(), "one wait takes a wake");
    }
    let begin = Instant::now();
    scene.wait(30);
    assert!(begin.elapsed() >= Duration::from_millis(30), "a wake is taken once");
}

fn the_descriptor_is_readable_when_and_only_when_a_turn_is_due<P: Port>() {
    let mut scene = Scene::<P>::new();
    scene.port.descriptor().unwrap();
    scene.wait(0);
    assert!(!scene.is_readable());
    scene.peer.write_all(b"hello").unwrap();
    settle();
    assert!(scene.is_readable());
    assert_eq!(scene.read_within(0), [received(b"hello")]);
    assert!(!scene.is_readable());
}

fn an_alarm_makes_the_descriptor_readable<P: Port>() {
    let mut scene = Scene::<P>::new();
    let raw = scene.port.descriptor().unwrap();
    scene.wait(0);
    for _ in 0..2 {
        let at_ns = scene.port.now_ns() + 40_000_000;
        scene.port.set_alarm(Some(at_ns)).unwrap();
        // On a machine that is busy the look may come late.
        assert!(!is_readable(raw, 10) || scene.port.now_ns() >= at_ns);
        assert!(is_readable(raw, 5_000));
        assert!(scene.port.now_ns() >= at_ns);
        assert_eq!(scene.wait(0), 0);
        assert!(!scene.is_readable());
        // A time that has passed is due at once, also when it is the same again.
        scene.port.set_alarm(Some(at_ns)).unwrap();
        assert!(is_readable(raw, 1_000));
        scene.wait(0);
        assert!(!scene.is_readable());
    }
    scene.port.set_alarm(Some(scene.port.now_ns() + 400_000_000)).unwrap();
    scene.port.set_alarm(None).unwrap();
    assert!(!is_readable(raw, 500), "an alarm can be taken back");
}

fn resuming_over_and_over_keeps_the_ready_list_bounded<P: Port>() {
    let mut scene = Scene::<P>::new();
    for _ in 0..5_000 {
        P::receive_again(&mut scene.ring, KEY);
    }
    assert!(scene.wait(0) == 0, "nothing came");
    scene.peer.write_all(b"hello").unwrap();
    assert_eq!(scene.read_within(1000), [received(b"hello")]);
}

fn what_a_panic_of_the_sink_left_comes_with_the_next_wait<P: Port>() {
    let mut scene = Scene::<P>::new();
    let others: Vec<_> = (1..=5).map(|number| (KEY + number, pair(&scene.port))).collect();
    for (key, (socket, _)) in &others {
        scene.sink.interests.insert(*key, Reading::Receive(P::raw(socket)));
        scene.port.attach(socket, *key).unwrap();
    }
    scene.told_within(1000);
    for (_, (_, peer)) in &others {
        (&*peer).write_all(b"hello").unwrap();
    }
    settle();
    // Room is told of as well, in an event of the same key: two keys lose an event or both.
    scene.sink.panics = 2;
    for _ in 0..2 {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| scene.wait(1000))).unwrap_err();
    }
    let told = scene.read_within(1000);
    assert_eq!(told, [received(b"hello"), received(b"hello"), received(b"hello")]);
}

on_every_port! {
    data_and_the_end_behind_it_come_in_one_wait,
    the_end_is_told_after_data_that_came_before_it,
    what_is_behind_urgent_data_is_read_too,
    a_share_that_is_used_up_leaves_the_rest_to_the_next_wait,
    a_paused_connection_is_left_alone_until_it_is_resumed,
    a_pause_in_the_callback_stops_the_reading,
    resuming_makes_the_descriptor_readable,
    a_key_that_is_gone_is_never_read,
    a_notified_connection_is_told_and_not_read,
    a_reset_is_told_as_a_failure,
    a_reset_is_told_to_a_paused_connection_too,
    a_reset_behind_the_end_is_told,
    a_wake_ends_a_wait,
    the_descriptor_is_readable_when_and_only_when_a_turn_is_due,
    an_alarm_makes_the_descriptor_readable,
    resuming_over_and_over_keeps_the_ready_list_bounded,
    what_a_panic_of_the_sink_left_comes_with_the_next_wait,
}

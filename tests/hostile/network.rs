//! Peers that vanish without a word: two network namespaces with a wire between them, which is cut. Linux, iproute2 and
//! root are needed; where they are not there it is said aloud, and where tools are required it is a failure.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

use super::echo::HOSE;
use super::files::Files;
use super::honest::{Honest, try_exchange};
use super::scenario::{CLIENTS, Outcome};
use super::server_process::ServerProcess;
use super::sockets::Place;
use super::watch::{Watch, wait_for};

const SERVER_IP: [u8; 4] = [10, 77, 0, 1];

/// What the peers do until they vanish.
#[derive(Clone, Copy, PartialEq)]
pub enum Habit {
    /// Nothing any more, after one message.
    Silent,
    /// They are sent to without end, and read.
    Served,
    /// They ask and are answered, again and again.
    Asking,
}

/// A wire between the namespaces of a server and of its peers.
struct Wire {
    server: String,
    peers: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

impl Wire {
    fn lay() -> Option<Wire> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wharf-{}-{}", std::process::id(), NEXT.fetch_add(1, Relaxed));
        let wire = Wire { server: format!("{name}-s"), peers: format!("{name}-p") };
        let Wire { server, peers } = &wire;
        let laid = [
            format!("netns add {server}"),
            format!("netns add {peers}"),
            format!("-n {server} link add wire type veth peer name wire netns {peers}"),
            format!("-n {server} addr add 10.77.0.1/24 dev wire"),
            format!("-n {peers} addr add 10.77.0.2/24 dev wire"),
            format!("-n {server} link set lo up"),
            format!("-n {server} link set wire up"),
            format!("-n {peers} link set wire up"),
        ]
        .iter()
        .try_for_each(|arguments| ip(arguments));
        if let Err(error) = laid {
            let required = std::env::var("WHARF_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
            assert!(!required, "network namespaces cannot be made: {error}");
            // Not captured: who runs the tests shall see it.
            let _ = writeln!(std::io::stderr(), "skipped: network namespaces cannot be made: {error}");
            return None;
        }
        Some(wire)
    }

    /// The peers are gone, and nobody says so.
    fn cut(&self) {
        ip(&format!("-n {} link del wire", self.peers)).unwrap();
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        // What was never made cannot be taken down; that is no fault.
        let _ = ip(&format!("netns del {}", self.server));
        let _ = ip(&format!("netns del {}", self.peers));
    }
}

/// So many peers vanish; the server must find out and close them, while honest clients on its own machine are served. None
/// when there can be no namespaces. The report has `noticed_ms`: how long after the cut the last one was closed.
pub fn vanish(port: u32, plan: &str, habit: Habit, count: usize, pause: Duration) -> Option<Outcome> {
    let wire = Wire::lay()?;
    let _files = Files::take(count as u64 + 300)?;
    let server_plan = format!("address=0.0.0.0:0 port={port} engine_connections=2048 {plan}");
    let mut process = ServerProcess::start(&server_plan, Some(&wire.server));
    let (inside, outside) =
        (Place { namespace: Some(wire.server.clone()) }, Place { namespace: Some(wire.peers.clone()) });
    let own = SocketAddr::from(([127, 0, 0, 1], process.address.port()));
    let far = SocketAddr::from((SERVER_IP, process.address.port()));
    let before = process.report();
    let mut watch = Watch::default();
    let honest = Honest::start(&inside, own, CLIENTS, pause);
    let peers: Vec<TcpStream> = outside.enter(|| (0..count).map(|_| TcpStream::connect(far).unwrap()).collect());
    let begin = Instant::now();
    let cut = std::thread::scope(|scope| {
        for (number, peer) in peers.iter().enumerate() {
            let mut peer = peer.try_clone().unwrap();
            peer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            match habit {
                Habit::Silent => drop(try_exchange(&mut peer, number as u64, 0).unwrap()),
                Habit::Served => drop(scope.spawn(move || {
                    peer.write_all(&[HOSE]).unwrap();
                    // Until it is cut off.
                    while matches!(peer.read(&mut [0; 65536]), Ok(1..)) {}
                })),
                Habit::Asking => drop(scope.spawn(move || while try_exchange(&mut peer, number as u64, 0).is_ok() {})),
            }
        }
        wait_for(&mut process, "all are served", |report| {
            report.get("open") == (count + CLIENTS) as u64 && report.get("bytes_out") > 64 * count as u64
        });
        wire.cut();
        Instant::now()
    });
    watch.look(&mut process);
    wait_for(&mut process, "the vanished are closed", |report| report.get("open") == CLIENTS as u64);
    let noticed = cut.elapsed();
    let (honest, took) = (honest.end(), begin.elapsed());
    let mut report = watch.end(process, &before);
    report.0.insert("noticed_ms".to_string(), noticed.as_millis() as u64);
    Some(Outcome { honest, newcomers: Default::default(), attempts: count as u64, took, report })
}

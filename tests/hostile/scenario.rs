//! Scenarios: a server, honest clients, an attack beside them; and what must be true during it and after it.

use std::sync::atomic::{AtomicBool, Ordering::*};
use std::time::{Duration, Instant};

use super::attacks::{self, Attack};
use super::files::Files;
use super::honest::{Honest, Seen};
use super::server_process::{Report, ServerProcess};
use super::sockets::Place;
use super::watch::{Watch, wait_for};
use crate::common::{PATIENCE, WHARF_AT_LIMIT_REJECT, WHARF_AT_LIMIT_WAIT};

/// Honest clients in each scenario.
pub const CLIENTS: usize = 4;

pub struct Scenario {
    pub name: &'static str,
    /// What the peers do, as the docs say it.
    pub what: &'static str,
    /// None: nobody attacks.
    pub attack: Option<fn(&Attack) -> u64>,
    /// What an attack counts.
    pub unit: &'static str,
    /// Threads that attack.
    pub attackers: usize,
    /// Connections of each of them; in a test, and where figures are made.
    pub sizes: (usize, usize),
    pub plan: &'static str,
    /// Whether clients that come during the attack must be served, too.
    pub newcomers: bool,
    /// Done in the middle of the attack.
    pub during: fn(&mut ServerProcess),
    /// The counters that show the attack.
    pub shows: &'static [&'static str],
    pub expects: fn(&Report),
}

fn nothing(_: &mut ServerProcess) {}

/// A server without descriptors, until it has noticed three times.
fn exhaust(process: &mut ServerProcess) {
    process.order("exhaust");
    wait_for(process, "accepting has backed off three times", |report| report.get("descriptor_exhaustions") >= 3);
    process.order("release");
}

const QUIET: Scenario = Scenario {
    name: "quiet",
    what: "nobody attacks",
    attack: None,
    unit: "",
    attackers: 0,
    sizes: (0, 0),
    plan: "engine_connections=4096",
    newcomers: true,
    during: nothing,
    shows: &[],
    expects: |_| {},
};

/// Floods have a first-byte deadline: when the backlog overflows, the system loses track of peers that gave up meanwhile,
/// and hands connections over whose other end is gone without a word. Only a deadline ends those.
pub const SCENARIOS: &[Scenario] = &[
    QUIET,
    Scenario {
        name: "slow-loris",
        what: "half of the connections say nothing, half a byte now and then; the silent come again when thrown out",
        attack: Some(attacks::slow_loris),
        unit: "bytes and connects",
        attackers: 1,
        sizes: (400, 3000),
        plan: "engine_connections=4096 first_byte_timeout_ms=200",
        shows: &["closed_by_timeout"],
        expects: |report| assert_eq!(report.get("closed_by_timeout"), report.get("WHARF_E_FIRST_BYTE")),
        ..QUIET
    },
    Scenario {
        name: "never-reads",
        what: "send as much as is taken, read none of the answers; the pool is a quarter of what they could fill",
        attack: Some(attacks::never_reads),
        unit: "bytes",
        attackers: 1,
        sizes: (64, 64),
        plan: "engine_connections=256 pool_bytes=4194304 send_stall_timeout_ms=300 socket_send_buffer_bytes=16384",
        shows: &["queue_full", "pool_exhausted", "closed_by_timeout"],
        expects: |report| assert_eq!(report.get("closed_by_timeout"), report.get("WHARF_E_SEND_STALLED")),
        ..QUIET
    },
    Scenario {
        name: "byte-by-byte",
        what: "write and read one byte at a time",
        attack: Some(attacks::one_byte_at_a_time),
        unit: "bytes",
        attackers: 1,
        sizes: (16, 64),
        shows: &["bytes_in"],
        ..QUIET
    },
    Scenario {
        name: "reset-flood",
        what: "connect, send (or not), reset",
        attack: Some(attacks::reset_flood),
        unit: "resets",
        attackers: 2,
        sizes: (1, 1),
        shows: &["closed_by_reset"],
        ..QUIET
    },
    Scenario {
        name: "connect-flood-rejected",
        what: "connect ten times more than max_connections = 100, WHARF_AT_LIMIT_REJECT",
        attack: Some(attacks::connect_flood),
        unit: "connects",
        attackers: 2,
        sizes: (500, 500),
        plan: "engine_connections=256 max_connections=100 at_limit=1 first_byte_timeout_ms=1000",
        newcomers: false,
        shows: &["refused_at_limit"],
        expects: |_| assert_eq!((WHARF_AT_LIMIT_WAIT, WHARF_AT_LIMIT_REJECT), (0, 1)),
        ..QUIET
    },
    Scenario {
        name: "connect-flood-waiting",
        what: "the same with WHARF_AT_LIMIT_WAIT",
        attack: Some(attacks::connect_flood),
        unit: "connects",
        attackers: 2,
        sizes: (500, 500),
        plan: "engine_connections=256 max_connections=100 at_limit=0 backlog=64 first_byte_timeout_ms=1000",
        newcomers: false,
        shows: &["accept_pauses"],
        expects: |report| assert_eq!(report.get("refused_at_limit"), 0),
        ..QUIET
    },
    Scenario {
        name: "half-closed",
        what: "send, end their own side (FIN), read nothing and stay",
        attack: Some(attacks::half_close),
        unit: "connections",
        attackers: 1,
        sizes: (1000, 4000),
        shows: &["closed_by_peer"],
        ..QUIET
    },
    Scenario {
        name: "connect-and-close",
        what: "connect and close, without a byte",
        attack: Some(attacks::connect_and_close),
        unit: "connections",
        attackers: 2,
        sizes: (1, 1),
        shows: &["closed_by_peer"],
        ..QUIET
    },
    Scenario {
        name: "garbage",
        what: "begin with up to 60 KB of another protocol; the server's user throws them out by reset",
        attack: Some(attacks::garbage),
        unit: "connections",
        attackers: 2,
        sizes: (1, 1),
        shows: &["closed_by_us"],
        expects: |report| assert_eq!(report.get("closed_by_us"), report.get("strangers")),
        ..QUIET
    },
    Scenario {
        name: "crowd",
        what: "18,000 connections at once; each sends a byte, gets it back, and stays",
        attack: Some(attacks::crowd),
        unit: "connections",
        attackers: 2,
        sizes: (9000, 9000),
        plan: "engine_connections=18100 backlog=4096",
        shows: &["most_open"],
        expects: |report| assert!(report.get("most_open") >= 18_000 + CLIENTS as u64, "{}", report.get("most_open")),
        ..QUIET
    },
    Scenario {
        name: "no-descriptors",
        what: "connect, connect, while the server's process has no descriptor left",
        attack: Some(attacks::connect_flood),
        unit: "connects",
        attackers: 1,
        sizes: (200, 200),
        plan: "engine_connections=4096 backlog=256 first_byte_timeout_ms=1000",
        newcomers: false,
        during: exhaust,
        shows: &["descriptor_exhaustions"],
        ..QUIET
    },
];

/// What a scenario was like.
pub struct Outcome {
    pub honest: Seen,
    pub newcomers: Seen,
    pub attempts: u64,
    pub took: Duration,
    /// The last report, with `most_open` and `most_grown` of all of them.
    pub report: Report,
}

/// Runs a scenario, and asserts what must be true of it. Times are measured, and left to the caller. None when there are
/// not enough descriptors for it.
pub fn run(scenario: &Scenario, port: u32, time: Duration, pause: Duration, large: bool) -> Option<Outcome> {
    let size = if large { scenario.sizes.1 } else { scenario.sizes.0 };
    let _files = Files::take((scenario.attackers * size + 300) as u64)?;
    let place = Place::default();
    let mut process = ServerProcess::start(&format!("address=127.0.0.1:0 port={port} {}", scenario.plan), None);
    let before = process.report();
    let honest = Honest::start(&place, process.address, CLIENTS, pause);
    let newcomers = scenario
        .newcomers
        .then(|| Honest::start_newcomers(&place, process.address, pause.max(Duration::from_millis(5))));
    let stop = AtomicBool::new(false);
    let attack = Attack { address: process.address, stop: &stop, size };
    let begin = Instant::now();
    let mut watch = Watch::default();
    let attempts = std::thread::scope(|scope| {
        // Attackers must end, whatever is found out meanwhile.
        let _stop = StopOnDrop(&stop);
        let attackers: Vec<_> =
            (0..scenario.attackers).map(|_| scope.spawn(|| (scenario.attack.unwrap())(&attack))).collect();
        let shown = |report: &Report| scenario.shows.iter().all(|counter| report.get(counter) > 0);
        (scenario.during)(&mut process);
        loop {
            let report = watch.look(&mut process);
            if begin.elapsed() >= time && shown(&report) && enough(scenario, &watch, size) {
                break;
            }
            assert!(begin.elapsed() < time + PATIENCE, "the attack does not show: {report:?}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
        stop.store(true, SeqCst);
        attackers.into_iter().map(|attacker| attacker.join().unwrap()).sum()
    });
    let took = begin.elapsed();
    let newcomers = newcomers.map(Honest::end).unwrap_or_default();
    assert!(!scenario.newcomers || newcomers.messages() > 0, "nobody new was served");
    wait_for(&mut process, "only the honest are left", |report| report.get("open") == CLIENTS as u64);
    let honest = honest.end();
    assert!(honest.messages() > CLIENTS as u64, "the honest were not served");
    let report = watch.end(process, &before);
    assert!(scenario.shows.iter().all(|counter| report.get(counter) > 0), "the attack does not show: {report:?}");
    (scenario.expects)(&report);
    Some(Outcome { honest, newcomers, attempts, took, report })
}

/// A crowd must have been there as a whole.
fn enough(scenario: &Scenario, watch: &Watch, size: usize) -> bool {
    scenario.name != "crowd" || watch.most_open >= (scenario.attackers * size + CLIENTS) as u64
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

//! Scenarios: a server, honest clients, an attack beside them; and what must be true during it and after it.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::attacks::{self, Attack};
use super::echo::MINE_BYTES;
use super::honest::{Honest, Seen, exchange, try_exchange};
use super::server::{files_limit, try_set_files};
use super::sockets::Place;
use super::stage::{Report, Stage};
use crate::common::{PATIENCE, WHARF_AT_LIMIT_REJECT, WHARF_AT_LIMIT_WAIT};

/// Honest clients in each scenario.
pub const CLIENTS: usize = 4;
/// What a server's process may need beyond the footprint of its engine: stacks of its threads, what the allocator keeps, and
/// the server's list of members.
pub const MARGIN_BYTES: u64 = 4 << 20;
/// Descriptors of this process that are not those of attackers.
const OTHER_FILES: u64 = 200;

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
    pub during: fn(&mut Stage),
    /// The counters that show the attack.
    pub shows: &'static [&'static str],
    pub expects: fn(&Report),
}

fn nothing(_: &mut Stage) {}

/// A server without descriptors, until it has noticed three times.
fn exhaust(stage: &mut Stage) {
    stage.order("exhaust");
    wait_for(stage, "accepting has backed off three times", |report| report.get("descriptor_exhaustions") >= 3);
    stage.order("release");
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
    pub blows: u64,
    pub took: Duration,
    /// The last report, with `most_open` and `most_grown` of all of them.
    pub report: Report,
}

/// Plays a scenario, and asserts what must be true of it. Times are measured, and left to the caller. None when there are
/// not enough descriptors for it.
pub fn play(scenario: &Scenario, port: u32, time: Duration, pause: Duration, large: bool) -> Option<Outcome> {
    let size = if large { scenario.sizes.1 } else { scenario.sizes.0 };
    let _files = Files::take((scenario.attackers * size + 300) as u64)?;
    let place = Place::default();
    let mut stage = Stage::start(&format!("address=127.0.0.1:0 port={port} {}", scenario.plan), None);
    let before = stage.report();
    let honest = Honest::start(&place, stage.address, CLIENTS, pause);
    let newcomers =
        scenario.newcomers.then(|| Honest::start_newcomers(&place, stage.address, pause.max(Duration::from_millis(5))));
    let stop = AtomicBool::new(false);
    let attack = Attack { address: stage.address, stop: &stop, size };
    let begin = Instant::now();
    let mut watch = Watch::default();
    let blows = std::thread::scope(|scope| {
        // Attackers must end, whatever is found out meanwhile.
        let _stop = StopOnDrop(&stop);
        let attackers: Vec<_> =
            (0..scenario.attackers).map(|_| scope.spawn(|| (scenario.attack.unwrap())(&attack))).collect();
        let shown = |report: &Report| scenario.shows.iter().all(|counter| report.get(counter) > 0);
        (scenario.during)(&mut stage);
        loop {
            let report = watch.look(&mut stage);
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
    wait_for(&mut stage, "only the honest are left", |report| report.get("open") == CLIENTS as u64);
    let honest = honest.end();
    assert!(honest.messages() > CLIENTS as u64, "the honest were not served");
    let report = watch.end(stage, &before);
    assert!(scenario.shows.iter().all(|counter| report.get(counter) > 0), "the attack does not show: {report:?}");
    (scenario.expects)(&report);
    Some(Outcome { honest, newcomers, blows, took, report })
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

/// Bounds that hold all the time.
#[derive(Default)]
pub struct Watch {
    most_open: u64,
    most_grown: u64,
}

impl Watch {
    /// Looks at the server, which must be within its bounds.
    pub fn look(&mut self, stage: &mut Stage) -> Report {
        let mut report = stage.report();
        self.most_open = self.most_open.max(report.get("open"));
        self.most_grown = self.most_grown.max(report.get("grown"));
        assert!(report.get("open") <= report.get("max_connections"), "{report:?}");
        assert!(report.get("pool_blocks_peak") <= report.get("pool_blocks"), "{report:?}");
        assert_eq!(report.get("accepted"), report.get("open") + report.get("closed"), "{report:?}");
        // The memory bound: what was promised before, what the server's own code keeps, and a margin.
        let own = report.get("kept_peak") + MINE_BYTES * report.get("max_connections");
        let bound = report.get("footprint") + own + MARGIN_BYTES;
        assert!(self.most_grown <= bound, "{} bytes, but the bound is {bound}: {report:?}", self.most_grown);
        report.0.insert("most_open".to_string(), self.most_open);
        report.0.insert("most_grown".to_string(), self.most_grown);
        report
    }

    /// Everybody has gone: everything is as it was before, and what was opened was closed. Ends the server.
    pub fn end(&mut self, mut stage: Stage, before: &Report) -> Report {
        let as_before = |report: &Report| {
            ["open", "pool_blocks_in_use", "files"].iter().all(|key| report.get(key) == before.get(key))
        };
        wait_for(&mut stage, "nothing is left", as_before);
        let report = self.look(&mut stage);
        for key in ["open", "queued_bytes", "pool_blocks_in_use", "files", "threads"] {
            assert_eq!(report.get(key), before.get(key), "{key}: {report:?}");
        }
        for key in ["closed", "opens", "closes"] {
            assert_eq!(report.get(key), report.get("accepted"), "{key}: {report:?}");
        }
        let reasons = [
            "closed_by_us",
            "closed_by_peer",
            "closed_by_reset",
            "closed_by_timeout",
            "closed_by_stop",
            "closed_by_error",
        ];
        assert_eq!(reasons.iter().map(|key| report.get(key)).sum::<u64>(), report.get("closed"), "{report:?}");
        // Not one permit was lost: as many as ever may be there are let in again (in a small server, where it is quick).
        let most = Some(report.get("max_connections")).filter(|most| *most <= 256).unwrap_or(0);
        fill(stage.address, most as usize);
        let end = stage.stop();
        assert_eq!(end.get("drops"), 1, "{end:?}");
        assert_eq!(end.get("opens"), end.get("closes"), "{end:?}");
        assert!(end.get("opens") >= report.get("opens") + most, "{end:?}");
        for key in ["blocks", "kept", "lost_files", "lost_threads"] {
            assert_eq!(end.get(key), 0, "{key}: {end:?}");
        }
        report
    }
}

/// So many clients at once, each of them served. A connect of the attack may still be on its way (the system tries again
/// for seconds) and take a place for a moment: whom it cost his place comes again.
fn fill(address: SocketAddr, most: usize) {
    let deadline = Instant::now() + PATIENCE;
    let mut inside: Vec<TcpStream> = Vec::new();
    while inside.len() < most {
        assert!(Instant::now() < deadline, "places were lost: {} of {most} are let in", inside.len());
        let Ok(mut stream) = Place::default().connect(address) else { continue };
        if try_exchange(&mut stream, inside.len() as u64, 0).is_ok() {
            inside.push(stream);
        }
    }
    inside.iter_mut().enumerate().for_each(|(number, stream)| _ = exchange(stream, number as u64, 1));
}

/// Waits until the server reports something.
pub fn wait_for(stage: &mut Stage, what: &str, is_so: impl Fn(&Report) -> bool) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = stage.report();
        if is_so(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}: {report:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Scenarios run side by side as long as the descriptors of this process suffice for their peers.
pub struct Files(u64);

static IN_USE: (Mutex<u64>, Condvar) = (Mutex::new(0), Condvar::new());

impl Files {
    /// None, said aloud, where the limit of descriptors is too low; where tools are required that is a failure.
    pub fn take(count: u64) -> Option<Files> {
        let hard = files_limit().1;
        assert!(try_set_files(hard, hard));
        let most = hard.saturating_sub(OTHER_FILES);
        if count > most {
            let needs = format!("{count} descriptors are needed, and the limit is {hard}: raise it (ulimit -Hn 20000)");
            assert!(!std::env::var("WHARF_REQUIRE_TOOLS").is_ok_and(|value| value == "1"), "{needs}");
            let _ = writeln!(std::io::stderr(), "skipped: {needs}");
            return None;
        }
        let in_use = IN_USE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = IN_USE.1.wait_while(in_use, |in_use| *in_use + count > most);
        *wait.unwrap_or_else(PoisonError::into_inner) += count;
        Some(Files(count))
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        *IN_USE.0.lock().unwrap_or_else(PoisonError::into_inner) -= self.0;
        IN_USE.1.notify_all();
    }
}

//! What must be true of the server all the time, and when everybody has gone.

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::echo::MINE_BYTES;
use super::honest::{exchange, try_exchange};
use super::server_process::{Report, ServerProcess};
use super::sockets::Place;
use crate::common::PATIENCE;

/// What a server's process may need beyond the footprint of its engine: stacks of its threads, what the allocator keeps, and
/// the server's list of members.
pub const MARGIN_BYTES: u64 = 4 << 20;

/// Bounds that hold all the time.
#[derive(Default)]
pub struct Watch {
    pub most_open: u64,
    most_grown: u64,
}

impl Watch {
    /// Looks at the server, which must be within its bounds.
    pub fn look(&mut self, process: &mut ServerProcess) -> Report {
        let mut report = process.report();
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
    pub fn end(&mut self, mut process: ServerProcess, before: &Report) -> Report {
        let as_before = |report: &Report| {
            ["open", "pool_blocks_in_use", "files"].iter().all(|key| report.get(key) == before.get(key))
        };
        wait_for(&mut process, "nothing is left", as_before);
        let report = self.look(&mut process);
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
        fill(process.address, most as usize);
        let end = process.stop();
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
pub fn wait_for(process: &mut ServerProcess, what: &str, is_so: impl Fn(&Report) -> bool) -> Report {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let report = process.report();
        if is_so(&report) {
            return report;
        }
        assert!(Instant::now() < deadline, "waited in vain until {what}: {report:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

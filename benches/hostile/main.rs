//! Honest clients beside hostile peers, in figures: each attack of `tests/hostile` beside a quiet run of the same length.
//! What the tests assert is asserted here, too. `make hostile`, or `make hostile SECONDS=3 ONLY=reset-flood`.

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/hostile/mod.rs"]
mod hostile;
mod tables;

use std::time::Duration;

use common::{WHARF_PORT_AUTO, WHARF_PORT_EPOLL};
use hostile::network::{Habit, vanish};
use hostile::scenario::{Outcome, SCENARIOS, run};
use tables::Row;

/// What vanishes, and by which deadline that is noticed.
const VANISHING: [(&str, &str, &str, Habit, usize, &str); 3] = [
    (
        "vanish-silent",
        "1,000 silent peers whose link is deleted; keepalive 1 s + 2 x 1 s",
        "keepalive_s=1 keepalive_interval_s=1 keepalive_probes=2",
        Habit::Silent,
        1000,
        "closed_by_timeout",
    ),
    (
        "vanish-served",
        "16 peers are sent to without end, and their link is deleted; send stall 1 s",
        "send_stall_timeout_ms=1000 socket_send_buffer_bytes=65536",
        Habit::Served,
        16,
        "closed_by_timeout",
    ),
    (
        "vanish-asking",
        "16 peers ask and are answered, and their link is deleted; idle timeout 1.5 s",
        "idle_timeout_ms=1500",
        Habit::Asking,
        16,
        "closed_by_timeout",
    ),
];

fn main() {
    hostile::server::run();
    if std::env::var(hostile::server::PLAN).is_ok() {
        return;
    }
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let time = Duration::from_secs(get("HOSTILE_SECONDS").map_or(10, |value| value.parse().expect("seconds")));
    let only = get("HOSTILE_ONLY");
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only.split(',').any(|one| one == name));
    let port = if cfg!(target_os = "linux") { WHARF_PORT_EPOLL } else { WHARF_PORT_AUTO };
    let quiet = || run(&SCENARIOS[0], port, time, Duration::ZERO, true).expect("descriptors");

    let mut rows = Vec::new();
    println!("{}", tables::HEAD);
    let mut tell = |row: Row| {
        println!("{row}");
        rows.push(row);
    };
    for scenario in SCENARIOS[1..].iter().filter(|scenario| wanted(scenario.name)) {
        let beside = quiet();
        let Some(outcome) = run(scenario, port, time, Duration::ZERO, true) else { continue };
        // A crowd comes once and stays.
        let rate =
            (scenario.name != "crowd").then(|| (outcome.attempts as f64 / outcome.took.as_secs_f64(), scenario.unit));
        tell(Row::new(scenario.name, scenario.what, rate, &beside, &outcome, scenario.shows));
    }
    for (name, what, plan, habit, count, shows) in VANISHING.into_iter().filter(|entry| wanted(entry.0)) {
        let beside = quiet();
        let outcome: Option<Outcome> = vanish(port, plan, habit, count, Duration::ZERO);
        if let Some(outcome) = outcome {
            tell(Row::new(name, what, None, &beside, &outcome, &[shows, "noticed_ms"]));
        }
    }
    if let Some(folder) = get("HOSTILE_OUT") {
        std::fs::write(format!("{folder}/hostile-peers.md"), tables::page(&rows, time)).unwrap();
        std::fs::write(format!("{folder}/hostile-peers.json"), tables::json(&rows, time)).unwrap();
    }
}

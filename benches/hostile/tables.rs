//! The figures as lines, as a page and as JSON.

use std::fmt;
use std::time::Duration;

use super::hostile::honest::Seen;
use super::hostile::scenario::{CLIENTS, Outcome};
use super::hostile::watch::MARGIN_BYTES;

/// An attack beside its quiet run.
pub struct Row {
    name: &'static str,
    what: &'static str,
    /// How often a second, and what.
    rate: Option<(f64, &'static str)>,
    quiet: Figures,
    attack: Figures,
    /// The 99th percentile of a whole visit - connect, a message, close - in microseconds; 0: nobody new was expected.
    visit_us: u32,
    grown: u64,
    footprint: u64,
    counters: Vec<(&'static str, u64)>,
}

struct Figures {
    per_second: f64,
    median_us: u32,
    p99_us: u32,
    max_us: u32,
}

impl Figures {
    fn of(seen: &Seen) -> Figures {
        Figures {
            per_second: seen.per_second(),
            median_us: seen.per_mille_us(500),
            p99_us: seen.per_mille_us(990),
            max_us: seen.per_mille_us(1000),
        }
    }
}

pub const HEAD: &str = "\
| attack | attempts/s | messages/s quiet | attacked | median us quiet | attacked | p99 us quiet | attacked | longest us | new ones, p99 us | grown KiB | counted |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |";

impl Row {
    pub fn new(
        name: &'static str,
        what: &'static str,
        rate: Option<(f64, &'static str)>,
        quiet: &Outcome,
        attack: &Outcome,
        shows: &[&'static str],
    ) -> Row {
        Row {
            name,
            what,
            rate,
            quiet: Figures::of(&quiet.honest),
            attack: Figures::of(&attack.honest),
            visit_us: attack.newcomers.per_mille_us(990),
            grown: attack.report.get("most_grown"),
            footprint: attack.report.get("footprint"),
            counters: shows.iter().map(|counter| (*counter, attack.report.get(counter))).collect(),
        }
    }

    fn json(&self) -> String {
        let figures = |of: &Figures| {
            let Figures { per_second, median_us, p99_us, max_us } = of;
            format!(
                "{{\"per_second\": {per_second:.0}, \"median_us\": {median_us}, \"p99_us\": {p99_us}, \"max_us\": {max_us}}}"
            )
        };
        let counters: Vec<String> = self.counters.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        let (rate, unit) = self.rate.unwrap_or((0.0, ""));
        format!(
            "    {{\"name\": \"{}\", \"rate\": {rate:.0}, \"unit\": \"{unit}\", \"quiet\": {}, \"attacked\": {}, \
             \"newcomers_p99_us\": {}, \"grown_bytes\": {}, \"footprint_bytes\": {}, \"counters\": {{{}}}}}",
            self.name,
            figures(&self.quiet),
            figures(&self.attack),
            self.visit_us,
            self.grown,
            self.footprint,
            counters.join(", ")
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (quiet, attack) = (&self.quiet, &self.attack);
        let rate = self.rate.map_or(String::new(), |(rate, unit)| format!("{} {unit}", thousands(rate as u64)));
        let counters: Vec<String> =
            self.counters.iter().map(|(name, value)| format!("`{name}` {}", thousands(*value))).collect();
        let visit = if self.visit_us == 0 { "-".to_string() } else { thousands(self.visit_us.into()) };
        write!(
            f,
            "| {} | {rate} | {} | {} | {} | {} | {} | {} | {} | {visit} | {} | {} |",
            self.name,
            thousands(quiet.per_second as u64),
            thousands(attack.per_second as u64),
            quiet.median_us,
            attack.median_us,
            thousands(quiet.p99_us.into()),
            thousands(attack.p99_us.into()),
            thousands(attack.max_us.into()),
            thousands(self.grown / 1024),
            counters.join(", ")
        )
    }
}

fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    format!("{cpus} CPUs, Linux {}", kernel.trim())
}

pub fn page(rows: &[Row], time: Duration) -> String {
    let mut page = format!(
        "# Hostile peers, in figures

Made by `make hostile`: {CLIENTS} honest clients, each of which sends 64 bytes, waits for the answer and sends again, beside
each attack in turn, for {} s; and before each attack the same without it (\"quiet\"). The server is a process of its own
with one worker; it, the honest and the attackers share the machine ({}). So the honest lose CPU to the attackers
themselves: the columns say what an attack does to them here, and not what it would do from another machine. Machines
are not equally fast at all times, so compare within a line only: its quiet run was made right before it. Where
\"new ones\" has a figure, clients that connect, exchange a message and leave were served all the while.

In every line all answers came, in order; no bound was exceeded; and afterwards descriptors, connections, permits and
blocks were back at the start. That is asserted here as it is in `tests/hostile_peers.rs`, which `make test` runs on both
ports. \"Grown\" is the memory of its own that the server's process had at most beyond what it had before the engine was
made; its bound is the engine's footprint (16 MiB of it the pool, 4 MiB for never-reads), what the server's user keeps, and
{} MiB.

",
        time.as_secs(),
        machine(),
        MARGIN_BYTES >> 20,
    );
    page.push_str(HEAD);
    for row in rows {
        page.push_str(&format!("\n{row}"));
    }
    page.push_str("\n\n| attack | what the peers do |\n| --- | --- |");
    for row in rows {
        page.push_str(&format!("\n| {} | {} |", row.name, row.what));
    }
    page.push_str(
        "

A connection of slow-loris that says a byte now and then costs a place and no buffer; it is the user's protocol that knows
whether it is slow or idle. After a connect flood some connections have no other end any more: when the backlog overflows,
the system loses track of peers that gave up meanwhile. A first-byte deadline ends them. Peers that vanish while bytes are
under way to them are noticed by neither keepalive nor send stall when nothing more is queued: then only the idle timeout
is faster than the system's own patience (minutes). [What happens when ...](what-happens-when.md) has all of it.
",
    );
    page
}

pub fn json(rows: &[Row], time: Duration) -> String {
    let rows: Vec<String> = rows.iter().map(Row::json).collect();
    let (seconds, machine) = (time.as_secs(), machine());
    format!(
        "{{\n  \"seconds\": {seconds},\n  \"machine\": \"{machine}\",\n  \"rows\": [\n{}\n  ]\n}}\n",
        rows.join(",\n")
    )
}

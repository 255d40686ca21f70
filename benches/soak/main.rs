//! Soak: one process in which everything happens again and again - clients that reconnect, churn, resets, readers that
//! stall, descriptors that run out, servers that stop, start and come back with another configuration - while memory,
//! descriptors, threads and blocks are watched. In the end everything must balance, and nothing may have grown.
//!
//! `make soak MINUTES=30`; `make soak MINUTES=2 LEAK=memory` shows that a leak is found.

#[path = "../../tests/common/mod.rs"]
mod common;
mod echo_peer;
mod flat;
mod harness;
#[path = "../../tests/hostile/mod.rs"]
mod hostile;
mod misbehaving;

use std::fmt::Write as _;
use std::sync::atomic::Ordering::*;
use std::time::{Duration, Instant};

use common::*;
use flat::Sample;
use harness::Harness;
use hostile::files::{count, files_limit, set_files, status_kib};
use misbehaving::Misbehaving;

/// A gap between two seconds that is longer than this is no time of the run: the process was stopped.
const STOPPED: Duration = Duration::from_secs(3);
/// In so many seconds each server must have answered as many messages.
const ANSWERED_WITHIN: usize = 40;

/// What is not given back, to show that it is found.
#[derive(Clone, Copy, PartialEq)]
enum Leak {
    Nothing,
    Memory,
    Files,
    Handlers,
}

struct Options {
    seconds: usize,
    folder: String,
    leak: Leak,
}

fn options() -> Options {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let minutes: f64 = get("SOAK_MINUTES").map_or(1.0, |value| value.parse().expect("SOAK_MINUTES is a number"));
    let leak = match get("SOAK_LEAK").as_deref() {
        None => Leak::Nothing,
        Some("memory") => Leak::Memory,
        Some("files") => Leak::Files,
        Some("handlers") => Leak::Handlers,
        Some(other) => panic!("SOAK_LEAK is memory, files or handlers, and not {other}"),
    };
    Options { seconds: (minutes * 60.0) as usize, folder: get("SOAK_OUT").unwrap_or_else(|| ".".to_string()), leak }
}

fn main() {
    let options = options();
    let before = (count("/proc/self/fd"), count("/proc/self/task"));
    let engine = Engine::with(WHARF_PORT_AUTO, |config| {
        config.workers = 2;
        config.max_connections = 512;
        // Small, so that stalled readers exhaust it.
        config.pool_bytes = 2 << 20;
        config.receive_buffer_bytes = hostile::echo::PIECE as u32;
    });
    let mut harness = Harness::open(&engine);
    let misbehaving = Misbehaving::start(harness.addresses());
    // Written once, so that its pages are there from the beginning and do not look like growth.
    let mut samples: Vec<Sample> = vec![Sample { second: 1, ..Sample::default() }; options.seconds];
    samples.clear();
    let (mut stops, mut stopped, mut last) = (0, Duration::ZERO, Instant::now());
    while samples.len() < options.seconds {
        let second = samples.len();
        std::thread::sleep((last + Duration::from_secs(1)).saturating_duration_since(Instant::now()));
        if last.elapsed() > STOPPED {
            stops += 1;
            stopped += last.elapsed() - Duration::from_secs(1);
        }
        last = Instant::now();
        samples.push(sample(second, &engine, &harness));
        leak(options.leak);
        harness.step(second, &engine);
        if second % 30 == 25 {
            without_descriptors();
        }
        if second >= ANSWERED_WITHIN {
            let before = samples[second - ANSWERED_WITHIN].answers;
            for (server, answers) in samples[second].answers.iter().enumerate() {
                let least = ANSWERED_WITHIN as u64;
                assert!(answers - before[server] >= least, "server {server} answers hardly anything: second {second}");
            }
        }
    }
    let counts = misbehaving.end();
    harness.close(&engine);
    let sums = engine.stats();
    ok(engine.destroy(1000));
    let mut faults = harness.faults(&sums);
    let after = (count("/proc/self/fd"), count("/proc/self/task"));
    if after != before {
        faults.push(format!("descriptors and threads were {before:?} and are {after:?}"));
    }
    let verdicts = flat::judge(&samples);
    faults.extend(verdicts.iter().filter(|verdict| verdict.grew).map(|verdict| verdict.to_string()));
    write(&options, &samples, &verdicts, &faults, &summary(&harness, &sums, counts, stops, stopped));
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    assert!(faults.is_empty(), "{faults:#?}");
    println!("{} s: everything balances, and nothing grew", options.seconds);
}

fn sample(second: usize, engine: &Engine, harness: &Harness) -> Sample {
    let stats = engine.stats();
    Sample {
        second: second as u64,
        memory_kib: status_kib("RssAnon:"),
        files: count("/proc/self/fd") as u64,
        threads: count("/proc/self/task") as u64,
        open: stats.open,
        blocks: stats.pool_blocks_in_use,
        accepted: stats.accepted,
        answers: harness.answers(),
        exhaustions: stats.descriptor_exhaustions,
        resets: stats.closed_by_reset,
        timeouts: stats.closed_by_timeout,
    }
}

/// For a third of a second nobody in this process gets a descriptor.
fn without_descriptors() {
    let (_, hard) = files_limit();
    set_files(count("/proc/self/fd") as u64 - 1, hard);
    std::thread::sleep(Duration::from_millis(300));
    set_files(hard, hard);
}

/// The leaks that are asked for: 64 KiB, or a descriptor, a second.
fn leak(leak: Leak) {
    match leak {
        // Without the black box the compiler would see that nobody wants it.
        Leak::Memory => std::mem::forget(std::hint::black_box(vec![1u8; 64 << 10])),
        Leak::Files => std::mem::forget(std::fs::File::open("/dev/null")),
        Leak::Nothing | Leak::Handlers => {}
    }
    harness::KEEPS_ONE_HANDLER.store(leak == Leak::Handlers, SeqCst);
}

fn summary(harness: &Harness, sums: &wharf_stats, counts: [u64; 4], stops: u32, stopped: Duration) -> String {
    let mut text = String::new();
    let mut tell = |name: &str, value: u64| writeln!(text, "    \"{name}\": {value},").unwrap();
    tell("connections accepted", sums.accepted);
    tell("connects of our clients", sums.connected);
    tell("connects of our clients that failed", sums.connect_failures);
    tell("messages of our clients that were answered", harness.answers().iter().sum());
    tell("peers that came and went", counts[0]);
    tell("peers that reset", counts[1]);
    tell("peers that ended their side", counts[2]);
    tell("readers that stalled", counts[3]);
    tell("connections closed by a timeout", sums.closed_by_timeout);
    tell("connections closed by a reset", sums.closed_by_reset);
    tell("connections closed by a stop", sums.closed_by_stop);
    tell("connections refused at a limit", sums.refused_at_limit);
    tell("sends refused, queue full", sums.queue_full);
    tell("sends refused, pool exhausted", sums.pool_exhausted);
    tell("times that accepting backed off without descriptors", sums.descriptor_exhaustions);
    tell("stops and starts of servers", harness.restarts);
    tell("servers that came back with another configuration", harness.changes);
    tell("times that the process was stopped from outside", stops.into());
    tell("seconds that it was stopped, not counted", stopped.as_secs());
    text
}

fn write(options: &Options, samples: &[Sample], verdicts: &[flat::Verdict], faults: &[String], summary: &str) {
    let mut csv = String::from(Sample::HEAD);
    samples.iter().for_each(|sample| writeln!(csv, "{sample}").unwrap());
    std::fs::write(format!("{}/soak.csv", options.folder), csv).unwrap();
    let rules: Vec<String> = verdicts.iter().map(|verdict| format!("    \"{verdict}\"")).collect();
    let json = format!(
        "{{\n  \"seconds\": {},\n  \"faults\": {},\n  \"summary\": {{\n{}\n  }},\n  \"rules\": [\n{}\n  ]\n}}\n",
        options.seconds,
        faults.len(),
        summary.trim_end().trim_end_matches(','),
        rules.join(",\n")
    );
    std::fs::write(format!("{}/soak.json", options.folder), json).unwrap();
}

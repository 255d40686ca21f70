//! The server under attack: libwharf in a process of its own, so that its memory, descriptors and threads are its alone.
//! It is told what to do by lines on its standard input, and answers by lines that begin with '@'.

use std::collections::HashMap;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::*};

use super::echo::{Echo, PIECE};
use super::files::{count, files_limit, set_files, status_kib};
use crate::common::*;

/// Where the plan of the server is: "key=value key=value ...".
pub const PLAN: &str = "WHARF_HOSTILE_PLAN";
/// What a plan says.
struct Plan(HashMap<String, String>);

impl Plan {
    fn number(&self, key: &str) -> u32 {
        self.0.get(key).map_or(0, |value| value.parse().unwrap())
    }
}

/// The server's process, from its plan to its last report.
pub fn run() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let pairs = plan.split_whitespace().map(|pair| pair.split_once('=').unwrap());
    let plan = Plan(pairs.map(|(key, value)| (key.to_string(), value.to_string())).collect());
    let before = (count("/proc/self/fd"), count("/proc/self/task"));
    let mut config = engine_config();
    config.port = plan.number("port");
    config.workers = plan.number("workers");
    config.max_connections = plan.number("engine_connections");
    config.pool_bytes = plan.number("pool_bytes").into();
    config.receive_buffer_bytes = PIECE as u32;
    let mut footprint = 0;
    ok(unsafe { wharf_engine_footprint(&config, &mut footprint) });
    let resident = status_kib("RssAnon:");
    let echo = Arc::new(Echo::default());
    let engine = Engine::with(config.port, |made| *made = config);
    let server = engine.server_with(echo.handler(), &plan.0["address"], |config| {
        config.max_connections = plan.number("max_connections");
        config.at_limit = plan.number("at_limit");
        config.backlog = plan.number("backlog");
        config.first_byte_timeout_ms = plan.number("first_byte_timeout_ms");
        config.idle_timeout_ms = plan.number("idle_timeout_ms");
        config.send_stall_timeout_ms = plan.number("send_stall_timeout_ms");
        config.keepalive_s = plan.number("keepalive_s");
        config.keepalive_interval_s = plan.number("keepalive_interval_s");
        config.keepalive_probes = plan.number("keepalive_probes");
        config.socket_send_buffer_bytes = plan.number("socket_send_buffer_bytes");
    });
    println!("\n@ready {}", server.address());
    let hard = files_limit().1;
    let most = if plan.number("max_connections") > 0 { "max_connections" } else { "engine_connections" };
    let fixed = Fixed { footprint, resident, most: plan.number(most).into() };
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        match line.split_once(' ').unwrap_or((line.as_str(), "")) {
            ("report", _) => report(&engine, &server, &fixed, &echo),
            // No more descriptors than there are now.
            ("exhaust", _) => set_files(count("/proc/self/fd") as u64 - 1, hard),
            ("release", _) => set_files(hard, hard),
            ("stop", _) => break,
            _ => panic!("what is {line:?}?"),
        }
    }
    server.stop(2000);
    server.wait();
    let blocks = engine.stats().pool_blocks_in_use;
    ok(server.destroy());
    ok(engine.destroy(0));
    let after = (count("/proc/self/fd"), count("/proc/self/task"));
    println!(
        "@end blocks={blocks} opens={} closes={} drops={} kept={} lost_files={} lost_threads={}",
        now(&echo.opens),
        now(&echo.closes),
        now(&echo.drops),
        now(&echo.kept),
        after.0.abs_diff(before.0),
        after.1.abs_diff(before.1),
    );
}

/// What does not change while the server runs.
struct Fixed {
    footprint: u64,
    /// KiB of memory of its own that were resident before the engine was made.
    resident: u64,
    most: u64,
}

fn report(engine: &Engine, server: &Server, fixed: &Fixed, echo: &Echo) {
    let (own, all) = (server.stats(), engine.stats());
    let mut line = String::from("@report");
    let mut tell = |key: &str, value: u64| line.push_str(&format!(" {key}={value}"));
    tell("accepted", own.accepted);
    tell("open", own.open);
    tell("closed", own.closed);
    tell("closed_by_us", own.closed_by_us);
    tell("closed_by_peer", own.closed_by_peer);
    tell("closed_by_reset", own.closed_by_reset);
    tell("closed_by_timeout", own.closed_by_timeout);
    tell("closed_by_stop", own.closed_by_stop);
    tell("closed_by_error", own.closed_by_error);
    tell("refused_at_limit", own.refused_at_limit);
    tell("accept_pauses", own.accept_pauses);
    tell("descriptor_exhaustions", own.descriptor_exhaustions);
    tell("queued_bytes", own.queued_bytes);
    tell("queue_full", own.queue_full);
    tell("bytes_in", own.bytes_in);
    tell("bytes_out", own.bytes_out);
    tell("pool_exhausted", all.pool_exhausted);
    tell("pool_blocks", all.pool_blocks);
    tell("pool_blocks_in_use", all.pool_blocks_in_use);
    tell("pool_blocks_peak", all.pool_blocks_peak);
    tell("callback_max_us", all.callback_max_us);
    tell("opens", now(&echo.opens));
    tell("closes", now(&echo.closes));
    tell("strangers", now(&echo.strangers));
    tell("kept_peak", now(&echo.kept_peak));
    tell("max_connections", fixed.most);
    tell("footprint", fixed.footprint);
    // Memory of its own (not of its program file) that is resident now, without what was before the engine was made.
    tell("grown", status_kib("RssAnon:").saturating_sub(fixed.resident) * 1024);
    tell("files", count("/proc/self/fd") as u64);
    tell("threads", count("/proc/self/task") as u64);
    for (reason, times) in echo.reasons.all() {
        tell(&reason, times);
    }
    println!("{line}");
}

fn now(counter: &AtomicU64) -> u64 {
    counter.load(SeqCst)
}

//! Hostile peers: while they attack, honest clients get every answer, in order; no bound is exceeded; and when they are gone
//! nothing is lost and everything is counted. The server is a process of its own. Figures: `make hostile`.

#![cfg(target_os = "linux")]

mod common;
mod hostile;

use std::time::Duration;

use common::*;
use hostile::network::{Habit, vanish};
use hostile::scenario::{SCENARIOS, run};

/// Honest clients rest between two messages: what is measured here is not speed.
const PAUSE: Duration = Duration::from_millis(1);

#[test]
#[ignore = "the server of the tests below, in a process of its own"]
fn the_process_of_the_server() {
    hostile::server::run();
}

fn survive(port: u32, name: &str) {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap();
    run(scenario, port, Duration::from_millis(1500), PAUSE, false);
}

on_every_port! {
    fn nothing_is_wrong_when_nobody_attacks(port) {
        survive(port, "quiet");
    }

    fn slow_loris_costs_places_and_the_silent_are_thrown_out(port) {
        survive(port, "slow-loris");
    }

    fn peers_that_never_read_cost_no_more_than_the_pool_and_are_thrown_out(port) {
        survive(port, "never-reads");
    }

    fn bytes_that_come_and_go_one_at_a_time_stay_in_order(port) {
        survive(port, "byte-by-byte");
    }

    fn a_flood_of_resets_leaves_nothing(port) {
        survive(port, "reset-flood");
    }

    fn a_flood_of_connects_above_the_limit_is_refused_and_counted(port) {
        survive(port, "connect-flood-rejected");
    }

    fn a_flood_of_connects_above_the_limit_waits_outside(port) {
        survive(port, "connect-flood-waiting");
    }

    fn peers_that_end_their_side_and_stay_are_let_go(port) {
        survive(port, "half-closed");
    }

    fn peers_that_connect_and_close_leave_nothing(port) {
        survive(port, "connect-and-close");
    }

    fn garbage_before_the_first_byte_reaches_the_user_and_nobody_else(port) {
        survive(port, "garbage");
    }

    fn eighteen_thousand_at_once_are_served(port) {
        survive(port, "crowd");
    }

    fn without_descriptors_those_who_are_inside_are_served(port) {
        survive(port, "no-descriptors");
    }

    fn peers_that_vanish_in_silence_are_noticed_by_keepalive(port) {
        let plan = "keepalive_s=1 keepalive_interval_s=1 keepalive_probes=2";
        let Some(outcome) = vanish(port, plan, Habit::Silent, 1000, PAUSE) else { return };
        assert_eq!(outcome.report.get("WHARF_E_TIMEOUT"), 1000, "{:?}", outcome.report);
    }

    fn peers_that_vanish_while_they_are_sent_to_are_noticed_by_the_send_stall_timeout(port) {
        let plan = "send_stall_timeout_ms=1000 socket_send_buffer_bytes=65536";
        let Some(outcome) = vanish(port, plan, Habit::Served, 16, PAUSE) else { return };
        assert_eq!(outcome.report.get("WHARF_E_SEND_STALLED"), 16, "{:?}", outcome.report);
    }

    fn peers_that_vanish_in_the_middle_of_a_conversation_are_noticed_by_the_idle_timeout(port) {
        let Some(outcome) = vanish(port, "idle_timeout_ms=1500", Habit::Asking, 16, PAUSE) else { return };
        assert_eq!(outcome.report.get("WHARF_E_IDLE"), 16, "{:?}", outcome.report);
    }
}

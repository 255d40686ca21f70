//! A panic in the library becomes a status or the end of one connection; it never takes the process down. The points
//! of injection are of the whole process, so one test goes through all of it.

#![cfg(feature = "testing")]

mod common;

use std::ffi::{CStr, c_char, c_void};
use std::sync::Mutex;

use common::*;

static LINES: Mutex<Vec<(i32, String)>> = Mutex::new(Vec::new());

unsafe extern "C" fn on_log(_context: *mut c_void, level: i32, text: *const c_char) {
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned();
    LINES.lock().unwrap().push((level, text));
}

const SEND: u32 = 1;
const DISPATCH: u32 = 2;
const ATTEND: u32 = 3;

#[test]
fn a_panic_becomes_a_status_or_the_end_of_one_connection_and_the_rest_goes_on() {
    // The panics are meant; their messages would only confuse.
    std::panic::set_hook(Box::new(|info| {
        if !info.to_string().contains("injected") {
            eprintln!("{info}");
        }
    }));
    for port in [WHARF_PORT_EPOLL, WHARF_PORT_POLLING] {
        LINES.lock().unwrap().clear();
        let engine = Engine::with(port, |config| {
            config.on_log = Some(on_log);
            config.log_level = WHARF_LOG_ERROR;
        });
        let recorder = Recorder::new();
        let server = engine.server(&recorder);
        let mut bystander = server.connect();
        let stays = recorder.wait_open();

        // On the caller's side: the status, and nothing is taken.
        wharf_test_panic_next(SEND);
        assert_eq!(send(stays, b"never"), WHARF_E_PANIC);
        ok(send(stays, b"fine"));
        assert_eq!(read_exact(&mut bystander, 4), b"fine");

        // On a worker: the connection that was served ends, told once.
        for (round, point) in [DISPATCH, ATTEND].into_iter().enumerate() {
            let mut victim = server.connect();
            let conn = recorder.wait_opens(round + 2)[round + 1];
            wharf_test_panic_next(point);
            match point {
                DISPATCH => write_all(&mut victim, b"x"),
                _ => ok(send_token(conn, b"x", 1)),
            }
            let closes = recorder.wait_closes(round + 1);
            assert_eq!(closes[round], (conn, WHARF_E_PANIC));
            until("it is counted", || server.stats().open == 1);
        }
        assert_eq!(closes(&recorder.events()).len(), 2);
        assert!(
            LINES
                .lock()
                .unwrap()
                .iter()
                .filter(|(level, line)| *level == WHARF_LOG_ERROR && line.contains("fault"))
                .count()
                >= 2
        );

        write_all(&mut bystander, b"alive");
        assert_eq!(recorder.wait_received(5), b"alive");
        let stats = server.stats();
        assert_eq!((stats.accepted, stats.closed, stats.closed_by_error), (3, 2, 2));
        assert_eq!(engine.stats().pool_blocks_in_use, 0);
        assert_eq!(engine.destroy(0), WHARF_OK);
        assert_eq!(recorder.events().last(), Some(&Event::Drop));
    }
}

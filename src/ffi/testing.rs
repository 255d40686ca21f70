//! What only tests call. Compiled with the feature `testing` alone, and no part of the header.

use super::convert::{Out, new_handle};
use super::guard::{guard, guard_with_error};
use super::handler::{CHandler, wharf_handler};
use super::server::wharf_server_config;
use super::types::{wharf_engine, wharf_server, wharf_status};
use crate::engine::counts::Counts;
use crate::engine::failpoint;
use crate::engine::registry::with;
use crate::pool::handle::Kind;
use crate::status::WHARF_OK;

/// The next pass of this point of the engine panics, once: 1 a send, 2 a completion on a worker, 3 a ready connection on a
/// worker; 0 none.
#[unsafe(no_mangle)]
pub extern "C" fn wharf_test_panic_next(point: u32) -> wharf_status {
    failpoint::arm(point);
    WHARF_OK
}

/// What an engine holds at this moment.
pub type wharf_test_counts = Counts;

/// Tells what an engine holds at this moment.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_test_engine_counts(engine: wharf_engine, out: *mut wharf_test_counts) -> wharf_status {
    guard(|| {
        // SAFETY: the conventions of the header: NULL or writable.
        let out = unsafe { Out::required(out) }?;
        out.set(with(engine, Kind::Engine, |engine| Ok(engine.counts()))?);
        Ok(())
    })
}

/// Makes a server as wharf_server_create does, whose connections have the smallest layer: each message that comes has its
/// length before it (four bytes, most significant first) and is handed over whole without it; each send gets its own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_test_server_create_length_prefixed(
    engine: wharf_engine,
    config: *const wharf_server_config,
    handler: *const wharf_handler,
    out: *mut wharf_server,
) -> wharf_status {
    guard_with_error(std::ptr::null_mut(), || {
        // SAFETY: the conventions of the header: NULL or good for the call.
        let (out, config, handler) =
            unsafe { (new_handle(out)?, wharf_server_config::read(config)?, CHandler::read(handler)?) };
        out.set(with(engine, Kind::Engine, |engine| engine.server_create_length_prefixed(config, handler))?);
        Ok(())
    })
}

/// Puts a classic bug (a number of engine::mutant) into the engines that this thread turns; 0 takes it out.
#[cfg(feature = "simulation")]
#[unsafe(no_mangle)]
pub extern "C" fn wharf_test_mutant(mutant: u32) -> wharf_status {
    crate::engine::mutant::switch_on(mutant);
    WHARF_OK
}

/// For wharf_engine_config.port: the simulated world of the calling thread. The engine must be caller-driven, and turned
/// by that thread alone.
#[cfg(feature = "simulation")]
pub const WHARF_TEST_PORT_SIM: u32 = 0x5151_5151;

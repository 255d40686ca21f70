//! What only tests call. Compiled with the feature `testing` alone, and no part of the header.

use super::convert::Out;
use super::guard::guard;
use super::types::{wharf_engine, wharf_status};
use crate::engine::counts::Counts;
use crate::engine::failpoint;
use crate::engine::registry::with;
use crate::pool::handle::Kind;
use crate::status::WHARF_OK;

/// The next pass of this point of the engine panics, once: 1 a send, 2 a completion on a worker, 3 attention on a
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

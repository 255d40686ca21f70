//! What only tests call. Compiled with the feature `testing` alone, and no part of the header.

use super::types::wharf_status;
use crate::engine::failpoint;
use crate::status::WHARF_OK;

/// The next pass of this point of the engine panics, once: 1 a send, 2 a completion on a worker, 3 attention on a
/// worker; 0 none.
#[unsafe(no_mangle)]
pub extern "C" fn wharf_test_panic_next(point: u32) -> wharf_status {
    failpoint::arm(point);
    WHARF_OK
}

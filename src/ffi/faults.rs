//! Faults on purpose: for tests of your own program.
//!
//! An engine that was made with WHARF_ENGINE_FAULTS does to your program what a bad network and a full system do: short
//! reads and writes, stalls, resets, no descriptor left, no room in the pool. A seed makes it do the same again. What
//! the library promises holds all the same. Any other engine has nothing of it in its way.

use super::convert::{CStruct, is_zero, read_struct};
use super::guard::guard_with_error;
use super::status::wharf_error;
use super::types::{wharf_engine, wharf_status};
use crate::engine::failure::Outcome;
use crate::engine::registry::with;
use crate::pool::handle::Kind;
use crate::port::FaultPlan;

/// How often each fault happens: in parts per million of its occasions, 0 (never) to 1000000 (always).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wharf_fault_plan {
    /// sizeof(wharf_fault_plan).
    pub struct_size: usize,
    /// Seeds the random numbers of each connection, together with its number since the plan was set. Any number.
    pub seed: u64,
    /// A read takes 1 to 16 bytes, so that on_receive gets pieces.
    pub short_reads_ppm: u32,
    /// A write takes 1 to 16 bytes, so that the rest waits in the queue.
    pub short_writes_ppm: u32,
    /// A read finds nothing for 1 to stall_ms milliseconds.
    pub read_stalls_ppm: u32,
    /// A write finds no room for 1 to stall_ms milliseconds.
    pub write_stalls_ppm: u32,
    /// A read or write finds the connection reset; the peer is reset, too.
    pub resets_ppm: u32,
    /// An accept finds no descriptor left; the connection stays in the backlog, and accepting goes on in a while.
    pub accept_exhaustions_ppm: u32,
    /// A connect finds no descriptor left: WHARF_E_TOO_MANY_FILES.
    pub connect_exhaustions_ppm: u32,
    /// A wharf_send or wharf_sendv finds no room in the pool: WHARF_E_POOL_EXHAUSTED, and on_writable follows.
    pub pool_exhaustions_ppm: u32,
    /// The longest stall: milliseconds, up to 60000. 0: 20.
    pub stall_ms: u32,
    /// Must be 0.
    pub reserved: u32,
}

// SAFETY: repr(C), size first, integers only, a whole number of words.
unsafe impl CStruct for wharf_fault_plan {
    const NAME: &'static str = "wharf_fault_plan";
}

impl wharf_fault_plan {
    /// The port's own words for it. NULL means no faults.
    unsafe fn read(plan: *const wharf_fault_plan) -> Outcome<FaultPlan> {
        if plan.is_null() {
            return Ok(FaultPlan::default());
        }
        // SAFETY: the conventions of the header: a plan is as large as its struct_size says.
        let plan = unsafe { read_struct(plan) }?;
        is_zero("reserved", plan.reserved)?;
        Ok(FaultPlan {
            seed: plan.seed,
            short_reads_ppm: plan.short_reads_ppm,
            short_writes_ppm: plan.short_writes_ppm,
            read_stalls_ppm: plan.read_stalls_ppm,
            write_stalls_ppm: plan.write_stalls_ppm,
            resets_ppm: plan.resets_ppm,
            accept_exhaustions_ppm: plan.accept_exhaustions_ppm,
            connect_exhaustions_ppm: plan.connect_exhaustions_ppm,
            pool_exhaustions_ppm: plan.pool_exhaustions_ppm,
            stall_ms: plan.stall_ms,
        })
    }
}

/// From now on faults happen as a plan says, on all connections of the engine, those that are open included.
///
/// - engine: an engine that was made with WHARF_ENGINE_FAULTS
/// - plan: the plan; copied. NULL: no faults any more
/// - error: receives the details; may be NULL
///
/// Stalls that have begun end in their time. Connections that are open keep the random numbers that they draw from; new
/// ones count from 1.
///
/// Errors:
/// - WHARF_E_STATE: the engine was made without WHARF_ENGINE_FAULTS
/// - WHARF_E_INVALID_ARGUMENT: struct_size is wrong, or a field is out of range; the message names it
/// - WHARF_E_STALE, WHARF_E_WRONG_KIND: no engine has this handle
///
/// Any thread, any callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wharf_engine_set_faults(
    engine: wharf_engine,
    plan: *const wharf_fault_plan,
    error: *mut wharf_error,
) -> wharf_status {
    guard_with_error(error, || {
        // SAFETY: the conventions of the header: NULL or good for the call.
        let plan = unsafe { wharf_fault_plan::read(plan) }?;
        with(engine, Kind::Engine, |engine| engine.set_faults(plan))
    })
}

//! The worker in whose callback a call is made.

use std::cell::RefCell;

use super::cork::Cork;

/// A worker, as what its callbacks call sees it.
pub struct Caller {
    /// Place of its engine in the registry.
    pub engine: u8,
    /// Which worker of the engine.
    pub worker: u32,
    /// What its callbacks sent and what is held back until they return.
    pub cork: RefCell<Cork>,
}

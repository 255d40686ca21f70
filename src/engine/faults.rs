//! Faults on purpose: checked here, made by the port, but for those of the pool.

use std::sync::atomic::Ordering::Relaxed;

use super::config::validated_plan;
use super::core::Core;
use super::failure::{Failure, Outcome};
use crate::port::{FaultPlan, Port};
use crate::status::Status;

impl<P: Port> Core<P> {
    /// Begins a plan on every worker.
    pub(super) fn begin_faults(&self, plan: FaultPlan) -> Outcome<()> {
        if !P::INJECTS_FAULTS {
            let message = "faults need an engine that was made for them: set WHARF_ENGINE_FAULTS in its flags";
            return Err(Failure::new(Status::State, message));
        }
        let plan = validated_plan(plan)?;
        for worker in &self.workers {
            worker.port.set_faults(plan);
        }
        Ok(())
    }

    /// Refuses a send as if the pool had no room for it, when the plan says so; `on_writable` follows as always.
    #[inline(always)]
    pub(super) fn refuse_by_plan(&self, conn: u64) -> Result<(), Status> {
        if P::INJECTS_FAULTS { self.throw_for_pool(conn) } else { Ok(()) }
    }

    fn throw_for_pool(&self, conn: u64) -> Result<(), Status> {
        let (connection, handle, mut side) = self.locked(conn)?;
        let worker = &self.workers[connection.worker.load(Relaxed) as usize];
        if !side.takes_sends() || !worker.port.finds_pool_exhausted() {
            return Ok(());
        }
        self.pool_exhausted.fetch_add(1, Relaxed);
        side.owes_writable = true;
        self.call_attention(connection, handle.index);
        Err(Status::PoolExhausted)
    }
}

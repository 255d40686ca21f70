//! The turns of a caller-driven engine.

use super::api::Patience;
use super::connection::turn_context;
use super::core::Core;
use super::worker::event_loop::Worker;
use crate::port::Port;
use crate::status::Status;

impl<P: Port> Core<P> {
    /// Runs one turn on the calling thread.
    pub(super) fn turn_once(&self, patience: Patience) -> Result<u32, Status> {
        if !self.config.caller_driven {
            return Err(Status::State);
        }
        let mut worker = self.take_driven()?;
        let timeout_ns = patience.map(|patience| u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        let mut completions = worker.turn(timeout_ns);
        if self.driven.take_missed() && !self.workers.is_exiting() {
            // Who was refused had been told that a turn is due, and need not be told of the same again: it is taken here.
            completions = completions.and_then(|some| Ok(some + worker.turn(Some(0))?));
        }
        self.put_back_driven(worker);
        completions
    }

    fn take_driven(&self) -> Result<Box<Worker<P>>, Status> {
        if self.runs_on_this_thread() {
            self.driven.miss();
            return Err(Status::WouldDeadlock);
        }
        let worker = self.driven.take();
        let worker = worker.ok_or_else(|| if self.life.lock().is_gone { Status::Stale } else { Status::State })?;
        self.workers.connections.turner.set_this_thread();
        Ok(worker)
    }

    fn put_back_driven(&self, worker: Box<Worker<P>>) {
        if self.workers.is_exiting() {
            drop(worker);
            self.worker_left(0);
        } else if self.driven.put(worker) {
            // Once more; from here on they are told anew.
            self.workers.connections.links[0].ring();
        }
        self.life.tell();
    }

    /// Whether this is called in a callback of this engine.
    pub(super) fn runs_on_this_thread(&self) -> bool {
        turn_context::with(|context| context.is_some_and(|context| context.caller.engine == self.handle.engine))
    }

    /// The caller's thread takes the last turns, or waits while another thread is in one.
    pub(super) fn turn_to_the_end(&self) -> Result<(), Status> {
        loop {
            let life = self.life.lock();
            if life.is_gone {
                return Ok(());
            }
            match self.driven.take() {
                Some(mut worker) => {
                    drop(life);
                    self.workers.connections.turner.set_this_thread();
                    let turned = worker.turn(None);
                    self.put_back_driven(worker);
                    // A contained fault was logged; the next turn goes on.
                    if turned == Err(Status::Limit) {
                        return Err(Status::Limit);
                    }
                }
                None => self.life.wait_a_moment(life),
            }
        }
    }
}

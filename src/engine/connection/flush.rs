//! What was corked in callbacks leaves when they have returned; and who waits for blocks is told when there are some.

use super::caller::Caller;
use super::connections::Connections;
use super::cork::{Cork, FLUSHES_AT_ONCE};
use super::sender::SendState;
use super::turn_context;
use crate::likely::{likely, unlikely};
use crate::port::Port;

impl<P: Port> Connections<P> {
    /// Lets leave what was corked in the callback that has just returned. True: some of it is left for the next turn.
    #[inline(always)]
    pub(in crate::engine) fn flush_corks(&self, caller: &Caller, now_ms: u64) -> bool {
        let cork = &mut *caller.cork.borrow_mut();
        if likely(!cork.bytes.is_empty()) {
            self.lock(cork.index).uncork(cork, now_ms);
        }
        if unlikely(!cork.queued.is_empty()) {
            self.flush_corked_queues(cork, FLUSHES_AT_ONCE);
        }
        self.tell_block_waiters();
        !cork.queued.is_empty()
    }

    /// The same for a task, which runs on its worker's thread.
    pub(in crate::engine) fn flush_own_corks(&self) {
        turn_context::with(|context| context.is_some_and(|context| self.flush_corks(&context.caller, self.clock_ms())));
    }

    #[inline(never)]
    fn flush_corked_queues(&self, cork: &mut Cork, most: usize) {
        for _ in 0..most {
            let Some(index) = cork.queued.pop_front() else { return };
            let mut locked = self.lock(index);
            if locked.sender.state == SendState::CorkedInQueue {
                locked.flush();
            }
        }
    }

    /// When blocks are back, those connections look again whose refused send would fit now.
    #[inline]
    pub(in crate::engine) fn tell_block_waiters(&self) {
        if self.block_waiters.may_take(|| self.blocks.available()) {
            self.take_block_waiters();
        }
    }

    #[cold]
    fn take_block_waiters(&self) {
        while let Some(index) = self.block_waiters.take(self.blocks.available()) {
            let mut locked = self.lock(index);
            locked.sender.waits.set_for_blocks(false);
            locked.post_ready();
        }
    }
}

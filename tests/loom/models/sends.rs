//! No send is taken after a close, and each that was taken with a token is told of once: `SendQueue`, `Chain` and `Blocks`
//! are real code; the lock around them is modelled after `Locked::send` (src/engine/connection/send_steps.rs),
//! `Locked::note_close` (.../closing.rs), `Locked::close_socket` and `Turn::finish` (.../ending.rs).

use std::sync::Arc;

use loom::thread;

use wharf_models::explore;
use wharf_models::pool::blocks::Blocks;
use wharf_models::pool::lock;
use wharf_models::send_queue::SendQueue;
use wharf_models::sync::Mutex;
use wharf_models::sync::atomic::{AtomicBool, Ordering::*};

struct Connection {
    blocks: Blocks,
    sender: Mutex<Sender>,
    /// A copy of `is_closed` that is read without the lock, for the twin that must fail.
    is_closed: AtomicBool,
}

struct Sender {
    queue: SendQueue,
    is_closed: bool,
    /// `close_socket` has been there.
    has_ended: bool,
}

impl Connection {
    /// `Locked::send`; true: it was taken.
    fn send(&self, token: u64, asks_under_the_lock: bool) -> bool {
        if !asks_under_the_lock && self.is_closed.load(Acquire) {
            return false;
        }
        let mut sender = lock(&self.sender);
        if asks_under_the_lock && sender.is_closed {
            return false;
        }
        let Some(held) = sender.queue.reserve(&self.blocks, 4, token) else { return false };
        sender.queue.push(&self.blocks, held, &[b"data"], 4, 0, token);
        assert!(!sender.has_ended, "a send was taken after the end");
        true
    }

    /// `Locked::close`, and what the worker does for it; gives the tokens that it told.
    fn close_and_finish(&self) -> Vec<u64> {
        {
            let mut sender = lock(&self.sender);
            sender.is_closed = true;
            self.is_closed.store(true, Release);
            sender.queue.drop_bytes(&self.blocks);
        }
        let mut told = Vec::new();
        let mut mark = {
            let mut sender = lock(&self.sender);
            sender.has_ended = true;
            sender.queue.take_mark(&self.blocks, false)
        };
        while let Some((token, is_complete)) = mark {
            assert!(!is_complete, "nothing was written");
            told.push(token);
            mark = lock(&self.sender).queue.take_mark(&self.blocks, false);
        }
        lock(&self.sender).queue.reset(&self.blocks);
        told
    }
}

fn sends_and_a_close(asks_under_the_lock: bool) {
    explore(Some(3), move || {
        let blocks = Blocks::new(4, 0, 64).unwrap();
        let queue = SendQueue::new(&blocks);
        let sender = Mutex::new(Sender { queue, is_closed: false, has_ended: false });
        let connection = Arc::new(Connection { blocks, sender, is_closed: AtomicBool::new(false) });
        let senders = [1, 2].map(|token| {
            let connection = connection.clone();
            thread::spawn(move || connection.send(token, asks_under_the_lock).then_some(token))
        });
        let mut told = connection.close_and_finish();
        let mut taken: Vec<u64> = senders.into_iter().filter_map(|sender| sender.join().unwrap()).collect();
        told.sort_unstable();
        taken.sort_unstable();
        assert_eq!(told, taken, "each send that was taken is told of once");
        assert_eq!(connection.blocks.in_use(), 0, "a block was lost");
    });
}

#[test]
fn no_send_is_taken_after_the_close_and_each_that_was_taken_is_told_of_once() {
    sends_and_a_close(true);
}

#[test]
#[should_panic(expected = "a send was taken after the end")]
fn a_close_that_is_asked_for_outside_of_the_lock_is_overtaken() {
    sends_and_a_close(false);
}

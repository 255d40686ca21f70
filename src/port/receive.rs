//! From "readable" to completions: the receive loop that every readiness port shares, and the list of connections that
//! have a turn to come although no event tells of them.

use std::collections::VecDeque;
use std::io;
use std::marker::PhantomData;

use super::{Completion, Interest, Port, PortSetup, Reading, Sink};
use crate::likely::likely;

/// The most events of one wait.
pub(super) const EVENTS_PER_WAIT: usize = 256;

/// What an event told about a socket beside "readable".
#[derive(Clone, Copy)]
pub(super) struct Hint {
    /// A read that does not fill the buffer is not the last: a FIN, an error or urgent data may be behind it, and no
    /// further edge would tell of that. Without it, such a read has emptied the socket (epoll(7), question 9).
    pub(super) read_on: bool,
    /// An error may wait on the socket.
    pub(super) error: bool,
}

impl Hint {
    /// Nothing is known: look for everything.
    pub(super) const UNKNOWN: Hint = Hint { read_on: true, error: true };
}

/// What receiving needs: the buffer that all connections share, and the ready list.
pub(super) struct Receiver<P> {
    buffer: Box<[u8]>,
    ready: VecDeque<u64>,
    receives_per_turn: u32,
    port: PhantomData<fn() -> P>,
}

fn ready_places(setup: &PortSetup) -> usize {
    setup.max_connections + EVENTS_PER_WAIT
}

/// So many copies, or the error of kind `OutOfMemory` where the system has no memory for them.
pub(super) fn filled<T: Clone>(count: usize, value: T) -> io::Result<Box<[T]>> {
    let mut all = Vec::new();
    all.try_reserve_exact(count)?;
    all.resize(count, value);
    Ok(all.into_boxed_slice())
}

impl<P: Port> Receiver<P> {
    pub(super) fn new(setup: &PortSetup) -> io::Result<Receiver<P>> {
        let mut ready = VecDeque::new();
        ready.try_reserve_exact(ready_places(setup))?;
        Ok(Receiver {
            buffer: filled(setup.receive_buffer_bytes.max(1), 0)?,
            ready,
            receives_per_turn: setup.receives_per_turn.max(1),
            port: PhantomData,
        })
    }

    /// Bytes of heap that `new` sets aside.
    pub(super) fn heap_bytes(setup: &PortSetup) -> u64 {
        (setup.receive_buffer_bytes.max(1) + ready_places(setup) * size_of::<u64>()) as u64
    }

    /// How many keys have a turn to come; while there are any, a wait must not block.
    #[inline]
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Puts a key on the ready list. Gives whether it is the first.
    pub(super) fn look_again(&mut self, key: u64) -> bool {
        let first = self.ready.is_empty();
        if self.ready.len() == self.ready.capacity() {
            self.drop_duplicates();
        }
        // Room for every connection and a batch of events: this allocates only if more than that have closed since.
        self.ready.push_back(key);
        first
    }

    #[cold]
    fn drop_duplicates(&mut self) {
        self.ready.make_contiguous().sort_unstable();
        let mut last = None;
        self.ready.retain(|key| last.replace(*key) != Some(*key));
    }

    /// Gives the keys that were ready before this wait their turn. Those that it adds wait for the next.
    pub(super) fn take_turns(&mut self, count: usize, sink: &mut impl Sink<P::Raw>) -> u32 {
        let mut completions = 0;
        for _ in 0..count {
            let Some(key) = self.ready.pop_front() else { break };
            completions += self.read_on(key, Hint::UNKNOWN, 0, sink);
        }
        completions
    }

    /// Reads a socket until it is empty or its share of this turn is used up. Gives the number of completions.
    #[inline(always)]
    pub(super) fn readable(
        &mut self,
        key: u64,
        interest: Interest<P::Raw>,
        hint: Hint,
        sink: &mut impl Sink<P::Raw>,
    ) -> u32 {
        // The usual case, one read that takes all there is, without another call.
        let Reading::Receive(raw) = interest.read else { return self.read_on(key, hint, 0, sink) };
        let received = P::receive_raw(raw, &mut self.buffer);
        let length = match received {
            Ok(length) if likely(length > 0) => length,
            end => return Self::tell_end(key, end, hint, sink),
        };
        let is_all = length < self.buffer.len() && !hint.read_on;
        // The kernel wrote no more than there is room for.
        sink.received(key, interest.place, self.buffer.get(..length).unwrap_or_default());
        if likely(is_all) { 1 } else { 1 + self.read_on(key, hint, 1, sink) }
    }

    /// The same after so many receives.
    #[inline(never)]
    fn read_on(&mut self, key: u64, hint: Hint, mut receives: u32, sink: &mut impl Sink<P::Raw>) -> u32 {
        let mut completions = 0;
        loop {
            // Asked each time: the callback before may have closed or paused the connection.
            let (raw, drains) = match sink.interest(key).read {
                Reading::Receive(raw) => (raw, false),
                Reading::Drain(raw) => (raw, true),
                Reading::Gone => return completions,
                Reading::Notify => {
                    sink.complete(key, Completion::Readable);
                    return completions + 1;
                }
                Reading::Nothing(raw) => return completions + Self::tell_error(key, raw, hint, sink),
            };
            if receives == self.receives_per_turn {
                self.look_again(key);
                return completions;
            }
            receives += 1;
            match P::receive_raw(raw, &mut self.buffer) {
                Ok(length @ 1..) => {
                    sink.complete(key, Completion::Received(&self.buffer[..length]));
                    completions += 1;
                    if length < self.buffer.len() && !hint.read_on && !drains {
                        return completions;
                    }
                }
                Err(error) if drains && error.kind() == io::ErrorKind::WouldBlock => {
                    sink.complete(key, Completion::Drained);
                    return completions + 1;
                }
                end => return completions + Self::tell_end(key, end, hint, sink),
            }
        }
    }

    /// A receive that gave no bytes.
    #[inline(never)]
    fn tell_end(key: u64, end: io::Result<usize>, hint: Hint, sink: &mut impl Sink<P::Raw>) -> u32 {
        match end {
            Ok(_) => {
                sink.complete(key, Completion::EndOfStream);
                1 + Self::tell_error_after_end(key, hint, sink)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                sink.complete(key, Completion::Failed(error));
                1
            }
        }
    }

    /// A paused connection is not read, so its error must be asked for. One that a send was told of is told no more.
    fn tell_error(key: u64, raw: P::Raw, hint: Hint, sink: &mut impl Sink<P::Raw>) -> u32 {
        if !hint.error {
            return 0;
        }
        let Some(error) = P::take_error(raw) else { return 0 };
        sink.complete(key, Completion::Failed(error));
        1
    }

    /// A reset behind a FIN: the reader saw the end of the stream, and no further edge will tell of the reset.
    fn tell_error_after_end(key: u64, hint: Hint, sink: &mut impl Sink<P::Raw>) -> u32 {
        if !hint.error {
            return 0;
        }
        match sink.interest(key).read {
            Reading::Receive(raw) | Reading::Drain(raw) | Reading::Nothing(raw) => {
                Self::tell_error(key, raw, hint, sink)
            }
            Reading::Notify | Reading::Gone => 0,
        }
    }
}

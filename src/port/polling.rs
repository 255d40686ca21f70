//! The portable port, on the `polling` crate: kqueue, event ports; on Linux epoll, so that the tests of Linux run it. It
//! knows of no hang-up before it reads, so each read goes on until the socket is empty.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;
use polling::{Event, Events, PollMode, Poller};

use super::receive::{EVENTS_PER_WAIT, Hint, Receiver};
use super::unix::thread::with_signals_blocked;
use super::unix::{ReadinessPort, Socket, now_ns, wait_until_readable};
use super::{Completion, PortSetup, Sink};

/// The longest that a wait lasts. When the host has closed the descriptors nothing can end a wait any more, and the next one
/// tells so. The poller itself times its waits with a descriptor, so it is only asked what there is.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Of the events of a wait, those of the poller itself, which it does not hand over.
const OWN_EVENTS: usize = 2;

/// One worker's poller.
pub struct PollingPort {
    bell: Arc<Bell>,
    alarm: Mutex<Option<Alarm>>,
}

/// The poller, and what ends a wait on it from elsewhere.
struct Bell {
    poller: Poller,
    /// A host watches the descriptor, so that what a turn leaves must make an edge on it.
    is_watched: AtomicBool,
}

/// A timer of async-io, whose own thread rings the bell: the portable stand-in for a timer descriptor.
struct Alarm {
    at_ns: u64,
    timer: Timer,
}

/// The events of a wait, the receive buffer and the ready list.
pub struct PollingRing {
    events: Events,
    /// Of the events of the last wait, the next one to hand over.
    next: usize,
    receiver: Receiver<PollingPort>,
    bell: Arc<Bell>,
}

impl Bell {
    fn ring(&self) {
        // It fails only where the poller itself is broken, which the next wait reports.
        let _ = self.poller.notify();
    }

    fn ring_if_watched(&self) {
        if self.is_watched.load(Relaxed) {
            self.ring();
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// The poller's own form of an event, whose size its crate does not tell. Systems with neither epoll nor kqueue have no
/// edge-triggered poller.
#[cfg(any(target_os = "linux", target_os = "android"))]
const EVENT_BYTES: usize = size_of::<libc::epoll_event>();
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const EVENT_BYTES: usize = size_of::<libc::kevent>();

impl PollingPort {
    fn add(&self, socket: &Socket, interest: Event, mode: PollMode) -> io::Result<()> {
        let poller = &self.bell.poller;
        // SAFETY: whoever attaches a socket detaches it before it is dropped (Port::DETACH_BEFORE_CLOSE), which is what
        // `add` asks for.
        match unsafe { poller.add_with_mode(socket.raw(), interest, mode) } {
            // The number of a socket that was dropped without detaching, which the poller still has on its list.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                poller.modify_with_mode(borrow(socket), interest, mode)
            }
            other => other,
        }
    }
}

fn borrow(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns the descriptor and outlives the borrow.
    unsafe { BorrowedFd::borrow_raw(socket.raw()) }
}

/// Begins to wait for a timer. The first one of the process makes async-io start its thread, which inherits the mask of
/// signals, and panic where no thread can be started; then there is no alarm, and the next one tries again.
fn begin_timer(timer: &mut Timer, context: &mut Context<'_>) -> io::Result<Poll<Instant>> {
    static HAS_THREAD: AtomicBool = AtomicBool::new(false);
    let mut begin = || Pin::new(&mut *timer).poll(context);
    if HAS_THREAD.load(Acquire) {
        return Ok(begin());
    }
    let begun = with_signals_blocked(|| catch_unwind(AssertUnwindSafe(begin)));
    HAS_THREAD.store(begun.is_ok(), Release);
    begun.map_err(|_| io::Error::other("the thread of timers could not be started; raise the limit of threads"))
}

impl ReadinessPort for PollingPort {
    type Ring = PollingRing;

    const DETACH_BEFORE_CLOSE: bool = true;

    fn open(setup: &PortSetup) -> io::Result<(PollingPort, PollingRing)> {
        let poller = Poller::new()?;
        // Keys are 64 bits; the poller has `usize`, and keeps the largest for itself.
        if !(cfg!(target_pointer_width = "64") && poller.supports_edge() && poller.supports_level()) {
            let why = "the portable port needs a 64-bit system with edge- and level-triggered events";
            return Err(io::Error::new(io::ErrorKind::Unsupported, why));
        }
        let bell = Arc::new(Bell { poller, is_watched: AtomicBool::new(false) });
        let events = Events::with_capacity(const { NonZeroUsize::new(EVENTS_PER_WAIT).unwrap() });
        let ring = PollingRing { events, next: 0, receiver: Receiver::new(setup)?, bell: bell.clone() };
        Ok((PollingPort { bell, alarm: Mutex::new(None) }, ring))
    }

    fn heap_bytes(setup: &PortSetup) -> u64 {
        let bell = 2 * size_of::<usize>() + size_of::<Bell>();
        Receiver::<PollingPort>::heap_bytes(setup) + (bell + EVENTS_PER_WAIT * EVENT_BYTES) as u64
    }

    fn attach(&self, socket: &Socket, key: u64) -> io::Result<()> {
        self.add(socket, Event::all(key as usize), PollMode::Edge)
    }

    fn attach_listener(&self, socket: &Socket, key: u64) -> io::Result<()> {
        self.add(socket, Event::readable(key as usize), PollMode::Level)
    }

    fn detach(&self, socket: &Socket) {
        // An unknown socket is ignored, by contract.
        let _ = self.bell.poller.delete(borrow(socket));
    }

    fn wake(&self) {
        self.bell.ring();
    }

    fn descriptor(&self) -> io::Result<i32> {
        if !self.bell.is_watched.swap(true, Relaxed) {
            // Until now the ready list made nothing readable, and it may have grown already.
            self.bell.ring();
        }
        Ok(self.bell.poller.as_raw_fd())
    }

    fn set_alarm(&self, at_ns: Option<u64>) -> io::Result<()> {
        let mut alarm = self.alarm.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(at_ns) = at_ns else {
            *alarm = None;
            return Ok(());
        };
        let now_ns = now_ns();
        if at_ns <= now_ns {
            *alarm = None;
            self.bell.ring();
        } else if alarm.as_ref().is_none_or(|alarm| alarm.at_ns != at_ns) {
            let timer = Timer::after(Duration::from_nanos(at_ns - now_ns));
            let timer = &mut alarm.insert(Alarm { at_ns, timer }).timer;
            let waker = Waker::from(self.bell.clone());
            match begin_timer(timer, &mut Context::from_waker(&waker)) {
                Ok(Poll::Ready(_)) => self.bell.ring(),
                Ok(Poll::Pending) => {}
                Err(error) => {
                    *alarm = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn wait(&self, ring: &mut PollingRing, timeout_ns: Option<u64>, sink: &mut impl Sink<i32>) -> io::Result<u32> {
        let PollingRing { events, next, receiver, bell } = ring;
        let ready_before = receiver.ready();
        if *next == events.len() {
            let timeout_ns = if ready_before > 0 { Some(0) } else { timeout_ns };
            events.clear();
            *next = 0;
            if timeout_ns != Some(0) {
                wait_until_readable(
                    bell.poller.as_fd(),
                    timeout_ns.map_or(LONGEST_WAIT, Duration::from_nanos).min(LONGEST_WAIT),
                );
            }
            bell.poller.wait(events, Some(Duration::ZERO))?;
        }
        let mut completions = 0;
        for event in events.iter().skip(*next) {
            // Before the sink, so that an event that makes it panic does not come again.
            *next += 1;
            let key = event.key as u64;
            let mut interest = sink.interest(key);
            if event.writable && interest.room {
                sink.complete(key, Completion::Writable);
                completions += 1;
                interest = sink.interest(key);
            }
            if event.readable {
                // Where the poller cannot tell, the socket is asked.
                let hint = Hint { read_on: true, error: event.is_err() != Some(false) };
                completions += receiver.readable(key, interest, hint, sink);
            }
        }
        completions += receiver.take_turns(ready_before, sink);
        if receiver.ready() > 0 {
            bell.ring_if_watched();
        }
        Ok(completions)
    }

    fn may_have_more(ring: &PollingRing) -> bool {
        ring.events.len() + OWN_EVENTS >= EVENTS_PER_WAIT
    }

    fn receive_again(ring: &mut PollingRing, key: u64) {
        if ring.receiver.look_again(key) {
            ring.bell.ring_if_watched();
        }
    }
}

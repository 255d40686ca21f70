//! The port of Linux: one epoll per worker. A stream is registered once, for both directions and edge-triggered, and
//! never touched again; closing it takes it out.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};

use once_cell::sync::OnceCell;

use super::receive::{EVENTS_PER_WAIT, Hint, Receiver, filled};
use super::unix::{ReadinessPort, Socket, message_calls};
use super::{Completion, PortSetup, Sink};
use crate::likely::{likely, unlikely};

/// Keys from here on are the port's own; those of the engine have smaller first digits.
const OWN_KEYS: u64 = 14 << 60;
const WAKE_KEY: u64 = OWN_KEYS;
const ALARM_KEY: u64 = OWN_KEYS + 1;

const OUT: u32 = libc::EPOLLOUT as u32;
/// What makes a send or a connect worth another try.
const WRITABLE: u32 = OUT | ERROR | HANG_UP;
const READABLE: u32 = libc::EPOLLIN as u32 | READ_ON | ERROR;
const ERROR: u32 = libc::EPOLLERR as u32;
const HANG_UP: u32 = libc::EPOLLHUP as u32;
/// More than data may wait: a FIN, the end of both directions, an error, or urgent data, at which a read stops short.
const READ_ON: u32 = libc::EPOLLRDHUP as u32 | libc::EPOLLPRI as u32 | HANG_UP | ERROR;
const STREAM: u32 = (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLPRI | libc::EPOLLET) as u32;
const LISTENER: u32 = (libc::EPOLLIN | libc::EPOLLEXCLUSIVE) as u32;
/// Each write is an edge of its own, so nobody needs to read what was written.
const OWN: u32 = (libc::EPOLLIN | libc::EPOLLET) as u32;

/// The longest that a wait lasts. When the host has closed the descriptors nothing can end a wait any more, and the next one
/// tells so.
const LONGEST_WAIT_MS: libc::c_int = 1000;
/// No alarm is set.
const NO_ALARM: u64 = u64::MAX;

/// One worker's epoll.
pub struct EpollPort {
    epoll: OwnedFd,
    bell: Arc<Bell>,
    /// Made when the first alarm is set.
    timer: OnceCell<OwnedFd>,
    alarm_at_ns: AtomicU64,
}

/// Ends a wait from elsewhere.
struct Bell {
    event: OwnedFd,
    /// A host watches the descriptor, so that what a turn leaves must make an edge on it.
    is_watched: AtomicBool,
}

/// The events of a wait, the receive buffer and the ready list.
pub struct EpollRing {
    events: Box<[libc::epoll_event]>,
    /// Of the events of the last wait, the next one to hand over.
    next: usize,
    count: usize,
    receiver: Receiver<EpollPort>,
    bell: Arc<Bell>,
}

impl Bell {
    fn new() -> io::Result<Bell> {
        // SAFETY: eventfd takes numbers only, and the new descriptor is nobody else's.
        let event = unsafe { own(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC))? };
        Ok(Bell { event, is_watched: AtomicBool::new(false) })
    }

    fn ring(&self) {
        let raw = self.event.as_raw_fd();
        let one = 1_u64;
        // SAFETY: eight bytes are read from `one`, which lives for the call.
        let written = unsafe { libc::write(raw, (&raw const one).cast(), 8) };
        if written < 0 && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock {
            // The counter is full, as nobody reads it: empty it, so that the next write is an edge again.
            let mut counter = 0_u64;
            // SAFETY: eight bytes are written to `counter` and read from `one`; both live for the calls.
            unsafe {
                libc::read(raw, (&raw mut counter).cast(), 8);
                libc::write(raw, (&raw const one).cast(), 8);
            }
        }
    }

    #[inline]
    fn ring_if_watched(&self) {
        if self.is_watched.load(Relaxed) {
            self.ring();
        }
    }
}

/// # Safety
/// `raw` is the result of a system call that makes a descriptor.
unsafe fn own(raw: i32) -> io::Result<OwnedFd> {
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: promised by the caller; it is open, as it is not negative.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Whole milliseconds, rounded up: rounded down, the last of them would spin.
#[inline]
fn milliseconds(timeout_ns: Option<u64>) -> libc::c_int {
    let longest = LONGEST_WAIT_MS as u64;
    timeout_ns.map_or(longest, |ns| ns.div_ceil(1_000_000).min(longest)) as libc::c_int
}

impl EpollPort {
    fn add(&self, raw: i32, events: u32, key: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events, u64: key };
        // SAFETY: the kernel only reads the event, which lives for the call.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, raw, &raw mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits for the next events.
    #[inline(always)]
    fn fetch(&self, ring: &mut EpollRing, timeout: libc::c_int) -> io::Result<()> {
        let (pointer, most) = (ring.events.as_mut_ptr(), ring.events.len());
        (ring.next, ring.count) = (0, 0);
        // SAFETY: the kernel writes at most `most` events to the array, which is borrowed mutably for the call.
        match unsafe { message_calls::epoll_wait(self.epoll.as_raw_fd(), pointer, most, timeout) } {
            Ok(count) => ring.count = count,
            // Whoever waits for longer sees that nothing happened, and asks again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn timer(&self) -> io::Result<&OwnedFd> {
        self.timer.get_or_try_init(|| {
            let flags = libc::TFD_NONBLOCK | libc::TFD_CLOEXEC;
            // SAFETY: timerfd_create takes numbers only, and the new descriptor is nobody else's.
            let timer = unsafe { own(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags))? };
            self.add(timer.as_raw_fd(), OWN, ALARM_KEY)?;
            Ok(timer)
        })
    }
}

impl ReadinessPort for EpollPort {
    type Ring = EpollRing;

    const DETACH_BEFORE_CLOSE: bool = false;

    fn open(setup: &PortSetup) -> io::Result<(EpollPort, EpollRing)> {
        // SAFETY: epoll_create1 takes a number only, and the new descriptor is nobody else's.
        let epoll = unsafe { own(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        let bell = Arc::new(Bell::new()?);
        let alarm_at_ns = AtomicU64::new(NO_ALARM);
        let port = EpollPort { epoll, bell: bell.clone(), timer: OnceCell::new(), alarm_at_ns };
        port.add(bell.event.as_raw_fd(), OWN, WAKE_KEY)?;
        let events = filled(EVENTS_PER_WAIT, libc::epoll_event { events: 0, u64: 0 })?;
        Ok((port, EpollRing { events, next: 0, count: 0, receiver: Receiver::new(setup)?, bell }))
    }

    fn heap_bytes(setup: &PortSetup) -> u64 {
        let bell = 2 * size_of::<usize>() + size_of::<Bell>();
        let events = EVENTS_PER_WAIT * size_of::<libc::epoll_event>();
        Receiver::<EpollPort>::heap_bytes(setup) + (bell + events) as u64
    }

    #[inline]
    fn attach(&self, socket: &Socket, key: u64) -> io::Result<()> {
        self.add(socket.raw(), STREAM, key)
    }

    fn attach_listener(&self, socket: &Socket, key: u64) -> io::Result<()> {
        self.add(socket.raw(), LISTENER, key)
    }

    fn detach(&self, socket: &Socket) {
        // An unknown socket (ENOENT) is ignored, by contract.
        // SAFETY: EPOLL_CTL_DEL takes no event.
        unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, socket.raw(), null_mut()) };
    }

    fn wake(&self) {
        self.bell.ring();
    }

    fn descriptor(&self) -> io::Result<i32> {
        if !self.bell.is_watched.swap(true, Relaxed) {
            // Until now the ready list made nothing readable, and it may have grown already.
            self.bell.ring();
        }
        Ok(self.epoll.as_raw_fd())
    }

    fn set_alarm(&self, at_ns: Option<u64>) -> io::Result<()> {
        let at_ns = at_ns.map_or(NO_ALARM, |at_ns| at_ns.clamp(1, NO_ALARM - 1));
        if self.alarm_at_ns.swap(at_ns, Relaxed) == at_ns {
            return Ok(());
        }
        if at_ns == NO_ALARM && self.timer.get().is_none() {
            return Ok(());
        }
        // A zero disarms it.
        let ns = if at_ns == NO_ALARM { 0 } else { at_ns };
        let set = self.timer().and_then(|timer| {
            let spec = libc::itimerspec {
                it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
                it_value: libc::timespec {
                    tv_sec: (ns / 1_000_000_000) as libc::time_t,
                    tv_nsec: (ns % 1_000_000_000) as libc::c_long,
                },
            };
            let raw = timer.as_raw_fd();
            // SAFETY: the kernel only reads `spec`, which lives for the call, and is not asked for the old value.
            match unsafe { libc::timerfd_settime(raw, libc::TFD_TIMER_ABSTIME, &raw const spec, null_mut()) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
        if set.is_err() {
            self.alarm_at_ns.store(NO_ALARM, Relaxed);
        }
        set
    }

    #[inline(always)]
    fn wait(&self, ring: &mut EpollRing, timeout_ns: Option<u64>, sink: &mut impl Sink<i32>) -> io::Result<u32> {
        let ready_before = ring.receiver.ready();
        if likely(ring.next == ring.count) {
            let timeout = if ready_before > 0 { 0 } else { milliseconds(timeout_ns) };
            self.fetch(ring, timeout)?;
        }
        let EpollRing { events, next, count, receiver, bell } = ring;
        let mut completions = 0;
        while *next < *count {
            let Some(&libc::epoll_event { events: flags, u64: key }) = events.get(*next) else { break };
            // Before the sink, so that an event that makes it panic does not come again.
            *next += 1;
            if unlikely(key >= OWN_KEYS) {
                if key == ALARM_KEY {
                    // The same time may be set again.
                    self.alarm_at_ns.store(NO_ALARM, Relaxed);
                }
                continue;
            }
            let mut interest = sink.interest(key);
            if unlikely(flags & WRITABLE != 0 && interest.room) {
                sink.complete(key, Completion::Writable);
                completions += 1;
                interest = sink.interest(key);
            }
            if likely(flags & READABLE != 0) {
                let hint = Hint { read_on: flags & READ_ON != 0, error: flags & ERROR != 0 };
                completions += receiver.readable(key, interest, hint, sink);
            }
        }
        if unlikely(ready_before > 0) {
            completions += receiver.take_turns(ready_before, sink);
        }
        if unlikely(receiver.ready() > 0) {
            bell.ring_if_watched();
        }
        Ok(completions)
    }

    fn may_have_more(ring: &EpollRing) -> bool {
        ring.count == ring.events.len()
    }

    fn receive_again(ring: &mut EpollRing, key: u64) {
        if ring.receiver.look_again(key) {
            ring.bell.ring_if_watched();
        }
    }
}

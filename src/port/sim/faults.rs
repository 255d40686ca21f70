//! What goes wrong, and how often. Each class of faults has random numbers of its own, so that switching one class off
//! leaves the others as they were for as long as possible: that is what makes shrinking work.

use std::io;

use fastrand::Rng;

/// Receives take less than there is.
pub const SHORT_READ: u32 = 1 << 0;
/// Sends take less than fits.
pub const SHORT_WRITE: u32 = 1 << 1;
/// Receives and sends would block, although they would not.
pub const WOULD_BLOCK: u32 = 1 << 2;
/// Events for nothing.
pub const SPURIOUS: u32 = 1 << 3;
/// Events that come late.
pub const LATE: u32 = 1 << 4;
/// Connections are reset from outside, at any byte.
pub const RESET: u32 = 1 << 5;
/// A peer vanishes without a word.
pub const VANISH: u32 = 1 << 6;
/// Accepts fail: ECONNABORTED, EMFILE, ENFILE, ENOBUFS, ENOMEM.
pub const ACCEPT: u32 = 1 << 7;
/// Any other call fails for want of descriptors or memory.
pub const EXHAUSTION: u32 = 1 << 8;
/// Connects are refused, unreachable, or not answered.
pub const CONNECT: u32 = 1 << 9;
/// Names are not resolved, or late, or to nothing.
pub const RESOLVER: u32 = 1 << 10;
/// The clock jumps.
pub const CLOCK: u32 = 1 << 11;
/// Bytes arrive in small pieces, and late.
pub const SEGMENTS: u32 = 1 << 12;

/// How many classes there are.
pub const CLASSES: usize = 13;
/// All of them.
pub const ALL: u32 = (1 << CLASSES) - 1;

/// The faults of a world.
pub struct Faults {
    enabled: u32,
    /// Of 65,536 occasions, how many.
    odds: [u16; CLASSES],
    random: [Rng; CLASSES],
}

impl Faults {
    /// No fault, until [`Faults::set`].
    pub(super) fn new(seed: u64) -> Faults {
        let random = std::array::from_fn(|class| Rng::with_seed(seed ^ ((class as u64 + 1) << 48)));
        Faults { enabled: 0, odds: [0; CLASSES], random }
    }

    /// Chooses which classes occur, and how often each.
    pub(super) fn set(&mut self, enabled: u32, odds: [u16; CLASSES]) {
        self.enabled = enabled;
        self.odds = odds;
    }

    /// Whether a fault of this class occurs now.
    #[inline]
    pub(super) fn hits(&mut self, class: u32) -> bool {
        if self.enabled & class == 0 {
            return false;
        }
        let place = class.trailing_zeros() as usize;
        self.random[place].u16(..) < self.odds[place]
    }

    /// The random numbers of a class, for what follows a hit.
    pub(super) fn random(&mut self, class: u32) -> &mut Rng {
        &mut self.random[class.trailing_zeros() as usize]
    }
}

/// The error of this number.
pub(super) fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

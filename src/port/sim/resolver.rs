//! Names, and when they are resolved.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::task::Waker;

use fastrand::Rng;

use super::clock::{MS, SECOND};
use super::faults::{self, Faults, error};

type Answer = io::Result<Vec<SocketAddr>>;

struct Resolution {
    answer: Answer,
    is_there: bool,
    waker: Option<Waker>,
}

/// What the resolver knows, and what it was asked.
#[derive(Default)]
pub(super) struct Resolver {
    pub names: BTreeMap<String, Vec<SocketAddr>>,
    resolutions: BTreeMap<u32, Resolution>,
    latest: u32,
    to_wake: Vec<Waker>,
}

impl Resolver {
    /// Begins to resolve a name: gives the number of the resolution, and in how many nanoseconds it is done.
    pub(super) fn begin(&mut self, host: &str, random: &mut Rng, faults: &mut Faults) -> (u32, u64) {
        let found = self.names.get(host).cloned();
        let mut answer = found.ok_or_else(|| io::Error::other("no such name"));
        let mut in_ns = random.u64(0..50 * MS);
        if faults.hits(faults::RESOLVER) {
            match faults.random(faults::RESOLVER).u8(0..4) {
                0 => answer = Err(error(libc::EIO)),
                1 => answer = Ok(Vec::new()),
                2 => answer = Err(io::Error::other("temporary failure in name resolution")),
                _ => in_ns = faults.random(faults::RESOLVER).u64(0..40 * SECOND),
            }
        }
        self.latest += 1;
        self.resolutions.insert(self.latest, Resolution { answer, is_there: false, waker: None });
        (self.latest, in_ns)
    }

    /// It is done.
    pub(super) fn resolved(&mut self, number: u32) {
        if let Some(resolution) = self.resolutions.get_mut(&number) {
            resolution.is_there = true;
            self.to_wake.extend(resolution.waker.take());
        }
    }

    /// Who waits for what is done by now.
    pub(super) fn take_wakers(&mut self) -> Vec<Waker> {
        std::mem::take(&mut self.to_wake)
    }

    /// The answer, or who is to be woken when it is there.
    pub(super) fn answer(&mut self, number: u32, waker: &Waker) -> Option<Answer> {
        let resolution = self.resolutions.get_mut(&number)?;
        if !resolution.is_there {
            resolution.waker = Some(waker.clone());
            return None;
        }
        self.resolutions.remove(&number).map(|resolution| resolution.answer)
    }

    pub(super) fn forget(&mut self, number: u32) -> Option<Waker> {
        self.resolutions.remove(&number)?.waker
    }
}

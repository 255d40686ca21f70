//! Keys of the port that are no connection's: whoever registers one is told when something happens to it. A listener's is
//! its server's handle; a connect under way gets a number.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::sync::{Arc, Mutex};

use crate::engine::connection::turn::Turn;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::Port;

/// Whoever registered a key.
pub trait Source<P: Port>: Send + Sync {
    /// Something happened to it. Called on a worker that watches it, without any lock; by several at once, when several
    /// watch it.
    fn ready(&self, turn: &mut Turn<'_, P>);
}

/// The keys of one engine.
pub struct Sources<P: Port> {
    engine: u8,
    /// In the order of the keys: hardly ever more than a few, and then nothing needs to be hashed.
    by_key: Mutex<BTreeMap<u64, Arc<dyn Source<P>>>>,
    next_number: AtomicU32,
}

impl<P: Port> Sources<P> {
    /// None.
    pub fn new(engine: u8) -> Sources<P> {
        Sources { engine, by_key: Mutex::new(BTreeMap::new()), next_number: AtomicU32::new(0) }
    }

    /// A key for a connect, unlike every other that is in use.
    pub fn new_dial_key(&self) -> u64 {
        let generation = self.next_number.fetch_add(1, Relaxed);
        Handle { kind: Kind::Dial, engine: self.engine, index: 0, generation }.to_bits()
    }

    /// From now on, this one is told of the key.
    pub fn insert(&self, key: u64, source: Arc<dyn Source<P>>) {
        lock(&self.by_key).insert(key, source);
    }

    /// Nobody is told of it any more; who is being told at this moment may be for a while.
    pub fn remove(&self, key: u64) {
        let removed = lock(&self.by_key).remove(&key);
        drop(removed);
    }

    /// Who is told of a key.
    pub(super) fn get(&self, key: u64) -> Option<Arc<dyn Source<P>>> {
        lock(&self.by_key).get(&key).cloned()
    }

    /// How many keys of this kind there are.
    #[cfg(feature = "testing")]
    pub fn count(&self, kind: Kind) -> usize {
        lock(&self.by_key).keys().filter(|key| Handle::kind_of(**key) == kind as u64).count()
    }
}

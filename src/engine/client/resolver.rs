//! Names are resolved by a call that blocks (getaddrinfo), so the engine has a few threads for it: no more, however many
//! names there are and however slow they are. A name is looked up once, whoever asks for it meanwhile; whoever gives up
//! leaves, and a name that nobody waits for any more is not looked up at all.
//!
//! Who comes first: those that wait are served in their order, and what was slow the last time stands behind, on all threads
//! but one at the most and in every fourth turn at least. When even the first has waited long, every other turn goes to the
//! newest name: those before it are likely to be behind a name server that does not answer.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::failure::{Failure, Outcome};
use crate::pool::lock;
use crate::port::thread::spawn;

/// A name that takes longer is slow.
const SLOW: Duration = Duration::from_millis(500);
/// Slow names have one turn in so many, if one waits and a thread may take it.
const SLOW_TURN: u64 = 4;

/// What came of a name, the port of the addresses not set; for all who asked.
pub type Answer = Arc<io::Result<Vec<SocketAddr>>>;

/// The call that blocks.
pub type LookUp = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// The threads of one engine that resolve names; none before [`Resolver::begin`].
pub struct Resolver(Arc<Shared>);

/// All that a thread holds: nothing of the engine, so that one that hangs in its call may outlive it.
struct Shared {
    look_up: LookUp,
    most_threads: usize,
    most_slow: usize,
    state: Mutex<State>,
    /// There may be something to look up, or the end has come.
    work: Condvar,
    /// A thread has left, or has nothing of the engine at hand.
    quiet: Condvar,
}

#[derive(Default)]
struct State {
    threads: Vec<Thread>,
    has_ended: bool,
    /// Names under way: waiting, or being looked up.
    names: HashMap<Arc<str>, Lookup>,
    queue: Queue,
    /// What has come and was not fetched yet, by asker.
    answers: HashMap<u64, Answer>,
    latest_asker: u64,
    /// Names that were slow the last time.
    slow: HashSet<Arc<str>>,
}

struct Thread {
    handle: JoinHandle<()>,
    at: At,
}

/// What a thread does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// It waits for names, or has the state at hand.
    Work,
    /// It is in the call that blocks.
    LookUp,
    /// It is gone, or about to return.
    Left,
}

/// A name under way.
struct Lookup {
    is_slow: bool,
    /// Its place in the queue; None: it is being looked up.
    place: Option<u64>,
    /// Who waits for it.
    askers: BTreeMap<u64, Option<Waker>>,
}

/// The names that wait, in the order in which they came.
#[derive(Default)]
struct Queue {
    latest: u64,
    fresh: BTreeMap<u64, (Arc<str>, Instant)>,
    slow: BTreeMap<u64, (Arc<str>, Instant)>,
    /// How many slow names are being looked up.
    slow_under_way: usize,
    turns: u64,
}

impl Queue {
    fn push(&mut self, name: Arc<str>, is_slow: bool, now: Instant) -> u64 {
        self.latest += 1;
        let place = self.latest;
        self.of(is_slow).insert(place, (name, now));
        place
    }

    fn of(&mut self, is_slow: bool) -> &mut BTreeMap<u64, (Arc<str>, Instant)> {
        if is_slow { &mut self.slow } else { &mut self.fresh }
    }

    /// The next name for one of so many threads.
    fn take(&mut self, threads: usize, now: Instant) -> Option<Arc<str>> {
        let turn = self.turns + 1;
        let may_be_slow = self.slow_under_way < threads.saturating_sub(1).max(1);
        let is_slow_turn = self.fresh.is_empty() || turn % SLOW_TURN == 0;
        let slow = if may_be_slow && is_slow_turn { self.slow.pop_first() } else { None };
        let taken = match slow {
            Some(slow) => {
                self.slow_under_way += 1;
                Some(slow)
            }
            None => {
                let is_late = |(_, (_, since)): (&u64, &(_, Instant))| now.duration_since(*since) > SLOW;
                let takes_newest = turn % 2 == 1 && self.fresh.first_key_value().is_some_and(is_late);
                if takes_newest { self.fresh.pop_last() } else { self.fresh.pop_first() }
            }
        };
        let (_, (name, _)) = taken?;
        self.turns = turn;
        Some(name)
    }
}

impl State {
    fn ask(&mut self, name: &str, now: Instant) -> u64 {
        self.latest_asker += 1;
        let asker = self.latest_asker;
        if let Some(lookup) = self.names.get_mut(name) {
            lookup.askers.insert(asker, None);
            return asker;
        }
        let name: Arc<str> = name.into();
        let is_slow = self.slow.contains(&name);
        let place = Some(self.queue.push(name.clone(), is_slow, now));
        self.names.insert(name, Lookup { is_slow, place, askers: BTreeMap::from([(asker, None)]) });
        asker
    }

    /// This one waits no more. Whoever calls drops the waker without the lock.
    fn forget(&mut self, name: &str, asker: u64) -> Option<Waker> {
        self.answers.remove(&asker);
        let lookup = self.names.get_mut(name)?;
        let waker = lookup.askers.remove(&asker).flatten();
        if let (true, Some(place)) = (lookup.askers.is_empty(), lookup.place) {
            self.queue.of(lookup.is_slow).remove(&place);
            self.names.remove(name);
        }
        waker
    }

    fn begin(&mut self, threads: usize, now: Instant) -> Option<Arc<str>> {
        let name = self.queue.take(threads, now)?;
        if let Some(lookup) = self.names.get_mut(&name) {
            lookup.place = None;
        }
        Some(name)
    }

    /// The answer for all who asked; gives whom to wake.
    fn answered(
        &mut self,
        name: &Arc<str>,
        answer: io::Result<Vec<SocketAddr>>,
        is_slow: bool,
        most_slow: usize,
    ) -> Vec<Waker> {
        if !is_slow {
            self.slow.remove(name);
        } else if !self.slow.contains(name) {
            // What was slow is forgotten, all of it, before it takes more room than the names that there can be.
            if self.slow.len() >= most_slow {
                self.slow.clear();
            }
            self.slow.insert(name.clone());
        }
        let Some(lookup) = self.names.remove(name) else { return Vec::new() };
        self.queue.slow_under_way -= usize::from(lookup.is_slow);
        let answer = Arc::new(answer);
        let mut wakers = Vec::new();
        for (asker, waker) in lookup.askers {
            self.answers.insert(asker, answer.clone());
            wakers.extend(waker);
        }
        wakers
    }
}

impl Shared {
    fn wait<'a>(&self, on: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        on.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// One thread: looks names up until the end.
    fn run(&self, number: usize) {
        let mut state = lock(&self.state);
        while !state.has_ended {
            let threads = state.threads.len();
            let Some(name) = state.begin(threads, Instant::now()) else {
                state = self.wait(&self.work, state);
                continue;
            };
            state.threads[number].at = At::LookUp;
            drop(state);
            let begun = Instant::now();
            let answer = (self.look_up)(&name);
            let is_slow = begun.elapsed() > SLOW;
            state = lock(&self.state);
            if state.has_ended {
                // Nobody waits for this thread, and what it knew of the engine is gone.
                return;
            }
            state.threads[number].at = At::Work;
            let wakers = state.answered(&name, answer, is_slow, self.most_slow);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
            state = lock(&self.state);
        }
        state.threads[number].at = At::Left;
        self.quiet.notify_all();
    }
}

impl Resolver {
    /// With so many threads once they are needed, for an engine that has at most `most_names` names at a time.
    pub fn new(threads: u32, most_names: u32, look_up: LookUp) -> Resolver {
        Resolver(Arc::new(Shared {
            look_up,
            most_threads: threads as usize,
            most_slow: most_names as usize,
            state: Mutex::default(),
            work: Condvar::new(),
            quiet: Condvar::new(),
        }))
    }

    /// Starts the threads that are not there yet. It is an error only when there is none at all.
    pub fn begin(&self) -> Outcome<()> {
        let mut state = lock(&self.0.state);
        while !state.has_ended && state.threads.len() < self.0.most_threads {
            let (shared, number) = (self.0.clone(), state.threads.len());
            match spawn(format!("wharf-dns-{number}"), 0, move || shared.run(number)) {
                Ok(handle) => state.threads.push(Thread { handle, at: At::Work }),
                Err(error) if state.threads.is_empty() => {
                    let mut failure = Failure::from_io("start a thread that resolves names", &error);
                    failure.message += "; raise the limit of threads (ulimit -u, pids.max of the cgroup)";
                    return Err(failure);
                }
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Asks for the addresses of a name; dropped, it asks no more.
    pub fn ask<'a>(&'a self, name: &'a str) -> Asking<'a> {
        let asker = lock(&self.0.state).ask(name, Instant::now());
        self.0.work.notify_one();
        Asking { shared: &self.0, name, asker }
    }

    /// Ends the threads. One that hangs in its call is left to itself: it ends by itself later and touches nothing but what
    /// it has of its own.
    pub fn end(&self) {
        let mut state = lock(&self.0.state);
        state.has_ended = true;
        self.0.work.notify_all();
        while state.threads.iter().any(|thread| thread.at == At::Work) {
            state = self.0.wait(&self.0.quiet, state);
        }
        let threads = std::mem::take(&mut state.threads);
        let (names, answers) = (std::mem::take(&mut state.names), std::mem::take(&mut state.answers));
        drop(state);
        drop((names, answers));
        for thread in threads.into_iter().filter(|thread| thread.at == At::Left) {
            // It returns at once.
            let _ = thread.handle.join();
        }
    }
}

/// Somebody who waits for a name.
pub struct Asking<'a> {
    shared: &'a Shared,
    name: &'a str,
    asker: u64,
}

impl Future for Asking<'_> {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        let mut state = lock(&self.shared.state);
        if let Some(answer) = state.answers.remove(&self.asker) {
            return Poll::Ready(answer);
        }
        let place = state.names.get_mut(self.name).and_then(|lookup| lookup.askers.get_mut(&self.asker));
        let before = place.and_then(|waker| waker.replace(context.waker().clone()));
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        // The waker goes without the lock: dropping it may drop the task of another who asked.
        let waker = lock(&self.shared.state).forget(self.name, self.asker);
        drop(waker);
    }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;

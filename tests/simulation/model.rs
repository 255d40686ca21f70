//! What must be true: the connections, streams and debts as the host knows them, kept beside the engine's own. Every
//! callback is compared with it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;

use fastrand::Rng;
use wharf::ffi::*;
use wharf::port::sim;
use wharf::status::*;

use crate::common;
use crate::plan::Plan;
pub use crate::records::{Conn, Endpoint, Pauses, Stream};

/// Everything that is known of a run.
pub struct Model {
    pub plan: Plan,
    pub random: Rng,
    /// For what callbacks do.
    pub callback_random: Rng,
    pub engine: wharf_engine,
    pub is_destroyed: bool,
    pub receive_buffer_bytes: usize,
    pub max_connections: u64,
    pub pool_bytes: u64,
    pub buffer_bytes: usize,
    /// A call of the host is under way in which no callback may come.
    pub in_call: bool,
    pub depth: u32,
    /// Callbacks only look on.
    pub is_polite: bool,
    pub endpoints: Vec<Endpoint>,
    pub conns: Vec<Conn>,
    pub by_handle: BTreeMap<wharf_conn, usize>,
    pub streams: Vec<[Stream; 2]>,
    pub next_token: u64,
    pub failure: Option<String>,
    /// What happened, folded into a number: two runs of a seed must agree in it.
    pub digest: u64,
    pub trace: Option<Vec<String>>,
    /// How often each thing happened, where that is asked for.
    pub tally: Option<BTreeMap<String, u64>>,
}

thread_local! {
    static MODEL: RefCell<Option<Model>> = const { RefCell::new(None) };
}

pub fn begin(model: Model) {
    MODEL.with(|place| place.replace(Some(model)));
}

/// Calls with this thread's model; nothing of the engine may be called meanwhile.
pub fn model<R>(call: impl FnOnce(&mut Model) -> R) -> R {
    MODEL.with(|model| call(model.borrow_mut().as_mut().expect("a run is under way")))
}

/// What is wrong is kept; the first is the one that counts.
pub fn fail(what: impl Into<String>) {
    model(|model| model.fail(what));
}

/// A call of the host, in which no callback may come.
pub fn call<R>(call: impl FnOnce() -> R) -> R {
    let before = model(|model| std::mem::replace(&mut model.in_call, true));
    let result = call();
    model(|model| model.in_call = before);
    result
}

/// Notes a line of the trace, where one is kept.
macro_rules! note {
    ($($part:tt)*) => { $crate::model::model(|model| model.note(format_args!($($part)*))) };
}
pub(crate) use note;

impl Model {
    pub fn fail(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.note(format_args!("FAILED: {what}"));
        self.failure.get_or_insert(what);
    }

    pub fn note(&mut self, line: std::fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            let mut text = format!("{:>10} ", sim::now_ms());
            let _ = text.write_fmt(line);
            trace.push(text);
        }
    }

    /// Counts something that happened.
    pub fn count(&mut self, what: impl FnOnce() -> String) {
        if let Some(tally) = &mut self.tally {
            *tally.entry(what()).or_default() += 1;
        }
    }

    /// Folds something into the digest.
    pub fn fold(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x100_0000_01b3).rotate_left(23);
    }

    pub fn stream(&mut self, link: u32, end: usize) -> &mut Stream {
        let link = link as usize;
        if self.streams.len() <= link {
            self.streams.resize_with(link + 1, Default::default);
        }
        &mut self.streams[link][end]
    }

    /// Bytes left an end.
    pub fn left(&mut self, link: u32, end: usize, data: &[u8]) {
        self.stream(link, end).expected.extend(data);
    }

    /// Bytes of an end were received at the other.
    pub fn arrived(&mut self, link: u32, from: usize, data: &[u8]) {
        self.fold(data.len() as u64);
        let expected = &mut self.stream(link, from).expected;
        if data.len() > expected.len() {
            let surplus = data.len() - expected.len();
            return self.fail(format!("link {link}: {surplus} bytes arrived that were never sent from end {from}"));
        }
        let is_same = expected.drain(..data.len()).eq(data.iter().copied());
        if !is_same {
            self.fail(format!("link {link}: other bytes arrived than were sent from end {from}"));
        }
    }

    /// The end of a stream was received: everything must have come before it.
    pub fn ended(&mut self, link: u32, from: usize) {
        let missing = self.stream(link, from).expected.len();
        if missing == 0 {
            return;
        }
        let sender = self.conns.iter().find(|conn| conn.link == link && conn.end == from);
        // What a close threw away as asked never comes.
        let may_be_cut = sender.is_some_and(|conn| {
            conn.closing >= 3
                || self.endpoints[conn.endpoint].is_destroyed
                || self.is_destroyed
                || conn.is_closed && !matches!(conn.reason, WHARF_OK | WHARF_E_END_OF_STREAM | WHARF_E_STOPPED)
        });
        if !may_be_cut {
            self.fail(format!("link {link}: the stream from end {from} ended cleanly, {missing} bytes short"));
        }
    }

    /// The connection that a callback tells of; it must be open.
    fn told(&mut self, endpoint: usize, handle: wharf_conn, what: &str) -> Option<usize> {
        let Some(place) = self.by_handle.get(&handle).copied() else {
            self.fail(format!("{what} of a connection that was never opened"));
            return None;
        };
        if self.conns[place].is_closed {
            self.fail(format!("{what} after on_close"));
        }
        if self.conns[place].must_end && !["on_receive", "on_sent", "on_close"].contains(&what) {
            self.fail(format!("{what} after on_receive while paused"));
        }
        if self.conns[place].endpoint != endpoint {
            self.fail(format!("{what} went to the handler of another endpoint"));
        }
        Some(place)
    }

    pub fn enter(&mut self, endpoint: usize, what: &str) {
        self.fold(what.len() as u64 ^ (endpoint as u64) << 8);
        self.count(|| what.to_string());
        if self.in_call {
            self.fail(format!("{what} inside a call"));
        }
        if self.depth > 0 {
            self.fail(format!("{what} inside another callback"));
        }
        if self.endpoints.get(endpoint).is_none_or(|endpoint| endpoint.is_dropped) {
            self.fail(format!("{what} after on_drop"));
        }
        self.depth += 1;
    }

    pub fn opened(&mut self, endpoint: usize, handle: wharf_conn, link: Option<u32>) {
        let Some(link) = link else { return self.fail("on_open: the connection's address is none of this world") };
        let end = usize::from(self.endpoints[endpoint].is_server);
        if self.by_handle.contains_key(&handle) {
            self.fail("on_open with a handle that another connection had: a stale handle names somebody else");
        }
        if self.conns.iter().any(|conn| conn.link == link && conn.end == end) {
            self.fail("on_open twice for one connection");
        }
        self.by_handle.insert(handle, self.conns.len());
        self.attempted(endpoint, WHARF_OK);
        self.note(format_args!("conn {} of endpoint {endpoint} opened: link {link} end {end}", self.conns.len()));
        self.conns.push(Conn {
            handle,
            endpoint,
            link,
            end,
            is_closed: false,
            reason: WHARF_OK,
            closing: 0,
            is_paused: false,
            must_end: false,
            is_stopped: self.endpoints[endpoint].is_stopped,
            has_ended: false,
            owed_writable: false,
            may_be_writable: false,
            tokens: VecDeque::new(),
            taken: 0,
        });
    }

    /// An attempt of a client has its outcome: it must not have come too soon after the one before.
    fn attempted(&mut self, endpoint: usize, reason: wharf_status) {
        let now_ms = sim::now_ms();
        let client = &mut self.endpoints[endpoint];
        let too_soon = client.pauses.attempted(now_ms).filter(|_| reason != WHARF_E_STOPPED);
        if let Some((gap, least)) = too_soon {
            self.fail(format!("a client tried again after {gap} ms; the pause is at least {least} ms"));
        }
    }

    pub fn received(&mut self, endpoint: usize, handle: wharf_conn, data: &[u8]) {
        let Some(place) = self.told(endpoint, handle, "on_receive") else { return };
        let conn = &self.conns[place];
        let (link, end, bytes) = (conn.link, conn.end, data.len());
        let (is_paused, is_closing, has_ended) = (conn.is_paused, conn.closing >= 2, conn.has_ended);
        self.note(format_args!("conn {place}: {bytes} bytes received"));
        // What came before the end is told before it, paused or not.
        self.conns[place].must_end |= is_paused;
        if is_closing {
            self.fail("on_receive after the connection was closed");
        }
        if has_ended {
            self.fail("on_receive after on_end");
        }
        if data.is_empty() || data.len() > self.receive_buffer_bytes {
            self.fail(format!("on_receive with {bytes} bytes"));
        }
        self.arrived(link, 1 - end, data);
    }

    pub fn sent(&mut self, endpoint: usize, handle: wharf_conn, token: u64, status: wharf_status, bytes_out: u64) {
        let Some(place) = self.told(endpoint, handle, "on_sent") else { return };
        self.note(format_args!("conn {place}: token {token} sent, {}", common::name(status)));
        self.count(|| format!("told of a send: {}", common::name(status)));
        match self.conns[place].tokens.pop_front() {
            None => self.fail("on_sent with no send outstanding"),
            Some((first, _)) if first != token => self.fail("on_sent out of order"),
            Some((_, until)) if status == WHARF_OK && bytes_out < until => {
                self.fail(format!("on_sent says that it left: {bytes_out} bytes did, it ends at {until}"));
            }
            Some(_) => {}
        }
    }

    pub fn writable(&mut self, endpoint: usize, handle: wharf_conn) {
        let Some(place) = self.told(endpoint, handle, "on_writable") else { return };
        self.note(format_args!("conn {place}: writable"));
        let conn = &mut self.conns[place];
        if !(std::mem::take(&mut conn.owed_writable) | std::mem::take(&mut conn.may_be_writable)) {
            self.fail("on_writable although no send was refused");
        }
    }

    pub fn peer_ended(&mut self, endpoint: usize, handle: wharf_conn) {
        let Some(place) = self.told(endpoint, handle, "on_end") else { return };
        self.note(format_args!("conn {place}: peer ended"));
        if std::mem::replace(&mut self.conns[place].has_ended, true) {
            self.fail("on_end twice");
        }
        let (link, end) = (self.conns[place].link, self.conns[place].end);
        self.ended(link, 1 - end);
    }

    pub fn closed(&mut self, endpoint: usize, handle: wharf_conn, reason: wharf_status, bytes_out: Option<u64>) {
        self.fold(reason as u64);
        let of = if handle == 0 { "attempt" } else { "connection" };
        self.count(|| format!("{of} ended: {}", common::name(reason)));
        if reason == WHARF_E_PANIC {
            self.fail("a fault inside the library was contained");
        }
        if handle == 0 {
            self.note(format_args!("endpoint {endpoint}: connect failed, {}", common::name(reason)));
            if self.endpoints[endpoint].is_server {
                self.fail("on_close of a server with connection 0");
            }
            self.attempted(endpoint, reason);
        } else {
            let Some(place) = self.told(endpoint, handle, "on_close") else { return };
            self.note(format_args!("conn {place}: closed, {}", common::name(reason)));
            self.close_is_right(place, reason, bytes_out);
            let conn = &mut self.conns[place];
            conn.is_closed = true;
            conn.reason = reason;
        }
        self.endpoints[endpoint].pauses.ended(sim::now_ms(), handle == 0);
    }

    fn close_is_right(&mut self, place: usize, reason: wharf_status, bytes_out: Option<u64>) {
        let conn = &self.conns[place];
        let (link, end, taken, closing) = (conn.link, conn.end, conn.taken, conn.closing);
        if !conn.tokens.is_empty() {
            self.fail("on_close before the on_sent of each token");
        }
        let Some(bytes_out) = bytes_out else { return self.fail("the handle is not good inside on_close") };
        if bytes_out > taken {
            self.fail(format!("{bytes_out} bytes left, {taken} were taken"));
        }
        if reason == WHARF_OK && closing == 0 {
            self.fail("on_close says that we closed it, which we did not");
        }
        if reason == WHARF_OK && closing <= 2 && bytes_out != taken {
            self.fail(format!("closed with FLUSH and WHARF_OK, but {} bytes never left", taken - bytes_out));
        }
        let is_pull = self.endpoints[self.conns[place].endpoint].is_pull;
        let is_asked = closing >= 2 || self.conns[place].is_stopped || self.is_destroyed;
        if reason == WHARF_E_RESET && !is_asked && !is_pull && sim::unread_at_close(link, end) > 0 {
            self.fail(format!("{} bytes that came before a reset were not told", sim::unread_at_close(link, end)));
        }
        if reason == WHARF_E_END_OF_STREAM {
            self.ended(link, 1 - end);
            if bytes_out != taken && closing < 3 {
                self.fail(format!("closed with END_OF_STREAM, but {} bytes never left", taken - bytes_out));
            }
        }
    }

    pub fn dropped(&mut self, endpoint: usize) {
        self.note(format_args!("endpoint {endpoint}: dropped"));
        if self.conns.iter().any(|conn| conn.endpoint == endpoint && !conn.is_closed) {
            self.fail("on_drop before the last on_close");
        }
        if !self.endpoints[endpoint].is_destroyed && !self.is_destroyed {
            self.fail("on_drop of an endpoint that was not destroyed");
        }
        self.endpoints[endpoint].is_dropped = true;
    }
}

impl Model {
    pub fn next_token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }
}

impl Model {
    /// Whether somebody reads at this end of a link: a peer does, and a connection of the engine that is not in pull mode.
    pub fn is_read(&self, link: u32, end: usize) -> bool {
        let conn = self.conns.iter().find(|conn| conn.link == link && conn.end == end);
        conn.is_none_or(|conn| !self.endpoints[conn.endpoint].is_pull)
    }
}

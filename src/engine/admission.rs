//! Who may come in, and how fast: what a server asks before a connection gets a place.

use std::net::IpAddr;

use super::accept::Refusal;
use super::address_list::AddressList;
use super::config::ServerConfig;
use super::connection::Peer;
use super::endpoint::Endpoint;
use super::failure::Outcome;
use super::log::Line;
use super::worker::Desk;
use crate::pool::bucket::{Bucket, Token};
use crate::pool::lock;
use crate::port::Port;

/// The lists and the bucket of one server.
#[derive(Debug)]
pub struct Admission {
    allow: AddressList,
    deny: AddressList,
    bucket: Option<Bucket>,
}

impl Admission {
    /// Of a (validated) configuration; None when it lets everybody in.
    pub fn new(config: &ServerConfig) -> Outcome<Option<Box<Admission>>> {
        let list = |name: &str, text: &Option<String>| AddressList::parse(name, text.as_deref().unwrap_or_default());
        let (allow, deny) = (list("allow", &config.allow)?, list("deny", &config.deny)?);
        let rate = config.accept_rate_per_s;
        let bucket = (rate > 0).then(|| Bucket::new(rate, config.accept_burst));
        let lets_everybody_in = allow.is_empty() && deny.is_empty() && bucket.is_none();
        Ok((!lets_everybody_in).then(|| Box::new(Admission { allow, deny, bucket })))
    }

    /// Whether the lists let a peer in: the denied never, else those that are allowed, or all when nobody is. A peer
    /// without an address is in no list.
    pub(super) fn lists_admit(&self, ip: Option<IpAddr>) -> bool {
        let Some(ip) = ip else { return true };
        !self.deny.contains(ip) && (self.allow.is_empty() || self.allow.contains(ip))
    }

    /// A token of the bucket, if there is a bucket; or the time at which there will be one.
    pub(super) fn token(&self, now_ns: impl FnOnce() -> u64) -> Result<Option<Token<'_>>, u64> {
        self.bucket.as_ref().map(|bucket| bucket.take(now_ns())).transpose()
    }
}

/// The user is being asked about a peer: its last call must not come before this has returned.
struct Asking<'a, P: Port>(&'a Endpoint<P>);

impl<P: Port> Drop for Asking<'_, P> {
    fn drop(&mut self) {
        let mut book = lock(&self.0.book);
        book.asking -= 1;
        let is_awaited = book.shut && book.asking == 0;
        drop(book);
        if is_awaited {
            self.0.signal.notify();
        }
    }
}

impl<P: Port> Endpoint<P> {
    fn begin_to_ask(&self) -> Option<Asking<'_, P>> {
        let mut book = lock(&self.book);
        if book.shut {
            return None;
        }
        book.asking += 1;
        Some(Asking(self))
    }
}

impl<P: Port> Desk<'_, P> {
    /// Asks the user, if it wants to be asked.
    pub(super) fn ask(&mut self, endpoint: &Endpoint<P>, peer: Peer) -> Result<(), Refusal> {
        if !endpoint.wants.admit {
            return Ok(());
        }
        let Some(_asking) = endpoint.begin_to_ask() else { return Err(Refusal::Stopped) };
        let mut text = Line::default();
        // An address is far shorter than a line.
        let _ = std::fmt::write(&mut text, format_args!("{peer}"));
        let admitted = endpoint.handler.on_admit(text.text());
        self.called();
        if admitted { Ok(()) } else { Err(Refusal::ByHost) }
    }
}

//! Who may come in, and how fast: what a server asks before a connection gets a place.

use std::net::IpAddr;

use super::address_list::AddressList;
use crate::engine::config::ServerConfig;
use crate::engine::failure::Outcome;
use crate::pool::bucket::{Bucket, Token};

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

//! How many connections each address has, where a server bounds that.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

use crate::engine::connection::owner::OwnerEvents;
use crate::engine::connection::peer::Peer;
use crate::pool::lock;
use crate::pool::room::NoMemory;

/// The connections of a server by peer.
pub struct PerIp {
    /// Connections that one address may have; 0: no bound, and nothing is counted.
    most: u32,
    counts: Mutex<HashMap<IpAddr, u32>>,
}

/// IPv6 peers are counted by their /64.
fn key_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

impl PerIp {
    /// Nobody is here; room for so many connections is set aside, if they are counted.
    pub fn new(most: u32, max_connections: u32) -> Result<PerIp, NoMemory> {
        let places = if most > 0 { max_connections as usize } else { 0 };
        let mut counts = HashMap::new();
        counts.try_reserve(places)?;
        Ok(PerIp { most, counts: Mutex::new(counts) })
    }

    /// Counts a peer in, unless it has its share already.
    #[inline]
    pub fn admits(&self, ip: Option<IpAddr>) -> bool {
        let Some(ip) = ip.filter(|_| self.most > 0) else { return true };
        let mut counts = lock(&self.counts);
        let count = counts.entry(key_of(ip)).or_insert(0);
        let admits = *count < self.most;
        *count += u32::from(admits);
        admits
    }

    /// Counts a peer out.
    pub fn remove(&self, ip: Option<IpAddr>) {
        let Some(ip) = ip.filter(|_| self.most > 0) else { return };
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&key_of(ip)) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key_of(ip));
            }
        }
    }
}

/// A server's connections tell it when they are gone.
pub struct PerIpEvents(pub std::sync::Arc<PerIp>);

impl OwnerEvents for PerIpEvents {
    fn left(&self, peer: Peer) {
        self.0.remove(peer.ip());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_peers_of_one_64_count_together_and_ipv4_peers_each_for_itself() {
        let key = |ip: &str| key_of(ip.parse().unwrap());
        assert_eq!(key("2001:db8:0:7::1"), key("2001:db8:0:7:ffff:ffff:ffff:ffff"));
        assert_ne!(key("2001:db8:0:7::1"), key("2001:db8:0:8::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}

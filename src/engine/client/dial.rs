//! One connect: resolve, then happy eyeballs (RFC 8305): the addresses in turn, families interleaved, a new attempt
//! each 250 ms or as soon as one fails, until one succeeds or the deadline passes.

use std::net::SocketAddr;
use std::sync::Arc;

use super::client::Client;
use super::race::Race;
use crate::engine::failure::{Failure, Outcome};
use crate::port::{Address, Port, Target};
use crate::status::Status;

pub(super) use super::race::Route;

/// The most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 16;

/// Resolver order, but families alternate, beginning with the family of the first (RFC 8305, section 4).
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut order = Vec::new();
    while !first.is_empty() || !second.is_empty() {
        order.extend(first.pop());
        order.extend(second.pop());
    }
    order
}

/// The address with the port that the user named, where the resolver knows of none.
fn with_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    if address.port() == 0 {
        address.set_port(port);
    }
    address
}

impl<P: Port> Client<P> {
    /// Resolves and connects within one deadline.
    pub(super) async fn dial(&self) -> Outcome<Route<P>> {
        let (to, ms) = (&self.config.address, self.config.connect_timeout_ms);
        let until_ns = self.workers.now_ns() + u64::from(ms) * 1_000_000;
        let addresses = match &self.target {
            Target::Address(address) => vec![address.clone()],
            Target::Host { name, port } => {
                let late = || format!("resolve {name}: the resolver gave no answer within {ms} ms");
                let addresses = self.before(until_ns, self.resolve(name), late).await?;
                let addresses = interleave(addresses).into_iter().take(MOST_ADDRESSES);
                addresses.map(|address| Address::from(with_port(address, *port))).collect()
            }
        };
        let stream = &self.config.connection.stream;
        let mut race = Race::new(&self.workers, self.local.as_ref(), stream);
        let late = || match &self.target {
            // Nothing else keeps such a connect waiting.
            Target::Address(address) if address.is_unix() => format!("connect {to}: its backlog was full for {ms} ms"),
            _ => format!("connect {to}: no answer within {ms} ms"),
        };
        self.before(until_ns, race.run(addresses), late).await
    }

    /// What comes of this, if it comes in time.
    async fn before<T>(
        &self,
        until_ns: u64,
        step: impl Future<Output = Outcome<T>>,
        late: impl Fn() -> String,
    ) -> Outcome<T> {
        let timeout = async {
            self.workers.sleep_until(until_ns).await;
            Err(Failure::new(Status::Timeout, late()))
        };
        smol::future::or(step, timeout).await
    }

    async fn resolve(&self, name: &str) -> Outcome<Vec<SocketAddr>> {
        let found = if P::LOOK_UP_BLOCKS {
            self.resolver.begin()?;
            self.resolver.ask(name).await
        } else {
            Arc::new(self.workers.port().resolve(name).await)
        };
        let failure = match &*found {
            Ok(addresses) if !addresses.is_empty() => return Ok(addresses.clone()),
            Ok(_) => format!("resolve {name}: no address; check the name"),
            Err(error) => format!("resolve {name}: {error}; check the name and the resolver"),
        };
        Err(Failure::new(Status::Resolve, failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate_and_keep_their_order() {
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let order =
            interleave(["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"].into_iter().map(parse).collect());
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"].map(parse);
        assert_eq!(order, expected);
    }
}

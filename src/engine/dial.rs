//! One connect: resolve, then happy eyeballs (RFC 8305): the addresses in turn, families interleaved, a new attempt
//! each 250 ms or as soon as one fails, until one succeeds or the deadline passes.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use super::client::Client;
use super::core::{Core, Dial};
use super::failure::{Failure, Outcome};
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::{Address, Port, Target};
use crate::status::Status;

/// "Connection Attempt Delay" of RFC 8305, section 5.
const STAGGER_NS: u64 = 250_000_000;
/// The most addresses of a name that are tried.
const MOST_ADDRESSES: usize = 16;

/// A connection that was made.
pub struct Route<P: Port> {
    pub socket: P::Socket,
    pub peer: Option<SocketAddr>,
}

/// Attempts under way.
struct Attempts<'a, P: Port> {
    core: &'a Core<P>,
    running: Vec<Attempt<P>>,
    latest_failure: Option<Failure>,
}

struct Attempt<P: Port> {
    key: u64,
    address: Address,
    socket: Option<P::Socket>,
}

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

impl<P: Port> Core<P> {
    /// Connects within the deadline.
    pub(super) async fn dial(self: &Arc<Self>, client: &Client) -> Outcome<Route<P>> {
        let outside = &self.workers[0];
        let deadline = outside.port.now_ns() + u64::from(client.config.connect_timeout_ms) * 1_000_000;
        let timeout = async {
            outside.tasks.sleep_until(deadline, || outside.port.now_ns()).await;
            let (to, ms) = (&client.config.address, client.config.connect_timeout_ms);
            Err(Failure::new(Status::Timeout, format!("connect {to}: no answer within {ms} ms")))
        };
        smol::future::or(self.dial_target(client), timeout).await
    }

    async fn dial_target(self: &Arc<Self>, client: &Client) -> Outcome<Route<P>> {
        let addresses = match &client.target {
            Target::Address(address) => vec![address.clone()],
            Target::Host { name, port } => interleave(self.resolve(name, *port).await?)
                .into_iter()
                .take(MOST_ADDRESSES)
                .map(Address::from)
                .collect(),
        };
        let mut attempts = Attempts { core: self, running: Vec::new(), latest_failure: None };
        attempts.race(addresses, client).await
    }

    async fn resolve(&self, name: &str, port: u16) -> Outcome<Vec<SocketAddr>> {
        let failure = match self.workers[0].port.resolve(name, port).await {
            Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
            Ok(_) => format!("resolve {name}: no address; check the name"),
            Err(error) => format!("resolve {name}: {error}; check the name and the resolver"),
        };
        Err(Failure::new(Status::Resolve, failure))
    }
}

impl<P: Port> Attempts<'_, P> {
    async fn race(&mut self, addresses: Vec<Address>, client: &Client) -> Outcome<Route<P>> {
        let outside = &self.core.workers[0];
        let mut waiting = addresses.into_iter().peekable();
        loop {
            // Begin one; those that fail at once are followed by the next at once.
            for address in waiting.by_ref() {
                if self.begin(address, client) {
                    break;
                }
            }
            if self.running.is_empty() {
                let none = || Failure::new(Status::Resolve, "the name has no address");
                return Err(self.latest_failure.take().unwrap_or_else(none));
            }
            if waiting.peek().is_some() {
                let at = outside.port.now_ns() + STAGGER_NS;
                let pause = outside.tasks.sleep_until(at, || outside.port.now_ns());
                smol::future::or(self.any_ended(), pause).await;
            } else {
                self.any_ended().await;
            }
            if let Some(route) = self.take_winner() {
                return Ok(route);
            }
        }
    }

    /// Begins one attempt; false when it failed at once.
    fn begin(&mut self, address: Address, client: &Client) -> bool {
        let outside = &self.core.workers[0];
        let local = client.local.as_ref().filter(|local| local.is_same_family(&address));
        if client.local.is_some() && local.is_none() {
            let message = format!("connect {address}: the local address is of another family");
            self.latest_failure = Some(Failure::new(Status::AddressNotAvailable, message));
            return false;
        }
        let handle = Handle {
            kind: Kind::Dial,
            engine: self.core.handle.engine,
            index: 0,
            generation: self.core.next_dial_number(),
        };
        let key = handle.to_bits();
        lock(&self.core.dials).insert(key, Dial::default());
        let mut attempt = Attempt { key, address, socket: None };
        let begun =
            outside.port.connect(&attempt.address, local, &client.config.connection.stream).and_then(|socket| {
                outside.port.attach(&socket, key)?;
                Ok(socket)
            });
        match begun {
            Ok(socket) => {
                attempt.socket = Some(socket);
                self.running.push(attempt);
                true
            }
            Err(error) => {
                lock(&self.core.dials).remove(&key);
                self.latest_failure = Some(Failure::from_io(&format!("connect {}", attempt.address), &error));
                false
            }
        }
    }

    /// Waits until an attempt has ended, well or not.
    async fn any_ended(&self) {
        poll_fn(|context| {
            let mut dials = lock(&self.core.dials);
            let mut ended = self.running.is_empty();
            for attempt in &self.running {
                if let Some(dial) = dials.get_mut(&attempt.key) {
                    ended |= dial.ended;
                    dial.waker = Some(context.waker().clone());
                }
            }
            if ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Takes the attempts that have ended out; gives the first that succeeded.
    fn take_winner(&mut self) -> Option<Route<P>> {
        let mut place = 0;
        while place < self.running.len() {
            let ended = lock(&self.core.dials).get(&self.running[place].key).is_some_and(|dial| dial.ended);
            if !ended {
                place += 1;
                continue;
            }
            let mut attempt = self.running.swap_remove(place);
            lock(&self.core.dials).remove(&attempt.key);
            let Some(socket) = attempt.socket.take() else { continue };
            // From here on the socket is watched as a connection, by the worker that gets it.
            self.core.workers[0].port.detach(&socket);
            match P::connect_result(&socket) {
                Ok(()) => return Some(Route { socket, peer: attempt.address.socket_address() }),
                Err(error) => {
                    self.latest_failure = Some(Failure::from_io(&format!("connect {}", attempt.address), &error));
                }
            }
        }
        None
    }
}

impl<P: Port> Drop for Attempts<'_, P> {
    /// The attempts that lost, or that were given up, leave the port.
    fn drop(&mut self) {
        for attempt in self.running.drain(..) {
            lock(&self.core.dials).remove(&attempt.key);
            if let Some(socket) = &attempt.socket {
                self.core.workers[0].port.detach(socket);
            }
        }
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

    #[cfg(target_os = "linux")]
    mod racing {
        use std::net::{Ipv4Addr, TcpListener};
        use std::os::fd::OwnedFd;
        use std::sync::mpsc;
        use std::time::{Duration, Instant};

        use super::*;
        use crate::engine::api::Engine;
        use crate::engine::config::{ClientConfig, EngineConfig};
        use crate::engine::events::{Handler, Wants};
        use crate::port::epoll::EpollPort;
        use crate::port::{ListenOptions, socket::Socket};

        struct Nobody;

        impl Handler for Nobody {
            fn wants(&self) -> Wants {
                Wants::default()
            }
        }

        /// A place of the registry that no engine of the other tests gets to.
        fn engine(place: u8) -> Arc<Core<EpollPort>> {
            let handle = Handle { kind: Kind::Engine, engine: place, index: 0, generation: 1 };
            let config = EngineConfig::default().validated().unwrap();
            let (core, rings) = Core::<EpollPort>::create(config, handle, 1).unwrap();
            core.launch(rings).unwrap();
            core
        }

        /// Races to these addresses on an engine of its own; gives the winner and the time that it took.
        fn race(place: u8, addresses: Vec<SocketAddr>) -> (Outcome<Option<SocketAddr>>, Duration) {
            let core = engine(place);
            let config = ClientConfig { address: "127.0.0.1:9".to_string(), ..ClientConfig::default() };
            let client = core.client_create(config, Box::new(Nobody)).unwrap();
            let endpoint = core.endpoint(client, Kind::Client).unwrap();
            let (tell, told) = mpsc::channel();
            let story = core.clone();
            core.workers[0].tasks.spawn(async move {
                let begin = Instant::now();
                let mut attempts = Attempts { core: &story, running: Vec::new(), latest_failure: None };
                let addresses = addresses.into_iter().map(Address::from).collect();
                let route = attempts.race(addresses, endpoint.client().unwrap()).await;
                tell.send((route.map(|route| route.peer), begin.elapsed())).unwrap();
            });
            let result = told.recv_timeout(Duration::from_secs(30)).unwrap();
            core.destroy(0).unwrap();
            result
        }

        /// A listener whose backlog is full, so that connects to it get no answer.
        fn silent(core: &Core<EpollPort>) -> (Socket, Vec<OwnedFd>, SocketAddr) {
            let any = Address::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            let listener =
                core.workers[0].port.listen(&any, &ListenOptions { backlog: 1, ..Default::default() }).unwrap();
            let address = EpollPort::local_address(&listener).unwrap().socket_address().unwrap();
            let mut fill = Vec::new();
            while let Ok(peer) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
                fill.push(peer.into());
            }
            (listener, fill, address)
        }

        #[test]
        fn a_first_address_that_does_not_answer_is_overtaken_after_the_stagger() {
            let helper = engine(250);
            let (_listener, _fill, dead) = silent(&helper);
            let live = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = live.local_addr().unwrap();
            let (winner, took) = race(251, vec![dead, dead, address]);
            assert_eq!(winner.unwrap(), Some(address));
            assert!(took >= Duration::from_millis(490), "{took:?}: two staggers come before the third attempt");
            helper.destroy(0).unwrap();
        }

        #[test]
        fn a_first_address_that_refuses_is_followed_at_once_and_the_last_failure_is_told() {
            let refuses = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let live = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = live.local_addr().unwrap();
            let (winner, _) = race(252, vec![refuses, address]);
            assert_eq!(winner.unwrap(), Some(address));
            let (none, _) = race(253, vec![refuses, refuses]);
            assert_eq!(none.unwrap_err().status, Status::Refused);
        }
    }
}

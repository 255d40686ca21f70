//! The servers and clients of an engine: where their handles lead. Clients come behind the places of the servers.

use std::sync::{Arc, Mutex};

use super::client::client::{self, Client};
use super::client::resolver::Resolver;
use super::config::{ClientConfig, EngineConfig, MAX_SERVERS, ServerConfig};
use super::connection::layer::Layer;
use super::connection::owner::Retire;
use super::events::Handler;
use super::failure::{Failure, Outcome};
use super::server::server::{self, Server};
use super::signal::Signal;
use super::stats::Stats;
use super::worker::workers::Workers;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::pool::room::NoMemory;
use crate::port::Port;
use crate::status::Status;

/// All of them.
pub struct Owners<P: Port> {
    engine: u8,
    workers: Arc<Workers<P>>,
    /// Of the names of clients.
    pub(super) resolver: Arc<Resolver>,
    state: Mutex<State<P>>,
    /// Told when one has gone.
    pub(super) one_gone: Signal,
}

struct State<P: Port> {
    servers: Places<Server<P>>,
    clients: Places<Client<P>>,
    next_generation: u32,
    /// None may be made any more.
    shut: bool,
    /// Sums of those that are gone.
    gone: Stats,
}

/// The places of one kind.
struct Places<T> {
    kind: Kind,
    /// The index of the first.
    first: u32,
    most: u32,
    taken: Vec<Option<(Handle, Arc<T>)>>,
    free: Vec<u32>,
}

impl<T> Places<T> {
    fn new(kind: Kind, first: u32, most: u32) -> Places<T> {
        Places { kind, first, most, taken: Vec::new(), free: Vec::new() }
    }

    /// A handle for one more; None: there are as many as there may be.
    fn new_handle(&mut self, engine: u8, generation: u32) -> Result<Option<Handle>, NoMemory> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.taken.len() < self.most as usize => {
                self.taken.try_reserve(1)?;
                // None is free, and what is taken can be given back then.
                self.free.try_reserve(self.taken.len() + 1)?;
                self.taken.push(None);
                self.taken.len() as u32 - 1
            }
            None => return Ok(None),
        };
        Ok(Some(Handle { kind: self.kind, engine, index: self.first + place, generation }))
    }

    fn insert(&mut self, handle: Handle, one: Arc<T>) {
        self.taken[(handle.index - self.first) as usize] = Some((handle, one));
    }

    fn get(&self, bits: u64) -> Result<Arc<T>, Status> {
        let handle = Handle::from_bits(bits).ok_or(Status::Stale)?;
        if handle.kind != self.kind {
            return Err(Status::WrongKind);
        }
        let place = handle.index.checked_sub(self.first).ok_or(Status::Stale)?;
        match self.taken.get(place as usize) {
            Some(Some((taken, one))) if *taken == handle => Ok(one.clone()),
            _ => Err(Status::Stale),
        }
    }

    fn all(&self) -> Vec<Arc<T>> {
        self.taken.iter().flatten().map(|(_, one)| one.clone()).collect()
    }

    fn remove(&mut self, handle: Handle) -> Option<Arc<T>> {
        let place = handle.index - self.first;
        self.free.push(place);
        self.taken[place as usize].take().map(|(_, one)| one)
    }
}

impl<P: Port> Owners<P> {
    /// None.
    pub fn new(engine: u8, workers: Arc<Workers<P>>, config: &EngineConfig, first_generation: u32) -> Owners<P> {
        let EngineConfig { max_connections, resolver_threads, .. } = *config;
        Owners {
            engine,
            workers,
            resolver: Arc::new(Resolver::new(resolver_threads, max_connections, P::look_up)),
            state: Mutex::new(State {
                servers: Places::new(Kind::Server, 0, MAX_SERVERS),
                clients: Places::new(Kind::Client, MAX_SERVERS, max_connections),
                next_generation: first_generation,
                shut: false,
                gone: Stats::default(),
            }),
            one_gone: Signal::default(),
        }
    }

    /// Makes a server.
    pub fn create_server(
        self: &Arc<Self>,
        config: ServerConfig,
        handler: Box<dyn Handler>,
        layer: Option<Box<dyn Layer>>,
    ) -> Outcome<u64> {
        let most = self.workers.connections.table.places.len() as u32;
        let prepared = server::Prepared::new(config, most)?;
        let mut state = lock(&self.state);
        let full = "an engine has at most 64 servers: destroy one, or make another engine";
        let handle = state.new_handle(self.engine, |state| &mut state.servers, full)?;
        let made = Server::new(prepared, handle, handler, layer, &self.workers, self.retire());
        let server = made.inspect_err(|_| drop(state.servers.remove(handle)))?;
        state.servers.insert(handle, server);
        Ok(handle.to_bits())
    }

    /// Makes a client.
    pub fn create_client(self: &Arc<Self>, config: ClientConfig, handler: Box<dyn Handler>) -> Outcome<u64> {
        let prepared = client::Prepared::new(config)?;
        let mut state = lock(&self.state);
        let full = "an engine has at most max_connections clients: destroy one or raise max_connections";
        let handle = state.new_handle(self.engine, |state| &mut state.clients, full)?;
        let has_name = prepared.has_name();
        let made = Client::new(prepared, handle, handler, &self.workers, &self.resolver, self.retire());
        let client = made.inspect_err(|_| drop(state.clients.remove(handle)))?;
        state.clients.insert(handle, client);
        drop(state);
        if P::LOOK_UP_BLOCKS && has_name {
            // Where no thread can be had now there may be one later: each attempt tries again, and tells when it fails.
            let _ = self.resolver.begin();
        }
        Ok(handle.to_bits())
    }

    /// The last step of a server or client: its last callback has returned.
    fn retire(self: &Arc<Self>) -> Retire {
        let owners = Arc::downgrade(self);
        Box::new(move |handle, stats| {
            let Some(owners) = owners.upgrade() else { return };
            let mut state = lock(&owners.state);
            state.gone.add(stats);
            let removed = match handle.kind {
                Kind::Server => (state.servers.remove(handle), None),
                _ => (None, state.clients.remove(handle)),
            };
            drop(state);
            drop(removed);
            owners.one_gone.notify();
        })
    }

    /// The server that a handle names.
    pub fn server(&self, bits: u64) -> Result<Arc<Server<P>>, Status> {
        lock(&self.state).servers.get(bits)
    }

    /// The client that a handle names.
    pub fn client(&self, bits: u64) -> Result<Arc<Client<P>>, Status> {
        lock(&self.state).clients.get(bits)
    }

    /// Every server.
    pub fn servers(&self) -> Vec<Arc<Server<P>>> {
        lock(&self.state).servers.all()
    }

    /// Every client.
    pub fn clients(&self) -> Vec<Arc<Client<P>>> {
        lock(&self.state).clients.all()
    }

    /// Whether all are gone.
    pub fn is_empty(&self) -> bool {
        let state = lock(&self.state);
        state.servers.taken.iter().all(Option::is_none) && state.clients.taken.iter().all(Option::is_none)
    }

    /// None may be made any more.
    pub fn shut(&self) {
        lock(&self.state).shut = true;
    }

    /// The sums of all, gone and here.
    pub fn stats(&self) -> Stats {
        let (mut stats, servers, clients) = {
            let state = lock(&self.state);
            (state.gone, state.servers.all(), state.clients.all())
        };
        servers.iter().for_each(|server| stats.add(&server.stats()));
        clients.iter().for_each(|client| stats.add(&client.stats()));
        stats
    }

    /// No handle of a server or client has a generation above this.
    pub fn latest_generation(&self) -> u32 {
        lock(&self.state).next_generation
    }
}

impl<P: Port> State<P> {
    fn new_handle<T>(
        &mut self,
        engine: u8,
        places: impl FnOnce(&mut Self) -> &mut Places<T>,
        full: &str,
    ) -> Outcome<Handle> {
        if self.shut {
            return Err(Status::Stopped.into());
        }
        let generation = self.next_generation;
        let handle = places(self).new_handle(engine, generation)?;
        let handle = handle.ok_or_else(|| Failure::new(Status::Limit, full))?;
        self.next_generation = generation.wrapping_add(1);
        Ok(handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(places: &mut Places<u32>) -> Vec<Handle> {
        let mut generation = 0;
        let next = || {
            generation += 1;
            places.new_handle(3, generation).unwrap()
        };
        let handles: Vec<Handle> = std::iter::from_fn(next).collect();
        handles.iter().for_each(|handle| places.insert(*handle, Arc::new(handle.index)));
        handles
    }

    #[test]
    fn there_are_at_most_64_servers_and_clients_come_behind_them() {
        let mut servers = Places::new(Kind::Server, 0, MAX_SERVERS);
        let handles = full(&mut servers);
        assert!(handles.iter().map(|handle| handle.index).eq(0..64));
        assert_eq!(servers.all().len(), 64);
        let mut clients = Places::new(Kind::Client, MAX_SERVERS, 10);
        assert!(full(&mut clients).iter().map(|handle| handle.index).eq(64..74));
    }

    #[test]
    fn a_place_is_used_again_and_its_old_handle_is_stale() {
        let mut places = Places::new(Kind::Client, MAX_SERVERS, 3);
        let handles = full(&mut places);
        let old = handles[1];
        assert_eq!(places.remove(old).as_deref(), Some(&old.index));
        assert_eq!(places.get(old.to_bits()).unwrap_err(), Status::Stale);
        let new = places.new_handle(3, 9).unwrap().unwrap();
        assert_eq!(new.index, old.index);
        assert_eq!(places.get(new.to_bits()).unwrap_err(), Status::Stale, "it is not there yet");
        assert!(places.new_handle(3, 10).unwrap().is_none());
        places.insert(new, Arc::new(7));
        assert_eq!(*places.get(new.to_bits()).unwrap(), 7);
        assert_eq!(places.get(old.to_bits()).unwrap_err(), Status::Stale);
        assert_eq!(*places.get(handles[2].to_bits()).unwrap(), handles[2].index);
    }

    #[test]
    fn a_handle_of_another_kind_or_place_leads_nowhere() {
        let mut places = Places::new(Kind::Client, MAX_SERVERS, 3);
        let handle = full(&mut places)[0];
        assert_eq!(places.get(Handle { kind: Kind::Server, ..handle }.to_bits()).unwrap_err(), Status::WrongKind);
        for index in [0, MAX_SERVERS - 1, MAX_SERVERS + 3] {
            assert_eq!(places.get(Handle { index, ..handle }.to_bits()).unwrap_err(), Status::Stale);
        }
        assert_eq!(places.get(0).unwrap_err(), Status::Stale);
    }
}

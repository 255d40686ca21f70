//! Engines are made here, and found by the number in a handle.

use std::sync::Arc;

use super::api::{ConnectionCalls, Engine};
use super::config::{EngineConfig, PortChoice};
use super::connection::caller::Caller;
use super::connection::table::names_no_connection;
use super::connection::turn_context;
use super::core::{self, Core};
use super::failure::{Failure, Outcome};
use super::places::{self, PLACES, Registered, read};
use crate::likely::likely;
use crate::pool::handle::{Handle, Kind};
use crate::port::Port;
#[cfg(target_os = "linux")]
use crate::port::epoll::EpollPort;
use crate::port::faults::FaultyPort;
use crate::port::polling::PollingPort;
#[cfg(feature = "simulation")]
use crate::port::sim::SimPort;
use crate::status::Status;

/// Makes an engine; gives its handle.
pub fn create(config: &EngineConfig) -> Outcome<u64> {
    let config = config.validated()?;
    match (1..PLACES).find_map(places::take) {
        Some(handle) => create_at(config, handle),
        None => Err(Failure::new(Status::Limit, "255 engines live already: destroy one")),
    }
}

fn create_at(config: EngineConfig, handle: Handle) -> Outcome<u64> {
    let made = match config.port {
        #[cfg(target_os = "linux")]
        PortChoice::Auto | PortChoice::Epoll if config.faults => create_on::<FaultyPort<EpollPort>>(config, handle),
        #[cfg(target_os = "linux")]
        PortChoice::Auto | PortChoice::Epoll => create_on::<EpollPort>(config, handle),
        #[cfg(not(target_os = "linux"))]
        PortChoice::Epoll => {
            places::give_back_unused(handle);
            Err(Failure::new(Status::Unsupported, "the epoll port exists on Linux only: choose AUTO"))
        }
        #[cfg(feature = "simulation")]
        PortChoice::Sim => create_on::<SimPort>(config, handle),
        _ if config.faults => create_on::<FaultyPort<PollingPort>>(config, handle),
        _ => create_on::<PollingPort>(config, handle),
    };
    made.map(|()| handle.to_bits())
}

fn create_on<P: Port>(config: EngineConfig, handle: Handle) -> Outcome<()> {
    let made = Core::<P>::create(config, handle, handle.generation.wrapping_add(1));
    let (core, workers) = made.inspect_err(|_| places::give_back_unused(handle))?;
    let connections = core.workers.connections.clone();
    places::register(Registered { handle, engine: core.clone(), connections });
    core.launch(workers)
}

/// Bytes that an engine of this configuration sets aside.
pub fn footprint(config: &EngineConfig) -> Outcome<u64> {
    let config = config.validated()?;
    Ok(match config.port {
        #[cfg(target_os = "linux")]
        PortChoice::Auto | PortChoice::Epoll if config.faults => core::footprint::<FaultyPort<EpollPort>>(&config),
        #[cfg(target_os = "linux")]
        PortChoice::Auto | PortChoice::Epoll => core::footprint::<EpollPort>(&config),
        #[cfg(feature = "simulation")]
        PortChoice::Sim => core::footprint::<SimPort>(&config),
        _ if config.faults => core::footprint::<FaultyPort<PollingPort>>(&config),
        _ => core::footprint::<PollingPort>(&config),
    })
}

/// Finds the engine of a server, a client, or itself by a handle and calls with it. The engine checks the rest of the
/// handle; for an engine's own handle that is done here. Engine handle 0 is the default engine, made on first use.
pub fn with<R, E: From<Status>>(
    handle: u64,
    kind: Kind,
    call: impl FnOnce(&dyn Engine) -> Result<R, E>,
) -> Result<R, E> {
    if handle == 0 && kind == Kind::Engine {
        return call(&*default_engine().map_err(E::from)?);
    }
    let named = Handle::from_bits(handle).ok_or(E::from(Status::Stale))?;
    if named.kind != kind {
        return Err(E::from(Status::WrongKind));
    }
    // Not held while the engine works: it may be for long, and end with the engine.
    let found = match &read(named.engine.into()).engine {
        Some(registered) if kind != Kind::Engine || registered.handle == named => Some(registered.engine.clone()),
        _ => None,
    };
    call(&*found.ok_or(E::from(Status::Stale))?)
}

/// Finds the connections of a handle's engine for a call that never blocks; they check the handle whole. Tells in which
/// worker's callback this is called, if it is in one of that engine.
#[inline]
pub fn with_connection<R, E: From<Status>>(
    handle: u64,
    call: impl FnOnce(&dyn ConnectionCalls, Option<&Caller>) -> Result<R, E>,
) -> Result<R, E> {
    turn_context::with(|context| {
        match context.filter(|context| likely(context.caller.engine == Handle::engine_of(handle))) {
            // In a callback of the same engine they are at hand, without a lock.
            Some(context) => call(&*context.calls, Some(&context.caller)),
            None => match &read(Handle::engine_of(handle).into()).engine {
                Some(registered) => call(&*registered.connections, None),
                None => Err(E::from(names_no_connection(handle))),
            },
        }
    })
}

/// The same for a call that may wait.
pub fn with_connection_waiting<R>(
    handle: u64,
    call: impl FnOnce(&dyn ConnectionCalls) -> Result<R, Status>,
) -> Result<R, Status> {
    let found = read(Handle::engine_of(handle).into()).engine.as_ref().map(|registered| registered.connections.clone());
    call(&*found.ok_or_else(|| names_no_connection(handle))?)
}

/// The engine in place 0, made when it is first asked for; when it was destroyed, another is made.
fn default_engine() -> Result<Arc<dyn Engine>, Status> {
    let find = || read(0).engine.as_ref().map(|registered| registered.engine.clone());
    if let Some(engine) = find() {
        return Ok(engine);
    }
    // Those who come while it is being made wait for it.
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = crate::pool::lock(&MAKING);
    if find().is_none() {
        let config = EngineConfig::default().validated().map_err(|failure| failure.status)?;
        if let Some(handle) = places::take(0) {
            create_at(config, handle).map_err(|failure| failure.status)?;
        }
    }
    find().ok_or(Status::State)
}

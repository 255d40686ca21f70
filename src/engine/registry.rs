//! Where engines are found by the number in a handle. At most 255 live at a time; place 0 is the default engine's.

use std::sync::{Arc, Mutex, RwLock};

use super::api::Engine;
use super::config::{EngineConfig, PortChoice};
use super::core::{self, Core};
use super::failure::{Failure, Outcome};
use super::local::{self, Local};
use crate::likely::likely;
use crate::pool::handle::{Handle, Kind};
use crate::pool::lock;
use crate::port::Port;
#[cfg(target_os = "linux")]
use crate::port::epoll::EpollPort;
use crate::port::faults::FaultyPort;
use crate::port::polling::PollingPort;
#[cfg(feature = "simulation")]
use crate::port::sim::SimPort;
use crate::status::Status;

const PLACES: usize = 256;

struct Place {
    /// Taken by an engine that lives or is being made.
    taken: bool,
    /// Above every generation that was ever given out here.
    generation: u32,
    engine: Option<(Handle, Arc<dyn Engine>)>,
}

static TABLE: [RwLock<Place>; PLACES] =
    [const { RwLock::new(Place { taken: false, generation: 1, engine: None }) }; PLACES];
/// One at a time makes the default engine.
static DEFAULT: Mutex<()> = Mutex::new(());

fn read(place: usize) -> std::sync::RwLockReadGuard<'static, Place> {
    TABLE[place].read().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn write(place: usize) -> std::sync::RwLockWriteGuard<'static, Place> {
    TABLE[place].write().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes an engine; gives its handle.
pub fn create(config: &EngineConfig) -> Outcome<u64> {
    let config = config.validated()?;
    for place in 1..PLACES {
        if let Some(handle) = take_place(place) {
            return create_at(config, handle);
        }
    }
    Err(Failure::new(Status::Limit, "255 engines live already: destroy one"))
}

fn take_place(place: usize) -> Option<Handle> {
    let mut entry = write(place);
    if entry.taken {
        return None;
    }
    entry.taken = true;
    Some(Handle { kind: Kind::Engine, engine: place as u8, index: 0, generation: entry.generation })
}

fn create_at(config: EngineConfig, handle: Handle) -> Outcome<u64> {
    let made = match config.port {
        #[cfg(target_os = "linux")]
        PortChoice::Auto | PortChoice::Epoll if config.faults => create_on::<FaultyPort<EpollPort>>(config, handle),
        #[cfg(target_os = "linux")]
        PortChoice::Auto | PortChoice::Epoll => create_on::<EpollPort>(config, handle),
        #[cfg(not(target_os = "linux"))]
        PortChoice::Epoll => {
            write(handle.engine.into()).taken = false;
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
    let (core, rings) = made.inspect_err(|_| write(handle.engine.into()).taken = false)?;
    write(handle.engine.into()).engine = Some((handle, core.clone()));
    core.launch(rings)
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

/// The engine is gone: its place is free, and whatever is made there next has later generations.
pub(super) fn strike(handle: Handle, latest_generation: u32) {
    let mut place = write(handle.engine.into());
    let gone = place.engine.take();
    place.generation = latest_generation.wrapping_add(1);
    place.taken = false;
    drop(place);
    drop(gone);
}

/// Finds the engine that a handle belongs to and calls with it. The engine checks the rest of the handle; for an engine's
/// own handle that is done here. Engine handle 0 is the default engine, made on first use.
#[inline]
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
    if kind == Kind::Connection {
        // In a callback of the same engine it is at hand, without a lock.
        let mut call = Some(call);
        let result = local::with(|local| {
            let local = local.filter(|local| local.place == named.engine)?;
            call.take().map(|call| call(&*local.engine))
        });
        return match (result, call) {
            (Some(result), _) => result,
            (None, Some(call)) => call_found(named, kind, call),
            (None, None) => Err(E::from(Status::Stale)),
        };
    }
    call_found(named, kind, call)
}

fn call_found<R, E: From<Status>>(
    named: Handle,
    kind: Kind,
    call: impl FnOnce(&dyn Engine) -> Result<R, E>,
) -> Result<R, E> {
    let found = match &read(named.engine.into()).engine {
        Some((own, engine)) if kind != Kind::Engine || *own == named => Some(engine.clone()),
        _ => None,
    };
    call(&*found.ok_or(E::from(Status::Stale))?)
}

/// The same for a call on a connection that never blocks; the engine checks the handle whole. Tells in which worker's
/// callback this is called, if it is in one of that engine.
#[inline]
pub fn with_connection(
    handle: u64,
    call: impl FnOnce(&dyn Engine, Option<&Local>) -> Result<(), Status>,
) -> Result<(), Status> {
    local::with(|local| match local.filter(|local| likely(local.place == Handle::engine_of(handle))) {
        // In a callback of the same engine it is at hand, without a lock.
        Some(local) => call(&*local.engine, Some(local)),
        None => match &read(Handle::engine_of(handle).into()).engine {
            Some((_, engine)) => call(&**engine, None),
            None => Err(core::names_no_connection(handle)),
        },
    })
}

fn default_engine() -> Result<Arc<dyn Engine>, Status> {
    let find = || read(0).engine.as_ref().map(|(_, engine)| engine.clone());
    if let Some(engine) = find() {
        return Ok(engine);
    }
    let _one_at_a_time = lock(&DEFAULT);
    if find().is_none() {
        let config = EngineConfig::default().validated().map_err(|failure| failure.status)?;
        if let Some(handle) = take_place(0) {
            create_at(config, handle).map_err(|failure| failure.status)?;
        }
    }
    find().ok_or(Status::State)
}

//! What all workers of an engine share, and what servers and clients have of them: connections, tasks, and keys.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::*};

use super::sources::Sources;
use super::tasks::Tasks;
use crate::engine::config::EngineConfig;
use crate::engine::connection::connections::Connections;
use crate::pool::room::{self, NoMemory};
use crate::port::Port;

/// The workers of one engine, seen from outside of their loops.
pub struct Workers<P: Port> {
    pub(in crate::engine) connections: Arc<Connections<P>>,
    /// The tasks of each worker.
    pub(in crate::engine) tasks: Box<[Tasks]>,
    pub(in crate::engine) sources: Sources<P>,
    /// They leave their loops.
    is_exiting: AtomicBool,
}

impl<P: Port> Workers<P> {
    /// Sets everything aside that they share.
    pub fn new(
        config: &EngineConfig,
        engine: u8,
        first_generation: u32,
        ports: Vec<P>,
    ) -> Result<Workers<P>, NoMemory> {
        let now_ns = ports[0].now_ns();
        Ok(Workers {
            tasks: room::filled(ports.len(), |_| Tasks::new(now_ns))?,
            connections: Arc::new(Connections::new(config, engine, first_generation, ports)?),
            sources: Sources::new(engine),
            is_exiting: AtomicBool::new(false),
        })
    }

    /// The port of the first worker, through which everything is begun that is no worker's own.
    pub(in crate::engine) fn port(&self) -> &P {
        &self.connections.links[0].port
    }

    /// The clock.
    pub(in crate::engine) fn now_ns(&self) -> u64 {
        self.port().now_ns()
    }

    /// Begins a task on the first worker; it runs in a later turn, never inside this call.
    pub(in crate::engine) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks[0].spawn(task);
    }

    /// Waits until the clock shows this; for tasks.
    pub(in crate::engine) async fn sleep_until(&self, at_ns: u64) {
        self.tasks[0].timers.sleep_until(at_ns, || self.now_ns()).await;
    }

    /// Every worker watches a listener.
    pub(in crate::engine) fn watch(&self, listener: &P::Socket, key: u64) -> io::Result<()> {
        self.connections.links.iter().try_for_each(|link| link.port.attach_listener(listener, key))
    }

    /// None watches it any more.
    pub(in crate::engine) fn unwatch(&self, listener: &P::Socket) {
        for link in &self.connections.links {
            link.port.detach(listener);
        }
    }

    /// They leave their loops soon.
    pub(in crate::engine) fn exit(&self) {
        self.is_exiting.store(true, SeqCst);
        self.connections.links.iter().for_each(|link| link.post());
    }

    /// Whether they were told to.
    pub(in crate::engine) fn is_exiting(&self) -> bool {
        self.is_exiting.load(SeqCst)
    }
}

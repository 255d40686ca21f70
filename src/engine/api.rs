//! The engine as its users see it, whichever port it runs on. The C ABI and Rust programs call this, and
//! [`ConnectionCalls`] for connections, and nothing below.

use super::config::{ClientConfig, ServerConfig};
use super::events::Handler;
use super::failure::Outcome;
use super::stats::Stats;
use crate::port::{FaultPlan, OsHandle};
use crate::status::Status;

pub use super::connection::calls::{ConnectionCalls, Patience};
pub use super::connection::close::Close;
pub use super::server::broadcast::Broadcast;

/// Everything that can be asked of an engine. Objects are named by handles; each call checks its own.
pub trait Engine: Send + Sync {
    /// Runs one turn (caller-driven engines). Gives the number of completions.
    fn turn(&self, patience: Patience) -> Result<u32, Status>;
    /// A descriptor that is readable when a turn is due (caller-driven engines).
    fn descriptor(&self) -> Outcome<OsHandle>;
    /// Ends the current or the next wait of every worker.
    fn wake(&self) -> Result<(), Status>;
    /// The counters of the whole engine.
    fn stats(&self) -> Stats;
    /// Faults happen as this plan says, on an engine that was made for it.
    fn set_faults(&self, plan: FaultPlan) -> Outcome<()>;
    /// What it holds at this moment.
    #[cfg(feature = "testing")]
    fn counts(&self) -> super::counts::Counts;
    /// Drains for at most `drain_ms`, then resets what is left, then frees all. Blocks until done, except in callbacks.
    fn destroy(&self, drain_ms: u32) -> Result<(), Status>;

    /// Makes a server, stopped. When it fails the handler was not taken and none of its calls comes.
    fn server_create(&self, config: ServerConfig, handler: Box<dyn Handler>) -> Outcome<u64>;
    /// The same with a layer that cuts the stream into messages (see `layers/length_prefix.rs`).
    #[cfg(feature = "testing")]
    fn server_create_length_prefixed(&self, config: ServerConfig, handler: Box<dyn Handler>) -> Outcome<u64>;
    /// Binds and listens.
    fn server_start(&self, server: u64) -> Outcome<()>;
    /// Stops accepting at once and drains behind.
    fn server_stop(&self, server: u64, drain_ms: u32) -> Result<(), Status>;
    /// Blocks until the server is stopped.
    fn server_wait(&self, server: u64, patience: Patience) -> Result<(), Status>;
    /// Stops and frees it.
    fn server_destroy(&self, server: u64) -> Result<(), Status>;
    /// Whether it listens.
    fn server_is_running(&self, server: u64) -> Result<bool, Status>;
    /// Where it listens (the real port), or what it was configured with.
    fn server_address(&self, server: u64) -> Result<String, Status>;
    /// Writes the handles of its connections; gives how many there are.
    fn server_connections(&self, server: u64, out: &mut dyn FnMut(u64)) -> Result<usize, Status>;
    /// Sends to all connections but `except` (0: to all).
    fn server_broadcast(&self, server: u64, data: &[u8], except: u64) -> Result<Broadcast, Status>;
    /// The counters of a server.
    fn server_stats(&self, server: u64) -> Result<Stats, Status>;

    /// Makes a client, stopped. When it fails the handler was not taken.
    fn client_create(&self, config: ClientConfig, handler: Box<dyn Handler>) -> Outcome<u64>;
    /// Begins to connect.
    fn client_start(&self, client: u64) -> Outcome<()>;
    /// The connection of now.
    fn client_connection(&self, client: u64) -> Result<u64, Status>;
    /// Blocks until connected, or tells why not.
    fn client_wait(&self, client: u64, patience: Patience) -> Outcome<()>;
    /// Stops connecting, and closes the connection, queued bytes first.
    fn client_stop(&self, client: u64) -> Result<(), Status>;
    /// Stops at once and frees it.
    fn client_destroy(&self, client: u64) -> Result<(), Status>;
    /// The counters of a client.
    fn client_stats(&self, client: u64) -> Result<Stats, Status>;
}

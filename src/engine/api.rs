//! The engine as its users see it, whichever port it runs on. The C ABI and Rust programs call this and nothing below.

use std::net::SocketAddr;

use super::config::{ClientConfig, ServerConfig, Timeouts};
use super::events::Handler;
use super::failure::Outcome;
use super::local::Local;
use super::stats::{ConnectionStats, Stats};
use crate::port::FaultPlan;
use crate::status::Status;

/// How a connection is closed; stronger ways override weaker ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Close {
    /// Queued bytes leave, then FIN; receiving goes on (half-close).
    SendSide = 1,
    /// Queued bytes leave, then FIN, then wait for the peer's FIN or the linger deadline.
    Flush = 2,
    /// Drop the queue and close.
    Now = 3,
    /// Drop the queue and send RST.
    Reset = 4,
}

/// How long to wait in calls that block: None waits for ever.
pub type Patience = Option<std::time::Duration>;

/// How many connections a broadcast reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broadcast {
    /// Connections that took the bytes.
    pub taken: u32,
    /// Connections whose queue or the pool had no room, or that were closing.
    pub refused: u32,
}

/// Everything that can be asked of an engine. Objects are named by handles; each call checks its own.
pub trait Engine: Send + Sync {
    /// Runs one turn (caller-driven engines). Gives the number of completions.
    fn turn(&self, patience: Patience) -> Result<u32, Status>;
    /// A descriptor that is readable when a turn is due (caller-driven engines).
    fn descriptor(&self) -> Outcome<i32>;
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

    /// Takes the usual send, an answer in a callback, where nothing is in its way. False: nothing was done, and
    /// [`Engine::send`] must see to it. `caller` is as there.
    fn answer(&self, conn: u64, data: &[u8], caller: &Local) -> bool;
    /// Sends all of the slices as one piece, or nothing. A token other than 0 asks for one `on_sent`. `caller` is the
    /// worker of this engine in whose callback the call is made, if it is made in one.
    fn send(&self, conn: u64, slices: &[&[u8]], token: u64, caller: Option<&Local>) -> Result<(), Status>;
    /// Sends, waiting for room; says how many bytes were taken whatever the result.
    fn send_wait(&self, conn: u64, data: &[u8], patience: Patience, taken: &mut usize) -> Result<(), Status>;
    /// Reads, waiting for bytes (pull mode).
    fn receive_wait(&self, conn: u64, buffer: &mut [u8], patience: Patience) -> Result<usize, Status>;
    /// Stops receiving.
    fn pause(&self, conn: u64) -> Result<(), Status>;
    /// Receives again.
    fn resume(&self, conn: u64) -> Result<(), Status>;
    /// Closes.
    fn close(&self, conn: u64, how: Close) -> Result<(), Status>;
    /// Keeps a word for the user.
    fn set_data(&self, conn: u64, data: usize) -> Result<(), Status>;
    /// Gives it back.
    fn data(&self, conn: u64) -> Result<usize, Status>;
    /// "192.0.2.7:40112"; a Unix peer without a name is "unix:".
    fn peer_address(&self, conn: u64) -> Result<String, Status>;
    /// Our end.
    fn local_address(&self, conn: u64) -> Result<String, Status>;
    /// Changes the deadlines of one connection.
    fn set_timeouts(&self, conn: u64, timeouts: Timeouts) -> Outcome<()>;
    /// The counters of one connection.
    fn connection_stats(&self, conn: u64) -> Result<ConnectionStats, Status>;
}

/// The address as the engine prints it: IPv4 peers of a dual-mode listener as plain IPv4.
pub fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

//! What can be asked of a connection, from any thread and in any callback. Each call checks its handle.

use std::time::Duration;

use super::caller::Caller;
use super::close::Close;
use crate::engine::config::Timeouts;
use crate::engine::failure::Outcome;
use crate::engine::stats::ConnectionStats;
use crate::status::Status;

/// How long to wait in calls that block: None waits for ever.
pub type Patience = Option<Duration>;

/// The calls on connections, whichever port the engine runs on.
pub trait ConnectionCalls: Send + Sync {
    /// Takes the usual send, an answer in a callback, where nothing is in its way. False: nothing was done, and
    /// [`ConnectionCalls::send`] must see to it. `caller` is as there.
    fn answer(&self, conn: u64, data: &[u8], caller: &Caller) -> bool;
    /// Sends all of the slices as one piece, or nothing. A token other than 0 asks for one `on_sent`. `caller` is the
    /// worker of this engine in whose callback the call is made, if it is made in one.
    fn send(&self, conn: u64, slices: &[&[u8]], token: u64, caller: Option<&Caller>) -> Result<(), Status>;
    /// Sends, waiting for room; says how many bytes were taken whatever the result.
    fn send_wait(&self, conn: u64, data: &[u8], patience: Patience, taken: &mut usize) -> Result<(), Status>;
    /// Reads into the caller's buffer (pull mode), waiting for bytes.
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

//! The system calls of Unix. What the ports on Unix differ in - how they learn that a socket is ready - is their own
//! ([`ReadinessPort`]); everything else they share, and it is in here.

mod bound_path;
mod clock;
mod connect;
mod descriptor;
pub(super) mod errors;
pub mod fork;
pub(super) mod limits;
mod listen;
pub(super) mod message_calls;
pub(super) mod options;
mod readiness_port;
mod sockaddr;
mod socket;
mod stream;
pub mod thread;

pub(super) use clock::now_ns;
pub(super) use descriptor::wait_until_readable;
pub(super) use errors::{connection_reset, out_of_descriptors, status_of_number};
pub use readiness_port::ReadinessPort;
pub use socket::Socket;

//! Hostile peers over real sockets: what they do, the server that they do it to, and the clients that must not notice. Used
//! by the tests (correctness, bounds, counters) and by the benchmark (figures).

// Figures are for the benchmark only.
#![allow(dead_code)]

pub mod attacks;
pub mod echo;
pub mod files;
pub mod honest;
pub mod network;
pub mod scenario;
pub mod server;
pub mod server_process;
pub mod sockets;
pub mod watch;

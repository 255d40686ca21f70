//! What happens, in safe Rust: worker loops, servers, clients, connections, deadlines, stories.

#![forbid(unsafe_code)]

mod accept;
mod adopt;
pub mod api;
mod client;
mod closing;
pub mod config;
mod connection;
mod core;
mod cork;
mod deadlines;
mod dial;
mod dispatch;
mod endpoint;
pub mod events;
mod facade;
pub mod failpoint;
pub mod failure;
mod handshakes;
mod lifecycle;
mod local;
mod log;
pub mod registry;
mod send;
mod send_queue;
mod server;
pub mod stats;
mod tasks;
mod worker;

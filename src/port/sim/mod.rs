//! A simulated network, clock and kernel, driven by one seed: the port on which everything that can go wrong does. Only
//! with the feature `simulation`, and never in a library that is installed.
//!
//! Each thread has a world of its own. A caller-driven engine that is made on a thread lives in that thread's world, and
//! so do the [`Peer`]s that talk to it; everything in it happens on that one thread, so a seed always plays the same.
//! `tests/simulation.rs` does the playing.

mod clock;
mod control;
pub mod faults;
mod hosts;
mod link;
mod network;
mod peer;
mod port;
mod readiness;
mod resolver;
mod sockets;
mod world;

pub use control::*;
pub use hosts::{FIRST_PORT, REFUSES, SILENT, UNREACHABLE, link_of};
pub use peer::Peer;
pub use port::SimPort;

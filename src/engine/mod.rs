//! What happens, in safe Rust. From the top floor down, and arrows point only downward:
//!
//! | room | what |
//! | --- | --- |
//! | [`registry`], [`api`], `core`, `lifecycle`, `owners` | the engine as its users see it: where handles lead, how it begins and ends |
//! | [`server`], [`client`] | listen, accept, admission, drain; resolve, dial, reconnect |
//! | [`worker`] | one loop: its turns, tasks, timers, and to whom an event belongs |
//! | [`layers`] | what stands between the stream and the handler |
//! | [`connection`] | one connection: receive, send, cork, close, deadlines |
//! | [`config`], [`events`], [`failure`], [`stats`], `log`, `wake`, `signal` | words that all of them use; they use nothing above |

#![forbid(unsafe_code)]

pub mod api;
mod client;
pub mod config;
mod connection;
mod core;
#[cfg(feature = "testing")]
pub mod counts;
mod driven;
pub mod events;
pub mod failpoint;
pub mod failure;
mod layers;
mod life;
mod lifecycle;
mod log;
pub mod mutant;
mod owners;
mod places;
pub mod registry;
mod server;
mod signal;
pub mod stats;
mod turning;
mod wake;
mod worker;

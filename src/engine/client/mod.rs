//! Clients: resolve, dial, reconnect.
//!
//! **Owns** the target, the attempts under way and the pauses between them. **May call** workers (register a key, begin a task,
//! wait for a time) and connections (take a place, make a connection of a socket, close it). **Is called by** the engine, on
//! behalf of the host, and by a worker when a connect has ended ([`race`]).
//!
//! | file | what |
//! | --- | --- |
//! | [`client`] | made, started, stopped, waited for |
//! | [`reconnect`] | its task: connect, see the connection out, pause, again |
//! | [`dial`], [`race`] | one connect: resolve, then the addresses against each other |
//! | [`resolver`] | the few threads on which names are resolved |

#[allow(clippy::module_inception)]
pub mod client;
mod dial;
mod race;
mod reconnect;
pub mod resolver;

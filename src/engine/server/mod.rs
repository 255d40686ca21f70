//! Servers: listen, accept, admission, drain.
//!
//! **Owns** the listener, the permits, and who may come in. **May call** workers (register a key, begin a task) and connections
//! (take a place, make a connection of a socket, close members). **Is called by** the engine, on behalf of the host; by a
//! worker when its listener has connections ([`accept`]); and by whoever gives a place back.
//!
//! | file | what |
//! | --- | --- |
//! | [`server`] | made, started, waited for |
//! | [`accept`], [`backlog`], [`pace`] | as many as there are places for, none after a stop; pauses |
//! | [`judge`], [`admission`], [`address_list`], [`per_ip`] | who is let in |
//! | [`drain`] | how it stops |
//! | [`broadcast`] | the same bytes to all |

mod accept;
mod address_list;
mod admission;
mod backlog;
pub mod broadcast;
mod drain;
mod judge;
mod pace;
mod per_ip;
#[allow(clippy::module_inception)]
pub mod server;

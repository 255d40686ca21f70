//! One loop: its turns, the tasks that wait on it, and to whom what the port reports belongs.
//!
//! **Owns** the loop and what only it touches ([`event_loop`]), the tasks and their timers ([`tasks`], [`timers`]), and the
//! keys of the port ([`sources`]). **May call** connections and the port. **Is called by** the engine (begin, turn, exit) and
//! by servers and clients, which register keys, begin tasks and make connections of sockets ([`workers`]).
//!
//! It knows connections and "some key that somebody registered", but no accepts and no dials.

mod dispatch;
pub mod event_loop;
pub mod sources;
pub mod tasks;
pub mod timers;
pub mod workers;

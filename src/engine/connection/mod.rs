//! One connection: receive, send, cork, close, its deadlines and its rate, and what it knows of its owner.
//!
//! **Owns** the table of connections, the pool that their queues are made of, and the list of those that wait for blocks
//! ([`connections`]). **May call** the pool, the port, and the words of the engine (configuration, events, statistics,
//! log). **Is called by** workers ([`turn`]: something happened), by servers and clients ([`place`]: there is a socket), by
//! layers, and by any thread of the host ([`calls`]).
//!
//! It knows its owner by what it needs of it ([`owner`]: handler, knobs, members, and two events), not as a server or a
//! client; its worker as a port, a ready list and a clock ([`worker_link`]); a layer as a trait ([`layer`]).
//!
//! | file | what |
//! | --- | --- |
//! | [`state`] | a place of the table; phases and flags |
//! | [`sender`], [`send_steps`] | the sending side: five states in one picture, and the steps between them |
//! | [`send_queue`], [`cork`], [`block_waiters`] | where bytes wait |
//! | [`calls`], [`wait`] | what the host asks of a connection; what blocks |
//! | [`receive`], [`ending`], [`deadlines`], [`receive_rate`] | what happens on its worker |
//! | [`turn`], [`turn_context`] | what is at hand meanwhile; in whose turn a call is made |
//! | [`peer`], [`peer_name`] | who is at the other end |
//! | [`table`], [`place`] | where handles lead; how places are taken and given back |

mod block_waiters;
pub mod caller;
pub mod calls;
pub mod close;
mod closing;
mod connection_calls;
pub mod connections;
mod cork;
mod deadlines;
mod ending;
mod flush;
pub mod layer;
pub mod locked;
pub mod outgoing;
pub mod owner;
pub mod parking;
pub mod peer;
mod peer_name;
pub mod place;
pub mod place_waiters;
mod rate_meter;
mod receive;
mod receive_rate;
mod send_queue;
pub mod send_steps;
pub mod sender;
pub mod state;
pub mod table;
mod through_layer;
pub mod turn;
pub mod turn_context;
mod wait;
pub mod worker_link;

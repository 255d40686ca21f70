//! What stands between the stream of a connection and its handler; none by default, and then it costs nothing.
//!
//! A layer **owns** what it keeps for its connections, in blocks of the pool. It **may call** what is above it and below it
//! (`Up`, `Down`: the handler and the queue, as it sees them) and the pool. It **is called by** a connection: bytes came, the
//! user sends, the connection is gone (`connection/layer.rs`).
//!
//! Bytes up: port -> layer -> handler. Sends down: handler -> layer -> queue. Before a connection with a layer is read, blocks
//! are reserved for all that the receive can bring; where there are none, it is read no further until there are.

#[cfg(feature = "testing")]
pub mod length_prefix;

//! Wharf: a bounded, pooled TCP engine - server and client - behind a C ABI.
//!
//! The C ABI is in [`ffi`] (its header is `include/wharf.h`); Rust programs may use [`engine`] directly. Arrows point
//! downward only: `ffi -> engine -> pool, port`.

#![deny(clippy::undocumented_unsafe_blocks)]

pub mod engine;
pub mod ffi;
mod likely;
pub mod pool;
pub mod port;
pub mod status;
mod sync;

//! The C ABI, one file per object of the header. Pointers become references here and nowhere else; an exported function
//! is guard, convert, engine call, status. Names are the C names; the comments of what is exported are the text of
//! `wharf.h`.

#![allow(non_camel_case_types)]
// What makes a call safe is the same for all of them and stands once, in the conventions at the top of the header.
#![allow(clippy::missing_safety_doc)]
// The comments are written for the C reader: "[::1]:80" is an address and no link.
#![allow(rustdoc::broken_intra_doc_links)]

mod client;
mod conn;
mod connection_config;
mod convert;
mod engine;
mod faults;
mod guard;
mod handler;
mod server;
mod stats;
mod status;
#[cfg(feature = "testing")]
mod testing;
mod text;
mod traffic;
mod types;
mod version;

pub use client::*;
pub use conn::*;
pub use engine::*;
pub use faults::*;
pub use handler::*;
pub use server::*;
pub use stats::*;
pub use status::*;
#[cfg(feature = "testing")]
pub use testing::*;
pub use traffic::*;
pub use types::*;
pub use version::*;

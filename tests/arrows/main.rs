//! The rooms of the house: arrows point downward only and never in a circle, a type is implemented where it is defined,
//! `unsafe` stays where it may be, each block with its reason, and nothing grows too large.

mod graph;
mod rules;

use std::path::Path;

use graph::{Sources, Tree};

fn read(root: &Path, folder: &Path, sources: &mut Sources) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
            sources.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// The sources of the library.
fn ours() -> Sources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Sources::new();
    read(&root, &root, &mut sources);
    sources
}

fn sources(files: &[(&str, &str)]) -> Sources {
    files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
}

fn tree(files: &[(&str, &str)]) -> Tree {
    Tree::of(&sources(files))
}

/// Which files the faults are in.
#[track_caller]
fn found(faults: Vec<String>, expected: &[&str]) {
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, part) in faults.iter().zip(expected) {
        assert!(fault.contains(part), "{part} is not in: {fault}");
    }
}

#[test]
fn the_sources_keep_every_rule() {
    let sources = ours();
    let tree = Tree::of(&sources);
    assert!(tree.files.len() > 30 && tree.references.len() > 300, "only {} files were looked at", tree.files.len());
    let mut faults = rules::circles(&tree);
    faults.extend(rules::order(&tree));
    faults.extend(rules::homes(&tree));
    faults.extend(rules::unsafety(&tree));
    faults.extend(rules::lengths(&sources));
    faults.extend(rules::widths(&tree));
    faults.extend(rules::needless_exceptions(&tree));
    assert!(faults.is_empty(), "{faults:#?}");
}

/// A crate as it is meant to be, with a file of each room.
const SOUND: &[(&str, &str)] = &[
    ("lib.rs", "pub mod engine; pub mod ffi; pub mod pool; pub mod port; pub mod status; mod sync;"),
    ("status.rs", "pub enum Status { Ok } #[cfg(test)] mod tests { use crate::ffi::conn::send; }"),
    ("sync.rs", "pub use std::sync::Arc;"),
    ("pool/mod.rs", "pub mod blocks; pub fn lock() {} pub use blocks::Blocks;"),
    ("pool/blocks.rs", "use super::lock; use crate::status::Status; pub struct Blocks; impl Blocks {}"),
    ("port/mod.rs", "mod epoll; pub trait Port {} pub use epoll::Epoll; #[cfg(test)] mod tests;"),
    ("port/epoll.rs", "use super::Port; pub struct Epoll; impl Port for Epoll {}"),
    ("port/tests.rs", "use crate::engine::api::Engine; mod more;"),
    ("port/tests/more.rs", "use crate::engine::api::Engine;"),
    ("engine/mod.rs", "pub mod api; mod client; pub mod config; mod connection; mod server; mod worker;"),
    ("engine/config.rs", "use crate::{port::Port, status::{self, Status}}; pub struct ServerConfig;"),
    ("engine/connection/mod.rs", "pub mod state; pub mod send;"),
    ("engine/connection/state.rs", "use crate::engine::config; use super::send::queue; pub struct Connection;"),
    ("engine/connection/send.rs", "use crate::pool::Blocks; pub fn queue(_: &crate::pool::blocks::Blocks) {}"),
    ("engine/worker/mod.rs", "mod turn; pub use turn::Worker;"),
    ("engine/worker/turn.rs", "use crate::engine::connection::state::Connection; pub struct Worker;"),
    ("engine/server/mod.rs", "use super::worker::Worker; pub struct Server;"),
    ("engine/client/mod.rs", "use super::worker::Worker; pub struct Client;"),
    ("engine/api.rs", "use super::{client::Client, server::Server}; pub struct Engine;"),
    ("ffi/mod.rs", "pub mod conn;"),
    ("ffi/conn.rs", "use crate::engine::api::Engine; pub fn send() {}"),
];

/// The sound crate with these files instead of its own, or beside them.
fn changed(files: &[(&'static str, &'static str)]) -> Tree {
    let kept = SOUND.iter().filter(|(path, _)| !files.iter().any(|(other, _)| other == path));
    tree(&kept.chain(files).copied().collect::<Vec<_>>())
}

#[test]
fn a_sound_crate_keeps_every_rule() {
    let tree = changed(&[]);
    assert_eq!(tree.files.len(), SOUND.len() - 2, "the files of tests are left out");
    for rule in [rules::circles, rules::order, rules::homes, rules::unsafety, rules::widths] {
        assert_eq!(rule(&tree), Vec::<String>::new());
    }
    found(rules::lengths(&sources(SOUND)), &[]);
}

#[test]
fn a_circle_of_files_is_found_and_told() {
    let circle = changed(&[
        ("pool/blocks.rs", "use super::slots::Slots; pub struct Blocks;"),
        ("pool/slots.rs", "pub struct Slots; fn x() {\n    super::permits::take();\n}"),
        ("pool/permits.rs", "use crate::pool::{lock, blocks::{self, Blocks}};"),
    ]);
    let faults = rules::circles(&circle);
    found(faults.clone(), &["3 files in a circle"]);
    for arrow in [
        "pool/blocks.rs:1 names pool/slots.rs",
        "pool/slots.rs:2 names pool/permits.rs",
        "pool/permits.rs:1 names pool/blocks.rs",
    ] {
        assert!(faults[0].contains(arrow), "{arrow} is not in: {}", faults[0]);
    }
    // By a macro's tokens, by a module that was named before, and across rooms.
    let circle = changed(&[
        ("pool/blocks.rs", "macro_rules! m { () => { $crate::pool::slots::f() } } pub struct Blocks;"),
        ("pool/slots.rs", "use super::permits; fn x() { permits::take() }"),
        ("pool/permits.rs", "fn x() { assert!(self::deep::y()); } mod deep { use super::super::blocks::Blocks; }"),
        ("status.rs", "use crate::sync::Arc;"),
        ("sync.rs", "fn x() { println!(\"{}\", crate::status::X) }"),
    ]);
    found(rules::circles(&circle), &["pool/slots.rs", "status.rs:1 names sync.rs"]);
}

#[test]
fn heads_of_folders_and_tests_make_no_circle() {
    let tree = changed(&[
        ("pool/mod.rs", "pub mod blocks; pub mod slots; pub use slots::Slots; pub use blocks::Blocks;"),
        (
            "pool/slots.rs",
            "use super::Blocks; pub struct Slots; #[cfg(test)] mod tests { use super::super::blocks::X; }",
        ),
        (
            "pool/blocks.rs",
            "// use super::slots::Slots;\npub struct Blocks; #[cfg(all(test, unix))] fn x() { super::slots::f() }",
        ),
    ]);
    found(rules::circles(&tree), &[]);
}

#[test]
fn an_arrow_against_the_order_of_the_rooms_is_found() {
    for (path, text, expected) in [
        ("pool/x.rs", "use crate::engine::api::Engine;", "pool knows no engine"),
        ("pool/x.rs", "use crate::port::Port;", "pool knows no port"),
        ("port/x.rs", "fn x() { crate::pool::lock(); }", "port knows no pool"),
        ("status.rs", "use crate::{port::{Epoll}};", "ground knows no port"),
        ("engine/api.rs", "use crate::ffi::conn;", "engine knows no ffi"),
        ("engine/config.rs", "use super::connection::state::Connection;", "words knows no connection"),
        ("engine/connection/x.rs", "use super::super::worker::Worker;", "connection knows no worker"),
        ("engine/layers/x.rs", "use crate::engine::worker::Worker;", "layers knows no worker"),
        ("engine/worker/x.rs", "use crate::engine::server::Server;", "worker knows no server"),
        ("engine/server/x.rs", "use crate::engine::client::Client;", "server knows no client"),
        ("engine/client/x.rs", "use crate::engine; fn x(_: engine::server::Server) {}", "client knows no server"),
        ("engine/client/x.rs", "use crate::engine::api::*;", "client knows no engine"),
        ("elsewhere/x.rs", "", "stands in no room"),
        ("ffi/x.rs", "#[path = \"../other.rs\"] mod other;", "a path of its own"),
    ] {
        let faults = rules::order(&changed(&[(path, text)]));
        found(faults, &[expected]);
    }
    // Through a head that hands it on, and by what a head defines itself.
    let tree = changed(&[
        ("engine/mod.rs", "pub mod api; mod worker; mod server; pub use worker::Worker; pub struct Everything;"),
        ("engine/connection/x.rs", "use super::super::Worker;"),
        ("engine/connection/y.rs", "use super::super::Everything;"),
    ]);
    found(rules::order(&tree), &["x.rs:1 names engine/worker/turn.rs", "y.rs:1 names engine/mod.rs"]);
}

#[test]
fn a_type_that_is_implemented_away_from_home_is_found() {
    for (path, text) in [
        ("engine/server/x.rs", "use crate::engine::connection::state::Connection; impl Connection {}"),
        ("engine/server/x.rs", "use crate::engine::worker::Worker; impl<P> Worker<P> {}"),
        ("engine/server/x.rs", "impl super::super::connection::state::Connection {}"),
        ("engine/api.rs", "use super::worker::*; impl Drop for Worker {}"),
        ("ffi/x.rs", "use crate::engine::api::Engine; use crate::port::Port; impl Port for Engine {}"),
        ("ffi/x.rs", "mod inner { use super::Engine; impl Engine {} } use crate::engine::api::Engine;"),
    ] {
        found(rules::homes(&changed(&[(path, text)])), &["implements"]);
    }
    for (path, text) in [
        ("engine/connection/x.rs", "use super::state::Connection; impl Connection {}"),
        ("ffi/x.rs", "use crate::engine::api::Engine; trait Ours {} impl Ours for Engine {}"),
        ("ffi/x.rs", "struct Own; impl Own {} impl Drop for Own {} impl Own for u32 {} impl<T> Own for Vec<T> {}"),
        ("ffi/x.rs", "#[cfg(test)] mod tests { impl crate::engine::api::Engine {} }"),
    ] {
        found(rules::homes(&changed(&[(path, text)])), &[]);
    }
}

#[test]
fn unsafe_code_in_another_room_or_without_a_reason_is_found() {
    for (path, text, expected) in [
        ("engine/x.rs", "fn x() {\n// SAFETY: none\nunsafe { x() } }", &["engine/x.rs:3 is unsafe"][..]),
        ("engine/x.rs", "unsafe fn x() {}", &["is unsafe"]),
        ("engine/x.rs", "fn x() { m!(unsafe); }", &["is unsafe"]),
        ("pool/x.rs", "unsafe impl Send for X {}", &["is unsafe", "has no SAFETY"]),
        ("ffi/x.rs", "fn x() { unsafe { x() } }", &["ffi/x.rs:1 has no SAFETY"]),
        ("ffi/x.rs", "fn x() { vec![unsafe { x() }] }", &["has no SAFETY"]),
        ("ffi/x.rs", "fn x() {\n    // SAFETY: x may be called.\n    unsafe { x() }\n}", &[]),
        ("pool/blocks.rs", "// SAFETY: it may be sent.\nunsafe impl Send for X {}\nunsafe fn x() {}", &[]),
        ("engine/x.rs", "// crate::ffi and unsafe { } are only spoken of\nconst X: &str = \"unsafe {\";", &[]),
        ("engine/x.rs", "fn x() {} #[cfg(test)] mod tests { unsafe fn x() {} }", &[]),
    ] {
        found(rules::unsafety(&tree(&[(path, text)])), expected);
    }
}

#[test]
fn what_is_too_large_is_found() {
    let (fits, does_not) = ("\n".repeat(400), "\n".repeat(401));
    found(rules::lengths(&sources(&[("pool/x.rs", &fits), ("port/y.rs", &does_not)])), &["port/y.rs has 401 lines"]);
    let fields = |count: u32| (0..count).map(|field| format!("f{field}: u8,")).collect::<String>();
    for (path, name, count, expected) in [
        ("pool/x.rs", "X", 12, &[][..]),
        ("pool/x.rs", "X", 13, &["pool/x.rs:1 X has 13 fields"][..]),
        ("engine/stats.rs", "Stats", 40, &[]),
        ("ffi/x.rs", "X", 40, &[]),
    ] {
        let text = format!("pub struct {name} {{ {} }}", fields(count));
        found(rules::widths(&tree(&[(path, &text)])), expected);
    }
    found(rules::needless_exceptions(&tree(&[("engine/stats.rs", "pub struct Stats { one: u8 }")])), &["Stats"]);
    for (text, expected) in [
        ("fn x(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8) {}", &[][..]),
        ("fn x(a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8, h: u8) {}", &["x has 8 parameters"][..]),
        ("trait T { fn x(&self, a: u8, b: u8, c: u8, d: u8, e: u8, f: u8, g: u8); }", &["x has 8 parameters"][..]),
    ] {
        found(rules::widths(&tree(&[("ffi/x.rs", text)])), expected);
    }
}

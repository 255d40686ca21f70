//! What may stand where: the order of the rooms, where types are implemented, where `unsafe` is, and how large a file, a
//! struct and a list of parameters may be. Each rule gives what breaks it, beginning with the file and the line.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};

use super::graph::{Target, Tree, given_path};

/// Where the path of a file begins, the room that it stands in, and the floor of that room. A file names its own room and
/// those on lower floors; the longest beginning counts.
pub const ROOMS: &[(&str, &str, u32)] = &[
    ("lib.rs", "root", 9),
    ("ffi/", "ffi", 8),
    ("engine/", "engine", 7),
    ("engine/server/", "server", 6),
    ("engine/client/", "client", 6),
    ("engine/worker/", "worker", 5),
    ("engine/layers/", "layers", 4),
    ("engine/connection/", "connection", 3),
    ("engine/config.rs", "words", 2),
    ("engine/config/", "words", 2),
    ("engine/events.rs", "words", 2),
    ("engine/failure.rs", "words", 2),
    ("engine/stats.rs", "words", 2),
    ("engine/log.rs", "words", 2),
    ("engine/signal.rs", "words", 2),
    ("engine/wake.rs", "words", 2),
    ("engine/failpoint.rs", "words", 2),
    ("engine/mutant.rs", "words", 2),
    ("pool/", "pool", 1),
    ("port/", "port", 1),
    ("status.rs", "ground", 0),
    ("sync.rs", "ground", 0),
    ("likely.rs", "ground", 0),
];

const MAY_BE_UNSAFE: &[&str] = &["ffi/", "port/", "pool/blocks.rs"];
/// How many lines before an unsafe block its reason may begin.
const SAFETY_LINES: usize = 6;

const MAX_LINES: usize = 400;
const MAX_PARAMETERS: usize = 7;
const MAX_FIELDS: usize = 12;
/// Where fields are counted: the structs of src/ffi are those of the header.
const FIELDS_ARE_COUNTED: &[&str] = &["engine/", "pool/", "port/"];
/// Structs that may have more, and why.
const WIDE: &[(&str, &str)] = &[("Stats", "one number for each counter of the header")];

/// The room and the floor of a file.
fn room(path: &str) -> Option<(&'static str, u32)> {
    let is_in = |start: &str| if start.ends_with('/') { path.starts_with(start) } else { path == start };
    let best = ROOMS.iter().filter(|(start, ..)| is_in(start)).max_by_key(|(start, ..)| start.len())?;
    Some((best.1, best.2))
}

/// No file names one of a higher floor, or of another room on its own.
pub fn order(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for file in &tree.files {
        if room(&file.path).is_none() {
            faults.push(format!("{} stands in no room: give it one in ROOMS", file.path));
        }
        faults.extend(modules_elsewhere(file));
    }
    let mut told = BTreeSet::new();
    for reference in &tree.references {
        let Some(to) = tree.reached(reference).filter(|to| told.insert((reference.file, *to))) else { continue };
        let (from, to) = (tree.path(reference.file), tree.path(to));
        let (Some((from_room, from_floor)), Some((to_room, to_floor))) = (room(from), room(to)) else { continue };
        if from_room != to_room && from_floor <= to_floor {
            faults.push(format!("{from}:{} names {to}: {from_room} knows no {to_room}", reference.line));
        }
    }
    faults
}

/// Modules whose files the rules would not find.
fn modules_elsewhere(file: &super::graph::File) -> Vec<String> {
    let elsewhere = file.syntax.items.iter().filter_map(|item| match item {
        syn::Item::Mod(module) => given_path(&module.attrs),
        _ => None,
    });
    elsewhere.map(|path| format!("{}: a module has a path of its own: {path}", file.path)).collect()
}

pub fn circles(tree: &Tree) -> Vec<String> {
    tree.circles()
}

fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// A type is implemented in the folder in which it is defined; elsewhere only what is a trait of that other folder.
pub fn homes(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for block in &tree.impls {
        let own = folder(tree.path(block.file));
        let home = |path: &[String]| match tree.resolve(&block.module, path) {
            Some(Target::Item(file)) => Some(folder(tree.path(file))),
            _ => None,
        };
        let Some(of_type) = home(&block.type_path).filter(|home| *home != own) else { continue };
        if block.trait_path.as_ref().is_some_and(|path| home(path) == Some(own)) {
            continue;
        }
        let (place, name) = (tree.path(block.file), block.type_path.join("::"));
        faults.push(format!("{place}:{} implements {name}, whose home is {of_type:?}", block.line));
    }
    faults
}

/// `unsafe` stands in its rooms only, and each block and `impl` has its reason before it.
pub fn unsafety(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for file in &tree.files {
        let mut places = Vec::new();
        unsafe_places(file.syntax.to_token_stream(), &mut places);
        let lines: Vec<&str> = file.text.lines().collect();
        for (line, needs_reason) in places {
            if !MAY_BE_UNSAFE.iter().any(|allowed| file.path.starts_with(allowed)) {
                faults.push(format!("{}:{line} is unsafe", file.path));
            }
            let before = &lines[line.saturating_sub(SAFETY_LINES + 1)..line];
            if needs_reason && !before.iter().any(|line| line.contains("SAFETY:")) {
                faults.push(format!("{}:{line} has no SAFETY sentence", file.path));
            }
        }
    }
    faults
}

/// The lines with the word `unsafe`, and whether a block or an `impl` follows it.
fn unsafe_places(tokens: TokenStream, found: &mut Vec<(usize, bool)>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => unsafe_places(group.stream(), found),
            TokenTree::Ident(ident) if ident == "unsafe" => {
                let needs_reason = match tokens.peek() {
                    Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
                    Some(TokenTree::Ident(next)) => next == "impl",
                    _ => false,
                };
                found.push((ident.span().start().line, needs_reason));
            }
            _ => {}
        }
    }
}

/// No file has too many lines. Files of tests have theirs counted, too, so this looks at the texts.
pub fn lengths<'a>(sources: impl IntoIterator<Item = (&'a String, &'a String)>) -> Vec<String> {
    let lengths = sources.into_iter().map(|(path, text)| (path, text.lines().count()));
    lengths.filter(|(_, lines)| *lines > MAX_LINES).map(|(path, lines)| format!("{path} has {lines} lines")).collect()
}

/// No struct has too many fields, and no function too many parameters.
pub fn widths(tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    for file in &tree.files {
        let counts_fields = FIELDS_ARE_COUNTED.iter().any(|room| file.path.starts_with(room));
        let mut widths = Widths { path: &file.path, counts_fields, faults: &mut faults };
        widths.visit_file(&file.syntax);
    }
    faults
}

/// Exceptions that nothing needs any more.
pub fn needless_exceptions(tree: &Tree) -> Vec<String> {
    let structs = tree.files.iter().flat_map(|file| &file.syntax.items).filter_map(|item| match item {
        syn::Item::Struct(item) => Some((item.ident.to_string(), item.fields.len())),
        _ => None,
    });
    let wide: BTreeSet<String> = structs.filter(|(_, count)| *count > MAX_FIELDS).map(|(name, _)| name).collect();
    let needless = WIDE.iter().filter(|(name, _)| !wide.contains(*name));
    needless.map(|(name, _)| format!("WIDE: no struct {name} has more than {MAX_FIELDS} fields")).collect()
}

struct Widths<'a> {
    path: &'a str,
    counts_fields: bool,
    faults: &'a mut Vec<String>,
}

impl<'ast> Visit<'ast> for Widths<'_> {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        let (name, count) = (item.ident.to_string(), item.fields.len());
        if self.counts_fields && count > MAX_FIELDS && !WIDE.iter().any(|(wide, _)| *wide == name) {
            let line = item.ident.span().start().line;
            self.faults.push(format!("{}:{line} {name} has {count} fields", self.path));
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        let count = signature.inputs.len();
        if count > MAX_PARAMETERS {
            let line = signature.ident.span().start().line;
            self.faults.push(format!("{}:{line} {} has {count} parameters", self.path, signature.ident));
        }
        visit::visit_signature(self, signature);
    }
}

//! Composes the C header from the sources - object by object, so that it reads like a book - and tells the linker the name
//! of the shared library. The header goes to OUT_DIR; `make header` copies it to include/, and tests/header.rs compares.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

#[allow(dead_code, missing_docs)]
#[path = "src/status.rs"]
mod status;

/// The chapters of the header in their order: files of src/ffi.
const CHAPTERS: [&str; 11] =
    ["types", "status", "version", "engine", "handler", "server", "client", "conn", "traffic", "stats", "faults"];
/// Columns of the header.
const MAX_LINE: usize = 120;
const CONVENTIONS: &str = "src/ffi/conventions.txt";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=src/status.rs");
    println!("cargo:rerun-if-changed={CONVENTIONS}");
    for chapter in CHAPTERS {
        println!("cargo:rerun-if-changed={}", source(chapter));
    }
    name_the_library();
    let header = compose();
    let path = Path::new(&variable("OUT_DIR")).join("wharf.h");
    fs::write(&path, header).unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn source(chapter: &str) -> String {
    format!("src/ffi/{chapter}.rs")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

/// The name that programs ask the loader for follows the version. On Linux the library stays loaded once it is: its threads
/// and what they registered outlive a dlclose.
fn name_the_library() {
    let major = variable("CARGO_PKG_VERSION_MAJOR");
    match variable("CARGO_CFG_TARGET_OS").as_str() {
        "linux" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libwharf.so.{major}");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
        "macos" => println!("cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libwharf.{major}.dylib"),
        _ => {}
    }
}

fn compose() -> String {
    let version = variable("CARGO_PKG_VERSION");
    let mut header = String::new();
    header += &comment(&format!(
        "wharf.h - {}.\n\nVersion {version}. License: {}. Made from the sources; do not edit.",
        variable("CARGO_PKG_DESCRIPTION"),
        variable("CARGO_PKG_LICENSE"),
    ));
    header.push('\n');
    header += &comment(&read(CONVENTIONS));
    header += "\n#ifndef WHARF_H\n#define WHARF_H\n\n#include <stddef.h>\n#include <stdint.h>\n\n#ifdef __cplusplus\nextern \"C\" {\n#endif\n";
    for chapter in CHAPTERS {
        let path = source(chapter);
        let text = read(&path);
        header += "\n\n";
        header += &heading(&text);
        header.push('\n');
        match chapter {
            "status" => header += &statuses(),
            "version" => header += &version_macros(&version),
            _ => {}
        }
        header += &declarations(&path, &text);
    }
    header += "\n#ifdef __cplusplus\n} /* extern \"C\" */\n#endif\n\n#endif /* WHARF_H */\n";
    header
}

/// A text as a C comment.
fn comment(text: &str) -> String {
    let lines: Vec<String> = text.trim_end().lines().map(|line| format!(" * {line}").trim_end().to_string()).collect();
    format!("/*\n{}\n */\n", lines.join("\n"))
}

/// The module comment of a source file is the beginning of its chapter.
fn heading(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let rule = "=".repeat(100);
    comment(&format!("{rule}\n{}", lines.join("\n")))
}

fn statuses() -> String {
    let mut text = String::new();
    for (code, name, sentence) in status::STATUS_TABLE {
        let (name, sentence) = (name.trim_end_matches('\0'), sentence.trim_end_matches('\0'));
        let code = if *code < 0 { format!("({code})") } else { code.to_string() };
        let _ = writeln!(text, "/** {sentence} */\n#define {name} {code}");
    }
    text + "\n"
}

fn version_macros(version: &str) -> String {
    let part = |name: &str| -> u32 { variable(name).parse().unwrap_or_else(|error| panic!("{name}: {error}")) };
    let number = part("CARGO_PKG_VERSION_MAJOR") * 1_000_000
        + part("CARGO_PKG_VERSION_MINOR") * 1_000
        + part("CARGO_PKG_VERSION_PATCH");
    format!(
        "/** The version of this header: major * 1000000 + minor * 1000 + patch. */\n#define WHARF_VERSION_NUMBER {number}\n\
         /** The same as text. */\n#define WHARF_VERSION_TEXT \"{version}\"\n\n"
    )
}

/// What cbindgen makes of one source file.
fn declarations(path: &str, source: &str) -> String {
    // cbindgen leaves out what no function of the same file uses, so every exported type is named.
    let types = source.lines().filter_map(|line| {
        let rest = line.strip_prefix("pub type ").or_else(|| line.strip_prefix("pub struct "))?;
        let name = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()?;
        name.starts_with("wharf_").then(|| name.to_string())
    });
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        style: cbindgen::Style::Both,
        no_includes: true,
        usize_is_size_t: true,
        documentation_style: cbindgen::DocumentationStyle::Doxy,
        line_length: MAX_LINE,
        tab_width: 2,
        export: cbindgen::ExportConfig { include: types.collect(), ..Default::default() },
        ..Default::default()
    };
    let made = cbindgen::Builder::new().with_src(path).with_config(config).generate();
    let mut text = Vec::new();
    made.unwrap_or_else(|error| panic!("cbindgen {path}: {error}")).write(&mut text);
    let text = String::from_utf8(text).unwrap_or_else(|error| panic!("cbindgen {path}: {error}"));
    tidy(&text)
}

/// Types go by their short names, short comments take one line, and constants with such comments stay together.
fn tidy(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in text.trim().lines() {
        let is_definition = line.starts_with("typedef struct");
        lines.push(if is_definition { line.to_string() } else { line.replace("struct wharf_", "wharf_") });
        fold_comment(&mut lines);
    }
    let is_short_constant = |place: usize| {
        let line = |place: usize| lines.get(place).map_or("", String::as_str);
        line(place).starts_with("/** ") && line(place + 1).starts_with("#define ")
    };
    let mut tidied = String::new();
    for (place, line) in lines.iter().enumerate() {
        let is_between = line.is_empty() && place >= 2 && is_short_constant(place - 2) && is_short_constant(place + 1);
        if !is_between {
            tidied += line;
            tidied.push('\n');
        }
    }
    tidied
}

/// When the last three lines are a comment of one sentence that fits into one line, they become that line.
fn fold_comment(lines: &mut Vec<String>) {
    let [.., open, sentence, close] = lines.as_slice() else { return };
    if open.trim() != "/**" || close.trim() != "*/" {
        return;
    }
    let indent = &open[..open.len() - open.trim_start().len()];
    let folded = format!("{indent}/** {} */", sentence.trim_start_matches([' ', '*']));
    if folded.len() <= MAX_LINE {
        lines.truncate(lines.len() - 3);
        lines.push(folded);
    }
}

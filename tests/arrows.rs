//! The rooms of the house: arrows point downward only, and `unsafe` stays where it may be, each block with its reason.

use std::path::{Path, PathBuf};

/// What a file of each room must not name.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("pool/", &["crate::engine", "crate::ffi", "crate::port"]),
    ("port/", &["crate::engine", "crate::ffi", "crate::pool"]),
    ("engine/", &["crate::ffi"]),
];

const MAY_BE_UNSAFE: &[&str] = &["ffi/", "port/", "pool/blocks.rs"];

/// The code of a line, without its comment.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

fn has_word(line: &str, word: &str) -> bool {
    code(line).split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

/// What is wrong with a file of this path below `src/`.
fn faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let place = format!("{path}:{}", number + 1);
        for (room, names) in FORBIDDEN {
            for name in names.iter().filter(|name| path.starts_with(room) && code(line).contains(**name)) {
                faults.push(format!("{place} names {name}"));
            }
        }
        if !has_word(line, "unsafe") {
            continue;
        }
        if !MAY_BE_UNSAFE.iter().any(|allowed| path.starts_with(allowed)) {
            faults.push(format!("{place} is unsafe"));
        }
        let before = &lines[number.saturating_sub(6)..=number];
        if code(line).contains("unsafe {") && !before.iter().any(|line| line.contains("SAFETY:")) {
            faults.push(format!("{place} has no SAFETY sentence"));
        }
    }
    faults
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => sources(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn arrows_point_downward_and_unsafe_stays_in_its_rooms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut found = Vec::new();
    let mut seen = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|ending| ending == "rs")) {
        let path = file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
        // Tests inside of a room may look over the fence.
        let text = std::fs::read_to_string(file).unwrap();
        let text = if path.contains("tests") { "" } else { text.split("#[cfg(test)]").next().unwrap_or("") };
        found.extend(faults(&path, text));
        seen += 1;
    }
    assert!(seen > 30, "only {seen} files were looked at");
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn each_rule_is_able_to_fail() {
    assert_eq!(faults("pool/x.rs", "use crate::engine::api;").len(), 1);
    assert_eq!(faults("port/x.rs", "    crate::pool::lock(x);").len(), 1);
    assert_eq!(faults("engine/x.rs", "use crate::ffi::conn;").len(), 1);
    assert_eq!(faults("engine/x.rs", "// SAFETY: none\nunsafe { x() }").len(), 1);
    assert_eq!(faults("ffi/x.rs", "unsafe { x() }").len(), 1);
    assert_eq!(faults("ffi/x.rs", "// SAFETY: x may be called.\nunsafe { x() }").len(), 0);
    assert_eq!(faults("engine/x.rs", "// crate::ffi and unsafe are only spoken of").len(), 0);
}

//! include/wharf.h is what the sources say: the same text, good C and C++, the same layout, the same functions.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::mem::offset_of;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use wharf::ffi::*;

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn header() -> String {
    read(&root().join("include/wharf.h"))
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("header-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// A tool by its name; None (said aloud) when this machine does not have it. Where the tools are required that is a failure,
/// unless it is one that is optional everywhere.
fn tool(name: &str, is_optional: bool) -> Option<String> {
    if Command::new(name).arg("--version").output().is_ok() {
        return Some(name.to_string());
    }
    let required = env::var("WHARF_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(is_optional || !required, "WHARF_REQUIRE_TOOLS=1, and there is no {name}");
    // Past the capture of the test's output, so that it is seen.
    let _ = writeln!(std::io::stderr(), "skipped: no {name}");
    None
}

fn compiler(variable: &str, default: &str) -> String {
    env::var(variable).unwrap_or_else(|_| default.to_string())
}

fn compile(compiler: &str, standard: &str, file: &Path) {
    let mut command = Command::new(compiler);
    command.arg(format!("-std={standard}")).args(WARNINGS).arg("-I").arg(root().join("include"));
    command.arg("-c").arg(file).arg("-o").arg(file.with_extension(format!("{standard}.o")));
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_committed_header_is_the_one_of_the_sources() {
    let (committed, made) = (header(), read(&Path::new(env!("OUT_DIR")).join("wharf.h")));
    if committed == made {
        return;
    }
    let (mut old, mut new) = (committed.lines(), made.lines());
    for number in 1.. {
        let (old, new) = (old.next(), new.next());
        let show = |line: Option<&str>| line.unwrap_or("(the end)").to_string();
        assert!(
            old == new && new.is_some(),
            "include/wharf.h is not what the sources say: run `make header` and commit it.\n\
             line {number}\n  committed: {}\n  sources:   {}",
            show(old),
            show(new)
        );
    }
}

/// Columns of the header.
const MAX_LINE: usize = 120;

/// The lines of a text that are too long, with their numbers.
fn too_long(text: &str) -> Vec<(usize, &str)> {
    let lines = text.lines().enumerate().map(|(place, line)| (place + 1, line));
    lines.filter(|(_, line)| line.chars().count() > MAX_LINE).collect()
}

#[test]
fn no_line_of_the_header_is_longer_than_its_columns() {
    assert_eq!(too_long(&header()), []);
    let (fits, does_not) = ("x".repeat(MAX_LINE), "x".repeat(MAX_LINE + 1));
    assert_eq!(too_long(&format!("{fits}\n{does_not}\n{fits}\n")), [(2, does_not.as_str())]);
}

#[test]
fn the_header_compiles_alone_and_twice_in_every_c_and_cpp() {
    let folder = folder("languages");
    let programs = [("alone", "#include <wharf.h>\n"), ("twice", "#include <wharf.h>\n#include <wharf.h>\n")];
    let (cc, cxx) = (compiler("CC", "cc"), compiler("CXX", "c++"));
    let compilers = [
        (cc.as_str(), false, "c", &["c99", "c11", "c17", "c2x"][..]),
        ("clang", true, "c", &["c99", "c11", "c17", "c2x"][..]),
        (cxx.as_str(), false, "cpp", &["c++17"][..]),
        ("clang++", true, "cpp", &["c++17"][..]),
    ];
    for (name, is_optional, extension, standards) in compilers {
        let Some(compiler) = tool(name, is_optional) else { continue };
        for (program, text) in programs {
            let file = folder.join(format!("{program}.{extension}"));
            // ISO C wants at least one declaration of the program's own.
            fs::write(&file, format!("{text}int only_this_header(void);\n")).unwrap();
            for standard in standards {
                compile(&compiler, standard, &file);
            }
        }
    }
}

/// A struct as Rust lays it out: its name, its size, and name, place and size of each field.
struct Layout {
    name: &'static str,
    size: usize,
    fields: Vec<(&'static str, usize, usize)>,
}

fn field_size<S, F>(_: impl Fn(&S) -> &F) -> usize {
    size_of::<F>()
}

macro_rules! layout {
    ($name:ident { $($field:ident),* $(,)? }) => {{
        // Does not compile when a field is missing here.
        let _complete = |$name { $($field: _),* }: $name| {};
        Layout {
            name: stringify!($name),
            size: size_of::<$name>(),
            fields: vec![$((
                stringify!($field),
                offset_of!($name, $field),
                field_size(|whole: &$name| &whole.$field),
            )),*],
        }
    }};
}

#[rustfmt::skip]
fn layouts() -> Vec<Layout> {
    vec![
        layout!(wharf_error { struct_size, status, os_code, message }),
        layout!(wharf_engine_config {
            struct_size, workers, flags, max_connections, buffer_bytes, pool_bytes, receive_buffer_bytes, port,
            slow_callback_ms, log_level, on_log, log_context, resolver_threads, worker_stack_bytes,
        }),
        layout!(wharf_handler {
            struct_size, context, on_open, on_receive, on_sent, on_writable, on_end, on_close, on_drop, on_admit,
        }),
        layout!(wharf_server_config {
            struct_size, address, listen_fd_plus_one, max_connections, at_limit, backlog, flags, max_connections_per_ip,
            send_queue_limit_bytes, idle_timeout_ms, first_byte_timeout_ms, send_stall_timeout_ms, linger_ms, keepalive_s,
            keepalive_interval_s, keepalive_probes, socket_send_buffer_bytes, socket_receive_buffer_bytes, allow, deny,
            accept_rate_per_s, accept_burst, min_receive_bytes_per_s, min_receive_grace_ms,
        }),
        layout!(wharf_client_config {
            struct_size, address, local_address, connect_timeout_ms, reconnect_min_ms, reconnect_max_ms,
            reconnect_attempts, flags, send_queue_limit_bytes, idle_timeout_ms, first_byte_timeout_ms,
            send_stall_timeout_ms, linger_ms, keepalive_s, keepalive_interval_s, keepalive_probes,
            socket_send_buffer_bytes, socket_receive_buffer_bytes, reconnect_stable_ms,
        }),
        layout!(wharf_timeouts {
            struct_size, idle_timeout_ms, first_byte_timeout_ms, send_stall_timeout_ms, reserved,
        }),
        layout!(wharf_slice { data, len }),
        layout!(wharf_broadcast_result { struct_size, taken, refused }),
        layout!(wharf_stats {
            struct_size, accepted, connected, connect_failures, open, closed, closed_by_us, closed_by_peer,
            closed_by_reset, closed_by_timeout, closed_by_stop, closed_by_error, refused_at_limit, refused_per_ip,
            bytes_in, bytes_out, messages_in, messages_out, queued_bytes, queue_full, pool_exhausted, pool_blocks,
            pool_blocks_in_use, pool_blocks_peak, accept_pauses, descriptor_exhaustions, drained, drain_resets,
            slow_callbacks, callback_max_us, callback_total_us, heap_bytes, refused_by_list, refused_by_rate, refused_by_host,
        }),
        layout!(wharf_fault_plan {
            struct_size, seed, short_reads_ppm, short_writes_ppm, read_stalls_ppm, write_stalls_ppm, resets_ppm,
            accept_exhaustions_ppm, connect_exhaustions_ppm, pool_exhaustions_ppm, stall_ms, reserved,
        }),
        layout!(wharf_connection_stats {
            struct_size, bytes_in, bytes_out, messages_in, messages_out, queued_bytes, age_ms, idle_ms, worker, reserved,
        }),
    ]
}

#[test]
fn c_and_rust_lay_out_every_struct_alike() {
    let layouts = layouts();
    let listed: BTreeSet<String> = layouts.iter().map(|layout| layout.name.to_string()).collect();
    let declared = words_after(&header(), "typedef struct ");
    assert_eq!(listed, declared, "a struct of the header is missing in this test");

    let mut program = String::from("#include <wharf.h>\n");
    for Layout { name, size, fields } in &layouts {
        program += &format!("_Static_assert(sizeof({name}) == {size}, \"sizeof({name})\");\n");
        for (field, place, size) in fields {
            program += &format!("_Static_assert(offsetof({name}, {field}) == {place}, \"{name}.{field}\");\n");
            program += &format!("_Static_assert(sizeof((({name} *)0)->{field}) == {size}, \"{name}.{field}\");\n");
        }
    }
    let Some(cc) = tool(&compiler("CC", "cc"), false) else { return };
    let file = folder("layout").join("layout.c");
    fs::write(&file, program).unwrap();
    compile(&cc, "c11", &file);
}

// Where size_t is smaller than the largest integer, alignment may ask for some.
#[cfg(target_pointer_width = "64")]
#[test]
fn no_struct_has_padding() {
    for Layout { name, size, fields } in layouts() {
        let mut end = 0;
        for (field, place, size) in fields {
            assert_eq!(place, end, "padding before {name}.{field}");
            end = place + size;
        }
        assert_eq!(size, end, "padding at the end of {name}: a later field could hide in it unseen");
    }
}

/// The first word after each occurrence of a text at the beginning of a line.
fn words_after(source: &str, start: &str) -> BTreeSet<String> {
    source.lines().filter_map(|line| line.strip_prefix(start)).map(word).collect()
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// Names of the functions that the header declares.
fn declared() -> BTreeSet<String> {
    let mut code = String::new();
    let header = header();
    for (place, part) in header.split("/*").enumerate() {
        code += if place == 0 { part } else { part.split_once("*/").unwrap().1 };
    }
    let lines = code.lines().filter(|line| !line.starts_with('#') && !line.starts_with("extern"));
    let statements = lines.collect::<Vec<_>>().join(" ");
    let functions = statements.split(';').filter(|statement| !statement.contains("typedef"));
    let names =
        functions.filter_map(|statement| Some(statement.split_once('(')?.0.rsplit([' ', '*']).next()?.to_string()));
    names.collect()
}

/// What only the tests of the library call; never in the header and never in an installed library.
fn is_for_tests(name: &str) -> bool {
    name.starts_with("wharf_test_")
}

/// Names of the functions that the sources export.
fn exported_by_sources() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root().join("src/ffi")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let source = read(&path);
            let functions = source.split("#[unsafe(no_mangle)]").skip(1);
            names.extend(functions.map(|rest| word(rest.split_once(" fn ").unwrap().1)));
        }
    }
    names.retain(|name| !is_for_tests(name));
    names
}

#[test]
fn header_and_sources_name_the_same_functions() {
    let declared = declared();
    assert!(declared.contains("wharf_send") && declared.len() > 30, "misread the header: {declared:?}");
    assert_eq!(declared, exported_by_sources());
}

/// The shared library that was built along with this test, if this system builds one that nm can read.
fn library() -> Option<PathBuf> {
    let beside = env::current_exe().unwrap().with_file_name("libwharf.so");
    let above = beside.parent().and_then(Path::parent).map(|folder| folder.join("libwharf.so"));
    [Some(beside), above].into_iter().flatten().find(|path| path.is_file())
}

#[test]
fn the_library_exports_the_functions_of_the_header_and_nothing_else() {
    let Some(library) = library() else {
        let _ = writeln!(std::io::stderr(), "skipped: no libwharf.so beside the tests");
        return;
    };
    let Some(nm) = tool("nm", false) else { return };
    let output = Command::new(nm).args(["-D", "--defined-only"]).arg(&library).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let symbols = String::from_utf8(output.stdout).unwrap();
    let mut exported: BTreeSet<String> =
        symbols.lines().filter_map(|line| line.rsplit(' ').next()).map(str::to_string).collect();
    if cfg!(feature = "testing") {
        exported.retain(|name| !is_for_tests(name));
    }
    assert_eq!(declared(), exported, "{}", library.display());
}

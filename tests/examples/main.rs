//! What a C user does: install, build with pkg-config, run. Every example is run and its conversation checked, once
//! plainly and once under valgrind.

mod builds;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;

use builds::*;

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[track_caller]
fn expect(stream: &mut TcpStream, text: &[u8]) {
    let mut data = vec![0; text.len()];
    stream.read_exact(&mut data).unwrap();
    assert_eq!(String::from_utf8_lossy(&data), String::from_utf8_lossy(text));
}

#[track_caller]
fn expect_end(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

/// One test plainly, one under valgrind.
macro_rules! conversations {
    ($($name:ident($examples:ident, $under:ident) $body:block)*) => {$(
        mod $name {
            use super::*;
            fn conversation($under: Under) {
                let Some($examples) = examples() else { return };
                $body
            }
            #[test]
            fn plainly() {
                conversation(Under::Nothing);
            }
            #[test]
            fn under_valgrind_without_an_error_or_a_leak() {
                if has("valgrind") {
                    conversation(Under::Valgrind);
                }
            }
        }
    )*};
}

mod corners;

conversations! {
    echo_server_and_console_client_talk(examples, under) {
        let server = Program::start(&examples.join("echo_server"), &["127.0.0.1:0"], under);
        let address = server.address();
        let mut client = Program::start(&examples.join("console_client"), &[&address], under);
        client.type_line("first line");
        client.expect("first line");
        server.expect("connected, 1 in all");
        server.expect("first line");
        client.type_line("second line");
        client.expect("second line");
        client.type_line("exit");
        client.ends();
        server.expect("disconnected (");
        server.terminate();
        let nobody = command(&examples.join("console_client"), under).arg("127.0.0.1:1").output().unwrap();
        assert_eq!(nobody.status.code(), Some(1), "a refused connect is told by the exit code");
        assert!(String::from_utf8_lossy(&nobody.stderr).contains("refused"));
    }

    chat_server_hands_each_line_to_all_others(examples, under) {
        let server = Program::start(&examples.join("chat_server"), &["127.0.0.1:0"], under);
        let address = server.address();
        let mut first = connect(&address);
        let mut second = connect(&address);
        let name = |stream: &TcpStream| stream.local_addr().unwrap().to_string();
        expect(&mut first, format!("* {} came\n", name(&second)).as_bytes());
        let mut third = connect(&address);
        expect(&mut first, format!("* {} came\n", name(&third)).as_bytes());
        expect(&mut second, format!("* {} came\n", name(&third)).as_bytes());
        first.write_all(b"one\ntwo\nhal").unwrap();
        for other in [&mut second, &mut third] {
            expect(other, format!("{0}: one\n{0}: two\n", name(&first)).as_bytes());
        }
        first.write_all(b"f\n").unwrap();
        expect(&mut second, format!("{}: half\n", name(&first)).as_bytes());
        drop(third);
        server.terminate();
    }

    http_hello_speaks_enough_http(examples, under) {
        let server = Program::start(&examples.join("http_hello"), &["127.0.0.1:0"], under);
        let address = server.address();
        let request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
        let mut peer = connect(&address);
        // A request that comes in pieces, then two at once.
        for piece in request.chunks(7) {
            peer.write_all(piece).unwrap();
        }
        let mut answer = vec![0; 4096];
        let len = peer.read(&mut answer).unwrap();
        answer.truncate(len);
        assert!(answer.starts_with(b"HTTP/1.1 200") && answer.ends_with(b"hello\n"), "{}", String::from_utf8_lossy(&answer));
        peer.write_all(&request.repeat(2)).unwrap();
        expect(&mut peer, &answer.repeat(2));
        peer.write_all(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n").unwrap();
        let mut last = String::new();
        peer.read_to_string(&mut last).unwrap();
        assert!(last.starts_with("HTTP/1.1 200") && last.contains("Connection: close"), "{last}");
        let mut peer = connect(&address);
        peer.write_all(format!("GET / HTTP/1.1\r\nHost: here\r\nX: {}\r\n\r\n", "y".repeat(9000)).as_bytes()).unwrap();
        let mut answer = String::new();
        peer.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
        if has("curl") {
            let url = format!("http://{address}/");
            let curl = |arguments: &[&str]| run(Command::new("curl").args(["-sS", "--noproxy", "*"]).args(arguments));
            let text = curl(&["-w", "%{num_connects} new connection(s)\\n", &url, &url]);
            assert_eq!(text, "hello\n1 new connection(s)\nhello\n0 new connection(s)\n", "it was kept alive");
            assert!(curl(&["-0", "-v", &url]).contains("Connection: close"));
        }
        server.terminate();
    }

    forwarder_keeps_every_byte_and_both_half_closes(examples, under) {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = target.local_addr().unwrap().to_string();
        let forwarder = Program::start(&examples.join("forwarder"), &["127.0.0.1:0", &to], under);
        let address = forwarder.address();
        let mut near = connect(&address);
        let (mut far, _) = target.accept().unwrap();
        // The near side ends first; the far side still answers.
        near.write_all(b"question").unwrap();
        near.shutdown(Shutdown::Write).unwrap();
        expect(&mut far, b"question");
        expect_end(&mut far);
        far.write_all(b"answer").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        expect(&mut near, b"answer");
        expect_end(&mut near);
        // Much at once in both directions, read late, so that both are paused.
        let len = if under == Under::Valgrind { 2 << 20 } else { 8 << 20 };
        let near = connect(&address);
        let (far, _) = target.accept().unwrap();
        std::thread::scope(|scope| {
            for (from, seed) in [(&near, 1), (&far, 2)] {
                scope.spawn(move || {
                    (&*from).write_all(&bytes(seed, len)).unwrap();
                    from.shutdown(Shutdown::Write).unwrap();
                });
            }
            for (to, seed) in [(&near, 2), (&far, 1)] {
                scope.spawn(move || {
                    let mut all = Vec::new();
                    (&*to).read_to_end(&mut all).unwrap();
                    assert!(all == bytes(seed, len), "{} of {len} bytes, or others", all.len());
                });
            }
        });
        // Nobody behind it: the near side is closed.
        drop(target);
        let mut near = connect(&address);
        match near.read(&mut [0; 1]) {
            Ok(len) => assert_eq!(len, 0),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        forwarder.terminate();
    }

    embedded_loop_serves_from_the_programs_own_poll(examples, under) {
        let mut program = Program::start(&examples.join("embedded_loop"), &["127.0.0.1:0"], under);
        let mut peer = connect(&program.address());
        program.expect("connected");
        peer.write_all(b"from a peer\n").unwrap();
        program.expect("from a peer");
        program.type_line("to all");
        expect(&mut peer, b"to all\n");
        program.end_input();
        expect_end(&mut peer);
        drop(peer);
        program.ends();
    }

    blocking_client_needs_no_callbacks(examples, under) {
        let server = Program::start(&examples.join("echo_server"), &["127.0.0.1:0"], under);
        let client = Program::start(&examples.join("blocking_client"), &[&server.address(), "over and back"], under);
        client.expect("over and back");
        client.ends();
        server.terminate();
    }

    fault_test_comes_through_its_faults_with_any_seed(examples, under) {
        for seed in ["1", "2", "3"] {
            let text = run(command(&examples.join("fault_test"), under).arg(seed));
            assert!(text.contains("200 rounds came back whole"), "{text}");
            assert!(!text.contains("; 0 sends were refused"), "the faults were met: {text}");
        }
    }

    every_function_behaves_as_the_header_says(_examples, under) {
        let source = root().join("tests/c/every_function.c");
        let text = std::fs::read_to_string(&source).unwrap();
        let header = std::fs::read_to_string(root().join("include/wharf.h")).unwrap();
        let functions: Vec<&str> = header
            .lines()
            .filter(|line| line.starts_with("wharf_status ") || line.starts_with("uint32_t ") || line.starts_with("const char *"))
            .filter_map(|line| line.split('(').next()?.split([' ', '*']).next_back())
            .collect();
        assert!(functions.len() > 40, "{functions:?}");
        for function in functions {
            assert!(text.contains(&format!("{function}(")), "{function} is not called");
        }
        let name = if under == Under::Valgrind { "every_function_vg" } else { "every_function" };
        let program = compile(installation().unwrap(), &source, name);
        for port in ["epoll", "polling"] {
            let output = run(command(&program, under).arg(port));
            assert!(output.contains("every function did what it should"), "{output}");
        }
    }

    a_server_that_forks_goes_on_and_its_child_is_refused(_examples, under) {
        let source = root().join("tests/c/fork.c");
        let name = if under == Under::Valgrind { "fork_vg" } else { "fork" };
        let program = compile(installation().unwrap(), &source, name);
        for port in ["epoll", "polling"] {
            run(command(&program, under).arg(port));
        }
    }

    threads_that_send_close_and_stop_at_once_agree(_examples, under) {
        let name = if under == Under::Valgrind { "threads_vg" } else { "threads" };
        let program = compile(installation().unwrap(), &root().join("tests/c/threads.c"), name);
        let rounds = if under == Under::Valgrind { "8" } else { "40" };
        for port in ["epoll", "polling"] {
            let output = run(command(&program, under).args([port, rounds]));
            assert!(output.contains("the threads agree"), "{output}");
        }
    }
}

/// Bytes that differ at each place.
fn bytes(seed: u32, len: usize) -> Vec<u8> {
    (0..len as u32).map(|place| (place.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8).collect()
}

#[test]
fn an_installation_has_what_a_user_needs() {
    let Some(prefix) = installation() else { return };
    for file in ["include/wharf.h", "lib/libwharf.a", "lib/libwharf.so", "lib/libwharf.so.0", "lib/pkgconfig/wharf.pc"]
    {
        assert!(prefix.join(file).exists(), "{file}");
    }
    let library = prefix.join("lib/libwharf.so");
    let real = std::fs::canonicalize(&library).unwrap();
    assert!(real.ends_with(format!("libwharf.so.{}", env!("CARGO_PKG_VERSION"))), "{}", real.display());
    if has("readelf") {
        let text = run(Command::new("readelf").arg("-d").arg(&library));
        assert!(text.contains("Library soname: [libwharf.so.0]") && text.contains("NODELETE"), "{text}");
    }
    let version = run(Command::new("pkg-config")
        .args(["--modversion", "wharf"])
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig")));
    assert_eq!(version.trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn each_c_example_builds_statically_too() {
    let Some(prefix) = installation() else { return };
    let folder = build_examples(prefix, "static-examples", &["STATIC=1"]);
    let server = Program::start(&folder.join("echo_server"), &["127.0.0.1:0"], Under::Nothing);
    let mut peer = connect(&server.address());
    peer.write_all(b"static").unwrap();
    expect(&mut peer, b"static");
    drop(peer);
    server.terminate();
}

#[test]
fn uninstalling_leaves_nothing() {
    if installation().is_none() {
        return;
    }
    let staging = scratch("staging");
    let _ = std::fs::remove_dir_all(&staging);
    let destination = format!("DESTDIR={}", staging.display());
    run(&mut make(&["install", "PREFIX=/usr", &destination]));
    assert!(staging.join("usr/lib/libwharf.so").exists());
    run(&mut make(&["uninstall", "PREFIX=/usr", &destination]));
    let left = run(Command::new("find").arg(&staging).args(["!", "-type", "d"]));
    assert_eq!(left, "");
}

#[test]
fn make_demo_shows_a_conversation_and_ends() {
    if installation().is_none() {
        return;
    }
    let text = run(&mut make(&["demo"]));
    for line in ["server | listening on 127.0.0.1:", "client | Hello, Wharf!", "connected, 1 in all"] {
        assert!(text.contains(line), "{line:?} is missing in:\n{text}");
    }
}

/// The example between two markers of the README.
fn readme_example(language: &str) -> String {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let from = readme.split(&format!("<!-- example: {language} -->")).nth(1).expect("the marker");
    let block = from.split("```").nth(1).expect("a code block");
    block.split_once('\n').expect("a language and code").1.to_string()
}

#[test]
fn the_c_example_of_the_readme_compiles_and_serves() {
    let Some(prefix) = installation() else { return };
    let source = scratch("readme_example.c");
    // A port of the system's choice instead of 8088, which may be taken here, and a line that tells which.
    let code = readme_example("c");
    assert!(code.lines().count() <= 26, "the README promises a short example");
    let tells = "char text[64]; wharf_server_address(server, text, sizeof text, NULL); printf(\"listening on %s\\n\", text); fflush(stdout);\n  return wharf_server_wait";
    let code = code.replace("\":8088\"", "\"127.0.0.1:0\"").replace("return wharf_server_wait", tells);
    std::fs::write(&source, code).unwrap();
    let program = Program::start(&compile(prefix, &source, "readme_example"), &[], Under::Nothing);
    let mut peer = connect(&program.address());
    peer.write_all(b"as in the README").unwrap();
    expect(&mut peer, b"as in the README");
}

#[test]
fn the_python_example_of_the_readme_runs() {
    let Some(prefix) = installation() else { return };
    if !has("python3") {
        return;
    }
    let source = scratch("readme_example.py");
    std::fs::write(&source, readme_example("python")).unwrap();
    let text = run(Command::new("python3").arg(&source).env("LD_LIBRARY_PATH", prefix.join("lib")));
    assert!(text.contains("echoed: hello from Python"), "{text}");
}

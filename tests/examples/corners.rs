//! What the plain conversations leave out: whole outputs, peers that do not read, refusals, and ends of every kind.

use super::*;
use std::process::{Output, Stdio};
use std::time::Duration;

/// Runs a program to its end with this as its whole input.
fn run_with_input(program: &std::path::Path, under: Under, arguments: &[&str], input: &str) -> Output {
    let mut command = command(program, under);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn name(stream: &TcpStream) -> String {
    stream.local_addr().unwrap().to_string()
}

/// Nobody listens there: no system chooses this port by itself, as it might one that was free a moment ago.
const NOBODY: &str = "127.0.0.1:1";

/// Writes a pattern again and again without reading, until the other side takes no more; gives how many bytes it took.
fn write_until_refused(stream: &mut TcpStream, pattern: &[u8]) -> usize {
    const BOUND: usize = 256 << 20;
    let data = pattern.repeat((64 << 10) / pattern.len());
    let mut written = 0;
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    loop {
        // The next piece begins where the last one stopped within the pattern.
        match stream.write(&data[written % pattern.len()..]) {
            Ok(len) => written += len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("after {written} bytes: {error}"),
        }
        assert!(written < BOUND, "it goes on taking what it cannot give back");
    }
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    written
}

/// One HTTP exchange on a connection of its own: what is answered until the server ends it.
fn http(address: &str, request: &str) -> String {
    let mut peer = connect(address);
    peer.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    answer
}

conversations! {
    both_sides_print_the_whole_conversation(examples, under) {
        // The end of input ends it as "exit" does, and what comes back afterwards is still printed.
        for input in ["one\ntwo\n", "one\ntwo\nexit\nnot this\n"] {
            let server = Program::start(&examples.join("echo_server"), &["127.0.0.1:0"], under);
            let address = server.address();
            let client = run_with_input(&examples.join("console_client"), under, &[&address], input);
            let expected = format!("connected to {address}\none\ntwo\ndisconnected (WHARF_E_END_OF_STREAM)\n");
            assert_eq!((text(&client.stdout), text(&client.stderr)), (expected, String::new()));
            assert_eq!(client.status.code(), Some(0));

            let goodbye = server.expect(" disconnected (");
            let lines = server.terminate();
            let peer = goodbye.split(' ').next().unwrap();
            assert_eq!(lines[..2], [format!("listening on {address}"), format!("{peer} connected, 1 in all")]);
            assert_eq!(lines[2], format!("{peer}: one"));
            // Both lines may have come as one message.
            let second = lines[3].strip_prefix(&format!("{peer}: ")).unwrap_or(&lines[3]);
            assert_eq!(second, "two");
            let end = [format!("{peer} disconnected (WHARF_E_END_OF_STREAM), 0 in all"), "stopped".to_string()];
            assert_eq!(lines[4..], end);
        }
    }

    echo_server_holds_a_peer_that_does_not_read(examples, under) {
        let server = Program::start(&examples.join("echo_server"), &["127.0.0.1:0"], under);
        let mut peer = connect(&server.address());
        let pattern = b"It takes no more than it can give back.\n";
        let sent = write_until_refused(&mut peer, pattern);
        peer.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        peer.read_to_end(&mut back).unwrap();
        assert_eq!(back.len(), sent);
        assert!(back.iter().zip(pattern.iter().cycle()).all(|(came, went)| came == went), "other bytes came back");
        drop(peer);
        server.expect("disconnected (WHARF_E_END_OF_STREAM), 0 in all");
        server.terminate();
    }

    a_server_that_cannot_listen_says_why(examples, under) {
        let server = Program::start(&examples.join("echo_server"), &["127.0.0.1:0"], under);
        let address = server.address();
        for program in ["echo_server", "chat_server", "http_hello", "embedded_loop"] {
            let second = run_with_input(&examples.join(program), under, &[&address], "");
            assert_eq!(second.status.code(), Some(1), "{program}");
            assert!(text(&second.stderr).contains(&address), "{program}: {}", text(&second.stderr));
        }
        server.terminate();
    }

    chat_server_tells_who_leaves_and_bounds_a_line(examples, under) {
        let server = Program::start(&examples.join("chat_server"), &["127.0.0.1:0"], under);
        let address = server.address();
        let mut first = connect(&address);
        let mut second = connect(&address);
        expect(&mut first, format!("* {} came\n", name(&second)).as_bytes());
        let mut third = connect(&address);
        for other in [&mut first, &mut second] {
            expect(other, format!("* {} came\n", name(&third)).as_bytes());
        }
        // Half a line stays with the server, whatever the others say meanwhile; nobody hears himself.
        first.write_all(b"hel").unwrap();
        second.write_all(b"between\n").unwrap();
        for other in [&mut first, &mut third] {
            expect(other, format!("{}: between\n", name(&second)).as_bytes());
        }
        first.write_all(b"lo\n").unwrap();
        for other in [&mut second, &mut third] {
            expect(other, format!("{}: hello\n", name(&first)).as_bytes());
        }
        third.write_all(&[b'x'; 4000]).unwrap();
        expect(&mut third, b"* your line is too long, goodbye\n");
        expect_end(&mut third);
        let gone = name(&third);
        drop(third);
        for other in [&mut first, &mut second] {
            expect(other, format!("* {gone} left\n").as_bytes());
        }
        let gone = name(&second);
        drop(second);
        expect(&mut first, format!("* {gone} left\n").as_bytes());
        // Ends in good order with a peer that is still there.
        server.terminate();
        expect_end(&mut first);
    }

    http_hello_judges_requests(examples, under) {
        let server = Program::start(&examples.join("http_hello"), &["127.0.0.1:0"], under);
        let address = server.address();
        for (request, status) in [
            ("GET / HTTP/1.0\r\n\r\n", "200"),
            ("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\nconnection:\t close\r\n\r\n", "200"),
            ("GET / HTTP/1.1\r\n\r\n", "400"),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "400"),
            ("GET / HTTP/9.9\r\nHost: a\r\n\r\n", "400"),
            ("\0", "400"),
            ("x\r\n\r\n", "400"),
            ("POST / HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
        ] {
            let answer = http(&address, request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{request:?}: {answer}");
            assert_eq!(answer.ends_with("\r\n\r\nhello\n"), status == "200", "{request:?}: {answer}");
        }
        // Two requests of HTTP/1.0 on one connection, when the first one asks for it; nothing after the last is judged.
        let requests = "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET / HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n";
        assert_eq!(http(&address, requests).matches("hello\n").count(), 2);
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(100_000));
        assert!(http(&address, &large).starts_with("HTTP/1.1 431 "), "a head without an end");
        server.terminate();
    }

    http_hello_holds_a_peer_that_does_not_read(examples, under) {
        let server = Program::start(&examples.join("http_hello"), &["127.0.0.1:0"], under);
        let mut peer = connect(&server.address());
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let sent = write_until_refused(&mut peer, request);
        let (mut reader, mut answers) = (peer.try_clone().unwrap(), Vec::new());
        let reader = std::thread::spawn(move || reader.read_to_end(&mut answers).map(|_| answers));
        peer.write_all(&request[sent % request.len()..]).unwrap();
        peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let answers = text(&reader.join().unwrap().unwrap());
        assert_eq!(answers.matches("\r\n\r\nhello\n").count(), sent / request.len() + 2);
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), sent / request.len() + 2);
        server.terminate();
    }

    forwarder_lets_either_side_end_first(examples, under) {
        let target = TcpListener::bind("127.0.0.1:0").unwrap();
        let to = target.local_addr().unwrap().to_string();
        let forwarder = Program::start(&examples.join("forwarder"), &["127.0.0.1:0", &to], under);
        let address = forwarder.address();
        let data = bytes(3, 1 << 20);
        let mut near = connect(&address);
        let (mut far, _) = target.accept().unwrap();
        far.write_all(b"greeting").unwrap();
        far.shutdown(Shutdown::Write).unwrap();
        expect(&mut near, b"greeting");
        expect_end(&mut near);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                near.write_all(&data).unwrap();
                near.shutdown(Shutdown::Write).unwrap();
            });
            let mut came = Vec::new();
            far.read_to_end(&mut came).unwrap();
            assert!(came == data, "{} of {} bytes, or others", came.len(), data.len());
        });
        // Ends in good order with a pair that is still open.
        let mut near = connect(&address);
        let (mut far, _) = target.accept().unwrap();
        near.write_all(b"still here").unwrap();
        expect(&mut far, b"still here");
        forwarder.terminate();
        expect_end(&mut near);
        expect_end(&mut far);
    }

    forwarder_resets_who_comes_when_the_target_is_away(examples, under) {
        let forwarder = Program::start(&examples.join("forwarder"), &["127.0.0.1:0", NOBODY], under);
        for _ in 0..3 {
            let error = connect(&forwarder.address()).read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        }
        let lines = forwarder.terminate();
        let told = lines.iter().filter(|line| line.starts_with("forwarder: connect: nobody listens"));
        assert_eq!(told.count(), 3, "{lines:#?}");
        let usage = command(&examples.join("forwarder"), under).output().unwrap();
        assert_eq!(usage.status.code(), Some(2));
    }

    embedded_loop_ends_on_a_signal(examples, under) {
        let mut program = Program::start(&examples.join("embedded_loop"), &["127.0.0.1:0"], under);
        let address = program.address();
        let mut peers = [connect(&address), connect(&address), connect(&address)];
        for peer in &peers {
            program.expect(&format!("{} connected", name(peer)));
        }
        program.type_line("to all");
        program.expect("sent to 3, refused by 0");
        for peer in &mut peers {
            expect(peer, b"to all\n");
        }
        let [gone, mut other, mut last] = peers;
        drop(gone);
        program.expect("a client disconnected (WHARF_E_END_OF_STREAM)");
        let lines = program.terminate();
        let stopped = lines.iter().filter(|line| *line == "a client disconnected (WHARF_E_STOPPED)");
        assert_eq!(stopped.count(), 2, "{lines:#?}");
        expect_end(&mut other);
        expect_end(&mut last);
    }

    blocking_client_tells_what_failed(examples, under) {
        let program = examples.join("blocking_client");
        let refused = run_with_input(&program, under, &[NOBODY], "");
        assert_eq!((refused.status.code(), text(&refused.stdout)), (Some(1), String::new()));
        assert!(text(&refused.stderr).contains("refused"), "{}", text(&refused.stderr));
        // A server that hangs up instead of answering.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Program::start(&program, &[&listener.local_addr().unwrap().to_string(), "hello?"], under);
        let (mut peer, _) = listener.accept().unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        expect(&mut peer, b"hello?");
        drop(peer);
        client.expect("blocking_client: receive: the peer has sent all that it will send");
    }
}

#[test]
fn the_c_example_of_the_readme_compiles_as_it_stands() {
    let Some(prefix) = installation() else { return };
    let source = scratch("readme_as_it_stands.c");
    std::fs::write(&source, readme_example("c")).unwrap();
    compile(prefix, &source, "readme_as_it_stands");
}

#[test]
fn programs_need_the_library_by_its_versioned_name_and_static_ones_not_at_all() {
    let (Some(prefix), Some(examples)) = (installation(), examples()) else { return };
    if !has("readelf") {
        return;
    }
    let needed = |program: &std::path::Path| run(Command::new("readelf").arg("-d").arg(program));
    let folder = build_examples(prefix, "examples-without-library", &["STATIC=1"]);
    let mut count = 0;
    for entry in std::fs::read_dir(root().join("c_examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "c") {
            let program = path.file_stem().unwrap();
            assert!(needed(&examples.join(program)).contains("[libwharf.so.0]"), "{}", path.display());
            assert!(!needed(&folder.join(program)).contains("libwharf"), "{}", path.display());
            count += 1;
        }
    }
    assert_eq!(count, 8, "each example of the README is there");
}

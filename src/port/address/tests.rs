//! What is read, what is refused, and in which words.

use super::*;

fn listen(text: &str) -> String {
    Address::parse_listen(text).map_or_else(|error| error.message, |address| address.to_string())
}

fn target(text: &str) -> String {
    Target::parse(text).map_or_else(|error| error.message, |target| target.to_string())
}

#[test]
fn every_form_is_read_and_printed_as_it_is_read_back() {
    for (text, printed) in [
        ("0.0.0.0:8088", "0.0.0.0:8088"),
        ("[::]:8088", "[::]:8088"),
        ("[::1]:0", "[::1]:0"),
        ("[fe80::1%2]:80", "[fe80::1%2]:80"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
        (":8088", ":8088"),
        ("*:8088", ":8088"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("unix:x.sock", "unix:x.sock"),
        ("unix:./@x", "unix:./@x"),
    ] {
        assert_eq!(listen(text), printed);
        assert_eq!(listen(printed), printed);
    }
    assert_eq!(Address::Unix("@x".into()).to_string(), "unix:\\x40x");
    assert_eq!(Address::UnixUnnamed.to_string(), "unix:");
    assert_eq!(Address::Ip("[::ffff:192.0.2.1]:80".parse().unwrap()).to_string(), "192.0.2.1:80");
}

#[cfg(unix)]
#[test]
fn a_scope_may_be_the_name_of_an_interface() {
    // SAFETY: the buffer has the size that if_indextoname asks for.
    let name = unsafe {
        let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
        assert!(!libc::if_indextoname(1, name.as_mut_ptr()).is_null());
        std::ffi::CStr::from_ptr(name.as_ptr()).to_str().unwrap().to_owned()
    };
    assert_eq!(listen(&format!("[fe80::1%{name}]:80")), "[fe80::1%1]:80");
    assert!(listen("[fe80::1%nosuch]:80").contains("\"nosuch\" is no network interface"));
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_are_read_on_linux() {
    assert_eq!(Address::parse_listen("unix:@x").unwrap(), Address::UnixAbstract(b"x".to_vec()));
    assert_eq!(listen("unix:@x"), "unix:@x");
}

#[test]
fn every_name_of_a_unix_socket_is_printed_as_it_is_read_back() {
    let long = vec![0xff; UNIX_PATH_MAX];
    for (name, printed) in [
        (&b"/run/x y.sock"[..], "/run/x y.sock"),
        ("/run/bücher".as_bytes(), "/run/bücher"),
        (b"/run/\xff\xfe", "/run/\\xff\\xfe"),
        (b"/a\nb\x7f", "/a\\x0ab\\x7f"),
        ("/\u{85}".as_bytes(), "/\\xc2\\x85"),
        (b"/a\\b\\x4\\xgg\\", "/a\\b\\x4\\xgg\\"),
        (b"/a\\x41", "/a\\x5cx41"),
        (b"/\\\xffx41", "/\\\\xffx41"),
        (b"@x@", "\\x40x@"),
        (b"\\x40", "\\x5cx40"),
        (&long, &"\\xff".repeat(UNIX_PATH_MAX)),
    ] {
        let path = Address::Unix(path_of(name.to_vec()));
        assert_eq!(path.to_string(), format!("unix:{printed}"));
        assert_eq!(Address::parse_listen(&path.to_string()), Ok(path.clone()));
        assert_eq!(Target::parse(&path.to_string()), Ok(Target::Address(path)));
    }
    assert_eq!(Address::parse_listen("unix:/\\xFF"), Ok(Address::Unix(path_of(b"/\xff".to_vec()))));
    assert!(listen("unix:/a\\x00b").contains("zero byte"));
    let long = format!("unix:/{}", "\\xff".repeat(UNIX_PATH_MAX));
    assert!(listen(&long).contains(&format!("{} bytes are too long", UNIX_PATH_MAX + 1)));
}

#[cfg(target_os = "linux")]
#[test]
fn every_abstract_name_is_printed_as_it_is_read_back() {
    for name in [&b"x"[..], b"@x", b"x\0\0y\0", b"\0", b"\xff\n", b"a\\x00", &[0; UNIX_PATH_MAX]] {
        let address = Address::UnixAbstract(name.to_vec());
        let text = address.to_string();
        assert!(!text.contains(char::is_control));
        assert_eq!(Address::parse_listen(&text), Ok(address));
    }
}

#[test]
fn clients_may_name_hosts() {
    for text in ["example.org:80", "localhost:65535", "a-b_c.example.:1", "bücher.example:80"] {
        assert!(matches!(Target::parse(text), Ok(Target::Host { .. })), "{text}");
        assert_eq!(target(text), text);
    }
    for text in ["127.0.0.1:80", "[::1]:80", "unix:/x"] {
        assert!(matches!(Target::parse(text), Ok(Target::Address(_))), "{text}");
        assert_eq!(target(text), text);
    }
}

#[test]
fn a_wrong_address_is_named_and_the_right_form_told() {
    let long = "x".repeat(254);
    let long_path = format!("unix:/{}", "x".repeat(UNIX_PATH_MAX));
    for (text, advice) in [
        ("", "it is empty; write it as \"127.0.0.1:8088\""),
        ("foo", "no port; write it as \"foo:8088\""),
        ("foo:", "no port; write it as \"foo:8088\""),
        ("8088", "no port; write it as \"127.0.0.1:8088\""),
        (":", "no port; write it as \"127.0.0.1:8088\""),
        ("1.2.3.4", "no port; write it as \"1.2.3.4:8088\""),
        ("[::1]", "no port; write it as \"[::1]:8088\""),
        ("[::1]:", "no port; write it as \"[::1]:8088\""),
        ("[::1", "no closing bracket"),
        ("[1.2.3.4]:80", "\"1.2.3.4\" is not an IPv6 address"),
        ("::1", "write it as \"[::1]:8088\""),
        ("fe80::x:80", "an IPv6 address needs brackets; write it as \"[fe80::x]:80\""),
        ("a\n::1:80", "write it as \"[a\\n::1]:80\""),
        ("foo:65536", "\"65536\" is not a port"),
        ("foo:+80", "\"+80\" is not a port"),
        ("foo:http", "\"http\" is not a port"),
        ("1.2.3.400:80", "\"1.2.3.400\" is not an IPv4 address"),
        ("a b:80", "a host name has no ' '"),
        ("a\n:80", "a host name has no '\\n'"),
        ("http://foo:80/x", "a URL is not an address; write it as \"foo:80\""),
        ("http://foo/x", "write it as \"foo:8088\""),
        ("unix:", "no path"),
        ("unix:a\0b", "zero byte"),
        (&format!("{long}:80"), "at most 253 bytes, this one 254"),
        (&long_path, "too long for a Unix socket; use at most"),
    ] {
        for message in [listen(text), target(text)] {
            assert!(message.contains(advice), "{text:?}: {message}");
            let named = format!("{text:?}");
            assert!(
                message.starts_with(&format!("address {}", &named[..named.len().min(60)].trim_end_matches('"'))),
                "{message}"
            );
            assert!(message.len() < 300 && !message.contains(char::is_control), "{message:?}");
        }
    }
}

#[test]
fn listening_and_connecting_differ_in_what_they_take() {
    assert!(listen("localhost:8088").ends_with("write it as \"127.0.0.1:8088\""));
    assert!(listen("example.org:80").ends_with("write it as \"0.0.0.0:80\""));
    assert!(target(":80").ends_with("no host to connect to; write it as \"localhost:80\""));
    for text in ["foo:0", "127.0.0.1:0", "[::1]:0"] {
        assert_eq!(
            target(text),
            format!("address {text:?}: port 0 cannot be connected to; write a port from 1 to 65535")
        );
    }
    for text in ["unix:/x", "foo:0"] {
        assert!(Address::parse_local(text).unwrap_err().message.contains("a local address is an IP address"));
    }
    assert_eq!(Address::parse_local("192.0.2.1:0").unwrap().to_string(), "192.0.2.1:0");
}

#[test]
fn families_are_compared() {
    let address = |text| Address::parse_listen(text).unwrap();
    let same = |one, two| address(one).is_same_family(&address(two));
    assert!(same("1.2.3.4:1", "5.6.7.8:2") && same("[::1]:1", "[::2]:1") && same(":1", "1.2.3.4:1"));
    assert!(!same("1.2.3.4:1", "[::2]:1") && !same("unix:/x", ":1") && !same(":1", "unix:/x"));
    assert!(same("unix:/x", "unix:/y"));
}

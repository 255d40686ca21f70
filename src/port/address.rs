//! Addresses as users write them: where to listen, what to connect to, where to connect from.
//!
//! | text | means |
//! | --- | --- |
//! | `0.0.0.0:8088` | IPv4 |
//! | `[::1]:8088`, `[fe80::1%eth0]:8088` | IPv6, with a scope where one is needed |
//! | `:8088`, `*:8088` | every address of this machine, IPv6 and IPv4 |
//! | `unix:/run/x.sock` | a Unix socket; `unix:@name`: in the abstract namespace (Linux); `\xHH`: a byte of the name |
//! | `example.org:80` | a host name, for clients |

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::PathBuf;

use super::system::limits::{UNIX_PATH_MAX, interface_number, path_of};
use unix_name::{Printed, write_escaped};

/// Where a socket is, or listens, or connects to. `Display` prints what the parsers read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Address {
    /// An IP address and port. Made by `From<SocketAddr>` it is never an IPv4 address in IPv6's clothes.
    Ip(SocketAddr),
    /// This port on every address of the machine: dual-mode IPv6, or IPv4 where the system has no IPv6.
    EveryIp(u16),
    /// A Unix socket with a path.
    Unix(PathBuf),
    /// A Unix socket in Linux's abstract namespace; the name is without the leading zero byte.
    UnixAbstract(Vec<u8>),
    /// A Unix socket without a name, as the connecting side has.
    UnixUnnamed,
}

/// What a client connects to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// An address that needs no resolving.
    Address(Address),
    /// A host name that is resolved at each connect.
    Host {
        /// The name.
        name: String,
        /// The port, never 0.
        port: u16,
    },
}

/// What is wrong with an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressError {
    /// One sentence that names the text and says what to do.
    pub message: String,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for AddressError {}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        Address::Ip(plain(address))
    }
}

/// An IPv4 peer of a dual-mode listener comes as `::ffff:192.0.2.1`; this makes it 192.0.2.1.
#[inline]
pub(super) fn plain(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

impl Address {
    /// Reads an address to listen on. Port 0 lets the system choose.
    pub fn parse_listen(text: &str) -> Result<Address, AddressError> {
        match Parts::of(text)? {
            Parts::Known(address) => Ok(address),
            Parts::Host { name, port } => {
                let ip = if name.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { "0.0.0.0" };
                Err(wrong(
                    text,
                    format_args!(
                        "{name:?} is a host name, and a server listens on an address; write it as \"{ip}:{port}\""
                    ),
                ))
            }
        }
    }

    /// Reads an address to connect from: an IP address and a port, where 0 lets the system choose.
    pub fn parse_local(text: &str) -> Result<Address, AddressError> {
        match Parts::of(text)? {
            Parts::Known(address @ (Address::Ip(_) | Address::EveryIp(_))) => Ok(address),
            _ => Err(wrong(
                text,
                format_args!("a local address is an IP address and a port; write it as \"192.0.2.1:0\" or \"[::1]:0\""),
            )),
        }
    }

    /// The IP address and port, where it has one.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(address) => Some(*address),
            _ => None,
        }
    }

    /// Whether a socket that is bound to one can connect to the other.
    pub fn is_same_family(&self, other: &Address) -> bool {
        match (self, other) {
            (Address::Ip(one), Address::Ip(two)) => one.is_ipv4() == two.is_ipv4(),
            (Address::EveryIp(_), Address::Ip(_) | Address::EveryIp(_)) | (Address::Ip(_), Address::EveryIp(_)) => true,
            _ => self.is_unix() && other.is_unix(),
        }
    }

    /// Whether it is a Unix socket of any kind.
    pub fn is_unix(&self) -> bool {
        matches!(self, Address::Unix(_) | Address::UnixAbstract(_) | Address::UnixUnnamed)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => plain(*address).fmt(f),
            Address::EveryIp(port) => write!(f, ":{port}"),
            Address::Unix(path) => {
                let path = path.as_os_str().as_encoded_bytes();
                f.write_str("unix:")?;
                // "unix:@x" would be read back as an abstract name.
                let (first, rest) = path.split_at(usize::from(path.starts_with(b"@")));
                write_escaped(f, first)?;
                Printed(rest).fmt(f)
            }
            Address::UnixAbstract(name) => write!(f, "unix:@{}", Printed(name)),
            Address::UnixUnnamed => f.write_str("unix:"),
        }
    }
}

impl Target {
    /// Reads what a client connects to: an address, or a host name and port.
    pub fn parse(text: &str) -> Result<Target, AddressError> {
        let no_port = || wrong(text, format_args!("port 0 cannot be connected to; write a port from 1 to 65535"));
        match Parts::of(text)? {
            Parts::Known(Address::EveryIp(port)) => Err(wrong(
                text,
                format_args!(
                    "no host to connect to; write it as \"localhost:{}\"",
                    if port == 0 { 8088 } else { port }
                ),
            )),
            Parts::Known(Address::Ip(address)) if address.port() == 0 => Err(no_port()),
            Parts::Host { port: 0, .. } => Err(no_port()),
            Parts::Known(address) => Ok(Target::Address(address)),
            Parts::Host { name, port } => Ok(Target::Host { name: name.to_owned(), port }),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Host { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

/// A text, taken apart; what both parsers share.
enum Parts<'a> {
    Known(Address),
    Host { name: &'a str, port: u16 },
}

impl Parts<'_> {
    fn of(text: &str) -> Result<Parts<'_>, AddressError> {
        if text.is_empty() {
            return Err(wrong(text, format_args!("it is empty; write it as \"127.0.0.1:8088\" or \"unix:/path\"")));
        }
        if let Some(name) = text.strip_prefix("unix:") {
            return unix(text, name).map(Parts::Known);
        }
        if let Some((_, rest)) = text.split_once("://") {
            let host = rest.split('/').next().unwrap_or_default();
            return Err(wrong(text, format_args!("a URL is not an address; write it as {:?}", example(host))));
        }
        if let Some(rest) = text.strip_prefix('[') {
            return ipv6(text, rest).map(Parts::Known);
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(wrong(text, format_args!("no port; write it as {:?}", example(text))));
        };
        if host.contains(':') {
            let (ip, port) = if text.parse::<Ipv6Addr>().is_ok() { (text, "8088") } else { (host, port) };
            let advice = format!("[{ip}]:{port}");
            return Err(wrong(text, format_args!("an IPv6 address needs brackets; write it as {advice:?}")));
        }
        let port = port_number(text, host, port)?;
        if matches!(host, "" | "*") {
            return Ok(Parts::Known(Address::EveryIp(port)));
        }
        if let Ok(v4) = host.parse::<Ipv4Addr>() {
            return Ok(Parts::Known(Address::Ip(SocketAddr::new(v4.into(), port))));
        }
        host_name(text, host)?;
        Ok(Parts::Host { name: host, port })
    }
}

fn port_number(text: &str, host: &str, port: &str) -> Result<u16, AddressError> {
    if port.is_empty() {
        return Err(wrong(text, format_args!("no port; write it as {:?}", example(host))));
    }
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| digits).ok_or_else(|| {
        wrong(text, format_args!("{port:?} is not a port; write a number from 0 to 65535 after the last colon"))
    })
}

/// `rest` is what follows the opening bracket.
fn ipv6(text: &str, rest: &str) -> Result<Address, AddressError> {
    let Some((host, after)) = rest.split_once(']') else {
        return Err(wrong(text, format_args!("no closing bracket; write it as \"[::1]:8088\"")));
    };
    let (ip, scope) = host.split_once('%').map_or((host, None), |(ip, scope)| (ip, Some(scope)));
    let Ok(ip) = ip.parse::<Ipv6Addr>() else {
        return Err(wrong(text, format_args!("{ip:?} is not an IPv6 address; write it as \"[::1]:8088\"")));
    };
    let scope_id = match scope {
        None => 0,
        Some(scope) => scope_number(scope).ok_or_else(|| {
            wrong(text, format_args!("{scope:?} is no network interface; write its name or number after the \"%\""))
        })?,
    };
    let Some(port) = after.strip_prefix(':') else {
        let advice = format!("[{host}]:8088");
        return Err(wrong(text, format_args!("no port; write it as {advice:?}")));
    };
    let port = port_number(text, &format!("[{host}]"), port)?;
    Ok(Address::from(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope_id))))
}

fn scope_number(scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| interface_number(scope))
}

/// `name` is what follows "unix:".
fn unix(text: &str, name: &str) -> Result<Address, AddressError> {
    let limit = UNIX_PATH_MAX;
    if name.is_empty() {
        return Err(wrong(text, format_args!("no path; write it as \"unix:/run/name.sock\"")));
    }
    let abstract_name = name.strip_prefix('@').map(unix_name::read);
    let path = unix_name::read(name);
    let length = abstract_name.as_ref().unwrap_or(&path).len();
    if length > limit {
        return Err(wrong(text, format_args!("{length} bytes are too long for a Unix socket; use at most {limit}")));
    }
    let Some(abstract_name) = abstract_name else {
        if path.contains(&0) {
            return Err(wrong(text, format_args!("the path has a zero byte; leave it out")));
        }
        return Ok(Address::Unix(path_of(path)));
    };
    if cfg!(not(target_os = "linux")) {
        return Err(wrong(
            text,
            format_args!("this system has no abstract names; use a path, as \"unix:/run/name.sock\""),
        ));
    }
    if abstract_name.is_empty() {
        return Err(wrong(text, format_args!("no name after the \"@\"; write it as \"unix:@name\"")));
    }
    Ok(Address::UnixAbstract(abstract_name))
}

fn host_name(text: &str, host: &str) -> Result<(), AddressError> {
    if host.len() > 253 {
        return Err(wrong(
            text,
            format_args!("a host name has at most 253 bytes, this one {}; shorten it", host.len()),
        ));
    }
    let odd =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\' | '@' | '?' | '#' | '[' | ']' | '%');
    if let Some(c) = host.chars().find(|c| odd(*c)) {
        return Err(wrong(text, format_args!("a host name has no {c:?}; leave it out")));
    }
    // "1.2.3.400" is a misspelt address, not a name: no top-level domain is a number.
    let last_label = host.strip_suffix('.').unwrap_or(host).rsplit('.').next().unwrap_or_default();
    if !last_label.is_empty() && last_label.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong(text, format_args!("{host:?} is not an IPv4 address; write four numbers from 0 to 255")));
    }
    Ok(())
}

/// What the user may have meant by a text without a port.
fn example(host: &str) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:8088"),
        _ if host.is_empty() => "127.0.0.1:8088".to_owned(),
        _ if host.bytes().all(|byte| byte.is_ascii_digit()) => format!("127.0.0.1:{host}"),
        _ if host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) => host.to_owned(),
        _ => format!("{}:8088", host.trim_end_matches(':')),
    }
}

#[cold]
fn wrong(text: &str, why: fmt::Arguments<'_>) -> AddressError {
    const SHOWN: usize = 100;
    let message = match text.char_indices().nth(SHOWN) {
        None => format!("address {text:?}: {why}"),
        Some((end, _)) => format!("address {:?} (shortened): {why}", &text[..end]),
    };
    AddressError { message }
}

#[cfg(test)]
mod tests;
mod unix_name;

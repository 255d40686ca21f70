//! Lists of address blocks: "10.0.0.0/8, 2001:db8::/32". Judged when a server is made, looked up for each connection.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::engine::failure::{Failure, Outcome};
use crate::status::Status;

/// Blocks without overlap, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList {
    v4: Vec<Ipv4Net>,
    v6: Vec<Ipv6Net>,
}

/// The first sixteen bytes of an IPv4 address that is written as IPv6 are counted in its prefix.
const MAPPED_BITS: u8 = 96;

impl AddressList {
    /// Parses a list whose entries stand between commas or white space; `name` is what its user calls it.
    pub fn parse(name: &str, text: &str) -> Outcome<AddressList> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        for (place, entry) in entries.enumerate() {
            match block(entry).map_err(|why| wrong(name, place + 1, entry, &why))? {
                IpNet::V4(net) => v4.push(net),
                IpNet::V6(net) => v6.push(net),
            }
        }
        Ok(AddressList { v4: Ipv4Net::aggregate(&v4), v6: Ipv6Net::aggregate(&v6) })
    }

    /// Whether it has no block at all.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether an address is in one of the blocks; IPv4 in IPv6 must have been unmapped.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(ip) => {
                let next = self.v4.partition_point(|net| net.network() <= ip);
                self.v4[..next].last().is_some_and(|net| net.contains(&ip))
            }
            IpAddr::V6(ip) => {
                let next = self.v6.partition_point(|net| net.network() <= ip);
                self.v6[..next].last().is_some_and(|net| net.contains(&ip))
            }
        }
    }
}

/// One entry, or what is wrong with it.
fn block(entry: &str) -> Result<IpNet, String> {
    let net = match entry.contains('/') {
        true => entry.parse::<IpNet>().ok(),
        false => entry.parse::<IpAddr>().ok().map(IpNet::from),
    };
    let net = net.ok_or("is no address block: write it as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7")?;
    if net != net.trunc() {
        return Err(format!("has bits behind its prefix: write {}", net.trunc()));
    }
    Ok(match net {
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED_BITS => match v6.network().to_ipv4_mapped() {
            Some(ip) => Ipv4Net::new_assert(ip, v6.prefix_len() - MAPPED_BITS).into(),
            None => net,
        },
        _ => net,
    })
}

#[cold]
fn wrong(name: &str, place: usize, entry: &str, why: &dyn fmt::Display) -> Failure {
    const SHOWN: usize = 60;
    let shown: String = entry.chars().take(SHOWN).collect();
    Failure::new(Status::InvalidArgument, format!("{name}: entry {place}, {shown:?}, {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AddressList {
        AddressList::parse("allow", text).unwrap()
    }

    fn has(list: &AddressList, ip: &str) -> bool {
        list.contains(ip.parse().unwrap())
    }

    #[test]
    fn an_address_is_found_in_any_block_and_nowhere_else() {
        let list = list("192.0.2.7, 10.0.0.0/8\n 10.1.0.0/16,2001:db8::/32 , 203.0.113.0/25\t203.0.113.128/25");
        for inside in ["192.0.2.7", "10.0.0.0", "10.1.2.3", "10.255.255.255", "2001:db8::1", "203.0.113.200"] {
            assert!(has(&list, inside), "{inside}");
        }
        for outside in ["192.0.2.6", "192.0.2.8", "9.255.255.255", "11.0.0.0", "2001:db9::", "2001:db7::1", "::1"] {
            assert!(!has(&list, outside), "{outside}");
        }
    }

    #[test]
    fn mapped_blocks_are_ipv4_blocks_and_all_of_ipv6_is_not_ipv4() {
        assert_eq!(list("::ffff:10.0.0.0/104"), list("10.0.0.0/8"));
        assert_eq!(list("::ffff:192.0.2.7"), list("192.0.2.7/32"));
        assert!(!has(&list("::/0"), "192.0.2.7") && has(&list("::/0"), "2001:db8::1"));
        assert!(has(&list("0.0.0.0/0"), "192.0.2.7") && !has(&list("0.0.0.0/0"), "::1"));
    }

    #[test]
    fn nothing_but_separators_is_an_empty_list() {
        for text in ["", " ", ",", " ,\n, "] {
            assert!(list(text).is_empty());
        }
    }

    #[test]
    fn the_wrong_entry_is_named() {
        for (text, place, entry) in [
            ("10.0.0.0/8, 10.0.0.300/8", 2, "10.0.0.300/8"),
            ("10.0.0.0/33", 1, "10.0.0.0/33"),
            ("::1 ::2 2001:db8::/129", 3, "2001:db8::/129"),
            ("example.org", 1, "example.org"),
            ("10.0.0.0/8;11.0.0.0/8", 1, "10.0.0.0/8;11.0.0.0/8"),
            ("fe80::1%eth0", 1, "fe80::1%eth0"),
            ("10.0.0.1/8", 1, "10.0.0.1/8"),
            ("10.0.0.0/", 1, "10.0.0.0/"),
        ] {
            let failure = AddressList::parse("deny", text).unwrap_err();
            assert_eq!(failure.status, Status::InvalidArgument);
            let begin = format!("deny: entry {place}, {entry:?}, ");
            assert!(failure.message.starts_with(&begin), "{}", failure.message);
        }
        let told = AddressList::parse("allow", "10.9.0.1/8").unwrap_err().message;
        assert!(told.ends_with("write 10.0.0.0/8"), "{told}");
        let told = AddressList::parse("allow", &"x".repeat(1000)).unwrap_err().message;
        assert!(told.len() < 256, "{told}");
    }
}

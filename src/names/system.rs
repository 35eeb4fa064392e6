//! What the system says about names: the texts of `/etc/resolv.conf` and `/etc/hosts`. As in the C library, a line that
//! cannot be read is as if it were not there.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use super::name::Name;
use crate::limits::{HOSTS_NAMES_MAX, NAME_SERVERS_MAX};

const DNS_PORT: u16 = 53;

/// Whom to ask and how patiently: resolv.conf(5) without its search list, which a SIP domain has no use for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Servers {
    /// In the order in which they are asked, at most [`NAME_SERVERS_MAX`]; without any the one on this host is.
    pub servers: Vec<SocketAddr>,
    /// How long one of them may take: `timeout`, 1 to 30 s.
    pub timeout: Duration,
    /// How often each is asked: `attempts`, 1 to 5.
    pub attempts: usize,
    /// Begin with another one each time: `rotate`.
    pub rotate: bool,
    /// Ask by TCP at once: `use-vc`.
    pub tcp_only: bool,
}

impl Default for Servers {
    /// An empty file: the server on this host.
    fn default() -> Self {
        Self {
            servers: vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), DNS_PORT)],
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            tcp_only: false,
        }
    }
}

impl Servers {
    /// Reads resolv.conf(5). `interface` is the index of a network interface by its name, which a link-local server's
    /// address needs.
    pub fn read(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Self {
        let mut read = Self {
            servers: Vec::new(),
            ..Self::default()
        };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if read.servers.len() < NAME_SERVERS_MAX => {
                    let server = words.next().and_then(|word| server(word, &interface));
                    read.servers.extend(server);
                }
                Some("options") => words.for_each(|option| read.set(option)),
                _ => {}
            }
        }
        read.or_this_host()
    }

    /// With the server on this host, if there is no other.
    pub(super) fn or_this_host(mut self) -> Self {
        if self.servers.is_empty() {
            self.servers = Self::default().servers;
        }
        self
    }

    fn set(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        match (name, value.parse::<u8>()) {
            ("timeout", Ok(seconds)) => {
                self.timeout = Duration::from_secs(seconds.clamp(1, 30).into());
            }
            ("attempts", Ok(attempts)) => self.attempts = attempts.clamp(1, 5).into(),
            ("rotate", _) => self.rotate = true,
            ("use-vc", _) => self.tcp_only = true,
            _ => {}
        }
    }
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
fn server(text: &str, interface: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, DNS_PORT));
    };
    let scope = zone.parse().ok().or_else(|| interface(zone))?;
    Some(SocketAddrV6::new(address.parse().ok()?, DNS_PORT, 0, scope).into())
}

/// hosts(5): names that need nobody to be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts(BTreeMap<Name, Vec<IpAddr>>);

impl Hosts {
    /// Reads hosts(5); a name in several lines has all their addresses.
    pub fn read(text: &str) -> Self {
        let mut hosts = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for name in words.filter_map(Name::parse) {
                if hosts.0.len() >= HOSTS_NAMES_MAX && !hosts.0.contains_key(&name) {
                    return hosts;
                }
                let addresses = hosts.0.entry(name).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        hosts
    }

    /// The addresses of a name, if it is one of these.
    pub(super) fn get(&self, name: &Name) -> Option<&[IpAddr]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_its_page_says() {
        let text = "# comment\n; another\nsearch example.com\nnameserver 192.0.2.1\nnameserver\n\
                    nameserver here\n nameserver 2001:db8::1 \nnameserver fe80::1%eth7\n\
                    nameserver 192.0.2.4\noptions ndots:3 timeout:2 attempts:3\noptions rotate use-vc edns0\n";
        let read = Servers::read(text, |name| (name == "eth7").then_some(7));
        let scoped: SocketAddr = "[fe80::1%7]:53".parse().unwrap();
        let expected = Servers {
            servers: vec![
                "192.0.2.1:53".parse().unwrap(),
                "[2001:db8::1]:53".parse().unwrap(),
                scoped,
            ],
            timeout: Duration::from_secs(2),
            attempts: 3,
            rotate: true,
            tcp_only: true,
        };
        assert_eq!(read, expected);
        assert_eq!(
            Servers::read("nameserver fe80::1%7", |_| None).servers,
            [scoped]
        );
    }

    #[test]
    fn an_empty_resolv_conf_means_this_host_and_numbers_have_bounds() {
        assert_eq!(Servers::read("", |_| None), Servers::default());
        assert_eq!(
            Servers::read("nameserver fe80::1%gone", |_| None),
            Servers::default()
        );
        for (options, timeout, attempts) in [
            ("timeout:0 attempts:0", 1, 1),
            ("timeout:200 attempts:200", 30, 5),
            ("timeout:x attempts:-1", 5, 2),
            ("timeout attempts:999", 5, 2),
        ] {
            let read = Servers::read(&format!("options {options}"), |_| None);
            assert_eq!(
                (read.timeout.as_secs(), read.attempts),
                (timeout, attempts),
                "{options}"
            );
        }
    }

    #[test]
    fn hosts_are_read_with_all_their_addresses() {
        let text = "127.0.0.1 localhost # 192.0.2.9 no\n#192.0.2.8 no\n::1 localhost ip6-localhost\n\
                    192.0.2.1\tPBX.Example.com pbx\n192.0.2.1 pbx\nnonsense x\n192.0.2.3 b@d fine\n";
        let hosts = Hosts::read(text);
        let get = |name: &str| {
            let addresses = hosts.get(&Name::parse(name).unwrap());
            addresses.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(get("localhost").unwrap(), ["127.0.0.1", "::1"]);
        assert_eq!(get("pbx.example.com").unwrap(), ["192.0.2.1"]);
        assert_eq!(get("pbx").unwrap(), ["192.0.2.1"]);
        assert_eq!(get("fine").unwrap(), ["192.0.2.3"]);
        assert_eq!((get("no"), get("x")), (None, None));
    }

    #[test]
    fn hosts_are_bounded() {
        let text: String = (0..=HOSTS_NAMES_MAX)
            .map(|n| format!("192.0.2.1 h{n}\n"))
            .collect();
        assert_eq!(Hosts::read(&text).0.len(), HOSTS_NAMES_MAX);
    }
}

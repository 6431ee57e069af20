//! The types of configuration values and how each is read from text.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address range such as `10.42.0.0/16`; the host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The first address.
    pub network: IpAddr,
    /// The number of leading bits that all addresses share.
    pub prefix: u8,
}

impl Cidr {
    /// Whether `address` lies in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address, self.prefix) == self.network && address.is_ipv4() == self.network.is_ipv4()
    }

    /// Whether the two ranges share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// The `n`th address of the range, counted from 0; `None` behind its end.
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        let address = match self.network {
            IpAddr::V4(first) => IpAddr::V4(u32::from(first).checked_add(n)?.into()),
            IpAddr::V6(first) => IpAddr::V6(u128::from(first).checked_add(n.into())?.into()),
        };
        self.contains(address).then_some(address)
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not an address range such as 10.42.0.0/16");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let network: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > if network.is_ipv4() { 32 } else { 128 } {
            return Err(wrong());
        }
        let first = masked(network, prefix);
        if first != network {
            return Err(format!("{text:?} has host bits set; the range is {first}/{prefix}"));
        }
        Ok(Self { network, prefix })
    }
}

/// Permission bits, written in octal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl FromStr for FileMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bits = u32::from_str_radix(text.trim_start_matches("0o"), 8).ok().filter(|bits| *bits <= 0o777);
        bits.map(Self).ok_or_else(|| format!("{text:?} is not a file mode such as 600 or 644"))
    }
}

/// Ports from the first to the last, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ports = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match ports {
            Some((first, last)) if first > 0 && first <= last => Ok(Self { first, last }),
            _ => Err(format!("{text:?} is not a port range such as 30000-32767")),
        }
    }
}

/// Where a server is: `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerUrl {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// The port of the API.
    pub port: u16,
}

impl ServerUrl {
    /// The port when none is named.
    const PORT: u16 = 6443;

    /// `host:port`.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            return format!("[{}]:{}", self.host, self.port);
        }
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "https://{}", self.authority())
    }
}

impl FromStr for ServerUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a server such as https://10.0.0.2:6443");
        let rest = text.strip_prefix("https://").ok_or_else(wrong)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(Self::PORT), str::parse).map_err(|_| wrong())?;
        let plain = host.chars().all(|c| c.is_ascii_alphanumeric() || "-.:".contains(c));
        if host.is_empty() || !plain || port == 0 {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        let check = |text: &str, expected: Option<&str>| {
            let read = text.parse::<ServerUrl>().map(|url| url.to_string());
            assert_eq!(read.ok().as_deref(), expected, "{text}");
        };
        check("https://10.0.0.2", Some("https://10.0.0.2:6443"));
        check("https://edge.example:7443/", Some("https://edge.example:7443"));
        check("https://[fd00::2]", Some("https://[fd00::2]:6443"));
        for wrong in ["http://10.0.0.2", "10.0.0.2", "https://", "https://a:0", "https://a:b", "https://a/b"]
        {
            check(wrong, None);
        }
    }

    #[test]
    fn a_range_is_read_only_without_host_bits() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let read = text.parse::<Cidr>().map(|c| c.to_string());
            assert_eq!(read, expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        };
        check("10.42.0.0/16", Ok("10.42.0.0/16"));
        check("0.0.0.0/0", Ok("0.0.0.0/0"));
        check("fd00::/56", Ok("fd00::/56"));
        check("10.42.1.0/16", Err("\"10.42.1.0/16\" has host bits set; the range is 10.42.0.0/16"));
        check("10.42.0.0/33", Err("\"10.42.0.0/33\" is not an address range such as 10.42.0.0/16"));
        check("10.42.0.0", Err("\"10.42.0.0\" is not an address range such as 10.42.0.0/16"));
    }

    #[test]
    fn ranges_know_their_addresses() {
        let range: Cidr = "10.43.0.0/24".parse().unwrap();
        assert_eq!(range.nth(10), Some("10.43.0.10".parse().unwrap()));
        assert_eq!(range.nth(256), None);
        assert!(range.overlaps(&"10.43.0.128/25".parse().unwrap()));
        assert!(!range.overlaps(&"10.44.0.0/24".parse().unwrap()));
    }
}

//! IPAM: which address of the node's range a pod gets.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The addresses of one node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// The first address, which names the range.
    pub network: Ipv4Addr,
    /// The number of leading bits that all addresses share; at most 30 where pods get addresses.
    pub prefix: u8,
}

/// Text that is not an IPv4 range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an IPv4 range such as 10.42.0.0/24")]
pub struct ParseRangeError(String);

/// `10.42.0.0/24`; what follows the prefix in the address counts as zero.
impl FromStr for Range {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let (address, prefix) = (address.parse::<Ipv4Addr>().ok()?, prefix.parse::<u8>().ok()?);
            let host_bits = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            (prefix <= 32).then(|| Self { network: (u32::from(address) & !host_bits).into(), prefix })
        };
        parse().ok_or_else(|| ParseRangeError(text.to_owned()))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl Range {
    /// The address of the node itself in the range: the first usable one.
    pub fn gateway(&self) -> Ipv4Addr {
        self.at(1)
    }

    fn at(&self, offset: u32) -> Ipv4Addr {
        (u32::from(self.network) + offset).into()
    }

    /// The offset of the broadcast address.
    fn last(&self) -> u32 {
        (1 << (32 - u32::from(self.prefix.min(30)))) - 1
    }
}

/// Hands addresses out in turn, so that an address rests as long as possible before another pod gets it.
#[derive(Debug)]
pub(crate) struct Ipam {
    range: Range,
    taken: BTreeSet<Ipv4Addr>,
    previous: u32,
}

impl Ipam {
    pub(crate) fn new(range: Range, taken: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let taken: BTreeSet<Ipv4Addr> = taken.into_iter().collect();
        let highest = taken.iter().map(|a| u32::from(*a).saturating_sub(range.network.into())).max();
        Self { range, taken, previous: highest.unwrap_or(1) }
    }

    pub(crate) fn range(&self) -> Range {
        self.range
    }

    /// The next free address; `None` when all are taken.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let usable = 2..self.range.last();
        let count = usable.end - usable.start;
        let start = self.previous.saturating_sub(1);
        let offset = (0..count).map(|i| usable.start + (start + i) % count);
        let (offset, address) =
            offset.map(|o| (o, self.range.at(o))).find(|(_, address)| !self.taken.contains(address))?;
        self.previous = offset;
        self.taken.insert(address);
        Some(address)
    }

    pub(crate) fn free(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_from_its_text() {
        let range = |text: &str| text.parse::<Range>().map(|range| range.to_string()).ok();
        assert_eq!(range("10.42.7.9/24").as_deref(), Some("10.42.7.0/24"));
        assert_eq!(range("10.1.2.3/32").as_deref(), Some("10.1.2.3/32"));
        assert_eq!(range("0.0.0.0/0").as_deref(), Some("0.0.0.0/0"));
        assert_eq!([range("10.42.0.0"), range("10.42.0.0/33"), range("fd00::/8")], [None, None, None]);
    }

    #[test]
    fn addresses_go_round_and_skip_network_gateway_and_broadcast() {
        let range = Range { network: Ipv4Addr::new(10, 42, 0, 0), prefix: 29 };
        let mut ipam = Ipam::new(range, []);
        let take = |ipam: &mut Ipam| ipam.take().map(|a| a.octets()[3]);
        assert_eq!(
            (0..6).map(|_| take(&mut ipam)).collect::<Vec<_>>(),
            [Some(2), Some(3), Some(4), Some(5), Some(6), None]
        );
        ipam.free(Ipv4Addr::new(10, 42, 0, 3));
        ipam.free(Ipv4Addr::new(10, 42, 0, 6));
        assert_eq!(take(&mut ipam), Some(3));
        assert_eq!(take(&mut ipam), Some(6));
    }

    #[test]
    fn an_address_rests_before_another_pod_gets_it() {
        let mut ipam = Ipam::new(Range { network: Ipv4Addr::new(10, 42, 0, 0), prefix: 29 }, []);
        let first = ipam.take().unwrap();
        ipam.free(first);
        assert_eq!(ipam.take(), Some(Ipv4Addr::new(10, 42, 0, 3)));
    }

    #[test]
    fn what_was_taken_before_a_restart_stays_taken() {
        let range = Range { network: Ipv4Addr::new(10, 42, 0, 0), prefix: 24 };
        let mut ipam = Ipam::new(range, [Ipv4Addr::new(10, 42, 0, 2), Ipv4Addr::new(10, 42, 0, 7)]);
        assert_eq!(ipam.take(), Some(Ipv4Addr::new(10, 42, 0, 8)));
    }
}

//! The chains that choose an endpoint. They name no Service: every frontend with as many endpoints and the same
//! policies shares one, and finds its endpoints in the maps under its own address, protocol and port.

use std::fmt;
use std::time::Duration;

use edgek_node_network::Range;
use nlink::netlink::nftables::expr::{DynsetExpr, DynsetOp, Expr, LookupExpr, NumgenKind, RawExpr};
use nlink::netlink::nftables::types::{FibFlags, MetaKey, PayloadBase, Register, Rule};
use nlink::netlink::types::route::RouteType;

use crate::rules::{Backend, Frontend, Masquerade};

/// The bit in a packet's mark that has its source replaced when it leaves; upstream uses the same.
pub(crate) const MASQUERADE: u32 = 0x4000;

/// What one chain does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pick {
    /// Whether the frontend is a port of the node, which its maps know without an address.
    node_port: bool,
    /// How many endpoints there are for everyone.
    everyone: u32,
    /// How many there are for pods and the node, when they have their own; they follow the others in the map.
    inside: Option<u32>,
    masquerade: Masquerade,
    affinity: Option<u32>,
    sources: Vec<Range>,
}

impl Pick {
    pub(crate) fn of(frontend: Frontend, backend: &Backend) -> Self {
        let count = |endpoints: &[_]| u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        Self {
            node_port: frontend.address.is_unspecified(),
            everyone: count(&backend.endpoints),
            inside: backend.inside.as_deref().map(count),
            masquerade: backend.masquerade,
            affinity: backend.affinity,
            sources: backend.sources.clone(),
        }
    }

    /// The chain's rules. `rule` is an empty rule in it, `cluster` the addresses of pods.
    pub(crate) fn rules(&self, rule: &Rule, cluster: Range) -> Vec<Rule> {
        let pod = |rule: Rule| rule.match_saddr_v4(cluster.network, cluster.prefix);
        let node = |rule: Rule| rule.match_fib_type(FibFlags::SADDR, RouteType::Local);
        let mark = |rule: Rule| rule.set_mark_masked(MASQUERADE, MASQUERADE);
        let mut rules = Vec::new();
        if !self.sources.is_empty() {
            let outside = self
                .sources
                .iter()
                .fold(rule.clone(), |rule, range| rule.match_saddr_v4_not(range.network, range.prefix));
            rules.push(outside.drop());
        }
        rules.push(mark(match self.masquerade {
            Masquerade::Everyone => rule.clone(),
            Masquerade::Outsiders => rule.clone().match_saddr_v4_not(cluster.network, cluster.prefix),
            Masquerade::Node => node(rule.clone()),
        }));
        if let Some(inside @ 1..) = self.inside {
            rules.extend(self.choose(&pod(rule.clone()), self.everyone, inside));
            rules.extend(self.choose(&node(rule.clone()), self.everyone, inside));
        }
        match self.everyone {
            0 => rules.push(rule.clone().drop()),
            everyone => rules.extend(self.choose(rule, 0, everyone)),
        }
        rules
    }

    /// Leads to one of the `count` endpoints from number `first` on.
    fn choose(&self, rule: &Rule, first: u32, count: u32) -> Vec<Rule> {
        let Some(seconds) = self.affinity else { return vec![self.at_random(rule, first, count)] };
        let timeout = Duration::from_secs(seconds.into());
        vec![
            self.as_before(rule, timeout),
            self.forget(rule),
            self.remember(rule, first, count, timeout),
            // The memory of clients is full.
            self.at_random(rule, first, count),
        ]
    }

    fn at_random(&self, rule: &Rule, first: u32, count: u32) -> Rule {
        let found = lookup("endpoints", WORD[0], WORD[8]);
        self.key(rule.clone(), 0).expr(random(first, count)).expr(found).expr(dnat(WORD[8], WORD[9]))
    }

    /// Leads to the endpoint the client had before, if it is one still.
    fn as_before(&self, rule: &Rule, timeout: Duration) -> Rule {
        self.key(self.key(rule.clone(), 0).expr(source(WORD[3])), 8)
            .expr(lookup("affinity", WORD[0], WORD[11]))
            .expr(LookupExpr::new("members", WORD[8]))
            .expr(DynsetExpr::new(DynsetOp::Update, "affinity", WORD[0]).sreg_data(WORD[11]).timeout(timeout))
            .expr(dnat(WORD[11], WORD[12]))
    }

    /// The kernel does not replace what it remembers of a client, so it forgets first.
    fn forget(&self, rule: &Rule) -> Rule {
        self.key(rule.clone(), 0)
            .expr(source(WORD[3]))
            .expr(Expr::Immediate { dreg: WORD[8], data: vec![0; 8] })
            .expr(DynsetExpr::new(DynsetOp::Delete, "affinity", WORD[0]).sreg_data(WORD[8]))
    }

    fn remember(&self, rule: &Rule, first: u32, count: u32, timeout: Duration) -> Rule {
        self.key(rule.clone(), 0)
            .expr(random(first, count))
            .expr(lookup("endpoints", WORD[0], WORD[8]))
            .expr(source(WORD[3]))
            .expr(DynsetExpr::new(DynsetOp::Add, "affinity", WORD[0]).sreg_data(WORD[8]).timeout(timeout))
            .expr(dnat(WORD[8], WORD[9]))
    }

    /// Loads the frontend's key into three words.
    fn key(&self, rule: Rule, word: usize) -> Rule {
        frontend_key(rule, self.node_port, word)
    }
}

/// The chain's name: what `nft list` shows tells what it does.
impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let masquerade = match self.masquerade {
            Masquerade::Everyone => "-masquerade",
            Masquerade::Outsiders => "",
            Masquerade::Node => "-local",
        };
        write!(f, "{}-{}{masquerade}", if self.node_port { "port" } else { "pick" }, self.everyone)?;
        if let Some(inside) = self.inside {
            write!(f, "-inside-{inside}")?;
        }
        if let Some(seconds) = self.affinity {
            write!(f, "-affinity-{seconds}")?;
        }
        if !self.sources.is_empty() {
            write!(f, "-from-{:016x}", hash(&self.sources))?;
        }
        Ok(())
    }
}

/// A name for ranges of any number (FNV-1a).
fn hash(ranges: &[Range]) -> u64 {
    let bytes = ranges.iter().flat_map(|r| r.network.octets().into_iter().chain([r.prefix]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The kernel's registers, as words of four bytes.
const WORD: [Register; 13] = [
    Register::Reg32_00,
    Register::Reg32_01,
    Register::Reg32_02,
    Register::Reg32_03,
    Register::Reg32_04,
    Register::Reg32_05,
    Register::Reg32_06,
    Register::Reg32_07,
    Register::Reg32_08,
    Register::Reg32_09,
    Register::Reg32_10,
    Register::Reg32_11,
    Register::Reg32_12,
];

/// Loads the key of the frontend that a packet is for into the three words from `word` on.
pub(crate) fn frontend_key(rule: Rule, node_port: bool, word: usize) -> Rule {
    let [address, protocol, port] = [WORD[word], WORD[word + 1], WORD[word + 2]];
    let address = match node_port {
        true => Expr::Immediate { dreg: address, data: vec![0; 4] },
        false => Expr::Payload { dreg: address, base: PayloadBase::Network, offset: 16, len: 4 },
    };
    rule.expr(address)
        .expr(Expr::Meta { dreg: protocol, key: MetaKey::L4Proto })
        // The destination port, at the same place in TCP, UDP and SCTP.
        .expr(Expr::Payload { dreg: port, base: PayloadBase::Transport, offset: 2, len: 2 })
}

fn source(dreg: Register) -> Expr {
    Expr::Payload { dreg, base: PayloadBase::Network, offset: 12, len: 4 }
}

fn random(first: u32, count: u32) -> Expr {
    Expr::Numgen { dreg: WORD[3], kind: NumgenKind::Random, modulus: count, offset: first }
}

fn lookup(map: &str, key: Register, value: Register) -> LookupExpr {
    LookupExpr::new(map, key).dreg(value)
}

/// `dnat` to the address and port in two registers, which nlink makes for constants only.
fn dnat(address: Register, port: Register) -> RawExpr {
    const TYPE: (u16, u32) = (1, 1);
    const FAMILY: (u16, u32) = (2, 2);
    const ADDRESS: u16 = 3;
    const PORT: u16 = 5;
    let attributes = [TYPE, FAMILY, (ADDRESS, address.wire()), (PORT, port.wire())];
    let bytes = attributes.into_iter().flat_map(|(attribute, value)| {
        let header = [8_u16.to_ne_bytes(), attribute.to_ne_bytes()].concat();
        [header, value.to_be_bytes().to_vec()].concat()
    });
    RawExpr::new("nat", bytes.collect())
}

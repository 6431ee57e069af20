//! What the pod network and the Services need of the kernel; `edgek check` asks for what is missing.

use nlink::netlink::link::{BridgeLink, VethLink, VxlanLink};
use nlink::netlink::nftables::expr::{Expr, NumgenKind};
use nlink::netlink::nftables::types::{
    BaseChain, Chain, CtState, Family, FibFlags, FilterHook, NatHook, Priority, Register, Rule,
};
use nlink::netlink::types::route::RouteType;
use nlink::netlink::{Connection, Netfilter, Nftables, Route};

use crate::{Error, Step};

const TABLE: &str = "edgek-check";
const FAMILY: Family = Family::Ip;

/// The options of the kernel's configuration that it lacks. Asks by making what needs them, so the thread should be
/// alone in a network namespace.
///
/// # Errors
/// When netlink itself does not work.
pub async fn missing() -> Result<Vec<&'static str>, Error> {
    let mut missing = Vec::new();
    let route = Connection::<Route>::new().step(|| "opening netlink".to_owned())?;
    let links = [
        ("VETH", route.add_link(VethLink::new("check0", "check1")).await),
        ("BRIDGE", route.add_link(BridgeLink::new("check2")).await),
        ("VXLAN", route.add_link(VxlanLink::new("check3", 1).port(8472)).await),
    ];
    missing.extend(links.iter().filter(|(_, made)| made.is_err()).map(|(option, _)| *option));
    let nftables = Connection::<Nftables>::new().step(|| "opening nftables".to_owned())?;
    if nftables.list_tables_in(FAMILY).await.is_err() {
        missing.push("NF_TABLES");
        return Ok(missing);
    }
    for (option, rule) in rules() {
        if !takes(&nftables, rule).await {
            missing.push(option);
        }
    }
    let conntrack = Connection::<Netfilter>::new().step(|| "opening conntrack".to_owned())?;
    if conntrack.get_conntrack().await.is_err() {
        missing.push("NF_CT_NETLINK");
    }
    Ok(missing)
}

/// One rule for each option.
fn rules() -> Vec<(&'static str, Rule)> {
    let (nat, filter) = (rule("nat"), rule("filter"));
    let random = Expr::Numgen { dreg: Register::R0, kind: NumgenKind::Random, modulus: 2, offset: 0 };
    vec![
        ("NFT_NAT", nat.clone().dnat([127, 0, 0, 1].into(), None)),
        ("NFT_MASQ", rule("out").masquerade()),
        ("NFT_NUMGEN", nat.expr(random)),
        ("NFT_FIB_IPV4", filter.clone().match_fib_type(FibFlags::DADDR, RouteType::Local)),
        ("NFT_REJECT_IPV4", filter.clone().reject()),
        ("NFT_CT", filter.match_ct_state(CtState::NEW)),
    ]
}

fn rule(chain: &str) -> Rule {
    Rule::new(TABLE, chain).family(FAMILY)
}

/// Whether the kernel takes a rule. The table is gone at the end of the transaction that makes it.
async fn takes(nftables: &Connection<Nftables>, rule: Rule) -> bool {
    let chain = |name: &str, base| Chain::new(TABLE, name).map(|chain| chain.family(FAMILY).base(base));
    let mut transaction = nftables.transaction().add_table(TABLE, FAMILY);
    for chain in [
        chain("nat", BaseChain::nat(NatHook::Output, Priority::DstNat)),
        chain("out", BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)),
        chain("filter", BaseChain::filter(FilterHook::Output, Priority::Filter)),
    ] {
        let Ok(chain) = chain else { return false };
        transaction = transaction.add_chain(chain);
    }
    transaction.add_rule(rule).del_table(TABLE, FAMILY).commit(nftables).await.is_ok()
}

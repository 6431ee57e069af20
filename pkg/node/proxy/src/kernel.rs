//! The proxy's nftables table: its sets, its few fixed rules, and one transaction for each change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use nix::sys::socket::{setsockopt, sockopt};
use nlink::netlink::nftables::expr::LookupExpr;
use nlink::netlink::nftables::types::{
    BaseChain, Chain, ChainName, CtState, Family, FibFlags, FibResult, FilterHook, NatHook, PacketField,
    Priority, Register, Rule, Set, SetDataType, SetElement, SetElementData, SetKeyType, Verdict,
};
use nlink::netlink::nftables::{Field, Match, Transaction};
use nlink::netlink::types::route::RouteType;
use nlink::netlink::{Connection, Nftables};

use crate::chain::{MASQUERADE, Pick, frontend_key};
use crate::elements::{self, Elements, Value};
use crate::state::Change;
use crate::{Config, Error, Step};

const FAMILY: Family = Family::Ip;
/// A transaction of thousands of Services is one message.
const SEND_BUFFER: usize = 64 << 20;
/// Elements in one part of a transaction, whose length is a number of 16 bits.
const CHUNK: usize = 256;
/// How many clients are remembered for session affinity.
const CLIENTS: u32 = 65_536;
const LOOPBACK: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

/// The table in the kernel.
pub(crate) struct Kernel {
    connection: Connection<Nftables>,
    config: Config,
    /// The chains that are there.
    chains: BTreeSet<Pick>,
}

impl Kernel {
    pub(crate) fn open(config: Config) -> Result<Self, Error> {
        let connection = Connection::<Nftables>::new().step(|| "opening netlink".to_owned())?;
        // Without the right to do so the usual length stays, which is enough for hundreds of Services at once.
        let _ = setsockopt(connection.socket(), sockopt::SndBufForce, &SEND_BUFFER);
        Ok(Self { connection, config, chains: BTreeSet::new() })
    }

    /// Puts the table into the kernel in place of the one that is there; connections do not see it.
    pub(crate) async fn replace(&mut self, all: &Change) -> Result<(), Error> {
        let table = self.config.table.clone();
        let failed = || format!("writing nftables table {table}");
        let tables = self.connection.list_tables_in(FAMILY).await.step(failed)?;
        let mut transaction = self.connection.transaction();
        let mut clients = Vec::new();
        if tables.iter().any(|there| there.name == table) {
            clients = self.clients().await;
            transaction = transaction.del_table(&table, FAMILY);
        }
        transaction = transaction.add_table(&table, FAMILY);
        self.chains.clear();
        for set in sets(&table).into_values().chain([affinity(&table)]) {
            transaction = transaction.add_set(set);
        }
        for chunk in clients.chunks(CHUNK) {
            transaction = transaction.add_set_elements(&affinity(&table), chunk);
        }
        for chain in base_chains(&table).step(failed)? {
            transaction = transaction.add_chain(chain);
        }
        for rule in self.rules().step(failed)? {
            transaction = transaction.add_rule(rule);
        }
        self.commit(transaction, all).await
    }

    /// The clients that the table remembers for session affinity, to be remembered as long again.
    async fn clients(&self) -> Vec<SetElement> {
        let there = self.connection.list_set_elements(&self.config.table, "affinity", FAMILY).await;
        let again = |client: &SetElement| match client.data() {
            // Another version may have had other keys.
            Some(SetElementData::Value(endpoint)) if (client.key().len(), endpoint.len()) == (16, 8) => {
                let element = SetElement::new(client.key().to_vec()).value(SetElement::new(endpoint.clone()));
                Some(element.with_timeout(client.timeout()?))
            }
            _ => None,
        };
        there.unwrap_or_default().iter().filter_map(again).collect()
    }

    /// Carries out a change.
    pub(crate) async fn apply(&mut self, change: &Change) -> Result<(), Error> {
        if change.remove.is_empty() && change.add.is_empty() {
            return Ok(());
        }
        self.commit(self.connection.transaction(), change).await
    }

    async fn commit(&mut self, mut transaction: Transaction, change: &Change) -> Result<(), Error> {
        let table = &self.config.table;
        let failed = || format!("changing nftables table {table}");
        let sets = sets(table);
        for (set, removed) in by_set(&change.remove).step(failed)? {
            for chunk in removed.chunks(CHUNK) {
                transaction = transaction.del_set_elements(&sets[&set], chunk);
            }
        }
        let mut chains = self.chains.clone();
        for pick in change.add.values().filter_map(Value::pick) {
            if !chains.insert(pick.clone()) {
                continue;
            }
            let name = pick.to_string();
            transaction =
                transaction.add_chain(Chain::new(table.as_str(), name.as_str()).step(failed)?.family(FAMILY));
            for rule in pick.rules(&Rule::new(table, &name).family(FAMILY), self.config.cluster) {
                transaction = transaction.add_rule(rule);
            }
        }
        for (set, added) in by_set(&change.add).step(failed)? {
            for chunk in added.chunks(CHUNK) {
                transaction = transaction.add_set_elements(&sets[&set], chunk);
            }
        }
        transaction.commit(&self.connection).await.step(failed)?;
        self.chains = chains;
        Ok(())
    }

    fn rules(&self) -> nlink::Result<Vec<Rule>> {
        let rule = |chain: &str| Rule::new(&self.config.table, chain).family(FAMILY);
        // Ports of the node are open on all of its addresses but those of loopback.
        let to_node = |chain: &str| {
            let to_node = rule(chain).match_daddr_v4_not(LOOPBACK.0, LOOPBACK.1);
            frontend_key(to_node.match_fib_type(FibFlags::DADDR, RouteType::Local), true, 0)
        };
        let to_chain = || LookupExpr::new("services", Register::R0).dreg(Register::Verdict);
        let refused = || LookupExpr::new("refused", Register::R0);
        let destination_type = Field::Fib { flags: FibFlags::DADDR, result: FibResult::AddrType };
        let mut rules = vec![
            frontend_key(rule("services"), false, 0).expr(to_chain()),
            to_node("services").expr(to_chain()),
            frontend_key(rule("refusals"), false, 0).expr(refused()).reject(),
            to_node("refusals").expr(refused()).reject(),
            // What nobody has. The name server's address is the node's own.
            rule("refusals")
                .match_daddr_v4(self.config.services.network, self.config.services.prefix)
                .then(Match::ne(destination_type, RouteType::Local))
                .reject(),
            // The mark has done its work; vxlan would pass it on to the packet around this one.
            rule("postrouting")
                .match_mark_masked(MASQUERADE, MASQUERADE)
                .set_mark_masked(0, MASQUERADE)
                .masquerade(),
            rule("postrouting")
                .match_concat_in_set(&[PacketField::Ip4Saddr, PacketField::Ip4Daddr], "hairpins")
                .masquerade(),
        ];
        for chain in ["prerouting", "output"] {
            rules.push(rule(chain).try_jump("services")?);
        }
        for chain in ["input", "forward", "local"] {
            rules.push(rule(chain).match_ct_state(CtState::NEW).try_jump("refusals")?);
        }
        Ok(rules)
    }
}

fn base_chains(table: &str) -> nlink::Result<Vec<Chain>> {
    let chain = |name: &str| Chain::new(table, name).map(|chain| chain.family(FAMILY));
    Ok(vec![
        chain("services")?,
        chain("refusals")?,
        chain("prerouting")?.base(BaseChain::nat(NatHook::Prerouting, Priority::DstNat)),
        chain("output")?.base(BaseChain::nat(NatHook::Output, Priority::DstNat)),
        chain("postrouting")?.base(BaseChain::nat(NatHook::Postrouting, Priority::SrcNat)),
        chain("input")?.base(BaseChain::filter(FilterHook::Input, Priority::Filter)),
        chain("forward")?.base(BaseChain::filter(FilterHook::Forward, Priority::Filter)),
        chain("local")?.base(BaseChain::filter(FilterHook::Output, Priority::Filter)),
    ])
}

/// The sets that Services are made of; see [`crate::elements`].
fn sets(table: &str) -> BTreeMap<elements::Set, Set> {
    use SetKeyType::{Concat, InetProto, InetService, Ipv4Addr, Mark};
    let frontend = [Ipv4Addr, InetProto, InetService];
    let with = |more: &[SetKeyType]| Concat([&frontend[..], more].concat());
    let set = |name: &str, key: SetKeyType| Set::new(table, name).family(FAMILY).key_type(key);
    let address = SetDataType::Value(Concat(vec![Ipv4Addr, InetService]));
    BTreeMap::from([
        (elements::Set::Services, set("services", with(&[])).vmap()),
        (elements::Set::Endpoints, set("endpoints", with(&[Mark])).map(address)),
        (elements::Set::Members, set("members", with(&[Ipv4Addr, InetService]))),
        (elements::Set::Refused, set("refused", with(&[]))),
        (elements::Set::Hairpins, set("hairpins", Concat(vec![Ipv4Addr, Ipv4Addr]))),
    ])
}

/// Which endpoint each client had; only the kernel writes it.
fn affinity(table: &str) -> Set {
    use SetKeyType::{Concat, InetProto, InetService, Ipv4Addr};
    Set::new(table, "affinity")
        .family(FAMILY)
        .key_type(Concat(vec![Ipv4Addr, InetProto, InetService, Ipv4Addr]))
        .map(SetDataType::Value(Concat(vec![Ipv4Addr, InetService])))
        .dynamic()
        .per_element_timeouts()
        .size(CLIENTS)
}

fn by_set(elements: &Elements) -> nlink::Result<BTreeMap<elements::Set, Vec<SetElement>>> {
    let mut sets = BTreeMap::<elements::Set, Vec<SetElement>>::new();
    for ((set, key), value) in elements {
        let element = SetElement::new(key.clone());
        let element = match value {
            Value::Present => element,
            Value::Address(address) => element.value(SetElement::new(address.clone())),
            Value::Drop => element.verdict(Verdict::Drop),
            Value::Pick(pick) => element.verdict(Verdict::GotoTo(ChainName::new(pick.to_string())?)),
        };
        sets.entry(*set).or_default().push(element);
    }
    Ok(sets)
}

/// Takes the table out of the kernel; for `edgek uninstall`.
///
/// # Errors
/// When the kernel refuses.
pub async fn remove(table: &str) -> Result<(), Error> {
    let failed = || format!("removing nftables table {table}");
    let connection = Connection::<Nftables>::new().step(failed)?;
    connection.del_table_if_exists(table, FAMILY).await.map(|_| ()).step(failed)
}

#[cfg(test)]
mod tests;

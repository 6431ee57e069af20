//! The firewall of the machine, where it stands in the way of pods; `edgek check` asks for it.

use nlink::netlink::nftables::types::{ChainInfo, Family, Hook, Policy};
use nlink::netlink::{Connection, Nftables};

use crate::{Error, Step};

/// The chains that drop what they do not accept of what the machine forwards, and so what pods say to each other, as
/// `ip filter FORWARD`. Docker sets up one. Their rules are not read: they may accept the pods all the same.
///
/// # Errors
/// When nftables does not answer.
pub async fn forwarding_dropped() -> Result<Vec<String>, Error> {
    let nftables = Connection::<Nftables>::new().step(|| "opening nftables".to_owned())?;
    let chains = nftables.list_chains().await.step(|| "listing the chains of nftables".to_owned())?;
    Ok(chains.iter().filter_map(dropping).collect())
}

fn dropping(chain: &ChainInfo) -> Option<String> {
    let family = match chain.family {
        Family::Ip => "ip",
        Family::Inet => "inet",
        // The others do not see IPv4.
        _ => return None,
    };
    let forward = Hook::from_number(chain.family, chain.hook?) == Some(Hook::Forward);
    (forward && chain.policy == Some(Policy::Drop.to_u32()))
        .then(|| format!("{family} {} {}", chain.table, chain.name))
}

//! `edgek run agent`: a node that belongs to the cluster of a server somewhere else.
//!
//! | stage | starts | ends |
//! |---|---|---|
//! | link | first: joins, then keeps one connection to a server | last |
//! | node | over it, whether a server answers or not, once it has joined | first; its containers go on running |

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use clap::ArgMatches;
use edgek_base_config::{Cidr, Config};
use edgek_base_lifecycle::Scope;
use edgek_client::Client;
use edgek_link::{BoxedIo, Inward, Uplink};
use tokio::sync::watch;

use crate::dial::{KUBELET, LocalKubelet, connect};
use crate::exit::{Code, Failure};
use crate::foreground::{self, Stage};
use crate::servers::Servers;
use crate::settings::Settings;
use crate::{join, kubelet_api, node, notify, sources};

pub(crate) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let config = sources::config(flags)?;
    join::server(&config)?;
    foreground::require_root("")?;
    foreground::run(&config.clone(), flags, serve(config))
}

async fn serve(config: Config) -> Result<(), Failure> {
    let root = Scope::root();
    let (link, node) = (root.child(), root.child());
    let order = [
        Stage { name: "node", scope: node.clone() },
        Stage { name: "link", scope: link.clone() },
        Stage { name: "all", scope: root.clone() },
    ];
    foreground::serve(&root, &order, Box::pin(start(config, &link, &node)), async |()| {}).await
}

async fn start(mut config: Config, link: &Scope, scope: &Scope) -> Result<(), Failure> {
    let name = node::name(&config)?;
    let server = join::server(&config)?;
    let member = join::member(&config, &name, link).await?;
    let (tls, tls_changes) = watch::channel(member.tls()?);
    let servers = Servers::new(server.authority(), config.data_dir.join("agent/servers.json"));
    let door = Arc::new(Door::default());
    let settings =
        edgek_link::Settings { servers: servers.subscribe(), tls: tls_changes, inward: door.clone() };
    let client = Client::new(Uplink::start(settings, link));
    servers.follow(&client, link);
    link.spawn("node certificate", member.clone().renew(client.clone(), tls));
    let shared = Settings::of_cluster(&client, &config.data_dir.join("agent/cluster.json")).await?;
    shared.apply(&mut config)?;
    let address = node::address(&config).await?;
    let environment = |error| Failure::new(Code::Environment, error);
    let kubelet = node::start(&config, &name, address, client.clone(), scope).await.map_err(environment)?;
    door.open_to(Inside {
        kubelet: LocalKubelet { server: kubelet.server(), scope: scope.clone() },
        node: address,
        ranges: [config.cluster_cidr, config.service_cidr],
    });
    let names = vec![name, address.to_string()];
    let client_ca = shared.client_ca;
    let api = kubelet_api::Worker { kubelet, config, member, client, names, client_ca };
    scope.spawn("kubelet api certificate", api.keep());
    notify::ready();
    Ok(())
}

/// What the server reaches on this machine: the kubelet, and what listens on the addresses of the node, of pods and of
/// services. The rest of the machine's network is none of its business.
#[derive(Default)]
struct Door(OnceLock<Inside>);

struct Inside {
    kubelet: LocalKubelet,
    node: IpAddr,
    ranges: [Cidr; 2],
}

impl Door {
    fn open_to(&self, inside: Inside) {
        // A second kubelet cannot be: the process starts one.
        let _ = self.0.set(inside);
    }
}

#[async_trait]
impl Inward for Door {
    async fn open(&self, target: &str) -> io::Result<BoxedIo> {
        let starting = || io::Error::new(io::ErrorKind::NotConnected, "the node is starting");
        let inside = self.0.get().ok_or_else(starting)?;
        if target == KUBELET {
            return Ok(Box::new(inside.kubelet.open()));
        }
        let address: SocketAddr =
            target.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not an address"))?;
        let ip = address.ip();
        if ip != inside.node && !inside.ranges.iter().any(|range| range.contains(ip)) {
            let text = format!("{ip} is no address of the node, a pod or a service");
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        Ok(Box::new(connect(address).await?))
    }
}

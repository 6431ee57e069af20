//! `edgek run agent`: a node that belongs to the cluster of a server somewhere else.
//!
//! | stage | starts | ends |
//! |---|---|---|
//! | link | first: joins, then keeps one connection to a server | last |
//! | node | over it, whether a server answers or not, once it has joined | first; its containers go on running |

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use clap::ArgMatches;
use edgek_base_config::Config;
use edgek_base_lifecycle::Scope;
use edgek_client::Client;
use edgek_link::{BoxedIo, Inward, Uplink};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::dial::{KUBELET, LocalKubelet};
use crate::exit::{Code, Failure};
use crate::foreground::{self, Stage};
use crate::servers::Servers;
use crate::settings::Settings;
use crate::{join, node, notify, sources};

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
    link.spawn("node certificate", member.renew(client.clone(), tls));
    let shared = Settings::of_cluster(&client, &config.data_dir.join("agent/cluster.json")).await?;
    shared.apply(&mut config)?;
    let address = node::address(&config).await?;
    let environment = |error| Failure::new(Code::Environment, error);
    let kubelet = node::start(&config, &name, address, client, scope).await.map_err(environment)?;
    door.open(LocalKubelet { server: kubelet.server(), scope: scope.clone() });
    notify::ready();
    Ok(())
}

/// What the server reaches on this machine: the kubelet, and whatever listens on the addresses of the node and its pods.
#[derive(Default)]
struct Door {
    kubelet: OnceLock<LocalKubelet>,
}

impl Door {
    fn open(&self, kubelet: LocalKubelet) {
        // A second kubelet cannot be: the process starts one.
        let _ = self.kubelet.set(kubelet);
    }
}

#[async_trait]
impl Inward for Door {
    async fn open(&self, target: &str) -> io::Result<BoxedIo> {
        if target == KUBELET {
            let starting = || io::Error::new(io::ErrorKind::NotConnected, "the kubelet is starting");
            return Ok(Box::new(self.kubelet.get().ok_or_else(starting)?.open()));
        }
        let address: SocketAddr =
            target.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "not an address"))?;
        if address.ip().is_loopback() || address.ip().is_unspecified() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "what listens on loopback is private",
            ));
        }
        Ok(Box::new(TcpStream::connect(address).await?))
    }
}

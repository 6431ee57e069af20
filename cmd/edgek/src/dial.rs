//! The way from the API server to kubelets, pods and services: inside the process on this machine, through the tunnels
//! that workers open to the others.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use edgek_apiserver_http::{BoxedIo, Dial, Target};
use edgek_base_lifecycle::Scope;
use edgek_link::Tunnels;
use edgek_node_kubelet::server::Server;
use tokio::net::TcpStream;

/// Bytes under way inside the process, in each direction.
const PIPE: usize = 64 << 10;
/// The kubelet API as tunnels name it, whatever port it has on the worker.
pub(crate) const KUBELET: &str = "kubelet:10250";

/// How long a pod may take to accept a connection, as upstream's proxies have it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects to a pod, a service or a node.
pub(crate) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer"));
    tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await.map_err(late)?
}

/// Reaches the nodes of the cluster.
#[derive(Clone)]
pub(crate) struct Nodes {
    local: Arc<OnceLock<Local>>,
    workers: Tunnels,
    scope: Scope,
}

struct Local {
    node: String,
    kubelet: LocalKubelet,
}

/// The kubelet of this process, reached without a socket.
#[derive(Clone)]
pub(crate) struct LocalKubelet {
    pub(crate) server: Server,
    /// Its connections end with it.
    pub(crate) scope: Scope,
}

impl LocalKubelet {
    /// A stream to its API.
    pub(crate) fn open(&self) -> tokio::io::DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        let server = self.server.clone();
        self.scope.spawn("kubelet connection", async move { server.serve(theirs).await });
        ours
    }
}

impl Nodes {
    /// No nodes yet; the tunnels of workers end with `scope`.
    pub(crate) fn new(scope: Scope) -> Self {
        Self { local: Arc::default(), workers: Tunnels::default(), scope }
    }

    /// Names the kubelet of this process, once it runs.
    pub(crate) fn set_local(&self, node: &str, kubelet: LocalKubelet) {
        // A second kubelet cannot be: the process starts one.
        let _ = self.local.set(Local { node: node.to_owned(), kubelet });
    }
}

#[async_trait]
impl Dial for Nodes {
    async fn dial(&self, target: Target) -> io::Result<BoxedIo> {
        match target {
            Target::Kubelet { node } => match self.local.get().filter(|local| local.node == node) {
                Some(local) => Ok(Box::new(local.kubelet.open())),
                None => Ok(Box::new(self.workers.open(&node, KUBELET).await?)),
            },
            Target::Tcp { node, host, port } => {
                let address: IpAddr =
                    host.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                let address = SocketAddr::new(address, port);
                if self.workers.is_connected(&node) {
                    return Ok(Box::new(self.workers.open(&node, &address.to_string()).await?));
                }
                Ok(Box::new(connect(address).await?))
            }
        }
    }

    fn accept(&self, node: &str, stream: BoxedIo) {
        self.workers.accept(node, Box::new(stream), &self.scope);
    }
}

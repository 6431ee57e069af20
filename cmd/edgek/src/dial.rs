//! The way from the API server to this machine's kubelet, and to pods and services.

use std::io;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use edgek_apiserver_http::{BoxedIo, Dial, Target};
use edgek_base_lifecycle::Scope;
use edgek_node_kubelet::server::Server;
use tokio::net::TcpStream;

/// Bytes under way inside the process, in each direction.
const PIPE: usize = 64 << 10;

/// Reaches the kubelet of this process without a socket, and everything else by TCP.
#[derive(Clone, Default)]
pub(crate) struct LocalDial(Arc<OnceLock<Local>>);

struct Local {
    node: String,
    server: Server,
    scope: Scope,
}

impl LocalDial {
    /// Names the kubelet of this process, once it runs; its connections end with `scope`.
    pub(crate) fn set(&self, node: &str, server: Server, scope: Scope) {
        // A second kubelet cannot be: the process starts one.
        let _ = self.0.set(Local { node: node.to_owned(), server, scope });
    }
}

#[async_trait]
impl Dial for LocalDial {
    async fn dial(&self, target: Target) -> io::Result<BoxedIo> {
        match target {
            Target::Kubelet { node } => {
                let local = self.0.get().filter(|local| local.node == node);
                let no_way = || {
                    io::Error::new(io::ErrorKind::HostUnreachable, format!("node {node:?} is not connected"))
                };
                let local = local.ok_or_else(no_way)?;
                let (ours, theirs) = tokio::io::duplex(PIPE);
                let server = local.server.clone();
                local.scope.spawn("kubelet connection", async move { server.serve(theirs).await });
                Ok(Box::new(ours))
            }
            Target::Tcp { host, port } => {
                let address: std::net::IpAddr =
                    host.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
                Ok(Box::new(TcpStream::connect((address, port)).await?))
            }
        }
    }
}

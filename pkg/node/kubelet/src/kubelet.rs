//! `Kubelet`: runs the pods that the API server has bound to this node. Started once by `cmd/edgek`.

mod adopt;
mod dispatch;
mod serve;

use std::path::Path;
use std::sync::Arc;

use edgek_base_lifecycle::Scope;
use edgek_client::{Client, ListQuery};
use edgek_control_runtime::{Informer, Recorder};
use edgek_node_network::Network;
use edgek_node_runtime::Runtime;
use k8s_openapi::api::core::v1::Pod;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::cgroup::Cgroups;
use crate::config::Config;
use crate::context::Context;
use crate::evict::Evictor;
use crate::gc::ImageCollector;
use crate::image::Images;
use crate::node::facts::Facts;
use crate::node::status::Allocatable;
use crate::node::{Node, Parts};
use crate::objects::Objects;
use crate::record::Records;
use crate::server::{self, Gate, Server};
use crate::static_pods::Mirrors;
use crate::stats::Gatherer;
use crate::volume::Volumes;
use dispatch::Dispatcher;

/// Evictions that wait.
const EVICTIONS: usize = 4;

/// The kubelet of this node. Clones share it.
#[derive(Clone)]
pub struct Kubelet {
    context: Arc<Context>,
    records: Records,
    stats: Gatherer,
    node: Node,
    scope: Scope,
}

impl Kubelet {
    /// Registers the node, adopts the containers that run, and runs pods until the scope ends. Pods go on when it ends.
    /// `imported` becomes true once the image archives on the node are imported.
    pub fn start(
        scope: &Scope,
        config: Config,
        client: Client,
        runtime: Arc<dyn Runtime>,
        network: Arc<dyn Network>,
        imported: watch::Receiver<bool>,
    ) -> Self {
        let config = Arc::new(config);
        let facts = Arc::new(Facts::read(&config.root));
        let cgroups = Cgroups::open(Path::new("/sys/fs/cgroup"), &config.cgroup);
        cgroups.start(facts.cpus);
        let parts = Parts {
            config: config.clone(),
            facts: facts.clone(),
            client: client.clone(),
            runtime: runtime.clone(),
            network: network.ready(),
            collector: ImageCollector::start(scope, runtime.clone(), config.image_gc),
        };
        let node = Node::start(scope, &parts);
        let objects = Objects::start(scope, client.clone());
        let allocatable = Allocatable::of(&facts, &config.thresholds);
        let context = Arc::new(Context {
            volumes: Volumes::new(scope, config.clone(), client.clone(), objects.clone(), allocatable),
            images: Images::new(runtime.clone(), objects.clone(), imported),
            objects,
            mirrors: Mirrors::new(client.clone(), scope.clone()),
            recorder: Recorder::start(scope, client.clone(), "kubelet", &config.node_name),
            cgroups,
            node: node.clone(),
            allocatable,
            memory: facts.memory,
            config,
            client,
            runtime,
            network,
        });
        Self::over(scope, context, node)
    }

    fn over(scope: &Scope, context: Arc<Context>, node: Node) -> Self {
        let records = Records::default();
        let query = ListQuery {
            fields: format!("spec.nodeName={}", context.config.node_name),
            ..ListQuery::default()
        };
        let pods = Informer::start(scope, context.client.all::<Pod>(), query);
        let dispatcher = Dispatcher::new(context.clone(), records.clone(), scope.clone());
        let stats = Gatherer::new(context.clone(), records.clone());
        let (sender, evictions) = mpsc::channel(EVICTIONS);
        let evictor = Evictor {
            stats: stats.clone(),
            recorder: context.recorder.clone(),
            node: context.config.node_name.clone(),
            evictions: sender,
        };
        scope.spawn("evictor", evictor.run(node.met()));
        scope.spawn("kubelet", dispatcher.run(pods, evictions));
        Self { context, records, stats, node, scope: scope.clone() }
    }

    /// The kubelet's HTTP API.
    pub fn server(&self) -> Server {
        Server::new(Arc::new(self.clone()), self.context.runtime.clone(), self.scope.clone())
    }

    /// The port of the HTTP API.
    pub fn port(&self) -> u16 {
        self.context.config.port
    }

    /// Serves the HTTP API to callers from the network until the scope ends, each judged by the API server. `tls`
    /// verifies the client certificates it is shown.
    pub fn listen(&self, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
        let gate = Gate::new(self.context.client.clone(), self.context.config.node_name.clone());
        self.scope
            .spawn("kubelet api", server::listen(self.server(), gate, listener, tls, self.scope.clone()));
    }

    /// The node's object and what keeps it true.
    pub fn node(&self) -> &Node {
        &self.node
    }
}

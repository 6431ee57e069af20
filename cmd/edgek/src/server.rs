//! `edgek run server`: starts the stages in order, and ends them in the opposite one.
//!
//! | stage | starts | ends |
//! |---|---|---|
//! | control plane | first: everybody is its client | last; then the store is closed |
//! | controllers, scheduler | when it serves | before it |
//! | node | beside them | first; its containers go on running |
//!
//! SIGTERM and SIGINT end the stages; a second one ends the process at once. Nothing acknowledged is lost either way.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use clap::ArgMatches;
use edgek_base_config::{Component, Config};
use edgek_base_lifecycle::Scope;
use edgek_control_controllers::PodRanges;
use tracing::{error, info};

use crate::control_plane::{ControlPlane, Identity};
use crate::dial::{LocalKubelet, Nodes};
use crate::exit::{Code, Failure};
use crate::foreground::{self, Stage};
use crate::kubernetes_service::KubernetesService;
use crate::settings::Settings;
use crate::{bootstrap, kubelet_api, node, notify, sources, token};

pub(crate) fn run(flags: &ArgMatches) -> Result<(), Failure> {
    let config = sources::config(flags)?;
    if let Some(server) = &config.server {
        let text = format!("server: {server}: a server joins no other; `edgek run agent` does");
        return Err(Failure::new(Code::Usage, anyhow::anyhow!(text)));
    }
    if !config.disable.contains(&Component::Node) {
        foreground::require_root(", or --disable=node for a control plane alone")?;
    }
    foreground::run(&config, flags, serve(&config))
}

/// The scopes of the stages.
struct Stages {
    control_plane: Scope,
    controllers: Scope,
    node: Scope,
}

async fn serve(config: &Config) -> Result<(), Failure> {
    let root = Scope::root();
    let stages = Stages { control_plane: root.child(), controllers: root.child(), node: root.child() };
    let order = [
        Stage { name: "node", scope: stages.node.clone() },
        Stage { name: "controllers", scope: stages.controllers.clone() },
        Stage { name: "control plane", scope: stages.control_plane.clone() },
        Stage { name: "all", scope: root.clone() },
    ];
    foreground::serve(&root, &order, Box::pin(start(config, &stages)), close).await
}

async fn close(control_plane: ControlPlane) {
    if let Err(error) = control_plane.close().await {
        error!(error = format!("{error:#}"), "closing");
    }
}

async fn start(config: &Config, stages: &Stages) -> Result<ControlPlane, Failure> {
    let name = node::name(config)?;
    let address = node::address(config).await?;
    let nodes = Nodes::new(stages.control_plane.clone());
    let identity = Identity { name: &name, address };
    let control_plane =
        ControlPlane::start(config, &identity, Arc::new(nodes.clone()), &stages.control_plane).await?;
    // What fails here is the store's disk.
    let environment = |error: anyhow::Error| Failure::new(Code::Environment, error);
    let client = control_plane.own_client();
    bootstrap::ensure(&client, config, &control_plane.pki).await.map_err(environment)?;
    Settings::of(config, &control_plane.pki).publish(&client).await.map_err(environment)?;
    token::ensure(&client, config, control_plane.pki.server_ca.pem()).await.map_err(environment)?;
    let service = KubernetesService::new(config, address);
    service.ensure(&client).await.context("writing service kubernetes").map_err(environment)?;
    service.keep(&client, &stages.controllers);
    // Controllers and the node are refused nothing in their first moment.
    control_plane.refresh_rbac()?;
    info!(address = %config.bind_address, port = config.https_listen_port, "the API is served");
    start_controllers(config, &control_plane, &stages.controllers);
    if !config.disable.contains(&Component::Node) {
        let groups = ["system:nodes", edgek_apiserver_authn::SERVERS];
        let client = control_plane.client(&format!("system:node:{name}"), &groups);
        let kubelet = node::start(config, &name, address, client, &stages.node).await.map_err(environment)?;
        nodes.set_local(&name, LocalKubelet { server: kubelet.server(), scope: stages.node.clone() });
        kubelet_api::listen(&kubelet, config, &identity, &control_plane.pki, &stages.node).await?;
    }
    notify::ready();
    Ok(control_plane)
}

fn start_controllers(config: &Config, control_plane: &ControlPlane, scope: &Scope) {
    if !config.disable.contains(&Component::Scheduler) {
        edgek_control_scheduler::start(scope, control_plane.client("system:kube-scheduler", &[]));
    }
    if !config.disable.contains(&Component::Controllers) {
        let settings =
            edgek_control_controllers::Config { pki: control_plane.pki.clone(), pods: pod_ranges(config) };
        edgek_control_controllers::start(scope, settings, |user| {
            let groups: &[&str] = if user.starts_with("system:serviceaccount:") {
                &["system:serviceaccounts", "system:serviceaccounts:kube-system"]
            } else {
                &[]
            };
            control_plane.client(user, groups)
        });
    }
}

fn pod_ranges(config: &Config) -> Option<PodRanges> {
    let IpAddr::V4(network) = config.cluster_cidr.network else { return None };
    let prefix = config.cluster_cidr.prefix;
    Some(PodRanges { network, prefix, node_prefix: config.node_cidr_mask_size.max(prefix) })
}

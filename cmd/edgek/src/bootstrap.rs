//! The objects every cluster has from its first moment on: system namespaces, the RBAC policy, priority classes and
//! what extension API servers read.

use anyhow::{Context as _, Result};
use edgek_apiserver_authz::bootstrap;
use edgek_base_config::{Component, Config};
use edgek_base_pki::Pki;
use edgek_client::{Client, Error, Patch, ResourceRef};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::{Value, json};

use crate::names;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates what is missing, and brings roles that update themselves to the rules of this version.
pub(crate) async fn ensure(client: &Client, config: &Config, pki: &Pki) -> Result<()> {
    for name in NAMESPACES {
        create(client, ResourceRef::cluster::<Namespace>(), None, &json!({"metadata": {"name": name}}))
            .await?;
    }
    let own = [node_proxiers()].into_iter().chain(node_names());
    for object in bootstrap::objects().into_iter().chain(own) {
        ensure_policy(client, object).await?;
    }
    for (name, value) in [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)]
    {
        let class = json!({
            "metadata": {"name": name},
            "value": value,
            "preemptionPolicy": "PreemptLowerPriority",
            "description": "Used for system critical pods that must not be moved from their current node.",
        });
        create(client, ResourceRef::cluster::<PriorityClass>(), None, &class).await?;
    }
    create(
        client,
        ResourceRef::namespaced::<ConfigMap>(),
        Some("kube-system"),
        &extension_authentication(pki),
    )
    .await?;
    ensure_service_range(client, config).await?;
    if config.disable.contains(&Component::Dns) {
        return Ok(());
    }
    create(client, ResourceRef::namespaced::<Service>(), Some("kube-system"), &names::service(config)).await
}

/// ServiceCIDR `kubernetes`, from which the addresses of services come; the API server knows no other one.
async fn ensure_service_range(client: &Client, config: &Config) -> Result<()> {
    let ranges = ResourceRef::cluster::<ServiceCIDR>();
    let range =
        json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [config.service_cidr.to_string()]}});
    create(client, ranges.clone(), None, &range).await?;
    let api = client.untyped(ranges, None);
    let there = api.get("kubernetes").await.context("reading the ServiceCIDR")?;
    if there["status"]["conditions"].is_array() {
        return Ok(());
    }
    let now = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second())?;
    let message = "Kubernetes default Service CIDR is ready";
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "", "message": message, "lastTransitionTime": now.to_string(),
    });
    let patch = Patch::Merge(json!({"status": {"conditions": [ready]}}));
    api.patch("kubernetes", "status", &patch).await.map(|_| ()).context("updating the ServiceCIDR")
}

/// Nodes know the cluster's names, which begin with its namespaces.
fn node_names() -> [Value; 2] {
    const NAME: &str = "edgek:node-names";
    const GROUP: &str = "rbac.authorization.k8s.io";
    let annotations = json!({"rbac.authorization.kubernetes.io/autoupdate": "true"});
    let metadata = json!({"name": NAME, "annotations": annotations});
    let rule = json!({"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]});
    let role = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": NAME});
    let nodes = json!({"apiGroup": GROUP, "kind": "Group", "name": "system:nodes"});
    [
        json!({"kind": "ClusterRole", "metadata": metadata, "rules": [rule]}),
        json!({"kind": "ClusterRoleBinding", "metadata": metadata, "roleRef": role, "subjects": [nodes]}),
    ]
}

/// Nodes serve Services and reach each other's pods as themselves, without another identity.
fn node_proxiers() -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {
            "name": "edgek:node-proxiers",
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    })
}

/// Creates an object unless it exists.
async fn create(
    client: &Client,
    resource: ResourceRef,
    namespace: Option<&str>,
    object: &Value,
) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut object = object.clone();
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind);
    let api = client.untyped(resource, namespace);
    // Most starts find everything there: a read costs nothing.
    match api.get(name).await {
        Ok(_) => return Ok(()),
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error).with_context(|| format!("reading {name}")),
    }
    match api.create(&object).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(error).with_context(|| format!("creating {} {name}", object["kind"])),
    }
}

async fn ensure_policy(client: &Client, object: Value) -> Result<()> {
    let resource = match object["kind"].as_str().unwrap_or_default() {
        "ClusterRole" => ResourceRef::cluster::<ClusterRole>(),
        "ClusterRoleBinding" => ResourceRef::cluster::<ClusterRoleBinding>(),
        "Role" => ResourceRef::namespaced::<Role>(),
        _ => ResourceRef::namespaced::<RoleBinding>(),
    };
    let kind = resource.kind.clone();
    let namespace = object["metadata"]["namespace"].as_str();
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let api = client.untyped(resource.clone(), namespace);
    let there = match api.get(name).await {
        Ok(there) => there,
        Err(error) if error.is_not_found() => return create(client, resource, namespace, &object).await,
        Err(error) => return Err(error).with_context(|| format!("reading {kind} {name}")),
    };
    extend(&api, name, &there, &object).await.with_context(|| format!("updating {kind} {name}"))
}

/// Adds the rules or subjects of this version that an object lacks; what people added stays, and an object whose
/// autoupdate annotation is `false` is left alone.
async fn extend(
    api: &edgek_client::Api<Value>,
    name: &str,
    there: &Value,
    wanted: &Value,
) -> Result<(), Error> {
    let autoupdate = &there["metadata"]["annotations"]["rbac.authorization.kubernetes.io/autoupdate"];
    if autoupdate != "true" {
        return Ok(());
    }
    for field in ["rules", "subjects"] {
        let mut has = there[field].as_array().cloned().unwrap_or_default();
        let missing =
            wanted[field].as_array().into_iter().flatten().filter(|item| !has.contains(item)).cloned();
        let missing: Vec<Value> =
            missing.map(|item| stored_form(field, item)).filter(|item| !has.contains(item)).collect();
        if !missing.is_empty() {
            has.extend(missing);
            api.patch(name, "", &Patch::Merge(json!({field: has}))).await?;
        }
    }
    Ok(())
}

/// A subject as the API server stores it: with the group that its kind implies.
fn stored_form(field: &str, mut item: Value) -> Value {
    if field == "subjects" && item["apiGroup"].is_null() && item["kind"] != "ServiceAccount" {
        item["apiGroup"] = json!("rbac.authorization.k8s.io");
    }
    item
}

/// How extension API servers tell requests that this server passes on (upstream:
/// `extension-apiserver-authentication`).
fn extension_authentication(pki: &Pki) -> Value {
    json!({
        "metadata": {"name": "extension-apiserver-authentication"},
        "data": {
            "client-ca-file": pki.client_ca.pem(),
            "requestheader-client-ca-file": pki.front_proxy_ca.pem(),
            "requestheader-allowed-names": "[\"system:auth-proxy\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
        },
    })
}

//! Which of a deployment's ReplicaSets is the new one, and what the sets' annotations tell of the history (upstream:
//! `deployment/util/deployment_util.go`).

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::KIND;
use super::sizes::{self, Sizes};
use crate::{API_VERSION, object};

/// The label that tells the pods of one set from those of another.
const HASH: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// These annotations of a deployment do not go on to its sets.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// The length of the history in characters.
const MAX_HISTORY: usize = 2000;
/// The longest name of a set.
const MAX_NAME: usize = 253;

/// A deployment's sets: the one of the present template, and all others from the oldest to the newest.
pub(super) fn split(
    deployment: &Deployment,
    mut sets: Vec<ReplicaSet>,
) -> (Option<ReplicaSet>, Vec<ReplicaSet>) {
    sets.sort_by_cached_key(|set| {
        let created = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
        (created, object::name(&set.metadata).to_owned())
    });
    let new = sets.iter().position(|set| is_of(deployment, set)).map(|at| sets.remove(at));
    (new, sets)
}

/// Whether a set has the deployment's present template.
pub(super) fn is_of(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let mut template = set.spec.template.clone().unwrap_or_default();
    let mut wanted = deployment.spec.clone().template;
    for metadata in [&mut template.metadata, &mut wanted.metadata] {
        let metadata = metadata.get_or_insert_default();
        let labels = metadata.labels.get_or_insert_default();
        labels.remove(HASH);
        metadata.annotations.get_or_insert_default();
    }
    template == wanted
}

/// The set of the present template, as it is to be created.
pub(super) fn new_set(deployment: &Deployment, old: &[ReplicaSet]) -> ReplicaSet {
    let spec = deployment.spec.clone();
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = hash(&spec.template, collisions);
    let (mut template, mut selector) = (spec.template, spec.selector);
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    selector.match_labels.get_or_insert_default().insert(HASH.to_owned(), hash.clone());
    let name: String = object::name(&deployment.metadata).chars().take(MAX_NAME - 1 - hash.len()).collect();
    let metadata = ObjectMeta {
        name: Some(format!("{name}-{hash}")),
        namespace: deployment.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![object::controller(API_VERSION, KIND, &deployment.metadata)]),
        ..ObjectMeta::default()
    };
    let mut set = ReplicaSet {
        metadata,
        spec: ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        },
        status: None,
    };
    let sizes = Sizes::of(deployment);
    set.spec.replicas = Some(sizes::size_of_new(&sizes, &set, old));
    annotate(deployment, &mut set, max_revision(old) + 1);
    annotate_sizes(&sizes, &mut set);
    set
}

/// What upstream makes of a template's hash: short, and without vowels or digits that could form words. The hash
/// itself need not be upstream's, as a set is recognised by its template.
fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    bytes.extend(collisions.iter().flat_map(|count| count.to_le_bytes()));
    // FNV-1a
    let hash =
        bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(LETTERS[usize::from(digit) % LETTERS.len()])).collect()
}

/// The annotation of this name as a number.
pub(super) fn number(metadata: &ObjectMeta, annotation: &str) -> Option<i64> {
    metadata.annotations.as_ref()?.get(annotation)?.parse().ok()
}

/// The largest revision of the sets.
pub(super) fn max_revision(sets: &[ReplicaSet]) -> i64 {
    sets.iter().filter_map(|set| number(&set.metadata, REVISION)).max().unwrap_or_default()
}

/// Gives the new set the deployment's annotations and its revision, which only grows; those it had become history.
pub(super) fn annotate(deployment: &Deployment, set: &mut ReplicaSet, revision: i64) {
    let inherited =
        deployment.metadata.annotations.iter().flatten().filter(|(name, _)| !OWN.contains(&name.as_str()));
    let inherited: BTreeMap<_, _> = inherited.map(|(name, value)| (name.clone(), value.clone())).collect();
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.extend(inherited);
    let old = annotations.get(REVISION).cloned();
    let Ok(number) = old.as_deref().unwrap_or("0").parse::<i64>() else { return };
    if number >= revision {
        return;
    }
    annotations.insert(REVISION.to_owned(), revision.to_string());
    let Some(old) = old else { return };
    let history = annotations.get(HISTORY).filter(|history| !history.is_empty());
    let mut history = history.map_or(old.clone(), |history| format!("{history},{old}"));
    while history.len() > MAX_HISTORY {
        let Some((_, rest)) = history.split_once(',') else { break };
        history = rest.to_owned();
    }
    annotations.insert(HISTORY.to_owned(), history);
}

/// Writes down for which size of the deployment the set was scaled, by which later scaling is told from a rollout.
pub(super) fn annotate_sizes(sizes: &Sizes, set: &mut ReplicaSet) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.to_owned(), sizes.replicas.to_string());
    annotations.insert(MAX.to_owned(), (sizes.replicas + sizes.surge).to_string());
}

/// The old sets to delete, so that only as many remain as the history limit says: the oldest, and none that has pods.
pub(super) fn surplus(deployment: &Deployment, old: &[ReplicaSet]) -> Vec<ReplicaSet> {
    let limit = deployment.spec.revision_history_limit.unwrap_or(10);
    let mut alive: Vec<_> = old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    let surplus = alive.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
    alive.sort_by_key(|set| number(&set.metadata, REVISION).unwrap_or_default());
    let unused = |set: &&&ReplicaSet| {
        let status = set.status.clone().unwrap_or_default();
        let seen =
            status.observed_generation.unwrap_or_default() >= set.metadata.generation.unwrap_or_default();
        status.replicas == 0 && sizes::wanted(set) == 0 && seen
    };
    alive.iter().take(surplus).filter(unused).map(|set| (*set).clone()).collect()
}

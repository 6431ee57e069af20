//! How many replicas each ReplicaSet of a deployment gets: rolling, all at once, or in proportion (upstream:
//! `rolling.go`, `recreate.go` and `scale` in `sync.go`).

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::revision::{DESIRED, MAX, number};
use crate::object;

/// How a deployment replaces its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Strategy {
    Rolling,
    Recreate,
}

/// How many pods a deployment may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) strategy: Strategy,
    pub(super) replicas: i32,
    /// So many more for a while.
    pub(super) surge: i32,
    /// So many may be unavailable.
    pub(super) unavailable: i32,
    /// As the status says.
    present: i32,
}

/// A set gets a new size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) set: String,
    pub(super) to: i32,
}

impl Scale {
    fn new(set: &ReplicaSet, to: i32) -> Self {
        Self { set: object::name(&set.metadata).to_owned(), to }
    }
}

impl Sizes {
    /// What the deployment says.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = &deployment.spec;
        let replicas = spec.replicas.unwrap_or(1);
        let present = deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or_default();
        let strategy = spec.strategy.clone().unwrap_or_default();
        if strategy.type_.as_deref() == Some("Recreate") {
            return Self { strategy: Strategy::Recreate, replicas, surge: 0, unavailable: 0, present };
        }
        let rolling = strategy.rolling_update.unwrap_or_default();
        let surge = share(rolling.max_surge.as_ref(), replicas, f64::ceil);
        let unavailable = share(rolling.max_unavailable.as_ref(), replicas, f64::floor);
        // Percentages may round to nothing, but one of the two must allow progress.
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { strategy: Strategy::Rolling, replicas, surge, unavailable: unavailable.min(replicas), present }
    }

    fn min_available(&self) -> i32 {
        self.replicas - self.unavailable
    }
}

/// A number, or a percentage of the replicas; a quarter when it is not said.
fn share(value: Option<&IntOrString>, replicas: i32, round: fn(f64) -> f64) -> i32 {
    let percent = match value {
        Some(IntOrString::Int(number)) => return *number,
        Some(IntOrString::String(text)) => text.trim_end_matches('%').parse().unwrap_or_default(),
        None => 25.0,
    };
    round(percent * f64::from(replicas) / 100.0) as i32
}

/// How many replicas a set shall have.
pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

/// How many replicas of a set are available.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or_default()
}

fn total(sets: &[ReplicaSet]) -> i32 {
    sets.iter().map(wanted).sum()
}

/// How many replicas the new set can have now.
pub(super) fn size_of_new(sizes: &Sizes, new: &ReplicaSet, old: &[ReplicaSet]) -> i32 {
    let present = wanted(new);
    if sizes.strategy == Strategy::Recreate || present >= sizes.replicas {
        return sizes.replicas;
    }
    let room = (sizes.replicas + sizes.surge - total(old) - present).max(0);
    present + room.min(sizes.replicas - present)
}

/// The next step of a rolling update: the new set up as far as possible, else the old ones down.
pub(super) fn roll(sizes: &Sizes, new: &ReplicaSet, old: &[ReplicaSet]) -> Vec<Scale> {
    let to = size_of_new(sizes, new, old);
    if to != wanted(new) {
        return vec![Scale::new(new, to)];
    }
    scale_down(sizes, new, old)
}

/// Takes replicas from the old sets, the oldest first: those that are not available, then as many as the available
/// ones allow.
fn scale_down(sizes: &Sizes, new: &ReplicaSet, old: &[ReplicaSet]) -> Vec<Scale> {
    let starting = wanted(new) - available(new);
    let mut room = total(old) + wanted(new) - sizes.min_available() - starting;
    // While a set is still being scaled down, its counts do not tell which pods remain.
    let unsettled = old.iter().any(|set| wanted(set) > 0 && available(set) > wanted(set));
    if room <= 0 || unsettled {
        return Vec::new();
    }
    let mut targets: Vec<i32> = old.iter().map(wanted).collect();
    for (set, size) in old.iter().zip(&mut targets).filter(|(set, _)| wanted(set) > 0) {
        let take = room.min(wanted(set) - available(set));
        (*size, room) = (*size - take, room - take);
    }
    let all_available = available(new) + old.iter().map(available).sum::<i32>();
    let mut surplus = (all_available - sizes.min_available()).max(0);
    for size in &mut targets {
        let take = surplus.min(*size);
        (*size, surplus) = (*size - take, surplus - take);
    }
    let changed = old.iter().zip(targets).filter(|(set, size)| wanted(set) != *size);
    changed.map(|(set, size)| Scale::new(set, size)).collect()
}

/// All sets but the new one to nothing.
pub(super) fn empty(old: &[ReplicaSet]) -> Vec<Scale> {
    old.iter().filter(|set| wanted(set) > 0).map(|set| Scale::new(set, 0)).collect()
}

/// Whether the deployment got another size since its sets were scaled.
pub(super) fn is_scaling(sizes: &Sizes, new: Option<&ReplicaSet>, old: &[ReplicaSet]) -> bool {
    let active = new.into_iter().chain(old).filter(|set| wanted(set) > 0);
    let mut desired = active.filter_map(|set| number(&set.metadata, DESIRED));
    desired.any(|desired| desired != i64::from(sizes.replicas))
}

/// Spreads another size of the deployment over its sets without hastening a rollout.
pub(super) fn spread(sizes: &Sizes, new: Option<&ReplicaSet>, old: &[ReplicaSet]) -> Vec<Scale> {
    let active: Vec<_> = old.iter().chain(new).filter(|set| wanted(set) > 0).collect();
    if active.len() <= 1 {
        let target = active.first().copied().or(new).or(old.last());
        let target = target.filter(|set| wanted(set) != sizes.replicas);
        return target.map(|set| Scale::new(set, sizes.replicas)).into_iter().collect();
    }
    if new.is_some_and(|new| is_saturated(sizes, new)) {
        return empty(old);
    }
    if sizes.strategy == Strategy::Recreate {
        return Vec::new();
    }
    in_proportion(sizes, active)
}

fn is_saturated(sizes: &Sizes, new: &ReplicaSet) -> bool {
    let desired = number(&new.metadata, DESIRED) == Some(sizes.replicas.into());
    desired && wanted(new) == sizes.replicas && available(new) == sizes.replicas
}

/// Every set grows or shrinks by its share, from the largest on, which also takes what remains by rounding. All are
/// named, because all must note the deployment's new size.
fn in_proportion(sizes: &Sizes, mut active: Vec<&ReplicaSet>) -> Vec<Scale> {
    let allowed = if sizes.replicas > 0 { sizes.replicas + sizes.surge } else { 0 };
    let change = allowed - active.iter().map(|set| wanted(set)).sum::<i32>();
    // Among sets of one size the newer grow first and the older shrink first.
    if change > 0 {
        active.reverse();
    }
    active.sort_by_key(|set| std::cmp::Reverse(wanted(set)));
    let mut rest = change;
    let mut targets = Vec::new();
    for set in &active {
        let part = if rest == 0 { 0 } else { fraction(sizes, set) };
        let part = if change > 0 { part.min(rest) } else { part.max(rest) };
        rest -= part;
        targets.push(Scale::new(set, wanted(set) + part));
    }
    if let Some(largest) = targets.first_mut() {
        largest.to = (largest.to + rest).max(0);
    }
    targets
}

/// By how much a set changes when it keeps its share of the deployment.
fn fraction(sizes: &Sizes, set: &ReplicaSet) -> i32 {
    if sizes.replicas == 0 {
        return -wanted(set);
    }
    let before = number(&set.metadata, MAX).filter(|max| *max != 0).unwrap_or(sizes.present.into());
    if before == 0 {
        return 0;
    }
    let size = f64::from(wanted(set)) * f64::from(sizes.replicas + sizes.surge) / before as f64;
    size.round() as i32 - wanted(set)
}

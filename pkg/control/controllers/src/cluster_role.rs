//! Aggregated cluster roles: a role with an aggregation rule has the rules of all roles that its selectors pick
//! (upstream: `clusterroleaggregation_controller.go`).

use edgek_client::{Client, Error, Patch};
use edgek_control_runtime::{Key, Next, Queue, run};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;

use crate::{Start, object};

/// Starts the controller. It has one key: which role picks which is not known, and roles are few.
pub(crate) fn start(start: &Start<'_>, client: Client) {
    let (roles, queue) = (start.informers.cluster_roles.clone(), Queue::<()>::new());
    let waiting = queue.clone();
    roles.on_change(move |_| waiting.add(()));
    run(start.scope, "clusterrole-aggregation-controller", &queue, 1, move |()| {
        let (roles, client) = (roles.clone(), client.clone());
        async move {
            roles.synced().await;
            let roles = roles.list("");
            for (role, rules) in plan(&roles) {
                write(&client, role, &rules).await?;
            }
            Ok::<_, Error>(Next::Wait)
        }
    });
}

/// The roles whose rules are to change, and the rules they should have. `roles` are in the order of their names.
fn plan(roles: &[ClusterRole]) -> Vec<(&ClusterRole, Vec<PolicyRule>)> {
    let rules = |role| Some((role, aggregated(role, roles)?));
    let differs = |(role, rules): &(&ClusterRole, Vec<_>)| role.rules.as_deref().unwrap_or_default() != rules;
    roles.iter().filter_map(rules).filter(differs).collect()
}

/// The rules of an aggregated role; `None` for any other and for one whose selectors are not valid.
fn aggregated(role: &ClusterRole, roles: &[ClusterRole]) -> Option<Vec<PolicyRule>> {
    let mut rules = Vec::new();
    for selector in role.aggregation_rule.as_ref()?.cluster_role_selectors.iter().flatten() {
        let selector = object::selector(selector)?;
        let picked = roles.iter().filter(|other| {
            let labels = other.metadata.labels.clone().unwrap_or_default();
            other.metadata.name != role.metadata.name && object::selects(&selector, &labels)
        });
        for rule in picked.flat_map(|picked| picked.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}

async fn write(client: &Client, role: &ClusterRole, rules: &[PolicyRule]) -> Result<(), Error> {
    let Key { name, .. } = object::key(&role.metadata);
    let patch = Patch::Merge(json!({"metadata": {"uid": role.metadata.uid}, "rules": rules}));
    object::unless_gone(client.cluster::<ClusterRole>().patch(&name, "", &patch).await.map(|_| ()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn roles(list: Value) -> Vec<ClusterRole> {
        serde_json::from_value(list).unwrap()
    }

    #[test]
    fn an_aggregated_role_has_each_rule_of_the_roles_it_picks_once() {
        let rule = |resource: &str| json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
        let to_view = json!({"to": "view"});
        let by = |selector: Value| json!({"clusterRoleSelectors": [selector]});
        let roles = roles(json!([
            {"metadata": {"name": "a", "labels": to_view}, "rules": [rule("pods"), rule("nodes")]},
            {"metadata": {"name": "b", "labels": to_view}, "rules": [rule("nodes"), rule("secrets")]},
            {"metadata": {"name": "c", "labels": {"to": "edit"}}, "rules": [rule("events")]},
            {"metadata": {"name": "done"}, "aggregationRule": by(json!({"matchLabels": {"to": "edit"}})), "rules": [rule("events")]},
            {"metadata": {"name": "view", "labels": to_view}, "aggregationRule": by(json!({"matchLabels": to_view})), "rules": [rule("own")]},
        ]));
        let expected: Vec<PolicyRule> =
            serde_json::from_value(json!([rule("pods"), rule("nodes"), rule("secrets")])).unwrap();
        assert_eq!(plan(&roles), [(&roles[4], expected)]);
    }

    #[test]
    fn a_role_whose_selectors_pick_nothing_has_no_rules() {
        let by = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "nobody"}}]});
        let rule = json!({"verbs": ["get"]});
        let roles = roles(json!([{"metadata": {"name": "view"}, "aggregationRule": by, "rules": [rule]}]));
        assert_eq!(plan(&roles), [(&roles[0], vec![])]);
    }
}

//! `RestartBackoff` and the rule whether a container that ended runs again. Pure; used by the plan of a pod.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, PodSpec};

/// The first delay between restarts.
const FIRST: Duration = Duration::from_secs(10);
/// The longest.
const MAX: Duration = Duration::from_secs(300);

/// Whether a container starts again after it ended with `code`: the container's own rules and policy come before
/// the pod's policy.
pub fn restarts_after(spec: &PodSpec, container: &Container, code: i32) -> bool {
    let rules = container.restart_policy_rules.iter().flatten();
    if rules.filter(|rule| rule.action == "Restart").any(|rule| matches_exit(rule, code)) {
        return true;
    }
    let policy = container.restart_policy.as_deref().or(spec.restart_policy.as_deref()).unwrap_or("Always");
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

fn matches_exit(rule: &ContainerRestartRule, code: i32) -> bool {
    let Some(exit) = &rule.exit_codes else { return false };
    let listed = exit.values.iter().flatten().any(|value| *value == code);
    match exit.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    }
}

/// Delays restarts of the containers of one pod: the first is at once, later ones after 10 s doubling to 5 min. A
/// container that ran for twice the longest delay starts over.
#[derive(Debug, Default)]
pub struct RestartBackoff(BTreeMap<String, Entry>);

#[derive(Debug, Clone, Copy)]
struct Entry {
    delay: Duration,
    restarted: Timestamp,
}

impl Entry {
    fn is_over(&self, at: Timestamp) -> bool {
        since(self.restarted, at) > MAX * 2
    }
}

impl RestartBackoff {
    /// How long the container that ended at `finished` must still wait, and the full delay; `None` when it may start.
    pub fn remaining(&self, name: &str, finished: Timestamp, now: Timestamp) -> Option<(Duration, Duration)> {
        let entry = self.0.get(name).filter(|entry| !entry.is_over(finished))?;
        let left = entry.delay.checked_sub(since(finished, now))?;
        (!left.is_zero()).then_some((left, entry.delay))
    }

    /// Notes a restart of a container that ended at `finished`; lengthens the next delay.
    pub fn restarted(&mut self, name: &str, finished: Timestamp, now: Timestamp) {
        let before = self.0.get(name).filter(|entry| !entry.is_over(finished));
        let delay = before.map_or(FIRST, |entry| (entry.delay * 2).min(MAX));
        self.0.insert(name.to_owned(), Entry { delay, restarted: now });
    }
}

/// The message of a container in CrashLoopBackOff.
pub fn back_off_message(delay: Duration, container: &str, pod: &str, namespace: &str, uid: &str) -> String {
    let delay = crate::duration::go(delay);
    format!("back-off {delay} restarting failed container={container} pod={pod}_{namespace}({uid})")
}

fn since(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policy_and_rules_decide_about_a_restart() {
        let check = |pod: &str, container: serde_json::Value, code: i32, expected: bool| {
            let spec: PodSpec =
                serde_json::from_value(json!({"restartPolicy": pod, "containers": []})).unwrap();
            let container: Container = serde_json::from_value(container).unwrap();
            assert_eq!(restarts_after(&spec, &container, code), expected, "{pod} {container:?} {code}");
        };
        let plain = json!({"name": "c"});
        check("Always", plain.clone(), 0, true);
        check("OnFailure", plain.clone(), 0, false);
        check("OnFailure", plain.clone(), 1, true);
        check("Never", plain, 1, false);
        check("Never", json!({"name": "c", "restartPolicy": "Always"}), 0, true);
        let rules = json!({"name": "c", "restartPolicy": "Never", "restartPolicyRules":
            [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
        check("Always", rules.clone(), 42, true);
        check("Always", rules, 1, false);
    }

    #[test]
    fn delays_double_from_ten_seconds_to_five_minutes() {
        let mut backoff = RestartBackoff::default();
        let mut now = Timestamp::UNIX_EPOCH;
        assert_eq!(backoff.remaining("c", now, now), None);
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            backoff.restarted("c", now, now);
            let (left, delay) = backoff.remaining("c", now, now).unwrap();
            assert_eq!((left.as_secs(), delay.as_secs()), (expected, expected));
            let finished = now;
            now += Duration::from_secs(expected);
            assert_eq!(backoff.remaining("c", finished, now), None);
        }
        let much_later = now + Duration::from_secs(601);
        assert_eq!(backoff.remaining("c", much_later, much_later), None);
        backoff.restarted("c", much_later, much_later);
        assert_eq!(backoff.remaining("c", much_later, much_later).unwrap().1, FIRST);
    }
}

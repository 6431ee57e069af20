//! Tests of `env`.

use super::*;
use serde_json::json;

fn pod() -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "web-0", "namespace": "shop", "uid": "u1", "labels": {"app": "web"}},
        "spec": {"nodeName": "edge-1", "serviceAccountName": "default", "containers": [
            {"name": "c", "resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}}}]},
    }))
    .unwrap()
}

fn facts() -> Facts<'static> {
    Facts {
        pod_ips: &["10.42.0.7"],
        host_ips: &["192.0.2.1"],
        cpu_milli: 2000,
        memory_bytes: 1 << 30,
        storage_bytes: 1 << 33,
    }
}

fn sources() -> Sources {
    let secret = serde_json::from_value(json!({"data": {"key": "aHVzaA=="}})).unwrap();
    Sources {
        config_maps: [
            ("there".to_owned(), Some([("key".to_owned(), "value".to_owned())].into())),
            ("absent".to_owned(), None),
        ]
        .into(),
        secrets: [("safe".to_owned(), Some(secret)), ("absent".to_owned(), None)].into(),
    }
}

fn check(container: serde_json::Value, expected: Result<&[(&str, &str)], &str>) {
    let mut container = container;
    container["name"] = json!("c");
    let container: Container = serde_json::from_value(container).unwrap();
    let services = [("DB_SERVICE_HOST".to_owned(), "10.43.0.9".to_owned())].into();
    let result = build(&pod(), &container, &facts(), &sources(), services).map_err(|e| e.to_string());
    let expected = expected.map_err(str::to_owned).map(|pairs| {
        let service = ("DB_SERVICE_HOST", "10.43.0.9");
        let mut all: BTreeMap<String, String> = [(service.0.to_owned(), service.1.to_owned())].into();
        all.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        all
    });
    assert_eq!(result, expected, "{container:?}");
}

#[test]
fn variables_come_from_literals_objects_and_services() {
    check(json!({}), Ok(&[]));
    check(
        json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(DB_SERVICE_HOST)-$(NO)-$$(A)"}]}),
        Ok(&[("A", "1"), ("B", "1-10.43.0.9-$(NO)-$(A)")]),
    );
    check(
        json!({"envFrom": [{"prefix": "P_", "configMapRef": {"name": "there"}}, {"secretRef": {"name": "safe"}}],
            "env": [{"name": "key", "value": "$(P_key)!"}]}),
        Ok(&[("P_key", "value"), ("key", "value!")]),
    );
    let key = |kind: &str, name: &str, key: &str, optional: bool| json!({"env": [{"name": "A", "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}}]});
    check(key("configMapKeyRef", "there", "key", false), Ok(&[("A", "value")]));
    check(key("secretKeyRef", "safe", "key", false), Ok(&[("A", "hush")]));
    check(key("secretKeyRef", "safe", "no", true), Ok(&[]));
    check(key("configMapKeyRef", "absent", "key", true), Ok(&[]));
    check(key("configMapKeyRef", "absent", "key", false), Err("configmap \"absent\" not found"));
    check(key("secretKeyRef", "safe", "no", false), Err("couldn't find key no in Secret shop/safe"));
    check(json!({"envFrom": [{"secretRef": {"name": "absent"}}]}), Err("secret \"absent\" not found"));
    check(json!({"envFrom": [{"secretRef": {"name": "absent", "optional": true}}]}), Ok(&[]));
}

#[test]
fn fields_and_resources_of_the_pod() {
    let of_field = |path: &str| field(&pod(), path, &facts()).map_err(|e| e.to_string());
    assert_eq!(of_field("metadata.name").unwrap(), "web-0");
    assert_eq!(of_field("metadata.labels['app']").unwrap(), "web");
    assert_eq!(of_field("metadata.annotations['none']").unwrap(), "");
    assert_eq!(of_field("spec.nodeName").unwrap(), "edge-1");
    assert_eq!(of_field("status.podIP").unwrap(), "10.42.0.7");
    assert_eq!(of_field("status.hostIP").unwrap(), "192.0.2.1");
    assert_eq!(of_field("metadata.labels").unwrap(), "app=\"web\"");
    assert_eq!(of_field("spec.containers").unwrap_err(), "unsupported fieldPath: spec.containers");

    let pod = pod();
    let of_resource = |name: &str, divisor: &str| {
        let selector = serde_json::from_value(json!({"resource": name, "divisor": divisor})).unwrap();
        resource(&pod, pod.spec.as_ref().unwrap().containers.first(), &selector, &facts()).unwrap()
    };
    assert_eq!(of_resource("requests.cpu", "1"), "1");
    assert_eq!(of_resource("requests.cpu", "1m"), "250");
    assert_eq!(of_resource("limits.memory", "1Mi"), "64");
    assert_eq!(of_resource("limits.cpu", "0"), "2", "without a limit what the node has");
    assert_eq!(of_resource("requests.memory", "1"), "0");
}

#[test]
fn references_are_replaced_once_and_unknown_ones_stay() {
    let check = |text: &str, expected: &str| {
        let known = |name: &str| (name == "A").then(|| "$(B)".to_owned());
        assert_eq!(expand(text, known), expected);
    };
    check("$(A)", "$(B)");
    check("x$(A)y$(B)z", "x$(B)y$(B)z");
    check("$$(A)", "$(A)");
    check("$$$(A)", "$$(B)");
    check("$(A", "$(A");
    check("cost: 5$", "cost: 5$");
    check("$A", "$A");
}

//! Rules of Endpoints.

use serde_json::{Value, json};

use super::subsets::{Subset, repack, truncate};
use super::{Endpoints, plan};
use crate::service::{Pod, Service};

fn subsets(list: Value) -> Vec<Subset> {
    serde_json::from_value(list).unwrap()
}

#[test]
fn addresses_with_the_same_ports_are_together() {
    let check = |given: Value, expected: Value| {
        assert_eq!(serde_json::to_value(repack(&subsets(given))).unwrap(), expected);
    };
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
    let (a, b) = (json!({"ip": "10.0.0.1"}), json!({"ip": "10.0.0.2"}));
    check(json!([]), json!([]));
    // Per port, then per address.
    check(
        json!([{"addresses": [b, a], "ports": [port("x", 1)]}, {"addresses": [a, b], "ports": [port("w", 2)]}]),
        json!([{"addresses": [a, b], "ports": [port("w", 2), port("x", 1)]}]),
    );
    // Not the same addresses.
    check(
        json!([{"addresses": [a, b], "ports": [port("x", 2)]}, {"addresses": [a], "ports": [port("w", 1)]}]),
        json!([{"addresses": [a], "ports": [port("w", 1)]}, {"addresses": [a, b], "ports": [port("x", 2)]}]),
    );
    // Not ready wins.
    check(
        json!([{"addresses": [a], "notReadyAddresses": [a, b], "ports": [port("x", 1)]}]),
        json!([{"notReadyAddresses": [a, b], "ports": [port("x", 1)]}]),
    );
    // The same address of two pods on the host's network.
    let of = |uid: &str| json!({"ip": "10.0.0.1", "targetRef": {"uid": uid}});
    check(
        json!([{"addresses": [of("2"), of("1"), of("2")], "ports": [port("x", 1)]}]),
        json!([{"addresses": [of("1"), of("2")], "ports": [port("x", 1)]}]),
    );
    check(json!([{"addresses": [b]}, {"addresses": [a]}]), json!([{"addresses": [a, b]}]));
}

#[test]
fn more_addresses_than_fit_are_left_out_unready_ones_first() {
    let check = |given: &[(usize, usize)], expected: &[(usize, usize)]| {
        let addresses = |count: usize| (0..count).map(|n| json!({"ip": n.to_string()})).collect::<Vec<_>>();
        let subset = |&(ready, unready): &(usize, usize)| json!({"addresses": addresses(ready), "notReadyAddresses": addresses(unready)});
        let mut list = subsets(given.iter().map(subset).collect());
        assert_eq!(truncate(&mut list), given != expected);
        let sizes: Vec<_> =
            list.iter().map(|it| (it.addresses.len(), it.not_ready_addresses.len())).collect();
        assert_eq!(sizes, expected);
    };
    check(&[(500, 500)], &[(500, 500)]);
    check(&[(900, 300)], &[(900, 100)]);
    check(&[(2000, 7)], &[(1000, 0)]);
    check(&[(400, 300), (400, 100)], &[(400, 150), (400, 50)]);
    check(&[(1500, 0), (500, 0)], &[(750, 0), (250, 0)]);
}

fn service(headless: bool) -> Service {
    let ports = json!([{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]);
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "a", "labels": {"team": "x"}},
        "spec": {"type": "ClusterIP", "clusterIP": if headless { "None" } else { "10.43.0.9" }, "ipFamilies": ["IPv4"],
                 "selector": {"app": "web"}, "ports": if headless { json!([]) } else { ports }},
    }))
    .unwrap()
}

fn pods() -> Vec<Pod> {
    let pod = |number: usize, ready: &str, fields: Value| {
        let mut pod = json!({
            "metadata": {"name": format!("p{number}"), "namespace": "a", "uid": format!("u{number}")},
            "spec": {"nodeName": "n", "hostname": "h", "subdomain": "web"},
            "status": {"podIPs": [{"ip": format!("10.42.0.{number}")}], "conditions": [{"type": "Ready", "status": ready}]},
        });
        for (field, value) in fields.as_object().unwrap() {
            pod["metadata"][field] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    };
    let gone = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
    vec![pod(1, "True", json!({})), pod(2, "False", json!({})), pod(3, "True", gone)]
}

#[test]
fn endpoints_are_written_only_when_they_differ() {
    let wanted = plan(&service(false), &pods(), None, Some("2026-01-01T00:00:00Z")).unwrap();
    let address = |number: usize| {
        let (name, uid) = (format!("p{number}"), format!("u{number}"));
        let target = json!({"kind": "Pod", "namespace": "a", "name": name, "uid": uid});
        json!({"ip": format!("10.42.0.{number}"), "hostname": "h", "nodeName": "n", "targetRef": target})
    };
    let expected = json!({
        "metadata": {
            "name": "web",
            "labels": {"team": "x", "endpoints.kubernetes.io/managed-by": "endpoint-controller"},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-01T00:00:00Z"},
        },
        "subsets": [{
            "addresses": [address(1)],
            "notReadyAddresses": [address(2)],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }],
    });
    assert_eq!(serde_json::to_value(&wanted).unwrap(), expected);
    assert_eq!(plan(&service(false), &pods(), Some(&wanted), None), None);
    let fewer = plan(&service(false), &pods()[..1], Some(&wanted), None).unwrap();
    assert_eq!(fewer.strings("annotations").len(), 0);
}

#[test]
fn endpoints_of_a_headless_service_are_marked_and_need_no_ports() {
    let wanted = plan(&service(true), &pods(), None, None).unwrap();
    assert_eq!(wanted.strings("labels")["service.kubernetes.io/headless"], "");
    assert_eq!((wanted.subsets.len(), wanted.subsets[0].ports.len()), (1, 0));
}

#[test]
fn addresses_that_are_not_ready_are_published_on_demand() {
    let mut service = service(false);
    service.spec.publish_not_ready_addresses = true;
    let subset = plan(&service, &pods(), None, None).unwrap().subsets.remove(0);
    let ips: Vec<_> = subset.addresses.iter().map(|address| &*address.ip).collect();
    assert_eq!((ips, subset.not_ready_addresses), (vec!["10.42.0.1", "10.42.0.2", "10.42.0.3"], vec![]));
}

#[test]
fn endpoints_say_that_some_are_left_out() {
    let pod = |number: usize| {
        let status = json!({"podIPs": [{"ip": format!("10.42.{}.{}", number / 250, number % 250)}],
                            "conditions": [{"type": "Ready", "status": "True"}]});
        serde_json::from_value(json!({"metadata": {"uid": number.to_string()}, "status": status})).unwrap()
    };
    let pods: Vec<Pod> = (0..1001).map(pod).collect();
    let all = plan(&service(false), &pods, None, None).unwrap();
    assert_eq!(all.strings("annotations")["endpoints.kubernetes.io/over-capacity"], "truncated");
    let fewer = plan(&service(false), &pods[..1000], Some(&all), None).unwrap();
    assert_eq!(fewer.strings("annotations").len(), 0);
}

#[test]
fn a_service_without_pods_has_endpoints_without_subsets() {
    let wanted = plan(&service(false), &[], None, None).unwrap();
    assert_eq!(wanted.subsets, []);
    let stored: Endpoints = serde_json::from_value(json!({"metadata": wanted.metadata})).unwrap();
    assert_eq!(plan(&service(false), &[], Some(&stored), None), None);
}

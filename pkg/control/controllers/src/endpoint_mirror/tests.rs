//! Rules of mirrored slices.

use serde_json::{Value, json};

use super::plan::plan;
use crate::endpoint_slice::slice::{Changes, EndpointSlice};
use crate::endpoints::Endpoints;

fn endpoints(subsets: &[Value]) -> Endpoints {
    let annotations = json!({"a": "b", "kubectl.kubernetes.io/last-applied-configuration": "{}"});
    let metadata = json!({"name": "db", "labels": {"team": "x"}, "annotations": annotations});
    serde_json::from_value(json!({"metadata": metadata, "subsets": subsets})).unwrap()
}

fn subset(ips: &[&str], port: u16) -> Value {
    let addresses: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({"addresses": addresses, "ports": [{"name": "sql", "port": port, "protocol": "TCP"}]})
}

fn stored(changes: &Changes) -> Vec<EndpointSlice> {
    let name = |(index, slice): (usize, &EndpointSlice)| {
        let mut slice = slice.clone();
        slice.metadata.insert("name".into(), json!(format!("db-{index}")));
        slice
    };
    changes.create.iter().enumerate().map(name).collect()
}

#[test]
fn each_subset_and_family_has_a_slice() {
    let endpoints = endpoints(&[subset(&["10.0.0.1", "fd00::1"], 5432), subset(&["10.0.0.2"], 5433)]);
    let (changes, skipped) = plan("db", "u", &endpoints, vec![]);
    let seen: Vec<_> = changes
        .create
        .iter()
        .map(|slice| (&*slice.address_type, slice.ports[0].port, &*slice.endpoints[0].addresses[0]))
        .collect();
    assert_eq!(seen, [("IPv4", 5432, "10.0.0.1"), ("IPv4", 5433, "10.0.0.2"), ("IPv6", 5432, "fd00::1")]);
    assert_eq!(
        Value::Object(changes.create[0].metadata.clone()),
        json!({
            "generateName": "db-",
            "labels": {"team": "x", "kubernetes.io/service-name": "db", "endpointslice.kubernetes.io/managed-by": "endpointslicemirroring-controller.k8s.io"},
            "annotations": {"a": "b"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Endpoints", "name": "db", "uid": "u", "controller": true, "blockOwnerDeletion": true}],
        })
    );
    assert_eq!(changes.create[0].endpoints[0].conditions.ready, Some(true));
    assert_eq!((plan("db", "u", &endpoints, stored(&changes)).0, skipped), (Changes::default(), 0));
}

#[test]
fn slices_follow_their_endpoints() {
    let slices = stored(&plan("db", "u", &endpoints(&[subset(&["10.0.0.1"], 5432)]), vec![]).0);
    let check = |subsets: &[Value], uid: &str, expected: (usize, usize, usize)| {
        let changes = plan("db", uid, &endpoints(subsets), slices.clone()).0;
        assert_eq!((changes.create.len(), changes.update.len(), changes.delete.len()), expected);
    };
    check(&[subset(&["10.0.0.2"], 5432)], "u", (0, 1, 0));
    check(&[subset(&["10.0.0.1"], 5433)], "u", (0, 1, 0));
    check(&[subset(&["10.0.0.1"], 5432), subset(&["10.0.0.2"], 5433)], "u", (1, 0, 0));
    check(&[], "u", (0, 0, 1));
    check(&[subset(&["10.0.0.1"], 5432)], "other", (0, 1, 0));
}

#[test]
fn a_subset_is_mirrored_up_to_a_thousand_addresses() {
    let ips: Vec<String> = (0..1003).map(|n| format!("10.0.{}.{}", n / 250, n % 250)).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let (changes, skipped) = plan("db", "u", &endpoints(&[subset(&ips, 1)]), vec![]);
    assert_eq!((changes.create[0].endpoints.len(), skipped), (1000, 3));
}

//! Rules of the slices of services.

use serde_json::{Value, json};

use super::plan::plan;
use super::slice::{Changes, EndpointSlice};
use crate::service::{Pod, Service};

fn service(spec: &Value) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "s", "labels": {"team": "x"}},
        "spec": {"type": "ClusterIP", "clusterIP": "10.43.0.9", "ipFamilies": ["IPv4"], "selector": {"app": "web"},
                 "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]},
    });
    for (field, value) in spec.as_object().unwrap() {
        service["spec"][field] = value.clone();
    }
    serde_json::from_value(service).unwrap()
}

fn pod(number: usize, ready: bool) -> Value {
    json!({
        "metadata": {"name": format!("p{number}"), "namespace": "a", "uid": format!("u{number}")},
        "spec": {"nodeName": "n", "containers": [{}]},
        "status": {"phase": "Running", "podIPs": [{"ip": format!("10.42.{}.{}", number / 250, number % 250)}],
                   "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
    })
}

fn decode(pods: &[Value]) -> Vec<Pod> {
    pods.iter().map(|pod| serde_json::from_value(pod.clone()).unwrap()).collect()
}

fn pods(numbers: std::ops::Range<usize>) -> Vec<Pod> {
    decode(&numbers.map(|number| pod(number, true)).collect::<Vec<_>>())
}

fn zone_of(node: &str) -> Option<String> {
    ["n", "m"].contains(&node).then(|| "west".to_owned())
}

/// The slices after the changes, as the API server would store them.
fn applied(there: Vec<EndpointSlice>, changes: Changes) -> Vec<EndpointSlice> {
    let gone = |slice: &EndpointSlice| changes.delete.iter().any(|deleted| deleted.name() == slice.name());
    let mut slices: Vec<_> = there.into_iter().filter(|slice| !gone(slice)).collect();
    for update in changes.update {
        let index = slices.iter().position(|slice| slice.name() == update.name()).unwrap();
        slices[index] = update;
    }
    for (index, mut slice) in changes.create.into_iter().enumerate() {
        slice.metadata.remove("generateName");
        slice.metadata.insert("name".into(), json!(format!("web-{}{index}", slices.len())));
        slices.push(slice);
    }
    slices
}

fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
    slices.iter().map(|slice| slice.endpoints.len()).collect()
}

#[test]
fn a_pod_is_an_endpoint_with_its_conditions_node_and_zone() {
    let mut terminating = pod(2, true);
    terminating["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let mut finished = pod(3, true);
    finished["status"]["phase"] = json!("Succeeded");
    let mut unknown = pod(4, true);
    unknown["spec"]["nodeName"] = json!("gone");
    let pods = decode(&[pod(1, false), terminating, finished, unknown]);
    let changes = plan(&service(&json!({})), &pods, zone_of, vec![]);
    let labels = json!({"team": "x", "kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"});
    let endpoint = |number: usize, conditions: Value| {
        let (name, uid) = (format!("p{number}"), format!("u{number}"));
        let target = json!({"kind": "Pod", "namespace": "a", "name": name, "uid": uid});
        json!({"addresses": [format!("10.42.0.{number}")], "conditions": conditions, "targetRef": target, "nodeName": "n", "zone": "west"})
    };
    let owner = json!({"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "s", "controller": true, "blockOwnerDeletion": true});
    assert_eq!(
        serde_json::to_value(&changes.create).unwrap(),
        json!([{
            "metadata": {"generateName": "web-", "labels": labels, "ownerReferences": [owner]},
            "addressType": "IPv4",
            "endpoints": [
                endpoint(1, json!({"ready": false, "serving": false, "terminating": false})),
                endpoint(2, json!({"ready": false, "serving": true, "terminating": true})),
            ],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        }])
    );
}

#[test]
fn unready_addresses_are_published_on_demand() {
    let service = service(&json!({"publishNotReadyAddresses": true}));
    let mut lost = pod(1, false);
    lost["spec"]["nodeName"] = json!("gone");
    let changes = plan(&service, &decode(&[lost]), zone_of, vec![]);
    let conditions = changes.create[0].endpoints[0].conditions;
    assert_eq!((conditions.ready, conditions.serving), (Some(true), Some(false)));
}

#[test]
fn a_headless_service_knows_the_host_names_of_its_pods() {
    let service = service(&json!({"clusterIP": "None", "ports": []}));
    let mut named = pod(1, true);
    named["spec"]["hostname"] = json!("db-0");
    named["spec"]["subdomain"] = json!("web");
    let mut foreign = pod(2, true);
    foreign["spec"]["hostname"] = json!("db-0");
    foreign["spec"]["subdomain"] = json!("other");
    let slice = plan(&service, &decode(&[named, foreign]), zone_of, vec![]).create.remove(0);
    assert_eq!(slice.strings("labels")["service.kubernetes.io/headless"], "");
    let names: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.hostname.as_deref()).collect();
    assert_eq!((names, slice.ports), (vec![Some("db-0"), None], vec![]));
}

#[test]
fn named_ports_that_differ_between_pods_make_a_slice_each() {
    let port = json!({"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web"});
    let service = service(&json!({"ports": [port]}));
    let with_port = |number: usize, port: Value| {
        let mut pod = pod(number, true);
        pod["spec"]["containers"] = json!([{"ports": [port]}]);
        pod
    };
    let named =
        |port: u16, protocol: &str| json!({"name": "web", "containerPort": port, "protocol": protocol});
    let mut sidecar = pod(4, true);
    sidecar["spec"]["initContainers"] = json!([{"restartPolicy": "Always", "ports": [named(81, "TCP")]}]);
    let pods = [
        with_port(1, named(80, "TCP")),
        with_port(2, named(81, "TCP")),
        with_port(3, named(80, "UDP")),
        sidecar,
    ];
    let mut slices = plan(&service, &decode(&pods), zone_of, vec![]).create;
    slices.sort_by(|a, b| a.ports.cmp(&b.ports));
    let ports = |slice: &EndpointSlice| slice.ports.iter().map(|port| port.port).collect::<Vec<_>>();
    // The pod without such a port is listed without ports, as upstream does.
    assert_eq!(slices.iter().map(ports).collect::<Vec<_>>(), [vec![], vec![80], vec![81]]);
    assert_eq!(sizes(&slices), [1, 1, 2]);
}

#[test]
fn slices_hold_a_hundred_endpoints_and_are_rewritten_as_little_as_possible() {
    let service = service(&json!({}));
    let slices = applied(vec![], plan(&service, &pods(0..250), zone_of, vec![]));
    assert_eq!(sizes(&slices), [100, 100, 50]);
    assert_eq!(plan(&service, &pods(0..250), zone_of, slices.clone()), Changes::default());
    // New pods go where all of them fit.
    let changes = plan(&service, &pods(0..260), zone_of, slices.clone());
    assert_eq!((changes.create.len(), sizes(&changes.update), changes.delete.len()), (0, vec![60], 0));
    // A slice that must change anyway takes them.
    let mut some = pods(0..260);
    some.remove(3);
    let changes = plan(&service, &some, zone_of, slices.clone());
    assert_eq!(changes.create.len() + changes.delete.len(), 0);
    assert_eq!(sizes(&applied(slices.clone(), changes)), [100, 100, 59]);
    // Slices that are empty go, but for one.
    let changes = plan(&service, &[], zone_of, slices.clone());
    assert_eq!((changes.create.len(), changes.update.len(), changes.delete.len()), (0, 1, 2));
    let slices = applied(slices, changes);
    assert_eq!((sizes(&slices), slices[0].ports.len()), (vec![0], 0));
    assert_eq!(plan(&service, &[], zone_of, slices), Changes::default());
}

#[test]
fn a_service_without_pods_has_an_empty_slice_that_its_first_pod_takes() {
    let service = service(&json!({}));
    let slices = applied(vec![], plan(&service, &[], zone_of, vec![]));
    assert_eq!((sizes(&slices), slices[0].ports.len()), (vec![0], 0));
    let changes = plan(&service, &pods(0..1), zone_of, slices);
    assert_eq!((changes.create.len(), changes.update.len(), changes.delete.len()), (0, 1, 0));
    assert_eq!((changes.update[0].name(), changes.update[0].ports[0].port), ("web-00", 8080));
}

#[test]
fn slices_of_a_service_that_had_the_name_before_are_replaced() {
    let mut old = service(&json!({}));
    old.metadata.uid = "old".into();
    let slices = applied(vec![], plan(&old, &pods(0..1), zone_of, vec![]));
    let changes = plan(&service(&json!({})), &pods(0..1), zone_of, slices);
    assert_eq!((changes.create.len(), changes.update.len(), changes.delete.len()), (1, 0, 1));
}

#[test]
fn slices_of_an_address_family_that_the_service_has_no_more_go() {
    let dual = service(&json!({"ipFamilies": ["IPv4", "IPv6"]}));
    let slices = applied(vec![], plan(&dual, &pods(0..1), zone_of, vec![]));
    assert_eq!(slices.iter().map(|slice| &*slice.address_type).collect::<Vec<_>>(), ["IPv4", "IPv6"]);
    let changes = plan(&service(&json!({})), &pods(0..1), zone_of, slices);
    assert_eq!((changes.create.len(), changes.update.len()), (0, 0));
    assert_eq!(changes.delete.iter().map(|slice| &*slice.address_type).collect::<Vec<_>>(), ["IPv6"]);
}

#[test]
fn a_service_that_is_being_deleted_gets_no_new_slices() {
    let mut service = service(&json!({}));
    service.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(plan(&service, &pods(0..1), zone_of, vec![]), Changes::default());
}

#[test]
fn labels_follow_the_service_but_for_the_reserved_ones() {
    let mut service = service(&json!({}));
    let slices = applied(vec![], plan(&service, &pods(0..1), zone_of, vec![]));
    service.metadata.labels.insert("team".into(), "y".into());
    service.metadata.labels.insert("kubernetes.io/service-name".into(), "other".into());
    let changes = plan(&service, &pods(0..1), zone_of, slices);
    let labels = changes.update[0].strings("labels");
    assert_eq!((&labels["team"], &labels["kubernetes.io/service-name"]), (&json!("y"), &json!("web")));
}

#[test]
fn traffic_is_hinted_to_stay_close_where_the_service_says_so() {
    let check = |distribution: &str, expected: Value| {
        let service = service(&json!({"trafficDistribution": distribution}));
        let changes = plan(&service, &decode(&[pod(1, true), pod(2, false)]), zone_of, vec![]);
        let hints: Vec<_> =
            changes.create[0].endpoints.iter().map(|endpoint| endpoint.hints.clone()).collect();
        assert_eq!(hints, [serde_json::from_value(expected).unwrap(), None], "{distribution}");
    };
    check("", json!(null));
    check("PreferClose", json!({"forZones": [{"name": "west"}]}));
    check("PreferSameNode", json!({"forZones": [{"name": "west"}], "forNodes": [{"name": "n"}]}));
}

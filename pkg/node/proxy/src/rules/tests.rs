//! One Service and its slices in, what each frontend leads to out.

#![allow(clippy::needless_pass_by_value, reason = "objects are written where they are passed")]

use serde_json::{Value, json};

use super::*;

/// The frontends of a Service with these members in its spec, one line each, as node `here` sees them.
fn check(spec: Value, slices: &[Value], expected: &[&str]) {
    let mut service = json!({"spec": {"clusterIP": "10.43.0.7", "ports": [{"port": 80}]}});
    for (name, value) in spec.as_object().unwrap() {
        service["spec"][name] = value.clone();
    }
    check_service(service, slices, expected);
}

fn check_service(service: Value, slices: &[Value], expected: &[&str]) {
    let service: Service = serde_json::from_value(service).unwrap();
    let slices: Vec<Slice> = slices.iter().map(|s| serde_json::from_value(s.clone()).unwrap()).collect();
    let shown: Vec<String> = frontends(&service, &slices, Place { node: "here", zone: "z" })
        .iter()
        .map(|(f, backend)| show(*f, backend))
        .collect();
    assert_eq!(shown, expected);
}

fn show(frontend: Frontend, backend: &Backend) -> String {
    let list = |list: &[SocketAddrV4]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let Frontend { address, protocol, port } = frontend;
    let mut text = format!("{address} {protocol:?} {port} -> {}", list(&backend.endpoints));
    if let Some(inside) = &backend.inside {
        text += &format!(" inside {}", list(inside));
    }
    if backend.endpoints.is_empty() {
        text += if backend.elsewhere { " drop" } else { " refuse" };
    }
    if backend.masquerade != Masquerade::Outsiders {
        text += &format!(" masquerade {:?}", backend.masquerade);
    }
    if let Some(seconds) = backend.affinity {
        text += &format!(" affinity {seconds}");
    }
    for range in &backend.sources {
        text += &format!(" from {range}");
    }
    text.replace("->  ", "-> ")
}

/// A slice with port 8080 for the unnamed port.
fn slice(endpoints: Value) -> Value {
    json!({"addressType": "IPv4", "endpoints": endpoints, "ports": [{"port": 8080}]})
}

fn ready(address: &str, node: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": node})
}

fn ending(address: &str, node: &str, serving: bool) -> Value {
    let conditions = json!({"ready": false, "serving": serving, "terminating": true});
    json!({"addresses": [address], "conditions": conditions, "nodeName": node})
}

#[test]
fn a_service_leads_to_the_ready_endpoints_of_all_its_slices() {
    let unready = json!({"addresses": ["10.42.0.9"], "conditions": {"ready": false}});
    let slices = [
        slice(json!([ready("10.42.0.2", "here"), unready])),
        slice(json!([ready("10.42.1.2", "there"), {"addresses": ["10.42.1.3"]}])),
        json!({"addressType": "IPv6", "endpoints": [{"addresses": ["fd00::1"]}], "ports": [{"port": 1}]}),
    ];
    check(json!({}), &slices, &["10.43.0.7 Tcp 80 -> 10.42.0.2:8080 10.42.1.2:8080 10.42.1.3:8080"]);
}

#[test]
fn ports_find_their_endpoints_by_name_and_protocol() {
    let ports = json!([
        {"name": "web", "port": 80},
        {"name": "dns", "protocol": "UDP", "port": 53},
        {"name": "none", "protocol": "SCTP", "port": 9},
    ]);
    let slices = [
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.2"]}],
            "ports": [{"name": "web", "port": 8080}, {"name": "dns", "protocol": "UDP", "port": 5353}]}),
        // Another pod calls another of its ports by the same name.
        json!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.3"]}],
            "ports": [{"name": "web", "port": 81}, {"name": "dns", "protocol": "TCP", "port": 5353}]}),
    ];
    let expected = [
        "10.43.0.7 Tcp 80 -> 10.42.0.2:8080 10.42.0.3:81",
        "10.43.0.7 Udp 53 -> 10.42.0.2:5353",
        "10.43.0.7 Sctp 9 -> refuse",
    ];
    check(json!({"ports": ports}), &slices, &expected);
}

#[test]
fn endpoints_that_end_serve_only_when_no_other_does() {
    let ending_ones = [ending("10.42.0.3", "here", true), ending("10.42.0.4", "here", false)];
    let slices = [slice(json!([ready("10.42.0.2", "here"), ending_ones[0]]))];
    check(json!({}), &slices, &["10.43.0.7 Tcp 80 -> 10.42.0.2:8080"]);
    check(json!({}), &[slice(json!(ending_ones))], &["10.43.0.7 Tcp 80 -> 10.42.0.3:8080"]);
    check(json!({}), &[slice(json!([ending_ones[1]]))], &["10.43.0.7 Tcp 80 -> refuse"]);
}

#[test]
fn an_endpoint_in_two_slices_is_ready_if_one_says_so() {
    let old = json!({"addresses": ["10.42.0.2"], "conditions": {"ready": false}});
    let slices = [slice(json!([old])), slice(json!([ready("10.42.0.2", "here")]))];
    check(json!({}), &slices, &["10.43.0.7 Tcp 80 -> 10.42.0.2:8080"]);
}

#[test]
fn addresses_from_outside_and_node_ports_masquerade() {
    let spec = json!({
        "type": "LoadBalancer",
        "clusterIP": "10.43.0.7",
        "externalIPs": ["192.0.2.1", "2001:db8::1"],
        "ports": [{"port": 80, "nodePort": 30080}],
        "loadBalancerSourceRanges": ["198.51.100.0/24", " 2001:db8::/32", "203.0.113.7/32 "],
    });
    let ingress = json!([{"ip": "192.0.2.2"}, {"ip": "192.0.2.3", "ipMode": "Proxy"}, {"hostname": "lb"}]);
    let service = json!({"spec": spec, "status": {"loadBalancer": {"ingress": ingress}}});
    let expected = [
        "0.0.0.0 Tcp 30080 -> 10.42.0.2:8080 masquerade Everyone",
        "10.43.0.7 Tcp 80 -> 10.42.0.2:8080",
        "192.0.2.1 Tcp 80 -> 10.42.0.2:8080 masquerade Everyone",
        "192.0.2.2 Tcp 80 -> 10.42.0.2:8080 masquerade Everyone from 198.51.100.0/24 from 203.0.113.7/32",
    ];
    check_service(service, &[slice(json!([ready("10.42.0.2", "here")]))], &expected);
}

#[test]
fn local_policies_keep_to_this_node() {
    let ports = json!([{"port": 80, "nodePort": 30080}]);
    let spec = |policy: &str| json!({"type": "NodePort", policy: "Local", "ports": ports});
    let both = [slice(json!([ready("10.42.0.2", "here"), ready("10.42.1.2", "there")]))];
    let there = [slice(json!([ready("10.42.1.2", "there")]))];
    let expected = [
        "0.0.0.0 Tcp 30080 -> 10.42.0.2:8080 10.42.1.2:8080 masquerade Everyone",
        "10.43.0.7 Tcp 80 -> 10.42.0.2:8080",
    ];
    check(spec("internalTrafficPolicy"), &both, &expected);
    let expected = ["0.0.0.0 Tcp 30080 -> 10.42.1.2:8080 masquerade Everyone", "10.43.0.7 Tcp 80 -> drop"];
    check(spec("internalTrafficPolicy"), &there, &expected);
    let expected = [
        "0.0.0.0 Tcp 30080 -> 10.42.0.2:8080 inside 10.42.0.2:8080 10.42.1.2:8080 masquerade Node",
        "10.43.0.7 Tcp 80 -> 10.42.0.2:8080 10.42.1.2:8080",
    ];
    check(spec("externalTrafficPolicy"), &both, &expected);
    let expected = [
        "0.0.0.0 Tcp 30080 -> inside 10.42.1.2:8080 drop masquerade Node",
        "10.43.0.7 Tcp 80 -> 10.42.1.2:8080",
    ];
    check(spec("externalTrafficPolicy"), &there, &expected);
}

#[test]
fn the_nearest_endpoints_are_chosen_when_all_say_whom_they_are_for() {
    let hinted = |address: &str, hints: Value| {
        let mut endpoint = ready(address, "there");
        endpoint["hints"] = hints;
        endpoint
    };
    let (for_z, for_y) = (json!({"forZones": [{"name": "z"}]}), json!({"forZones": [{"name": "y"}]}));
    let near = hinted("10.42.1.2", for_z.clone());
    let far = hinted("10.42.1.3", for_y.clone());
    check(json!({}), &[slice(json!([near, far]))], &["10.43.0.7 Tcp 80 -> 10.42.1.2:8080"]);
    let silent = ready("10.42.1.4", "there");
    let all = ["10.43.0.7 Tcp 80 -> 10.42.1.2:8080 10.42.1.4:8080"];
    check(json!({}), &[slice(json!([near, silent]))], &all);
    check(json!({}), &[slice(json!([far]))], &["10.43.0.7 Tcp 80 -> 10.42.1.3:8080"]);
    let node =
        |zones: &Value, node: &str| json!({"forZones": zones["forZones"], "forNodes": [{"name": node}]});
    let here = hinted("10.42.0.2", node(&for_z, "here"));
    let there = hinted("10.42.1.2", node(&for_z, "there"));
    check(json!({}), &[slice(json!([here, there]))], &["10.43.0.7 Tcp 80 -> 10.42.0.2:8080"]);
    check(json!({}), &[slice(json!([there]))], &["10.43.0.7 Tcp 80 -> 10.42.1.2:8080"]);
}

#[test]
fn affinity_lasts_three_hours_or_as_long_as_the_service_says() {
    let slices = [slice(json!([ready("10.42.0.2", "here")]))];
    let long = json!({"sessionAffinity": "ClientIP"});
    check(long, &slices, &["10.43.0.7 Tcp 80 -> 10.42.0.2:8080 affinity 10800"]);
    let short = json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}},
    });
    check(short, &slices, &["10.43.0.7 Tcp 80 -> 10.42.0.2:8080 affinity 10"]);
}

#[test]
fn headless_external_and_foreign_services_are_none_of_the_proxys_business() {
    let slices = [slice(json!([ready("10.42.0.2", "here")]))];
    check(json!({"clusterIP": "None", "clusterIPs": ["None"]}), &slices, &[]);
    check(json!({"clusterIP": "", "type": "ExternalName"}), &slices, &[]);
    for label in [PROXY_NAME, HEADLESS] {
        let service = json!({
            "metadata": {"labels": {label: ""}},
            "spec": {"clusterIP": "10.43.0.7", "ports": [{"port": 80}]},
        });
        check_service(service, &slices, &[]);
    }
    let mut headless = slice(json!([ready("10.42.0.2", "here")]));
    headless["metadata"] = json!({"labels": {HEADLESS: ""}});
    check(json!({}), &[headless], &["10.43.0.7 Tcp 80 -> refuse"]);
}

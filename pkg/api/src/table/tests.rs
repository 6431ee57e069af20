//! Tests of `table`.

#![expect(clippy::needless_pass_by_value, reason = "JSON literals read best as values")]

use std::time::Duration;

use serde_json::json;

use super::object::{human, human_between};
use super::*;
use crate::object::set;
use crate::resource::Catalog;
use crate::time;

const CREATED: &str = "2026-01-01T00:00:00Z";

/// The cells of an object that is five minutes old, joined by bars.
fn row(group: &str, kind: &str, mut object: Value) -> Row {
    set(&mut object, "metadata.name", "x");
    set(&mut object, "metadata.creationTimestamp", CREATED);
    let now = time::parse(CREATED).unwrap() + Duration::from_secs(300);
    let printer = Printer::of(group, kind);
    let row = printer.row(&object, now);
    assert_eq!(row.cells.len(), printer.columns().len(), "{kind}");
    row
}

fn check(group: &str, kind: &str, object: Value, expected: &str) {
    let cells = row(group, kind, object).cells;
    let cells: Vec<_> =
        cells.iter().map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned)).collect();
    assert_eq!(cells.join("|"), expected, "{kind}");
}

fn pod(spec: Value, status: Value, expected: &str) {
    let cells = row("", "Pod", json!({"spec": spec, "status": status})).cells;
    let shown = format!(
        "{} {} {}",
        cells[1].as_str().unwrap(),
        cells[2].as_str().unwrap(),
        cells[3].as_str().unwrap()
    );
    assert_eq!(shown, expected, "{status}");
}

#[test]
fn every_resource_has_a_row_for_its_columns() {
    for resource in Catalog::builtin().iter() {
        row(&resource.group, &resource.kind, json!({}));
    }
    row("autoscaling", "Scale", json!({}));
    let columns = Printer::of("rbac.authorization.k8s.io", "Role").columns();
    assert_eq!(
        columns.iter().map(|c| (c.name, c.kind)).collect::<Vec<_>>(),
        [("Name", "string"), ("Created At", "date")]
    );
    let columns = Printer::of("apps", "ReplicaSet").columns();
    assert_eq!(
        (columns[0].format, columns[1].kind, columns[5].name, columns[5].priority),
        ("name", "integer", "Containers", 1)
    );
}

#[test]
fn a_pods_status_says_what_its_containers_do() {
    let one = || json!({"containers": [{"name": "a"}]});
    let running =
        |ready: bool| json!({"name": "a", "ready": ready, "restartCount": 0, "state": {"running": {}}});
    let state = |state: Value| json!({"phase": "Running", "containerStatuses": [{"name": "a", "restartCount": 2, "state": state}]});
    pod(one(), json!({"phase": "Pending"}), "0/1 Pending 0");
    pod(one(), json!({"phase": "Running", "containerStatuses": [running(true)]}), "1/1 Running 0");
    pod(one(), json!({"phase": "Running", "containerStatuses": [running(false)]}), "0/1 Running 0");
    pod(one(), state(json!({"waiting": {"reason": "CrashLoopBackOff"}})), "0/1 CrashLoopBackOff 2");
    pod(one(), state(json!({"terminated": {"exitCode": 3}})), "0/1 ExitCode:3 2");
    pod(one(), state(json!({"terminated": {"exitCode": 137, "signal": 9}})), "0/1 Signal:9 2");
    pod(one(), state(json!({"terminated": {"exitCode": 1, "reason": "Error"}})), "0/1 Error 2");
    pod(one(), json!({"phase": "Failed", "reason": "Evicted"}), "0/1 Evicted 0");
    let gated = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]});
    pod(one(), gated, "0/1 SchedulingGated 0");
    let completed = json!({"name": "b", "restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    pod(
        one(),
        json!({"phase": "Running", "containerStatuses": [completed.clone(), running(true)], "conditions": [{"type": "Ready", "status": "True"}]}),
        "1/1 Running 0",
    );
    pod(
        one(),
        json!({"phase": "Running", "containerStatuses": [completed, running(true)]}),
        "1/1 NotReady 0",
    );
    let again = json!({"phase": "Running", "containerStatuses": [
        {"name": "a", "ready": true, "restartCount": 3, "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": CREATED}}}]});
    pod(one(), again, "1/1 Running 3 (5m ago)");
}

#[test]
fn init_containers_come_first_and_sidecars_count_as_containers() {
    let spec = || json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "a"}]});
    let status = |first: Value| json!({"phase": "Pending", "initContainerStatuses": [first]});
    pod(spec(), status(json!({"name": "i", "restartCount": 0, "state": {"running": {}}})), "0/2 Init:0/2 0");
    pod(
        spec(),
        status(json!({"name": "i", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}})),
        "0/2 Init:CrashLoopBackOff 4",
    );
    pod(
        spec(),
        status(json!({"name": "i", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}})),
        "0/2 Init:0/2 0",
    );
    pod(
        spec(),
        status(json!({"name": "i", "restartCount": 0, "state": {"terminated": {"exitCode": 2}}})),
        "0/2 Init:ExitCode:2 0",
    );
    let running = json!({"phase": "Running",
        "initContainerStatuses": [
            {"name": "i", "restartCount": 5, "state": {"terminated": {"exitCode": 0}}},
            {"name": "s", "restartCount": 1, "started": true, "ready": true, "state": {"running": {}}}],
        "containerStatuses": [{"name": "a", "ready": true, "restartCount": 1, "state": {"running": {}}}]});
    pod(spec(), running, "2/2 Running 2");
}

#[test]
fn a_pod_that_is_deleted_or_done_says_so() {
    let mut object = json!({"metadata": {"deletionTimestamp": CREATED}, "spec": {"nodeName": "n"}, "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]}});
    check("", "Pod", object.clone(), "x|0/0|Terminating|0|5m|10.0.0.1|n|<none>|<none>");
    set(&mut object, "status.reason", "NodeLost");
    check("", "Pod", object.clone(), "x|0/0|Unknown|0|5m|10.0.0.1|n|<none>|<none>");
    set(&mut object, "status", json!({"phase": "Succeeded"}));
    let row = row("", "Pod", object);
    assert_eq!(row.cells[2], "Succeeded");
    let encoded = String::from_utf8(row.encode(b"{\"kind\":\"Pod\"}")).unwrap();
    let tail = r#","conditions":[{"message":"The pod has completed successfully.","reason":"Succeeded","status":"True","type":"Completed"}],"object":{"kind":"Pod"}}"#;
    assert!(encoded.starts_with(r#"{"cells":["x","#) && encoded.ends_with(tail), "{encoded}");
    let gates = json!({"spec": {"readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]}, "status": {"conditions": [{"type": "a", "status": "True"}]}});
    check("", "Pod", gates, "x|0/0||0|5m|<none>|<none>|<none>|1/2");
}

#[test]
fn workloads_show_how_far_they_are() {
    let template = json!({"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}], "nodeSelector": {"k": "v"}}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"app": "x"}}, "template": template});
    let status = json!({"replicas": 2, "readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1});
    let object = json!({"spec": spec, "status": status});
    check("apps", "Deployment", object.clone(), "x|1/3|2|1|5m|a,b|i,j|app=x");
    check("apps", "ReplicaSet", object.clone(), "x|3|2|1|5m|a,b|i,j|app=x");
    check("apps", "StatefulSet", object.clone(), "x|1/3|5m|a,b|i,j");
    check("autoscaling", "Scale", object.clone(), "x|3|2|5m");
    check("", "ReplicationController", json!({"spec": {"selector": {"a": "b"}}}), "x|0|0|0|5m|||a=b");
    let status = json!({"desiredNumberScheduled": 2, "currentNumberScheduled": 1, "numberReady": 1});
    check("apps", "DaemonSet", json!({"spec": spec, "status": status}), "x|2|1|1|0|0|k=v|5m|a,b|i,j|app=x");
    let job = |spec: Value, status: Value, expected: &str| {
        check("batch", "Job", json!({"spec": spec, "status": status}), expected)
    };
    job(
        json!({"completions": 2}),
        json!({"succeeded": 1, "startTime": CREATED}),
        "x|Running|1/2|5m|5m|||<none>",
    );
    let done = json!({"succeeded": 1, "startTime": CREATED, "completionTime": "2026-01-01T00:00:30Z", "conditions": [{"type": "Complete", "status": "True"}]});
    job(json!({"parallelism": 3}), done, "x|Complete|1/1 of 3|30s|5m|||<none>");
    job(
        json!({}),
        json!({"conditions": [{"type": "Suspended", "status": "True"}]}),
        "x|Suspended|0/1||5m|||<none>",
    );
    let cron = json!({"spec": {"schedule": "* * * * *", "suspend": false}, "status": {"active": [{}], "lastScheduleTime": CREATED}});
    check("batch", "CronJob", cron, "x|* * * * *|<none>|False|1|5m|5m|||<none>");
    check("policy", "PodDisruptionBudget", json!({"spec": {"minAvailable": "50%"}}), "x|50%|N/A|0|5m");
    let revision = json!({"metadata": {"ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]}, "revision": 2});
    check("apps", "ControllerRevision", revision, "x|daemonset.apps/d|2|5m");
}

#[test]
fn autoscalers_show_what_is_and_what_should_be() {
    let resource = |target: Value| json!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
    let show = |metrics: Value, current: Value, expected: &str| {
        let spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5, "metrics": metrics});
        check(
            "autoscaling",
            "HorizontalPodAutoscaler",
            json!({"spec": spec, "status": {"currentReplicas": 2, "currentMetrics": current}}),
            &format!("x|Deployment/d|{expected}|1|5|2|5m"),
        );
    };
    show(json!([]), json!([]), "<none>");
    show(
        json!([resource(json!({"averageUtilization": 80}))]),
        json!([{"resource": {"current": {"averageUtilization": 20}}}]),
        "cpu: 20%/80%",
    );
    show(json!([resource(json!({"averageValue": "100m"}))]), json!([]), "cpu: <unknown>/100m");
    show(
        json!([{"type": "External", "external": {"target": {"averageValue": "1"}}}]),
        json!([]),
        "<unknown>/1 (avg)",
    );
    show(
        json!([{"type": "Pods", "pods": {"target": {"averageValue": "1"}}}]),
        json!([{"pods": {"current": {"averageValue": "2"}}}]),
        "2/1",
    );
    show(
        json!([{"type": "Object", "object": {"target": {"value": "1"}}}, {"type": "X"}, {"type": "Y"}]),
        json!([]),
        "<unknown>/1, <unknown type> + 1 more...",
    );
}

#[test]
fn networks_show_addresses_and_ports() {
    let service = |spec: Value, status: Value, expected: &str| {
        check("", "Service", json!({"spec": spec, "status": status}), expected)
    };
    service(
        json!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "ports": [{"port": 80, "protocol": "TCP"}], "selector": {"a": "b"}}),
        json!({}),
        "x|ClusterIP|10.0.0.1|<none>|80/TCP|5m|a=b",
    );
    service(
        json!({"type": "NodePort", "externalIPs": ["1.1.1.1"], "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}),
        json!({}),
        "x|NodePort|<none>|1.1.1.1|80:30080/TCP,53/UDP|5m|<none>",
    );
    service(json!({"type": "LoadBalancer"}), json!({}), "x|LoadBalancer|<none>|<pending>|<none>|5m|<none>");
    service(
        json!({"type": "LoadBalancer", "externalIPs": ["3.3.3.3"]}),
        json!({"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "1.example"}]}}),
        "x|LoadBalancer|<none>|1.example,2.2.2.2,3.3.3.3|<none>|5m|<none>",
    );
    service(
        json!({"type": "ExternalName", "externalName": "e.example"}),
        json!({}),
        "x|ExternalName|<none>|e.example|<none>|5m|<none>",
    );
    check("", "Endpoints", json!({}), "x|<none>|5m");
    let subsets =
        json!([{"addresses": [{"ip": "1.1.1.1"}, {"ip": "::1"}], "ports": [{"port": 1}, {"port": 2}]}]);
    check("", "Endpoints", json!({"subsets": subsets}), "x|1.1.1.1:1,[::1]:1,1.1.1.1:2 + 1 more...|5m");
    let slice = json!({"addressType": "IPv4", "ports": [{"port": 80}, {"name": "n"}, {}], "endpoints": [{"addresses": ["1.1.1.1"]}]});
    check("discovery.k8s.io", "EndpointSlice", slice, "x|IPv4|80,n,*|1.1.1.1|5m");
    check("discovery.k8s.io", "EndpointSlice", json!({"addressType": "IPv4"}), "x|IPv4|<unset>|<unset>|5m");
    let rules = json!([{"host": "a"}, {}, {"host": "b"}, {"host": "c"}, {}]);
    check(
        "networking.k8s.io",
        "Ingress",
        json!({"spec": {"rules": rules, "tls": [{}]}}),
        "x|<none>|a,b,c + 2 more...||80, 443|5m",
    );
    check("networking.k8s.io", "Ingress", json!({}), "x|<none>|*||80|5m");
    let class = json!({"metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}, "spec": {"controller": "c", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}});
    check("networking.k8s.io", "IngressClass", class, "x (default)|c|K.g/n|5m");
    check("networking.k8s.io", "NetworkPolicy", json!({"spec": {"podSelector": {}}}), "x|<none>|5m");
    check(
        "networking.k8s.io",
        "IPAddress",
        json!({"spec": {"parentRef": {"resource": "services", "namespace": "a", "name": "b"}}}),
        "x|services/a/b",
    );
}

#[test]
fn storage_shows_sizes_and_modes() {
    let spec = json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "a", "name": "b"}, "storageClassName": "s", "volumeMode": "Filesystem"});
    check(
        "",
        "PersistentVolume",
        json!({"spec": spec, "status": {"phase": "Bound"}}),
        "x|1Gi|RWO,RWX|Retain|Bound|a/b|s|<unset>||5m|Filesystem",
    );
    let status =
        json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOncePod"]});
    check(
        "",
        "PersistentVolumeClaim",
        json!({"spec": {"volumeName": "v"}, "status": status}),
        "x|Bound|v|1Gi|RWOP||<unset>|5m|<unset>",
    );
    check(
        "",
        "PersistentVolumeClaim",
        json!({"status": {"phase": "Pending"}}),
        "x|Pending|||||<unset>|5m|<unset>",
    );
    let class = json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"});
    check("storage.k8s.io", "StorageClass", class, "x (default)|p|Delete|Immediate|false|5m");
    check(
        "storage.k8s.io",
        "CSIDriver",
        json!({"spec": {"tokenRequests": [{"audience": "a"}]}}),
        "x|true|false|false|a|false|<none>|5m",
    );
    check(
        "resource.k8s.io",
        "ResourceClaim",
        json!({"status": {"allocation": {}, "reservedFor": [{}]}}),
        "x|allocated,reserved|5m",
    );
    check("resource.k8s.io", "ResourceClaim", json!({}), "x|pending|5m");
}

#[test]
fn the_cluster_shows_its_state() {
    let node = json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": ""}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "1.1.1.1"}],
            "nodeInfo": {"kubeletVersion": "v1.37.0", "kernelVersion": "6.18", "architecture": "amd64"}}});
    check(
        "",
        "Node",
        node,
        "x|Ready,SchedulingDisabled|control-plane,worker|5m|v1.37.0|1.1.1.1|<none>|<unknown>|6.18 (amd64)|<unknown>",
    );
    check("", "Node", json!({}), "x|Unknown|<none>|5m||<none>|<none>|<unknown>|<unknown>|<unknown>");
    let event = json!({"involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal", "reason": "R", "message": " m\n", "source": {"component": "c", "host": "h"}, "firstTimestamp": CREATED, "lastTimestamp": "2026-01-01T00:04:00Z", "count": 3});
    check("", "Event", event, "60s|Normal|R|pod/p||c, h|m|5m|3|x");
    let event = json!({"eventTime": "2026-01-01T00:00:00.000000Z", "reportingComponent": "r", "series": {"count": 2, "lastObservedTime": "2026-01-01T00:03:00.000000Z"}});
    check("events.k8s.io", "Event", event, "2m|||||r||5m|2|x");
    check("", "Secret", json!({"type": "Opaque", "data": {"a": "", "b": ""}}), "x|Opaque|2|5m");
    check("", "ConfigMap", json!({"data": {"a": ""}, "binaryData": {"b": ""}}), "x|2|5m");
    let quota =
        json!({"status": {"hard": {"limits.cpu": "2", "pods": "5", "cpu": "1"}, "used": {"pods": "1"}}});
    check("", "ResourceQuota", quota, "x|cpu: 0/1, pods: 1/5|limits.cpu: 0/2|5m");
    let binding = json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "Group", "name": "g"}, {"kind": "Group", "name": "h"}, {"kind": "ServiceAccount", "namespace": "n", "name": "s"}]});
    check("rbac.authorization.k8s.io", "RoleBinding", binding, "x|Role/r|5m|u|g, h|n/s");
    let request = json!({"spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600}, "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}});
    check("certificates.k8s.io", "CertificateSigningRequest", request, "x|5m|s|u|60m|Approved,Issued");
    check(
        "apiregistration.k8s.io",
        "APIService",
        json!({"spec": {"service": {"namespace": "a", "name": "b"}}, "status": {"conditions": [{"type": "Available", "status": "False", "reason": "R"}]}}),
        "x|a/b|False (R)|5m",
    );
}

#[test]
fn durations_have_two_or_three_figures() {
    const DAY: u64 = 86_400;
    for (seconds, expected) in [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (599, "9m59s"),
        (600, "10m"),
        (10_799, "179m"),
        (10_800, "3h"),
        (11_000, "3h3m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 3 * 3600, "2d3h"),
        (8 * DAY, "8d"),
        (729 * DAY, "729d"),
        (730 * DAY, "2y"),
        (740 * DAY, "2y10d"),
        (8 * 365 * DAY, "8y"),
    ] {
        assert_eq!(human(Duration::from_secs(seconds)), expected, "{seconds}");
    }
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
    assert_eq!(human_between(now + Duration::from_millis(1500), now), "0s");
    assert_eq!(human_between(now + Duration::from_secs(2), now), "<invalid>");
}

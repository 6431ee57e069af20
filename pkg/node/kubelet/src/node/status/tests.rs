//! Tests of `status`.

use super::*;
use crate::gc::ImageGc;

fn config() -> Config {
    Config {
        node_name: "edge-1".to_owned(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        root: "/var/lib/kubelet".into(),
        logs: "/var/log/pods".into(),
        cgroup: "/kubepods".into(),
        cluster_dns: Vec::new(),
        cluster_domain: "cluster.local".to_owned(),
        resolv_conf: "/etc/resolv.conf".into(),
        max_pods: 110,
        labels: [("disk".to_owned(), "ssd".to_owned())].into(),
        taints: Vec::new(),
        port: 10250,
        thresholds: Thresholds::default(),
        image_gc: ImageGc::default(),
        version: "v1.37.0+edgek1".to_owned(),
    }
}

fn facts() -> Facts {
    Facts {
        cpus: 4,
        memory: 1 << 30,
        disk: 100 << 30,
        hugepages: [("2Mi".to_owned(), 0), ("1Gi".to_owned(), 0)].into(),
        boot_id: "b".to_owned(),
        architecture: "arm64",
        ..Facts::default()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn resources_are_what_the_machine_has_without_what_is_kept_free() {
    let status = status(&config(), &facts(), &Observed::default(), &Value::Null, at(0));
    let expected = json!({"cpu": "4", "memory": "1048576Ki", "ephemeral-storage": "104857600Ki", "pods": "110",
        "hugepages-1Gi": "0", "hugepages-2Mi": "0"});
    assert_eq!(status["capacity"], expected);
    let expected = json!({"cpu": "4", "memory": "946176Ki", "ephemeral-storage": "102005473280", "pods": "110",
        "hugepages-1Gi": "0", "hugepages-2Mi": "0"});
    assert_eq!(status["allocatable"], expected);
    let addresses =
        json!([{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "edge-1"}]);
    assert_eq!(status["addresses"], addresses);
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let check = |observed: &Observed, old: &Value, second: i64, expected: &str| {
        let status = status(&config(), &facts(), observed, old, at(second));
        let conditions = status["conditions"].as_array().unwrap().iter();
        let ready = conditions.clone().find(|c| c["type"] == "Ready").unwrap();
        let since = ready["lastTransitionTime"].as_str().unwrap();
        let text = format!("{} {} {} {since}", ready["status"], ready["reason"], ready["message"]);
        assert_eq!(text.replace('"', ""), expected);
        status
    };
    let well = Observed::default();
    let first = check(
        &well,
        &Value::Null,
        1,
        "True KubeletReady kubelet is posting ready status 1970-01-01T00:00:01Z",
    );
    let later =
        check(&well, &first, 9, "True KubeletReady kubelet is posting ready status 1970-01-01T00:00:01Z");
    assert!(!differs(&later, &first));
    let down = Observed { problems: vec!["container runtime is down".to_owned()], ..Observed::default() };
    let ill =
        check(&down, &later, 10, "False KubeletNotReady container runtime is down 1970-01-01T00:00:10Z");
    assert!(differs(&ill, &later));
}

#[test]
fn the_largest_images_come_first() {
    let image = |id: &str, size| Image {
        id: id.to_owned(),
        tags: vec![format!("{id}:1")],
        digests: vec![format!("{id}@sha256:0")],
        size,
        user: String::new(),
        pinned: false,
    };
    let expected = json!([{"names": ["b@sha256:0", "b:1"], "sizeBytes": 2}, {"names": ["a@sha256:0", "a:1"], "sizeBytes": 1}]);
    assert_eq!(images(&[image("a", 1), image("b", 2)]), expected);
}

#[test]
fn the_node_labels_itself() {
    let node = registration(&config(), &facts(), &json!({}));
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/hostname"], "edge-1");
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/arch"], "arm64");
    assert_eq!(node["metadata"]["labels"]["disk"], "ssd");
}

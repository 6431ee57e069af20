//! Services and the pod network, on one node and across two.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use edgek_tests::{AGNHOST, Host, Namespace, now};

/// A pod that tells its name and who asks, by HTTP on port 8080 and UDP on 8081, and that asks others when told to.
fn serve(namespace: &Namespace, name: &str, node: &str) {
    let probe = "readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}";
    let args = "[netexec, --http-port=8080, --udp-port=8081]";
    let container = format!("{{name: c, image: '{AGNHOST}', args: {args}, {probe}}}");
    namespace.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web}}}}\nspec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, containers: [{container}]}}\n"
    ));
    namespace.wait(&format!("pod/{name}"), "condition=Ready");
}

/// The Service `web` for these pods, with more in its spec; its address and its HTTP node port.
fn expose(namespace: &Namespace, more: &str) -> (String, String) {
    namespace.apply(&format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{type: NodePort, selector: {{app: web}}, {more} ports: [{{name: http, port: 80, targetPort: 8080}}, {{name: udp, protocol: UDP, port: 90, targetPort: 8081}}]}}\n"
    ));
    (
        namespace.field("service/web", ".spec.clusterIP"),
        namespace.field("service/web", ".spec.ports[0].nodePort"),
    )
}

fn node_address(server: &Host, node: &str) -> String {
    let internal = "jsonpath={.status.addresses[?(@.type=='InternalIP')].address}";
    server.kubectl(&["get", "node", node, "-o", internal])
}

fn address(namespace: &Namespace, pod: &str) -> String {
    namespace.field(&format!("pod/{pod}"), ".status.podIP")
}

/// curl's exit code when a connection is refused.
const REFUSED: i32 = 7;

/// What a machine gets from a URL; the error is curl's exit code.
fn get(machine: &Host, url: &str) -> Result<String, i32> {
    let asked = machine.command("curl").args(["-sS", "--max-time", "5", url]).output().expect("curl");
    match asked.status.code() {
        Some(0) => Ok(String::from_utf8_lossy(&asked.stdout).into_owned()),
        code => Err(code.unwrap_or(-1)),
    }
}

/// What the pod at `from` hears when it asks `to`, an address and port, by `protocol`.
fn dial(machine: &Host, from: &str, to: &str, protocol: &str, request: &str) -> String {
    let (host, port) = to.split_once(':').expect("an address and port");
    let url = format!(
        "http://{from}:8080/dial?host={host}&port={port}&protocol={protocol}&request={request}&tries=1"
    );
    let answer = get(machine, &url).unwrap_or_else(|code| format!("curl {code}"));
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap_or_default();
    answer["responses"][0].as_str().map_or_else(|| answer.to_string(), str::to_owned)
}

/// Waits until the Service leads from the machine to exactly these pods.
fn await_endpoints(machine: &Host, service: &str, pods: &[&str]) {
    let url = format!("http://{service}/hostname");
    let all: BTreeSet<_> = pods.iter().map(|pod| Ok((*pod).to_owned())).collect();
    machine.eventually_sees(&format!("{service} leads to"), &all, || {
        (0..16 * pods.len()).map(|_| get(machine, &url)).collect::<BTreeSet<_>>()
    });
}

#[test]
fn pods_and_services_reach_each_other_across_two_nodes() {
    let server = Arc::new(Host::started());
    let worker = server.join("worker");
    let namespace = Namespace::on(server.clone());
    serve(&namespace, "near", "node");
    serve(&namespace, "far", "worker");
    let (near, far) = (address(&namespace, "near"), address(&namespace, "far"));
    assert!(near.starts_with("10.42.0.") && far.starts_with("10.42.1."), "{near} {far}");
    for (machine, from, to, name) in [(&*server, &near, &far, "far"), (&worker, &far, &near, "near")] {
        let to_pod = |port: u16| format!("{to}:{port}");
        assert_eq!(dial(machine, from, &to_pod(8080), "http", "hostname"), name);
        assert_eq!(dial(machine, from, &to_pod(8081), "udp", "hostname"), name);
        let seen = dial(machine, from, &to_pod(8080), "http", "clientip");
        assert_eq!(seen.split(':').next(), Some(from.as_str()), "a pod is seen as itself");
        assert_eq!(get(machine, &format!("http://{to}:8080/hostname")).as_deref(), Ok(name));
    }

    let (service, port) = expose(&namespace, "");
    for machine in [&*server, &worker] {
        await_endpoints(machine, &format!("{service}:80"), &["far", "near"]);
        for node in [node_address(&server, "node"), node_address(&server, "worker")] {
            await_endpoints(machine, &format!("{node}:{port}"), &["far", "near"]);
        }
    }
    namespace.kubectl(&["delete", "pod", "near"]);
    for (machine, from) in [(&*server, &far), (&worker, &far)] {
        await_endpoints(machine, &format!("{service}:80"), &["far"]);
        assert_eq!(
            dial(machine, from, &format!("{service}:80"), "http", "hostname"),
            "far",
            "a pod reaches itself"
        );
        assert_eq!(dial(machine, from, &format!("{service}:90"), "udp", "hostname"), "far");
    }

    // What a node passes on to another one comes from its address in the pod network, and so do the answers.
    let passed_on = format!("http://{}:{port}/clientip", node_address(&server, "node"));
    let seen = get(&server, &passed_on).expect("an answer");
    assert_eq!(seen.split(':').next(), Some("10.42.0.1"));

    // A node that leaves takes its route with it.
    drop(worker);
    server.kubectl(&["delete", "node", "worker"]);
    server.eventually("the route is gone", || {
        let routes = server.command("ip").args(["route", "show", "10.42.1.0/24"]).output().expect("ip");
        routes.stdout.is_empty()
    });
}

#[test]
fn clients_keep_their_endpoint_with_session_affinity() {
    let namespace = Namespace::new();
    for name in ["a", "b", "c"] {
        serve(&namespace, name, "node");
    }
    let (service, _) = expose(&namespace, "");
    await_endpoints(&namespace.host, &format!("{service}:80"), &["a", "b", "c"]);
    expose(&namespace, "sessionAffinity: ClientIP,");
    let url = format!("http://{service}/hostname");
    let is_sticky = || {
        let answers: BTreeSet<_> = (0..32).map(|_| get(&namespace.host, &url)).collect();
        answers.len() == 1 && answers.iter().all(Result::is_ok)
    };
    namespace.host.eventually("all answers come from one pod", is_sticky);
    expose(&namespace, "sessionAffinity: None,");
    await_endpoints(&namespace.host, &format!("{service}:80"), &["a", "b", "c"]);
}

#[test]
fn a_service_without_endpoints_refuses_at_once() {
    let namespace = Namespace::new();
    let (service, port) = expose(&namespace, "");
    for to in [format!("{service}:80"), format!("{service}:81"), format!("192.0.2.10:{port}")] {
        let begun = now();
        let url = format!("http://{to}/");
        namespace.host.eventually_sees(&url, &Err(REFUSED), || get(&namespace.host, &url));
        assert!(begun.elapsed() < Duration::from_secs(2), "{to} took {:?}", begun.elapsed());
    }
}

#[test]
fn services_work_while_edgek_is_killed_and_change_when_it_is_back() {
    let host = Arc::new(Host::started());
    let namespace = Namespace::on(host.clone());
    serve(&namespace, "a", "node");
    let (service, port) = expose(&namespace, "");
    await_endpoints(&host, &format!("{service}:80"), &["a"]);
    let name = namespace.name().to_owned();
    drop(namespace);
    let mut host = Arc::into_inner(host).expect("the only user of the host");
    host.kill_server();
    for to in [format!("{service}:80"), format!("192.0.2.10:{port}")] {
        assert_eq!(get(&host, &format!("http://{to}/hostname")).as_deref(), Ok("a"), "{to}");
    }
    // Not one request is lost while the next start takes over.
    let before = table(&host);
    host.launch(&[]);
    let url = format!("http://{service}/hostname");
    host.eventually("the next start has taken over", || {
        assert_eq!(get(&host, &url).as_deref(), Ok("a"));
        table(&host) != before
    });
    assert_eq!(get(&host, &url).as_deref(), Ok("a"));
    host.kubectl(&["delete", "service", "web", "--namespace", &name]);
    host.eventually_sees("the Service is gone", &Err(REFUSED), || get(&host, &url));
}

/// The number by which the kernel knows the proxy's table: a table that takes its place has another.
fn table(host: &Host) -> String {
    let list = host.command("nft").args(["-a", "list", "table", "ip", "edgek-services"]).output();
    let text = String::from_utf8_lossy(&list.expect("nft").stdout).into_owned();
    text.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn a_worker_that_starts_without_its_server_serves_what_it_served_before() {
    let server = Arc::new(Host::started());
    let mut worker = server.join("worker");
    let namespace = Namespace::on(server.clone());
    serve(&namespace, "a", "worker");
    let (service, _) = expose(&namespace, "");
    await_endpoints(&worker, &format!("{service}:80"), &["a"]);
    drop(namespace);
    Arc::into_inner(server).expect("the only user of the server").kill_server();
    worker.kill_server();
    worker.launch(&[]);
    // Names are served after the proxy has begun.
    let asks =
        || worker.command("dig").args(["@10.43.0.10", "+time=1", "+tries=1", "cluster.local"]).output();
    worker.eventually("the worker has started", || {
        String::from_utf8_lossy(&asks().expect("dig").stdout).contains("SERVFAIL")
    });
    for _ in 0..16 {
        assert_eq!(get(&worker, &format!("http://{service}/hostname")).as_deref(), Ok("a"));
    }
}

#[test]
fn the_rules_come_back_when_another_program_removes_them() {
    let host = Arc::new(Host::started());
    let namespace = Namespace::on(host.clone());
    serve(&namespace, "a", "node");
    let (service, _) = expose(&namespace, "");
    await_endpoints(&host, &format!("{service}:80"), &["a"]);
    let tables = || host.command("nft").args(["list", "tables"]).output().expect("nft").stdout;
    let before = tables();
    assert!(host.command("nft").args(["flush", "ruleset"]).status().expect("nft").success());
    await_endpoints(&host, &format!("{service}:80"), &["a"]);
    host.eventually("all tables are back", || tables().len() == before.len());
}

#[test]
fn a_node_gets_no_pods_without_addresses_for_them() {
    let mut server = Host::new();
    server.start_with(&["--cluster-cidr=10.42.0.0/24"]);
    let mut worker = server.worker("worker");
    worker.launch(&[]);
    server.eventually("the node tells what is missing", || {
        let ready = r"jsonpath={.status.conditions[?(@.type=='Ready')].message}";
        let message = server.try_kubectl(&["get", "node", "worker", "-o", ready]).unwrap_or_default();
        message == "container runtime network not ready: the node has no spec.podCIDR yet"
    });
    server.eventually("an event", || {
        server.kubectl(&["get", "events", "-A"]).contains("Node worker status is now: CIDRNotAvailable")
    });
}

//! The cluster's names, from pods and from the machine.

use std::sync::Arc;

use edgek_tests::{AGNHOST, Host, Namespace};

const DNS: &str = "10.43.0.10";

/// What the cluster's DNS says of a name, one record a line, in order.
fn dig(machine: &Host, arguments: &[&str]) -> Vec<String> {
    let server = format!("@{DNS}");
    let fixed = [server.as_str(), "+short", "+time=2", "+tries=1"];
    let output = machine.command("dig").args(fixed).args(arguments).output().expect("dig");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// `NOERROR`, `NXDOMAIN`, `SERVFAIL`; empty when nobody answers.
fn status(machine: &Host, arguments: &[&str]) -> String {
    let server = format!("@{DNS}");
    let fixed = [server.as_str(), "+time=2", "+tries=1"];
    let output = machine.command("dig").args(fixed).args(arguments).output().expect("dig");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after = text.split_once("status: ").map(|(_, rest)| rest);
    after.and_then(|rest| rest.split(',').next()).unwrap_or_default().to_owned()
}

/// A pod that tells its name by HTTP and asks others when told to.
fn serve(namespace: &Namespace, name: &str, node: &str, more: &str) {
    let probe = "readinessProbe: {httpGet: {port: 8080}, periodSeconds: 1}";
    let container = format!("{{name: c, image: '{AGNHOST}', args: [netexec, --http-port=8080], {probe}}}");
    namespace.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web}}}}\nspec: {{nodeName: {node}, {more} terminationGracePeriodSeconds: 0, containers: [{container}]}}\n"
    ));
    namespace.wait(&format!("pod/{name}"), "condition=Ready");
}

fn service(namespace: &Namespace, name: &str, spec: &str) {
    namespace.apply(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n"));
}

/// What a pod hears when it asks a name for its host name.
fn ask(machine: &Host, pod: &str, name: &str) -> String {
    let url = format!("http://{pod}:8080/dial?host={name}&port=80&protocol=http&request=hostname&tries=1");
    let output = machine.command("curl").args(["-sS", "--max-time", "5", &url]).output().expect("curl");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

const WEB: &str = "{selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}";

#[test]
fn names_lead_to_services_on_every_node_and_stay_known_without_the_server() {
    let server = Arc::new(Host::started());
    let mut worker = server.join("worker");
    let namespace = Namespace::on(server.clone());
    serve(&namespace, "near", "node", "");
    serve(&namespace, "far", "worker", "");
    service(&namespace, "web", WEB);
    let name = format!("web.{}.svc.cluster.local", namespace.name());
    let address = namespace.field("service/web", ".spec.clusterIP");
    for (machine, pod) in [(&*server, "near"), (&worker, "far")] {
        machine.eventually_sees("the name is known", &[address.as_str()], || dig(machine, &[&name]));
        assert_eq!(dig(machine, &[&name, "+tcp"]), [address.as_str()]);
        assert_eq!(dig(machine, &["kubernetes.default.svc.cluster.local"]), ["10.43.0.1"]);
        assert_eq!(dig(machine, &["-x", &address]), [format!("{name}.")]);
        let pod = namespace.field(&format!("pod/{pod}"), ".status.podIP");
        for name in ["web", &format!("web.{}", namespace.name()), &name] {
            let answer = ask(machine, &pod, name);
            assert!(answer.contains("near") || answer.contains("far"), "{name}: {answer}");
        }
    }
    namespace.kubectl(&["delete", "service", "web"]);
    for machine in [&*server, &worker] {
        machine.eventually_sees("the name is gone", &"NXDOMAIN", || status(machine, &[&name]));
    }
    // The worker's names do not need the server.
    service(&namespace, "web", WEB);
    let address = namespace.field("service/web", ".spec.clusterIP");
    worker.eventually_sees("the name is back", &[address.as_str()], || dig(&worker, &[&name]));
    drop(namespace);
    Arc::into_inner(server).expect("the only user of the server").kill_server();
    for resource in ["services", "endpointslices", "namespaces"] {
        let lost = format!("watching failed; it will be tried again resource={resource}");
        worker.eventually(&lost, || worker.logged().contains(&lost));
    }
    assert_eq!(dig(&worker, &[&name]), [address], "the worker forgot the name");
    worker.kill_server();
    assert_eq!(status(&worker, &[&name]), "", "somebody else answers");
}

#[test]
fn headless_services_external_names_and_pods_have_names() {
    let namespace = Namespace::new();
    let machine = &*namespace.host;
    service(&namespace, "db", "{clusterIP: None, selector: {app: web}, ports: [{name: sql, port: 5432}]}");
    serve(&namespace, "one", "node", "hostname: db-0, subdomain: db,");
    let own = namespace.name();
    let address = namespace.field("pod/one", ".status.podIP");
    let name = format!("db.{own}.svc.cluster.local");
    let own_name = format!("db-0.{name}");
    machine.eventually_sees("the pod has a name", &[address.as_str()], || dig(machine, &[&own_name]));
    assert_eq!(dig(machine, &[&name]), [address.as_str()]);
    let ports = dig(machine, &["SRV", &format!("_sql._tcp.{name}")]);
    assert_eq!(ports, [format!("0 100 5432 db-0.{name}.")]);
    assert_eq!(dig(machine, &["-x", &address]), [format!("db-0.{name}.")]);
    let dashed = address.replace('.', "-");
    assert_eq!(dig(machine, &[&format!("{dashed}.{own}.pod.cluster.local")]), [address.as_str()]);
    let hosts = namespace.exec("one", &["cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{address}\t{own_name}\tdb-0\n")), "{hosts}");

    service(&namespace, "out", "{type: ExternalName, externalName: example.com}");
    let external = format!("out.{own}.svc.cluster.local");
    machine.eventually_sees("the alias is known", &["example.com."], || dig(machine, &["CNAME", &external]));
    service(&namespace, "inner", &format!("{{type: ExternalName, externalName: {name}}}"));
    let inner = format!("inner.{own}.svc.cluster.local");
    let followed = [address.clone(), format!("{name}.")];
    machine.eventually_sees("the alias is followed", &followed, || dig(machine, &[&inner]));

    assert_eq!(status(machine, &[&format!("nope.{own}.svc.cluster.local")]), "NXDOMAIN");
    assert_eq!(status(machine, &["AAAA", &name]), "NOERROR");
    // The machine's default route leads nowhere, which is known after the first question.
    assert_eq!(status(machine, &["example.com", "+time=6"]), "SERVFAIL");
    assert_eq!(status(machine, &["example.org", "+time=1"]), "SERVFAIL");
}

#[test]
fn names_can_be_left_to_others() {
    let mut host = Host::new();
    host.start_with(&["--disable=dns"]);
    let worker = host.join("worker");
    for machine in [&host, &worker] {
        assert_eq!(status(machine, &["kubernetes.default.svc.cluster.local"]), "");
    }
    let none = host.kubectl(&["get", "services", "-n", "kube-system", "-o", "name"]);
    assert_eq!(none, "");
    drop(worker);
    host.kubectl(&["delete", "node", "worker"]);
    host.stop_server();
    host.start();
    assert_eq!(dig(&host, &["kubernetes.default.svc.cluster.local"]), ["10.43.0.1"]);
    let service = host.kubectl(&[
        "get",
        "service",
        "-n",
        "kube-system",
        "kube-dns",
        "-o",
        "jsonpath={.spec.clusterIP}",
    ]);
    assert_eq!(service, DNS);
}

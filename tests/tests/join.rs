//! A second machine joins the cluster of the first, and stays in it.

use edgek_tests::{AGNHOST, Host, Namespace};
use hyper::http::Method;
use serde_json::{Value, json};

/// A server that runs.
fn server() -> Host {
    let mut host = Host::new();
    host.start();
    host
}

/// A pod on `node` that serves HTTP on port 8080.
fn web_on(namespace: &Namespace, node: &str) {
    let container = format!(
        "{{name: c, image: \"{AGNHOST}\", args: [netexec, --http-port=8080], ports: [{{containerPort: 8080}}]}}"
    );
    namespace.ready_pod("web", &format!("{{nodeName: {node}, containers: [{container}]}}"));
}

#[test]
fn what_kubectl_and_the_api_server_ask_of_a_worker_reaches_it_over_its_own_connection() {
    let host = std::sync::Arc::new(server());
    let worker = host.join("worker");
    let namespace = Namespace::on(host.clone());
    web_on(&namespace, "worker");
    // The worker lets nobody in.
    for rule in ["add table inet shut", "add chain inet shut in { type filter hook input priority 0; }"] {
        assert!(worker.command("nft").arg(rule).status().expect("nft").success());
    }
    let shut = "add rule inet shut in iifname lan0 ct state new drop";
    assert!(worker.command("nft").arg(shut).status().expect("nft").success());
    assert!(namespace.kubectl(&["logs", "web"]).contains("Started HTTP server"));
    assert_eq!(namespace.exec("web", &["hostname"]), "web\n");
    assert_eq!(namespace.kubectl_with_input(&["exec", "-i", "web", "--", "cat"], "through"), "through");
    let proxied = format!("/api/v1/namespaces/{}/pods/web:8080/proxy/hostname", namespace.name());
    assert_eq!(host.kubectl(&["get", "--raw", &proxied]), "web");
    assert_eq!(host.kubectl(&["get", "--raw", "/api/v1/nodes/worker/proxy/healthz"]), "ok");
    let stats = host.kubectl(&["get", "--raw", "/api/v1/nodes/worker/proxy/stats/summary"]);
    assert!(stats.contains("\"nodeName\":\"worker\"") && stats.contains("web"), "{stats}");
}

#[test]
fn the_proxies_pass_on_every_method_tls_and_links() {
    let host = std::sync::Arc::new(server());
    let _worker = host.join("worker");
    let namespace = Namespace::on(host.clone());
    let serve = "[{name: SERVE_PORT_80, value: '<a href=\"/rewriteme\">test</a>'}, {name: SERVE_TLS_PORT_443, value: '<a href=\"/rewriteme\">tls</a>'}, {name: SERVE_PORT_81, value: plain}]";
    let ready = "readinessProbe: {httpGet: {port: 80}, periodSeconds: 1}";
    let container =
        format!("{{name: c, image: \"{AGNHOST}\", command: [/agnhost, porter], env: {serve}, {ready}}}");
    namespace.ready_pod("porter", &format!("{{nodeName: worker, containers: [{container}]}}"));
    let base = format!("/api/v1/namespaces/{}/pods", namespace.name());
    for (name, page) in [("porter", "test"), ("porter:80", "test"), ("https:porter:443", "tls")] {
        let proxy = format!("{base}/{name}/proxy");
        let shown = host.kubectl(&["get", "--raw", &format!("{proxy}/")]);
        assert_eq!(shown, format!("<a href=\"{proxy}/rewriteme\">{page}</a>"), "{name}");
    }
    assert_eq!(host.kubectl(&["get", "--raw", &format!("{base}/porter:81/proxy/")]), "plain");
    let echo = format!(
        "{{name: c, image: \"{AGNHOST}\", command: [/agnhost, porter, --json-response], env: [{{name: SERVE_PORT_80, value: foo}}], {ready}}}"
    );
    namespace.ready_pod("echo", &format!("{{nodeName: worker, containers: [{echo}]}}"));
    let mut connection = host.api().connect().expect("the API");
    for method in ["GET", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
        let path = format!("{base}/echo/proxy/some/path/with/{method}");
        let method = Method::from_bytes(method.as_bytes()).expect("a method");
        let (code, body) = connection.call(method.clone(), &path, &Value::Null).expect("an answer");
        assert_eq!((code.as_u16(), &body["Method"]), (200, &json!(method.as_str())), "{body}");
    }
}

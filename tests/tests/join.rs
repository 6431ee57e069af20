//! A second machine joins the cluster of the first, and stays in it.

use std::time::Duration;

use edgek_tests::{AGNHOST, BUSYBOX, Host, Namespace, PortForward, edgek, pause};
use hyper::http::Method;
use serde_json::{Value, json};

/// A pod on `node` that serves HTTP on port 8080.
fn web_on(namespace: &Namespace, node: &str) {
    let container = format!(
        "{{name: c, image: \"{AGNHOST}\", args: [netexec, --http-port=8080], ports: [{{containerPort: 8080}}], readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}}}"
    );
    namespace.ready_pod("web", &format!("{{nodeName: {node}, containers: [{container}]}}"));
}

#[test]
fn what_kubectl_and_the_api_server_ask_of_a_worker_reaches_it_over_its_own_connection() {
    let host = std::sync::Arc::new(Host::started());
    let worker = host.join("worker");
    let namespace = Namespace::on(host.clone());
    web_on(&namespace, "worker");
    // The worker lets nobody in.
    for rule in ["add table inet shut", "add chain inet shut in { type filter hook input priority 0; }"] {
        assert!(worker.command("nft").arg(rule).status().expect("nft").success());
    }
    let shut = "add rule inet shut in iifname lan0 ct state new drop";
    assert!(worker.command("nft").arg(shut).status().expect("nft").success());
    let logs = namespace.kubectl(&["logs", "web"]);
    assert!(logs.contains("Started HTTP server"), "{logs:?}");
    assert_eq!(namespace.exec("web", &["hostname"]), "web\n");
    assert_eq!(namespace.kubectl_with_input(&["exec", "-i", "web", "--", "cat"], "through"), "through");
    let proxied = format!("/api/v1/namespaces/{}/pods/web:8080/proxy", namespace.name());
    assert_eq!(host.kubectl(&["get", "--raw", &format!("{proxied}/hostname")]), "web");
    let agent = host.kubectl(&["get", "--raw", &format!("{proxied}/header?key=User-Agent")]);
    assert!(agent.starts_with("kubectl/"), "{agent}");
    assert_eq!(host.kubectl(&["get", "--raw", "/api/v1/nodes/worker/proxy/healthz"]), "ok");
    let stats = host.kubectl(&["get", "--raw", "/api/v1/nodes/worker/proxy/stats/summary"]);
    assert!(stats.contains("\"nodeName\":\"worker\"") && stats.contains("web"), "{stats}");
    let metrics = host.kubectl(&["get", "--raw", "/api/v1/nodes/worker/proxy/metrics/resource"]);
    assert!(metrics.contains("node_cpu_usage_seconds_total"), "{metrics}");
    namespace.ready_pod(
        "cat",
        &format!("{{nodeName: worker, containers: [{{name: c, image: \"{BUSYBOX}\", stdin: true, stdinOnce: true, command: [cat]}}]}}"),
    );
    assert!(namespace.kubectl_with_input(&["attach", "-i", "cat"], "attached").contains("attached"));
    let forward = PortForward::start(namespace.kubectl_command(&["port-forward", "web", ":8080"]));
    let url = format!("http://{}/hostname", forward.address);
    let forwarded = host.command("curl").args(["-sS", "--max-time", "30", &url]).output().expect("curl");
    assert_eq!(String::from_utf8_lossy(&forwarded.stdout), "web", "{forwarded:?}");
}

#[test]
fn the_proxies_pass_on_every_method_tls_and_links() {
    let host = std::sync::Arc::new(Host::started());
    let _worker = host.join("worker");
    let namespace = Namespace::on(host.clone());
    let serve = "[{name: SERVE_PORT_80, value: '<a href=\"/rewriteme\">test</a>'}, {name: SERVE_TLS_PORT_443, value: '<a href=\"/rewriteme\">tls</a>'}, {name: SERVE_PORT_81, value: 'text <a href=\"/kept\">'}]";
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
    assert_eq!(
        host.kubectl(&["get", "--raw", &format!("{base}/porter:81/proxy/")]),
        "text <a href=\"/kept\">"
    );
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

/// What the machine's first process in a pod is called by the machine.
fn pid_of(namespace: &Namespace, pod: &str) -> String {
    let id = namespace.field(pod, ".status.containerStatuses[0].containerID");
    let id = id.trim_start_matches("containerd://");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let of_container = |pid: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroup| cgroup.contains(id))
    };
    let mut pids: Vec<u32> = processes
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|pid| of_container(pid))
        .filter_map(|pid| pid.parse().ok())
        .collect();
    pids.sort_unstable();
    format!("{pids:?}")
}

/// Waits until the worker has given the server a sign of life after now.
fn await_sign_of_life(host: &Host, worker: &Host) {
    let began = jiff::Timestamp::now();
    worker.eventually("the worker renews its lease", || {
        worker.check_server();
        let path = ["get", "lease", "worker", "-n", "kube-node-lease", "-o", "jsonpath={.spec.renewTime}"];
        host.try_kubectl(&path).ok().and_then(|time| time.parse().ok()) > Some(began)
    });
}

#[test]
fn a_worker_survives_restarts_of_both_sides_a_cut_and_a_new_address() {
    let mut host = Host::started();
    let mut worker = host.join("worker");
    let shared = std::sync::Arc::new(host);
    let namespace = Namespace::on(shared.clone());
    web_on(&namespace, "worker");
    let name = namespace.name().to_owned();
    let pids = pid_of(&namespace, "pod/web");
    assert!(pids.len() > 2, "no process of the pod in {pids}");
    let still_there = |host: &Host| {
        let logs = host.kubectl(&["logs", "web", "-n", &name]);
        assert!(logs.contains("Started HTTP server"), "{logs}");
        let restarts =
            ["get", "pod", "web", "-n", &name, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"];
        assert_eq!(host.kubectl(&restarts), "0");
    };

    // The agent dies.
    worker.kill_server();
    worker.launch(&[]);
    await_sign_of_life(&shared, &worker);
    still_there(&shared);
    assert_eq!(pid_of(&namespace, "pod/web"), pids);

    // The cable is pulled until the agent has noticed, and has tried again in vain more than once.
    worker.connected(false);
    worker.eventually("the agent notices", || worker.logged().contains("connection lost"));
    pause(Duration::from_secs(10));
    worker.connected(true);
    await_sign_of_life(&shared, &worker);
    still_there(&shared);
    let log = worker.logged();
    assert_eq!(log.matches("not connected; it is tried again").count(), 1, "it says so once:\n{log}");

    // The server restarts, then with another address.
    drop(namespace);
    host = std::sync::Arc::into_inner(shared).expect("nobody else uses the host");
    host.stop_server();
    host.launch(&[]);
    await_sign_of_life(&host, &worker);
    still_there(&host);
    host.stop_server();
    worker.stop_server();
    for change in [
        "address del 192.0.2.10/24 dev lan0",
        "address add 192.0.2.9/24 dev lan0",
        "route add default via 192.0.2.1",
    ] {
        assert!(host.command("ip").args(change.split(' ')).status().expect("ip").success(), "{change}");
    }
    host.launch(&[]);
    worker.direct("https://192.0.2.9:6443", "");
    worker.launch(&[]);
    await_sign_of_life(&host, &worker);
    still_there(&host);
}

/// How a start of the agent fails: its exit code and its last line.
fn refused(worker: &Host, server: &str, token: &str, name: &str) -> (Option<i32>, String) {
    let settings = worker.settings();
    let flags = settings.iter().filter(|flag| !flag.starts_with("--write-kubeconfig")).cloned();
    let mut arguments: Vec<String> = flags.collect();
    arguments.extend([
        format!("--server={server}"),
        format!("--token={token}"),
        format!("--node-name={name}"),
    ]);
    let (code, text) = worker.failed_agent(&arguments);
    (code, text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn whoever_may_not_join_is_told_why_in_one_line() {
    let host = Host::started();
    let mut first = host.join("first");
    let worker = host.worker("second");
    let (server, token) = ("https://192.0.2.10:6443", host.token());
    let (hash, secret) = token.split_once("::").expect("a token");
    let (id, _) = secret.split_once('.').expect("a token");
    let check = |server: &str, token: &str, name: &str, code: i32, text: &str| {
        let (found, line) = refused(&worker, server, token, name);
        assert!(
            found == Some(code) && line.contains(text),
            "--server={server} --token={token} --node-name={name}\nexpected {code}: {text}\nbut {found:?} (None: it went on): {line}"
        );
    };
    let wrong = format!("{hash}::{id}.0000000000000000");
    check(
        server,
        &wrong,
        "second",
        5,
        "edgek: the server does not accept the token: it is wrong, was deleted or has expired",
    );
    check(server, "nonsense", "second", 2, "edgek: token: the token is damaged");
    check(server, "", "second", 2, "edgek: token: ");
    let other = format!("EK1{}::{secret}", "ab".repeat(32));
    check(server, &other, "second", 5, "https://192.0.2.10:6443 is not the server that the token is from");
    check(
        server,
        &token,
        "first",
        5,
        "the name \"first\" is taken by another machine: choose another --node-name, or if that machine is gone for good, `kubectl delete node first`",
    );
    check(server, &token, "node", 5, "the name \"node\" is taken by another machine");
    check(server, &token, "kubernetes", 5, "no node can have the name \"kubernetes\"");
    // The kubelet's API is TLS, but no edgek server.
    check("https://192.0.2.10:10250", &token, "second", 5, "it is not an edgek server; check --server");

    // One that has expired is no more.
    let short = host.edgek(&["token", "create", "--ttl=1s", "--description=short"]);
    host.eventually("the token has expired", || !host.edgek(&["token", "list"]).contains("short"));
    check(server, short.trim(), "second", 5, "the server does not accept the token");

    // So is a node that is given the token of another cluster.
    first.stop_server();
    let (code, line) = refused(&first, server, &other, "first");
    assert!(code == Some(5) && line.contains("is not the server that the token is from"), "{code:?} {line}");

    // Once the node is deleted, its name is free.
    host.kubectl(&["delete", "node", "first"]);
    host.join("first");
}

#[test]
fn tokens_are_made_listed_deleted_and_rotated() {
    let host = Host::started();
    let made = host.edgek(&["token", "create", "--description=for press 4"]);
    let (hash, secret) = made.trim().split_once("::").expect("a token");
    let (id, secret) = secret.split_once('.').expect("a token");
    assert!(host.token().starts_with(hash));
    let listed = host.edgek(&["token", "list"]);
    assert!(listed.contains(id) && listed.contains("for press 4") && !listed.contains(secret), "{listed}");
    host.edgek(&["token", "delete", made.trim()]);
    let listed = host.edgek(&["token", "list"]);
    assert!(!listed.contains(id), "{listed}");
    let old = host.token();
    let new = host.edgek(&["token", "rotate"]);
    assert_ne!(new.trim(), old);
    assert_eq!(new.trim(), host.token(), "the file has another one");
    let mut worker = host.worker("worker");
    worker.direct("https://192.0.2.10:6443", new.trim());
    worker.launch(&[]);
    host.await_node("worker", &worker);
    let (code, line) = refused(&host.worker("late"), "https://192.0.2.10:6443", &old, "late");
    assert!(code == Some(5) && line.contains("does not accept the token"), "{code:?} {line}");
}

/// openssl on the worker's key and the server's CA: a certificate of the node that ends in ten days.
fn short_certificate(host: &Host, worker: &Host) {
    let agent = worker.data_dir().join("agent");
    let tls = host.data_dir().join("server/tls");
    let script = format!(
        "cd {agent} && openssl req -new -key node.key -subj /O=system:nodes/CN=system:node:worker -out csr && \
         printf 'extendedKeyUsage=clientAuth\\n' >ext && openssl x509 -req -in csr -CA {tls}/client-ca.crt \
         -CAkey {tls}/client-ca.key -CAcreateserial -CAserial serial -days 10 -extfile ext -out node.crt",
        agent = agent.display(),
        tls = tls.display()
    );
    let done = std::process::Command::new("sh").args(["-c", &script]).output().expect("openssl");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Whether the worker's certificate is good for more than this many days.
fn lasts(worker: &Host, days: u32) -> bool {
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["x509", "-noout", "-checkend", &(days * 86_400).to_string(), "-in"]);
    openssl.arg(worker.data_dir().join("agent/node.crt")).output().expect("openssl").status.success()
}

#[test]
fn a_certificate_is_renewed_while_the_node_works() {
    let host = Host::started();
    let mut worker = host.join("worker");
    let shared = std::sync::Arc::new(host);
    let namespace = Namespace::on(shared.clone());
    web_on(&namespace, "worker");
    let pids = pid_of(&namespace, "pod/web");
    worker.stop_server();
    short_certificate(&shared, &worker);
    assert!(!lasts(&worker, 11));
    worker.launch(&[]);
    worker.eventually("the certificate is renewed", || lasts(&worker, 300));
    worker.eventually("requests use it", || {
        worker.logged().contains("connecting again with the new certificate")
    });
    await_sign_of_life(&shared, &worker);
    assert_eq!(namespace.exec("web", &["hostname"]), "web\n");
    assert_eq!(pid_of(&namespace, "pod/web"), pids);
}

#[test]
fn a_worker_may_do_what_its_own_pods_need_and_nothing_else() {
    let host = std::sync::Arc::new(Host::started());
    let worker = host.join("worker");
    let namespace = Namespace::on(host.clone());
    for (secret, node) in [("near", "node"), ("far", "worker")] {
        namespace.kubectl(&["create", "secret", "generic", secret]);
        let from = format!("command: [sleep, '600'], envFrom: [{{secretRef: {{name: {secret}}}}}]");
        let container = format!("{{name: c, image: \"{BUSYBOX}\", {from}}}");
        namespace.ready_pod(secret, &format!("{{nodeName: {node}, containers: [{container}]}}"));
    }
    let agent = worker.data_dir().join("agent");
    let certificate = format!("--client-certificate={}", agent.join("node.crt").display());
    let key = format!("--client-key={}", agent.join("node.key").display());
    let refused = |arguments: &[&str]| {
        let answer = host.try_kubectl(&[&[certificate.as_str(), &key], arguments].concat());
        let error = answer.expect_err(&format!("the worker may {arguments:?}"));
        assert!(error.contains("(Forbidden)"), "{arguments:?}: {error}");
    };
    let own = namespace.name();
    host.kubectl(&[&certificate, &key, "get", "node", "worker"]);
    host.kubectl(&[&certificate, &key, "get", "secret", "far", "-n", own]);
    refused(&["get", "secret", "near", "-n", own]);
    refused(&["get", "secrets", "-n", own]);
    refused(&["get", "secrets", "-A"]);
    refused(&["get", "secret", "-n", "kube-system", "worker.node-key.edgek"]);
    refused(&["label", "node", "node", "a=b"]);
    refused(&["label", "node", "worker", "node-role.kubernetes.io/control-plane=true"]);
    refused(&["taint", "node", "worker", "a=b:NoSchedule"]);
    refused(&["delete", "node", "node"]);
    refused(&["get", "pods", "-A"]);
    refused(&["get", "configmaps", "-n", "kube-system"]);
}

#[test]
fn pods_of_a_worker_may_be_made_from_more_objects_than_other_clients_may_watch() {
    let host = std::sync::Arc::new(Host::started());
    let worker = host.join("worker");
    let namespace = Namespace::on(host.clone());
    let names = (0..300).map(|number| format!("c{number}"));
    let maps = names.clone().map(|name| {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {name: "a"}})
    });
    let maps = json!({"apiVersion": "v1", "kind": "List", "items": maps.collect::<Vec<_>>()});
    namespace.kubectl_with_input(&["create", "-f", "-"], &maps.to_string());
    let sources = json!(names.map(|name| json!({"configMap": {"name": name}})).collect::<Vec<_>>());
    let mounts = "volumeMounts: [{name: v, mountPath: /v}]";
    let container = format!("{{name: c, image: \"{BUSYBOX}\", command: [sleep, '1000'], {mounts}}}");
    namespace.ready_pod(
        "pod",
        &format!("{{nodeName: worker, terminationGracePeriodSeconds: 0, containers: [{container}], volumes: [{{name: v, projected: {{sources: {sources}}}}}]}}"),
    );
    await_sign_of_life(&host, &worker);
    namespace.kubectl(&["patch", "configmap", "c299", "--patch", "data: {c299: b}"]);
    worker.eventually("the pod sees the change", || namespace.exec("pod", &["cat", "/v/c299"]) == "b");
}

#[test]
fn a_workers_kubelet_api_answers_on_its_port_to_whom_the_server_allows_it() {
    let host = Host::started();
    let worker = host.join("worker");
    let ca = host.data_dir().join("server/tls/server-ca.crt");
    let ask = |credentials: &[&str]| {
        let mut curl = worker.command("curl");
        curl.args(["-s", "--resolve", "worker:10250:127.0.0.1", "https://worker:10250/metrics/resource"]);
        let output = curl.arg("--cacert").arg(&ca).args(credentials).output().expect("curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    worker.eventually_sees("the port is open", &"Unauthorized", || ask(&[]));
    host.kubectl(&["create", "serviceaccount", "scraper"]);
    let token = format!("authorization: Bearer {}", host.kubectl(&["create", "token", "scraper"]).trim());
    let answer = ask(&["-H", &token]);
    assert!(
        answer.starts_with("Forbidden (user=system:serviceaccount:default:scraper, verb=get"),
        "{answer}"
    );
    host.kubectl(&["create", "clusterrole", "scraper", "--verb=get", "--resource=nodes/metrics"]);
    let binding = ["create", "clusterrolebinding", "scraper", "--clusterrole=scraper"];
    host.kubectl(&[&binding[..], &["--serviceaccount=default:scraper"]].concat());
    worker.eventually("the scraper may", || ask(&["-H", &token]).contains("node_memory_working_set_bytes"));
}

/// `scripts/cluster` with a folder of its own: what it printed.
fn script(folder: &std::path::Path, arguments: &[&str]) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cluster");
    let mut script = std::process::Command::new(path);
    script.env("EDGEK", edgek()).env("EDGEK_CLUSTER_DIR", folder).env("EDGEK_CLUSTER_SUBNET", "198.18.251");
    // The proxy of a company does not know these addresses.
    script.env("HTTPS_PROXY", "http://127.0.0.1:9").env("HTTP_PROXY", "http://127.0.0.1:9");
    let output = script.args(arguments).output().expect("scripts/cluster");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn the_script_makes_a_cluster_of_one_machine_and_takes_it_away_after_a_crash() {
    let folder = tempfile::Builder::new().prefix("edgek").tempdir().expect("a folder");
    let folder = folder.path();
    let began = edgek_tests::now();
    let up = script(folder, &["up", "--workers", "2"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(up.matches(" Ready ").count(), 3, "{up}");
    assert_eq!(script(folder, &["up"]).matches(" Ready ").count(), 3);
    assert!(script(folder, &["status"]).contains("export KUBECONFIG="));
    let mut pids = Vec::new();
    for node in ["server", "worker-1", "worker-2"] {
        let pid = std::fs::read_to_string(folder.join(node).join("pid")).expect("the process");
        assert!(
            std::process::Command::new("kill").args(["-9", pid.trim()]).status().expect("kill").success()
        );
        pids.push(pid);
    }
    script(folder, &["down"]);
    script(folder, &["down"]);
    let left: Vec<_> =
        std::fs::read_dir(folder).expect("the folder").flatten().map(|it| it.file_name()).collect();
    assert_eq!(left, ["config"], "after {pids:?}");
    let mounts = std::fs::read_to_string("/proc/mounts").expect("the mounts");
    assert!(!mounts.contains(&*folder.to_string_lossy()), "{mounts}");
}

//! The kubectl commands that work on objects: apply and its kin, metadata, nodes, access, documents and output formats.

use base64::Engine as _;
use edgek_tests::{AGNHOST, BUSYBOX, Namespace};
use serde_json::{Value, json};

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'web:v1', env: [{name: A, value: '1'}, {name: B, value: '2'}]}]}
";

#[test]
fn apply_changes_what_the_file_changes_and_no_more() {
    let namespace = Namespace::new();
    assert_eq!(namespace.apply(DEPLOYMENT), "deployment.apps/web created\n");
    assert_eq!(namespace.apply(DEPLOYMENT), "deployment.apps/web unchanged\n");
    // What others have set stays, what the file no longer has goes.
    namespace.kubectl(&["scale", "deployment/web", "--replicas=1"]);
    namespace.kubectl(&["label", "deployment/web", "owner=me"]);
    let changed = DEPLOYMENT
        .replace("{name: A, value: '1'}, ", "")
        .replace("  replicas: 0\n", "")
        .replace("web:v1", "web:v2");
    let diff = namespace
        .kubectl_command(&["diff", "-f", "-"])
        .stdin(std::process::Stdio::from(file_with(&namespace, &changed)))
        .output()
        .expect("kubectl diff");
    let shown = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{shown}");
    assert!(shown.contains("-        image: web:v1") && shown.contains("+        image: web:v2"), "{shown}");
    assert_eq!(namespace.apply(&changed), "deployment.apps/web configured\n");
    let field = |path: &str| namespace.field("deployment/web", path);
    assert_eq!(field(".spec.template.spec.containers[0].env[*].name"), "B");
    assert_eq!(field(".metadata.labels.owner"), "me");
    assert_eq!(namespace.kubectl_with_input(&["diff", "-f", "-"], &changed), "");
    let invalid = changed.replace("value: '2'", "valu: '2'");
    let error = apply_error(&namespace, &invalid);
    assert!(error.contains("unknown field \"spec.template.spec.containers[0].env[0].valu\""), "{error}");
    let dry =
        namespace.kubectl_with_input(&["apply", "--dry-run=server", "-f", "-"], &changed.replace("v2", "v3"));
    assert_eq!(dry, "deployment.apps/web configured (server dry run)\n");
    assert_eq!(field(".spec.template.spec.containers[0].image"), "web:v2");

    let replaced = namespace.kubectl_with_input(&["replace", "-f", "-"], DEPLOYMENT);
    assert_eq!(replaced, "deployment.apps/web replaced\n");
    assert_eq!(field(".metadata.labels"), r#"{"tier":"front"}"#);
    let exists =
        namespace.try_kubectl(&["create", "deployment", "web", "--image=web"]).expect_err("it is there");
    assert_eq!(exists, "error: failed to create deployment: deployments.apps \"web\" already exists\n");
}

fn file_with(namespace: &Namespace, text: &str) -> std::fs::File {
    let path = namespace.host.data_dir().join(format!("{}.yaml", namespace.name()));
    std::fs::write(&path, text).expect("a file");
    std::fs::File::open(&path).expect("the file")
}

fn apply_error(namespace: &Namespace, text: &str) -> String {
    let mut apply = namespace.kubectl_command(&["apply", "-f", "-"]);
    let output =
        apply.stdin(std::process::Stdio::from(file_with(namespace, text))).output().expect("kubectl");
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn edit_patch_label_and_annotate_change_an_object() {
    let namespace = Namespace::new();
    namespace.apply(DEPLOYMENT);
    let edited = namespace
        .kubectl_command(&["edit", "deployment/web"])
        .env("KUBE_EDITOR", "sed -i s/web:v1/web:v9/")
        .output()
        .expect("kubectl edit");
    assert_eq!(String::from_utf8_lossy(&edited.stdout), "deployment.apps/web edited\n");
    let field = |path: &str| namespace.field("deployment/web", path);
    assert_eq!(field(".spec.template.spec.containers[0].image"), "web:v9");

    let strategic = r#"{"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "web:v2"}]}}}}"#;
    assert_eq!(
        namespace.kubectl(&["patch", "deployment/web", "-p", strategic]),
        "deployment.apps/web patched\n"
    );
    assert_eq!(
        namespace.kubectl(&["patch", "deployment/web", "-p", strategic]),
        "deployment.apps/web patched (no change)\n"
    );
    assert_eq!(field(".spec.template.spec.containers[0].env[*].name"), "A B");
    let json = r#"[{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "web:v3"}]"#;
    namespace.kubectl(&["patch", "deployment/web", "--type=json", "-p", json]);
    namespace.kubectl(&["patch", "deployment/web", "--type=merge", "-p", r#"{"spec": {"paused": true}}"#]);
    assert_eq!(
        (field(".spec.template.spec.containers[0].image"), field(".spec.paused")),
        ("web:v3".into(), "true".into())
    );

    assert_eq!(namespace.kubectl(&["label", "deployment/web", "a=1"]), "deployment.apps/web labeled\n");
    let taken =
        namespace.try_kubectl(&["label", "deployment/web", "a=2"]).expect_err("a label that is there");
    assert!(taken.contains("'a' already has a value (1), and --overwrite is false"), "{taken}");
    assert_eq!(namespace.kubectl(&["label", "deployment/web", "a-"]), "deployment.apps/web unlabeled\n");
    assert_eq!(
        namespace.kubectl(&["annotate", "deployment/web", "note=x"]),
        "deployment.apps/web annotated\n"
    );
    assert_eq!(
        namespace.kubectl(&["get", "deployment", "-l", "tier=front,!a", "-o", "name"]),
        "deployment.apps/web\n"
    );
    let nothing =
        namespace.kubectl_command(&["get", "deployment", "-l", "tier!=front"]).output().expect("kubectl");
    assert_eq!(
        String::from_utf8_lossy(&nothing.stderr),
        format!("No resources found in {} namespace.\n", namespace.name())
    );
}

#[test]
fn a_node_is_cordoned_drained_tainted_and_taken_back() {
    let namespace = Namespace::new();
    let pod = |name: &str, more: &str| {
        namespace.pod(
            name,
            &format!(
                "{{terminationGracePeriodSeconds: 0, {more} containers: [{{name: c, image: '{AGNHOST}'}}]}}"
            ),
        );
    };
    let owned = DEPLOYMENT.replace("replicas: 0", "replicas: 1").replace("web:v1", AGNHOST);
    namespace.apply(&owned);
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(namespace.kubectl(&["cordon", "node"]), "node/node cordoned\n");
    assert!(namespace.kubectl(&["get", "nodes"]).contains("Ready,SchedulingDisabled"));
    pod("waiting", "");
    namespace.wait("pod/waiting", "condition=PodScheduled=false");
    let selector = "--pod-selector=app=web";
    let drained =
        namespace.kubectl(&["drain", "node", selector, "--force", "--grace-period=0", "--timeout=60s"]);
    assert!(drained.contains("evicting pod") && drained.ends_with("node/node drained\n"), "{drained}");
    assert_eq!(namespace.kubectl(&["uncordon", "node"]), "node/node uncordoned\n");
    namespace.wait("pod/waiting", "condition=Ready");
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);

    namespace.kubectl(&["taint", "node", "node", "only=some:NoSchedule"]);
    pod("refused", "");
    namespace.wait("pod/refused", "condition=PodScheduled=false");
    pod("tolerant", "tolerations: [{key: only, operator: Exists}],");
    namespace.wait("pod/tolerant", "condition=Ready");
    assert_eq!(namespace.kubectl(&["taint", "node", "node", "only-"]), "node/node untainted\n");
    namespace.wait("pod/refused", "condition=Ready");
    let events = namespace.kubectl(&["get", "events", "--field-selector=involvedObject.name=refused"]);
    for text in ["LAST SEEN", "FailedScheduling", "Scheduled", "untolerated taint"] {
        assert!(events.contains(text), "{text} in\n{events}");
    }
}

#[test]
fn users_learn_who_they_are_and_what_they_may() {
    let namespace = Namespace::new();
    let me = namespace.kubectl(&["auth", "whoami"]);
    assert!(me.contains("Username") && me.contains("system:masters"), "{me}");
    assert_eq!(namespace.kubectl(&["auth", "can-i", "create", "pods"]), "yes\n");
    let account = format!("--as=system:serviceaccount:{}:reader", namespace.name());
    let may = |verb: &str, what: &str| {
        namespace.try_kubectl(&["auth", "can-i", verb, what, &account, "-q"]).is_ok()
    };
    assert!(!may("get", "configmaps"));
    namespace.kubectl(&["create", "serviceaccount", "reader"]);
    namespace.kubectl(&["create", "role", "reader", "--verb=get,list", "--resource=configmaps"]);
    let subject = format!("--serviceaccount={}:reader", namespace.name());
    namespace.kubectl(&["create", "rolebinding", "reader", "--role=reader", &subject]);
    namespace.host.eventually("the role is in force", || may("get", "configmaps"));
    assert!(!may("delete", "configmaps"));
    assert!(namespace.kubectl(&["auth", "can-i", "--list", &account]).contains("configmaps"));
    let token = namespace.kubectl(&["create", "token", "reader", "--duration=10m"]);
    let with_token = |arguments: &[&str]| {
        let token = format!("--token={}", token.trim());
        let server = "--server=https://127.0.0.1:6443";
        // An empty kubeconfig: nothing but the token says who asks.
        let mut command =
            namespace.kubectl_command(&[&[&token, server, "--insecure-skip-tls-verify"], arguments].concat());
        let output = command.env("KUBECONFIG", "/dev/null").output().expect("kubectl");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    assert!(with_token(&["get", "configmaps"]).contains("kube-root-ca.crt"));
    let refused = with_token(&["get", "secrets"]);
    let expected = format!(
        "User \"system:serviceaccount:{}:reader\" cannot list resource \"secrets\"",
        namespace.name()
    );
    assert!(refused.contains("(Forbidden)") && refused.contains(&expected), "{refused}");

    let key = namespace.host.data_dir().join("user.key");
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=jane",
            "-keyout",
        ])
        .arg(&key)
        .output()
        .expect("openssl");
    let encoded = base64::engine::general_purpose::STANDARD.encode(made.stdout);
    let name = format!("jane-{}", namespace.name());
    let signer = "kubernetes.io/kube-apiserver-client";
    namespace.apply(&format!("{{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {{name: {name}}}, spec: {{request: {encoded}, signerName: {signer}, usages: [client auth]}}}}"));
    let approved = namespace.kubectl(&["certificate", "approve", &name]);
    assert_eq!(approved, format!("certificatesigningrequest.certificates.k8s.io/{name} approved\n"));
    namespace.kubectl(&["wait", "csr", &name, "--for=jsonpath={.status.certificate}", "--timeout=60s"]);
    let certificate = namespace.field(&format!("csr/{name}"), ".status.certificate");
    let certificate = base64::engine::general_purpose::STANDARD.decode(certificate).expect("base64");
    let path = namespace.host.data_dir().join("user.crt");
    std::fs::write(&path, certificate).expect("the certificate");
    let (path, key) = (path.display(), key.display());
    let (certificate, key) = (format!("--client-certificate={path}"), format!("--client-key={key}"));
    let user = "jsonpath={.status.userInfo.username}";
    let who = namespace.kubectl(&[&certificate, &key, "auth", "whoami", "-o", user]);
    assert_eq!(who, "jane");
}

/// What kubectl prints of kube-apiserver v1.37.0.
const EXPLAINED: &str = r#"KIND:       Pod
VERSION:    v1

FIELD: restartPolicy <string>
ENUM:
    Always
    Never
    OnFailure

DESCRIPTION:
    Restart policy for all containers within the pod. One of Always, OnFailure,
    Never. In some contexts, only a subset of those values may be permitted.
    Default to Always. More info:
    https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
    
    Possible enum values:
     - `"Always"`
     - `"Never"`
     - `"OnFailure"`
    

"#;

#[test]
fn documents_describe_the_api() {
    let namespace = Namespace::new();
    let document: Value =
        serde_json::from_str(&namespace.kubectl(&["get", "--raw", "/openapi/v2"])).expect("JSON");
    assert_eq!(document["swagger"], "2.0");
    let definitions = document["definitions"].as_object().expect("definitions").values();
    let described: Vec<&Value> =
        definitions.flat_map(|known| known["x-kubernetes-group-version-kind"].as_array()).flatten().collect();
    for line in namespace.kubectl(&["api-resources", "--no-headers"]).lines() {
        let words: Vec<&str> = line.split_whitespace().rev().collect();
        let [kind, _, api_version, ..] = words[..] else { panic!("{line}") };
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let kind = json!({"group": group, "version": version, "kind": kind});
        assert!(described.contains(&&kind), "{kind} is not described");
    }
    assert_eq!(namespace.kubectl(&["explain", "pod.spec.restartPolicy"]), EXPLAINED);
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(namespace.kubectl(&["get", "--raw", path]), "ok");
    }
    assert!(namespace.kubectl(&["get", "--raw", "/metrics"]).contains("# TYPE"));
    let explained = namespace.kubectl(&["explain", "deployment.spec.strategy", "--recursive"]);
    for text in [
        "GROUP:      apps",
        "FIELD: strategy <DeploymentStrategy>",
        "rollingUpdate\t<RollingUpdateDeployment>",
    ] {
        assert!(explained.contains(text), "{text} in\n{explained}");
    }
    let resources = namespace.kubectl(&["api-resources", "-o", "wide", "--api-group=apps"]);
    assert!(
        resources.contains("deploy")
            && resources.contains("create,delete,deletecollection,get,list,patch,update,watch"),
        "{resources}"
    );
    assert!(namespace.kubectl(&["api-versions"]).contains("rbac.authorization.k8s.io/v1\n"));
    assert!(namespace.kubectl(&["version"]).contains("Server Version: v1.37.0"));
    assert!(namespace.kubectl(&["cluster-info"]).contains("Kubernetes control plane"));
    let top = namespace.try_kubectl(&["top", "nodes"]).expect_err("there is no metrics server");
    assert_eq!(top, "error: Metrics API not available\n");
}

#[test]
fn every_output_format_shows_the_main_kinds() {
    let namespace = Namespace::new();
    namespace.apply(&DEPLOYMENT.replace("replicas: 0", "replicas: 1").replace("web:v1", AGNHOST));
    namespace.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    namespace.kubectl(&["create", "service", "clusterip", "web", "--tcp=80:8080"]);
    let job = format!(
        "{{apiVersion: batch/v1, kind: Job, metadata: {{name: once}}, spec: {{suspend: true, template: {{spec: {{restartPolicy: Never, containers: [{{name: c, image: '{BUSYBOX}'}}]}}}}}}}}"
    );
    namespace.apply(&job);
    let header = |kind: &str| {
        let shown = namespace.kubectl(&["get", kind, "-o", "wide"]);
        shown.lines().next().expect("a header").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (kind, columns) in [
        ("pods", "NAME READY STATUS RESTARTS AGE IP NODE NOMINATED NODE READINESS GATES"),
        ("deployments", "NAME READY UP-TO-DATE AVAILABLE AGE CONTAINERS IMAGES SELECTOR"),
        ("replicasets", "NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR"),
        ("services", "NAME TYPE CLUSTER-IP EXTERNAL-IP PORT(S) AGE SELECTOR"),
        (
            "nodes",
            "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME",
        ),
        ("jobs", "NAME STATUS COMPLETIONS DURATION AGE CONTAINERS IMAGES SELECTOR"),
        ("serviceaccounts", "NAME AGE"),
        ("configmaps", "NAME DATA AGE"),
        ("namespaces", "NAME STATUS AGE"),
        ("events", "LAST SEEN TYPE REASON OBJECT SUBOBJECT SOURCE MESSAGE FIRST SEEN COUNT NAME"),
    ] {
        assert_eq!(header(kind), columns, "{kind}");
    }
    let list: Value = serde_json::from_str(&namespace.kubectl(&["get", "pods", "-o", "json"])).expect("JSON");
    assert_eq!((&list["kind"], &list["items"][0]["kind"]), (&"List".into(), &"Pod".into()));
    let yaml = namespace.kubectl(&["get", "deployment", "web", "-o", "yaml"]);
    assert!(yaml.starts_with("apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  annotations:\n"), "{yaml}");
    let custom = "custom-columns=NAME:.metadata.name,IMAGE:.spec.template.spec.containers[*].image";
    let columns = namespace.kubectl(&["get", "deployment", "web", "-o", custom]);
    assert_eq!(columns.split_whitespace().collect::<Vec<_>>(), ["NAME", "IMAGE", "web", AGNHOST]);
    let sorted = namespace.kubectl(&[
        "get",
        "deployments,services",
        "--no-headers",
        "--sort-by=.metadata.name",
        "-o",
        "name",
    ]);
    assert_eq!(sorted, "deployment.apps/web\nservice/web\n");
    for kind in ["deployment", "replicaset", "service", "job", "pod"] {
        let described = namespace.kubectl(&["describe", kind]);
        assert!(described.starts_with("Name:") && described.contains(namespace.name()), "{described}");
    }
    assert_eq!(namespace.kubectl(&["get", "pods", "--watch-only", "--request-timeout=1s"]), "");
}

//! Where images come from: registries, with mirrors, logins and TLS, and archives on the node.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;

use edgek_tests::{Host, Namespace, Registry};

const BUSYBOX: &str = "e2e-test-images/busybox:1.37.0-2";

/// A host without images, and the folder of its archives.
fn bare() -> (Host, std::path::PathBuf) {
    let host = Host::new();
    let archives = host.data_dir().join("agent/images");
    fs::remove_dir_all(&archives).expect("the folder of archives");
    fs::create_dir(&archives).expect("an empty one");
    (host, archives)
}

fn start(mut host: Host, registries: &str) -> Namespace {
    let file = host.data_dir().join("registries.yaml");
    fs::write(&file, registries).expect("registries.yaml");
    host.start_with(&[&format!("--private-registry={}", file.display())]);
    Namespace::on(Arc::new(host))
}

fn pod(namespace: &Namespace, name: &str, image: &str, more: &str) {
    namespace.pod(
        name,
        &format!("{{restartPolicy: Never, {more} containers: [{{name: c, image: '{image}', command: [echo, from, image]}}]}}"),
    );
}

fn runs(namespace: &Namespace, name: &str, image: &str, more: &str) {
    pod(namespace, name, image, more);
    namespace.wait(&format!("pod/{name}"), "jsonpath={.status.phase}=Succeeded");
    assert_eq!(namespace.kubectl(&["logs", name]), "from image\n");
}

/// Waits until the container waits for this reason, and gives its message.
fn waits(namespace: &Namespace, name: &str, reason: &str) -> String {
    let state = format!("jsonpath={{.status.containerStatuses[0].state.waiting.reason}}={reason}");
    namespace.wait(&format!("pod/{name}"), &state);
    namespace.field(&format!("pod/{name}"), ".status.containerStatuses[0].state.waiting.message")
}

fn pulled(namespace: &Namespace, name: &str) -> bool {
    namespace.kubectl(&["events", &format!("--for=pod/{name}")]).contains("Successfully pulled image")
}

#[test]
fn a_mirror_serves_a_registry_and_the_policy_says_when_it_is_asked() {
    let (host, _) = bare();
    let registry = Registry::open(&host, "127.0.0.1:5000");
    let namespace = start(host, "mirrors: {registry.k8s.io: {endpoint: ['http://127.0.0.1:5000']}}\n");
    let image = format!("registry.k8s.io/{BUSYBOX}");
    let with_policy = |name: &str, policy: &str, phase: &str| {
        namespace.pod(name, &format!("{{restartPolicy: Never, containers: [{{name: c, image: '{image}', imagePullPolicy: {policy}, command: ['true']}}]}}"));
        if !phase.is_empty() {
            namespace.wait(&format!("pod/{name}"), &format!("jsonpath={{.status.phase}}={phase}"));
        }
    };
    with_policy("never", "Never", "");
    let message = waits(&namespace, "never", "ErrImageNeverPull");
    assert_eq!(message, format!("Container image {image:?} is not present with pull policy of Never"));
    with_policy("first", "IfNotPresent", "Succeeded");
    assert!(pulled(&namespace, "first"));
    let id = namespace.field("pod/first", ".status.containerStatuses[0].imageID");
    assert!(id.starts_with("registry.k8s.io/e2e-test-images/busybox@sha256:"), "{id}");
    with_policy("second", "IfNotPresent", "Succeeded");
    assert!(!pulled(&namespace, "second"));
    with_policy("always", "Always", "Succeeded");
    assert!(pulled(&namespace, "always"));
    runs(&namespace, "by-digest", &id, "");
    with_policy("still-never", "Never", "Succeeded");

    // What is on the node runs without registry and network, unless the registry must be asked.
    drop(registry);
    let cut = namespace.host.command("ip").args(["route", "delete", "default"]).status();
    assert!(cut.expect("ip").success());
    with_policy("alone", "IfNotPresent", "Succeeded");
    with_policy("asking", "Always", "");
    let message = waits(&namespace, "asking", "ErrImagePull");
    assert!(message.contains("connection refused"), "{message}");
    waits(&namespace, "asking", "ImagePullBackOff");
}

#[test]
fn registries_get_the_login_and_the_trust_they_need() {
    let (host, _) = bare();
    let _known = Registry::with_login(&host, "127.0.0.1:5001");
    let _unknown = Registry::with_login(&host, "127.0.0.1:5003");
    let (_encrypted, certificate) = Registry::with_tls(&host, "192.0.2.10:5002");
    let (_untrusted, _) = Registry::with_tls(&host, "192.0.2.10:5004");
    let namespace = start(
        host,
        &format!(
            "configs:\n  '127.0.0.1:5001': {{auth: {{username: user, password: secret}}}}\n  \
             '192.0.2.10:5002': {{tls: {{ca_file: {ca}}}}}\n  '192.0.2.10:5004': {{tls: {{ca_file: {ca}}}}}\n",
            ca = certificate.display()
        ),
    );
    runs(&namespace, "known", &format!("127.0.0.1:5001/{BUSYBOX}"), "");
    runs(&namespace, "trusted", &format!("192.0.2.10:5002/{BUSYBOX}"), "");
    pod(&namespace, "untrusted", &format!("192.0.2.10:5004/{BUSYBOX}"), "");
    let message = waits(&namespace, "untrusted", "ErrImagePull");
    assert!(message.contains("certificate signed by unknown authority"), "{message}");

    let image = format!("127.0.0.1:5003/{BUSYBOX}");
    pod(&namespace, "nobody", &image, "");
    let message = waits(&namespace, "nobody", "ErrImagePull");
    assert!(message.contains("no basic auth credentials"), "{message}");
    for (name, password) in [("right", "secret"), ("wrong", "guess")] {
        let password = format!("--docker-password={password}");
        namespace.kubectl(&[
            "create",
            "secret",
            "docker-registry",
            name,
            "--docker-server=127.0.0.1:5003",
            "--docker-username=user",
            &password,
        ]);
    }
    pod(&namespace, "guesser", &image, "imagePullSecrets: [{name: wrong}],");
    let message = waits(&namespace, "guesser", "ErrImagePull");
    assert!(message.contains("401 Unauthorized"), "{message}");
    runs(&namespace, "member", &image, "imagePullSecrets: [{name: wrong}, {name: right}],");
    // A service account's pods have its secrets.
    namespace.kubectl(&["create", "serviceaccount", "puller"]);
    namespace.kubectl(&[
        "patch",
        "serviceaccount",
        "puller",
        "-p",
        r#"{"imagePullSecrets": [{"name": "right"}]}"#,
    ]);
    namespace.pod("by-account", &format!("{{restartPolicy: Never, serviceAccountName: puller, containers: [{{name: c, image: '{image}', imagePullPolicy: Always, command: ['true']}}]}}"));
    namespace.wait("pod/by-account", "jsonpath={.status.phase}=Succeeded");

    pod(&namespace, "nameless", "127.0.0.1:5001/UPPER", "");
    assert!(waits(&namespace, "nameless", "InvalidImageName").contains("127.0.0.1:5001/UPPER"));
    pod(&namespace, "absent", "127.0.0.1:5001/none:v1", "");
    let message = waits(&namespace, "absent", "ErrImagePull");
    assert!(message.contains("not found"), "{message}");
}

/// Writes an archive of the test images as `program` compresses it.
fn compress(program: &str, name: &str, target: &std::path::Path) {
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../build/images").join(name);
    let file = fs::File::create(target).expect("the compressed archive");
    let done = Command::new(program).args(["-c", "-1"]).arg(source).stdout(Stdio::from(file)).status();
    assert!(done.expect("the compressor").success(), "{program}");
}

#[test]
fn archives_on_the_node_are_images_also_compressed() {
    let (host, archives) = bare();
    compress("gzip", "busybox.tar", &archives.join("busybox.tar.gz"));
    compress("zstd", "agnhost.tar", &archives.join("agnhost.tar.zst"));
    fs::write(archives.join("broken.tar"), "this is no archive").expect("a broken archive");
    let namespace = start(host, "");
    runs(&namespace, "busybox", &format!("registry.k8s.io/{BUSYBOX}"), "");
    runs(&namespace, "other-name", "busybox:stable", "");
    runs(&namespace, "agnhost", edgek_tests::AGNHOST, "");
    namespace.host.eventually("the node shows its images", || {
        namespace.field("node/node", ".status.images[*].names").contains("docker.io/library/busybox:stable")
    });
}

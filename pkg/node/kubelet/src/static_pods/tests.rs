//! Tests of `static_pods`.

use super::*;

const MANIFEST: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  containers:
  - {name: c, image: registry.example.com:5000/web}
  - {name: d, image: 'web:1'}
";

#[test]
fn a_manifest_becomes_a_pod_of_this_node() {
    let pod = parse(MANIFEST.as_bytes(), Path::new("/m/web.yaml"), "Edge-1").unwrap();
    assert_eq!(pod.metadata.name.as_deref(), Some("web-edge-1"));
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
    assert!(is_static(&pod) && !is_mirror(&pod));
    let uid = pod.metadata.uid.clone().unwrap();
    assert_eq!(uid.len(), 32);
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    let policies: Vec<_> = spec.containers.iter().map(|c| c.image_pull_policy.clone().unwrap()).collect();
    assert_eq!(policies, ["Always", "IfNotPresent"]);
    let other = parse(format!("{MANIFEST}\n").as_bytes(), Path::new("/m/web.yaml"), "Edge-1").unwrap();
    assert_ne!(other.metadata.uid, pod.metadata.uid);

    let mirror = mirror::mirror(&pod, "node-uid");
    assert!(is_mirror(&mirror));
    assert_eq!(mirror.metadata.uid, None);
    assert_eq!(annotation(&mirror, MIRROR), Some(uid.as_str()));
    assert_eq!(mirror.metadata.owner_references.unwrap()[0].uid, "node-uid");
}

#[test]
fn what_is_no_pod_is_refused() {
    let check = |text: &str, expected: &str| {
        let error = parse(text.as_bytes(), Path::new("/m/x"), "n").unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    };
    check("kind: Pod\napiVersion: v1\nmetadata: {}\n", "invalid pod: metadata.name: Required value");
    check("[1]", "invalid pod: ");
    let secret = "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {volumes: [{name: v, secret: {secretName: s}}]}\n";
    check(secret, "static pods may not use secrets");
}

#[tokio::test]
async fn a_folder_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("web.yaml");
    std::fs::write(&file, MANIFEST).unwrap();
    std::fs::write(folder.path().join(".hidden"), MANIFEST).unwrap();
    let (sender, mut changes) = mpsc::channel(4);
    let following = follow(folder.path().to_owned(), "n".to_owned(), sender);
    let test = async move {
        let Some(Change::Run(first)) = changes.recv().await else { panic!("no pod") };
        std::fs::write(folder.path().join(".new"), format!("{MANIFEST}\n")).unwrap();
        std::fs::rename(folder.path().join(".new"), &file).unwrap();
        assert_eq!(changes.recv().await, Some(Change::End(first.metadata.uid.clone().unwrap())));
        let Some(Change::Run(second)) = changes.recv().await else { panic!("no pod") };
        assert_ne!(first.metadata.uid, second.metadata.uid);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(changes.recv().await, Some(Change::End(second.metadata.uid.clone().unwrap())));
    };
    tokio::select! {
        () = test => {}
        ended = following => panic!("{ended:?}"),
    }
}
